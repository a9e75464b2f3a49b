import { hash } from 'node:crypto';
import type { EventType } from '../config/config.ts';
import { type Binding, indexOfBinding } from './binding.ts';
import { Deadlines } from './deadlines.ts';

/**
 * Events of the registrar: what happened to a binding, for who wants to know it outside of SIP.
 *
 * They are read off the two states of an address-of-record around one change, where the change is made: by the
 * location service in its thread, or from the answer of the script that Redis ran. So there is one event for each
 * version of a binding that begins (`register`, `refresh`) and one for each that ends without a successor
 * (`unregister`, `expire`, `flow-lost`), in the order in which the store made the changes: applied one after the
 * other to nothing they give the bindings of the store. How far they travel from there, and what is lost on the
 * way, docs/operating.md says.
 *
 * A store that nobody watches has no Journal and pays one comparison with undefined a change.
 */
interface Told {
  /** the same for the same change, however often it is told */
  id: string;
  /** unix milliseconds on the store's clock */
  at: number;
  aor: string;
  /** Contact URI; with `instance` and `regId` not 0 it is not what names the binding (RFC 5626 6) */
  contact: string;
  /** URN of +sip.instance */
  instance?: string;
  /** 0: not an outbound binding */
  regId: number;
  /** seconds granted; 0 when the binding has ended */
  expires: number;
  /** version of the binding: of two events about one the higher is the later, and at the same the end is */
  order: number;
  userAgent?: string;
  /** HOLDFAST_NODE of the registrar that made the change */
  node: number;
}

export type BindingEvent =
  | (Told & { type: 'register' })
  /**
   * `flowChanged`: it comes over another flow or path than the version before, as when an outbound client has
   * opened a new connection for its reg-id. `was`: the Contact URI of the version before, if that was another.
   */
  | (Told & { type: 'refresh'; flowChanged: boolean; was?: string })
  /** The client, or a client of that address-of-record, asked for it. */
  | (Told & { type: 'unregister' })
  | (Told & { type: 'expire' })
  /**
   * The flow that the binding was reached by has ended. `cause`, where it is known: a word of shared/cause.ts;
   * `flow-failed`: a request met a 430 or a flow that was gone; `restart`: the sockets of an earlier life.
   */
  | (Told & { type: 'flow-lost'; cause?: string });

/** Why bindings are gone after a change, if their time was not over. */
export type End = { type: 'unregister' } | { type: 'flow-lost'; cause?: string };

export const UNREGISTERED: End = { type: 'unregister' };
export const FLOW_FAILED: End = { type: 'flow-lost', cause: 'flow-failed' };
export const RESTARTED: End = { type: 'flow-lost', cause: 'restart' };

/**
 * The events of one change: first what has ended, then what has begun. `before` may hold bindings whose time is
 * over: those that are not in `after` have expired, whatever the change was for.
 */
export function changes(
  node: number,
  aor: string,
  before: readonly Binding[],
  after: readonly Binding[],
  at: number,
  end: End,
): BindingEvent[] {
  const events: BindingEvent[] = [];
  const gone = before.filter((old) => !after.some((binding) => isVersion(old, binding)));
  const ended = gone.filter(({ expiresAt }) => expiresAt > at);
  const begun: BindingEvent[] = [];
  for (const binding of after) {
    if (before.some((old) => isVersion(old, binding))) continue;
    const expires = Math.ceil((binding.expiresAt - at) / 1000);
    const place = indexOfBinding(ended, binding);
    if (place < 0) begun.push({ type: 'register', ...told(node, aor, binding, at, expires, 'register') });
    else {
      const [old] = ended.splice(place, 1);
      begun.push(refresh(old, binding, told(node, aor, binding, at, expires, 'refresh')));
    }
  }
  for (const old of gone)
    if (old.expiresAt <= at) events.push({ type: 'expire', ...told(node, aor, old, at, 0, 'expire') });
  for (const old of ended) events.push({ ...end, ...told(node, aor, old, at, 0, end.type) });
  events.push(...begun);
  return events;
}

const isVersion = (a: Binding, b: Binding): boolean => a.key === b.key && a.order === b.order;

function refresh(old: Binding, binding: Binding, rest: Told): BindingEvent {
  const samePath =
    old.path.length === binding.path.length && old.path.every((hop, i) => hop === binding.path[i]);
  const flowChanged = old.flow !== binding.flow || !samePath;
  const event: BindingEvent = { type: 'refresh', ...rest, flowChanged };
  return old.contact === binding.contact ? event : { ...event, was: old.contact };
}

function told(node: number, aor: string, b: Binding, at: number, expires: number, type: EventType): Told {
  const { key, contact, regId, order, callId, cseq } = b;
  const id = hash('sha1', [aor, key, order, callId, cseq, type].join('\n'), 'base64url');
  return {
    id,
    at,
    aor,
    contact,
    regId,
    expires,
    order,
    node,
    ...(b.instance !== undefined && { instance: b.instance }),
    ...(b.userAgent !== undefined && { userAgent: b.userAgent }),
  };
}

/** When the first of the bindings ends. */
export function earliest(bindings: readonly Binding[]): number | undefined {
  if (bindings.length === 0) return undefined;
  return bindings.reduce((least, { expiresAt }) => Math.min(least, expiresAt), Number.POSITIVE_INFINITY);
}

/** What the location service of one thread writes down for those who watch; it is taken after each commit. */
export class Journal {
  readonly #node: number;
  readonly #now: () => number;
  /** so that a binding's end is told in time: the sweep goes round slowly */
  readonly deadlines = new Deadlines();
  #events: BindingEvent[] = [];

  /** `now`: unix milliseconds, for changes that bring no time along. */
  constructor(node: number, now: () => number) {
    this.#node = node;
    this.#now = now;
  }

  note(aor: string, before: readonly Binding[], after: readonly Binding[], end: End, at = this.#now()): void {
    this.#events.push(...changes(this.#node, aor, before, after, at, end));
  }

  /** How much has been written, for `forget`. */
  get length(): number {
    return this.#events.length;
  }

  /** What was written since has not happened. */
  forget(length: number): void {
    this.#events.length = length;
  }

  take(): BindingEvent[] {
    const events = this.#events;
    if (events.length > 0) this.#events = [];
    return events;
  }
}
