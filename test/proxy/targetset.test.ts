import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Endpoint } from '../../src/net/endpoint.ts';
import { MAX_TARGETS, type Target } from '../../src/net/targets.ts';
import { NO_TARGET, TARGET_LIMITS, TargetSet } from '../../src/proxy/targetset.ts';
import { TCP, UDP } from '../../src/wire/via.ts';

const target = (last: number, priority = 0, weight = 1, transport = UDP): Target => ({
  transport,
  host: `s${last}.example`,
  address: Endpoint.parse(`192.0.2.${last}`, 5060) as Endpoint,
  priority,
  weight,
});

function setOf(targets: Target[], limits = {}): TargetSet {
  const set = new TargetSet(limits);
  set.replace(targets, 0);
  return set;
}

const name = (set: TargetSet, slot: number) => set.at(slot)?.host.replace('.example', '');

/** A hash per request, spread over all 32 bits. */
const hashes = Array.from({ length: 4_000 }, (_, i) => Math.imul(i + 1, 0x9e3779b1));

describe('the first target', () => {
  it('is the first of the list, and after its failure the next: each is tried once [3263-4.3-01]', () => {
    const set = setOf([target(1), target(2), target(3, 10)]);
    let tried = 0;
    const order: (string | undefined)[] = [];
    for (let slot = set.first(0); slot !== NO_TARGET; slot = set.first(0, tried)) {
      order.push(name(set, slot));
      tried |= 1 << slot;
      set.failed(slot, 0);
    }
    expect(order).toEqual(['s1', 's2', 's3']);
  });

  it('of an empty list is none', () => {
    const set = new TargetSet();
    expect([set.first(0), set.choose(1, 0), set.alive(0), set.count]).toEqual([NO_TARGET, NO_TARGET, 0, 0]);
  });
});

describe('a choice by hash', () => {
  it('spreads the requests in the proportion of the weights [3263-4.3-03]', () => {
    const set = setOf([target(1, 0, 1), target(2, 0, 3)]);
    const heavy = hashes.filter((hash) => name(set, set.choose(hash, 0)) === 's2').length;
    expect(heavy / hashes.length).toBeGreaterThan(0.7);
    expect(heavy / hashes.length).toBeLessThan(0.8);
  });

  it('is the same on another shard, and after a refresh in another order', () => {
    const list = [target(1), target(2), target(3), target(4)];
    const one = setOf(list);
    const other = setOf(list.toReversed());
    one.replace(
      list.toSorted(() => -1),
      5,
    );
    for (const hash of hashes)
      expect(name(one, one.choose(hash, 9))).toBe(name(other, other.choose(hash, 9)));
  });

  it('moves only what was on a target that died, and brings it back', () => {
    const set = setOf([target(1), target(2), target(3)]);
    const before = hashes.map((hash) => set.choose(hash, 0));
    expect(new Set(before).size).toBe(3);
    set.failed(1, 0);
    const during = hashes.map((hash) => set.choose(hash, 0));
    expect(during).not.toContain(1);
    expect(during.filter((slot, i) => before[i] !== 1 && slot !== before[i])).toEqual([]);
    set.succeeded(1, 1);
    expect(hashes.map((hash) => set.choose(hash, 1))).toEqual(before);
  });

  it('leaves the lowest priority only when all of it is dead or tried [3263-4.3-03]', () => {
    const set = setOf([target(3, 20, 100), target(1, 10), target(2, 10)]);
    for (const hash of hashes) expect(name(set, set.choose(hash, 0))).not.toBe('s3');
    const tried = [1, 2].reduce((bits, slot) => bits | (1 << slot), 0);
    expect(name(set, set.choose(7, 0, tried))).toBe('s3');
    set.failed(1, 0);
    set.failed(2, 0);
    for (const hash of hashes) expect(name(set, set.choose(hash, 0))).toBe('s3');
  });

  it('gives weight 0 nothing beside weights, and the list’s order among its like', () => {
    const set = setOf([target(1, 0, 0), target(2, 0, 0), target(3, 0, 1)]);
    for (const hash of hashes) expect(name(set, set.choose(hash, 0))).toBe('s3');
    set.failed(2, 0);
    for (const hash of hashes) expect(name(set, set.choose(hash, 0))).toBe('s1');
  });

  it('never repeats what was tried, and gives every target once', () => {
    fc.assert(
      fc.property(fc.integer(), fc.array(fc.nat(3), { minLength: 1, maxLength: 16 }), (hash, priorities) => {
        const set = setOf(priorities.map((priority, i) => target(i + 1, priority, i % 3)));
        let tried = 0;
        const order: number[] = [];
        for (let slot = set.choose(hash, 0); slot !== NO_TARGET; slot = set.choose(hash, 0, tried)) {
          expect((tried >>> slot) & 1).toBe(0);
          tried |= 1 << slot;
          order.push(set.at(slot)?.priority as number);
        }
        expect(order).toEqual(priorities.toSorted((a, b) => a - b));
      }),
    );
  });
});

describe('a dead target', () => {
  it('is left out for a second, then twice as long each time, a minute at most', () => {
    const set = setOf([target(1), target(2)]);
    let now = 0;
    const waits: number[] = [];
    for (let i = 0; i < 9; i++) {
      set.failed(0, now);
      const died = now;
      while (!set.isAlive(0, now)) now += 250;
      waits.push(now - died);
      expect(name(set, set.first(now - 1))).toBe('s2');
      expect(name(set, set.first(now))).toBe('s1');
    }
    expect(waits).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60].map((s) => s * 1000));
    set.succeeded(0, now);
    set.failed(0, now);
    expect(set.isAlive(0, now + 999)).toBe(false);
    expect(set.isAlive(0, now + 1000)).toBe(true);
  });

  it('does not stay dead longer because many requests failed together', () => {
    const set = setOf([target(1), target(2)]);
    for (let i = 0; i < 100; i++) set.failed(0, i);
    expect(set.isAlive(0, 1000)).toBe(true);
    set.failed(0, 1000);
    expect(set.isAlive(0, 2999)).toBe(false);
    expect(set.isAlive(0, 3000)).toBe(true);
  });

  it('is still given when all are dead, the one that returns first; none is alive then', () => {
    const set = setOf([target(1), target(2)]);
    set.failed(0, 500);
    set.failed(1, 100);
    expect(set.alive(600)).toBe(0);
    expect(name(set, set.first(600))).toBe('s2');
    expect(name(set, set.choose(3, 600))).toBe('s2');
    expect(name(set, set.choose(3, 600, 0b10))).toBe('s1');
    expect(set.choose(3, 600, 0b11)).toBe(NO_TARGET);
  });
});

describe('a new list', () => {
  it('keeps slot and state of those that stay, and gives the slots of others away', () => {
    const set = setOf([target(1), target(2), target(3)]);
    set.failed(1, 0);
    set.replace([target(4), target(3), target(2)], 10);
    expect([0, 1, 2].map((slot) => name(set, slot))).toEqual(['s4', 's2', 's3']);
    expect(set.isAlive(1, 10)).toBe(false);
    expect(name(set, set.first(10))).toBe('s4');
    expect(name(set, set.first(10, 0b1))).toBe('s3');
    set.replace([target(3)], 20);
    set.replace([target(3), target(2)], 30);
    expect(set.isAlive(0, 30)).toBe(true); // gone and come again: nothing is known of it
  });

  it('tells apart transports of one address, takes no target twice and no more than sixteen', () => {
    const set = setOf([target(1), target(1, 0, 1, TCP), target(1)]);
    expect(set.count).toBe(2);
    set.replace(
      Array.from({ length: 20 }, (_, i) => target(i + 1)),
      0,
    );
    expect(set.count).toBe(MAX_TARGETS);
    set.replace(
      Array.from({ length: 16 }, (_, i) => target(i + 101)),
      0,
    );
    expect(set.count).toBe(MAX_TARGETS);
    expect(name(set, set.first(0))).toBe('s101');
    set.replace([], 0);
    expect(set.choose(1, 0)).toBe(NO_TARGET);
  });

  it('takes over changed weights and priorities', () => {
    const set = setOf([target(1, 0), target(2, 10)]);
    set.replace([target(2, 0), target(1, 10)], 0);
    for (const hash of hashes) expect(name(set, set.choose(hash, 0))).toBe('s2');
  });
});

describe('probes', () => {
  const limits = { probeInterval: 10_000 };
  const due = (set: TargetSet, now: number) => {
    const slots = new Uint8Array(MAX_TARGETS);
    return [...slots.subarray(0, set.dueProbes(now, slots))];
  };

  it('go out once an interval to each target, the first ones spread over it', () => {
    const set = setOf([target(1), target(2)], limits);
    expect(due(set, 0)).toEqual([0]);
    expect(due(set, 0)).toEqual([]);
    expect(set.nextProbe()).toBe(625);
    expect(due(set, 625)).toEqual([1]);
    expect(set.nextProbe()).toBe(10_000);
    expect(due(set, 10_000)).toEqual([0]);
  });

  it('do not exist without an interval', () => {
    const set = setOf([target(1)]);
    expect(due(set, 1e9)).toEqual([]);
    expect(set.nextProbe()).toBe(Infinity);
    expect(TARGET_LIMITS.probeInterval).toBe(0);
  });

  it('kill after two in a row without an answer, not after one', () => {
    const set = setOf([target(1)], limits);
    set.probed(0, false, 0);
    expect(set.isAlive(0, 0)).toBe(true);
    set.probed(0, true, 10_000);
    set.probed(0, false, 20_000);
    expect(set.isAlive(0, 20_000)).toBe(true);
    set.probed(0, false, 30_000);
    expect(set.isAlive(0, 30_000)).toBe(false);
  });

  it('alone revive: after two answers in a row, however long it was dead', () => {
    const set = setOf([target(1), target(2)], limits);
    set.failed(0, 0);
    expect(set.isAlive(0, 3_600_000)).toBe(false);
    set.probed(0, true, 1_000);
    set.probed(0, false, 2_000);
    set.probed(0, true, 4_000);
    expect(set.isAlive(0, 4_000)).toBe(false);
    expect(set.nextProbe()).toBe(625); // of the other one
    due(set, 5_000);
    expect(set.nextProbe()).toBeLessThanOrEqual(5_000 + TARGET_LIMITS.backoffMin * 4);
    set.probed(0, true, 5_000);
    expect(set.isAlive(0, 5_000)).toBe(true);
    expect(set.alive(5_000)).toBe(2);
  });

  it('go to a dead target by the back-off, and no slower than to a live one', () => {
    const set = setOf([target(1)], limits);
    set.failed(0, 0);
    const sent: number[] = [];
    for (let now = 0; now < 60_000; now += 500)
      for (const slot of due(set, now)) {
        sent.push(now);
        set.probed(slot, false, now);
      }
    expect(sent).toEqual([1, 3, 7, 15, 25, 35, 45, 55].map((s) => s * 1000));
  });

  it('are not needed where a request was answered', () => {
    const set = setOf([target(1)], limits);
    set.failed(0, 0);
    set.succeeded(0, 100);
    expect(set.isAlive(0, 100)).toBe(true);
    expect(set.nextProbe()).toBe(10_100);
  });
});

it('a report about a slot that is empty by now changes nothing', () => {
  const set = setOf([target(1)]);
  set.replace([], 0);
  set.failed(0, 0);
  set.succeeded(0, 0);
  set.probed(0, false, 0);
  set.replace([target(2)], 0);
  expect(set.isAlive(0, 0)).toBe(true);
});
