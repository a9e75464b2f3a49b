import { describe, expect, it } from 'vitest';
import { CLAIMED, CLOSING, FlowTable, FREE, OPEN, PROVISIONAL } from '../../src/shared/flow-table.ts';
import { atStep } from './steps.ts';

const A = 1;
const B = 2;

function open(table: FlowTable, owner: number, state: 2 | 3 = OPEN): [slot: number, generation: number] {
  const slot = table.claim(owner);
  table.publish(slot, state);
  return [slot, table.generation(slot)];
}

describe('flow table', () => {
  it.each([1, 31, 32, 33, 1023, 1024, 1025, 3000])(
    'gives out each of its %i slots once, and then none',
    (capacity) => {
      const table = new FlowTable(FlowTable.allocate(capacity));
      const slots = new Set<number>();
      for (let slot = table.claim(A); slot >= 0; slot = table.claim(A)) slots.add(slot);
      expect(slots.size).toBe(capacity);
      expect(Math.max(...slots)).toBe(capacity - 1);
      expect([table.used(), table.owned(A), table.claim(B)]).toEqual([capacity, capacity, -1]);
      const [one] = slots;
      table.abandon(one, 1);
      expect([table.claim(B), table.claim(B)]).toEqual([one, -1]);
    },
  );

  it('knows a stale id at once, and ends a life once only', () => {
    const table = new FlowTable(FlowTable.allocate(1));
    for (let life = 1; life < 50; life++) {
      const [slot, generation] = open(table, A);
      expect(generation).toBe(life);
      expect([table.isLive(slot, generation), table.isLive(slot, generation - 1)]).toEqual([true, false]);
      expect(table.release(slot, generation - 1, 1)).toBe(false);
      table.setFd(slot, 7);
      expect(table.release(slot, generation, 9)).toBe(true);
      expect([table.isLive(slot, generation), table.release(slot, generation, 1)]).toEqual([false, false]);
      expect([table.state(slot), table.cause(slot), table.fd(slot)]).toEqual([FREE, 9, -1]);
    }
  });

  it('answers for any number that the network may name', () => {
    const table = new FlowTable(FlowTable.allocate(4));
    for (const slot of [-1, 4, 0x7fffffff, -0x80000000]) expect(table.isLive(slot, 0)).toBe(false);
    for (const generation of [0, -1, 1, 2 ** 31]) expect(table.isLive(0, generation)).toBe(false);
  });

  it('shows a flow neither before it is published nor after it began to close', () => {
    const table = new FlowTable(FlowTable.allocate(4));
    const slot = table.claim(A);
    const generation = table.generation(slot);
    expect([table.state(slot), table.isLive(slot, generation)]).toEqual([CLAIMED, false]);
    table.publish(slot, OPEN);
    expect([table.close(slot, generation), table.close(slot, generation)]).toEqual([true, false]);
    expect([table.state(slot), table.isLive(slot, generation)]).toEqual([CLOSING, false]);
    expect(table.confirm(slot, generation)).toBe(false);
  });

  it('does not free under a stale name a slot that another is filling', () => {
    const table = new FlowTable(FlowTable.allocate(1));
    const [slot, generation] = open(table, A, PROVISIONAL);
    expect(table.reclaimProvisional(B)).toBe(slot);
    expect(table.release(slot, generation, 1)).toBe(false);
    expect(table.release(slot, table.generation(slot), 1)).toBe(false);
    expect(table.state(slot)).toBe(CLAIMED);
  });

  it('starts the generations again at 1, never at 0', () => {
    const descriptor = FlowTable.allocate(1);
    const table = new FlowTable(descriptor);
    const [slot, first] = open(table, A);
    expect(first).toBe(1);
    new Int32Array(descriptor.buffer)[0] = -8 | OPEN;
    expect(table.release(slot, 0x1fffffff, 1)).toBe(true);
    expect(open(table, A)).toEqual([slot, 1]);
  });

  it('reuses provisional flows oldest first, and confirmed ones never', () => {
    const table = new FlowTable(FlowTable.allocate(10));
    const flows = Array.from({ length: 10 }, () => open(table, A, PROVISIONAL));
    for (const i of [0, 3, 4]) expect(table.confirm(...flows[i])).toBe(true);
    expect(table.release(...flows[1], 1)).toBe(true);
    const again = open(table, A, PROVISIONAL);
    expect(again).toEqual([flows[1][0], 2]);
    const order = [2, 5, 6, 7, 8, 9].map((i) => flows[i][0]);
    for (const slot of [...order, again[0]]) {
      expect(table.reclaimProvisional(B)).toBe(slot);
      table.publish(slot, OPEN);
    }
    expect(table.reclaimProvisional(B)).toBe(-1);
    expect([table.owned(A), table.owned(B)]).toEqual([3, 7]);
    for (const [slot, generation] of [flows[2], flows[9]])
      expect(table.confirm(slot, generation)).toBe(false);
    for (const i of [0, 3, 4])
      expect([table.isLive(...flows[i]), table.confirm(...flows[i])]).toEqual([true, true]);
  });

  it('goes on reusing the oldest after the queue has gone round many times', () => {
    const table = new FlowTable(FlowTable.allocate(8));
    // 16 places in the queue: most of what goes through it ends by itself
    for (let i = 0; i < 1000; i++) {
      const first = open(table, A, PROVISIONAL);
      const second = open(table, A, PROVISIONAL);
      const third = open(table, A, PROVISIONAL);
      if (i % 3 === 0) table.confirm(...second);
      expect(table.reclaimProvisional(B)).toBe(first[0]);
      table.abandon(first[0], 1);
      expect(table.release(...second, 1)).toBe(true);
      expect(table.reclaimProvisional(B)).toBe(third[0]);
      table.abandon(third[0], 1);
      expect(table.reclaimProvisional(B)).toBe(-1);
    }
    expect([table.used(), table.owned(A), table.owned(B)]).toEqual([0, 0, 0]);
  });

  it('need not look through all the provisional flows that have ended to find the oldest that lives', () => {
    const table = new FlowTable(FlowTable.allocate(2000));
    for (let i = 0; i < 1000; i++) table.release(...open(table, A, PROVISIONAL), 1);
    const [slot] = open(table, A, PROVISIONAL);
    let taken = -1;
    const places = atStep(
      -1,
      () => {},
      () => {
        taken = table.reclaimProvisional(B);
      },
    );
    expect(taken).toBe(slot);
    expect(places).toBeLessThan(100);
  });

  it('shows a dead shard everything it had, gives back what it only claimed, and keeps what the visitor keeps', () => {
    const table = new FlowTable(FlowTable.allocate(40));
    const kept = open(table, A);
    const ended = open(table, A, PROVISIONAL);
    const closing = open(table, A);
    table.close(...closing);
    const claimed = table.claim(A);
    const others = open(table, B);
    const seen: [number, number][] = [];
    const shown = table.sweep(A, (slot, state, generation) => {
      seen.push([slot, state]);
      if (slot !== kept[0]) table.release(slot, generation, 12);
    });
    expect(shown).toBe(4);
    expect(seen.sort(([a], [b]) => a - b)).toEqual(
      [
        [kept[0], OPEN],
        [ended[0], PROVISIONAL],
        [closing[0], CLOSING],
        [claimed, CLAIMED],
      ].sort(([a], [b]) => a - b),
    );
    expect([table.used(), table.owned(A), table.owned(B)]).toEqual([2, 1, 1]);
    expect([table.isLive(...kept), table.isLive(...others), table.state(claimed)]).toEqual([
      true,
      true,
      FREE,
    ]);
  });

  it('is refused a size that its words cannot name', () => {
    for (const size of [0, -1, 1.5, 2 ** 24, Number.NaN])
      expect(() => FlowTable.allocate(size)).toThrow(RangeError);
  });
});
