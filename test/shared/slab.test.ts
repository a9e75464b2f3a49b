import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BLOCK_SIZES, MAX_BLOCK, Slab } from '../../src/shared/slab.ts';

const KIB = 1024;

describe('slab', () => {
  it('leases the tightest block, and none for more than the largest', () => {
    const slab = new Slab(Slab.allocate(8 * MAX_BLOCK));
    const sizes = [1, 4 * KIB, 4 * KIB + 1, 16 * KIB, 16 * KIB + 1, 64 * KIB, 64 * KIB + 1, 272 * KIB];
    expect(sizes.map((bytes) => slab.sizeOf(slab.lease(bytes)) / KIB)).toEqual([
      4, 4, 16, 16, 64, 64, 272, 272,
    ]);
    expect(slab.lease(MAX_BLOCK + 1)).toBe(-1);
    expect(slab.refused).toBe(1);
  });

  it('refuses when the arena is used up, and lends every byte again once the blocks are back', () => {
    const slab = new Slab(Slab.allocate(2 * MAX_BLOCK));
    const small: number[] = [];
    for (let at = slab.lease(1); at >= 0; at = slab.lease(1)) small.push(at);
    expect(small.length).toBe((2 * MAX_BLOCK) / BLOCK_SIZES[0]);
    expect(slab.lease(MAX_BLOCK)).toBe(-1);
    for (const at of small) expect(slab.giveBack(at)).toBe(true);
    expect([slab.lease(MAX_BLOCK), slab.lease(MAX_BLOCK)].sort()).toEqual([0, MAX_BLOCK]);
    expect(slab.lease(1)).toBe(-1);
    expect(slab.inUse).toBe(2 * MAX_BLOCK);
    expect(slab.highWater).toBe(2 * MAX_BLOCK);
  });

  it('takes back only what is leased', () => {
    const slab = new Slab(Slab.allocate(2 * MAX_BLOCK));
    const at = slab.lease(100);
    for (const wrong of [-1, at + 1, at + BLOCK_SIZES[0], MAX_BLOCK, 2 * MAX_BLOCK, 1e12]) {
      expect([slab.giveBack(wrong), slab.sizeOf(wrong)]).toEqual([false, 0]);
    }
    expect([slab.giveBack(at), slab.giveBack(at), slab.inUse]).toEqual([true, false, 0]);
  });

  it('is used up for large blocks first: smaller ones find room behind them', () => {
    const CHUNKS = 64;
    const slab = new Slab(Slab.allocate(CHUNKS * MAX_BLOCK));
    const leases = (size: number) => {
      const all: number[] = [];
      for (let at = slab.lease(size); at >= 0; at = slab.lease(size)) all.push(at);
      return all;
    };
    const perChunk = (size: number) => Math.floor(MAX_BLOCK / size);
    const large = leases(MAX_BLOCK);
    expect(large).toHaveLength(CHUNKS - CHUNKS / 8);
    expect(leases(BLOCK_SIZES[2])).toHaveLength((CHUNKS / 16) * perChunk(BLOCK_SIZES[2]));
    expect(leases(BLOCK_SIZES[1])).toHaveLength((CHUNKS / 32) * perChunk(BLOCK_SIZES[1]));
    expect(leases(BLOCK_SIZES[0])).toHaveLength((CHUNKS / 32) * perChunk(BLOCK_SIZES[0]));
    for (const at of large) slab.giveBack(at);
    expect(leases(MAX_BLOCK)).toHaveLength(large.length - CHUNKS / 8); // what the smaller ones hold is gone
  });

  it('finds every free block again when the chunks of one size empty in the middle of their list', () => {
    const slab = new Slab(Slab.allocate(3 * MAX_BLOCK));
    const blocks = Array.from({ length: 12 }, () => slab.lease(64 * KIB));
    expect(slab.lease(64 * KIB)).toBe(-1);
    for (const i of [0, 4, 8]) slab.giveBack(blocks[i]);
    for (const i of [5, 6, 7]) slab.giveBack(blocks[i]);
    const again = [0, 4, 8, 5, 6, 7].map(() => slab.lease(64 * KIB));
    expect(again.sort()).toEqual([0, 4, 8, 5, 6, 7].map((i) => blocks[i]).sort());
    expect(slab.lease(64 * KIB)).toBe(-1);
  });

  it('leaves the block as it was when it cannot grow', () => {
    const slab = new Slab(Slab.allocate(MAX_BLOCK));
    const at = slab.lease(100);
    expect(slab.grow(at, 100, 5 * KIB)).toBe(-1);
    expect(slab.sizeOf(at)).toBe(BLOCK_SIZES[0]);
  });

  it('never lends a byte twice and moves what a growing message has, whatever the order of calls', () => {
    const bytes = fc.oneof(fc.nat(5 * KIB), fc.nat(20 * KIB), fc.nat(70 * KIB), fc.nat(MAX_BLOCK));
    const call = fc.oneof(
      fc.record({ op: fc.constant('lease' as const), bytes }),
      fc.record({ op: fc.constant('giveBack' as const), pick: fc.nat() }),
      fc.record({ op: fc.constant('grow' as const), pick: fc.nat(), bytes }),
    );
    fc.assert(
      fc.property(fc.array(call, { maxLength: 60 }), (calls) => {
        const slab = new Slab(Slab.allocate(3 * MAX_BLOCK));
        const leased: { at: number; mark: number }[] = [];
        let mark = 0;
        let highest = 0;
        for (const step of calls) {
          if (step.op === 'lease') {
            const at = slab.lease(step.bytes);
            if (at < 0) continue;
            expect(slab.sizeOf(at)).toBeGreaterThanOrEqual(step.bytes);
            mark = (mark + 1) & 255;
            slab.memory.fill(mark, at, at + slab.sizeOf(at));
            leased.push({ at, mark });
          } else if (leased.length > 0) {
            const i = step.pick % leased.length;
            const block = leased[i];
            if (step.op === 'giveBack') {
              expect(slab.giveBack(block.at)).toBe(true);
              leased.splice(i, 1);
            } else {
              const had = slab.sizeOf(block.at);
              const at = slab.grow(block.at, had, step.bytes);
              if (at < 0) continue;
              expect(at === block.at).toBe(had >= step.bytes);
              block.at = at;
              slab.memory.fill(block.mark, at + had, at + slab.sizeOf(at));
            }
          }
          let inUse = 0;
          for (const { at } of leased) inUse += slab.sizeOf(at);
          highest = Math.max(highest, inUse);
          expect(slab.inUse).toBe(inUse);
        }
        for (const { at, mark: own } of leased) {
          expect(slab.memory.subarray(at, at + slab.sizeOf(at)).every((byte) => byte === own)).toBe(true);
        }
        expect(slab.highWater).toBeGreaterThanOrEqual(highest);
        for (const { at } of leased) slab.giveBack(at);
        expect([slab.lease(MAX_BLOCK), slab.lease(MAX_BLOCK), slab.lease(MAX_BLOCK)].includes(-1)).toBe(
          false,
        );
      }),
      { numRuns: 60 },
    );
  });
});
