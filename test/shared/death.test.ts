/**
 * A thread dies at every step of every call, one after the other. Whatever it leaves, the others go on, and the
 * supervisor's sweep puts it right.
 */
import { describe, expect, it } from 'vitest';
import { FlowIndex } from '../../src/shared/flow-index.ts';
import { CLAIMED, FlowTable, FREE, OPEN, PROVISIONAL } from '../../src/shared/flow-table.ts';
import { Mesh } from '../../src/shared/mesh.ts';
import { dies } from './steps.ts';

const CAPACITY = 40;
const DEAD = 1;
const LIVING = 2;

function fixture() {
  const table = FlowTable.allocate(CAPACITY);
  const index = FlowIndex.allocate(CAPACITY, 5, 6);
  const attach = () => {
    const flows = new FlowTable(table);
    return { flows, entries: new FlowIndex(index, flows) };
  };
  return { doomed: attach(), living: attach(), main: attach() };
}
type Side = ReturnType<typeof fixture>['doomed'];

function make({ flows, entries }: Side, owner: number, key: number, state: 2 | 3): number {
  const slot = flows.claim(owner);
  if (slot < 0) return -1;
  flows.setRemote(slot, 0, 0, 0xffff, key, 5060);
  flows.publish(slot, state);
  entries.insert(slot);
  return slot;
}

function end({ flows, entries }: Side, slot: number): void {
  const generation = flows.generation(slot);
  flows.close(slot, generation);
  entries.remove(slot);
  flows.release(slot, generation, 1);
}

const find = ({ entries }: Side, key: number) => entries.lookup(0, 0, 0, 0xffff, key, 5060, 0, 0, 0, 0);

const acts: [string, before: (living: Side) => void, act: (doomed: Side) => void][] = [
  ['making a flow', () => {}, (side) => make(side, DEAD, 7, OPEN)],
  ['making a provisional flow', () => {}, (side) => make(side, DEAD, 7, PROVISIONAL)],
  ['ending a flow', () => {}, (side) => end(side, make(side, DEAD, 7, OPEN))],
  ['giving up a flow that it had claimed', () => {}, (side) => side.flows.abandon(side.flows.claim(DEAD), 1)],
  [
    'confirming a flow',
    () => {},
    (side) => {
      const slot = make(side, DEAD, 7, PROVISIONAL);
      side.flows.confirm(slot, side.flows.generation(slot));
    },
  ],
  [
    'taking over the oldest provisional flow of another',
    (living) => make(living, LIVING, 7, PROVISIONAL),
    (side) => side.flows.publish(side.entries.reclaim(DEAD), OPEN),
  ],
  [
    'being refused by a full table',
    () => {},
    (side) => {
      for (let key = 100; make(side, DEAD, key, OPEN) >= 0; key++);
    },
  ],
];

describe.each(acts)('a thread that dies while %s', (_name, before, act) => {
  it('leaves a table that others use at once and that a sweep brings back to the truth', () => {
    let steps = 0;
    // every place of a short call, every seventh of a long one
    for (let n = 0; ; n += n < 200 ? 1 : 7) {
      const { doomed, living, main } = fixture();
      const bystander = make(living, LIVING, 5, OPEN);
      before(living);
      const died = dies(n, () => act(doomed));
      if (!died) break;
      steps++;

      // before any sweep
      expect(find(living, 5), `step ${n}`).toBe(bystander);
      const seen = find(living, 7);
      if (seen >= 0)
        expect([living.flows.remote(seen, 3), living.flows.isLive(seen, living.entries.generation)]).toEqual([
          7,
          true,
        ]);
      const more: number[] = [];
      for (let key = 1000; ; key++) {
        const slot = make(living, LIVING, key, OPEN);
        if (slot < 0) break;
        expect(more.includes(slot)).toBe(false);
        more.push(slot);
        expect(find(living, key), `step ${n}`).toBe(slot);
      }
      for (const slot of more) end(living, slot);

      main.flows.sweep(DEAD, (slot, state, generation) => {
        expect(state).not.toBe(FREE);
        expect(main.flows.release(slot, generation, 12)).toBe(state !== CLAIMED);
      });
      main.entries.sweepStale();
      expect(find(living, 5), `step ${n}`).toBe(bystander);
      const alive = [bystander, find(living, 7)].filter((slot) => slot >= 0).length;
      expect([main.flows.used(), main.entries.entries()], `after step ${n}`).toEqual([alive, alive]);
      expect(main.flows.owned(DEAD)).toBe(0);

      // every slot can be had again, under a generation it never had
      const generations = new Map<number, number>();
      for (let slot = 0; slot < CAPACITY; slot++) generations.set(slot, main.flows.generation(slot));
      let claimed = 0;
      for (let slot = living.flows.claim(LIVING); slot >= 0; slot = living.flows.claim(LIVING)) {
        claimed++;
        expect(living.flows.generation(slot), `step ${n}`).toBeGreaterThanOrEqual(generations.get(slot) ?? 0);
      }
      expect(claimed, `after step ${n}`).toBe(CAPACITY - alive);
    }
    expect(steps).toBeGreaterThan(10);
  });
});

describe('a thread that dies with messages under way', () => {
  it('shows its peer whole messages only, and its replacement none that it may have died of', () => {
    const bytes = new Uint8Array(100).fill(9);
    for (let n = 0; n < 24; n++) {
      const descriptor = Mesh.allocate(2, 1024);
      const sender = new Mesh(descriptor, 0);
      const receiver = new Mesh(descriptor, 1);
      dies(n, () => {
        for (let i = 0; i < 4; i++) sender.send(1, i, 2, bytes, 0, 100);
      });
      const types: number[] = [];
      const lengths: number[] = [];
      const died = dies(n, () => {
        receiver.receive((_from, type, ring) => {
          types.push(type);
          lengths.push(ring.payloadLength);
        }, 10);
      });
      expect(types).toEqual(types.map((_, i) => i));
      expect(lengths.every((length) => length === 100)).toBe(true);
      const waiting = Mesh.discardFor(descriptor, 1);
      if (!died) expect(waiting).toBe(0);
      const replacement = new Mesh(descriptor, 1);
      expect(replacement.receive(() => expect.unreachable(), 10)).toBe(0);
      expect(new Mesh(descriptor, 0).send(1, 99, 0)).toBe(true);
      expect(replacement.receive((_from, type) => expect(type).toBe(99), 10)).toBe(1);
    }
  });
});
