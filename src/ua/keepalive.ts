/**
 * The keep-alives of one flow (RFC 5626 4.4): when the next one is due, whether its answer has come, and when the flow
 * has failed. CRLF on streams, STUN on datagrams; it says what to send and knows no socket, no clock and no octets.
 *
 * Each interval is drawn anew: from 80 to 100 percent of Flow-Timer (or of a `keep` value) if the last 2xx had one,
 * else from the defaults of the transport. `expect` is the explicit sign that the next hop answers: without it STUN is
 * not sent at all, and the pong to a ping is not waited for, since the ping itself is always allowed.
 */
import type { Endpoint } from '../net/endpoint.ts';
import { RoundTrip, StunTransaction } from './stun.ts';

const PONG_MS = 10_000;
/** The longest interval ends so much earlier: a timer may be late, a keep-alive may not (UA-4.4-06). */
const MARGIN_MS = 50;

/** Bounds of an interval in seconds. */
export interface Bounds {
  least: number;
  most: number;
}

export const MAINS: Readonly<Bounds> = { least: 95, most: 120 };
export const BATTERY: Readonly<Bounds> = { least: 672, most: 840 };
export const DATAGRAM: Readonly<Bounds> = { least: 24, most: 29 };

/** UA-4.4.1-09: an upper bound of one's own has its lower bound 20 percent below. */
export const boundsUpTo = (most: number): Bounds => ({ least: most * 0.8, most });

export type Failure = 'no-pong' | 'no-stun-answer' | 'stun-error' | 'mapped-address-changed';
/** What to do now. `stun`: a request with a new transaction id. `stun-again`: the same octets. */
export type Action = 'ping' | 'stun' | 'stun-again' | Failure;

export interface KeepAliveOptions {
  /** on datagrams */
  stun: boolean;
  random: () => number;
  /** intervals where no 2xx says otherwise */
  defaults: Bounds;
  trip?: RoundTrip;
}

export class KeepAlive {
  readonly #stun: boolean;
  readonly #random: () => number;
  readonly #defaults: Bounds;
  readonly #trip: RoundTrip;
  #bounds: Bounds;
  #running = false;
  #expect = false;
  #nextAt = Infinity;
  #pongBy = Infinity;
  /** the ten seconds ran out inside a message: decided behind it */
  #overdue = false;
  #transaction: StunTransaction | undefined;
  #mapped: Endpoint | undefined;

  constructor({ stun, random, defaults, trip = new RoundTrip() }: KeepAliveOptions) {
    this.#stun = stun;
    this.#random = random;
    this.#defaults = defaults;
    this.#bounds = defaults;
    this.#trip = trip;
  }

  /** Are answers waited for? */
  get expects(): boolean {
    return this.#running && this.#expect;
  }

  /**
   * After each 2xx that is about keep-alives, refreshes too: the latest decides (UA-4.4-08). `seconds`: Flow-Timer or
   * keep. The first interval starts now; one that runs is cut short, never drawn out.
   */
  agree(now: number, { expect, seconds }: { expect: boolean; seconds?: number | undefined }): void {
    this.#bounds = seconds ? boundsUpTo(seconds) : this.#defaults; // UA-4.4-07
    if (this.#stun && !expect) {
      this.stop(); // UA-4.4-01, ST-8-07
      return;
    }
    this.#expect = expect;
    if (!expect) {
      this.#pongBy = Infinity;
      this.#overdue = false;
    }
    const next = this.#draw(now);
    this.#nextAt = this.#running ? Math.min(this.#nextAt, next) : next;
    this.#running = true;
  }

  stop(): void {
    this.#running = false;
    this.#expect = false;
    this.#overdue = false;
    this.#nextAt = this.#pongBy = Infinity;
    this.#transaction = undefined;
  }

  nextDue(): number {
    if (this.#transaction) return this.#transaction.dueAt;
    return Math.min(this.#nextAt, this.#pongBy);
  }

  /** `inMessage`: a message is being received on the stream. Undefined: nothing to do yet. */
  advance(now: number, inMessage: boolean): Action | undefined {
    if (this.#transaction) {
      const step = this.#transaction.advance(now);
      if (step === 'failed') return this.#fail('no-stun-answer'); // UA-4.4.2-06
      return step && 'stun-again';
    }
    if (this.#pongBy <= now) {
      this.#pongBy = Infinity;
      this.#overdue = true;
    }
    if (this.#overdue && !inMessage) return this.#fail('no-pong'); // UA-4.4.1-06, -07
    if (this.#overdue || this.#nextAt > now) return undefined;
    this.#nextAt = this.#draw(now);
    if (this.#stun) {
      this.#transaction = new StunTransaction(this.#trip, now);
      return 'stun';
    }
    if (this.#expect && this.#pongBy === Infinity) this.#pongBy = now + PONG_MS;
    return 'ping';
  }

  /** A CRLF came. True: it answers a ping. */
  pong(): boolean {
    const answers = this.#overdue || this.#pongBy !== Infinity;
    this.#pongBy = Infinity;
    this.#overdue = false;
    return answers;
  }

  /** The answer to the STUN request that is out, as wire/binding.ts reads it. */
  answered(answer: Endpoint | 'error', now: number): Failure | undefined {
    const transaction = this.#transaction;
    if (!transaction) return undefined;
    if (answer === 'error') return this.#fail('stun-error');
    transaction.answered(now);
    this.#transaction = undefined;
    const changed = this.#mapped !== undefined && !this.#mapped.equals(answer);
    this.#mapped = answer;
    return changed ? this.#fail('mapped-address-changed') : undefined; // UA-4.4.2-07
  }

  #fail(failure: Failure): Failure {
    this.stop();
    return failure;
  }

  #draw(now: number): number {
    const least = this.#bounds.least * 1000;
    const most = Math.max(least, this.#bounds.most * 1000 - MARGIN_MS);
    return now + least + (most - least) * this.#random();
  }
}
