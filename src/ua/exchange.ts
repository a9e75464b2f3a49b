/**
 * Transactions of the user agent: the machines and the table of src/transaction, with the messages that they send.
 * What a shard does with cells of an arena, this does with objects: an agent has a few transactions, hardly ever
 * thousands.
 *
 * A client exchange ends with `response` of a final status (for INVITE each 2xx, RFC 6026) or with `failed`, once. The
 * ACK to a refusal is made here; the ACK to a 2xx is the call's. A server exchange answers in the order of `respond`;
 * retransmissions, and an ACK that belongs to a refusal, end here. A response that no exchange knows is dropped.
 *
 * Nothing that came from the network throws; an unreadable request is answered as the lexer says, without state.
 */
import { randomBytes } from 'node:crypto';
import type { Endpoint } from '../net/endpoint.ts';
import { TransactionKey } from '../transaction/key.ts';
import {
  ABSORB,
  ALARM,
  COMPOSE_100,
  END,
  FAILED,
  FORGET,
  KEEP,
  ON_ACK,
  ON_REQUEST,
  ON_TRANSPORT_ERROR,
  onAnswer,
  onResponse,
  PASS,
  PROCEEDING,
  RESEND,
  SEND,
  SEND_ACK,
  TIMED_OUT,
} from '../transaction/machine.ts';
import { Transactions } from '../transaction/table.ts';
import { Timers, type TimerValues } from '../transaction/timers.ts';
import { ascii } from '../wire/chars.ts';
import { composeHead, stampVia } from '../wire/compose.ts';
import { Message, NO_END, OK, statusOf } from '../wire/lexer.ts';
import { MAX_MESSAGE } from '../wire/limits.ts';
import { ACK, CANCEL, INVITE, methodId, methodName, VIA } from '../wire/names.ts';
import { Patch } from '../wire/patch.ts';
import { TRANSPORTS, Via, WS, WSS } from '../wire/via.ts';
import { Writer } from '../wire/writer.ts';
import type { Agenda } from './clock.ts';
import type { Connection } from './connection.ts';
import { Incoming } from './incoming.ts';

export type HeaderList = (readonly [name: string, value: string])[];

/** A request without what the way it goes adds: Via, Content-Length. */
export interface Draft {
  method: string;
  uri: string;
  headers: HeaderList;
  body: Buffer;
}

export interface ClientUser {
  response(response: Incoming): void;
  failed(why: 'timeout' | 'transport'): void;
}

/** Where messages go and come from: a flow, over all the connections that it has one after the other. */
export interface Carrier {
  /** undefined while it has none that is open */
  readonly connection: Connection | undefined;
  readonly peer: Endpoint;
}

const CAPACITY = 1024;
/** room for most phones at any time; from there the table grows */
const FIRST = 16;
/** RFC 3581 3: an INVITE that rings is sent again, where nothing else keeps the way back through a NAT open. */
const RING_MS = 20_000;
const SCRATCH = 64 * 1024;
const COOKIE = 'z9hG4bK';

/**
 * One of each for all agents of a thread: nothing in them is looked at again after anything was sent or told. Message,
 * scratch and answer lie in one buffer, so that slices move within it.
 */
const mem = Buffer.alloc(2 * MAX_MESSAGE + 2 * SCRATCH + 1);
const lexed = new Message();
const topVia = new Via();
const patch = new Patch(mem, MAX_MESSAGE + 1, SCRATCH);
const writer = new Writer(mem);

/** As it stands in a URI or a Via. */
export const hostPort = ({ localHost, localPort }: Connection): string =>
  `${localHost.includes(':') ? `[${localHost}]` : localHost}${localPort === 0 ? '' : `:${localPort}`}`;
/** Does a message need no Content-Length to end? */
const endsByItself = ({ transport, reliable }: Connection): boolean =>
  !reliable || transport === WS || transport === WSS; // 7118-5-03

export class ClientExchange {
  readonly draft: Draft;
  readonly carrier: Carrier;
  readonly user: ClientUser;
  readonly id: number;
  readonly generation: number;
  readonly via: string;
  readonly branch: string;
  kept: Buffer | undefined;

  constructor(parts: Omit<ClientExchange, 'kept'>) {
    this.draft = parts.draft;
    this.carrier = parts.carrier;
    this.user = parts.user;
    this.id = parts.id;
    this.generation = parts.generation;
    this.via = parts.via;
    this.branch = parts.branch;
  }
}

export class ServerExchange {
  readonly request: Incoming;
  readonly carrier: Carrier;
  readonly id: number;
  readonly generation: number;
  /** of To in every response but a 100 */
  readonly tag = randomBytes(8).toString('hex');
  /** the request's octets: answers are made from them */
  readonly octets: Buffer;
  kept: Buffer | undefined;
  /** a CANCEL ended this INVITE: its 487 has gone out */
  onCancel: (() => void) | undefined;
  readonly #exchanges: Exchanges;

  constructor(
    exchanges: Exchanges,
    parts: { request: Incoming; carrier: Carrier; id: number; generation: number; octets: Buffer },
  ) {
    this.#exchanges = exchanges;
    this.request = parts.request;
    this.carrier = parts.carrier;
    this.id = parts.id;
    this.generation = parts.generation;
    this.octets = parts.octets;
  }

  /** False: a final response was sent already, or the transaction is over. */
  respond(status: number, reason: string, headers: HeaderList = [], body: Buffer = Buffer.alloc(0)): boolean {
    return this.#exchanges.respond(this, status, reason, headers, body);
  }
}

export interface ExchangesParts {
  agenda: Agenda;
  /** a new request that is no ACK */
  onRequest: (exchange: ServerExchange) => void;
  /** an ACK that no transaction took: it acknowledges a 2xx */
  onAck: (ack: Incoming, carrier: Carrier) => void;
  timers?: Partial<TimerValues>;
}

export class Exchanges {
  readonly timers: Timers;
  readonly #agenda: Agenda;
  readonly #parts: ExchangesParts;
  readonly #table: Transactions;
  readonly #clients = new Map<number, ClientExchange>();
  readonly #servers = new Map<number, ServerExchange>();
  readonly #key = new TransactionKey(randomBytes(16));

  constructor(parts: ExchangesParts) {
    this.#parts = parts;
    this.#agenda = parts.agenda;
    this.timers = new Timers(parts.timers);
    this.#table = new Transactions({
      capacity: CAPACITY,
      first: FIRST,
      nowMs: parts.agenda.now(),
      timers: this.timers,
      onReclaim: (id) => this.#servers.delete(id),
    });
    parts.agenda.join({
      advance: (now) => this.#table.advance(now, this.#fire),
      nextDeadline: () => this.#table.nextDeadline(),
    });
  }

  /** Sends a request. Undefined: no room, or no connection. `keep`: asks the next hop for keep-alives (RFC 6223). */
  send(draft: Draft, carrier: Carrier, user: ClientUser, keep = false): ClientExchange | undefined {
    const { connection } = carrier;
    if (!connection) return undefined;
    const method = methodId(Buffer.from(draft.method), 0, draft.method.length);
    const id = this.#table.openClient(method, connection.reliable, this.#agenda.now());
    if (id < 0) return undefined;
    const generation = this.#table.generation(id);
    const branch = `${COOKIE}${id.toString(36)}.${generation.toString(36)}.${randomBytes(9).toString('hex')}`;
    const via = viaOf(connection, branch, keep);
    const exchange = new ClientExchange({ draft, carrier, user, id, generation, via, branch });
    this.#clients.set(id, exchange);
    const bytes = compose(draft, via);
    exchange.kept = bytes;
    connection.send(bytes);
    if (keep && !connection.reliable && isInvite(draft.method))
      this.#table.setAlarm(id, this.#agenda.now() + RING_MS);
    this.#agenda.arm();
    return exchange;
  }

  /** The CANCEL of an INVITE that has a provisional response (RFC 3261 9.1). */
  cancel(invite: ClientExchange): void {
    if (!this.#table.isLive(invite.id, invite.generation)) return;
    const id = this.#table.openCancel(invite.id, this.#agenda.now());
    if (id < 0) return;
    const { draft, carrier, via, branch } = invite;
    const kept = new Set(['route', 'from', 'to', 'call-id', 'max-forwards']);
    const headers: HeaderList = draft.headers.filter(([name]) => kept.has(name.toLowerCase()));
    headers.push(['CSeq', `${cseqOf(draft)} CANCEL`]);
    const cancel = { method: 'CANCEL', uri: draft.uri, headers, body: Buffer.alloc(0) };
    const user = { response: () => {}, failed: () => {} };
    const generation = this.#table.generation(id);
    const exchange = new ClientExchange({ draft: cancel, carrier, user, id, generation, via, branch });
    this.#clients.set(id, exchange);
    exchange.kept = compose(cancel, via);
    carrier.connection?.send(exchange.kept);
    this.#agenda.arm();
  }

  /** Nothing more is to be heard of it. */
  forget(exchange: ClientExchange): void {
    if (this.#clients.get(exchange.id) !== exchange) return;
    this.#clients.delete(exchange.id);
    if (this.#table.isLive(exchange.id, exchange.generation)) this.#table.release(exchange.id);
  }

  /** A flow is gone: what waits for an answer over it has failed. */
  lost(carrier: Carrier): void {
    for (const exchange of [...this.#clients.values()]) {
      if (exchange.carrier !== carrier) continue;
      this.#table.event(exchange.id, ON_TRANSPORT_ERROR, this.#agenda.now());
      this.forget(exchange);
      exchange.user.failed('transport');
    }
  }

  /** One whole message of a flow. */
  receive(carrier: Carrier, buf: Uint8Array, start: number, end: number): void {
    const m = lexed;
    const verdict = m.lex(buf, start, end, !carrier.connection || endsByItself(carrier.connection));
    if (verdict >= NO_END) return;
    if (!m.isRequest) {
      if (verdict === OK) this.#response(m);
      return;
    }
    const row = m.first[VIA];
    if (row < 0 || !topVia.parse(buf, m.valueStart[row], m.valueEnd[row])) return;
    if (verdict === OK) this.#request(carrier, m, Buffer.from(buf.subarray(start, end)));
    else if (m.method !== ACK) {
      const { status, reason } = statusOf(verdict);
      this.#refuse(carrier, Buffer.from(buf.subarray(start, end)), status, reason);
    }
    this.#agenda.arm();
  }

  #response(m: Message): void {
    const row = m.first[VIA];
    // 3261 8.1.3.3: more than one Via is not for us
    if (!topVia.parse(m.buf, m.valueStart[row], m.valueEnd[row]) || m.next(row) >= 0) return;
    if (topVia.end < m.valueEnd[row]) return;
    const branch = Buffer.from(m.buf.subarray(topVia.branchStart, topVia.branchEnd)).toString('latin1');
    const [id, generation] = branch.slice(COOKIE.length).split('.', 2);
    const found = this.#table.findClient(
      Number.parseInt(id, 36),
      Number.parseInt(generation ?? '', 36),
      m.cseqMethod,
    );
    const exchange = this.#clients.get(found);
    if (!exchange || exchange.branch !== branch) return;
    const response = new Incoming(m);
    if (response.cseqMethod !== exchange.draft.method) return;
    const result = this.#table.event(found, onResponse(response.status), this.#agenda.now());
    if (result & FORGET) exchange.kept = undefined;
    if (result & SEND_ACK) {
      const ack = compose(ackOf(exchange.draft, response), exchange.via);
      exchange.carrier.connection?.send(ack);
      exchange.kept = ack;
    }
    if (result & RESEND && exchange.kept) exchange.carrier.connection?.send(exchange.kept);
    if (result & END) this.#clients.delete(found);
    this.#agenda.arm();
    if (result & PASS) exchange.user.response(response);
  }

  #request(carrier: Carrier, m: Message, octets: Buffer): void {
    const now = this.#agenda.now();
    this.#key.ofRequest(m, topVia);
    const known = this.#servers.get(this.#table.find(this.#key.lo, this.#key.hi));
    if (known) {
      const result = this.#table.event(known.id, m.method === ACK ? ON_ACK : ON_REQUEST, now);
      if (result & FORGET) known.kept = undefined;
      if (result & END) this.#servers.delete(known.id);
      if (result & RESEND && known.kept) carrier.connection?.send(known.kept);
      else if (m.method === ACK && (result & ABSORB) === 0) this.#parts.onAck(new Incoming(m), carrier);
      return;
    }
    const request = new Incoming(m);
    if (m.method === ACK) {
      this.#parts.onAck(request, carrier);
      return;
    }
    if (this.#merged(request)) {
      this.#refuse(carrier, octets, 482, 'Loop Detected');
      return;
    }
    const id = this.#table.openServer(
      m.method,
      carrier.connection?.reliable ?? false,
      this.#key.lo,
      this.#key.hi,
      now,
    );
    if (id < 0) {
      this.#refuse(carrier, octets, 503, 'Service Unavailable');
      return;
    }
    const generation = this.#table.generation(id);
    const exchange = new ServerExchange(this, { request, carrier, id, generation, octets });
    this.#servers.set(id, exchange);
    if (m.method === CANCEL) this.#cancelled(exchange, m);
    else this.#parts.onRequest(exchange);
  }

  /** 3261 8.2.2.2: the same request that came another way. */
  #merged(request: Incoming): boolean {
    if (request.toTag !== '') return false;
    for (const { request: other } of this.#servers.values())
      if (
        other.cseq === request.cseq &&
        other.method === request.method &&
        other.callId === request.callId &&
        other.fromTag === request.fromTag
      )
        return true;
    return false;
  }

  #cancelled(cancel: ServerExchange, m: Message): void {
    this.#key.ofInvite(m, topVia);
    const invite = this.#servers.get(this.#table.find(this.#key.lo, this.#key.hi));
    cancel.respond(
      ...((invite ? [200, 'OK'] : [481, 'Call/Transaction Does Not Exist']) as [number, string]),
    );
    if (invite?.respond(487, 'Request Terminated')) invite.onCancel?.();
  }

  respond(
    exchange: ServerExchange,
    status: number,
    reason: string,
    headers: HeaderList,
    body: Buffer,
  ): boolean {
    const { id, generation, carrier } = exchange;
    if (!this.#table.isLive(id, generation)) return false;
    const result = this.#table.event(id, onAnswer(status), this.#agenda.now());
    if (result & END) this.#servers.delete(id);
    this.#agenda.arm();
    if ((result & SEND) === 0) return false;
    const tag = status > 100 ? exchange.tag : undefined;
    const bytes = this.#answer(carrier, exchange.octets, status, reason, tag, headers, body);
    if (result & KEEP) exchange.kept = bytes;
    carrier.connection?.send(bytes);
    return true;
  }

  #refuse(carrier: Carrier, octets: Buffer, status: number, reason: string): void {
    const tag = randomBytes(8).toString('hex');
    carrier.connection?.send(this.#answer(carrier, octets, status, reason, tag, [], Buffer.alloc(0)));
  }

  #answer(
    { peer }: Carrier,
    octets: Buffer,
    status: number,
    reason: string,
    tag: string | undefined,
    headers: HeaderList,
    body: Buffer,
  ): Buffer {
    const m = lexed;
    const w = writer;
    octets.copy(mem);
    m.lex(mem, 0, octets.length, false);
    const row = m.first[VIA];
    patch.begin();
    if (topVia.parse(mem, m.valueStart[row], m.valueEnd[row])) stampVia(patch, m, topVia, peer);
    const at = MAX_MESSAGE + 1 + SCRATCH;
    w.open(at, mem.length);
    composeHead(w, m, status, Buffer.from(reason), patch, tag === undefined ? undefined : ascii(tag));
    for (const [name, value] of headers) w.utf8(`${name}: ${value}\r\n`);
    w.text(`Content-Length: ${body.length}\r\n\r\n`);
    return Buffer.concat([mem.subarray(at, w.at), body]);
  }

  readonly #fire = (id: number, actions: number): void => {
    const client = this.#clients.get(id);
    if (client) {
      const { kept } = client;
      const rings = (actions & ALARM) !== 0 && this.#table.state(id) <= PROCEEDING;
      if (kept && (rings || actions & RESEND)) client.carrier.connection?.send(kept);
      if (rings) this.#table.setAlarm(id, this.#agenda.now() + RING_MS);
      if (actions & END) this.#clients.delete(id);
      if (actions & (TIMED_OUT | FAILED)) client.user.failed(actions & TIMED_OUT ? 'timeout' : 'transport');
      return;
    }
    const server = this.#servers.get(id);
    if (!server) return;
    if (actions & RESEND && server.kept) server.carrier.connection?.send(server.kept);
    if (actions & COMPOSE_100) server.respond(100, 'Trying');
    if (actions & END) this.#servers.delete(id);
  };
}

/** rport always: the answer comes to where the request came from (RFC 3581). */
function viaOf(connection: Connection, branch: string, keep: boolean): string {
  const name = TRANSPORTS[connection.transport];
  return `SIP/2.0/${name} ${hostPort(connection)};branch=${branch};rport${keep ? ';keep' : ''}`;
}

export function compose({ method, uri, headers, body }: Draft, via: string): Buffer {
  let head = `${method} ${uri} SIP/2.0\r\nVia: ${via}\r\n`;
  for (const [name, value] of headers) head += `${name}: ${value}\r\n`;
  return Buffer.concat([Buffer.from(`${head}Content-Length: ${body.length}\r\n\r\n`, 'utf8'), body]);
}

/** The octets of a request that is sent outside of any transaction, the ACK to a 2xx. */
export function composeAlone(draft: Draft, connection: Connection): Buffer {
  return compose(draft, viaOf(connection, `${COOKIE}${randomBytes(12).toString('hex')}`, false));
}

/** 17.1.1.3: of the INVITE, with the To of the response. */
function ackOf(invite: Draft, response: Incoming): Draft {
  const kept = new Set(['route', 'from', 'call-id', 'max-forwards']);
  const headers: HeaderList = invite.headers.filter(([name]) => kept.has(name.toLowerCase()));
  headers.push(['To', response.header('to') ?? ''], ['CSeq', `${cseqOf(invite)} ACK`]);
  return { method: methodName(ACK), uri: invite.uri, headers, body: Buffer.alloc(0) };
}

const cseqOf = ({ headers }: Draft): string =>
  headers.find(([name]) => name.toLowerCase() === 'cseq')?.[1].split(' ')[0] ?? '1';

export const isInvite = (method: string): boolean => method === methodName(INVITE);
