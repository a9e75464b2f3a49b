/**
 * Keeps the shards running. They are long-lived tasks of one Piscina pool, which starts and replaces the
 * threads; a task that ends with an error is submitted again, with a back-off that a healthy minute
 * forgets, so that a poisonous message cannot make a loop.
 *
 * Between a shard's death and its replacement main puts its books right: what was in its rings is thrown
 * away, half-made records are given up, and a stream that had a partial message or undrained output is
 * closed with SHARD_LOST and its bindings retire. Quiet raw flows stay as they are, descriptor and all, TLS
 * with its connection in OpenSSL: the replacement takes them up. A descriptor is closed only if the socket behind the number is still
 * the one of the record (SO_COOKIE).
 */
import { join } from 'node:path';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { Piscina } from 'piscina';
import type { Serving } from '../net/serving.ts';
import type { Logger } from '../observe/log.ts';
import { flowKey } from '../registrar/binding.ts';
import { encodeRequest, NO_ANSWER, STORE_REQUEST } from '../registrar/message.ts';
import { FAIL, type ShardBoot, type ShardOrder, type ShardReport, STOP } from '../shard/boot.ts';
import type { ShardTask } from '../shard/worker.ts';
import { Cause } from '../shared/cause.ts';
import type { Counters } from '../shared/counters.ts';
import { FlowIndex } from '../shared/flow-index.ts';
import { NODE_OWNED_FD, PARTIAL_IN, TRANSPORT_UDP, UNDRAINED_OUT } from '../shared/flow-record.ts';
import { CLAIMED, CLOSING, type FlowTable } from '../shared/flow-table.ts';
import { Mesh } from '../shared/mesh.ts';
import type { Descriptors } from './descriptors.ts';

const READY_MS = 15_000;
const HEALTHY_MS = 60_000;
const FIRST_DELAY_MS = 50;
const LONGEST_DELAY_MS = 10_000;
const STOP_MS = 3_000;
/** A transaction leaves some 2 KB of garbage: a shard needs less room for it than V8 would take, and collects 4 in a thousand of its time. */
const YOUNG_MIB = 6;
/**
 * From the last native call of a shard to the end of its thread. V8 may still be compiling a caller of one in the
 * background, and node:ffi frees what describes it with the thread: that ends the process (native-notes.md).
 */
const SETTLE_MS = 100;

export interface SupervisorParts {
  boot: Omit<ShardBoot, 'self' | 'epoll' | 'sockets' | 'replacement' | 'life'>;
  shards: number;
  descriptors: Descriptors | undefined;
  mail: Mesh;
  table: FlowTable;
  counters: Counters;
  log: Logger;
}

export class Supervisor {
  readonly #p: SupervisorParts;
  readonly #pool: Piscina;
  readonly #running = new Set<Promise<void>>();
  readonly #deaths: number[];
  readonly #lives: number[];
  readonly #ports: (MessagePort | undefined)[] = [];
  /** by shard: the generation of certificates that it serves */
  readonly #serves: number[];
  /** by generation: who waits until all shards serve it */
  readonly #awaited = new Map<number, () => void>();
  readonly #index: FlowIndex;
  #stopping = false;

  constructor(parts: SupervisorParts) {
    this.#p = parts;
    this.#index = new FlowIndex(parts.boot.index, parts.table);
    this.#deaths = new Array<number>(parts.shards + 1).fill(0);
    this.#serves = new Array<number>(parts.shards + 1).fill(0);
    this.#lives = new Array<number>(parts.shards + 1).fill(0);
    this.#pool = new Piscina({
      filename: join(import.meta.dirname, '../shard/worker.ts'),
      minThreads: parts.shards,
      maxThreads: parts.shards,
      concurrentTasksPerWorker: 1,
      atomics: 'disabled',
      idleTimeout: Number.POSITIVE_INFINITY,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MIB },
    });
  }

  /** Resolves when every shard serves. */
  async start(): Promise<void> {
    const ready: Promise<number>[] = [];
    for (let self = 1; self <= this.#p.shards; self++) ready.push(this.#launch(self, false));
    await Promise.all(ready);
  }

  /** Starts shard `self`; resolves, when it serves, with the number of flows that it took up. */
  #launch(self: number, replacement: boolean): Promise<number> {
    const { boot, descriptors } = this.#p;
    const { port1, port2 } = new MessageChannel();
    const task: ShardTask = {
      boot: {
        ...boot,
        self,
        epoll: descriptors?.epolls[self - 1] ?? -1,
        sockets: descriptors?.sockets[self - 1] ?? [],
        replacement,
        life: this.#lives[self]++,
      },
      port: port2,
    };
    const began = performance.now();
    // Piscina types the list by the browser's MessagePort
    const transferList = [port2] as unknown as NonNullable<Parameters<Piscina['run']>[1]>['transferList'];
    const run = this.#pool.run(task, { transferList }) as Promise<void>;
    return new Promise<number>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`shard ${self} did not come up`)), READY_MS);
      this.#ports[self] = port1;
      port1.on('message', (report: ShardReport) => {
        if (report.kind === 'serving') {
          this.#serve(self, report.generation);
          return;
        }
        clearTimeout(timer);
        this.#serve(self, task.boot.serving?.generation ?? 0);
        resolve(report.inherited);
      });
      const watched = run.then(
        () => port1.close(),
        (error: Error) => {
          clearTimeout(timer);
          port1.close();
          reject(error);
          if (!this.#stopping) this.#died(self, error, performance.now() - began);
        },
      );
      this.#running.add(watched);
      void watched.finally(() => this.#running.delete(watched));
    });
  }

  #died(self: number, error: Error, lived: number): void {
    const { log } = this.#p;
    this.#deaths[self] = lived > HEALTHY_MS ? 1 : this.#deaths[self] + 1;
    const deaths = this.#deaths[self];
    const delay = deaths === 1 ? 0 : Math.min(FIRST_DELAY_MS * 2 ** (deaths - 2), LONGEST_DELAY_MS);
    log.error({
      event: 'shard-lost',
      shard: self,
      error: error.message,
      stack: error.stack,
      deaths,
      restartInMs: delay,
    });
    const closed = this.#clearUp(self);
    setTimeout(() => {
      if (this.#stopping) return;
      this.#launch(self, true).then(
        (inherited) => log.warn({ event: 'shard-replaced', shard: self, inherited, closed }),
        // a death is reported and handled by its own launch; one that never came up is only told here
        (error: Error) => log.error({ event: 'shard-not-replaced', shard: self, error: error.message }),
      );
    }, delay);
  }

  /** What the dead shard left unfinished. Returns how many flows were closed. */
  #clearUp(self: number): number {
    const { boot, table } = this.#p;
    Mesh.discardFor(boot.mesh, self);
    let closed = 0;
    table.sweep(self, (slot, state, generation) => {
      if (state === CLAIMED) {
        this.#closeDescriptor(slot); // the sweep gives the record up
        return;
      }
      const stream = table.transport(slot) !== TRANSPORT_UDP;
      const unfinished = table.has(slot, PARTIAL_IN | UNDRAINED_OUT) || table.has(slot, NODE_OWNED_FD);
      if (state !== CLOSING && !(stream && unfinished)) return;
      if (stream) this.#closeDescriptor(slot);
      else this.#index.remove(slot);
      // whether or not its registration was known: it may be on its way to the store
      this.#retire(slot, generation, !stream);
      if (table.release(slot, generation, Cause.SHARD_LOST)) closed++;
    });
    this.#index.sweepStale();
    return closed;
  }

  #closeDescriptor(slot: number): void {
    const { table, descriptors } = this.#p;
    const fd = table.fd(slot);
    if (fd >= 0 && !table.has(slot, NODE_OWNED_FD))
      descriptors?.closeFlow(fd, table.cookieLow(slot), table.cookieHigh(slot));
    descriptors?.freeSecured(slot);
  }

  #retire(slot: number, generation: number, datagram: boolean): void {
    const { boot, mail } = this.#p;
    if (boot.store === 0) return;
    const flow = flowKey(slot, generation, boot.incarnation, datagram);
    const message = encodeRequest({
      id: NO_ANSWER,
      op: { kind: 'flow-closed', flow, cause: Cause.SHARD_LOST },
    });
    mail.send(boot.store, STORE_REQUEST, 0, message, 0, message.length);
  }

  /** Certificates for handshakes from now on; settled when no shard uses older ones. */
  async serve(serving: Serving): Promise<void> {
    this.#p.boot.serving = serving; // for a replacement
    for (const port of this.#ports) port?.postMessage({ kind: 'serve', serving } satisfies ShardOrder);
    await new Promise<void>((resolve) => this.#awaited.set(serving.generation, resolve));
  }

  #serve(self: number, generation: number): void {
    this.#serves[self] = generation;
    const [, ...all] = this.#serves;
    const oldest = Math.min(...all);
    for (const [awaited, done] of this.#awaited) {
      if (awaited > oldest) continue;
      this.#awaited.delete(awaited);
      done();
    }
  }

  wake(participant: number): void {
    if (this.#p.descriptors?.wake(participant)) return;
    this.#p.mail.nudge(participant);
  }

  fail(index: number): void {
    this.#p.mail.send(index + 1, FAIL, 0);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    for (let self = 1; self <= this.#p.shards; self++) this.#p.mail.send(self, STOP, 0);
    const late = new Promise<void>((resolve) => setTimeout(resolve, STOP_MS).unref());
    await Promise.race([Promise.allSettled([...this.#running]), late]);
    if (this.#p.descriptors) await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    await this.#pool.destroy();
  }
}
