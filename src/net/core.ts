/**
 * The portable backend: node:dgram and node:net on libuv's own loop. Each shard opens sockets of its
 * own for every listener, as members of one SO_REUSEPORT group; where the platform has no such groups
 * shard 0 alone opens them.
 *
 * A turn comes after a batch of socket events (`setImmediate`, which libuv runs behind its poll phase),
 * at the time that the last turn asked for, when the bell of this thread's rings is rung, and at least
 * every LONGEST_WAIT, so that a lost wake-up would be a delay and not a halt. The timer of that wait
 * also keeps the thread alive: a pending waitAsync does not.
 *
 * At most one wait on the bell is pending. A wait that is left over from an earlier rest serves the
 * next one too: as long as it has not told its end, either it will be notified or its end is on its way.
 */
import type { Counters } from '../shared/counters.ts';
import { TRANSPORT_UDP } from '../shared/flow-record.ts';
import type { FlowTable } from '../shared/flow-table.ts';
import { Arena } from './arena.ts';
import { CoreAcceptor } from './coreaccept.ts';
import { CoreDatagrams } from './coredatagrams.ts';
import { CoreStreams } from './corestreams.ts';
import type { Endpoint } from './endpoint.ts';
import { Hosts } from './hosts.ts';
import type { Listener, Net, NetHandler } from './net.ts';
import type { Serving } from './serving.ts';

const LONGEST_WAIT = 1_000;

export interface CoreOptions {
  listeners: Listener[];
  flows: FlowTable;
  counters: Counters;
  now: () => number;
  /** from 0 */
  shard: number;
  /** this shard opens stream listeners */
  accept: boolean;
  /** several shards open the same listeners */
  reusePort: boolean;
  /** A claimed record, its kind and remote address set, for a socket that was accepted; -1 refuses it. */
  claimStream: (listener: number, remote: Endpoint) => number;
  /** Waits on this thread's doorbell, which `rest` has prepared. True: rung already. */
  bellWait?: () => true | Promise<boolean>;
}

export class CoreNet implements Net {
  readonly name = 'core';
  readonly arena = new Arena();
  /** Settled once `start` has bound every listener; rejects with the first bind error. */
  readonly ready: Promise<void>;
  readonly #options: CoreOptions;
  readonly #datagrams: CoreDatagrams;
  readonly #streams: CoreStreams;
  readonly #acceptor: CoreAcceptor;
  readonly #bound = Promise.withResolvers<void>();
  #handler!: NetHandler;
  #running = false;
  #turning = false;
  #flushing = false;
  #waiting = false;
  #immediate: NodeJS.Immediate | undefined;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = 0;

  constructor(options: CoreOptions) {
    const { flows, counters, now, claimStream } = options;
    const { arena } = this;
    const hosts = new Hosts();
    this.#options = options;
    this.ready = this.#bound.promise;
    this.#datagrams = new CoreDatagrams(arena, counters, hosts, this.#woken);
    this.#streams = new CoreStreams({ arena, flows, counters, hosts, now, woken: this.#woken });
    this.#acceptor = new CoreAcceptor(counters, hosts, claimStream, this.#streams, flows);
    arena.flush = () => this.flush();
  }

  start(handler: NetHandler): void {
    this.#handler = handler;
    this.#streams.handler = handler;
    this.#running = true;
    this.wake();
    const { listeners, reusePort } = this.#options;
    Promise.all(listeners.map((listener) => this.#open(listener, reusePort))).then(
      () => this.#bound.resolve(),
      this.#bound.reject,
    );
  }

  async #open(listener: Listener, reusePort: boolean): Promise<void> {
    const { shard, accept } = this.#options;
    const datagrams = listener.transport === TRANSPORT_UDP;
    if ((!datagrams && !accept) || (!reusePort && shard > 0)) return;
    try {
      if (datagrams) await this.#datagrams.open(listener, reusePort, this.#handler);
      else await this.#acceptor.open(listener, reusePort);
    } catch (error) {
      if (!reusePort || (error as NodeJS.ErrnoException).code !== 'ENOTSUP') throw error;
      await this.#open(listener, false);
    }
  }

  stop(): void {
    this.flush();
    this.#running = false;
    clearImmediate(this.#immediate);
    clearTimeout(this.#timer);
    this.#acceptor.close();
    this.#streams.closeAll();
    this.#datagrams.close();
  }

  wake(): void {
    if (this.#running) this.#immediate ??= setImmediate(this.#turn);
  }

  /** What happens within a turn is dealt with by that turn. */
  readonly #woken = (): void => {
    if (!this.#turning) this.wake();
  };

  readonly #turn = (): void => {
    this.#immediate = undefined;
    this.#turning = true;
    const timer = this.#handler.turn();
    this.flush();
    const now = this.#options.now();
    const next = Math.min(timer, this.#streams.settle(now));
    this.#turning = false;
    if (!this.#running) return;
    if (next <= now || !this.#handler.rest()) {
      this.wake();
      return;
    }
    this.#arm(Math.min(next, now + LONGEST_WAIT), now);
    this.#awaitBell();
  };

  /** A timer that is due earlier stays: it costs a turn, and re-arming for every turn would cost more. */
  #arm(at: number, now: number): void {
    if (this.#timer !== undefined && this.#timerAt <= at) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(this.#expired, Math.ceil(at - now));
  }

  readonly #expired = (): void => {
    this.#timer = undefined;
    this.wake();
  };

  #awaitBell(): void {
    const { bellWait } = this.#options;
    if (!bellWait || this.#waiting) return;
    const rung = bellWait();
    if (rung === true) {
      this.wake();
      return;
    }
    this.#waiting = true;
    rung.then(this.#rung);
  }

  readonly #rung = (): void => {
    this.#waiting = false;
    this.wake();
  };

  sendDatagram(
    listener: number,
    to: Endpoint,
    _local: Endpoint | undefined,
    start: number,
    end: number,
  ): void {
    this.#datagrams.queue(listener, to, start, end);
  }

  sendStream(slot: number, start: number, end: number): boolean {
    return this.#streams.send(slot, start, end);
  }

  adopt(_slot: number): void {
    throw new Error('the core backend takes no descriptors over');
  }

  serve(serving: Serving): void {
    this.#streams.serving = serving;
  }

  identities(slot: number): readonly string[] | undefined {
    return this.#streams.identities(slot);
  }

  dial(slot: number, to: Endpoint, host = to.host, from?: Endpoint): number {
    return this.#streams.dial(slot, to, host, from);
  }

  close(slot: number, cause: number, drain: boolean): void {
    this.#streams.close(slot, cause, drain);
  }

  isOpen(slot: number): boolean {
    return this.#streams.isOpen(slot);
  }

  flush(): void {
    if (this.#flushing) return; // `unsent` may ask for room: it has to do with what is left
    this.#flushing = true;
    do {
      this.#datagrams.flush();
      this.#streams.flush();
    } while (this.#streams.reportLost());
    this.arena.emptied();
    this.#flushing = false;
  }
}
