/**
 * The bytes that transactions keep, because they may have to be sent again or answered: in cells of 1 KiB or 2 KiB,
 * which nearly all messages fit in, else in slabs. (A 200 to a REGISTER has all bindings of its address: with two it
 * is above 1 KiB.) Copies in and out; a cell may be used anew as soon as it is given back, so what is sent
 * from here goes through the out region.
 *
 * Small cells are taken from the front of the region, large ones from its back. Those given back are used last in,
 * first out: memory that was never needed is never touched. What finds no cell of its size takes the next larger: a
 * small one a large cell, a large one a slab block.
 */
import { type Arena, KEPT_CELL, KEPT_CELLS } from '../net/arena.ts';

const LARGE_CELL = 2 * KEPT_CELL;
/** The lexer may write one octet behind a message, also behind one that fills the last cell. */
const REGION = (KEPT_CELLS - 1) * KEPT_CELL;

/** Cells of one size that were given back, last in, first out. */
class Stack {
  readonly #cells: Int32Array;
  #count = 0;

  constructor(most: number) {
    this.#cells = new Int32Array(most);
  }

  push(at: number): void {
    this.#cells[this.#count++] = at;
  }

  /** -1: none */
  pop(): number {
    return this.#count > 0 ? this.#cells[--this.#count] : -1;
  }
}

export class Kept {
  readonly #arena: Arena;
  readonly #small = new Stack(KEPT_CELLS);
  readonly #large = new Stack(KEPT_CELLS / 2);
  /** Between them lies what was never used. */
  #front: number;
  #back: number;
  /** cells in use */
  inUse = 0;

  constructor(arena: Arena) {
    this.#arena = arena;
    this.#front = arena.kept;
    this.#back = arena.kept + REGION;
  }

  /** The offset of a copy of mem[start, start + length), or -1: no room. */
  keep(start: number, length: number): number {
    const { mem, slabs } = this.#arena;
    let at = length > KEPT_CELL ? -1 : this.#takeSmall();
    if (at < 0 && length <= LARGE_CELL) at = this.#takeLarge();
    if (at >= 0) this.inUse++;
    else if (length > KEPT_CELL) at = slabs.lease(length + 1);
    if (at < 0) return -1;
    mem.copyWithin(at, start, start + length);
    return at;
  }

  giveBack(at: number): void {
    if (at < this.#arena.kept) {
      this.#arena.slabs.giveBack(at);
      return;
    }
    this.inUse--;
    if (at < this.#front) this.#small.push(at);
    else this.#large.push(at);
  }

  #takeSmall(): number {
    const at = this.#small.pop();
    if (at >= 0 || this.#back - this.#front < KEPT_CELL) return at;
    this.#front += KEPT_CELL;
    return this.#front - KEPT_CELL;
  }

  #takeLarge(): number {
    const at = this.#large.pop();
    if (at >= 0 || this.#back - this.#front < LARGE_CELL) return at;
    this.#back -= LARGE_CELL;
    return this.#back;
  }
}
