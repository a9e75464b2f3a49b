/**
 * What has become of each flow, in words: one line for an event, and one for each flow as it stands now. No terminal,
 * no clock: `now` in ms is the caller's.
 */
import { printable } from '../observe/printable.ts';
import type { FlowEvent, KeepAliveEvent } from '../ua/agent.ts';
import type { FlowCause } from '../ua/flow.ts';

interface Standing {
  text: string;
  /** of the next attempt */
  retryAt: number | undefined;
  sentAt: number | undefined;
  answered: { at: number; took: number } | undefined;
}

const causeText = (cause: FlowCause): string =>
  typeof cause === 'object' ? `answered ${cause.status}` : cause;

export const duration = (ms: number): string =>
  ms < 10_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 1000)} s`;

export class Status {
  readonly #uris: readonly string[];
  readonly #flows = new Map<string, Standing>();

  constructor(uris: readonly string[]) {
    this.#uris = uris;
    for (const uri of uris)
      this.#flows.set(uri, {
        text: 'connecting',
        retryAt: undefined,
        sentAt: undefined,
        answered: undefined,
      });
  }

  /** Takes it up; the line that tells it. */
  flow(event: FlowEvent, now: number): string {
    const standing = this.#of(event.uri);
    const name = `${event.uri} (reg-id ${event.regId})`;
    if (event.state === 'registered') {
      standing.text = event.outbound ? 'registered, outbound' : 'registered, without outbound';
      standing.retryAt = undefined;
      return `${name}: ${standing.text}`;
    }
    const reason = event.state === 'deferred' ? `answered ${event.status}` : causeText(event.cause);
    standing.text =
      event.state === 'deferred' ? `registered, refresh ${reason}` : `${event.state}: ${reason}`;
    standing.retryAt = now + event.retryIn;
    standing.sentAt = standing.answered = undefined;
    return `${name}: ${event.state}: ${reason}, next attempt in ${duration(event.retryIn)}`;
  }

  /** The line that tells it, if it is worth one: an answer. */
  keepAlive({ uri, regId, state }: KeepAliveEvent, now: number): string | undefined {
    const standing = this.#of(uri);
    if (state === 'sent') {
      standing.sentAt = now;
      return undefined;
    }
    const took = now - (standing.sentAt ?? now);
    standing.answered = { at: now, took };
    standing.sentAt = undefined;
    return `${uri} (reg-id ${regId}): keep-alive answered in ${took.toFixed(1)} ms`;
  }

  /** One for each flow, in the order of the set. */
  lines(now: number): string[] {
    const width = Math.max(...this.#uris.map((uri) => uri.length));
    return this.#uris.map((uri) => {
      const { text, retryAt, sentAt, answered } = this.#of(uri);
      const parts = [text];
      if (retryAt !== undefined) parts.push(`next attempt in ${duration(Math.max(0, retryAt - now))}`);
      if (sentAt !== undefined) parts.push(`keep-alive sent ${duration(now - sentAt)} ago`);
      else if (answered)
        parts.push(`keep-alive ${duration(now - answered.at)} ago, ${answered.took.toFixed(1)} ms`);
      return printable(`${uri.padEnd(width)}  ${parts.join('; ')}`);
    });
  }

  #of(uri: string): Standing {
    return this.#flows.get(uri) as Standing;
  }
}
