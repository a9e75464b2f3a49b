import { parentPort, workerData } from 'node:worker_threads';
import type { RedisTarget } from '../config/redis-url.ts';
import { Clock, type ClockDescriptor } from '../shared/clock.ts';
import { Mesh, type MeshDescriptor, type MessageHandler } from '../shared/mesh.ts';
import type { BindingEvent } from './events.ts';
import { decodeRequest, Letter, NO_ANSWER, STORE_REQUEST, STORE_STOP } from './message.ts';
import { RedisStore } from './redis.ts';
import { RedisLink } from './redis-link.ts';
import { Tenure } from './redis-tenure.ts';
import { Replies, ringWaker } from './replies.ts';
import type { StoreEvents } from './store-thread.ts';

/**
 * The thread that speaks to a shared store for all shards of a process, as the entry of a worker.
 *
 * Why a thread and not a client in each shard: a shard waits in its own epoll, where every socket of a client
 * library costs it turns with no wait or a rest of at most 20 ms; here the event loop waits for the sockets
 * and, by waitAsync, for the doorbell. A process has one set of connections however many shards it has,
 * what they ask in one moment goes out in one write, one place keeps the order of an AOR, and the shards
 * need not know which store there is. It costs a hop through two rings. The store's own part of a
 * registration, measured without the rings: 17 to 24 us of CPU here and 17 to 30 us in Redis; with a flow of
 * its own, that is with two scripts, 32 us here and 35 us in Redis.
 *
 * Unlike the thread of the embedded store this one goes on without its server: see redis.ts and
 * redis-link.ts. Main is told when it goes and when it is back.
 */
export interface RedisThreadData {
  role: 'redis';
  mesh: MeshDescriptor;
  /** this thread's place in the mesh */
  participant: number;
  target: RedisTarget;
  /** of all registrars of the store only this one has the number */
  node: number;
  incarnation: number;
  adopted?: string[];
  clock: ClockDescriptor;
  /** what happens to bindings is posted to main, as of this node */
  watchedAs?: number;
  /** a registrar, which is to tell what expires */
  follows: boolean;
  /** eventfd of each participant, by its place */
  wakeFds?: number[];
}

/** To main, beside StoreEvents. The first is `store-ready`, after the first attempt to connect. */
export type RedisReport =
  | { kind: 'store-ready'; reachable: boolean; why: string }
  | { kind: 'store-state'; reachable: boolean; why: string }
  | { kind: 'store-retired'; bindings: number }
  | { kind: 'store-node-taken'; node: number };

const BATCH = 512;
const RETRY_MS = 2;
const REST_MS = 1_000;
/** main does not wait for a store that is away */
const FIRST_REPORT_MS = 3_000;

class RedisThread {
  readonly #mesh: Mesh;
  readonly #store: RedisStore;
  readonly #replies: Replies;
  readonly #letter = new Letter();
  #stopping = false;
  readonly #underWay = new Set<Promise<void>>();

  readonly #now: () => number;

  constructor(mesh: Mesh, store: RedisStore, ringBytes: number, now: () => number) {
    this.#mesh = mesh;
    this.#store = store;
    this.#now = now;
    this.#replies = new Replies(mesh, ringBytes);
  }

  /** Resolved after STORE_STOP, when what had been asked is answered. */
  async run(): Promise<void> {
    const alive = setInterval(() => {
      void this.#store.retell();
      void this.#store.expire(this.#now());
    }, REST_MS);
    while (!this.#stopping) {
      this.#replies.retry();
      if (this.#mesh.receive(this.#onMessage, BATCH) === 0) await this.#rest();
      else await new Promise(setImmediate); // the sockets' turn
    }
    await Promise.all(this.#underWay);
    clearInterval(alive);
  }

  readonly #onMessage: MessageHandler = (from, type, ring) => {
    if (type === STORE_STOP) this.#stopping = true;
    if (type !== STORE_REQUEST) return;
    const { bytes, length } = this.#letter.take(ring);
    const request = decodeRequest(bytes, length);
    if (!request) return;
    const done = this.#store.handle(request.op).then((result) => {
      if (request.id !== NO_ANSWER) this.#replies.send({ to: from, id: request.id, result });
      this.#underWay.delete(done);
    });
    this.#underWay.add(done);
  };

  async #rest(): Promise<void> {
    const { bell } = this.#mesh;
    bell.prepareSleep();
    if (this.#stopping || !this.#mesh.isQuiet()) {
      bell.awake();
      return;
    }
    const rung = bell.waitAsync(this.#replies.held > 0 ? RETRY_MS : REST_MS);
    if (rung !== true) await rung;
  }
}

/** What comes in one turn of the loop goes in one message. */
function gathered(post: (message: StoreEvents) => void): (events: readonly BindingEvent[]) => void {
  let waiting: BindingEvent[] = [];
  return (events) => {
    if (waiting.length === 0)
      setImmediate(() => {
        post({ kind: 'store-events', events: waiting });
        waiting = [];
      });
    waiting.push(...events);
  };
}

async function runRedisThread(
  data: RedisThreadData,
  report: (message: RedisReport | StoreEvents) => void,
): Promise<void> {
  const { target, node, incarnation } = data;
  const clock = new Clock(data.clock);
  const now = () => Math.floor(clock.wall());
  const mesh = new Mesh(data.mesh, data.participant, await ringWaker(data.wakeFds));
  let isFirst = true;
  const slow = setTimeout(() => {
    if (!isFirst) return;
    report({ kind: 'store-ready', reachable: false, why: 'no answer yet' });
    isFirst = false;
  }, FIRST_REPORT_MS);
  const link = new RedisLink({
    target,
    onState(reachable, why) {
      report({ kind: isFirst ? 'store-ready' : 'store-state', reachable, why });
      isFirst = false;
      if (!reachable) return;
      void store.retell();
      if (data.follows) void store.follow(now());
      void tenure.renew();
    },
  });
  const watch = data.watchedAs === undefined ? undefined : gathered(report);
  const store = new RedisStore({ link, node, watch });
  const tenure = new Tenure({
    link,
    store,
    node,
    incarnation,
    adopted: new Set(data.adopted),
    onRetired: (bindings) => report({ kind: 'store-retired', bindings }),
    onTaken: () => report({ kind: 'store-node-taken', node }),
  });
  await new RedisThread(mesh, store, data.mesh.ringBytes, now).run();
  await store.retell();
  await tenure.end();
  await link.close();
  await new Promise(setImmediate); // what was gathered
  clearTimeout(slow);
}

const data = workerData as RedisThreadData | null;
if (parentPort && data?.role === 'redis') {
  const port = parentPort;
  await runRedisThread(data, (message) => port.postMessage(message));
  port.close();
}
