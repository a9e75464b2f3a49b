/**
 * What the records of a shard's transactions hold for the proxy: where a response goes (server) and where
 * a request went (client), with the bytes that are kept for both. This file alone knows the words; who
 * decides what happens is transactions.ts.
 */
import type { Flows } from '../flow/flows.ts';
import { Endpoint } from '../net/endpoint.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { REGISTERED } from '../shared/flow-record.ts';
import type { Kept } from '../transaction/kept.ts';
import type { Transactions } from '../transaction/table.ts';
import type { Message } from '../wire/lexer.ts';
import { REGISTER, VIA } from '../wire/names.ts';
import { TCP, UDP, type Via } from '../wire/via.ts';
import { type Answers, DEFAULT_PORT } from './answer.ts';
import { ENDED, type Exchange, type Outlet } from './exchange.ts';

// ---- words of a server transaction
export const LISTENER = 0; // listener | transport << 8 | flags << 16
export const SLOT = 1;
export const SLOT_GENERATION = 2;
export const ADDRESS = 3; // four words, and the port
export const FAMILY_PORT = 7; // family << 16 | port
export const CLIENT = 9; // id + 1 and generation of its client transaction
export const CLIENT_GENERATION = 10;
/** IPv4 only: the address that the request came to, which its responses leave from (a wildcard listener has several) */
export const LOCAL = 13;
export const HAS_DESTINATION = 1 << 16;
export const HAS_CONTEXT = 1 << 17;
/** A stream that nobody has registered over: once it is gone, the address words say where to connect to (18.2.2). */
export const HAS_WAY_BACK = 1 << 18;
/** CANCEL came before the request had gone anywhere. */
export const CANCELLED_EARLY = 1 << 19;

// ---- words of a client transaction; the first eight are alike, for the target
export const FLAGS = 8;
/** how often the flow had been heard when the request was written to it */
export const HEARD = 9;
/** when the answer time is over: the low 32 bits of the milliseconds */
export const DUE = 10;
export const SERVER_GENERATION = 11;
/** which target of its context */
export const TARGET = 12;
/** of the upstream: slot + 1 of its target, and flags; 0: another next hop */
export const AIM = 13;
/** the targets of the upstream that were tried, as bits */
export const TRIED = 14;
export const AIM_SLOT = 0xff;
export const MOVABLE = 1 << 8;
/** over TCP for its size alone */
export const SIZED = 1 << 9;
export const TO_FLOW = 1 << 16;
export const TO_CONNECTION = 1 << 17;
/** CANCEL as soon as a provisional response has come (RFC 3261 9.1) */
export const CANCEL_WANTED = 1;
export const CANCELLED = 2;
/** the alarm is the answer time, not Timer C */
export const AWAITS_ANSWER = 4;
/** its place was given up: only a 2xx to INVITE still counts */
export const GIVEN_UP = 8;
/** a response has come from the target of the upstream */
export const HEARD_BACK = 16;
/** a request of our own: nobody waits for the response */
export const PROBE = 32;

export interface LegParts {
  exchange: Exchange;
  outlet: Outlet;
  flows: Flows;
  answers: Answers;
  table: Transactions;
  kept: Kept;
  counters: Counters;
  /** ms */
  now: () => number;
  /** the response in this range cannot be sent to this address, where its request came from */
  unreached: (to: Endpoint, start: number, end: number) => void;
}

export class Legs {
  readonly table: Transactions;
  readonly #p: LegParts;
  readonly #kept: Kept;
  readonly #address = new Endpoint();
  readonly #local = new Endpoint();
  /** no client transaction has had a higher id */
  highest = -1;

  constructor(parts: LegParts) {
    this.table = parts.table;
    this.#p = parts;
    this.#kept = parts.kept;
  }

  /** Where its responses go. */
  describeServer(server: number): void {
    const { exchange, answers, flows } = this.#p;
    const { message: m, via, source } = exchange;
    const { table } = this;
    let head = source.listener | (source.transport << 8);
    if (source.transport === UDP) {
      // by address, since a provisional flow may end before a phone stops ringing
      head |= HAS_DESTINATION;
      this.putAddress(server, answers.destination(m, via, source));
      table.setWord(server, LOCAL, source.local.a3);
    } else if (
      source.transport === TCP && // over TLS nobody says whose certificate to ask for; 7118 §5.3: a WebSocket's is lost
      !flows.table.has(source.slot, REGISTERED) &&
      !(m.method === REGISTER && comesFromClient(m, via))
    ) {
      // a client that registers is reached over its own flows alone; others listen where their Via says
      head |= HAS_WAY_BACK;
      this.putAddress(server, source.remote);
      table.setWord(server, FAMILY_PORT, (source.remote.family << 16) | (via.port || DEFAULT_PORT));
    }
    table.setWord(server, LISTENER, head);
    table.setWord(server, SLOT, source.slot);
    table.setWord(server, SLOT_GENERATION, source.generation);
  }

  putAddress(id: number, to: Endpoint): void {
    const { table } = this;
    table.setWord(id, ADDRESS, to.a0);
    table.setWord(id, ADDRESS + 1, to.a1);
    table.setWord(id, ADDRESS + 2, to.a2);
    table.setWord(id, ADDRESS + 3, to.a3);
    table.setWord(id, FAMILY_PORT, (to.family << 16) | to.port);
  }

  getAddress(id: number, into: Endpoint): Endpoint {
    const { table } = this;
    into.a0 = table.word(id, ADDRESS);
    into.a1 = table.word(id, ADDRESS + 1);
    into.a2 = table.word(id, ADDRESS + 2);
    into.a3 = table.word(id, ADDRESS + 3);
    into.family = table.word(id, FAMILY_PORT) >>> 16;
    into.port = table.word(id, FAMILY_PORT) & 0xffff;
    return into;
  }

  openFor(server: number, generation: number, method: number, head: number, reliable: boolean): number {
    const { table } = this;
    const client = table.openClient(method, reliable, this.#p.now());
    if (client < 0) return -1;
    if (client > this.highest) this.highest = client;
    table.setPeer(client, server);
    table.setWord(client, SERVER_GENERATION, generation);
    table.setWord(client, LISTENER, head);
    table.setKept(client, -1, 0);
    if (server < 0) return client;
    table.setWord(server, CLIENT, client + 1);
    table.setWord(server, CLIENT_GENERATION, table.generation(client));
    return client;
  }

  keep(id: number, start: number, end: number): void {
    this.forget(id);
    this.table.setKept(id, this.#kept.keep(start, end - start), end - start);
  }

  forget(id: number): void {
    const { table } = this;
    const at = table.keptOffset(id);
    if (table.keptLength(id) > 0 && at >= 0) this.#kept.giveBack(at);
    table.setKept(id, -1, 0);
  }

  /** Kept bytes go out from the out region: the cell may be used anew before the flush. */
  #copyOut(id: number): number {
    const { exchange } = this.#p;
    const at = this.table.keptOffset(id);
    if (at < 0) return -1;
    const start = exchange.openOut();
    exchange.out.range(exchange.arena.mem, at, at + this.table.keptLength(id));
    exchange.keepOut();
    return start;
  }

  resendServer(server: number): void {
    const start = this.#copyOut(server);
    if (start < 0) return;
    this.#p.counters.inc(Counter.retransmissionsOut);
    this.deliver(server, start, start + this.table.keptLength(server));
  }

  resendClient(client: number): void {
    const start = this.#copyOut(client);
    if (start < 0) return;
    this.#p.counters.inc(Counter.retransmissionsOut);
    this.send(client, start, start + this.table.keptLength(client));
  }

  /** Bytes of a client transaction, to where its request went. */
  send(client: number, start: number, end: number): void {
    const { outlet } = this.#p;
    const { table } = this;
    const head = table.word(client, LISTENER);
    if (head & TO_FLOW)
      outlet.toFlow(table.word(client, SLOT), table.word(client, SLOT_GENERATION), start, end);
    else if (head & TO_CONNECTION)
      outlet.toConnection(this.getAddress(client, this.#address), start, end, this.transportOf(client));
    else outlet.toDatagram(head & 0xff, this.getAddress(client, this.#address), undefined, start, end);
  }

  /** Can nothing but a new connection take the responses of this server transaction (RFC 3261 18.2.2)? */
  needsWayBack(server: number): boolean {
    const { table } = this;
    const { flows } = this.#p;
    return (
      (table.word(server, LISTENER) & HAS_WAY_BACK) !== 0 &&
      !flows.table.isLive(table.word(server, SLOT), table.word(server, SLOT_GENERATION))
    );
  }

  deliver(server: number, start: number, end: number): void {
    const { outlet } = this.#p;
    const { table } = this;
    const head = table.word(server, LISTENER);
    if (head & HAS_DESTINATION) {
      const to = this.getAddress(server, this.#address);
      const local = to.family === 4 ? this.#local.setV4(table.word(server, LOCAL), 0) : undefined;
      outlet.toDatagram(head & 0xff, to, local, start, end);
      return;
    }
    const outcome = outlet.toFlow(table.word(server, SLOT), table.word(server, SLOT_GENERATION), start, end);
    if (outcome !== ENDED || !(head & HAS_WAY_BACK)) return;
    const to = this.getAddress(server, this.#address);
    if (!outlet.toConnection(to, start, end)) this.#p.unreached(to, start, end);
  }

  /** Where the client transaction's request went. One object, filled again by the next call. */
  targetOf(client: number): Endpoint {
    return this.getAddress(client, this.#address);
  }

  transportOf(client: number): number {
    return (this.table.word(client, LISTENER) >>> 8) & 0xff;
  }

  /** Kept cells in use. */
  get cells(): number {
    return this.#kept.inUse;
  }
}

/** There is one Via value: nobody has forwarded the request. */
const comesFromClient = (m: Message, via: Via): boolean =>
  m.next(m.first[VIA]) < 0 && via.end >= m.valueEnd[m.first[VIA]];
