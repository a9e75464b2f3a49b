/**
 * From a 64-bit key to a transaction id: open addressing with linear probing, in one Int32Array, for one
 * thread. Removal shifts the rest of a run back, so there are no tombstones and look-ups stay as short
 * as at half load, however long the table lives.
 *
 * The keys are SipHash under a secret key, so nobody outside can choose two that meet. An entry holds the
 * low word and the id; the high word is compared where the records are, by the caller.
 */
const ENTRY = 2; // low word of the key, id + 1

export class KeyIndex {
  readonly #entries: Int32Array;
  readonly #mask: number;

  constructor(capacity: number) {
    const size = 2 ** Math.ceil(Math.log2(Math.max(capacity, 4) * 2));
    this.#entries = new Int32Array(size * ENTRY);
    this.#mask = size - 1;
  }

  /** The place of the first entry with this low word, or -1. */
  first(lo: number): number {
    return this.#from(lo & this.#mask, lo);
  }

  /** The place of the next entry with this low word behind a place that `first` or `next` gave, or -1. */
  next(place: number, lo: number): number {
    return this.#from((place + 1) & this.#mask, lo);
  }

  #from(place: number, lo: number): number {
    const entries = this.#entries;
    for (let at = place; ; at = (at + 1) & this.#mask) {
      if (entries[at * ENTRY + 1] === 0) return -1;
      if (entries[at * ENTRY] === lo) return at;
    }
  }

  id(place: number): number {
    return this.#entries[place * ENTRY + 1] - 1;
  }

  /** There is always room: the table has twice as many places as there are records. */
  insert(lo: number, id: number): void {
    const entries = this.#entries;
    let at = lo & this.#mask;
    while (entries[at * ENTRY + 1] !== 0) at = (at + 1) & this.#mask;
    entries[at * ENTRY] = lo;
    entries[at * ENTRY + 1] = id + 1;
  }

  remove(lo: number, id: number): void {
    const entries = this.#entries;
    const mask = this.#mask;
    let hole = this.first(lo);
    while (hole >= 0 && this.id(hole) !== id) hole = this.next(hole, lo);
    if (hole < 0) return;
    for (let at = (hole + 1) & mask; entries[at * ENTRY + 1] !== 0; at = (at + 1) & mask) {
      // an entry may move back only if the hole is not before its home
      if (((at - (entries[at * ENTRY] & mask)) & mask) < ((at - hole) & mask)) continue;
      entries[hole * ENTRY] = entries[at * ENTRY];
      entries[hole * ENTRY + 1] = entries[at * ENTRY + 1];
      hole = at;
    }
    entries[hole * ENTRY + 1] = 0;
  }
}
