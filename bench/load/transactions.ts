/**
 * What is in flight: for each transaction its flow and when it began. The number of a transaction is that of its slot
 * with the slot's turn above it, so an answer finds its slot without a search, and one that comes too late, or twice,
 * finds another number there.
 */
export class Transactions {
  readonly slots: number;
  readonly #bits: number;
  readonly #numbers: Uint32Array;
  readonly #flows: Int32Array;
  readonly #begun: Float64Array;
  readonly #free: Int32Array;
  #vacant: number;

  /** `slots`: rounded up to a power of two, 65,536 at most. */
  constructor(slots: number) {
    this.#bits = Math.max(1, Math.ceil(Math.log2(slots)));
    this.slots = 2 ** this.#bits;
    this.#numbers = Uint32Array.from({ length: this.slots }, (_, slot) => slot);
    this.#flows = new Int32Array(this.slots).fill(-1);
    this.#begun = new Float64Array(this.slots);
    this.#free = Int32Array.from({ length: this.slots }, (_, i) => this.slots - 1 - i);
    this.#vacant = this.slots;
  }

  get inFlight(): number {
    return this.slots - this.#vacant;
  }

  /** The number of a new one, or -1 if all slots are taken. `now`: milliseconds. */
  begin(flow: number, now: number): number {
    if (this.#vacant === 0) return -1;
    const slot = this.#free[--this.#vacant];
    const number = (this.#numbers[slot] + this.slots) >>> 0;
    this.#numbers[slot] = number;
    this.#flows[slot] = flow;
    this.#begun[slot] = now;
    return number;
  }

  /** Ends it: when it had begun, or -1 if no such transaction is in flight on that flow. */
  end(number: number, flow: number): number {
    const slot = number & (this.slots - 1);
    if (this.#numbers[slot] !== number || this.#flows[slot] !== flow || flow < 0) return -1;
    return this.#release(slot);
  }

  /** Ends all that began before `then`; each one's flow is told. */
  expire(then: number, tell: (flow: number) => void): void {
    if (this.inFlight === 0) return;
    for (let slot = 0; slot < this.slots; slot++) {
      const flow = this.#flows[slot];
      if (flow < 0 || this.#begun[slot] >= then) continue;
      this.#release(slot);
      tell(flow);
    }
  }

  #release(slot: number): number {
    this.#flows[slot] = -1;
    this.#free[this.#vacant++] = slot;
    return this.#begun[slot];
  }
}
