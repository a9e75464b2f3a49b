/**
 * The task that a shard's thread runs for its whole life: attaches to the shared memory, builds the
 * shard, reports that it is ready, and ends when main says so. An exception anywhere in the shard's loop
 * ends the thread: the supervisor starts another, which takes over what is in shared memory.
 */
import type { MessagePort } from 'node:worker_threads';
import { Endpoint } from '../net/endpoint.ts';
import type { Listener, Net } from '../net/net.ts';
import type { Serving } from '../net/serving.ts';
import { openLog } from '../observe/log.ts';
import { StoreClient } from '../registrar/client.ts';
import { Clock } from '../shared/clock.ts';
import { Counter, Counters } from '../shared/counters.ts';
import { FlowTable } from '../shared/flow-table.ts';
import { Mesh } from '../shared/mesh.ts';
import { SslTable } from '../shared/ssl-table.ts';
import type { ShardBoot, ShardOrder, ShardReport } from './boot.ts';
import { openGate } from './gate.ts';
import { LastWords } from './lastwords.ts';
import { Shard } from './shard.ts';

/** The longest rest on the doorbell; a turn comes at least that often. */
const REST_MS = 1_000;

export interface ShardTask {
  boot: ShardBoot;
  port: MessagePort;
}

export default async function runShard({ boot, port }: ShardTask): Promise<void> {
  const { config, self } = boot;
  const log = openLog(config.logLevel, `shard-${self}`);
  const clock = new Clock(boot.clock);
  const table = new FlowTable(boot.table);
  const counters = new Counters(boot.counters, self);
  const mesh = new Mesh(boot.mesh, self, await waker(boot));
  const listeners = config.listen.map((l, id): Listener => {
    const address = Endpoint.parse(l.host, l.port) as Endpoint;
    return { id, transport: l.transport, address, wildcard: address.isWildcard, shard: l.shard };
  });
  const net = await openNet(boot, listeners, table, counters, clock, mesh);
  const store = boot.store > 0 ? await openStore(boot, mesh) : undefined;

  const gate = await openGate(boot, log, () => clock.now());

  let stop!: () => void;
  const stopped = new Promise<void>((resolve) => {
    stop = resolve;
  });
  const shard = new Shard({
    boot,
    net,
    table,
    counters,
    clock,
    mesh,
    listeners,
    store,
    gate,
    log,
    stopped: stop,
  });
  const serve = (serving: Serving): void => {
    net.serve(serving);
    const certificates = serving.identities.map(({ fingerprint }) => fingerprint);
    log.info({ event: 'tls-serving', generation: serving.generation, certificates });
  };
  if (boot.serving) serve(boot.serving);
  net.start(new LastWords(shard, net, table));
  await net.ready;
  const inherited = boot.replacement ? shard.inherit() : 0;
  const report: ShardReport = { kind: 'ready', self, inherited };
  port.postMessage(report);
  port.on('message', ({ serving }: ShardOrder) => {
    serve(serving);
    port.postMessage({ kind: 'serving', generation: serving.generation } satisfies ShardReport);
  });
  await stopped;
  shard.farewell();
  net.stop();
  await gate?.credentials.close();
  port.close();
}

async function openStore(boot: ShardBoot, mesh: Mesh): Promise<StoreClient> {
  const { store, storeSync } = boot.config;
  if (store.kind !== 'lmdb') return StoreClient.overMesh(mesh, boot.store);
  const { LmdbReader } = await import('../registrar/lmdb.ts'); // an edge needs no database
  return StoreClient.overMesh(mesh, boot.store, new LmdbReader({ dir: store.dir, durability: storeSync }));
}

/** How another thread is woken: by its eventfd where it has one, else by the word of its bell. */
async function waker({ eventfds }: ShardBoot): Promise<((participant: number) => boolean) | undefined> {
  if (eventfds.length === 0) return undefined;
  const { EventCounter } = await import('../native/eventfd.ts');
  const counters = eventfds.map((fd) => (fd < 0 ? undefined : new EventCounter(fd)));
  return (participant) => {
    const counter = counters[participant];
    if (!counter) return false;
    counter.signal();
    return true;
  };
}

async function openNet(
  boot: ShardBoot,
  listeners: Listener[],
  flows: FlowTable,
  counters: Counters,
  clock: Clock,
  mesh: Mesh,
): Promise<Net> {
  const { config, self, epoll, eventfds, sockets, replacement } = boot;
  const now = () => clock.now();
  if (boot.backend === 'ffi') {
    const { FfiNet } = await import('../net/ffi.ts');
    return new FfiNet({
      listeners,
      sockets,
      epoll,
      eventfd: eventfds[self],
      flows,
      counters,
      now,
      replacement,
      shard: self,
      ssl: boot.ssl && new SslTable(boot.ssl),
      nodeSockets: config.auth.kind === 'service',
    });
  }
  const { CoreNet } = await import('../net/core.ts');
  const net = new CoreNet({
    listeners,
    flows,
    counters,
    now,
    shard: self - 1,
    accept: true,
    reusePort: config.workers > 1,
    claimStream: (listener, remote) => claimAccepted(flows, counters, self, listeners[listener], remote),
    bellWait: () => mesh.bell.waitAsync(REST_MS),
  });
  return net;
}

/** A record for a socket that this shard accepted itself, as main makes it on the ffi backend. */
function claimAccepted(
  flows: FlowTable,
  counters: Counters,
  owner: number,
  listener: Listener,
  remote: Endpoint,
): number {
  const slot = flows.claim(owner);
  if (slot < 0) {
    counters.inc(Counter.tableFull);
    return -1;
  }
  flows.setKind(slot, listener.transport, remote.family);
  flows.setListener(slot, listener.id);
  flows.setRemote(slot, remote.a0, remote.a1, remote.a2, remote.a3, remote.port);
  return slot;
}
