import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { Arena, KEPT_CELL, KEPT_CELLS } from '../../src/net/arena.ts';
import { Kept } from '../../src/transaction/kept.ts';

const LARGE = 2 * KEPT_CELL;

let arena: Arena;
let kept: Kept;

beforeEach(() => {
  arena = new Arena();
  kept = new Kept(arena);
});

/** Keeps messages of this length until one would have to go to a slab, or nowhere. */
function fill(length: number): number[] {
  const offsets: number[] = [];
  for (;;) {
    const at = kept.keep(arena.scratch, length);
    if (at >= arena.kept) offsets.push(at);
    else {
      if (at >= 0) kept.giveBack(at);
      return offsets;
    }
  }
}

describe('what transactions keep', () => {
  it('stands unchanged until it is given back, whatever the lengths and the order', () => {
    const step = fc.record({ length: fc.integer({ min: 1, max: 5000 }), giveBack: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const live: { at: number; length: number; octet: number }[] = [];
        for (const [n, { length, giveBack }] of steps.entries()) {
          const octet = (n % 250) + 1;
          arena.mem.fill(octet, arena.scratch, arena.scratch + length);
          live.push({ at: kept.keep(arena.scratch, length), length, octet });
          if (giveBack) kept.giveBack(live.splice((n * 7) % live.length, 1)[0].at);
          for (const { at, length, octet } of live)
            expect(arena.mem.subarray(at, at + length).every((b) => b === octet)).toBe(true);
        }
        for (const { at } of live) kept.giveBack(at);
        expect([kept.inUse, arena.slabs.inUse]).toEqual([0, 0]);
      }),
      { numRuns: 60 },
    );
  });

  it('leaves the slabs to streams up to 2 KiB a message', () => {
    for (const length of [1, KEPT_CELL, KEPT_CELL + 1, LARGE]) kept.keep(arena.scratch, length);
    expect([kept.inUse, arena.slabs.inUse]).toEqual([4, 0]);
    kept.keep(arena.scratch, LARGE + 1);
    expect([kept.inUse, arena.slabs.inUse]).toEqual([4, 4096]);
  });

  it('has room for 49,151 messages above 1 KiB outside of the slabs, and then for some in them', () => {
    const cells = fill(LARGE);
    expect(new Set(cells).size).toBe(KEPT_CELLS / 2 - 1);
    expect(cells.every((at) => at >= arena.kept && at + LARGE < arena.mem.length)).toBe(true);
    expect(kept.keep(arena.scratch, LARGE)).toBeLessThan(arena.kept);
  });

  it('takes a large cell for a small message when there is no other, and none beyond that', () => {
    const large = fill(LARGE);
    const small = fill(KEPT_CELL); // between the two ends there is room for one
    expect(small.length).toBe(1);
    for (const at of large) kept.giveBack(at);
    expect(fill(KEPT_CELL).sort((a, b) => a - b)).toEqual(large.sort((a, b) => a - b));
    expect(kept.keep(arena.scratch, KEPT_CELL)).toBe(-1);
    expect(kept.inUse).toBe(large.length + 1);
  });

  it('uses a cell again before it touches another', () => {
    const first = [KEPT_CELL, LARGE].map((length) => kept.keep(arena.scratch, length));
    for (const at of first) kept.giveBack(at);
    expect([KEPT_CELL, LARGE].map((length) => kept.keep(arena.scratch, length))).toEqual(first);
  });
});
