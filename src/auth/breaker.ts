/**
 * A circuit breaker: after `threshold` failures in a row nothing is asked for a pause, then one trial; a trial that
 * fails makes the next pause twice as long, one success ends it all. So a dead service costs its callers no
 * deadline, and one that comes back is not met by all of them at once. Knows time only as it is told.
 */
export class Breaker {
  readonly #threshold: number;
  readonly #first: number;
  readonly #longest: number;
  #failures = 0;
  #pause = 0;
  #until = 0;
  #trial = false;

  /** Pauses in ms. */
  constructor(threshold: number, firstPause: number, longestPause: number) {
    this.#threshold = threshold;
    this.#first = firstPause;
    this.#longest = longestPause;
  }

  get isOpen(): boolean {
    return this.#pause > 0;
  }

  /** May something be asked now? When it says yes while open, that is the trial: its end must be told. */
  admits(now: number): boolean {
    if (this.#pause === 0) return true;
    if (this.#trial || now < this.#until) return false;
    this.#trial = true;
    return true;
  }

  /** Milliseconds until the next trial. */
  wait(now: number): number {
    return this.#pause === 0 ? 0 : Math.max(0, Math.round(this.#until - now));
  }

  /** True if this closed it. */
  succeeded(): boolean {
    const wasOpen = this.#pause > 0;
    this.#failures = this.#pause = 0;
    this.#trial = false;
    return wasOpen;
  }

  /** True if this opened it, or made its pause longer. */
  failed(now: number): boolean {
    // what was under way when it opened says nothing new
    if (this.#pause > 0 && !this.#trial) return false;
    if (this.#pause === 0 && ++this.#failures < this.#threshold) return false;
    this.#pause = this.#trial ? Math.min(this.#pause * 2, this.#longest) : this.#first;
    this.#trial = false;
    this.#until = now + this.#pause;
    return true;
  }
}
