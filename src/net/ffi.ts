/**
 * The fast backend: raw descriptors and an epoll set of the shard's own, with libuv's backend
 * descriptor nested in it (the "inverted loop": see native-notes.md). A round is: wait, read what is
 * ready, let the handler do its rings and timers, write what was queued. After a burst of rounds, or
 * when libuv's descriptor is ready, the loop yields by `setImmediate`, so that libuv has its turn.
 *
 * libuv takes up new watchers only in its own poll phase: after anything of Node's was active the next
 * eight rounds do not wait.
 *
 * The epoll descriptor and the UDP sockets belong to main and outlive this shard; what a replacement
 * finds in the epoll set carries (slot, generation), so events of ended flows are recognised.
 */
import { EPOLLERR, EPOLLIN, Epoll } from '../native/epoll.ts';
import { EventCounter } from '../native/eventfd.ts';
import { backendFd } from '../native/uv.ts';
import type { Counters } from '../shared/counters.ts';
import type { FlowTable } from '../shared/flow-table.ts';
import type { SslTable } from '../shared/ssl-table.ts';
import { Arena } from './arena.ts';
import { Datagrams } from './datagrams.ts';
import type { Endpoint } from './endpoint.ts';
import type { Listener, Net, NetHandler } from './net.ts';
import { RawStreams } from './rawstreams.ts';
import type { Serving } from './serving.ts';

/** First data words of the descriptors that are no flows; their second word is 0, which no generation is. */
const EVENTFD = -1;
const LIBUV = -2;

/** Rounds between two turns of libuv, while there is work. */
const ROUNDS = 16;
/** Rounds without waiting after libuv was active. */
const ATTENTIVE = 8;
/** The longest wait, so that a lost wake-up would be a delay and not a halt. */
const LONGEST_WAIT = 1_000;
/** The same while Node sockets are in use: what libuv does between two rounds is not seen from here. */
const LONGEST_WAIT_NODE = 20;

export interface FfiOptions {
  listeners: Listener[];
  /** by listener id: the UDP socket that this shard sends by, -1 for a stream listener */
  sockets: number[];
  epoll: number;
  eventfd: number;
  flows: FlowTable;
  counters: Counters;
  now: () => number;
  /** from 1 */
  shard: number;
  /** a predecessor has filled the epoll set */
  replacement: boolean;
  /** undefined: no stream is secured */
  ssl: SslTable | undefined;
  /** Node sockets or timers are in use on this thread: libuv must have its turn oftener */
  nodeSockets: boolean;
}

export class FfiNet implements Net {
  readonly name = 'ffi';
  readonly arena = new Arena();
  readonly ready = Promise.resolve();
  readonly #epoll: Epoll;
  readonly #wakeUp: EventCounter;
  readonly #datagrams: Datagrams;
  readonly #streams: RawStreams;
  readonly #now: () => number;
  #handler!: NetHandler;
  #running = false;
  #attentive = ATTENTIVE;
  #nextTimer = 0;
  readonly #longestWait: number;
  #flushing = false;

  constructor(options: FfiOptions) {
    this.#epoll = new Epoll(options.epoll);
    this.#wakeUp = new EventCounter(options.eventfd);
    this.#now = options.now;
    this.#longestWait = options.nodeSockets ? LONGEST_WAIT_NODE : LONGEST_WAIT;
    this.#datagrams = new Datagrams(this.arena, options.listeners, options.sockets, options.counters);
    const { flows, counters, now, ssl } = options;
    this.#streams = new RawStreams({ arena: this.arena, epoll: this.#epoll, flows, counters, now, ssl });
    this.arena.flush = () => this.flush();
    if (!options.replacement) {
      this.#epoll.add(options.eventfd, EPOLLIN, EVENTFD, 0);
      const reads = (id: number) => [0, options.shard].includes(options.listeners[id].shard);
      for (const [id, fd] of options.sockets.entries())
        if (fd >= 0 && reads(id)) this.#epoll.add(fd, EPOLLIN | EPOLLERR, id, 0);
    }
    // Each thread's libuv has a descriptor of its own; the predecessor's left the set when it was closed.
    this.#epoll.add(backendFd(), EPOLLIN, LIBUV, 0);
  }

  start(handler: NetHandler): void {
    this.#handler = handler;
    this.#running = true;
    setImmediate(this.#loop);
  }

  stop(): void {
    this.#running = false;
    this.flush();
    this.#streams.closeAll();
    this.#epoll.remove(backendFd());
  }

  wake(): void {
    this.#wakeUp.signal();
  }

  readonly #loop = (): void => {
    for (let round = 0; round < ROUNDS && this.#running; round++) {
      const libuv = this.#round(round > 0);
      if (libuv < 0) break;
      if (libuv > 0) {
        this.#attentive = ATTENTIVE;
        break;
      }
    }
    if (this.#running) setImmediate(this.#loop);
  };

  /** One round. 1: libuv has something; -1: nothing was ready; 0: there was work. */
  #round(again: boolean): number {
    const handler = this.#handler;
    const n = this.#epoll.wait(this.#timeout(again));
    let libuv = n > 0 ? 0 : -1;
    const now = this.#now();
    handler.tick();
    this.#streams.resume(handler);
    for (let i = 0; i < n; i++) {
      const slot = this.#epoll.data0(i);
      const generation = this.#epoll.data1(i);
      const events = this.#epoll.events(i);
      if (generation !== 0) this.#streams.event(slot, generation, events, now, handler);
      else if (slot >= 0) {
        if (events & EPOLLERR) this.#datagrams.drainErrors(slot, handler);
        if (events & EPOLLIN) this.#datagrams.read(slot, handler, this.#flushNow);
      } else if (slot === EVENTFD) this.#wakeUp.drain();
      else libuv = 1;
    }
    this.#nextTimer = handler.turn();
    this.flush();
    const settle = this.#streams.settle(now, handler);
    if (settle < this.#nextTimer) this.#nextTimer = settle;
    return libuv;
  }

  #timeout(again: boolean): number {
    if (again) return 0;
    if (this.#attentive > 0) {
      this.#attentive--;
      return 0;
    }
    const wait = Math.ceil(this.#nextTimer - this.#now());
    if (wait <= 0 || !this.#handler.rest()) return 0;
    return Math.min(wait, this.#longestWait);
  }

  readonly #flushNow = (): void => this.flush();

  sendDatagram(
    listener: number,
    to: Endpoint,
    local: Endpoint | undefined,
    start: number,
    end: number,
  ): void {
    this.#datagrams.queue(listener, to, local, start, end, this.#handler);
  }

  sendStream(slot: number, start: number, end: number): boolean {
    return this.#streams.send(slot, start, end);
  }

  adopt(slot: number): void {
    if (this.#streams.adopt(slot)) this.#handler.opened(slot);
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
    const now = this.#now();
    do {
      this.#datagrams.flush(this.#handler);
      this.#streams.flush(now, this.#handler);
    } while (this.#streams.reportLost(this.#handler));
    this.arena.emptied();
    this.#flushing = false;
  }
}
