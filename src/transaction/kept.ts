/**
 * The bytes that transactions keep, because they may have to be sent again or answered: in cells of
 * 1 KiB, which most messages fit in, else in slabs. Copies in and out; a cell may be used anew as soon as
 * it is given back, so what is sent from here goes through the out region.
 *
 * Cells are used last in, first out: memory that was never needed is never touched.
 */
import { type Arena, KEPT_CELL, KEPT_CELLS } from '../net/arena.ts';

export class Kept {
  readonly #arena: Arena;
  readonly #free = new Int32Array(KEPT_CELLS);
  #count = 0;
  /** cells that were ever used; those behind are free, too */
  #touched = 0;
  /** cells in use */
  inUse = 0;

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  /** The offset of a copy of mem[start, start + length), or -1: no room. */
  keep(start: number, length: number): number {
    const { mem, slabs, kept } = this.#arena;
    let at: number;
    if (length > KEPT_CELL) at = slabs.lease(length + 1);
    else if (this.#count > 0) at = this.#free[--this.#count];
    else if (this.#touched < KEPT_CELLS - 1) at = kept + this.#touched++ * KEPT_CELL;
    else at = -1;
    if (at < 0) return -1;
    if (length <= KEPT_CELL) this.inUse++;
    mem.copyWithin(at, start, start + length);
    return at;
  }

  giveBack(at: number): void {
    if (at < this.#arena.kept) {
      this.#arena.slabs.giveBack(at);
      return;
    }
    this.inUse--;
    this.#free[this.#count++] = at;
  }
}
