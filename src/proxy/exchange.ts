/**
 * The message in hand and all that its handling needs: one object a shard, filled again for every
 * message. `Outlet` is the way out that the shard gives.
 */

import type { Arena } from '../net/arena.ts';
import { Endpoint } from '../net/endpoint.ts';
import { Message } from '../wire/lexer.ts';
import { Patch } from '../wire/patch.ts';
import { Via } from '../wire/via.ts';
import { Writer } from '../wire/writer.ts';

/** Where the message came from. */
export class Source {
  /** the listener that it came in on; for a connection that we opened, the one that its Via names */
  listener = 0;
  transport = 0;
  /** its flow's slot, -1 for a datagram of no known flow */
  slot = -1;
  generation = 0;
  /** the client: on a stream from a balancer that told who he is, not the socket's */
  readonly remote = new Endpoint();
  readonly local = new Endpoint();
  /** the upstream itself, a trusted network, or a connection that we opened to one of them */
  trusted = false;
  /** the server transaction of the request, -1: it is handled without one */
  transaction = -1;
  transactionGeneration = 0;
  /** the upstream itself: what it sends never goes back to it */
  fromUpstream = false;

  copy(from: Source): this {
    this.listener = from.listener;
    this.transport = from.transport;
    this.slot = from.slot;
    this.generation = from.generation;
    this.remote.copy(from.remote);
    this.local.copy(from.local);
    this.trusted = from.trusted;
    this.fromUpstream = from.fromUpstream;
    this.transaction = from.transaction;
    this.transactionGeneration = from.transactionGeneration;
    return this;
  }
}

/** What became of a message that was given to a flow. */
export const SENT = 0;
/** the flow has ended */
export const ENDED = 1;
/** its shard's ring is full */
export const BUSY = 2;

/** How a composed message leaves. Ranges lie in the arena's out region. */
export interface Outlet {
  /** To a live flow, on whichever shard it is: SENT, ENDED or BUSY. */
  toFlow(slot: number, generation: number, start: number, end: number): number;
  toDatagram(listener: number, to: Endpoint, local: Endpoint | undefined, start: number, end: number): void;
  /**
   * Over a connection to this address that we keep or open; of TCP, unless `transport` says another. Where that is
   * secured, `host` is whom its certificate must name; without it, whatever connection was used last. False: it
   * cannot be opened now.
   */
  toConnection(to: Endpoint, start: number, end: number, transport?: number, host?: string): boolean;
}

export class Exchange {
  readonly arena: Arena;
  readonly out: Writer;
  readonly patch: Patch;
  readonly message = new Message();
  readonly via = new Via();
  readonly source = new Source();
  /** the time, in deciseconds of the process */
  ds = 0;

  /**
   * `second`: for what happens while output is flushed, which may be in the middle of another exchange: it
   * has the other half of the scratch region.
   */
  constructor(arena: Arena, second = false) {
    const half = arena.scratchSize >> 1;
    this.arena = arena;
    this.out = new Writer(arena.mem);
    this.patch = new Patch(arena.mem, second ? arena.scratch + half : arena.scratch, half);
  }

  /** Opens the writer at room for one message of any size; returns where it starts. */
  openOut(): number {
    const start = this.arena.reserve();
    this.out.open(start, this.arena.outLimit);
    return start;
  }

  /** Keeps what was written; without this call it is as if it had not been. */
  keepOut(): number {
    this.arena.outAt = this.out.at;
    return this.out.at;
  }
}
