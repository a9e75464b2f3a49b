import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KeyIndex } from '../../src/transaction/key-index.ts';

function ids(index: KeyIndex, lo: number): number[] {
  const found: number[] = [];
  for (let place = index.first(lo); place >= 0; place = index.next(place, lo)) found.push(index.id(place));
  return found.sort((a, b) => a - b);
}

describe('the key index', () => {
  it('agrees with a map after any order of inserts and removals, in runs that wrap and collide', () => {
    const capacity = 24;
    // 64 places: these words make homes at the end of the table and a few that are shared
    const lo = fc.constantFrom(0, 1, 2, 61, 62, 63, 64 + 62, 128 + 63, -1, -2, 0x7fffffff, -0x80000000);
    const op = fc.record({ lo, id: fc.integer({ min: 0, max: capacity - 1 }), add: fc.boolean() });
    fc.assert(
      fc.property(fc.array(op, { maxLength: 120 }), (ops) => {
        const index = new KeyIndex(capacity);
        const model = new Map<number, number>();
        for (const { lo, id, add } of ops) {
          const held = model.get(id);
          if (add && held === undefined) {
            index.insert(lo, id);
            model.set(id, lo);
          } else if (!add && held !== undefined) {
            index.remove(held, id);
            model.delete(id);
          }
        }
        const expected = new Map<number, number[]>();
        for (const [id, held] of [...model].sort((a, b) => a[0] - b[0]))
          expected.set(held, [...(expected.get(held) ?? []), id]);
        for (const word of new Set(ops.map((o) => o.lo)))
          expect(ids(index, word)).toEqual(expected.get(word) ?? []);
      }),
      { numRuns: 500 },
    );
  });

  it('ignores the removal of what it does not hold', () => {
    const index = new KeyIndex(4);
    index.insert(7, 1);
    index.remove(7, 2);
    index.remove(8, 1);
    expect(ids(index, 7)).toEqual([1]);
  });
});
