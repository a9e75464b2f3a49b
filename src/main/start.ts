/**
 * Starts a node: keys and incarnation first (on disk before a listener opens), then shared memory,
 * listeners, the store thread, the shards, and last the acceptor. `stop` goes the other way.
 *
 * Main owns the descriptors that outlive a shard: listening sockets, UDP sockets, epoll sets, eventfds.
 * It reads nothing of any flow.
 */
import { randomInt } from 'node:crypto';
import { getServers } from 'node:dns';
import { mkdirSync } from 'node:fs';
import { type Config, hasStore, isRegistrar } from '../config/config.ts';
import { ConfigError } from '../config/error.ts';
import { takeIncarnation } from '../flow/incarnation.ts';
import { KeyFault, type Keyring, loadKeyring, parseKeys } from '../flow/keyring.ts';
import { type Logger, openLog } from '../observe/log.ts';
import type { BindingEvent } from '../registrar/events.ts';
import { loadGruuKey, parseGruuKey } from '../registrar/gruu-key.ts';
import { type ShardBoot, UPSTREAM } from '../shard/boot.ts';
import { Clock } from '../shared/clock.ts';
import { Counters } from '../shared/counters.ts';
import { FlowIndex } from '../shared/flow-index.ts';
import { FlowTable } from '../shared/flow-table.ts';
import { Mesh } from '../shared/mesh.ts';
import { NonceTable } from '../shared/nonce-table.ts';
import { SslTable } from '../shared/ssl-table.ts';
import { chooseBackend } from './backend.ts';
import { Certificates } from './certificates.ts';
import type { Descriptors } from './descriptors.ts';
import { nameServers, Resolver } from './dns.ts';
import type { BindingEvents } from './events.ts';
import { HostsFile } from './hostsfile.ts';
import { Locator } from './locator.ts';
import { mailHandler, readMail } from './mailbox.ts';
import { startStore, stopStore } from './store.ts';
import { Supervisor } from './supervisor.ts';
import { Upstreams, waysOf } from './upstreams.ts';
import { assertVacant } from './vacant.ts';
import type { Webhooks } from './webhooks.ts';

export interface StartOptions {
  /** Float64Array(1) of milliseconds that replaces the monotonic clock; after a change call `poke` */
  clock?: SharedArrayBuffer;
  /** gets what happens to bindings; listen before the start, so that nothing is missed */
  events?: BindingEvents;
}

export interface Running {
  config: Config;
  /** which I/O runs, and why */
  backend: 'ffi' | 'core';
  backendReason: string;
  /** milliseconds from the call of `start` */
  startedIn: number;
  /** the shared views, for whoever watches */
  table: FlowTable;
  counters: Counters;
  stop(): Promise<void>;
  /** Reads what can change while it runs: certificates. */
  reload(): void;
  /** Wakes all threads: the clock was moved by hand. */
  poke(): void;
  /** Lets a shard fail, as an uncaught exception in it would: for tests of the supervisor. */
  failShard(index: number): void;
}

const PUBLISH_AGAIN_MS = 100;

export async function start(config: Config, options: StartOptions = {}): Promise<Running> {
  const began = performance.now();
  const log = openLog(config.logLevel, 'main');
  const { backend, reason } = chooseBackend(config.io, config.tls !== undefined);
  const certificates = config.tls && Certificates.open(config.tls, backend, log);
  mkdirSync(config.dataDir, { recursive: true, mode: 0o700 });
  const keyring = keys(config);
  const gruuKey = isRegistrar(config) ? keyOfGruus(config) : undefined;
  const clock = Clock.start(options.clock);
  const { value: incarnation, wasCorrupt } = takeIncarnation(config.dataDir, Date.now());
  if (wasCorrupt) log.warn({ event: 'incarnation-file-corrupt', incarnation });

  const stores = hasStore(config);
  const shards = config.workers;
  const store = stores ? shards + 1 : 0;
  const participants = shards + (stores ? 2 : 1);
  const mesh = Mesh.allocate(participants, shards <= 8 ? 1 << 20 : 1 << 18);
  const tableDescriptor = FlowTable.allocate(config.maxFlows);
  const indexDescriptor = FlowIndex.allocate(config.maxFlows, randomWord(), randomWord());
  const countersDescriptor = Counters.allocate(participants);
  const table = new FlowTable(tableDescriptor);
  const counters = new Counters(countersDescriptor, 0);

  const location = locating(config);
  let publish: (octets: Uint8Array) => void = () => {};
  const upstreams = new Upstreams(config.upstreams, location.locator, log, (octets) => publish(octets));
  await upstreams.start();
  let descriptors: Descriptors | undefined;
  if (backend === 'ffi') {
    const { Descriptors } = await import('./descriptors.ts');
    try {
      descriptors = Descriptors.open(config.listen, shards, participants, store);
    } catch (error) {
      location.stop();
      throw error;
    }
  } else await assertVacant(config.listen);
  const ssl = descriptors && certificates && SslTable.allocate(config.maxFlows);
  if (descriptors && ssl) descriptors.ssl = new SslTable(ssl);
  const boot: Omit<ShardBoot, 'self' | 'epoll' | 'sockets' | 'replacement' | 'life'> = {
    config,
    backend,
    clock,
    mesh,
    table: tableDescriptor,
    index: indexDescriptor,
    counters: countersDescriptor,
    nonces: isRegistrar(config) && config.auth.kind !== 'none' ? NonceTable.allocate(NONCES) : undefined,
    keyring: keyring.toPlain(),
    gruuKey,
    serving: certificates?.serving,
    ssl,
    incarnation,
    upstream: upstreams.octets,
    store,
    eventfds: descriptors?.eventfds ?? [],
  };
  const mail = new Mesh(mesh, 0, descriptors?.wake);
  publish = publisher(boot, mail, shards);
  const webhooks = stores ? await openWebhooks(config, log, counters) : undefined;
  const watch = watching(options.events, webhooks, log);
  const storeThread = stores ? await startStore(config, incarnation, boot, log, watch) : undefined;

  let stopMail = () => {};
  const supervisor = new Supervisor({ boot, shards, descriptors, mail, table, counters, log });
  try {
    await supervisor.start();
    const onMail = mailHandler(mail, location.locator);
    if (descriptors)
      await descriptors.accept({ mail, table, counters, log, clock: new Clock(clock), onMail });
    else stopMail = readMail(mail, onMail);
  } catch (error) {
    await supervisor.stop().catch(() => {});
    await webhooks?.close();
    location.stop();
    descriptors?.close();
    throw error;
  }

  certificates?.watch((serving) => supervisor.serve(serving));
  const everyone = Array.from({ length: participants }, (_, i) => i).slice(1);
  return {
    config,
    backend,
    backendReason: reason,
    startedIn: performance.now() - began,
    table,
    counters,
    reload() {
      certificates?.reload();
    },
    async stop() {
      certificates?.stop();
      descriptors?.stopAccepting();
      stopMail();
      location.stop();
      await supervisor.stop();
      if (storeThread) await stopStore(storeThread, mail, store);
      await webhooks?.close();
      descriptors?.close();
    },
    poke() {
      for (const participant of everyone) supervisor.wake(participant);
    },
    failShard(index: number) {
      supervisor.fail(index);
    },
  };
}

/** Undefined where nobody wants them: nor is the HTTP client loaded then. */
async function openWebhooks(
  { webhook }: Config,
  log: Logger,
  counters: Counters,
): Promise<Webhooks | undefined> {
  if (!webhook) return undefined;
  const { Webhooks } = await import('./webhooks.ts');
  return new Webhooks({ config: webhook, log, counters });
}

/** Where events go, if anybody wants them. */
function watching(
  events: BindingEvents | undefined,
  webhooks: Webhooks | undefined,
  log: Logger,
): ((list: readonly BindingEvent[]) => void) | undefined {
  if (!events && !webhooks) return undefined;
  const failed = (error: unknown) => log.error({ event: 'subscriber-failed', error: String(error) });
  return (list) => {
    webhooks?.push(list);
    for (const event of list) events?.tell(event, failed);
  };
}

/** Nonces of which counts are remembered at one time; each takes 36 octets. */
const NONCES = 1 << 17;

const randomWord = () => randomInt(0, 2 ** 32) | 0;

function keys(config: Config): Keyring {
  const ring = config.keys === undefined ? loadKeyring(config.dataDir) : parseKeys(config.keys);
  if (ring instanceof KeyFault) throw new ConfigError(ring.message);
  return ring;
}

function keyOfGruus(config: Config): Uint8Array {
  const key = config.gruuKey === undefined ? loadGruuKey(config.dataDir) : parseGruuKey(config.gruuKey);
  if (key instanceof KeyFault) throw new ConfigError(key.message);
  return key;
}

/** The resolver and what it is for; both end with `stop`. */
function locating({ dns, listen, coreListener }: Config): { locator: Locator; stop: () => void } {
  const resolver = new Resolver({
    servers: nameServers(dns, getServers()) ?? [],
    now: () => performance.now(),
    hosts: HostsFile.read(),
  });
  const ways = waysOf(listen, coreListener);
  const locator = new Locator({ resolver, ways, random: () => randomInt(0x1_0000_0000) / 0x1_0000_0000 });
  return {
    locator,
    stop: () => {
      locator.stop();
      resolver.close();
    },
  };
}

/** Gives a list to every shard; a ring that is full gets it a little later. */
function publisher(boot: { upstream: Uint8Array }, mail: Mesh, shards: number): (octets: Uint8Array) => void {
  let timer: NodeJS.Timeout | undefined;
  const publish = (octets: Uint8Array): void => {
    clearTimeout(timer);
    boot.upstream = octets; // for a replacement
    let refused = false;
    for (let shard = 1; shard <= shards; shard++)
      refused = !mail.send(shard, UPSTREAM, 0, octets, 0, octets.length) || refused;
    if (refused) timer = setTimeout(publish, PUBLISH_AGAIN_MS, octets).unref();
  };
  return publish;
}
