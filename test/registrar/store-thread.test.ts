import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { flowKey } from '../../src/registrar/binding.ts';
import { StoreClient } from '../../src/registrar/client.ts';
import { LmdbReader } from '../../src/registrar/lmdb.ts';
import { encodeAnswer, STORE_ANSWER, STORE_STOP } from '../../src/registrar/message.ts';
import type { StoreResult, UpdateOp } from '../../src/registrar/store.ts';
import type { StoreEvents, StoreReady, StoreThreadData } from '../../src/registrar/store-thread.ts';
import { Cause } from '../../src/shared/cause.ts';
import { Clock } from '../../src/shared/clock.ts';
import { Mesh, type MeshDescriptor } from '../../src/shared/mesh.ts';
import { temporaryDirectory } from './backends.ts';

const ENTRY = new URL('../../src/registrar/store-thread.ts', import.meta.url);
const STORE = 3;
const DORA = 'sip:dora@example.net';

const update = (changes: Partial<UpdateOp> = {}): UpdateOp => ({
  kind: 'update',
  aor: DORA,
  now: Date.now(),
  callId: 'a',
  cseq: 1,
  clear: false,
  contacts: [{ key: 'o:x;1', contact: 'sip:d@192.0.2.1', params: [], regId: 1, q: 1000, expires: 600 }],
  path: ['<sip:edge;lr;ob>'],
  maxContacts: 16,
  ...changes,
});

/** A participant of the mesh with a store client, as a shard has one. */
class Shard {
  readonly mesh: Mesh;
  readonly client: StoreClient;
  readonly reader: LmdbReader | undefined;
  /** results of `ask`, in the order in which they came */
  readonly results: StoreResult[] = [];

  constructor(descriptor: MeshDescriptor, self: number, reader?: LmdbReader) {
    this.mesh = new Mesh(descriptor, self);
    this.reader = reader;
    this.client = StoreClient.overMesh(this.mesh, STORE, reader);
  }

  async pump(count: number): Promise<void> {
    while (this.results.length < count) {
      this.client.turn(0);
      this.mesh.receive((_from, type, ring) => {
        if (type === STORE_ANSWER) this.client.onAnswer(ring);
      }, 64);
      if (this.results.length >= count) return;
      this.mesh.bell.prepareSleep();
      if (this.mesh.isQuiet()) await this.mesh.bell.waitAsync(50);
      else this.mesh.bell.awake();
    }
  }

  async ask(start: (done: (result: StoreResult) => void) => void): Promise<StoreResult> {
    const at = this.results.length;
    start((result) => this.results.push(result));
    await this.pump(at + 1);
    return this.results[at];
  }

  update = (op: UpdateOp) => this.ask((done) => this.client.update(op, done));
  lookup = (aor: string) => this.ask((done) => this.client.lookup(aor, Date.now(), done));
}

describe.each(['memory', 'lmdb'] as const)('the store thread (%s)', (kind) => {
  let dir: string;
  let descriptor: MeshDescriptor;
  let worker: Worker;
  let ready: StoreReady;
  let shards: Shard[];
  let posted: (StoreReady | StoreEvents)[];
  const lmdb = () => ({ dir, durability: 'process' as const, mapSize: 2 ** 28 });

  async function start(incarnation = 7, watchedAs?: number): Promise<void> {
    descriptor = Mesh.allocate(STORE + 1, 65_536);
    const store = kind === 'memory' ? { kind } : { kind, ...lmdb() };
    const clock = Clock.start();
    const data: StoreThreadData = {
      role: 'store',
      mesh: descriptor,
      participant: STORE,
      store,
      incarnation,
      clock,
      ...(watchedAs !== undefined && { watchedAs }),
    };
    worker = new Worker(ENTRY, { workerData: data });
    posted = [];
    ready = await new Promise<StoreReady>((resolve) => {
      worker.on('message', (message: StoreReady | StoreEvents) => {
        posted.push(message);
        if (message.kind === 'store-ready') resolve(message);
      });
    });
    shards = [1, 2].map((self) => {
      return new Shard(descriptor, self, kind === 'lmdb' ? new LmdbReader(lmdb()) : undefined);
    });
  }

  async function stop(): Promise<void> {
    new Mesh(descriptor, 0).send(STORE, STORE_STOP, 0);
    await once(worker, 'exit');
    for (const shard of shards) await shard.reader?.close();
  }

  beforeEach(async () => {
    dir = temporaryDirectory();
    await start();
  });
  afterEach(async () => {
    await stop();
    rmSync(dir, { recursive: true, force: true });
  });

  it('stores what one shard registers, and another shard finds it once the answer is there', async () => {
    expect(ready).toEqual({ kind: 'store-ready', bindings: 0, retired: 0 });
    const stored = await shards[0].update(update());
    expect(stored.status).toBe('ok');
    const found = await shards[1].lookup(DORA);
    expect(found.bindings).toEqual(stored.bindings);
    expect((await shards[0].update(update({ cseq: 0 }))).status).toBe('stale');
  });

  it('answers hundreds of requests of two shards at once, each with its own', async () => {
    const count = 400;
    const all = await Promise.all(
      shards.map(async (shard, s) => {
        let next = 0;
        const more = () => {
          const aor = `sip:u${next % 10}@s${s}`;
          const cseq = 1 + Math.floor(next / 10);
          shard.client.update(update({ aor, cseq, callId: `${s}` }), (result) => shard.results.push(result));
          next++;
        };
        while (next < count) {
          for (let i = 0; i < 40; i++) more();
          await shard.pump(next);
        }
        return shard.results;
      }),
    );
    for (const results of all) {
      expect(results).toHaveLength(count);
      expect(results.every((result) => result.status === 'ok' && result.bindings.length === 1)).toBe(true);
    }
    expect((await shards[0].lookup('sip:u3@s1')).bindings[0].cseq).toBe(count / 10);
  });

  it('retires the bindings of a flow that a shard reports closed [AP-7-07]', async () => {
    const flow = flowKey(1, 1, 7, false);
    await shards[0].update(update({ flow }));
    await shards[0].update(update({ flow, aor: 'sip:eve@h' }));
    shards[0].client.flowClosed(flow);
    await shards[0].update(update({ aor: 'sip:other@h' })); // the ring keeps its order
    expect((await shards[1].lookup(DORA)).bindings).toEqual([]);
    expect((await shards[1].lookup('sip:eve@h')).bindings).toEqual([]);
  });

  const changeThings = async () => {
    const flow = flowKey(1, 1, 7, false);
    await shards[0].update(update({ flow }));
    shards[0].client.flowClosed(flow, Cause.RESET);
    await shards[0].update(update({ flow: flowKey(2, 1, 7, false), cseq: 2 }));
  };
  const told = () =>
    posted.flatMap((m) => (m.kind === 'store-events' ? m.events.map(({ type }) => type) : []));

  it('posts what has happened to bindings after its commit, if it is watched, and else nothing', async () => {
    await changeThings();
    await stop();
    expect(posted).toEqual([ready]);
    await start(8, 1);
    expect(ready).toMatchObject({ bindings: 0, retired: kind === 'lmdb' ? 1 : 0 });
    await changeThings();
    await stop(); // all that was posted has come before the thread's end is told
    const retired = kind === 'lmdb' ? ['flow-lost'] : [];
    expect(told()).toEqual([...retired, 'register', 'flow-lost', 'register']);
    await start();
  });

  it('lists addresses page by page, with the number of bindings in all', async () => {
    for (let i = 0; i < 5; i++) await shards[0].update(update({ aor: `sip:u${i}@h` }));
    const aors: string[] = [];
    for (let after: string | undefined; ; after = aors.at(-1)) {
      const page = await shards[1].ask((done) => shards[1].client.list(after, 2, done));
      expect(page.count).toBe(5);
      if (page.aors?.length === 0) break;
      aors.push(...(page.aors ?? []));
    }
    expect(aors.sort()).toEqual([0, 1, 2, 3, 4].map((i) => `sip:u${i}@h`));
  });

  it.runIf(kind === 'lmdb')(
    'finds its bindings again after a restart, but for those of closed sockets',
    async () => {
      await shards[0].update(update({ flow: flowKey(1, 1, 7, false) }));
      await shards[0].update(update({ flow: flowKey(2, 1, 7, true), aor: 'sip:udp@h' }));
      await shards[0].update(update({ aor: 'sip:edge@h' }));
      await stop();
      await start(8);
      expect(ready).toEqual({ kind: 'store-ready', bindings: 2, retired: 1 });
      expect((await shards[1].lookup(DORA)).bindings).toEqual([]);
      expect((await shards[1].lookup('sip:udp@h')).bindings).toHaveLength(1);
    },
  );
});

describe("a shard's store client", () => {
  const answerTo = (id: number) => encodeAnswer({ id, result: { status: 'ok', bindings: [], count: 0 } });

  it('is busy when the ring is full, and keeps news until there is room, in order', () => {
    let room = 0;
    const sent: Uint8Array[] = [];
    const send = (message: Uint8Array) => room-- > 0 && sent.push(Uint8Array.from(message)) > 0;
    const client = new StoreClient({ send });
    const statuses: string[] = [];
    client.update(update(), (result) => statuses.push(result.status));
    expect(statuses).toEqual(['busy']);
    client.flowClosed('1.1.1.s');
    room = 2;
    client.flowClosed('2.1.1.s');
    client.remove(DORA, 'k');
    expect(sent).toHaveLength(0);
    client.turn(1);
    expect(sent).toHaveLength(2);
    room = 9;
    client.turn(2);
    expect(client.waiting).toBe(0);
    expect(sent.map((message) => /[12]\.1\.1\.s|remove/.exec(Buffer.from(message).toString())?.[0])).toEqual([
      '1.1.1.s',
      '2.1.1.s',
      'remove',
    ]);
  });

  it('gives up an answer that does not come, once, and ignores it when it comes late', () => {
    const client = new StoreClient({ send: () => true, answerTimeout: 100 });
    const statuses: string[] = [];
    client.turn(1_000);
    client.update(update(), (result) => statuses.push(result.status));
    client.turn(1_099);
    expect(statuses).toEqual([]);
    client.turn(1_100);
    client.onMessage(answerTo(1));
    client.onMessage(Uint8Array.of(0xc1));
    expect(statuses).toEqual(['error']);
  });

  it('fails what a lost store thread had not answered', () => {
    const client = new StoreClient({ send: () => true });
    const statuses: string[] = [];
    for (let i = 0; i < 3; i++) client.update(update(), (result) => statuses.push(result.status));
    client.onMessage(answerTo(2));
    client.onRestart();
    expect(statuses).toEqual(['ok', 'error', 'error']);
  });
});
