/**
 * Starts the thread that the location store lives in, or by which it is reached, and stops it.
 *
 * The embedded stores must open, or the node does not start, and their thread must not end before the node
 * does. A shared store may be away: the node starts, answers registrations with 503, and says in its log when
 * the store comes and goes.
 */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { type Config, isRegistrar } from '../config/config.ts';
import type { Logger } from '../observe/log.ts';
import type { BindingEvent } from '../registrar/events.ts';
import { STORE_STOP } from '../registrar/message.ts';
import type { RedisReport, RedisThreadData } from '../registrar/redis-thread.ts';
import type { StoreEvents, StoreReady, StoreThreadData } from '../registrar/store-thread.ts';
import type { ShardBoot } from '../shard/boot.ts';
import type { Mesh } from '../shared/mesh.ts';

// a store is read once at its start, some 4 s a million bindings; one that cannot be opened says so by itself
const STORE_READY_MS = 120_000;

const ENTRY = { store: '../registrar/store-thread.ts', redis: '../registrar/redis-thread.ts' };
/**
 * Room for garbage, where V8 would take up to 64 MB. The embedded stores are done with a batch at once, and collect as
 * cheaply in less (LMDB at a twelfth more CPU); what waits for Redis lives longer and would be copied more often: a
 * fifth more CPU with 6.
 */
const YOUNG_MIB = { store: 6, redis: 16 };

type Place = Pick<ShardBoot, 'mesh' | 'store' | 'eventfds' | 'clock'>;

/** `watch`: gets what happens to bindings, in order; without it the store makes no events. */
export async function startStore(
  config: Config,
  incarnation: number,
  boot: Place,
  log: Logger,
  watch?: (events: readonly BindingEvent[]) => void,
): Promise<Worker> {
  const data = dataOf(config, incarnation, boot, watch !== undefined);
  const worker = new Worker(join(import.meta.dirname, ENTRY[data.role]), {
    workerData: data,
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MIB[data.role] },
  });
  const ready = new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('the location store did not open')), STORE_READY_MS);
    worker.on('message', (message: StoreReady | StoreEvents | RedisReport) => {
      if (message.kind === 'store-events') {
        watch?.(message.events); // the first of them may come before it is ready
        return;
      }
      tell(message, config, log);
      if (message.kind !== 'store-ready') return;
      clearTimeout(timer);
      resolve();
    });
    worker.once('error', reject);
  });
  await ready;
  worker.on('error', (error: Error) => {
    // Registrations cannot be answered any more; a start anew finds all that was acknowledged.
    log.fatal({ event: 'store-lost', error: error.message });
    process.exit(1);
  });
  return worker;
}

function dataOf(
  config: Config,
  incarnation: number,
  boot: Place,
  watched: boolean,
): StoreThreadData | RedisThreadData {
  const { store, storeSync: durability, node } = config;
  const place = {
    mesh: boot.mesh,
    participant: boot.store,
    incarnation,
    clock: boot.clock,
    ...(watched && { watchedAs: node }),
  };
  const wake = boot.eventfds.length > 0 ? { wakeFds: boot.eventfds } : {};
  if (store.kind === 'redis')
    return { role: 'redis', ...place, target: store.target, node, follows: isRegistrar(config), ...wake };
  return {
    role: 'store',
    ...place,
    store: store.kind === 'lmdb' ? { kind: 'lmdb', dir: store.dir, durability } : { kind: 'memory' },
    ...wake,
  };
}

function tell(message: StoreReady | RedisReport, { store }: Config, log: Logger): void {
  const at = store.kind === 'redis' ? store.target.name : store.kind;
  switch (message.kind) {
    case 'store-ready': {
      if ('bindings' in message) {
        const { bindings, retired, setAside } = message;
        log.info({ event: 'store-open', bindings, retired, setAside });
        return;
      }
      if (message.reachable) log.info({ event: 'store-open', store: at });
      else log.error({ event: 'store-away', store: at, error: message.why });
      return;
    }
    case 'store-state':
      if (message.reachable) log.info({ event: 'store-back', store: at });
      else log.error({ event: 'store-away', store: at, error: message.why });
      return;
    case 'store-retired':
      log.info({ event: 'store-retired', bindings: message.bindings });
      return;
    case 'store-node-taken':
      log.error({ event: 'store-node-taken', node: message.node });
  }
}

export async function stopStore(worker: Worker, mail: Mesh, participant: number): Promise<void> {
  const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  mail.send(participant, STORE_STOP, 0);
  await ended;
}
