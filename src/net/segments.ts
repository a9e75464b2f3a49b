/**
 * What a turn queues on streams: ranges of the arena's out region, a chain for each stream, all in one
 * pool that the flush empties. Ranges that touch become one.
 */

const SEGMENTS = 8_192;

/** Ends of a chain in the pool, -1 while it is empty. */
export interface Chain {
  first: number;
  last: number;
}

export class Segments {
  readonly start = new Int32Array(SEGMENTS);
  readonly end = new Int32Array(SEGMENTS);
  readonly next = new Int32Array(SEGMENTS);
  #count = 0;

  get full(): boolean {
    return this.#count === SEGMENTS;
  }

  /** Adds `[start, end)` behind the chain. Not while `full`. */
  append(chain: Chain, start: number, end: number): void {
    if (chain.last >= 0 && this.end[chain.last] === start) {
      this.end[chain.last] = end;
      return;
    }
    const i = this.#count++;
    this.start[i] = start;
    this.end[i] = end;
    this.next[i] = -1;
    if (chain.last >= 0) this.next[chain.last] = i;
    else chain.first = i;
    chain.last = i;
  }

  length(chain: Chain): number {
    let total = 0;
    for (let i = chain.first; i >= 0; i = this.next[i]) total += this.end[i] - this.start[i];
    return total;
  }

  empty(): void {
    this.#count = 0;
  }
}
