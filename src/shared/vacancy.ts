/**
 * Where a free slot is likely to be: one bit per slot (set = taken) and one bit per 32 of them (set = all
 * taken). Only hints: the slot's own life word decides, by compare-and-swap in flow-table.ts. A thread that
 * dies between the two leaves a wrong bit, never a wrong owner; a bit that says free too long is corrected
 * by the next claimer that tries it, one that says taken too long by the sweep after the death.
 *
 * No counter is kept, so none can drift: `taken()` counts the bits (2048 words for 65,536 slots). A full table
 * is refused after a scan of capacity / 1024 words. Searches use plain loads: a hint a moment old is still a hint.
 * All zero is a valid empty map, so that a large table costs no memory until it is used.
 */
export class Vacancy {
  readonly #taken: Int32Array;
  readonly #full: Int32Array;
  readonly #capacity: number;

  static words(capacity: number): number {
    const taken = (capacity + 31) >>> 5;
    return taken + ((taken + 31) >>> 5);
  }

  /** Marks the bits that stand beyond the capacity, once, by the thread that allocates. */
  static format(words: Int32Array, capacity: number): void {
    const taken = (capacity + 31) >>> 5;
    if (capacity & 31) words[taken - 1] = -1 << (capacity & 31);
    if (taken & 31) words[words.length - 1] = -1 << (taken & 31);
  }

  constructor(words: Int32Array, capacity: number) {
    const taken = (capacity + 31) >>> 5;
    this.#taken = words.subarray(0, taken);
    this.#full = words.subarray(taken, Vacancy.words(capacity));
    this.#capacity = capacity;
  }

  /** The number of 32-slot groups. */
  get groups(): number {
    return this.#taken.length;
  }

  /** The first group in [from, to) that may hold a free slot, or -1. */
  findGroup(from: number, to: number): number {
    const full = this.#full;
    let at = from;
    while (at < to) {
      const open = ~full[at >>> 5] & (-1 << (at & 31));
      if (open !== 0) {
        const group = (at & ~31) + ctz(open);
        return group < to ? group : -1;
      }
      at = (at & ~31) + 32;
    }
    return -1;
  }

  /** The slots of this group that look free, as a bit set. */
  openBits(group: number): number {
    return ~this.#taken[group];
  }

  isTaken(slot: number): boolean {
    return (Atomics.load(this.#taken, slot >>> 5) & (1 << (slot & 31))) !== 0;
  }

  take(slot: number): void {
    const group = slot >>> 5;
    const bit = 1 << (slot & 31);
    if ((Atomics.or(this.#taken, group, bit) | bit) === -1) this.closeGroup(group);
  }

  /** Says that a group has no free slot; looks again, for one may have come free in the meantime. */
  closeGroup(group: number): void {
    const bit = 1 << (group & 31);
    Atomics.or(this.#full, group >>> 5, bit);
    if (Atomics.load(this.#taken, group) !== -1) Atomics.and(this.#full, group >>> 5, ~bit);
  }

  give(slot: number): void {
    const group = slot >>> 5;
    Atomics.and(this.#taken, group, ~(1 << (slot & 31)));
    this.openGroup(group);
  }

  openGroup(group: number): void {
    const bit = 1 << (group & 31);
    if (Atomics.load(this.#full, group >>> 5) & bit) Atomics.and(this.#full, group >>> 5, ~bit);
  }

  taken(): number {
    const words = this.#taken;
    let n = 0;
    for (let i = 0; i < words.length; i++) n += popcount(words[i]);
    return n - (words.length * 32 - this.#capacity);
  }
}

/** Index of the lowest set bit of a word that is not 0. */
export function ctz(word: number): number {
  return 31 - Math.clz32(word & -word);
}

function popcount(word: number): number {
  let v = word - ((word >>> 1) & 0x55555555);
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
  return Math.imul((v + (v >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
