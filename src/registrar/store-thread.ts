import { parentPort, workerData } from 'node:worker_threads';
import { Clock, type ClockDescriptor } from '../shared/clock.ts';
import { Mesh, type MeshDescriptor, type MessageHandler } from '../shared/mesh.ts';
import { type BindingEvent, Journal } from './events.ts';
import { LmdbBackend, type LmdbOptions } from './lmdb.ts';
import { MemoryBackend } from './memory.ts';
import { decodeRequest, Letter, STORE_REQUEST, STORE_STOP } from './message.ts';
import { Replies, ringWaker } from './replies.ts';
import { type Delivery, StoreService } from './service.ts';

/**
 * The thread that owns the location store, as the entry of a worker.
 *
 * It sleeps on its doorbell (Atomics.wait), takes what all rings hold up to a bound, commits it as one
 * transaction, and answers. The busier it is, the larger its batches: a commit's cost is shared.
 * Its event loop stands still while it runs, so it must not be asked anything by message port; main stops it
 * by STORE_STOP. An answer that finds a full ring is tried again for as long as its requester waits.
 */
export interface StoreThreadData {
  role: 'store';
  mesh: MeshDescriptor;
  /** this thread's place in the mesh */
  participant: number;
  store: { kind: 'memory' } | ({ kind: 'lmdb' } & LmdbOptions);
  /** of this life of the node; stream flows of another one are retired, but for `adopted` */
  incarnation: number;
  adopted?: string[];
  clock: ClockDescriptor;
  /** what happens to bindings is posted to main, as of this node */
  watchedAs?: number;
  /** eventfd of each participant, by its place; absent where all wait on the word of their bell (core backend) */
  wakeFds?: number[];
}

/** Posted to main once, when requests are taken. */
export interface StoreReady {
  kind: 'store-ready';
  bindings: number;
  /** bindings that were retired with their flows of an earlier life */
  retired: number;
  /** where files of unknown integrity were put */
  setAside?: string;
}

/** Posted to main after each commit that changed bindings, if they are watched. */
export interface StoreEvents {
  kind: 'store-events';
  events: readonly BindingEvent[];
}

/** requests in one transaction: bounds how long the first waits for the last */
const BATCH = 512;
const RETRY_MS = 2;
const SWEEP_MS = 1_000;
const SWEEP_AORS = 1_000;

class StoreThread {
  readonly #mesh: Mesh;
  readonly #service: StoreService;
  readonly #replies: Replies;
  readonly #letter = new Letter();
  #batch: Delivery[] = [];
  #stopping = false;
  readonly #now: () => number;
  readonly #tell: () => void;
  #nextSweep = 0;

  constructor(mesh: Mesh, service: StoreService, ringBytes: number, now: () => number, tell: () => void) {
    this.#mesh = mesh;
    this.#service = service;
    this.#now = now;
    this.#tell = tell;
    this.#replies = new Replies(mesh, ringBytes);
  }

  /** Returns after STORE_STOP. */
  run(): void {
    while (!this.#stopping) {
      this.#replies.retry();
      this.#mesh.receive(this.#onMessage, BATCH);
      const idle = this.#batch.length === 0;
      if (!idle) this.#handle();
      if (!this.#sweep() && idle) this.#rest();
    }
  }

  readonly #onMessage: MessageHandler = (from, type, ring) => {
    if (type === STORE_STOP) {
      this.#stopping = true;
      return;
    }
    if (type !== STORE_REQUEST) return;
    const { bytes, length } = this.#letter.take(ring);
    const request = decodeRequest(bytes, length);
    if (request) this.#batch.push({ from, id: request.id, op: request.op });
  };

  #handle(): void {
    const batch = this.#batch;
    this.#batch = [];
    for (const reply of this.#service.handle(batch)) this.#replies.send(reply);
    this.#tell();
  }

  /** Once a second, and on while there is much to sweep. False: it was not time. */
  #sweep(): boolean {
    const now = this.#now();
    if (now < this.#nextSweep) return false;
    const gone = this.#service.sweep(now, SWEEP_AORS);
    this.#nextSweep = gone < SWEEP_AORS ? now + SWEEP_MS : now;
    this.#tell();
    return true;
  }

  #rest(): void {
    const { bell } = this.#mesh;
    bell.prepareSleep();
    if (this.#stopping || !this.#mesh.isQuiet()) bell.awake();
    else bell.wait(this.#replies.held > 0 ? RETRY_MS : Math.max(0, this.#nextSweep - this.#now()));
  }
}

async function runStoreThread(
  data: StoreThreadData,
  post: (message: StoreReady | StoreEvents) => void,
  wake?: (participant: number) => boolean,
): Promise<void> {
  const backend = data.store.kind === 'memory' ? new MemoryBackend() : new LmdbBackend(data.store);
  const clock = new Clock(data.clock);
  const now = () => Math.floor(clock.wall());
  const service = new StoreService(
    backend,
    data.watchedAs === undefined ? undefined : new Journal(data.watchedAs, now),
  );
  const tell = () => {
    const events = service.takeEvents();
    if (events.length > 0) post({ kind: 'store-events', events });
  };
  const retired = service.location.retireOtherIncarnations(data.incarnation, new Set(data.adopted), tell);
  const mesh = new Mesh(data.mesh, data.participant, wake);
  const message: StoreReady = { kind: 'store-ready', bindings: service.location.count, retired };
  if (backend instanceof LmdbBackend && backend.setAside !== undefined) message.setAside = backend.setAside;
  post(message);
  new StoreThread(mesh, service, data.mesh.ringBytes, now, tell).run();
  await backend.close();
}

const data = workerData as StoreThreadData | null;
if (parentPort && data?.role === 'store') {
  const port = parentPort;
  await runStoreThread(data, (message) => port.postMessage(message), await ringWaker(data.wakeFds));
  port.close();
}
