/**
 * One shard, assembled bottom to top, and the order of its turn: network, rings, timers, output. It is
 * the handler of its network backend; what comes in goes to inbound.ts, what comes by ring is sorted here.
 */
import { randomInt } from 'node:crypto';
import type { Config } from '../config/config.ts';
import { coreListenerOf, isRegistrar } from '../config/config.ts';
import { Flows } from '../flow/flows.ts';
import { Keyring } from '../flow/keyring.ts';
import { SipHash } from '../flow/siphash.ts';
import { Endpoint } from '../net/endpoint.ts';
import type { Listener, Net, NetHandler } from '../net/net.ts';
import { type Destination, decodeTargets, encodeDestination } from '../net/targets.ts';
import type { Logger } from '../observe/log.ts';
import { Answers } from '../proxy/answer.ts';
import { Branch } from '../proxy/branch.ts';
import { Exchange } from '../proxy/exchange.ts';
import { Failover } from '../proxy/failover.ts';
import { Forwarder } from '../proxy/forward.ts';
import { NextHop } from '../proxy/nexthop.ts';
import { Offspring } from '../proxy/offspring.ts';
import { Own } from '../proxy/own.ts';
import { Parking } from '../proxy/parked.ts';
import { Probes } from '../proxy/probes.ts';
import { RequestProxy } from '../proxy/proxy.ts';
import { Responses } from '../proxy/response.ts';
import { ProxyTransactions } from '../proxy/transactions.ts';
import { Upstream } from '../proxy/upstream.ts';
import type { StoreClient } from '../registrar/client.ts';
import { Gruus } from '../registrar/gruu.ts';
import { STORE_ANSWER } from '../registrar/message.ts';
import { DEFAULT_POLICY } from '../registrar/register.ts';
import { Cause } from '../shared/cause.ts';
import { type Clock, deciseconds } from '../shared/clock.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { FlowIndex } from '../shared/flow-index.ts';
import { isWebSocket, OUTBOUND_DIALED, REGISTERED, TRANSPORT_UDP } from '../shared/flow-record.ts';
import { CLAIMED, type FlowTable } from '../shared/flow-table.ts';
import type { Mesh } from '../shared/mesh.ts';
import type { Ring } from '../shared/ring.ts';
import { Kept } from '../transaction/kept.ts';
import { TransactionKey } from '../transaction/key.ts';
import { Transactions } from '../transaction/table.ts';
import { Timers } from '../transaction/timers.ts';
import { Framer, MESSAGE } from '../wire/framer.ts';
import { admitOrigins } from '../wire/upgrade.ts';
import { TRANSPORTS } from '../wire/via.ts';
import { Admission } from './admission.ts';
import { Aliases } from './aliases.ts';
import { Balancers } from './balancers.ts';
import {
  FAIL,
  FLOW_FAILED,
  FLOW_WRITE,
  HANDOFF,
  LOCATE,
  LOCATED,
  RESPONSE,
  type ShardBoot,
  STOP,
  UNREACHABLE,
  UPSTREAM,
} from './boot.ts';
import { LocalCallers } from './callers.ts';
import { Connections } from './connections.ts';
import { FramedNet } from './framed.ts';
import type { ShardGate } from './gate.ts';
import { LocalHome } from './home.ts';
import { Inbound } from './inbound.ts';
import { Locations } from './locations.ts';
import { Notes } from './notes.ts';
import { ShardOutlet } from './outlet.ts';
import { Trust } from './trust.ts';
import { WaysBack } from './waysback.ts';
import { WebSockets } from './websockets.ts';

/** Ring messages handled in one turn before the network has its turn again. */
const RING_BUDGET = 1_024;
const PROBES_AT_ONCE = 64;
/** main's number in the mesh */
const MAIN = 0;
/** ICMP errors for one address come in runs */
const TELL_AGAIN_MS = 20;

export interface ShardParts {
  boot: ShardBoot;
  net: Net;
  table: FlowTable;
  counters: Counters;
  clock: Clock;
  mesh: Mesh;
  listeners: Listener[];
  store: StoreClient | undefined;
  /** undefined: nobody is asked who he is */
  gate: ShardGate | undefined;
  log: Logger;
  /** the shard has been told to end */
  stopped: () => void;
}

export class Shard implements NetHandler {
  readonly #net: Net;
  readonly #table: FlowTable;
  readonly #counters: Counters;
  readonly #clock: Clock;
  readonly #mesh: Mesh;
  readonly #store: StoreClient | undefined;
  readonly #stopped: () => void;
  readonly #exchange: Exchange;
  readonly #flows: Flows;
  readonly #proxy: RequestProxy;
  readonly #responses: Responses;
  /** answers what could not be written; it has an exchange of its own, since a flush may come in the middle of another */
  readonly #undelivered: Responses;
  readonly #secondBranch: Branch;
  readonly #transactions: ProxyTransactions | undefined;
  readonly #probes: Probes | undefined;
  readonly #locations: Locations;
  readonly #waysBack: WaysBack;
  readonly #answers: Answers;
  readonly #connections: Connections;
  readonly #trust: Trust;
  readonly #aliases: Aliases;
  readonly #upstream: Upstream | undefined;
  readonly #listeners: Listener[];
  readonly #inbound: Inbound;
  readonly #balancers: Balancers;
  readonly #webSockets: WebSockets;
  readonly #notes: Notes;
  readonly #address = new Endpoint();
  readonly #shards: number;
  /** the address of the last UNREACHABLE to the others */
  readonly #told = new Endpoint();
  #toldUntil = 0;
  #resting = false;

  constructor(parts: ShardParts) {
    const { boot, table, counters, clock, mesh, listeners, log } = parts;
    const { config } = boot;
    this.#table = table;
    this.#counters = counters;
    this.#clock = clock;
    this.#mesh = mesh;
    this.#store = parts.store;
    this.#stopped = parts.stopped;
    this.#listeners = listeners;
    this.#shards = config.workers;

    const keyring = new Keyring(boot.keyring);
    const coreListener = coreListenerOf(config, boot.self);
    const own = new Own(config.listen, config.domains);
    const upstream = upstreamOf(config, keyring, () => clock.now());
    this.#upstream = upstream;
    this.#targets(boot.upstream);
    this.#trust = new Trust(config.trusted, config.trustedDomains, upstream);
    this.#flows = new Flows({
      self: boot.self,
      table,
      index: new FlowIndex(boot.index, table),
      counters,
      clock,
      listeners,
      keyring,
      node: config.node,
      incarnation: boot.incarnation,
      flowTimer: config.flowTimer,
      grace: config.flowGrace,
      idle: config.idle,
    });
    this.#webSockets = new WebSockets({
      net: parts.net,
      flows: this.#flows,
      counters,
      admit: admitOrigins(config.webOrigins),
    });
    const net = new FramedNet(parts.net, table, this.#webSockets);
    this.#net = net;
    this.#exchange = new Exchange(net.arena);
    const identities = (slot: number) => net.identities(slot);
    this.#notes = new Notes(log, clock, this.#exchange, this.#flows, identities);
    const outlet = new ShardOutlet(net, this.#flows, mesh, counters);
    this.#aliases = new Aliases({ flows: this.#flows, exchange: this.#exchange, identities });
    this.#connections = new Connections(
      net,
      this.#flows,
      boot.self,
      () => clock.now(),
      coreListener,
      listeners,
      (address) => this.#trust.peer(address),
      this.#aliases,
    );
    outlet.connections = this.#connections;
    const branch = new Branch(keyring, boot.incarnation);
    branch.life = boot.life;
    this.#answers = new Answers(this.#exchange, outlet, branch, counters, config.rport === 'always');
    const nextHop = new NextHop(own, coreListener);
    this.#locations = new Locations({
      parking: new Parking(this.#exchange, counters),
      now: () => clock.now(),
      isWanted: () => {
        const { transaction, transactionGeneration } = this.#exchange.source;
        return (
          transaction < 0 || this.#transactions?.table.isLive(transaction, transactionGeneration) === true
        );
      },
      ask: (id, destination) => this.#ask(id, destination),
    });
    nextHop.names = this.#locations;
    this.#waysBack = new WaysBack({
      exchange: this.#exchange,
      parking: new Parking(this.#exchange, counters),
      outlet,
      locations: this.#locations,
      counters,
      trusts: (address) => this.#trust.peer(address),
      wake: () => net.wake(),
    });
    const forwarder = new Forwarder(this.#exchange, own, branch, this.#answers);
    this.#proxy = new RequestProxy({
      exchange: this.#exchange,
      outlet,
      flows: this.#flows,
      own,
      counters,
      answers: this.#answers,
      forwarder,
      nextHop,
      upstream,
      options: {
        path: config.path,
        pathInner: config.pathInner,
        pathListener: config.pathListener === undefined ? undefined : coreListener,
      },
    });
    this.#responses = new Responses(this.#exchange, outlet, this.#flows, branch, counters, config.flowTimer);
    this.#inbound = new Inbound({
      net,
      flows: this.#flows,
      counters,
      exchange: this.#exchange,
      trust: this.#trust,
      proxy: this.#proxy,
      responses: this.#responses,
      webSockets: this.#webSockets,
      aliases: this.#aliases,
    });
    this.#balancers = new Balancers(this.#flows, this.#trust, identities);
    this.#responses.registrationSeen = this.#notes.registration;
    this.#responses.own = own;
    this.#answers.flowTimer = config.flowTimer;
    this.#secondBranch = new Branch(keyring, boot.incarnation);
    this.#secondBranch.life = boot.life;
    this.#undelivered = new Responses(
      new Exchange(net.arena, true),
      outlet,
      this.#flows,
      this.#secondBranch,
      counters,
      config.flowTimer,
    );
    this.#proxy.callSeen = this.#notes.call;
    this.#proxy.ask = (destination, again) => this.#locations.wait([destination], again);
    if (config.forwarding === 'stateful')
      this.#transactions = this.#stateful(boot, branch, outlet, keyring, forwarder, own);
    this.#proxy.transactions = this.#transactions;
    if (upstream && config.probe > 0) {
      // without forwarding in transactions the probes alone have some
      this.#transactions ??= this.#stateful(boot, branch, outlet, keyring, forwarder, own, PROBES_AT_ONCE);
      this.#probes = new Probes({
        upstream,
        transactions: this.#transactions,
        hop: new NextHop(own, coreListener),
        own,
        branch,
        shard: boot.self,
        random: () => randomInt(2 ** 32),
      });
    }
    if (upstream)
      upstream.changed = ({ host, address, transport }, alive) => {
        const event = alive ? 'target-alive' : 'target-dead';
        log.warn({
          event,
          host,
          address: address.toString(),
          transport: TRANSPORTS[transport].toLowerCase(),
        });
      };
    this.#flows.closeStream = (slot, cause) => net.close(slot, cause, false);
    this.#flows.ended = this.#flowEnded;
    if (parts.store && boot.gruuKey && isRegistrar(config)) {
      const { gate } = parts;
      const admission =
        gate &&
        new Admission({
          gate: gate.gate,
          exchange: this.#exchange,
          parking: new Parking(this.#exchange, counters),
          answers: this.#answers,
          counters,
          refused: this.#notes.refused,
          wake: () => net.wake(),
        });
      if (admission && config.authCalls)
        this.#proxy.callers = new LocalCallers({
          exchange: this.#exchange,
          own,
          proxy: this.#proxy,
          admission,
          hasUpstream: upstream !== undefined,
        });
      this.#home = new LocalHome({
        exchange: this.#exchange,
        proxy: this.#proxy,
        answers: this.#answers,
        flows: this.#flows,
        own,
        nextHop,
        branch,
        store: parts.store,
        counters,
        clock,
        policy: {
          ...DEFAULT_POLICY,
          outboundOnly: config.outboundOnly,
          minExpires: config.minExpires,
          maxExpires: config.maxExpires,
        },
        coreListener,
        locations: this.#locations,
        flowTimer: config.flowTimer,
        registrationSeen: this.#notes.registration,
        admission,
        knows: (aor) => gate?.credentials.knows?.(aor),
        gruus: new Gruus(boot.gruuKey),
      });
      this.#proxy.home = this.#home;
    }
  }

  #home: LocalHome | undefined;

  #stateful(
    boot: ShardBoot,
    branch: Branch,
    outlet: ShardOutlet,
    keyring: Keyring,
    forwarder: Forwarder,
    own: Own,
    capacity = boot.config.maxTransactions,
  ): ProxyTransactions {
    const { config } = boot;
    const now = () => this.#clock.now();
    const { t1, t2, t4 } = config;
    const table = new Transactions({
      capacity,
      nowMs: now(),
      timers: new Timers({ t1, t2, t4 }),
      onReclaim: (id) => transactions.reclaimed(id),
    });
    forwarder.shard = boot.self;
    const transactions = new ProxyTransactions({
      shard: boot.self,
      exchange: this.#exchange,
      outlet,
      flows: this.#flows,
      branch,
      answers: this.#answers,
      forwarder,
      responses: this.#responses,
      instead: this.#undelivered,
      insteadBranch: this.#secondBranch,
      offspring: new Offspring(this.#net.arena),
      failover: this.#upstream && this.#failover(this.#upstream, boot, branch, own),
      table,
      key: new TransactionKey(keyring.derive('transaction-key')),
      kept: new Kept(this.#net.arena),
      counters: this.#counters,
      now,
      answerTime: config.flowAnswer * 1000,
      unreached: (to, start, end) => this.#waysBack.failed(to, start, end),
      elsewhere: (shard, start, end, status) => this.#post(shard, FLOW_FAILED, status, 0, start, end),
      responseElsewhere: (shard) => {
        const { message, source } = this.#exchange;
        this.#post(shard, RESPONSE, source.slot, source.generation, message.start, message.end);
      },
    });
    return transactions;
  }

  #failover(upstream: Upstream, { self, config }: ShardBoot, branch: Branch, own: Own): Failover {
    const hop = new NextHop(own, coreListenerOf(config, self));
    return new Failover({ exchange: this.#exchange, upstream, hop, own, branch, shard: self });
  }

  #ask(id: number, destination: Destination): boolean {
    const octets = encodeDestination(destination);
    if (!octets) return false;
    this.#mesh.words[0] = id;
    return this.#mesh.send(MAIN, LOCATE, 1, octets, 0, octets.length);
  }

  #post(shard: number, type: number, word0: number, word1: number, start: number, end: number): void {
    const { words } = this.#mesh;
    words[0] = word0;
    words[1] = word1;
    if (!this.#mesh.send(shard, type, 2, this.#net.arena.mem, start, end - start))
      this.#counters.inc(Counter.ringFull);
  }

  /** Takes over what a predecessor of this shard left. Returns how many flows. */
  inherit(): number {
    return this.#flows.inherit((slot) => {
      this.#inbound.begin(slot);
      this.#net.adopt(slot);
      if (this.#table.has(slot, OUTBOUND_DIALED))
        this.#connections.inherit(slot, this.#flows.remoteOf(slot, this.#address));
    });
  }

  // ---- network

  tick(): void {
    const now = this.#clock.now();
    this.#inbound.ds = deciseconds(now);
    this.#store?.tick(now);
  }

  datagram(listener: number, from: Endpoint, local: Endpoint, start: number, end: number): void {
    this.#inbound.datagram(listener, from, local, start, end);
  }

  bytes(slot: number, start: number, end: number): number {
    return this.#inbound.bytes(slot, start, end);
  }

  opened(slot: number): void {
    this.#balancers.opened(slot);
    this.#flows.openStream(slot, deciseconds(this.#clock.now()));
    this.#inbound.begin(slot);
  }

  mayProxy(slot: number): boolean {
    return this.#balancers.mayTell(slot, this.#inbound.ds);
  }

  proxied(slot: number, local: boolean): void {
    this.#balancers.told(slot, local);
  }

  unsecured(slot: number, reason: string): void {
    this.#notes.unsecured(slot, reason);
  }

  connected(slot: number, error: number): void {
    if (error !== 0)
      this.#upstream?.lost(this.#flows.remoteOf(slot, this.#address), this.#table.transport(slot));
    if (this.#connections.connected(slot, error, deciseconds(this.#clock.now()))) this.#inbound.begin(slot);
  }

  unsent(slot: number, start: number, end: number): void {
    if (isWebSocket(this.#table.transport(slot)))
      this.#webSockets.unsent(slot, start, end, this.#messagesUnsent);
    else this.#messagesUnsent(slot, start, end);
  }

  readonly #messagesUnsent = (slot: number, start: number, end: number): void => {
    const dialled = this.#table.has(slot, OUTBOUND_DIALED);
    const { mem } = this.#net.arena;
    const framer = new Framer();
    for (let p = start; framer.next(mem, p, end) === MESSAGE; p = framer.frameEnd) {
      const { frameStart, frameEnd } = framer;
      // 16.9: a client's flow that is lost while sending counts as 430
      if (!dialled && !this.#aliases.has(slot))
        this.#undelivered.undelivered(frameStart, frameEnd, 430, 'Flow Failed');
      else if (isResponse(mem, frameStart) && dialled)
        this.#waysBack.failed(this.#flows.remoteOf(slot, this.#address), frameStart, frameEnd);
      else this.#undelivered.undelivered(frameStart, frameEnd, 500, 'Next Hop Unreachable');
    }
  };

  /** Before the network is stopped: what clients are told of it. */
  farewell(): void {
    this.#webSockets.farewell();
  }

  closed(slot: number, cause: number): void {
    if (this.#table.state(slot) === CLAIMED && !this.#table.has(slot, OUTBOUND_DIALED)) {
      this.#table.abandon(slot, cause); // it did not come through its handshake
      return;
    }
    this.#inbound.end(slot);
    const reached = this.#table.has(slot, OUTBOUND_DIALED)
      ? this.#flows.remoteOf(slot, this.#address)
      : this.#aliases.ended(slot);
    if (reached) this.#transactions?.losses.connection(reached);
    this.#transactions?.losses.flow(slot, this.#table.generation(slot));
    if (cause === Cause.PROXY_UNTRUSTED || cause === Cause.PROXY_MALFORMED)
      this.#notes.proxyRefused(slot, cause);
    if (!this.#connections.closed(slot, cause)) this.#flows.end(slot, this.#table.generation(slot), cause);
  }

  backlog(): void {}

  /** 18.4, EP-5.3.1-09: what came back is charged to the flow of the address in it. */
  unreachable(listener: number, to: Endpoint): void {
    const slot = this.#flows.find(listener, to, this.#listeners[listener].address);
    if (slot >= 0) {
      this.#transactions?.losses.flow(slot, this.#table.generation(slot));
      this.#flows.end(slot, this.#table.generation(slot), Cause.ICMP);
      return;
    }
    this.#nobodyAt(to);
    // The kernel gives the error to any socket of the group: the request may be another shard's.
    const now = this.#clock.now();
    if (this.#told.equals(to) && now < this.#toldUntil) return;
    this.#told.copy(to);
    this.#toldUntil = now + TELL_AGAIN_MS;
    const { words } = this.#mesh;
    for (let shard = 1; shard <= this.#shards; shard++) {
      if (shard === this.#mesh.self) continue;
      words[0] = to.a0;
      words[1] = to.a1;
      words[2] = to.a2;
      words[3] = to.a3;
      words[4] = (to.family << 16) | to.port;
      if (!this.#mesh.send(shard, UNREACHABLE, 5)) this.#counters.inc(Counter.ringFull);
    }
  }

  #nobodyAt(to: Endpoint): void {
    this.#upstream?.lost(to, TRANSPORT_UDP);
    this.#transactions?.losses.unreachable(to);
  }

  // ---- the turn

  turn(): number {
    if (this.#resting) {
      this.#resting = false;
      this.#mesh.bell.awake();
    }
    const now = this.#clock.now();
    this.#inbound.ds = deciseconds(now);
    this.#mesh.receive(this.#mail, RING_BUDGET);
    let next = this.#flows.advance(now);
    if (this.#transactions) next = Math.min(next, this.#transactions.turn(now));
    if (this.#probes) next = Math.min(next, this.#probes.turn(now));
    this.#waysBack.turn();
    next = Math.min(next, this.#locations.turn(now));
    if (!this.#store) return next;
    this.#store.turn(now);
    return this.#store.waiting > 0 ? Math.min(next, now + 100) : next;
  }

  rest(): boolean {
    this.#mesh.bell.prepareSleep();
    this.#resting = true;
    return this.#mesh.isQuiet();
  }

  readonly #mail = (from: number, type: number, ring: Ring): void => {
    switch (type) {
      case HANDOFF:
        this.#net.adopt(ring.word(0));
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
        this.#exchange.ds = this.#inbound.ds;
        this.#store?.onAnswer(ring);
        return;
      case UNREACHABLE: {
        const to = this.#address;
        to.a0 = ring.word(0);
        to.a1 = ring.word(1);
        to.a2 = ring.word(2);
        to.a3 = ring.word(3);
        to.family = ring.word(4) >>> 16;
        to.port = ring.word(4) & 0xffff;
        this.#nobodyAt(to);
        return;
      }
      case UPSTREAM:
        this.#targets(payloadOf(ring));
        return;
      case LOCATED: {
        const location = decodeTargets(payloadOf(ring));
        this.#exchange.ds = this.#inbound.ds;
        if (location) this.#locations.answered(ring.word(0), location);
        return;
      }
      case STOP:
        this.#stopped();
        return;
      case FAIL:
        throw new Error('told to fail');
      default:
    }
  };

  #targets(octets: Uint8Array): void {
    const location = decodeTargets(octets);
    if (location) this.#upstream?.replace(location);
  }

  /** Another shard's bytes for a stream of ours; if it has ended they go back. */
  #write(from: number, ring: Ring): void {
    const { arena } = this.#net;
    const slot = ring.word(0);
    const length = ring.payloadLength;
    const at = arena.reserve();
    arena.mem.set(ring.memory.subarray(ring.payloadOffset, ring.payloadOffset + length), at);
    arena.outAt = at + length;
    if (this.#table.isLive(slot, ring.word(1)) && this.#net.sendStream(slot, at, at + length)) return;
    this.#post(from, FLOW_FAILED, 430, 0, at, at + length);
  }

  #failed(ring: Ring): void {
    const status = ring.word(0);
    this.#counters.inc(Counter.flowFailed);
    this.#withPayload(ring, (start, end) =>
      this.#undelivered.undelivered(
        start,
        end,
        status,
        status === 430 ? 'Flow Failed' : 'Next Hop Unreachable',
      ),
    );
  }

  /** A response that came to another shard and belongs to a transaction of ours. */
  #response(ring: Ring): void {
    const { source, message } = this.#exchange;
    source.slot = ring.word(0);
    source.generation = ring.word(1);
    this.#exchange.ds = this.#inbound.ds;
    this.#withPayload(ring, (start, end) => {
      const verdict = message.lex(this.#net.arena.mem, start, end, false);
      if (!message.isRequest) this.#responses.response(verdict);
    });
  }

  #withPayload(ring: Ring, then: (start: number, end: number) => void): void {
    const { arena } = this.#net;
    const length = ring.payloadLength;
    const at = arena.slabs.lease(length + 1);
    if (at < 0) {
      this.#counters.inc(Counter.slabFull);
      return;
    }
    arena.mem.set(ring.memory.subarray(ring.payloadOffset, ring.payloadOffset + length), at);
    then(at, at + length);
    arena.slabs.giveBack(at);
  }

  // ---- log and store

  readonly #flowEnded = (slot: number, generation: number, cause: number): void => {
    const table = this.#table;
    if (!table.has(slot, REGISTERED)) return;
    if (this.#home) this.#home.flowEnded(slot, generation, cause);
    else this.#store?.flowClosed(this.#flows.tokenText(slot), cause); // what registrars know the flow by
    this.#notes.flowEnded(slot, generation, cause);
  };
}

/** A status line, of the messages that we send. */
const isResponse = (buf: Uint8Array, start: number): boolean =>
  buf[start] === 0x53 && buf[start + 3] === 0x2f;

const payloadOf = (ring: Ring): Uint8Array =>
  ring.memory.slice(ring.payloadOffset, ring.payloadOffset + ring.payloadLength);

function upstreamOf({ upstreams, probe }: Config, keyring: Keyring, now: () => number): Upstream | undefined {
  if (upstreams.length === 0) return undefined;
  const hash = new SipHash(keyring.derive('upstream-choice'));
  return new Upstream({ names: upstreams, hash, now, limits: { probeInterval: probe * 1000 } });
}
