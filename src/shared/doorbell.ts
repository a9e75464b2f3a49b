/**
 * Wakes a consumer that sleeps, and costs a producer one load when it does not.
 *
 * The consumer calls `prepareSleep`, looks at its rings once more, and only then blocks; a producer publishes first
 * and rings after. Both sides use sequentially consistent Atomics, so one of the two sees the other: the producer
 * sees the sleeper, or the consumer sees the message. Of several producers exactly one does the waking. What
 * "waking" is, the owner of the bell says: an eventfd write for a thread in epoll, `notify` for one in Atomics.wait
 * or waitAsync.
 *
 * A pending waitAsync does not keep its event loop alive: the thread needs something else that does.
 */
const AWAKE = 0;
const SLEEPING = 1;

export class Doorbell {
  readonly #words: Int32Array;
  readonly #at: number;
  readonly #wake: () => void;

  /** `wake` runs on the producer's thread; without it the bell notifies waiters of its word. */
  constructor(words: Int32Array, at: number, wake?: () => void) {
    this.#words = words;
    this.#at = at;
    this.#wake = wake ?? (() => this.notify());
  }

  /** Producer, after it has published. True if it had to wake the consumer. */
  ring(): boolean {
    if (Atomics.load(this.#words, this.#at) !== SLEEPING) return false;
    if (Atomics.compareExchange(this.#words, this.#at, SLEEPING, AWAKE) !== SLEEPING) return false;
    this.#wake();
    return true;
  }

  notify(): void {
    Atomics.notify(this.#words, this.#at, 1);
  }

  /** Consumer, before it looks at its rings for the last time. */
  prepareSleep(): void {
    Atomics.store(this.#words, this.#at, SLEEPING);
  }

  /** Consumer, when it has found something after all, and whenever its blocking call has returned. */
  awake(): void {
    Atomics.store(this.#words, this.#at, AWAKE);
  }

  /** Blocks this thread until rung or `ms` are over. After `prepareSleep` and the last look. True if it was rung. */
  wait(ms: number): boolean {
    const rung = Atomics.wait(this.#words, this.#at, SLEEPING, ms) !== 'timed-out';
    this.awake();
    return rung;
  }

  /** The same for a thread that lives on its event loop. True if the bell has been rung already. */
  waitAsync(ms: number): true | Promise<boolean> {
    const waiting = Atomics.waitAsync(this.#words, this.#at, SLEEPING, ms);
    if (!waiting.async) {
      this.awake();
      return true;
    }
    return waiting.value.then((outcome) => {
      this.awake();
      return outcome !== 'timed-out';
    });
  }
}
