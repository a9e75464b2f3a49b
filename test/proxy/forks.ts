/**
 * The stateful, authoritative proxy without sockets: the rig with transactions, and a location store that
 * holds the bindings that a test gives it. Time moves from deadline to deadline, so that hours pass in
 * milliseconds and nothing that is due is skipped.
 *
 * A place is a flow of ours (a stream that stands, whose token is the Path) or an edge's (a Path that
 * names another host, reached by datagrams).
 */

import { Branch } from '../../src/proxy/branch.ts';
import { ENDED, Exchange, type Outlet, SENT } from '../../src/proxy/exchange.ts';
import { Offspring } from '../../src/proxy/offspring.ts';
import { Responses } from '../../src/proxy/response.ts';
import { ProxyTransactions } from '../../src/proxy/transactions.ts';
import type { Binding } from '../../src/registrar/binding.ts';
import type { LocationStore } from '../../src/registrar/store.ts';
import { Kept } from '../../src/transaction/kept.ts';
import { TransactionKey } from '../../src/transaction/key.ts';
import { Transactions } from '../../src/transaction/table.ts';
import { latin1 } from '../../src/wire/chars.ts';
import { endpoint, headers, keyring, OWN_ROUTE, Rig, type RigOptions, type Sent, startLine } from './rig.ts';

export interface ForksOptions extends RigOptions {
  capacity?: number;
  /** ms */
  answerTime?: number;
}

export const ANSWER_MS = 4_000;

/** A location store with one AOR in it, whoever asks. */
class OneAor implements LocationStore {
  bindings: Binding[] = [];

  update(): void {
    throw new Error('nobody registers here');
  }
  list(): void {
    throw new Error('nobody lists here');
  }
  lookup(_aor: string, _now: number, done: Parameters<LocationStore['lookup']>[2]): void {
    done({ status: 'ok', bindings: [...this.bindings], count: 0 });
  }
  remove(_aor: string, key: string): void {
    this.bindings = this.bindings.filter((binding) => binding.key !== key);
  }
  flowClosed(flow: string): void {
    this.bindings = this.bindings.filter((binding) => binding.flow !== flow);
  }
}

export class Forks extends Rig {
  readonly transactions: ProxyTransactions;
  readonly store = new OneAor();
  ms = 0;
  /** when a message left */
  readonly when = new WeakMap<Sent, number>();
  #order = 0;

  constructor(options: ForksOptions = {}) {
    super({ domains: ['example.com'], upstream: false, ...options });
    const outlet = this.#way();
    const insteadBranch = new Branch(keyring, this.incarnation);
    const now = () => this.ms;
    const table = new Transactions({
      capacity: options.capacity ?? 1024,
      nowMs: 0,
      onReclaim: (id) => this.transactions.reclaimed(id),
    });
    this.forwarder.shard = 1;
    this.transactions = new ProxyTransactions({
      shard: 1,
      exchange: this.exchange,
      outlet,
      flows: this.flows,
      branch: this.branch,
      answers: this.answers,
      forwarder: this.forwarder,
      responses: this.responses,
      instead: new Responses(
        new Exchange(this.arena, true),
        outlet,
        this.flows,
        insteadBranch,
        this.counters,
        120,
      ),
      insteadBranch,
      offspring: new Offspring(this.arena),
      table,
      key: new TransactionKey(keyring.derive('transaction-key')),
      kept: new Kept(this.arena),
      counters: this.counters,
      now,
      answerTime: options.answerTime ?? ANSWER_MS,
      unreached: () => {},
      elsewhere: () => {
        throw new Error('there is one shard');
      },
      responseElsewhere: () => {
        throw new Error('there is one shard');
      },
    });
    this.proxy.transactions = this.transactions;
    const home = this.serve(this.store);
    this.flows.ended = (slot, generation) => {
      this.transactions.losses.flow(slot, generation);
      home.flowEnded(slot, generation);
    };
  }

  #way(): Outlet {
    const keep = (way: Sent['way'], to: string, start: number, end: number) => {
      const message: Sent = { way, to, listener: 0, text: latin1(this.arena.mem, start, end) };
      this.sent.push(message);
      this.when.set(message, this.ms);
    };
    return {
      toFlow: (slot, generation, start, end) => {
        if (!this.table.isLive(slot, generation)) return ENDED;
        if (this.flowOutcome === SENT) keep('flow', `${slot}.${generation}`, start, end);
        return this.flowOutcome;
      },
      toDatagram: (_listener, to, _local, start, end) => keep('datagram', `${to}`, start, end),
      toConnection: (to, start, end) => {
        if (this.connects) keep('connection', `${to}`, start, end);
        return this.connects;
      },
    };
  }

  /** Binds a flow of a device; the one bound last comes first among equals. */
  bind(instance: string | undefined, path: string, options: { q?: number; contact?: string } = {}): Binding {
    const order = ++this.#order;
    const binding: Binding = {
      key: `k${order}`,
      contact: options.contact ?? `sip:bob@192.0.2.${order}:5099`,
      params: [],
      ...(instance === undefined ? {} : { instance }),
      regId: order,
      q: options.q ?? 1000,
      path: [path],
      callId: 'r',
      cseq: 1,
      expiresAt: 1e15,
      updatedAt: 0,
      order,
    };
    this.store.bindings.push(binding);
    this.store.bindings.sort((a, b) => b.q - a.q || b.order - a.order);
    return binding;
  }

  /** A stream of a device; its name is what `Sent.to` says. */
  bindFlow(instance: string | undefined, remote: string, options: { q?: number } = {}): number {
    const slot = this.stream(remote);
    this.flows.registered(slot, this.table.generation(slot), 1_000_000, 0, this.ds);
    this.bind(instance, `<sip:${this.token(slot)}@${OWN_ROUTE};lr;ob>`, options);
    return slot;
  }

  bindEdge(instance: string | undefined, address: string, options: { q?: number } = {}): void {
    this.bind(instance, `<sip:token@${address};lr;ob>`, options);
  }

  /** Lets time pass, deadline by deadline; returns what left meanwhile. */
  pass(ms: number): Sent[] {
    const before = this.sent.length;
    const until = this.ms + ms;
    for (;;) {
      const next = this.transactions.turn(this.ms);
      if (next > until) break;
      this.#set(Math.max(next, this.ms + 1));
    }
    this.#set(until);
    this.transactions.turn(this.ms);
    return this.sent.slice(before);
  }

  #set(ms: number): void {
    this.ms = Math.min(ms, Number.MAX_SAFE_INTEGER);
    new Float64Array(this.time)[0] = this.ms;
    this.flows.advance(this.ms);
  }

  /** Nothing of any request is left. */
  get isIdle(): boolean {
    const { transactions, contexts, cells } = this.transactions.inUse;
    return transactions === 0 && contexts === 0 && cells === 0 && this.arena.slabs.inUse === 0;
  }

  unreachable(address: string): void {
    this.transactions.losses.unreachable(endpoint(address));
  }
}

export const isMethod =
  (method: string) =>
  (s: Sent): boolean =>
    s.text.startsWith(`${method} `);
export const callIdOf = (s: Sent): string => headers(s, 'Call-ID')[0];
export const topBranch = (s: Sent): string => /branch=([^;,\s]+)/.exec(headers(s, 'Via')[0])?.[1] ?? '';
export { startLine };
