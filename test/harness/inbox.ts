/**
 * What an agent has received and not yet looked at, in order of arrival. `next` takes the first
 * arrival that fits, `only` demands that the very next arrival fits: that is how a test shows that
 * nothing else came before, without a sleep.
 *
 * Retransmissions over UDP (the same octets from the same source) are counted and not delivered, so
 * that a slow machine does not change what a test sees.
 */
import { parseMessage, type SipMessage } from './sip.ts';
import { parseStun, type StunMessage } from './stun.ts';

export const PATIENCE_MS = 8_000;

export interface Arrival {
  kind: 'sip' | 'stun' | 'crlf' | 'other';
  bytes: Buffer;
  /** the parsed message where kind is sip; an empty one otherwise, so that tests need no checks */
  message: SipMessage;
  stun: StunMessage | undefined;
  from: { host: string; port: number };
  /** over WebSocket: 1 for a text message, 2 for a binary one */
  opcode?: number;
  /** sends back the way it came: to the source address, or on the same connection */
  answer(bytes: Buffer): void;
}

export type Matcher = (arrival: Arrival) => boolean;

/** A request of that method, or any request. */
export const isRequest =
  (method?: string, callId?: string): Matcher =>
  (a) =>
    a.kind === 'sip' &&
    a.message.isRequest &&
    (method === undefined || a.message.method === method) &&
    (callId === undefined || a.message.callId === callId);

/** A response with that status (or any), to the given Call-ID (or any). */
export const isResponse =
  (status?: number, callId?: string): Matcher =>
  (a) =>
    a.kind === 'sip' &&
    !a.message.isRequest &&
    (status === undefined || a.message.status === status) &&
    (callId === undefined || a.message.callId === callId);

export const isFinal =
  (callId?: string): Matcher =>
  (a) =>
    isResponse(undefined, callId)(a) && a.message.status >= 200;

export const isTrying: Matcher = isResponse(100);
export const isStun: Matcher = (a) => a.kind === 'stun';
export const isCrlf: Matcher = (a) => a.kind === 'crlf';

const NO_MESSAGE = parseMessage(Buffer.from('NONE none SIP/2.0\r\n\r\n')) as SipMessage;

/** Sorts octets as a UDP receiver or a stream framer handed them over. */
export function arrivalOf(bytes: Buffer, from: Arrival['from'], answer: Arrival['answer']): Arrival {
  const stun = parseStun(bytes);
  const message = stun ? undefined : parseMessage(bytes);
  const crlf = bytes.length === 2 && bytes[0] === 13 && bytes[1] === 10;
  const kind = stun ? 'stun' : message ? 'sip' : crlf ? 'crlf' : 'other';
  return { kind, bytes, stun, message: message ?? NO_MESSAGE, from, answer };
}

interface Waiter {
  matcher: Matcher;
  only: boolean;
  resolve: (arrival: Arrival) => void;
  reject: (reason: Error) => void;
  timer: NodeJS.Timeout;
}

export class Inbox {
  readonly name: string;
  /** arrived and not yet taken */
  readonly arrivals: Arrival[] = [];
  /** how many UDP retransmissions came (and were left out, unless keepRetransmissions is set) */
  retransmissions = 0;
  keepRetransmissions = false;
  private waiters: Waiter[] = [];
  private readonly seen = new Set<string>();

  constructor(name: string) {
    this.name = name;
  }

  deliver(arrival: Arrival, once = false): void {
    if (once && arrival.kind === 'sip') {
      const key = `${arrival.from.host}:${arrival.from.port} ${arrival.bytes.toString('latin1')}`;
      if (this.seen.has(key)) {
        this.retransmissions++;
        if (!this.keepRetransmissions) return;
      }
      this.seen.add(key);
    }
    for (const waiter of this.waiters) {
      const fits = waiter.matcher(arrival);
      if (!fits && (!waiter.only || isTrying(arrival))) continue;
      this.waiters = this.waiters.filter((w) => w !== waiter);
      clearTimeout(waiter.timer);
      if (fits) waiter.resolve(arrival);
      else waiter.reject(new Error(`${this.name} received something else first:\n${show(arrival)}`));
      return;
    }
    this.arrivals.push(arrival);
  }

  /** The first arrival, old or new, that fits; others stay for later. */
  next(matcher: Matcher = () => true, timeoutMs = PATIENCE_MS): Promise<Arrival> {
    const at = this.arrivals.findIndex(matcher);
    if (at >= 0) return Promise.resolve(this.arrivals.splice(at, 1)[0]);
    return this.wait(matcher, false, timeoutMs);
  }

  /** The next arrival, which must fit: anything else first is an error. A 100 Trying is passed over. */
  only(matcher: Matcher = () => true, timeoutMs = PATIENCE_MS): Promise<Arrival> {
    while (this.arrivals.length > 0 && isTrying(this.arrivals[0]) && !matcher(this.arrivals[0]))
      this.arrivals.shift();
    const first = this.arrivals.shift();
    if (!first) return this.wait(matcher, true, timeoutMs);
    if (matcher(first)) return Promise.resolve(first);
    return Promise.reject(new Error(`${this.name} received something else first:\n${show(first)}`));
  }

  /** Forgets what has arrived so far. */
  clear(): void {
    this.arrivals.length = 0;
  }

  /** Fails everyone who still waits: the agent is gone. */
  protected abandon(why: string): void {
    const waiters = this.waiters;
    this.waiters = [];
    for (const waiter of waiters) {
      clearTimeout(waiter.timer);
      waiter.reject(new Error(`${this.name}: ${why}`));
    }
  }

  private wait(matcher: Matcher, only: boolean, timeoutMs: number): Promise<Arrival> {
    const asked = new Error(); // its stack names the line of the test
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiters = this.waiters.filter((w) => w.timer !== timer);
        const rest = this.arrivals.map(show).join('\n---\n') || '(nothing)';
        asked.message = `${this.name} did not receive it in ${timeoutMs} ms; it has:\n${rest}`;
        reject(asked);
      }, timeoutMs);
      this.waiters.push({ matcher, only, resolve, reject, timer });
    });
  }
}

const show = (a: Arrival) =>
  a.kind === 'sip' ? a.message.toString() : `${a.kind} ${a.bytes.subarray(0, 64).toString('hex')}`;
