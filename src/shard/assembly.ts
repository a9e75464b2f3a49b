/**
 * The rooms of one shard, put together bottom to top: what each is given, and whom it calls. Which of them there
 * are follows from the configuration: transactions, probes, the registrar. When they run is shard.ts's.
 */
import { randomInt } from 'node:crypto';
import { type Config, coreListenerOf, isRegistrar } from '../config/config.ts';
import { Flows } from '../flow/flows.ts';
import { Keyring } from '../flow/keyring.ts';
import { SipHash } from '../flow/siphash.ts';
import type { Listener, Net } from '../net/net.ts';
import { decodeTargets } from '../net/targets.ts';
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
import { DEFAULT_POLICY } from '../registrar/register.ts';
import type { Clock } from '../shared/clock.ts';
import type { Counters } from '../shared/counters.ts';
import { FlowIndex } from '../shared/flow-index.ts';
import type { FlowTable } from '../shared/flow-table.ts';
import type { Mesh } from '../shared/mesh.ts';
import { Kept } from '../transaction/kept.ts';
import { TransactionKey } from '../transaction/key.ts';
import { Transactions } from '../transaction/table.ts';
import { Timers } from '../transaction/timers.ts';
import { admitOrigins } from '../wire/upgrade.ts';
import { Admission } from './admission.ts';
import { Aliases } from './aliases.ts';
import { Balancers } from './balancers.ts';
import type { ShardBoot } from './boot.ts';
import { LocalCallers } from './callers.ts';
import { Connections } from './connections.ts';
import { FramedNet } from './framed.ts';
import type { ShardGate } from './gate.ts';
import { LocalHome } from './home.ts';
import { Inbound } from './inbound.ts';
import { Locations } from './locations.ts';
import { Mail } from './mail.ts';
import { Notes } from './notes.ts';
import { ShardOutlet } from './outlet.ts';
import { Post } from './post.ts';
import { LocalRegistrar } from './registrar.ts';
import { Trust } from './trust.ts';
import { Unreachable } from './unreachable.ts';
import { WaysBack } from './waysback.ts';
import { WebSockets } from './websockets.ts';

const PROBES_AT_ONCE = 64;

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

export class Assembly {
  readonly net: Net;
  readonly flows: Flows;
  readonly inbound: Inbound;
  readonly mail: Mail;
  readonly webSockets: WebSockets;
  readonly balancers: Balancers;
  readonly connections: Connections;
  readonly aliases: Aliases;
  readonly locations: Locations;
  readonly waysBack: WaysBack;
  readonly unreachable: Unreachable;
  readonly upstream: Upstream | undefined;
  readonly transactions: ProxyTransactions | undefined;
  readonly probes: Probes | undefined;
  readonly home: LocalHome | undefined;
  readonly notes: Notes;
  /** answers what could not be written; it has an exchange of its own, since a flush may come in the middle of another */
  readonly undelivered: Responses;
  readonly #parts: ShardParts;
  readonly #now: () => number;
  readonly #keyring: Keyring;
  readonly #own: Own;
  readonly #coreListener: number;
  readonly #exchange: Exchange;
  readonly #branch: Branch;
  readonly #secondBranch: Branch;
  readonly #outlet: ShardOutlet;
  readonly #post: Post;
  readonly #answers: Answers;
  readonly #nextHop: NextHop;
  readonly #forwarder: Forwarder;
  readonly #proxy: RequestProxy;
  readonly #responses: Responses;

  constructor(parts: ShardParts) {
    const { boot, table, counters, clock, mesh, listeners, log } = parts;
    const { config } = boot;
    this.#parts = parts;
    this.#now = () => clock.now();
    this.#keyring = new Keyring(boot.keyring);
    this.#coreListener = coreListenerOf(config, boot.self);
    this.#own = new Own(config.listen, config.domains);
    this.upstream = upstreamOf(config, this.#keyring, this.#now);
    const targets = decodeTargets(boot.upstream);
    if (targets) this.upstream?.replace(targets);
    const trust = new Trust(config.trusted, config.trustedDomains, this.upstream);
    const trusts = trust.peer.bind(trust);
    this.flows = new Flows({
      self: boot.self,
      table,
      index: new FlowIndex(boot.index, table),
      counters,
      clock,
      listeners,
      keyring: this.#keyring,
      node: config.node,
      incarnation: boot.incarnation,
      flowTimer: config.flowTimer,
      grace: config.flowGrace,
      idle: config.idle,
    });
    this.webSockets = new WebSockets({
      net: parts.net,
      flows: this.flows,
      counters,
      admit: admitOrigins(config.webOrigins),
    });
    const net = new FramedNet(parts.net, table, this.webSockets);
    this.net = net;
    this.flows.closeStream = (slot, cause) => net.close(slot, cause, false);
    this.#exchange = new Exchange(net.arena);
    const identities = (slot: number) => net.identities(slot);
    this.notes = new Notes(log, clock, this.#exchange, this.flows, identities);
    this.#post = new Post(mesh, net.arena, counters);
    this.#outlet = new ShardOutlet(net, this.flows, mesh, counters);
    this.aliases = new Aliases({ flows: this.flows, exchange: this.#exchange, identities });
    this.connections = new Connections(
      net,
      this.flows,
      boot.self,
      this.#now,
      this.#coreListener,
      listeners,
      trusts,
      this.aliases,
    );
    this.#outlet.connections = this.connections;
    this.#branch = this.#newBranch();
    this.#answers = new Answers(
      this.#exchange,
      this.#outlet,
      this.#branch,
      counters,
      config.rport === 'always',
    );
    this.#answers.flowTimer = config.flowTimer;
    this.#nextHop = this.#newHop();
    this.locations = new Locations({
      parking: new Parking(this.#exchange, counters),
      now: this.#now,
      isWanted: () => {
        const { transaction, transactionGeneration } = this.#exchange.source;
        return (
          transaction < 0 || this.transactions?.table.isLive(transaction, transactionGeneration) === true
        );
      },
      ask: (id, destination) => this.#post.ask(id, destination),
    });
    this.#nextHop.names = this.locations;
    this.waysBack = new WaysBack({
      exchange: this.#exchange,
      parking: new Parking(this.#exchange, counters),
      outlet: this.#outlet,
      locations: this.locations,
      counters,
      trusts,
      wake: () => net.wake(),
    });
    this.#forwarder = new Forwarder(this.#exchange, this.#own, this.#branch, this.#answers);
    this.#proxy = new RequestProxy({
      exchange: this.#exchange,
      outlet: this.#outlet,
      flows: this.flows,
      own: this.#own,
      counters,
      answers: this.#answers,
      forwarder: this.#forwarder,
      nextHop: this.#nextHop,
      upstream: this.upstream,
      options: {
        path: config.path,
        pathInner: config.pathInner,
        pathListener: config.pathListener === undefined ? undefined : this.#coreListener,
      },
    });
    this.#proxy.callSeen = this.notes.call;
    this.#proxy.ask = (destination, again) => this.locations.wait([destination], again);
    this.#responses = this.#newResponses(this.#exchange, this.#branch);
    this.#responses.registrationSeen = this.notes.registration;
    this.#responses.own = this.#own;
    this.#secondBranch = this.#newBranch();
    this.undelivered = this.#newResponses(new Exchange(net.arena, true), this.#secondBranch);
    this.inbound = new Inbound({
      net,
      flows: this.flows,
      counters,
      exchange: this.#exchange,
      trust,
      proxy: this.#proxy,
      responses: this.#responses,
      webSockets: this.webSockets,
      aliases: this.aliases,
    });
    this.balancers = new Balancers(this.flows, trust, identities);
    if (config.forwarding === 'stateful') this.transactions = this.#newTransactions(config.maxTransactions);
    this.#proxy.transactions = this.transactions;
    if (this.upstream && config.probe > 0) {
      // without forwarding in transactions the probes alone have some
      this.transactions ??= this.#newTransactions(PROBES_AT_ONCE);
      this.probes = this.#newProbes(this.upstream, this.transactions);
    }
    if (this.upstream) this.upstream.changed = this.notes.target;
    if (parts.store && boot.gruuKey && isRegistrar(config))
      this.home = this.#newHome(parts.store, boot.gruuKey);
    this.#proxy.home = this.home;
    this.unreachable = new Unreachable({
      flows: this.flows,
      listeners,
      mesh,
      shards: config.workers,
      counters,
      now: this.#now,
      upstream: this.upstream,
      losses: this.transactions?.losses,
    });
    this.mail = new Mail({
      net,
      table,
      counters,
      exchange: this.#exchange,
      inbound: this.inbound,
      responses: this.#responses,
      undelivered: this.undelivered,
      locations: this.locations,
      unreachable: this.unreachable,
      upstream: this.upstream,
      store: parts.store,
      post: this.#post,
      stopped: parts.stopped,
    });
  }

  #newBranch(): Branch {
    const { incarnation, life } = this.#parts.boot;
    const branch = new Branch(this.#keyring, incarnation);
    branch.life = life;
    return branch;
  }

  #newHop(): NextHop {
    return new NextHop(this.#own, this.#coreListener);
  }

  #newResponses(exchange: Exchange, branch: Branch): Responses {
    const { boot, counters } = this.#parts;
    return new Responses(exchange, this.#outlet, this.flows, branch, counters, boot.config.flowTimer);
  }

  #newTransactions(capacity: number): ProxyTransactions {
    const { boot, counters } = this.#parts;
    const { config, self } = boot;
    const { t1, t2, t4 } = config;
    const table = new Transactions({
      capacity,
      nowMs: this.#now(),
      timers: new Timers({ t1, t2, t4 }),
      onReclaim: (id) => transactions.reclaimed(id),
    });
    this.#forwarder.shard = self;
    const transactions = new ProxyTransactions({
      shard: self,
      exchange: this.#exchange,
      outlet: this.#outlet,
      flows: this.flows,
      branch: this.#branch,
      answers: this.#answers,
      forwarder: this.#forwarder,
      responses: this.#responses,
      instead: this.undelivered,
      insteadBranch: this.#secondBranch,
      offspring: new Offspring(this.net.arena),
      failover: this.upstream && this.#newFailover(this.upstream),
      table,
      key: new TransactionKey(this.#keyring.derive('transaction-key')),
      kept: new Kept(this.net.arena),
      counters,
      now: this.#now,
      answerTime: config.flowAnswer * 1000,
      unreached: (to, start, end) => this.waysBack.failed(to, start, end),
      elsewhere: (shard, start, end, status) => this.#post.failed(shard, start, end, status),
      responseElsewhere: (shard) => {
        const { message, source } = this.#exchange;
        this.#post.response(shard, source.slot, source.generation, message.start, message.end);
      },
    });
    return transactions;
  }

  #newFailover(upstream: Upstream): Failover {
    return new Failover({
      exchange: this.#exchange,
      upstream,
      hop: this.#newHop(),
      own: this.#own,
      branch: this.#branch,
      shard: this.#parts.boot.self,
    });
  }

  #newProbes(upstream: Upstream, transactions: ProxyTransactions): Probes {
    return new Probes({
      upstream,
      transactions,
      hop: this.#newHop(),
      own: this.#own,
      branch: this.#branch,
      shard: this.#parts.boot.self,
      random: () => randomInt(2 ** 32),
    });
  }

  #newHome(store: StoreClient, gruuKey: Uint8Array): LocalHome {
    const { boot, gate, counters, clock } = this.#parts;
    const { config } = boot;
    const admission = gate && this.#newAdmission(gate);
    if (admission && config.authCalls)
      this.#proxy.callers = new LocalCallers({
        exchange: this.#exchange,
        own: this.#own,
        proxy: this.#proxy,
        admission,
        hasUpstream: this.upstream !== undefined,
      });
    const gruus = new Gruus(gruuKey);
    const registrar = new LocalRegistrar({
      exchange: this.#exchange,
      proxy: this.#proxy,
      answers: this.#answers,
      flows: this.flows,
      own: this.#own,
      store,
      counters,
      clock,
      policy: {
        ...DEFAULT_POLICY,
        outboundOnly: config.outboundOnly,
        minExpires: config.minExpires,
        maxExpires: config.maxExpires,
      },
      coreListener: this.#coreListener,
      flowTimer: config.flowTimer,
      registrationSeen: this.notes.registration,
      admission,
      gruus,
    });
    return new LocalHome({
      registrar,
      exchange: this.#exchange,
      proxy: this.#proxy,
      answers: this.#answers,
      flows: this.flows,
      own: this.#own,
      nextHop: this.#nextHop,
      branch: this.#branch,
      store,
      counters,
      clock,
      locations: this.locations,
      knows: (aor) => gate?.credentials.knows?.(aor),
      gruus,
    });
  }

  #newAdmission({ gate }: ShardGate): Admission {
    const { counters } = this.#parts;
    return new Admission({
      gate,
      exchange: this.#exchange,
      parking: new Parking(this.#exchange, counters),
      answers: this.#answers,
      counters,
      refused: this.notes.refused,
      wake: () => this.net.wake(),
    });
  }
}

function upstreamOf({ upstreams, probe }: Config, keyring: Keyring, now: () => number): Upstream | undefined {
  if (upstreams.length === 0) return undefined;
  const hash = new SipHash(keyring.derive('upstream-choice'));
  return new Upstream({ names: upstreams, hash, now, limits: { probeInterval: probe * 1000 } });
}
