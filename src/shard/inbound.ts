/**
 * What comes in, taken apart: a datagram is STUN, SIP or junk; a stream's bytes are pings and messages
 * (wire/framer.ts), or frames (websockets.ts). Keep-alives are answered here and go no further. Every arrival
 * touches its flow (EP-5.4-09). A whole message goes to the proxy, with where it came from.
 */
import { ACCEPTED, FIRST_MESSAGE, MESSAGE as IN_MESSAGE, NO_STAGE } from '../flow/deadline.ts';
import type { Flows } from '../flow/flows.ts';
import type { Endpoint } from '../net/endpoint.ts';
import type { Net } from '../net/net.ts';
import type { Exchange } from '../proxy/exchange.ts';
import type { RequestProxy } from '../proxy/proxy.ts';
import type { Responses } from '../proxy/response.ts';
import { Cause } from '../shared/cause.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { EXEMPT, isWebSocket, OUTBOUND_DIALED, TRANSPORT_UDP } from '../shared/flow-record.ts';
import type { FlowTable } from '../shared/flow-table.ts';
import {
  BAD_CONTENT_LENGTH,
  Framer,
  HEAD_TOO_LARGE,
  JUNK,
  MESSAGE,
  MESSAGE_TOO_LARGE,
  MORE,
  NO_CONTENT_LENGTH,
  PING,
} from '../wire/framer.ts';
import { NO_END, NOT_SIP, OK } from '../wire/lexer.ts';
import { answerStun, isStun, STUN_ROOM } from '../wire/stun.ts';
import type { Aliases } from './aliases.ts';
import type { Trust } from './trust.ts';
import type { WebSockets } from './websockets.ts';

const FIRST_TOKEN_OCTET = 33;

export interface InboundParts {
  net: Net;
  flows: Flows;
  counters: Counters;
  exchange: Exchange;
  trust: Trust;
  aliases: Aliases;
  proxy: RequestProxy;
  responses: Responses;
  webSockets: WebSockets;
}

export class Inbound {
  readonly #net: Net;
  readonly #flows: Flows;
  readonly #table: FlowTable;
  readonly #counters: Counters;
  readonly #exchange: Exchange;
  readonly #trust: Trust;
  readonly #aliases: Aliases;
  readonly #proxy: RequestProxy;
  readonly #responses: Responses;
  readonly #webSockets: WebSockets;
  readonly #framers = new Map<number, Framer>();
  /** the time of this round, in deciseconds */
  ds = 0;

  constructor(parts: InboundParts) {
    this.#net = parts.net;
    this.#flows = parts.flows;
    this.#table = parts.flows.table;
    this.#counters = parts.counters;
    this.#exchange = parts.exchange;
    this.#trust = parts.trust;
    this.#aliases = parts.aliases;
    this.#proxy = parts.proxy;
    this.#responses = parts.responses;
    this.#webSockets = parts.webSockets;
    // 7118 5: a WebSocket message keeps its bounds, as a datagram does
    this.#webSockets.arrived = (slot, start, end) => {
      this.#streamSource(slot);
      return this.#message(start, end, true);
    };
  }

  /** A stream begins, or ends. */
  begin(slot: number): void {
    if (isWebSocket(this.#table.transport(slot))) this.#webSockets.begin(slot);
    else this.#framers.set(slot, new Framer());
  }

  end(slot: number): void {
    if (!this.#framers.delete(slot)) this.#webSockets.end(slot);
  }

  datagram(listener: number, from: Endpoint, local: Endpoint, start: number, end: number): void {
    const { mem } = this.#net.arena;
    const slot = this.#flows.find(listener, from, local);
    if (end > start && isStun(mem, start)) {
      if (slot >= 0) this.#flows.keepAlive(slot, this.ds);
      this.#stun(listener, from, local, start, end);
      return;
    }
    if (slot >= 0) this.#flows.touch(slot, this.ds);
    // CRLF on a datagram is no keep-alive (5626 §4.4.1), SigComp is not spoken: only a start line goes on.
    if (end - start < 12 || mem[start] < FIRST_TOKEN_OCTET || mem[start] > 126) {
      this.#counters.inc(Counter.junk);
      return;
    }
    const { source } = this.#exchange;
    source.listener = listener;
    source.transport = TRANSPORT_UDP;
    source.slot = slot;
    source.generation = slot < 0 ? 0 : this.#table.generation(slot);
    source.remote.copy(from);
    source.local.copy(local);
    source.transaction = -1;
    source.fromUpstream = this.#trust.isUpstream(from);
    source.trusted = source.fromUpstream || this.#trust.network(from);
    this.#message(start, end, true);
  }

  #stun(listener: number, from: Endpoint, local: Endpoint, start: number, end: number): void {
    const { arena } = this.#net;
    this.#counters.inc(Counter.stunRequests);
    const at = arena.reserve();
    const length = answerStun(arena.mem, start, end, from, arena.mem, at);
    if (length === 0) {
      this.#counters.inc(Counter.stunErrors);
      return;
    }
    arena.outAt = at + Math.min(length, STUN_ROOM);
    this.#net.sendDatagram(listener, from, local, at, at + length);
  }

  bytes(slot: number, start: number, end: number): number {
    const flows = this.#flows;
    if (flows.stage(slot) === ACCEPTED) flows.enter(slot, FIRST_MESSAGE, this.ds);
    const framer = this.#framers.get(slot);
    if (!framer) return this.#frames(slot, start, end);
    flows.touch(slot, this.ds);
    const { mem } = this.#net.arena;
    const { message } = this.#exchange;
    let p = start;
    for (;;) {
      if (framer.take(message, mem, p, end)) {
        p = framer.frameEnd;
        this.#streamSource(slot);
        this.#lexed(OK, false);
      } else {
        const kind = framer.next(mem, p, end);
        if (kind === MORE) {
          if (framer.inMessage && flows.stage(slot) === NO_STAGE) flows.enter(slot, IN_MESSAGE, this.ds);
          return framer.frameEnd - start;
        }
        p = framer.frameEnd;
        if (kind === PING) this.#pong(slot);
        else if (kind === MESSAGE) {
          this.#streamSource(slot);
          const verdict = this.#message(framer.frameStart, p, false);
          if (verdict === NOT_SIP || verdict === NO_END) this.#net.close(slot, Cause.MALFORMED, true);
        } else {
          this.#unframed(slot, kind, framer.frameStart, p);
          return end - start;
        }
      }
      if (!this.#net.isOpen(slot)) return end - start;
    }
  }

  /** Of a WebSocket: what is left is the beginning of a frame, or a message whose last fragment has not come. */
  #frames(slot: number, start: number, end: number): number {
    const flows = this.#flows;
    const used = this.#webSockets.bytes(slot, start, end, this.ds);
    if (used < end - start) {
      if (flows.stage(slot) === NO_STAGE) flows.enter(slot, IN_MESSAGE, this.ds);
    } else if (flows.stage(slot) === IN_MESSAGE) flows.enter(slot, NO_STAGE, this.ds);
    return used;
  }

  #pong(slot: number): void {
    const { arena } = this.#net;
    this.#counters.inc(Counter.pings);
    this.#table.setLastKeepAlive(slot, this.ds);
    const at = arena.reserve();
    arena.mem[at] = 13;
    arena.mem[at + 1] = 10;
    arena.outAt = at + 2;
    if (this.#net.sendStream(slot, at, at + 2)) this.#counters.inc(Counter.pongs);
  }

  /** The stream cannot be framed any more: an answer where the head is known, and the end. */
  #unframed(slot: number, kind: number, start: number, end: number): void {
    const large = kind === MESSAGE_TOO_LARGE || kind === HEAD_TOO_LARGE;
    this.#counters.inc(large ? Counter.tooLarge : kind === JUNK ? Counter.junk : Counter.malformed);
    if (kind === NO_CONTENT_LENGTH || kind === BAD_CONTENT_LENGTH || kind === MESSAGE_TOO_LARGE) {
      this.#streamSource(slot);
      const [status, reason] =
        kind === MESSAGE_TOO_LARGE
          ? [513, 'Message Too Large']
          : [400, kind === NO_CONTENT_LENGTH ? 'Missing Content-Length' : 'Bad Content-Length'];
      this.#exchange.ds = this.ds;
      this.#exchange.message.lex(this.#net.arena.mem, start, end, false);
      this.#proxy.answerOnly(status, reason);
    }
    this.#net.close(slot, large ? Cause.TOO_LARGE : Cause.MALFORMED, true);
  }

  /** A whole message has come on the stream. */
  #streamSource(slot: number): void {
    this.#flows.enter(slot, NO_STAGE, this.ds);
    const { source } = this.#exchange;
    const table = this.#table;
    source.listener = table.listener(slot);
    source.transport = table.transport(slot);
    source.slot = slot;
    source.generation = table.generation(slot);
    source.transaction = -1;
    this.#flows.clientOf(slot, source.remote);
    this.#flows.localOf(slot, source.local);
    source.trusted = table.has(slot, EXEMPT);
    source.fromUpstream =
      source.trusted && table.has(slot, OUTBOUND_DIALED) && this.#trust.isUpstream(source.remote);
  }

  #message(start: number, end: number, datagram: boolean): number {
    const verdict = this.#exchange.message.lex(this.#net.arena.mem, start, end, datagram);
    this.#lexed(verdict, datagram);
    return verdict;
  }

  #lexed(verdict: number, datagram: boolean): void {
    this.#counters.inc(Counter.messagesIn);
    this.#exchange.ds = this.ds;
    if (this.#exchange.message.isRequest) {
      if (!datagram) this.#aliases.request();
      this.#proxy.request(verdict);
    } else this.#responses.response(verdict);
  }
}
