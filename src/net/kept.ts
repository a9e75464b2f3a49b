/**
 * Bytes of one direction of a stream that have to wait: the first part of a message, or output that the
 * peer does not take yet. They lie in one block of the arena's slabs, in order and without a gap, and
 * the block is given back with the last of them. The largest block is the bound: `append` then refuses.
 */
import type { Slab } from '../shared/slab.ts';

/** The lexer sets a sentinel behind a message: what is kept of one has that much to spare. */
export const SENTINEL = 1;

export class Kept {
  /** the range in the arena; meaningless while `length` is 0 */
  start = 0;
  end = 0;
  readonly #slabs: Slab;
  /** octets behind the end that stay free in every block */
  readonly #spare: number;
  #block = -1;

  constructor(slabs: Slab, spare: number) {
    this.#slabs = slabs;
    this.#spare = spare;
  }

  get length(): number {
    return this.end - this.start;
  }

  /** Adds a copy of the arena's `[from, to)`. False, and nothing added: the largest block is full, or there is none. */
  append(from: number, to: number): boolean {
    const slabs = this.#slabs;
    const { memory } = slabs;
    const have = this.length;
    const need = have + to - from + this.#spare;
    if (this.#block < 0) {
      const block = slabs.lease(need);
      if (block < 0) return false;
      this.#move(block, 0);
    } else if (this.start - this.#block + need > slabs.sizeOf(this.#block)) {
      memory.copyWithin(this.#block, this.start, this.end);
      this.#move(this.#block, have);
      const block = slabs.grow(this.#block, have, need);
      if (block < 0) return false;
      this.#move(block, have);
    }
    memory.copyWithin(this.end, from, to);
    this.end += to - from;
    return true;
  }

  /** The first `n` bytes are done with. */
  consume(n: number): void {
    this.start += n;
    if (this.start >= this.end) this.release();
  }

  /** The last `n` bytes were not to be kept after all; some stay. */
  retract(n: number): void {
    this.end -= n;
  }

  release(): void {
    if (this.#block >= 0) this.#slabs.giveBack(this.#block);
    this.#block = -1;
    this.start = this.end = 0;
  }

  #move(block: number, length: number): void {
    this.#block = block;
    this.start = block;
    this.end = block + length;
  }
}
