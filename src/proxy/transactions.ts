/**
 * The proxy as a transaction user (RFC 3261 16, 17): a server transaction for what came in, a client
 * transaction for each place it goes to, and what passes between them. Simple forwarding, one place, is
 * done here with the two records alone; where a request may go to several places, a `Context` decides.
 *
 * What a client transaction sent is kept until its final response: it is sent again, turned into ACK or
 * CANCEL, and answers made by us (100, 408, 430, 500) are composed from it, so the request as it came in
 * need not be kept. When all records are in use, a request is forwarded statelessly.
 *
 * A request that went to a target of the upstream, and failed there, goes to the next one in a new client
 * transaction of the same server transaction (RFC 3263 4.3).
 *
 * Errors that show while output is flushed are put aside and handled in the next turn, because a flush
 * may come in the middle of another exchange.
 */
import type { Flows } from '../flow/flows.ts';
import type { Endpoint } from '../net/endpoint.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import type { Kept } from '../transaction/kept.ts';
import type { TransactionKey } from '../transaction/key.ts';
import {
  ALARM,
  CALLING,
  COMPLETED,
  COMPOSE_100,
  END,
  FAILED,
  FORGET,
  INVITE_CLIENT,
  INVITE_SERVER,
  KEEP,
  ON_ACK,
  ON_CANCELLED,
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
import type { Transactions } from '../transaction/table.ts';
import { ACK, CANCEL } from '../wire/names.ts';
import { UDP } from '../wire/via.ts';
import type { Answers } from './answer.ts';
import { AnswerTime, PLACE_SILENT, PROBE_SILENT, TARGET_SILENT, WITHOUT_FINAL } from './answertime.ts';
import type { Branch } from './branch.ts';
import { BUSY, type Exchange, type Outlet, SENT } from './exchange.ts';
import type { Failover } from './failover.ts';
import type { Forwarder } from './forward.ts';
import {
  AIM,
  CANCEL_WANTED,
  CANCELLED,
  CANCELLED_EARLY,
  CLIENT,
  CLIENT_GENERATION,
  FAMILY_PORT,
  FLAGS,
  GIVEN_UP,
  HAS_CONTEXT,
  HAS_DESTINATION,
  Legs,
  LISTENER,
  MOVABLE,
  PROBE,
  SERVER_GENERATION,
  SIZED,
  SLOT,
  SLOT_GENERATION,
  TARGET,
  TO_CONNECTION,
  TO_FLOW,
  TRIED,
} from './legs.ts';
import { type Failure, Losses } from './losses.ts';
import type { NextHop } from './nexthop.ts';
import type { Offspring } from './offspring.ts';
import type { Parking } from './parked.ts';
import type { Responses, TransactionUser } from './response.ts';
import { TargetLegs } from './targetlegs.ts';
import { NO_TARGET } from './targetset.ts';

/** Decides about a request that may go to several places. */
export interface Context {
  /** the response in the exchange, of the client transaction for this target */
  response(client: number, target: number, status: number): void;
  /** no response: 430 the flow has ended or is silent, 408 nothing came, 500 it could not be sent */
  failed(client: number, target: number, status: number): void;
  cancel(): void;
  /** the server transaction is over */
  ended(): void;
}

export interface TransactionParts {
  shard: number;
  exchange: Exchange;
  outlet: Outlet;
  flows: Flows;
  branch: Branch;
  answers: Answers;
  forwarder: Forwarder;
  responses: Responses;
  /** composes from kept bytes, in an exchange of its own */
  instead: Responses;
  insteadBranch: Branch;
  offspring: Offspring;
  /** where there is an upstream */
  failover?: Failover | undefined;
  table: Transactions;
  key: TransactionKey;
  kept: Kept;
  counters: Counters;
  /** ms */
  now: () => number;
  /** HOLDFAST_FLOW_ANSWER_S, ms */
  answerTime: number;
  /** a request of another shard's transaction could not be written: its bytes go there */
  elsewhere: (shard: number, start: number, end: number, status: number) => void;
  /** no new connection takes this response to the address that its request came from (18.2.2) */
  unreached: (to: Endpoint, start: number, end: number) => void;
  /** the response in the exchange belongs to another shard's transaction */
  responseElsewhere: (shard: number) => void;
}

const REASONS: Record<number, string> = {
  100: 'Trying',
  408: 'Request Timeout',
  430: 'Flow Failed',
  487: 'Request Terminated',
  500: 'Server Internal Error',
};

export class ProxyTransactions implements TransactionUser {
  readonly table: Transactions;
  readonly #p: TransactionParts;
  readonly #legs: Legs;
  readonly #losses: Losses;
  readonly #targets: TargetLegs | undefined;
  readonly #answerTime: AnswerTime;
  readonly #contexts = new Map<number, Context>();
  readonly #failures: Failure[] = [];
  /** the client transaction that `toFlow` or `toHop` opened last */
  lastClient = -1;
  readonly #fired = (id: number, actions: number): void => this.#fire(id, actions);

  constructor(parts: TransactionParts) {
    this.#p = parts;
    this.table = parts.table;
    this.#legs = new Legs(parts);
    this.#answerTime = new AnswerTime(parts);
    this.#targets =
      parts.failover && new TargetLegs(this.#legs, parts.failover, parts, (client) => this.#watch(client));
    this.#losses = new Losses(this.#legs, (client) => this.#targets?.canMove(client) ?? false);
    parts.responses.user = this;
    parts.instead.user = this;
    parts.answers.transaction = (status, start, end) => this.#answer(status, start, end);
  }

  // ---- requests

  /** True: the request in the exchange is new and goes on, with a server transaction if there is a record for it. */
  admit(): boolean {
    const { exchange, key, counters, now, answers } = this.#p;
    const { message: m, via, source } = exchange;
    const { table } = this;
    source.transaction = -1;
    key.ofRequest(m, via);
    const known = table.find(key.lo, key.hi);
    if (m.method === ACK) {
      // the ACK to a 2xx is a transaction of its own and goes on (RFC 6026 7.1)
      if (known < 0 || table.kind(known) !== INVITE_SERVER) return true;
      const actions = table.event(known, ON_ACK, now());
      if (actions & FORGET) this.#legs.forget(known);
      if (actions & END) this.#ended(known);
      return (actions & PASS) !== 0;
    }
    if (known >= 0) {
      counters.inc(Counter.retransmissionsIn);
      if (table.event(known, ON_REQUEST, now()) & RESEND) this.#legs.resendServer(known);
      return false;
    }
    if (m.method === CANCEL) {
      key.ofInvite(m, via);
      const invite = table.find(key.lo, key.hi);
      if (invite < 0) return true; // 16.10: statelessly
      answers.send(200, 'OK');
      this.#cancelServer(invite);
      return false;
    }
    const server = table.openServer(m.method, source.transport !== UDP, key.lo, key.hi, now());
    if (server < 0) return true;
    this.#legs.describeServer(server);
    source.transaction = server;
    source.transactionGeneration = table.generation(server);
    return true;
  }

  /** A request of several places has a context from now on. */
  setContext(server: number, context: Context): void {
    this.table.setWord(server, LISTENER, this.table.word(server, LISTENER) | HAS_CONTEXT);
    this.#contexts.set(server, context);
  }

  // ---- sending

  /** Sends the patched request down a flow in a client transaction: SENT, ENDED, BUSY, or TOO_LARGE. `target` is the context's. */
  toFlow(slot: number, generation: number, listener: number, target = 0): number {
    const { flows, outlet, forwarder } = this.#p;
    const { table } = this;
    const transport = flows.table.transport(slot);
    const client = this.#open(listener | (transport << 8) | TO_FLOW, transport !== UDP, target);
    if (client < 0) return BUSY;
    table.setWord(client, SLOT, slot);
    table.setWord(client, SLOT_GENERATION, generation);
    if (!forwarder.compose(listener, transport !== UDP, client, table.generation(client)))
      return this.#drop(client, TOO_LARGE);
    const outcome = outlet.toFlow(slot, generation, forwarder.start, forwarder.end);
    if (outcome !== SENT) return this.#drop(client, outcome);
    this.#legs.keep(client, forwarder.start, forwarder.end);
    this.#answerTime.ofFlow(client, slot);
    return SENT;
  }

  /** The same to a next hop. UNREACHABLE: no connection can be opened now. */
  toHop(hop: NextHop, target = 0): number {
    const { exchange, outlet, forwarder } = this.#p;
    const { source } = exchange;
    const { table } = this;
    const stream = hop.transport !== UDP;
    const client = this.#open(
      hop.listener | (hop.transport << 8) | (stream ? TO_CONNECTION : 0),
      stream,
      target,
    );
    if (client < 0) return BUSY;
    this.#legs.putAddress(client, hop.address);
    if (hop.slot !== NO_TARGET) {
      const flags = (hop.movable ? MOVABLE : 0) | (hop.sized ? SIZED : 0);
      table.setWord(client, AIM, (hop.slot + 1) | flags);
      table.setWord(client, TRIED, 1 << hop.slot);
    }
    if (!forwarder.compose(hop.listener, stream, client, table.generation(client)))
      return this.#drop(client, TOO_LARGE);
    const { start, end } = forwarder;
    if (!stream)
      outlet.toDatagram(
        hop.listener,
        hop.address,
        source.listener === hop.listener ? source.local : undefined,
        start,
        end,
      );
    else if (!outlet.toConnection(hop.address, start, end, hop.transport, hop.host)) {
      if ((table.word(client, AIM) & (MOVABLE | SIZED)) === 0) return this.#drop(client, UNREACHABLE);
      this.#failures.push({ client, generation: table.generation(client), status: 500 });
    }
    this.#legs.keep(client, start, end);
    this.#watch(client);
    return SENT;
  }

  /** The time begins that a next hop has. */
  #watch(client: number): void {
    const isOneOfSeveral = this.#contextOf(client) !== undefined;
    this.#answerTime.ofHop(client, isOneOfSeveral || (this.#targets?.canMove(client) ?? false));
  }

  #open(head: number, reliable: boolean, target: number): number {
    const { message: m, source } = this.#p.exchange;
    const { table } = this;
    const server = source.transaction;
    const client = this.#legs.openFor(server, source.transactionGeneration, m.method, head, reliable);
    if (client < 0) return -1;
    this.lastClient = client;
    table.setWord(client, TARGET, target);
    // the flow of a datagram client may have been made since the request was admitted
    table.setWord(server, SLOT, source.slot);
    table.setWord(server, SLOT_GENERATION, source.generation);
    return client;
  }

  #drop(client: number, outcome: number): number {
    this.table.release(client);
    return outcome;
  }

  /** The record is over, its fields can still be read. */
  #ended(id: number): void {
    this.#legs.forget(id);
    const context = this.#contexts.get(id);
    if (!context || this.table.kind(id) < INVITE_SERVER) return;
    this.#contexts.delete(id);
    context.ended();
  }

  /** A completed server transaction gives way to a new one. */
  reclaimed(id: number): void {
    this.#ended(id);
  }

  // ---- answers

  /** An answer of ours to the request in the exchange. */
  #answer(status: number, start: number, end: number): void {
    const { source } = this.#p.exchange;
    if (this.table.isLive(source.transaction, source.transactionGeneration))
      this.serve(source.transaction, status, start, end);
  }

  /** Gives a response, composed in the out region, to a server transaction. */
  serve(server: number, status: number, start: number, end: number): void {
    const actions = this.table.event(server, onAnswer(status), this.#p.now());
    if (actions & SEND) this.#legs.deliver(server, start, end);
    if (actions & KEEP) this.#legs.keep(server, start, end);
    else if (actions & FORGET) this.#legs.forget(server);
    if (actions & END) this.#ended(server);
  }

  /** A final state without a response: the client that it would go to is gone, or must get none. */
  serveNothing(server: number, status: number): void {
    const actions = this.table.event(server, onAnswer(status), this.#p.now());
    if (actions & END) this.#ended(server);
  }

  // ---- responses

  /** The response in the exchange; the branch object names its client transaction. */
  response(): void {
    const { exchange, branch, counters, now, shard, responseElsewhere } = this.#p;
    if (branch.shard !== shard) {
      responseElsewhere(branch.shard);
      return;
    }
    if (!branch.isOfThisLife) {
      counters.inc(Counter.strayResponses);
      return;
    }
    const { message: m } = exchange;
    const { table } = this;
    const client = table.findClient(branch.transaction, branch.generation, m.cseqMethod);
    if (client < 0) {
      counters.inc(Counter.strayResponses); // 6026 7.3: never forwarded
      return;
    }
    const invite = table.kind(client) === INVITE_CLIENT;
    const moved = table.word(client, AIM) !== 0 && (this.#targets?.heardBack(client, m.status) ?? false);
    const actions = table.event(client, onResponse(m.status), now());
    if (invite) this.#answerTime.responded(client, m.status);
    if (actions & SEND_ACK) this.#acknowledge(client, actions);
    if (actions & PASS && !moved) this.#pass(client, invite);
    if (actions & RESEND) this.#legs.resendClient(client);
    if (actions & (FORGET | END)) this.#legs.forget(client);
    // Timer K would only absorb what, without it, is a stray response and dropped as well: no record waits for that.
    if (!invite && table.state(client) === COMPLETED) table.release(client);
  }

  /** 17.1.1.3: the ACK to a non-2xx, made from the INVITE and the response in the exchange. */
  #acknowledge(client: number, actions: number): void {
    const { exchange, offspring } = this.#p;
    const { table } = this;
    const at = table.keptOffset(client);
    if (at < 0) return;
    const start = exchange.openOut();
    if (!offspring.ack(at, table.keptLength(client), exchange.message, exchange.out)) return;
    const end = exchange.keepOut();
    this.#legs.send(client, start, end);
    // What a context still needs of the INVITE it has by now.
    if (actions & KEEP) this.#legs.keep(client, start, end);
  }

  #pass(client: number, invite: boolean): void {
    const { exchange } = this.#p;
    const { status } = exchange.message;
    const { table } = this;
    const flags = table.word(client, FLAGS);
    if (table.method(client) === CANCEL) return;
    if (status < 200 && flags & CANCEL_WANTED && !(flags & CANCELLED)) this.#sendCancel(client);
    const server = table.peer(client);
    if (!table.isLive(server, table.word(client, SERVER_GENERATION))) return;
    if (flags & GIVEN_UP && !(status >= 200 && status < 300)) return;
    // 16.7 step 1 and 5: a 100 stays here; 4320 4.1: to a non-INVITE all provisional ones do
    if (status === 100 || (status < 200 && !invite)) return;
    const context = this.#contextOf(client);
    if (context) context.response(client, table.word(client, TARGET), status);
    else this.forward(server, status === 503 ? 500 : status);
  }

  /** Forwards the response in the exchange through a server transaction. */
  forward(server: number, status: number): void {
    const { branch, responses, counters } = this.#p;
    const { table } = this;
    const head = table.word(server, LISTENER);
    branch.listener = head & 0xff;
    branch.slot = table.word(server, SLOT);
    branch.generation = table.word(server, SLOT_GENERATION);
    branch.hasDestination = (head & HAS_DESTINATION) !== 0;
    const wayBack = this.#legs.needsWayBack(server);
    if (wayBack) branch.slot = -1;
    if (!responses.compose(status, wayBack)) {
      this.serveNothing(server, status);
      return;
    }
    counters.inc(Counter.forwardedResponses);
    this.serve(server, status, responses.start, responses.end);
  }

  /** The same with a response that was kept, and header lines to add to it. */
  forwardKept(server: number, octets: string, status: number, extra: string, parking: Parking): void {
    this.#p.responses.extra = extra;
    parking.load(octets, () => this.forward(server, status));
    this.#p.responses.extra = '';
  }

  #contextOf(client: number): Context | undefined {
    const { table } = this;
    const server = table.peer(client);
    if (server < 0) return undefined; // a request of our own
    return table.word(server, LISTENER) & HAS_CONTEXT ? this.#contexts.get(server) : undefined;
  }

  // ---- CANCEL

  #cancelServer(server: number): void {
    const { table } = this;
    const context = this.#contexts.get(server);
    if (context) context.cancel();
    else {
      const client = table.word(server, CLIENT) - 1;
      if (table.isLive(client, table.word(server, CLIENT_GENERATION))) this.cancelClient(client);
      else table.setWord(server, LISTENER, table.word(server, LISTENER) | CANCELLED_EARLY);
    }
  }

  /** Was the request in the exchange cancelled while it waited? */
  get isCancelled(): boolean {
    const { transaction, transactionGeneration } = this.#p.exchange.source;
    const { table } = this;
    return (
      transaction >= 0 &&
      table.isLive(transaction, transactionGeneration) &&
      (table.word(transaction, LISTENER) & CANCELLED_EARLY) !== 0
    );
  }

  /** Ends an INVITE that went out, as soon as that is allowed (9.1). */
  cancelClient(client: number): void {
    const { table } = this;
    if (table.kind(client) !== INVITE_CLIENT) return;
    const flags = table.word(client, FLAGS);
    if (flags & CANCELLED) return;
    if (table.state(client) === PROCEEDING) this.#sendCancel(client);
    else if (table.state(client) === CALLING) table.setWord(client, FLAGS, flags | CANCEL_WANTED);
  }

  #sendCancel(client: number): void {
    const { exchange, offspring, now } = this.#p;
    const { table } = this;
    const at = table.keptOffset(client);
    table.setWord(client, FLAGS, table.word(client, FLAGS) | CANCELLED);
    const start = exchange.openOut();
    const made = at >= 0 && offspring.cancel(at, table.keptLength(client), exchange.out);
    const end = made ? exchange.keepOut() : start;
    const cancel = made ? table.openCancel(client, now()) : -1;
    if (made) this.#legs.send(client, start, end);
    if (cancel < 0) {
      table.event(client, ON_CANCELLED, now()); // no room for a CANCEL: the INVITE still must end
      return;
    }
    for (let i = LISTENER; i <= FAMILY_PORT; i++) table.setWord(cancel, i, table.word(client, i));
    table.setPeer(cancel, -1);
    table.setKept(cancel, -1, 0);
    this.#legs.keep(cancel, start, end);
  }

  // ---- failure and time

  /** From a flush: handled in the next turn. The branch object of `instead` names the transaction. */
  undelivered(start: number, end: number, status: number): void {
    const { insteadBranch, shard, elsewhere } = this.#p;
    if (insteadBranch.shard !== shard) elsewhere(insteadBranch.shard, start, end, status);
    else if (insteadBranch.isOfThisLife)
      this.#failures.push({
        client: insteadBranch.transaction,
        generation: insteadBranch.generation,
        status,
      });
  }

  /** The targets of the upstream, where there is one. */
  get targets(): TargetLegs | undefined {
    return this.#targets;
  }

  get losses(): Losses {
    return this.#losses;
  }

  /** Runs what is due. Returns when to come again, ms or Infinity. */
  turn(nowMs: number): number {
    if (nowMs >= this.#losses.due) this.#losses.collect(nowMs, this.#failures);
    for (let i = 0; i < this.#failures.length; i++) {
      const { client, generation, status } = this.#failures[i];
      if (!this.table.isLive(client, generation)) continue;
      const actions = this.table.event(client, ON_TRANSPORT_ERROR, nowMs);
      if (actions & FAILED && !(this.table.word(client, FLAGS) & GIVEN_UP)) this.#failed(client, status);
      if (actions & END) this.#legs.forget(client);
    }
    this.#failures.length = 0;
    this.table.advance(nowMs, this.#fired);
    return Math.min(this.table.nextDeadline(), this.#losses.due);
  }

  #fire(id: number, actions: number): void {
    const server = this.table.kind(id) >= INVITE_SERVER;
    if (actions & RESEND) {
      if (server) this.#legs.resendServer(id);
      // a phone that has an INVITE may ring: it must be asked, to be cancelled; another request is not wanted there now
      else if (this.table.kind(id) === INVITE_CLIENT || !(this.table.word(id, FLAGS) & GIVEN_UP))
        this.#legs.resendClient(id);
    }
    if (actions & COMPOSE_100) this.#hundred(id);
    if (actions & ALARM) this.#alarm(id);
    if (actions & TIMED_OUT) {
      this.#p.counters.inc(Counter.transactionTimeouts);
      if (!server && this.table.method(id) !== CANCEL) this.#timedOut(id);
    }
    if (actions & END) this.#ended(id);
  }

  #timedOut(client: number): void {
    const flags = this.table.word(client, FLAGS);
    if (flags & GIVEN_UP) return;
    this.#failed(client, flags & (CANCELLED | CANCEL_WANTED) ? 487 : 408);
  }

  /** The client transaction gets no response: its context is told, or an answer is made from what it sent. */
  #failed(client: number, status: number): void {
    const { instead } = this.#p;
    const { table } = this;
    if (table.word(client, FLAGS) & PROBE) {
      this.#targets?.probed(client, false);
      return;
    }
    const server = table.peer(client);
    if (!table.isLive(server, table.word(client, SERVER_GENERATION))) return;
    const context = this.#contextOf(client);
    if (context) {
      context.failed(client, table.word(client, TARGET), status);
      return;
    }
    if (this.#targets?.tookOver(client, status)) return;
    // 4320 4.2: never 408 to a non-INVITE; its server transaction ends by itself
    if (status === 408 && table.kind(server) !== INVITE_SERVER) return;
    this.#answerInstead(client, server, status, instead);
  }

  #answerInstead(client: number, server: number, status: number, instead: Responses): void {
    const at = this.table.keptOffset(client);
    if (at < 0 || !instead.composeInstead(at, at + this.table.keptLength(client), status, REASONS[status])) {
      this.serveNothing(server, status);
      return;
    }
    this.serve(server, status, instead.start, instead.end);
  }

  #hundred(server: number): void {
    const { table } = this;
    const client = table.word(server, CLIENT) - 1;
    if (!table.isLive(client, table.word(server, CLIENT_GENERATION))) return;
    const at = table.keptOffset(client);
    const { instead } = this.#p;
    if (at >= 0 && instead.composeInstead(at, at + table.keptLength(client), 100, REASONS[100]))
      this.serve(server, 100, instead.start, instead.end);
  }

  #alarm(client: number): void {
    switch (this.#answerTime.over(client, this.#contextOf(client) !== undefined)) {
      case WITHOUT_FINAL:
        this.cancelClient(client);
        return;
      case PROBE_SILENT:
        this.#targets?.probed(client, false);
        this.#legs.forget(client);
        this.table.release(client);
        return;
      case TARGET_SILENT:
        if (!this.#targets?.silent(client)) this.#answerTime.timerC(client);
        return;
      case PLACE_SILENT:
        this.giveUp(client, this.table.word(client, LISTENER) & TO_FLOW ? 430 : 408);
        return;
      default:
    }
  }

  /** The place is given up before its transaction has ended: what still comes is absorbed, but for a 2xx to INVITE. */
  giveUp(client: number, status: number): void {
    const { table } = this;
    table.setWord(client, FLAGS, table.word(client, FLAGS) | GIVEN_UP | CANCEL_WANTED);
    this.#failed(client, status);
  }

  /** Records and kept cells in use: what must return to its start. */
  get inUse(): { transactions: number; contexts: number; cells: number } {
    return { transactions: this.table.size, contexts: this.#contexts.size, cells: this.#legs.cells };
  }
}

/** Outcomes of `toFlow` and `toHop` besides those of the outlet. */
export const TOO_LARGE = 3;
export const UNREACHABLE = 4;
