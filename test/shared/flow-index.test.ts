import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FlowIndex } from '../../src/shared/flow-index.ts';
import { FlowTable, OPEN, PROVISIONAL } from '../../src/shared/flow-table.ts';

interface Key {
  listener: number;
  remote: [number, number, number, number];
  port: number;
  local: [number, number, number, number];
}

function make(capacity: number, indexFor = capacity, seed = 1) {
  const table = new FlowTable(FlowTable.allocate(capacity));
  const index = new FlowIndex(FlowIndex.allocate(indexFor, seed, ~seed), table);
  const open = (key: Key): number => {
    const slot = table.claim(1);
    table.setListener(slot, key.listener);
    table.setRemote(slot, ...key.remote, key.port);
    table.setLocal(slot, ...key.local, 5060);
    table.publish(slot, OPEN);
    return slot;
  };
  const find = (key: Key) => index.lookup(key.listener, ...key.remote, key.port, ...key.local);
  const end = (slot: number) => {
    table.close(slot, table.generation(slot));
    const removed = index.remove(slot);
    table.release(slot, table.generation(slot), 1);
    return removed;
  };
  return { table, index, open, find, end };
}

const key = (n: number): Key => ({
  listener: 1,
  remote: [0, 0, 0xffff, n],
  port: 5060,
  local: [0, 0, 0xffff, 1],
});

describe('flow index', () => {
  it('tells flows apart by every part of the key', () => {
    const { index, open, find } = make(20);
    const base: Key = { listener: 1, remote: [1, 2, 3, 4], port: 5, local: [6, 7, 8, 9] };
    const keys: Key[] = [base, { ...base, listener: 2 }, { ...base, port: 6 }];
    for (let i = 0; i < 4; i++) {
      const remote: Key['remote'] = [...base.remote];
      remote[i] ^= 1 << 31;
      const local: Key['local'] = [...base.local];
      local[i] ^= 1;
      keys.push({ ...base, remote }, { ...base, local });
    }
    const slots = keys.map(open);
    for (const slot of slots) expect(index.insert(slot)).toBe(slot);
    expect(keys.map(find)).toEqual(slots);
    expect(find({ ...base, port: 7 })).toBe(-1);
  });

  it('never takes another address for the one it has, whatever the hash says', () => {
    const { index, open, find } = make(1);
    const base: Key = { listener: 1, remote: [1, 2, 3, 4], port: 5, local: [6, 7, 8, 9] };
    index.insert(open(base));
    // enough of each to meet the same bucket and the same fingerprint a few times
    for (let n = 10; n < 4000; n++) {
      expect(find({ ...base, listener: n })).toBe(-1);
      expect(find({ ...base, port: n })).toBe(-1);
      for (let i = 0; i < 4; i++) {
        const word = (of: Key['remote']) => of.with(i, n) as Key['remote'];
        expect(find({ ...base, remote: word(base.remote) })).toBe(-1);
        expect(find({ ...base, local: word(base.local) })).toBe(-1);
      }
    }
  });

  it('finds with addresses as with words, and says which life it found', () => {
    const { table, index, open, end } = make(1);
    const remote = { family: 4, port: 5060, a0: 0, a1: 0, a2: 0xffff, a3: 3 };
    const local = { family: 4, port: 1, a0: 0, a1: 0, a2: 0xffff, a3: 1 };
    for (let life = 1; life < 4; life++) {
      const slot = open(key(3));
      index.insert(slot);
      expect([index.find(1, remote, local), index.generation]).toEqual([slot, life]);
      expect(table.isLive(slot, index.generation)).toBe(true);
      end(slot);
      expect(index.find(1, remote, local)).toBe(-1);
    }
  });

  it('gives an address that is taken to the flow that has it', () => {
    const { index, open, find, end } = make(4);
    const first = open(key(1));
    const second = open(key(1));
    expect([index.insert(first), index.insert(first), index.insert(second)]).toEqual([first, first, first]);
    expect([index.entries(), end(second), find(key(1))]).toEqual([1, false, first]);
    expect([end(first), find(key(1)), index.entries()]).toEqual([true, -1, 0]);
  });

  it('takes the entry of a provisional flow out when its slot is taken over', () => {
    const table = new FlowTable(FlowTable.allocate(1));
    const index = new FlowIndex(FlowIndex.allocate(1, 1, 2), table);
    const slot = table.claim(1);
    table.setRemote(slot, 0, 0, 0xffff, 1, 5060);
    table.publish(slot, PROVISIONAL);
    index.insert(slot);
    expect([index.reclaim(2), index.entries(), table.remotePort(slot)]).toEqual([slot, 0, 0]);
    expect(index.reclaim(2)).toBe(-1);
  });

  it('is a map of addresses to live flows, in the smallest index as in a roomy one', () => {
    const step = fc.record({
      op: fc.constantFrom('open', 'open', 'open', 'open', 'open', 'end', 'die', 'sweep'),
      n: fc.nat(90),
    });
    fc.assert(
      // 4 buckets of 15 for 100 slots: chains overflow and fill up
      fc.property(
        fc.constantFrom(15, 100),
        fc.integer(),
        fc.array(step, { minLength: 50, maxLength: 300 }),
        (room, seed, steps) => {
          const { table, index, open, find, end } = make(100, room, seed);
          const model = new Map<number, number>();
          let entries = 0;
          for (const { op, n } of steps) {
            const slot = model.get(n);
            if (op === 'open' && slot === undefined) {
              const fresh = open(key(n));
              const entered = index.insert(fresh);
              if (entered === -1) {
                expect(entries, 'refused with room to spare').toBe(60);
                table.release(fresh, table.generation(fresh), 1);
              } else {
                expect(entered).toBe(fresh);
                model.set(n, fresh);
                entries++;
              }
            } else if (op === 'open' && slot !== undefined) {
              const rival = open(key(n));
              expect(index.insert(rival)).toBe(slot);
              table.release(rival, table.generation(rival), 1);
            } else if (op === 'end' && slot !== undefined) {
              expect(end(slot)).toBe(true);
              model.delete(n);
              entries--;
            } else if (op === 'die' && slot !== undefined) {
              table.release(slot, table.generation(slot), 1);
              model.delete(n);
            } else if (op === 'sweep') {
              expect(index.sweepStale()).toBeLessThanOrEqual(entries - model.size);
              entries = model.size;
            }
            entries = index.entries();
          }
          for (let n = 0; n <= 90; n++) expect(find(key(n))).toBe(model.get(n) ?? -1);
          index.sweepStale();
          expect(index.entries()).toBe(model.size);
          for (let n = 0; n <= 90; n++) expect(find(key(n))).toBe(model.get(n) ?? -1);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('holds a full table in a quarter of its room, evenly, for a client that counts its ports up', () => {
    const { table, index, open, find } = make(2000);
    const slots: number[] = [];
    for (let port = 0; port < 2000; port++) slots.push(open({ ...key(1), port: 10_000 + port }));
    for (const slot of slots) expect(index.insert(slot)).toBe(slot);
    expect([table.used(), index.entries()]).toEqual([2000, 2000]);
    expect(slots.every((slot, port) => find({ ...key(1), port: 10_000 + port }) === slot)).toBe(true);
  });

  it('spreads the same addresses otherwise under another seed', () => {
    const order = (seed: number) => {
      const descriptor = FlowIndex.allocate(15, seed, 7);
      const table = new FlowTable(FlowTable.allocate(15));
      const index = new FlowIndex(descriptor, table);
      for (let n = 0; n < 15; n++) {
        const slot = table.claim(1);
        table.setRemote(slot, 0, 0, 0, n, 1);
        table.publish(slot, OPEN);
        index.insert(slot);
      }
      return Array.from(new Int32Array(descriptor.buffer).subarray(16), (entry) => entry & 0xffffff).join();
    };
    expect(order(1)).toBe(order(1));
    expect(order(1)).not.toBe(order(2));
  });

  it('hashes as HalfSipHash-1-3 does', () => {
    // place and fingerprint of one key, from an implementation written apart from the one under test
    const rotl = (x: number, n: number) => (x << n) | (x >>> (32 - n));
    const reference = (words: number[], k0: number, k1: number) => {
      const v = [k0, k1, 0x6c796765 ^ k0, 0x74656462 ^ k1];
      const round = () => {
        v[0] = (v[0] + v[1]) | 0;
        v[1] = rotl(v[1], 5) ^ v[0];
        v[0] = rotl(v[0], 16);
        v[2] = (v[2] + v[3]) | 0;
        v[3] = rotl(v[3], 8) ^ v[2];
        v[0] = (v[0] + v[3]) | 0;
        v[3] = rotl(v[3], 7) ^ v[0];
        v[2] = (v[2] + v[1]) | 0;
        v[1] = rotl(v[1], 13) ^ v[2];
        v[2] = rotl(v[2], 16);
      };
      for (const word of [...words, (words.length * 4) << 24]) {
        v[3] ^= word;
        round();
        v[0] ^= word;
      }
      v[2] ^= 0xff;
      for (let i = 0; i < 3; i++) round();
      return v[1] ^ v[3];
    };
    const place = (remote: Key['remote'], local: Key['local']) => {
      const descriptor = FlowIndex.allocate(1000, 0x01020304, -5);
      const table = new FlowTable(FlowTable.allocate(1));
      const slot = table.claim(1);
      table.setListener(slot, 2);
      table.setRemote(slot, ...remote, 5060);
      table.setLocal(slot, ...local, 5061);
      table.publish(slot, OPEN);
      new FlowIndex(descriptor, table).insert(slot);
      const words = new Int32Array(descriptor.buffer);
      const at = words.indexOf(words.subarray(16).find((word) => word !== 0) ?? 0, 16);
      return { at, entry: words[at], mask: descriptor.buckets - 1 };
    };
    for (const [remote, local, words] of [
      [
        [11, 12, 13, -14],
        [21, 22, 23, 24],
        [11, 12, 13, -14, 21, 22, 23, 24],
      ],
      [
        [0, 0, 0xffff, 11],
        [0, 0, 0, 1],
        [0, 0, 0xffff, 11, 0, 0, 0, 1],
      ],
      [
        [0, 0, 0xffff, -11],
        [0, 0, 0xffff, 24],
        [-11, 24],
      ],
    ] as [Key['remote'], Key['local'], number[]][]) {
      const hash = reference([(2 << 16) | 5060, ...words], 0x01020304, -5);
      const { at, entry, mask } = place(remote, local);
      expect([at, entry]).toEqual([(1 + (hash & mask)) * 16 + 1, (hash & (-1 << 25)) | 1]);
    }
  });
});
