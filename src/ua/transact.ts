/**
 * One request and its final response, challenges answered on the way (RFC 3261 22): each try has the same Call-ID,
 * From tag and To, and the next CSeq. Resolves with any final response; rejects with a coded error when there is none.
 *
 * An INVITE is cancelled by its signal (9.1: not before a provisional response), and `success` is called for each 2xx,
 * also for those of other branches and for retransmissions, as long as its transaction absorbs them (RFC 6026).
 */
import type { Session } from '../auth/client.ts';
import type { Authentication } from './authentication.ts';
import { UserAgentError } from './errors.ts';
import { type Carrier, type ClientExchange, type Draft, type Exchanges, isInvite } from './exchange.ts';
import type { Incoming } from './incoming.ts';

export interface Transaction {
  exchanges: Exchanges;
  carrier: Carrier & { readonly authentication: Authentication };
  /** of the next try, with a CSeq of its own */
  draft: () => Draft;
  signal?: AbortSignal | undefined;
  keep?: boolean;
  provisional?: ((response: Incoming) => void) | undefined;
  success?: ((response: Incoming) => void) | undefined;
}

const MOST_TRIES = 6;

export function transact({
  exchanges,
  carrier,
  draft,
  signal,
  keep = false,
  provisional,
  success,
}: Transaction): Promise<Incoming> {
  const tried: Session[] = [];
  return new Promise((resolve, reject) => {
    let exchange: ClientExchange | undefined;
    let proceeding = false;
    let tries = 0;
    let done = false;

    const finish = (settle: () => void) => {
      if (done) return;
      done = true;
      signal?.removeEventListener('abort', aborted);
      settle();
    };
    const fail = (code: 'timeout' | 'transport' | 'busy' | 'no-flow' | 'aborted', text: string) =>
      finish(() => reject(new UserAgentError(code, text)));

    const aborted = () => {
      if (exchange && isInvite(exchange.draft.method)) {
        if (proceeding) exchanges.cancel(exchange);
        return; // the 487, or a 2xx that crossed it, ends it
      }
      if (exchange) exchanges.forget(exchange);
      fail('aborted', 'aborted by its signal');
    };

    const attempt = () => {
      const next = draft();
      proceeding = false;
      tries++;
      const headers = [...next.headers, ...carrier.authentication.headers(next.method, next.uri, next.body)];
      exchange = exchanges.send({ ...next, headers }, carrier, { response: answered, failed }, keep);
      if (!exchange) {
        if (carrier.connection) fail('busy', 'too many transactions');
        else fail('no-flow', 'the flow is gone');
      }
    };

    const failed = (why: 'timeout' | 'transport') => {
      if (why === 'timeout') fail('timeout', 'no final response in time');
      else fail('transport', 'the flow broke before there was a final response');
    };

    const answered = (response: Incoming) => {
      const { status } = response;
      if (status < 200) {
        if (!proceeding && signal?.aborted && exchange) exchanges.cancel(exchange);
        proceeding = true;
        if (!done) provisional?.(response);
        return;
      }
      if (status < 300) success?.(response);
      if (done) return;
      const asked = status === 401 || status === 407;
      if (
        asked &&
        !signal?.aborted &&
        tries < MOST_TRIES &&
        carrier.authentication.challenged(response, tried)
      )
        attempt();
      else if (signal?.aborted && status >= 300) fail('aborted', 'aborted by its signal');
      else finish(() => resolve(response));
    };

    if (signal?.aborted) {
      fail('aborted', 'aborted by its signal');
      return;
    }
    signal?.addEventListener('abort', aborted);
    attempt();
  });
}
