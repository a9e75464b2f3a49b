/**
 * The order in which provisional flows were published, oldest first, for every shard to push and to take.
 * A circular array of one-word entries (slot + 1 in 24 bits, the low 8 bits of the generation above them).
 *
 * An entry is only a candidate: the taker checks the slot's life word and takes it by compare-and-swap, so a
 * stale entry, one overwritten after a lap or one never written (its writer died after it had reserved the
 * place) is skipped and costs one read. What is lost in those cases is early reuse: the flow then ends by its own
 * timer. Eight bits of generation let a stale entry pass for a newer one at times: that one is provisional too.
 */
const HEAD = 0;
const TAIL = 16;
const ENTRIES = 32;

export class ProvisionalQueue {
  readonly #words: Int32Array;
  readonly #mask: number;

  /** Twice the slots, as a power of two: an entry is overwritten only after that many later ones. */
  static words(capacity: number): number {
    let entries = 16;
    while (entries < capacity * 2) entries *= 2;
    return ENTRIES + entries;
  }

  constructor(words: Int32Array) {
    this.#words = words;
    this.#mask = words.length - ENTRIES - 1;
  }

  push(slot: number, generation: number): void {
    const at = Atomics.add(this.#words, TAIL, 1);
    Atomics.store(this.#words, ENTRIES + (at & this.#mask), (slot + 1) | (generation << 24));
  }

  /** The oldest entry without taking it, or 0. Valid for `drop`; `entrySlot` and `entryMatches` read it. */
  oldest(): number {
    const words = this.#words;
    for (;;) {
      const head = Atomics.load(words, HEAD);
      const length = (Atomics.load(words, TAIL) - head) | 0;
      if (length <= 0) return 0;
      if (length <= this.#mask + 1) {
        const entry = Atomics.load(words, ENTRIES + (head & this.#mask));
        if (entry !== 0) return entry;
        Atomics.compareExchange(words, HEAD, head, (head + 1) | 0);
      } else {
        // lapped: what the head pointed at is overwritten
        Atomics.compareExchange(words, HEAD, head, (head + length - this.#mask - 1) | 0);
      }
    }
  }

  /** Steps over the oldest entry if it is still this one. */
  drop(entry: number): void {
    const words = this.#words;
    const head = Atomics.load(words, HEAD);
    if (Atomics.load(words, ENTRIES + (head & this.#mask)) === entry) {
      Atomics.compareExchange(words, HEAD, head, (head + 1) | 0);
    }
  }
}

export function entrySlot(entry: number): number {
  return (entry & 0xffffff) - 1;
}

export function entryMatches(entry: number, generation: number): boolean {
  return entry >>> 24 === (generation & 0xff);
}
