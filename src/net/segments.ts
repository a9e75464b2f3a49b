/**
 * What a turn queues on streams: ranges of the arena's out region, a chain for each stream, all in one
 * pool that the flush empties. Ranges that touch become one. What of it a broken connection did not take is
 * noted here until it is told: the flush does not take it away.
 */
import type { NetHandler } from './net.ts';

const SEGMENTS = 8_192;

/** What the write of a chain may come to: more would wait than the largest block holds, or there is no block. */
export const OVERFLOW = 1;

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
  /** slot, start, end of what could not be written */
  readonly #lost: number[] = [];

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

  /**
   * Whole messages that a broken connection did not take: of a chain, from `from` in the segment `first` on. They are
   * told, so that they can be answered.
   */
  lose(slot: number, first: number, from: number): void {
    for (let i = first; i >= 0; i = this.next[i]) {
      // Bytes behind a part that was taken are no messages of their own.
      if (i === first && from !== this.start[i]) continue;
      this.#lost.push(slot, this.start[i], this.end[i]);
    }
  }

  /** Tells what was lost since the last time; its bytes still stand in the out region. True if there was anything. */
  reportLost(handler: NetHandler): boolean {
    const lost = this.#lost;
    if (lost.length === 0) return false;
    for (let i = 0; i < lost.length; i += 3) handler.unsent(lost[i], lost[i + 1], lost[i + 2]);
    lost.length = 0;
    return true;
  }
}
