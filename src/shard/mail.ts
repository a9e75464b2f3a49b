/**
 * What comes to this shard by ring (boot.ts says what each kind holds), sorted: each to whom it is for.
 * A payload is good until `receive` returns; a message is copied into the arena, where messages are read.
 */
import type { Net } from '../net/net.ts';
import { decodeTargets } from '../net/targets.ts';
import type { Exchange } from '../proxy/exchange.ts';
import type { Responses } from '../proxy/response.ts';
import type { Upstream } from '../proxy/upstream.ts';
import type { StoreClient } from '../registrar/client.ts';
import { STORE_ANSWER } from '../registrar/message.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import type { FlowTable } from '../shared/flow-table.ts';
import type { Ring } from '../shared/ring.ts';
import {
  FAIL,
  FLOW_FAILED,
  FLOW_WRITE,
  HANDOFF,
  LOCATED,
  RESPONSE,
  STOP,
  UNREACHABLE,
  UPSTREAM,
} from './boot.ts';
import type { Inbound } from './inbound.ts';
import type { Locations } from './locations.ts';
import type { Post } from './post.ts';
import type { Unreachable } from './unreachable.ts';

export interface MailParts {
  net: Net;
  table: FlowTable;
  counters: Counters;
  exchange: Exchange;
  /** knows the time of this round */
  inbound: Inbound;
  responses: Responses;
  /** answers what could not be written */
  undelivered: Responses;
  locations: Locations;
  unreachable: Unreachable;
  upstream: Upstream | undefined;
  store: StoreClient | undefined;
  post: Post;
  /** the shard has been told to end */
  stopped: () => void;
}

export class Mail {
  readonly #p: MailParts;

  constructor(parts: MailParts) {
    this.#p = parts;
  }

  readonly receive = (from: number, type: number, ring: Ring): void => {
    switch (type) {
      case HANDOFF:
        this.#p.net.adopt(ring.word(0));
        return;
      case FLOW_WRITE:
        this.#write(from, ring);
        return;
      case FLOW_FAILED:
        this.#failed(ring);
        return;
      case RESPONSE:
        this.#response(ring);
        return;
      case STORE_ANSWER:
        this.#p.exchange.ds = this.#p.inbound.ds;
        this.#p.store?.onAnswer(ring);
        return;
      case UNREACHABLE:
        this.#p.unreachable.heard(ring);
        return;
      case UPSTREAM: {
        const location = decodeTargets(payloadOf(ring));
        if (location) this.#p.upstream?.replace(location);
        return;
      }
      case LOCATED: {
        const location = decodeTargets(payloadOf(ring));
        this.#p.exchange.ds = this.#p.inbound.ds;
        if (location) this.#p.locations.answered(ring.word(0), location);
        return;
      }
      case STOP:
        this.#p.stopped();
        return;
      case FAIL:
        throw new Error('told to fail');
      default:
    }
  };

  /** Another shard's bytes for a stream of ours; if it has ended they go back. */
  #write(from: number, ring: Ring): void {
    const { net, table, post } = this.#p;
    const { arena } = net;
    const slot = ring.word(0);
    const length = ring.payloadLength;
    const at = arena.reserve();
    arena.mem.set(ring.memory.subarray(ring.payloadOffset, ring.payloadOffset + length), at);
    arena.outAt = at + length;
    if (table.isLive(slot, ring.word(1)) && net.sendStream(slot, at, at + length)) return;
    post.failed(from, at, at + length, 430);
  }

  #failed(ring: Ring): void {
    const { counters, undelivered } = this.#p;
    const status = ring.word(0);
    counters.inc(Counter.flowFailed);
    this.#withPayload(ring, (start, end) =>
      undelivered.undelivered(start, end, status, status === 430 ? 'Flow Failed' : 'Next Hop Unreachable'),
    );
  }

  /** A response that came to another shard and belongs to a transaction of ours. */
  #response(ring: Ring): void {
    const { net, exchange, inbound, responses } = this.#p;
    const { source, message } = exchange;
    source.slot = ring.word(0);
    source.generation = ring.word(1);
    exchange.ds = inbound.ds;
    this.#withPayload(ring, (start, end) => {
      const verdict = message.lex(net.arena.mem, start, end, false);
      if (!message.isRequest) responses.response(verdict);
    });
  }

  #withPayload(ring: Ring, then: (start: number, end: number) => void): void {
    const { arena } = this.#p.net;
    const length = ring.payloadLength;
    const at = arena.slabs.lease(length + 1);
    if (at < 0) {
      this.#p.counters.inc(Counter.slabFull);
      return;
    }
    arena.mem.set(ring.memory.subarray(ring.payloadOffset, ring.payloadOffset + length), at);
    then(at, at + length);
    arena.slabs.giveBack(at);
  }
}

const payloadOf = (ring: Ring): Uint8Array =>
  ring.memory.slice(ring.payloadOffset, ring.payloadOffset + ring.payloadLength);
