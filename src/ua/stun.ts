/**
 * A STUN Binding transaction over UDP as a machine (RFC 5389 7.2.1): when to send the request again, when to give up,
 * and what the round trips say about the next one. It holds no socket and reads no clock.
 *
 * Rc 7 requests, each wait twice the one before, and 16 RTO after the last: with 500 ms that is failure after 39.5 s.
 * The RTO is RFC 2988's estimate without its rounding, never under the initial value: a keep-alive gains nothing by
 * being repeated earlier. It is forgotten after ten minutes, and a repeated request gives no sample (Karn).
 */
const REQUESTS = 7; // Rc
const LAST_WAIT = 16; // Rm
const CACHED_MS = 600_000;
const MOST_RTO = 60_000;

export class RoundTrip {
  readonly #initial: number;
  #smoothed = 0;
  #variation = 0;
  #sampledAt = Number.NEGATIVE_INFINITY;

  constructor(initialMs = 500) {
    this.#initial = initialMs;
  }

  rto(now: number): number {
    if (now - this.#sampledAt > CACHED_MS) return this.#initial;
    return Math.min(MOST_RTO, Math.max(this.#initial, Math.round(this.#smoothed + 4 * this.#variation)));
  }

  sample(ms: number, now: number): void {
    if (now - this.#sampledAt > CACHED_MS) {
      this.#smoothed = ms;
      this.#variation = ms / 2;
    } else {
      this.#variation = 0.75 * this.#variation + 0.25 * Math.abs(this.#smoothed - ms);
      this.#smoothed = 0.875 * this.#smoothed + 0.125 * ms;
    }
    this.#sampledAt = now;
  }
}

export class StunTransaction {
  readonly #trip: RoundTrip;
  readonly #rto: number;
  readonly #startedAt: number;
  #sent = 1;
  /** the next request, or the end */
  dueAt: number;

  /** Starts with its first request, which the caller sends now. */
  constructor(trip: RoundTrip, now: number) {
    this.#trip = trip;
    this.#rto = trip.rto(now);
    this.#startedAt = now;
    this.dueAt = now + this.#rto;
  }

  /** `send`: the same octets again. `failed`: nobody answered. */
  advance(now: number): 'send' | 'failed' | undefined {
    if (now < this.dueAt) return undefined;
    if (this.#sent === REQUESTS) return 'failed';
    this.#sent++;
    // from the due time and not from now, so that the series does not drift; not in the past after a stall
    const wait = this.#rto * (this.#sent === REQUESTS ? LAST_WAIT : 2 ** (this.#sent - 1));
    this.dueAt = Math.max(this.dueAt + wait, now + 1);
    return 'send';
  }

  answered(now: number): void {
    if (this.#sent === 1) this.#trip.sample(now - this.#startedAt, now);
  }
}
