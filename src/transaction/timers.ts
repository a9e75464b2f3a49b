/**
 * The times of RFC 3261 section 17 (table 4), RFC 6026 and RFC 4320: how long a state lasts, and when a
 * transaction next sends of itself. Pure values; all in milliseconds. `Infinity` is a timer that does not
 * run, RUNS_ON one that was started in the state before and is left as it is.
 *
 * T1 and all that hangs on it can be set; smaller values are for closed networks only (17.1.1.1).
 */
import {
  ACCEPTED,
  CALLING,
  CLIENT,
  COMPLETED,
  CONFIRMED,
  INVITE_CLIENT,
  INVITE_SERVER,
  KINDS,
  PROCEEDING,
  SERVER,
  TRYING,
} from './machine.ts';

export const RUNS_ON = -1;

export interface TimerValues {
  /** estimate of the round-trip time */
  t1: number;
  /** longest interval of non-INVITE requests and of INVITE responses */
  t2: number;
  /** longest life of a message in the network */
  t4: number;
  /** Timer C, a proxy's patience with an INVITE that rings; more than three minutes (16.6 step 11) */
  c: number;
  /** how long an INVITE may stay without any response (17.2.1) */
  hundred: number;
}

export const RFC_TIMERS: TimerValues = { t1: 500, t2: 4000, t4: 5000, c: 181_000, hundred: 200 };

/** Timer D is an absolute minimum, whatever our T1 is: the other side's may be the usual one (17.1.1.2). */
const LEAST_D = 32_000;
/** 64 T1 ends every series of retransmissions, so that the factor never exceeds this power of two. */
const MOST_DOUBLINGS = 6;

export class Timers {
  readonly values: TimerValues;
  /** 64 T1: Timers B, F, H, J, L, M and the wait after CANCEL */
  readonly longest: number;
  /** when Timer E would reach T2, 3.5 s: a 100 to a non-INVITE not before and, if nothing else was sent, then (4320 4.1) */
  readonly slowHundred: number;
  readonly #lasts = new Float64Array(KINDS * 8 * 2).fill(Infinity);
  readonly #firstSend = new Float64Array(KINDS * 8 * 2).fill(Infinity);

  constructor(values: Partial<TimerValues> = {}) {
    this.values = { ...RFC_TIMERS, ...values };
    const { t1, t2, t4, hundred } = this.values;
    if (!(t1 > 0 && t2 >= t1 && t4 > 0)) throw new RangeError(`T1 ${t1}, T2 ${t2}, T4 ${t4} ms`);
    this.longest = 64 * t1;
    this.slowHundred = 0;
    for (let interval = t1; interval < t2; interval *= 2) this.slowHundred += interval;

    this.#state(INVITE_CLIENT, CALLING, this.longest, t1, Infinity); // B; A
    this.#state(INVITE_CLIENT, COMPLETED, Math.max(LEAST_D, this.longest), Infinity, Infinity); // D
    this.#state(INVITE_CLIENT, ACCEPTED, this.longest, Infinity, Infinity); // M
    this.#state(CLIENT, TRYING, this.longest, t1, Infinity); // F; E
    this.#state(CLIENT, PROCEEDING, RUNS_ON, RUNS_ON, RUNS_ON); // F and E go on
    this.#state(CLIENT, COMPLETED, t4, Infinity, Infinity); // K
    this.#state(INVITE_SERVER, PROCEEDING, Infinity, hundred, hundred);
    this.#state(INVITE_SERVER, COMPLETED, this.longest, t1, Infinity); // H; G
    this.#state(INVITE_SERVER, ACCEPTED, this.longest, Infinity, Infinity); // L
    this.#state(INVITE_SERVER, CONFIRMED, t4, Infinity, Infinity); // I
    // Timer F of the client began no later than this
    this.#state(SERVER, TRYING, this.longest, this.slowHundred, this.slowHundred);
    this.#state(SERVER, PROCEEDING, RUNS_ON, Infinity, Infinity);
    this.#state(SERVER, COMPLETED, this.longest, Infinity, Infinity); // J
  }

  #state(kind: number, state: number, lasts: number, send: number, sendReliable: number): void {
    const at = row(kind, state);
    this.#lasts[at] = lasts;
    this.#firstSend[at] = send;
    this.#firstSend[at | 1] = sendReliable;
  }

  /** From the entry of the state to its end. Which event that is: `endEvent`. */
  lasts(kind: number, state: number): number {
    return this.#lasts[row(kind, state)];
  }

  /** From the entry of the state to the first retransmission, or to the 100 of a server that has not answered. */
  firstSend(kind: number, state: number, reliable: number): number {
    return this.#firstSend[row(kind, state) | reliable];
  }

  /** From retransmission number `sent` (1, 2, ...) to the next one: Timer A doubles, E and G double up to T2. */
  nextSend(kind: number, state: number, sent: number): number {
    const { t1, t2 } = this.values;
    if (kind === CLIENT && state === PROCEEDING) return t2;
    const doubled = t1 * (1 << Math.min(sent, MOST_DOUBLINGS));
    return kind === INVITE_CLIENT || doubled < t2 ? doubled : t2;
  }

  /** When Timer C ends if an INVITE was sent, or its response of 101 to 199 came, now (16.6 step 11, 16.7 step 2). */
  endOfC(nowMs: number): number {
    return nowMs + this.values.c;
  }
}

/** A 100 says only that the next hop has the INVITE; any other provisional response starts Timer C anew. */
export function restartsC(status: number): boolean {
  return status > 100 && status < 200;
}

function row(kind: number, state: number): number {
  return ((kind << 3) | state) << 1;
}
