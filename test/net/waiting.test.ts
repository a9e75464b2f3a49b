import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Arena } from '../../src/net/arena.ts';
import { Endpoint } from '../../src/net/endpoint.ts';
import { Hosts } from '../../src/net/hosts.ts';
import { Kept } from '../../src/net/kept.ts';
import type { NetHandler } from '../../src/net/net.ts';
import { type Chain, Segments } from '../../src/net/segments.ts';
import { MAX_BLOCK } from '../../src/shared/slab.ts';

describe('kept bytes', () => {
  it('are what was appended less what was consumed, whatever the sizes', () => {
    const arena = new Arena();
    const { mem, slabs } = arena;
    const step = fc.record({
      add: fc.integer({ min: 0, max: 40_000 }),
      take: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), fc.constantFrom(0, 1), (steps, spare) => {
        const kept = new Kept(slabs, spare);
        let added = 0;
        let taken = 0;
        for (const { add, take } of steps) {
          for (let i = 0; i < add; i++) mem[arena.stream + i] = (added + i) % 251;
          const fits = added - taken + add + spare <= MAX_BLOCK;
          if (add > 0) {
            expect(kept.append(arena.stream, arena.stream + add)).toBe(fits);
            if (fits) added += add;
          }
          const used = Math.floor(take * (added - taken));
          kept.consume(used);
          taken += used;
          expect(kept.length).toBe(added - taken);
          if (kept.length > 0) {
            expect(mem[kept.start]).toBe(taken % 251);
            expect(mem[kept.end - 1]).toBe((added - 1) % 251);
            expect(mem[kept.start + (kept.length >> 1)]).toBe((taken + (kept.length >> 1)) % 251);
          } else expect(slabs.inUse).toBe(0);
        }
        kept.release();
        expect(slabs.inUse).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  it('go on behind those that stay, where the last were not to be kept after all', () => {
    const { mem, slabs, stream } = new Arena();
    const kept = new Kept(slabs, 1);
    mem.set([1, 2, 3, 4, 5, 6, 7], stream);
    kept.append(stream, stream + 3);
    kept.append(stream + 3, stream + 5);
    kept.retract(2);
    kept.append(stream + 5, stream + 7);
    expect([...mem.subarray(kept.start, kept.end)]).toEqual([1, 2, 3, 6, 7]);
  });
});

describe('segments', () => {
  it('join where they touch, stay apart where they do not, and are a chain per stream', () => {
    const segments = new Segments();
    const a: Chain = { first: -1, last: -1 };
    const b: Chain = { first: -1, last: -1 };
    segments.append(a, 0, 10);
    segments.append(a, 10, 15);
    segments.append(b, 15, 20);
    segments.append(a, 20, 30);
    expect(segments.length(a)).toBe(25);
    expect(segments.length(b)).toBe(5);
    expect([segments.start[a.first], segments.end[a.first]]).toEqual([0, 15]);
    expect(segments.next[a.first]).toBe(a.last);
    expect(segments.next[a.last]).toBe(-1);
  });

  it('that a broken connection did not take are told once, but for one that it took a part of', () => {
    const segments = new Segments();
    const a: Chain = { first: -1, last: -1 };
    const b: Chain = { first: -1, last: -1 };
    for (const start of [0, 20, 40]) segments.append(a, start, start + 10);
    segments.append(b, 60, 70);
    segments.lose(1, a.first, 5);
    segments.lose(2, b.first, 60);
    segments.empty();
    const told: number[][] = [];
    const handler = { unsent: (...range: number[]) => told.push(range) } as unknown as NetHandler;
    expect(segments.reportLost(handler)).toBe(true);
    expect(told).toEqual([
      [1, 20, 30],
      [1, 40, 50],
      [2, 60, 70],
    ]);
    expect(segments.reportLost(handler)).toBe(false);
  });

  it('are full at their limit and take as many again when emptied', () => {
    const segments = new Segments();
    const chain: Chain = { first: -1, last: -1 };
    let n = 0;
    for (; !segments.full; n++) segments.append(chain, 2 * n, 2 * n + 1);
    expect(n).toBe(8_192);
    segments.empty();
    expect(segments.full).toBe(false);
  });
});

describe('hosts', () => {
  const address = fc.oneof(
    fc.integer().map((word) => new Endpoint().setV4(word, 0)),
    fc
      .array(fc.integer(), { minLength: 4, maxLength: 4 })
      .map(([a0, a1, a2, a3]) => Object.assign(new Endpoint(), { family: 6, a0, a1, a2, a3 })),
  );

  it('come back as they went in, however many there are', () => {
    const hosts = new Hosts();
    const into = new Endpoint();
    fc.assert(
      fc.property(address, fc.integer({ min: 0, max: 65535 }), (at, port) => {
        for (let again = 0; again < 2; again++) {
          expect(hosts.text(at)).toBe(at.host);
          expect(hosts.parse(at.host, port, into)).toBe(true);
          expect(into.sameAddress(at) && into.port === port && into.family === at.family).toBe(true);
        }
      }),
      { numRuns: 6_000 },
    );
  });

  it('lose an IPv6 zone, and refuse names', () => {
    const hosts = new Hosts();
    const into = new Endpoint();
    expect(hosts.parse('fe80::1%eth0', 5060, into)).toBe(true);
    expect(`${into}`).toBe('[fe80::1]:5060');
    expect(hosts.parse('localhost', 5060, into)).toBe(false);
  });
});
