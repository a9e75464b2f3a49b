/**
 * The proxy without sockets: real flows over real shared memory, a clock that stands still until it is
 * moved, and an outlet that keeps what was written. A test gives octets and an address, and reads what
 * left: where to, and which text.
 */
import { Flows } from '../../src/flow/flows.ts';
import { Keyring } from '../../src/flow/keyring.ts';
import { SipHash } from '../../src/flow/siphash.ts';
import { Arena } from '../../src/net/arena.ts';
import { Endpoint } from '../../src/net/endpoint.ts';
import type { Listener } from '../../src/net/net.ts';
import { Answers } from '../../src/proxy/answer.ts';
import { Branch } from '../../src/proxy/branch.ts';
import { ENDED, Exchange, type Outlet, SENT } from '../../src/proxy/exchange.ts';
import { Forwarder } from '../../src/proxy/forward.ts';
import { NextHop } from '../../src/proxy/nexthop.ts';
import { type Advertised, Own } from '../../src/proxy/own.ts';
import { type Home, RequestProxy } from '../../src/proxy/proxy.ts';
import { Responses } from '../../src/proxy/response.ts';
import { Upstream } from '../../src/proxy/upstream.ts';
import { Gruus } from '../../src/registrar/gruu.ts';
import { DEFAULT_POLICY } from '../../src/registrar/register.ts';
import type { LocationStore } from '../../src/registrar/store.ts';
import { LocalHome } from '../../src/shard/home.ts';
import { LocalRegistrar, type RegistrarParts } from '../../src/shard/registrar.ts';
import { Clock } from '../../src/shared/clock.ts';
import { Counter, type CounterName, Counters } from '../../src/shared/counters.ts';
import { FlowIndex } from '../../src/shared/flow-index.ts';
import { FlowTable } from '../../src/shared/flow-table.ts';
import { latin1 } from '../../src/wire/chars.ts';
import { TCP, UDP } from '../../src/wire/via.ts';

export const keyring = new Keyring({ current: { id: 1, octets: new Uint8Array(32).fill(3) } });

export const endpoint = (text: string): Endpoint => {
  const at = text.lastIndexOf(':');
  return Endpoint.parse(text.slice(0, at), Number(text.slice(at + 1)))!;
};

export const UDP_LISTENER = 0;
export const TCP_LISTENER = 1;
export const UDP6_LISTENER = 2;
const LISTEN: Advertised[] = [
  { transport: UDP, host: '192.0.2.1', port: 5060, advertisedHost: 'edge.example.com', advertisedPort: 5060 },
  { transport: TCP, host: '192.0.2.1', port: 5060, advertisedHost: 'edge.example.com', advertisedPort: 5060 },
  { transport: UDP, host: '2001:db8::1', port: 5060, advertisedHost: '[2001:db8::1]', advertisedPort: 5060 },
];

export const CORE = '198.51.100.9:5070';
/** how this edge writes itself */
export const OWN_ROUTE = 'edge.example.com:5060';
export const CLIENT = '203.0.113.7:4711';

/** Something that left: down a flow, as a datagram, or over a connection. */
export interface Sent {
  way: 'flow' | 'datagram' | 'connection';
  /** "slot.generation", or an address */
  to: string;
  listener: number;
  text: string;
}

export interface RigOptions {
  upstream?: string | false;
  upstreamTransport?: number;
  /** the upstream's transport is configured */
  named?: boolean;
  path?: 'always' | 'strict';
  pathInner?: boolean;
  domains?: string[];
  forceRport?: boolean;
  maxFlows?: number;
  incarnation?: number;
  listen?: Advertised[];
}

export interface From {
  /** the address that it comes from */
  from?: string;
  /** the slot of the stream that it comes over */
  stream?: number;
  listener?: number;
  trusted?: boolean;
  fromUpstream?: boolean;
}

export class Rig {
  readonly time = new SharedArrayBuffer(8);
  readonly arena = new Arena();
  readonly table: FlowTable;
  readonly flows: Flows;
  readonly counters = new Counters(Counters.allocate(2), 1);
  readonly exchange: Exchange;
  readonly own: Own;
  readonly proxy: RequestProxy;
  readonly responses: Responses;
  readonly answers: Answers;
  readonly branch: Branch;
  readonly upstream: Upstream | undefined;
  readonly nextHop: NextHop;
  readonly forwarder: Forwarder;
  readonly clock: Clock;
  readonly sent: Sent[] = [];
  /** what the next write to a flow comes to */
  flowOutcome = SENT;
  connects = true;
  readonly incarnation: number;

  constructor(options: RigOptions = {}) {
    const { maxFlows = 64, incarnation = 1000, listen = LISTEN, domains = [] } = options;
    this.incarnation = incarnation;
    const descriptor = FlowTable.allocate(maxFlows);
    this.table = new FlowTable(descriptor);
    this.clock = new Clock(Clock.start(this.time));
    const listeners = listen.map((l, id): Listener => {
      const address = Endpoint.parse(l.host, l.port)!;
      return { id, transport: l.transport, address, wildcard: address.isWildcard, shard: 0 };
    });
    this.flows = new Flows({
      self: 1,
      table: this.table,
      index: new FlowIndex(FlowIndex.allocate(maxFlows, 1, 2), this.table),
      counters: this.counters,
      clock: this.clock,
      listeners,
      keyring,
      node: 1,
      incarnation,
      flowTimer: 120,
      grace: 20,
      idle: 3600,
    });
    this.exchange = new Exchange(this.arena);
    this.arena.flush = () => this.arena.emptied();
    this.own = new Own(listen, domains);
    this.branch = new Branch(keyring, incarnation);
    const outlet = this.#outlet();
    this.answers = new Answers(
      this.exchange,
      outlet,
      this.branch,
      this.counters,
      options.forceRport ?? false,
    );
    this.nextHop = new NextHop(this.own, UDP_LISTENER);
    this.forwarder = new Forwarder(this.exchange, this.own, this.branch, this.answers);
    this.upstream = options.upstream === false ? undefined : this.#upstreamOf(options);
    this.proxy = new RequestProxy({
      exchange: this.exchange,
      outlet,
      flows: this.flows,
      own: this.own,
      counters: this.counters,
      answers: this.answers,
      forwarder: this.forwarder,
      nextHop: this.nextHop,
      upstream: this.upstream,
      options: {
        path: options.path ?? 'always',
        pathInner: options.pathInner ?? false,
        pathListener: undefined,
      },
    });
    this.responses = new Responses(this.exchange, outlet, this.flows, this.branch, this.counters, 120);
  }

  #upstreamOf({ upstream = CORE, upstreamTransport = UDP, named = true }: RigOptions): Upstream {
    const address = endpoint(`${upstream}`);
    const host = 'core.example.com';
    const made = new Upstream({
      names: [{ host, port: address.port }],
      hash: new SipHash(keyring.derive('upstream-choice')),
      now: () => this.clock.now(),
    });
    const target = { transport: upstreamTransport, host, address, priority: 0, weight: 1, named };
    made.replace({ targets: [target], failure: '', ttl: 0 });
    return made;
  }

  /** It is registrar and proxy of its domains from now on. */
  serve(
    store: LocationStore,
    gruus = new Gruus(new Uint8Array(32)),
    registrationSeen: RegistrarParts['registrationSeen'] = () => {},
  ): LocalHome {
    const { exchange, proxy, answers, flows, own, counters, clock, nextHop, branch } = this;
    const parts = { exchange, proxy, answers, flows, own, store, counters, clock, gruus };
    const registrar = new LocalRegistrar({
      ...parts,
      policy: DEFAULT_POLICY,
      coreListener: 0,
      flowTimer: 120,
      registrationSeen,
    });
    const home = new LocalHome({ ...parts, registrar, nextHop, branch });
    this.home = home;
    return home;
  }

  set home(home: Home) {
    this.proxy.home = home;
  }

  #outlet(): Outlet {
    const keep = (way: Sent['way'], to: string, listener: number, start: number, end: number) => {
      this.sent.push({ way, to, listener, text: latin1(this.arena.mem, start, end) });
    };
    return {
      toFlow: (slot, generation, start, end) => {
        if (!this.table.isLive(slot, generation)) return ENDED;
        if (this.flowOutcome === SENT)
          keep('flow', `${slot}.${generation}`, this.table.listener(slot), start, end);
        return this.flowOutcome;
      },
      toDatagram: (listener, to, _local, start, end) => keep('datagram', `${to}`, listener, start, end),
      toConnection: (to, start, end) => {
        if (this.connects) keep('connection', `${to}`, -1, start, end);
        return this.connects;
      },
    };
  }

  /** Seconds. */
  at(seconds: number): this {
    new Float64Array(this.time)[0] = seconds * 1000;
    this.flows.advance(seconds * 1000);
    return this;
  }

  get ds(): number {
    return this.flows.now();
  }

  count(name: CounterName): number {
    return this.counters.sum(Counter[name]);
  }

  /** A stream flow that stands: from this address, on this listener. */
  stream(remote = CLIENT, listener = TCP_LISTENER, flags = 0): number {
    const { table } = this;
    const slot = table.claim(1);
    const to = endpoint(remote);
    table.setKind(slot, TCP, to.family);
    table.setListener(slot, listener);
    table.setRemote(slot, to.a0, to.a1, to.a2, to.a3, to.port);
    if (flags) table.raise(slot, flags);
    this.flows.openStream(slot, this.ds);
    return slot;
  }

  token(slot: number): string {
    this.flows.ensureToken(slot);
    const at = this.table.tokenOffset(slot);
    return latin1(this.table.tokens, at, at + this.table.tokenLength(slot));
  }

  name(slot: number): string {
    return `${slot}.${this.table.generation(slot)}`;
  }

  #source({ from = CLIENT, stream, listener, trusted = false, fromUpstream = false }: From): void {
    const { source } = this.exchange;
    const { table, flows } = this;
    if (stream === undefined) {
      source.transport = UDP;
      source.remote.copy(endpoint(from));
      source.listener = listener ?? (source.remote.family === 6 ? UDP6_LISTENER : UDP_LISTENER);
      source.local.parse(source.remote.family === 6 ? '2001:db8::1' : '192.0.2.1', 5060);
      source.slot = flows.find(source.listener, source.remote, source.local);
      source.generation = source.slot < 0 ? 0 : table.generation(source.slot);
    } else {
      source.listener = table.listener(stream);
      source.transport = table.transport(stream);
      source.slot = stream;
      source.generation = table.generation(stream);
      flows.remoteOf(stream, source.remote);
      flows.localOf(stream, source.local);
    }
    source.trusted = trusted || fromUpstream;
    source.fromUpstream = fromUpstream;
    this.exchange.ds = this.ds;
  }

  /** Hands one message in and returns what left because of it. */
  take(text: string, from: From = {}): Sent[] {
    const { exchange, arena } = this;
    const before = this.sent.length;
    const at = from.stream === undefined ? arena.receive : arena.stream;
    const octets = Buffer.from(text, 'latin1');
    arena.mem.set(octets, at);
    this.#source(from);
    const verdict = exchange.message.lex(arena.mem, at, at + octets.length, from.stream === undefined);
    if (exchange.message.isRequest) this.proxy.request(verdict);
    else this.responses.response(verdict);
    return this.sent.slice(before);
  }

  /** The one thing that left. */
  one(text: string, from: From = {}): Sent {
    const sent = this.take(text, from);
    if (sent.length !== 1)
      throw new Error(`${sent.length} messages left:\n${sent.map((s) => s.text).join('\n')}`);
    return sent[0];
  }
}

export const status = ({ text }: Sent): number => Number(/^SIP\/2\.0 (\d{3})/.exec(text)?.[1] ?? 0);
export const startLine = ({ text }: Sent): string => text.slice(0, text.indexOf('\r\n'));

/** The values of all lines with this name. */
export function headers({ text }: Sent, name: string): string[] {
  const head = text.slice(0, text.indexOf('\r\n\r\n') + 2);
  return [...head.matchAll(/([^\r\n:]+):[ \t]*([^\r\n]*)\r\n/g)]
    .filter(([, n]) => n.trim().toLowerCase() === name.toLowerCase())
    .map(([, , v]) => v);
}

export interface RequestParts {
  method?: string;
  uri?: string;
  via?: string;
  lines?: string[];
  contact?: string | false;
  to?: string;
  callId?: string;
  maxForwards?: string;
  body?: string;
}

export function request({
  method = 'INVITE',
  uri = 'sip:bob@example.com',
  via = 'SIP/2.0/UDP 203.0.113.7:4711;branch=z9hG4bKclient1',
  lines = [],
  contact = '<sip:alice@203.0.113.7:4711>',
  to = '<sip:bob@example.com>',
  callId = 'c1@203.0.113.7',
  maxForwards = '70',
  body = '',
}: RequestParts = {}): string {
  return [
    `${method} ${uri} SIP/2.0`,
    ...(via === '' ? [] : [`Via: ${via}`]),
    ...(maxForwards === '' ? [] : [`Max-Forwards: ${maxForwards}`]),
    'From: <sip:alice@example.com>;tag=a1',
    `To: ${to}`,
    `Call-ID: ${callId}`,
    `CSeq: 1 ${method}`,
    ...(contact === false ? [] : [`Contact: ${contact}`]),
    ...lines,
    `Content-Length: ${body.length}`,
    '',
    body,
  ].join('\r\n');
}

/** The answer of whoever got this forwarded request. */
export function answer(
  got: Sent,
  code = 200,
  { lines = [], body = '' }: { lines?: string[]; body?: string } = {},
): string {
  return [
    `SIP/2.0 ${code} Whatever`,
    ...headers(got, 'Via').map((v) => `Via: ${v}`),
    ...['From', 'To', 'Call-ID', 'CSeq'].map((name) => `${name}: ${headers(got, name)[0]}`),
    ...lines,
    `Content-Length: ${body.length}`,
    '',
    body,
  ].join('\r\n');
}
