/**
 * What the threads of the tests in this folder do: one task each, named in workerData. A task answers with a list of
 * what it found wrong (empty when all held), or never, when it is terminated.
 */
import { parentPort, Worker, workerData } from 'node:worker_threads';
import { Doorbell } from '../../src/shared/doorbell.ts';
import { FlowIndex, type FlowIndexDescriptor } from '../../src/shared/flow-index.ts';
import { FlowTable, type FlowTableDescriptor, OPEN, PROVISIONAL } from '../../src/shared/flow-table.ts';
import { Mesh, type MeshDescriptor } from '../../src/shared/mesh.ts';
import type { Ring } from '../../src/shared/ring.ts';

export interface RingTask {
  task: 'produce' | 'consume';
  mesh: MeshDescriptor;
  messages: number;
  seed: number;
}
export interface PingTask {
  task: 'ping' | 'pong' | 'pongAsync';
  mesh: MeshDescriptor;
  rounds: number;
}
export interface TableTask {
  task: 'claims';
  owner: number;
  table: FlowTableDescriptor;
  /** per slot: who holds it now, the generation of its last holder */
  books: SharedArrayBuffer;
  rounds: number;
}
export interface IndexTask {
  task: 'addresses';
  owner: number;
  table: FlowTableDescriptor;
  index: FlowIndexDescriptor;
  keys: number;
  /** per key: the slot + 1 that has it */
  books: SharedArrayBuffer;
  /** until `stop` is set, if 0 */
  rounds: number;
  /** [rounds done, pause wanted, paused, stop] */
  control: SharedArrayBuffer;
}
export interface CrossingTask {
  task: 'tellers' | 'sleepers';
  rounds: number;
  memory: SharedArrayBuffer;
}
export type Task = CrossingTask | RingTask | PingTask | TableTask | IndexTask;

export const ROUNDS_DONE = 0;
export const PAUSE = 1;
export const PAUSED = 2;
export const STOP = 3;

/** The faults that a thread reports; rejects if it throws. */
export function run(task: Task): { worker: Worker; faults: Promise<string[]> } {
  const worker = new Worker(new URL('./threads.ts', import.meta.url), { workerData: task });
  const faults = new Promise<string[]>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  return { worker, faults };
}

export function random(seed: number): (below: number) => number {
  let x = seed | 1;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

const faults: string[] = [];
function must(holds: boolean, what: string): void {
  if (!holds && faults.length < 20) faults.push(what);
}

/** Long enough that only a lost wake-up can use it up. */
const LOST_MS = 4000;

function sleep(bell: Doorbell, quiet: () => boolean): void {
  bell.prepareSleep();
  if (!quiet()) bell.awake();
  else must(bell.wait(LOST_MS), 'a wake-up was lost');
}

function produce({ mesh: descriptor, messages, seed }: RingTask): void {
  const mesh = new Mesh(descriptor, 0);
  const next = random(seed);
  const bytes = new Uint8Array(descriptor.ringBytes);
  const most = descriptor.ringBytes / 2 - 40;
  for (let n = 0; n < messages; n++) {
    const wordCount = next(9);
    const length = next(8) === 0 ? next(most + 1) : next(400);
    for (let i = 0; i < wordCount; i++) mesh.words[i] = Math.imul(n, i + 1);
    for (let i = 0; i < length; i++) bytes[i] = n * 31 + i * 7;
    while (!mesh.send(1, n & 0xffff, wordCount, bytes, 0, length)) {
      // the consumer tells by a message back that it has made room
      sleep(mesh.bell, () => mesh.isQuiet());
      mesh.receive(() => {}, 100);
    }
  }
}

function consume({ mesh: descriptor, messages, seed }: RingTask): void {
  const mesh = new Mesh(descriptor, 1);
  const next = random(seed);
  const most = descriptor.ringBytes / 2 - 40;
  let n = 0;
  const handler = (_from: number, type: number, ring: Ring) => {
    const wordCount = next(9);
    const length = next(8) === 0 ? next(most + 1) : next(400);
    must(type === (n & 0xffff), `message ${n} has type ${type}`);
    must(ring.wordCount === wordCount, `message ${n} has ${ring.wordCount} words`);
    must(ring.payloadLength === length, `message ${n} has ${ring.payloadLength} bytes of ${length}`);
    for (let i = 0; i < wordCount; i++) must(ring.word(i) === Math.imul(n, i + 1), `word ${i} of ${n}`);
    for (let i = 0; i < length; i++) {
      must(ring.memory[ring.payloadOffset + i] === ((n * 31 + i * 7) & 255), `byte ${i} of ${n}`);
    }
    n++;
  };
  while (n < messages && faults.length === 0) {
    if (mesh.receive(handler, 1 + (n % 7)) > 0) mesh.send(0, 1, 0);
    else sleep(mesh.bell, () => mesh.isQuiet());
  }
}

/** Answers each message with one, asleep in between, after a varying delay so that all interleavings come up. */
function pingPong({ task, mesh: descriptor, rounds }: PingTask): void {
  const self = task === 'ping' ? 0 : 1;
  const mesh = new Mesh(descriptor, self);
  let got = 0;
  const handler = () => {
    got++;
  };
  for (let n = 0; n < rounds && faults.length === 0; n++) {
    if (self === 0) mesh.send(1, 1, 0);
    while (got === n && faults.length === 0) {
      if (mesh.receive(handler, 10) === 0) {
        for (let spin = 0; spin < (n % 16) * 20; spin++) Math.imul(spin, spin);
        sleep(mesh.bell, () => mesh.isQuiet());
      }
    }
    if (self === 1) mesh.send(0, 1, 0);
  }
}

async function pongAsync({ mesh: descriptor, rounds }: PingTask): Promise<void> {
  const mesh = new Mesh(descriptor, 1);
  const alive = setInterval(() => {}, 60_000);
  let got = 0;
  const handler = () => {
    got++;
    mesh.send(0, 1, 0);
  };
  while (got < rounds && faults.length === 0) {
    if (mesh.receive(handler, 10) > 0) continue;
    mesh.bell.prepareSleep();
    if (!mesh.isQuiet()) mesh.bell.awake();
    else must(await mesh.bell.waitAsync(LOST_MS), 'a wake-up was lost');
  }
  clearInterval(alive);
}

/**
 * One publishes and rings while the other prepares to sleep and looks, both at once, a great many times. Afterwards
 * at least one of the two has seen the other.
 */
function crossing({ task, rounds, memory }: CrossingTask): void {
  const words = new Int32Array(memory);
  const [MESSAGE, BELL, TELLER, SLEEPER, SAW, NEVER] = [0, 16, 32, 48, 64, 80];
  const bell = new Doorbell(words, BELL, () => {});
  const [own, other] = task === 'tellers' ? [TELLER, SLEEPER] : [SLEEPER, TELLER];
  const meet = (at: number) => {
    Atomics.store(words, own, at);
    for (let spins = 0; Atomics.load(words, other) < at; spins++) {
      // the other one may have no processor
      if (spins > 1000) Atomics.wait(words, NEVER, 0, 0.05);
    }
  };
  for (let n = 1; n <= rounds; n++) {
    meet(3 * n);
    if (task === 'tellers') {
      Atomics.store(words, MESSAGE, n);
      const rang = bell.ring();
      meet(3 * n + 1);
      must(rang || words[SAW] === n, `neither saw the other in round ${n}`);
    } else {
      bell.prepareSleep();
      words[SAW] = Atomics.load(words, MESSAGE);
      meet(3 * n + 1);
      bell.awake();
    }
    meet(3 * n + 2);
  }
}

/** Claims, publishes, confirms, closes, releases and reclaims, and keeps books that the other thread checks against. */
function claims({ owner, table: descriptor, books, rounds }: TableTask): void {
  const table = new FlowTable(descriptor);
  const holders = new Int32Array(books, 0, table.capacity);
  const lives = new Int32Array(books, table.capacity * 4, table.capacity);
  const next = random(owner * 7919);
  const provisional: [number, number][] = [];
  const open: [number, number][] = [];
  const hold = (slot: number) => {
    must(Atomics.compareExchange(holders, slot, 0, owner) === 0, `slot ${slot} has two holders`);
  };
  const letGo = (slot: number) => {
    must(Atomics.compareExchange(holders, slot, owner, 0) === owner, `slot ${slot} changed hands`);
  };
  const begin = (slot: number) => {
    hold(slot);
    const generation = table.generation(slot);
    must(generation > lives[slot], `generation ${generation} of slot ${slot} after ${lives[slot]}`);
    lives[slot] = generation;
    table.clear(slot);
    const v = Math.imul(generation, 2654435761) | 0;
    table.setRemote(slot, v, v + 1, v + 2, v + 3, generation & 0xffff);
    table.setFd(slot, generation);
    if (next(2) === 0) {
      table.publish(slot, OPEN);
      open.push([slot, generation]);
    } else {
      letGo(slot);
      table.publish(slot, PROVISIONAL);
      provisional.push([slot, generation]);
    }
  };
  const end = ([slot, generation]: [number, number]) => {
    letGo(slot);
    must(table.release(slot, generation, 1), `slot ${slot} was released by another`);
    must(!table.isLive(slot, generation), `slot ${slot} lives on`);
    must(!table.release(slot, generation, 1), `slot ${slot} was released twice`);
  };
  const pick = (list: [number, number][]) => list.splice(next(list.length), 1)[0];
  const look = () => {
    const slot = next(table.capacity);
    const generation = table.generation(slot);
    if (!table.isLive(slot, generation)) return;
    const v0 = table.remote(slot, 0);
    const v3 = table.remote(slot, 3);
    const port = table.remotePort(slot);
    const fd = table.fd(slot);
    if (!table.isLive(slot, generation)) return;
    const v = Math.imul(generation, 2654435761) | 0;
    must(v0 === v && v3 === ((v + 3) | 0), `slot ${slot} shows another life's address`);
    must(port === (generation & 0xffff) && fd === generation, `slot ${slot} shows another life's port`);
  };
  for (let n = 0; n < rounds && faults.length === 0; n++) {
    const what = next(8);
    if (what < 3) {
      const slot = table.claim(owner);
      if (slot >= 0) begin(slot);
    } else if (what === 3) {
      const slot = table.reclaimProvisional(owner);
      if (slot >= 0) begin(slot);
    } else if (what === 4 && provisional.length > 0) {
      const flow = pick(provisional);
      if (table.confirm(flow[0], flow[1])) {
        hold(flow[0]);
        open.push(flow);
      }
    } else if (what === 5 && provisional.length > 0) {
      const flow = pick(provisional);
      if (table.close(flow[0], flow[1])) {
        hold(flow[0]);
        end(flow);
      }
    } else if (what === 6 && open.length > 0) {
      end(pick(open));
    } else {
      look();
    }
  }
  for (const flow of open) end(flow);
  for (const flow of provisional) table.release(flow[0], flow[1], 2);
}

/** Makes, finds and ends flows of a few addresses, so that both threads always want the same ones. */
function addresses(task: IndexTask): void {
  const { owner, keys, rounds } = task;
  const table = new FlowTable(task.table);
  const index = new FlowIndex(task.index, table);
  const has = new Int32Array(task.books);
  const control = new Int32Array(task.control);
  const next = random(owner * 104729 + Date.now());
  const checked = rounds > 0;
  const mine: [slot: number, generation: number, key: number][] = [];
  const end = ([slot, generation, key]: [number, number, number]) => {
    if (checked) Atomics.compareExchange(has, key, slot + 1, 0);
    if (!table.close(slot, generation)) return;
    index.remove(slot);
    table.release(slot, generation, 1);
  };
  for (let n = 0; (checked ? n < rounds : control[STOP] === 0) && faults.length === 0; n++) {
    if (!checked) Atomics.add(control, ROUNDS_DONE, 1);
    if (Atomics.load(control, PAUSE) === 1) {
      for (const flow of mine.splice(0)) end(flow);
      Atomics.store(control, PAUSED, 1);
      Atomics.notify(control, PAUSED);
      Atomics.wait(control, PAUSE, 1);
      Atomics.store(control, PAUSED, 0);
    }
    const key = next(keys);
    const found = index.lookup(key & 3, 0, 0, 0xffff, key, 5060, 0, 0, 0xffff, 1);
    if (found >= 0) {
      const generation = index.generation;
      const port = table.remotePort(found);
      const a3 = table.remote(found, 3);
      if (table.isLive(found, generation)) must(a3 === key && port === 5060, `${key} found ${a3}:${port}`);
    } else {
      let slot = table.claim(owner);
      if (slot < 0) slot = index.reclaim(owner);
      if (slot >= 0) {
        const generation = table.generation(slot);
        table.setListener(slot, key & 3);
        table.setRemote(slot, 0, 0, 0xffff, key, 5060);
        table.setLocal(slot, 0, 0, 0xffff, 1, 5060);
        table.publish(slot, checked || next(2) === 0 ? OPEN : PROVISIONAL);
        const winner = index.insert(slot);
        if (winner === slot) {
          if (checked) {
            const before = Atomics.compareExchange(has, key, 0, slot + 1);
            must(before === 0, `key ${key} has slots ${before - 1} and ${slot}`);
          }
          mine.push([slot, generation, key]);
        } else {
          must(winner >= 0, `no room for key ${key}`);
          if (table.close(slot, generation)) {
            must(!index.remove(slot), `the losing entry of key ${key} stayed`);
            table.release(slot, generation, 1);
          }
        }
      }
    }
    if (mine.length > 0 && next(2) === 0) end(mine.splice(next(mine.length), 1)[0]);
  }
  for (const flow of mine) end(flow);
}

if (parentPort && workerData?.task) {
  const task = workerData as Task;
  if (task.task === 'produce') produce(task);
  else if (task.task === 'consume') consume(task);
  else if (task.task === 'pongAsync') await pongAsync(task);
  else if (task.task === 'claims') claims(task);
  else if (task.task === 'addresses') addresses(task);
  else if (task.task === 'tellers' || task.task === 'sleepers') crossing(task);
  else pingPong(task as PingTask);
  parentPort.postMessage(faults);
}
