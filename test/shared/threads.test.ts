import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { FlowIndex } from '../../src/shared/flow-index.ts';
import { FlowTable } from '../../src/shared/flow-table.ts';
import { Mesh } from '../../src/shared/mesh.ts';
import { PAUSE, PAUSED, ROUNDS_DONE, random, run, STOP } from './threads.ts';

describe('two threads and a ring', () => {
  it('passes every message whole and in order while each side waits for the other', async () => {
    const mesh = Mesh.allocate(2, 4096);
    const work = { mesh, messages: 30_000, seed: 4711 };
    const faults = await Promise.all([
      run({ task: 'produce', ...work }).faults,
      run({ task: 'consume', ...work }).faults,
    ]);
    expect(faults.flat()).toEqual([]);
    expect(new Mesh(mesh, 0).refused, 'the producer was never held up').toBeGreaterThan(0);
  });
});

describe('a thread that sleeps', () => {
  it.each(['pong', 'pongAsync'] as const)('is woken by every message (%s)', async (task) => {
    const mesh = Mesh.allocate(2, 256);
    const rounds = task === 'pong' ? 30_000 : 8_000;
    const faults = await Promise.all([
      run({ task: 'ping', mesh, rounds }).faults,
      run({ task, mesh, rounds }).faults,
    ]);
    expect(faults.flat()).toEqual([]);
  });
});

describe('a thread that goes to sleep just when a message comes', () => {
  it('sees the message or is seen asleep', async () => {
    const memory = new SharedArrayBuffer(512);
    const faults = await Promise.all(
      (['tellers', 'sleepers'] as const).map((task) => run({ task, memory, rounds: 15_000 }).faults),
    );
    expect(faults.flat()).toEqual([]);
  });
});

describe('two threads and the flow table', () => {
  it.each([3, 70])(
    'never gives a slot to both, nor a generation twice, nor shows a reader half of a life (%i slots)',
    async (slots) => {
      // few enough that it is full much of the time
      const table = FlowTable.allocate(slots);
      const books = new SharedArrayBuffer(slots * 8);
      const faults = await Promise.all(
        [1, 2].map((owner) => run({ task: 'claims', owner, table, books, rounds: 300_000 }).faults),
      );
      expect(faults.flat()).toEqual([]);
      const after = new FlowTable(table);
      expect([after.used(), after.owned(1), after.owned(2)]).toEqual([0, 0, 0]);
      const lives = new Int32Array(books, slots * 4);
      expect(Math.min(...lives), 'a slot rested all the time').toBeGreaterThan(100);
    },
  );
});

describe('two threads and the flow index', () => {
  it('gives an address to one flow only, and finds it', async () => {
    const table = FlowTable.allocate(100);
    const index = FlowIndex.allocate(100, 1, 2);
    const books = new SharedArrayBuffer(5 * 4);
    const control = new SharedArrayBuffer(16);
    const faults = await Promise.all(
      [1, 2].map(
        (owner) =>
          run({ task: 'addresses', owner, table, index, keys: 5, books, rounds: 200_000, control }).faults,
      ),
    );
    expect(faults.flat()).toEqual([]);
    const flows = new FlowTable(table);
    expect(flows.used()).toBe(0);
    expect(new FlowIndex(index, flows).entries()).toBe(0);
  });
});

describe('a thread that is terminated in the middle of its work', () => {
  it('holds nobody up, misleads nobody, and leaves nothing that a sweep does not find', async () => {
    const seed = Date.now() & 0xffff;
    const next = random(seed);
    const table = FlowTable.allocate(40);
    const index = FlowIndex.allocate(40, 3, 4);
    const flows = new FlowTable(table);
    const entries = new FlowIndex(index, flows);
    const books = new SharedArrayBuffer(12 * 4);
    const control = new Int32Array(new SharedArrayBuffer(16));
    const shared = { task: 'addresses', table, index, keys: 12, books, rounds: 0 } as const;
    const survivor = run({ ...shared, owner: 2, control: control.buffer });
    let found = 0;
    for (let round = 0; round < 16; round++) {
      const doomedControl = new Int32Array(new SharedArrayBuffer(16));
      const doomed = run({ ...shared, owner: 1, control: doomedControl.buffer });
      while (Atomics.load(doomedControl, ROUNDS_DONE) < 5) await delay(1);
      await delay(next(6));
      await doomed.worker.terminate();

      const before = Atomics.load(control, ROUNDS_DONE);
      while (Atomics.load(control, ROUNDS_DONE) < before + 500) await delay(1);

      // half of the sweeps meet the survivor at work
      const atWork = round % 2 === 0;
      const pause = async () => {
        Atomics.store(control, PAUSE, 1);
        while (Atomics.load(control, PAUSED) === 0) await delay(1);
      };
      if (!atWork) await pause();
      found += flows.sweep(1, (slot, _state, generation) => flows.release(slot, generation, 12));
      if (atWork) await pause();
      entries.sweepStale();
      expect([flows.used(), entries.entries()], `round ${round}, seed ${seed}`).toEqual([0, 0]);
      if (!atWork) expect(flows.owned(1)).toBe(0);
      Atomics.store(control, PAUSE, 0);
      Atomics.notify(control, PAUSE);
    }
    Atomics.store(control, STOP, 1);
    expect(await survivor.faults).toEqual([]);
    expect(found, 'no thread died with a flow in its hands').toBeGreaterThan(0);
  });
});
