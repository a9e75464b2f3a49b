/**
 * One shard's packet path without its sockets: from a message in a receive slot to the bytes of what
 * goes out, which an outlet throws away. So the figures of these benches are the processor's time for a
 * message without the kernel. What `Shard` does for each datagram before the proxy (index look-up, touch)
 * is done here too.
 *
 * 64 clients behind one address, each with its own message in its own slot, as in a full batch.
 */

import { Flows } from '../../src/flow/flows.ts';
import { Keyring } from '../../src/flow/keyring.ts';
import { SipHash } from '../../src/flow/siphash.ts';
import { Arena, DATAGRAM_SLOT, DATAGRAMS } from '../../src/net/arena.ts';
import { Endpoint } from '../../src/net/endpoint.ts';
import { Answers } from '../../src/proxy/answer.ts';
import { Branch } from '../../src/proxy/branch.ts';
import { Exchange, type Outlet, SENT } from '../../src/proxy/exchange.ts';
import { Forwarder } from '../../src/proxy/forward.ts';
import { NextHop } from '../../src/proxy/nexthop.ts';
import { Own } from '../../src/proxy/own.ts';
import { RequestProxy } from '../../src/proxy/proxy.ts';
import { Responses } from '../../src/proxy/response.ts';
import { Upstream } from '../../src/proxy/upstream.ts';
import { Clock, deciseconds } from '../../src/shared/clock.ts';
import { Counter, Counters } from '../../src/shared/counters.ts';
import { FlowIndex } from '../../src/shared/flow-index.ts';
import { TRANSPORT_TCP, TRANSPORT_UDP } from '../../src/shared/flow-record.ts';
import { FlowTable } from '../../src/shared/flow-table.ts';
import { latin1 } from '../../src/wire/chars.ts';
import { Framer } from '../../src/wire/framer.ts';
import { OK } from '../../src/wire/lexer.ts';
import { CLIENT, CORE, clientPort, EDGE } from '../fixtures.ts';

export const BATCH = DATAGRAMS;
const SELF = 1;
const MAX_FLOWS = 1024;
const FLOW_TIMER = 120;
const UDP_LISTENER = 0;
const TCP_LISTENER = 1;

/** Throws away what is sent, but counts it and remembers where the last of it lies. */
class Sink implements Outlet {
  sent = 0;
  start = 0;
  end = 0;

  toFlow(_slot: number, _generation: number, start: number, end: number): number {
    this.#take(start, end);
    return SENT;
  }

  toDatagram(
    _listener: number,
    _to: Endpoint,
    _local: Endpoint | undefined,
    start: number,
    end: number,
  ): void {
    this.#take(start, end);
  }

  toConnection(_to: Endpoint, start: number, end: number): boolean {
    this.#take(start, end);
    return true;
  }

  #take(start: number, end: number): void {
    this.sent++;
    this.start = start;
    this.end = end;
  }
}

const addressed = (transport: number) => ({
  transport,
  host: EDGE,
  port: 5060,
  advertisedHost: EDGE,
  advertisedPort: 5060,
});

export class Rig {
  readonly sink = new Sink();
  readonly exchange: Exchange;
  readonly flows: Flows;
  readonly branch: Branch;
  readonly #arena = new Arena();
  readonly #counters = new Counters(Counters.allocate(SELF + 1), SELF);
  readonly #proxy: RequestProxy;
  readonly #responses: Responses;
  readonly #clients = Array.from(
    { length: BATCH },
    (_, n) => Endpoint.parse(CLIENT, clientPort(n)) as Endpoint,
  );
  readonly #core = Endpoint.parse(CORE, 5060) as Endpoint;
  readonly #local = Endpoint.parse(EDGE, 5060) as Endpoint;
  readonly #end = new Int32Array(BATCH);
  readonly #framer = new Framer();
  readonly #streams: number[] = [];
  readonly #ds: number;

  constructor() {
    const table = new FlowTable(FlowTable.allocate(MAX_FLOWS));
    const index = new FlowIndex(FlowIndex.allocate(MAX_FLOWS, 0x1234567, -0x2345678), table);
    const counters = this.#counters;
    const clock = new Clock(Clock.start());
    const keyring = new Keyring({ current: { id: 1, octets: new Uint8Array(32).fill(7) } });
    const incarnation = 1_773_480_413;
    const upstream = new Upstream({
      names: [{ host: CORE, port: 5060 }],
      hash: new SipHash(keyring.derive('upstream-choice')),
      now: () => clock.now(),
    });
    const target = { transport: TRANSPORT_UDP, host: CORE, address: this.#core, priority: 0, weight: 1 };
    upstream.replace({ targets: [{ ...target, named: true }], failure: '', ttl: Infinity });
    const own = new Own([addressed(TRANSPORT_UDP), addressed(TRANSPORT_TCP)], []);
    this.#ds = deciseconds(clock.now());
    this.flows = new Flows({
      self: SELF,
      table,
      index,
      counters,
      clock,
      listeners: [TRANSPORT_UDP, TRANSPORT_TCP].map((transport, id) => ({
        id,
        transport,
        address: this.#local,
        wildcard: false,
        shard: 0,
      })),
      keyring,
      node: 0,
      incarnation,
      flowTimer: FLOW_TIMER,
      grace: 10,
      idle: 3600,
    });
    this.#arena.flush = () => this.#arena.emptied();
    this.exchange = new Exchange(this.#arena);
    const exchange = this.exchange;
    this.branch = new Branch(keyring, incarnation);
    const answers = new Answers(exchange, this.sink, this.branch, counters, false);
    this.#proxy = new RequestProxy({
      exchange,
      outlet: this.sink,
      flows: this.flows,
      own,
      counters,
      answers,
      forwarder: new Forwarder(exchange, own, this.branch, answers),
      nextHop: new NextHop(own, UDP_LISTENER),
      upstream,
      options: { path: 'always', pathInner: false, pathListener: undefined },
    });
    this.#responses = new Responses(exchange, this.sink, this.flows, this.branch, counters, FLOW_TIMER);
    for (const remote of this.#clients) this.#streams.push(this.#openStream(remote));
  }

  #openStream(remote: Endpoint): number {
    const { table } = this.flows;
    const slot = table.claim(SELF);
    table.setKind(slot, TRANSPORT_TCP, 4);
    table.setListener(slot, TCP_LISTENER);
    table.setRemote(slot, 0, 0, 0xffff, remote.a3, remote.port);
    table.setLocal(slot, 0, 0, 0xffff, this.#local.a3, this.#local.port);
    this.flows.openStream(slot, this.#ds);
    return slot;
  }

  /** Puts text n in receive slot n. */
  load(texts: readonly string[]): void {
    texts.forEach((text, n) => {
      const start = this.#start(n);
      this.#arena.mem.set(Buffer.from(text, 'latin1'), start);
      this.#end[n] = start + text.length;
    });
  }

  #start(n: number): number {
    return this.#arena.receive + n * DATAGRAM_SLOT;
  }

  /** Handles what lies in slot n as a datagram of client n, or of the core. */
  datagram(n: number, fromCore: boolean): void {
    const { source } = this.exchange;
    const { table } = this.flows;
    const from = fromCore ? this.#core : this.#clients[n];
    const slot = this.flows.find(UDP_LISTENER, from, this.#local);
    if (slot >= 0) this.flows.touch(slot, this.#ds);
    source.listener = UDP_LISTENER;
    source.transport = TRANSPORT_UDP;
    source.slot = slot;
    source.generation = slot < 0 ? 0 : table.generation(slot);
    source.remote.copy(from);
    source.local.copy(this.#local);
    source.trusted = fromCore;
    this.#lexed(this.exchange.message.lex(this.#arena.mem, this.#start(n), this.#end[n], true));
  }

  /** The same as bytes of client n's stream. */
  stream(n: number): void {
    const { source } = this.exchange;
    const { table } = this.flows;
    const slot = this.#streams[n];
    this.flows.touch(slot, this.#ds);
    if (!this.#framer.take(this.exchange.message, this.#arena.mem, this.#start(n), this.#end[n]))
      throw new Error('no message in the stream');
    source.listener = TCP_LISTENER;
    source.transport = TRANSPORT_TCP;
    source.slot = slot;
    source.generation = table.generation(slot);
    this.flows.remoteOf(slot, source.remote);
    this.flows.localOf(slot, source.local);
    source.trusted = false;
    this.#lexed(OK);
  }

  #lexed(verdict: number): void {
    this.#counters.inc(Counter.messagesIn);
    this.exchange.ds = this.#ds;
    if (verdict !== OK) throw new Error(`verdict ${verdict}`);
    if (this.exchange.message.isRequest) this.#proxy.request(verdict);
    else this.#responses.response(verdict);
  }

  /** What was sent last. */
  get lastSent(): string {
    return latin1(this.#arena.mem, this.sink.start, this.sink.end);
  }

  /** A turn with a full batch: `one(n)` for each slot, then what was written is gone. */
  turn(one: (n: number) => void): void {
    const before = this.sink.sent;
    for (let n = 0; n < BATCH; n++) one(n);
    if (this.sink.sent - before !== BATCH) throw new Error(`${this.sink.sent - before} of ${BATCH} went out`);
    this.#arena.emptied();
  }

  /** Handles each slot once and returns what went out. */
  pass(one: (n: number) => void): string[] {
    const sent = Array.from({ length: BATCH }, (_, n) => {
      one(n);
      return this.lastSent;
    });
    this.#arena.emptied();
    return sent;
  }
}

/** The values of a header's first row, or the whole rows of Via. */
export const headerOf = (text: string, name: string): string =>
  new RegExp(`^${name}: (.*)\r\n`, 'm').exec(text)?.[1] ?? '';
export const viasOf = (text: string): string => (text.match(/^Via: .*(?=\r\n)/gm) ?? []).join('\r\n');
