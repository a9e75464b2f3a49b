/**
 * Both sides of an edge in one thread: the clients with their flows, and the core. It turns as the server does: what
 * is ready is read and answered, new transactions are begun, what was written is sent in batches.
 *
 * Closed loop: `window` transactions are in flight, an answer begins the next. Open loop (`rate`): a transaction is
 * begun when its time has come, whatever the others do, and its latency counts from that time, so that a server
 * that stands still is charged for what it kept waiting. While the next one is near the thread does not sleep.
 *
 * Nothing is sent twice: a lost datagram is a lost transaction.
 */
import { randomBytes } from 'node:crypto';
import { Epoll } from '../../src/native/epoll.ts';
import { errnoName } from '../../src/native/errno.ts';
import { closeFd } from '../../src/native/socket.ts';
import { type ClientEvents, type Clients, CORE, KIND_BITS } from './clients.ts';
import { type Core, openCore } from './core.ts';
import { hostOf, ipv4, need } from './datagrams.ts';
import { Desk } from './desk.ts';
import { type Address, type Load, MAX_FLOWS, MAX_WINDOW, type Mode } from './options.ts';
import { Paths } from './paths.ts';
import { answer, path, Reading } from './reading.ts';
import { Sealed } from './sealed.ts';
import { StreamClients } from './streamclients.ts';
import { endedOf, nothing, type Tally } from './tally.ts';
import { downstream, KIND_DOWNSTREAM, KIND_REGISTER, register, type Template } from './templates.ts';
import type { Timeline } from './timeline.ts';
import { Transactions } from './transactions.ts';
import { UdpClients } from './udpclients.ts';

export type Work = Exclude<Mode, 'idle'>;

interface Phase {
  work: Work;
  count: number;
  rate: number;
  timeline: Timeline | undefined;
}

export interface Places {
  server: Address;
  core: Address;
  /** PEM */
  ca: string | undefined;
}

/** Connections that are being made at one time. */
const OPENING = 128;
const EVENTS = 512;
const IDLE_WAIT_MS = 20;
/** libuv's turn: signals, the server's output */
const BREATH_MS = 25;
const EXPIRE_EVERY_MS = 100;
/** How often another flow is looked for where the first has a transaction already. */
const OTHERS = 16;

export class Generator implements ClientEvents {
  readonly #load: Load;
  readonly #flows: number;
  readonly #desk = new Desk();
  readonly #epoll = new Epoll(need(Epoll.create(), 'epoll_create1'), EVENTS);
  readonly #reading = new Reading();
  readonly #clients: Clients;
  readonly #core: Core;
  readonly #register: Template;
  readonly #down: { before: Template; after: Template };
  readonly #paths: Paths | undefined;
  readonly #transactions: Transactions;
  /** by flow the transaction that waits on it, where a flow can have but one; -1: none */
  readonly #busy: Float64Array;
  #tally = nothing();
  #phase: Phase | undefined;
  #begins = 0;
  #stopped = false;
  #now = 0;
  #begun = 0;
  #expired = 0;
  #breath = 0;
  #cursor = 0;
  #random = 1;
  #settingUp = false;
  #up = 0;

  constructor(load: Load, { server, core, ca }: Places) {
    this.#load = load;
    // churn over UDP: nothing is closed, so each one is a new address pair
    this.#flows = load.mode === 'churn' && load.transport === 'udp' ? MAX_FLOWS : load.flows;
    this.#transactions = new Transactions(load.rate > 0 ? MAX_WINDOW : load.window);
    this.#busy = new Float64Array(this.#flows).fill(-1);
    const at = ipv4(server.host, server.port);
    const sealed =
      load.transport === 'tls' || load.transport === 'wss' ? new Sealed(this.#desk, ca) : undefined;
    this.#clients =
      load.transport === 'udp'
        ? new UdpClients(this.#desk, this.#epoll, this.#flows, at, this.#reading, this)
        : new StreamClients(
            this.#desk,
            this.#epoll,
            this.#flows,
            at,
            load.transport,
            sealed,
            this.#reading,
            this,
          );
    this.#core = openCore(load.core, {
      desk: this.#desk,
      epoll: this.#epoll,
      at: ipv4(core.host, core.port),
      reading: this.#reading,
      heard: (start, end) => this.#atCore(start, end),
    });
    const run = randomBytes(4).toString('hex');
    this.#register = register(load.transport, run);
    const { address, transport } = this.#core;
    this.#down = downstream(load.transport, run, { transport, host: hostOf(address), port: address.port });
    this.#paths = load.mode === 'downstream' ? new Paths(load.flows) : undefined;
  }

  /** Where the core listens. */
  get core(): Address {
    return { host: hostOf(this.#core.address), port: this.#core.address.port };
  }

  get tally(): Tally {
    return { ...this.#tally };
  }

  /** Flows that stand. */
  get alive(): number {
    return this.#up;
  }

  /** Opens all flows and registers each as soon as it is open; throws if that fails for one. */
  async setUp(signal: AbortSignal): Promise<void> {
    const { flows } = this.#load;
    const most = Math.min(OPENING, this.#transactions.slots);
    this.#tally = nothing();
    this.#settingUp = true;
    for (let next = 0, settled = 0; settled < flows; ) {
      this.#now = performance.now();
      for (; next < flows && next - settled < most; next++) {
        this.#tally.begun++;
        this.#clients.open(next);
      }
      this.#flush();
      await this.#turn(IDLE_WAIT_MS, signal);
      settled = endedOf(this.#tally);
    }
    this.#settingUp = false;
    const { answered, failed, lost, closed } = this.#tally;
    if (answered === flows) return;
    const { lastError } = this.#clients;
    const why = closed === 0 ? '' : `, by ${lastError === 0 ? 'the server' : errnoName(lastError)}`;
    throw new Error(
      `only ${answered} of ${flows} flows could be registered: ${failed} refused, ${lost} not answered, ${closed} closed${why}`,
    );
  }

  /**
   * Does `work` until `count` transactions are begun or `seconds` are over, and returns the milliseconds that this
   * took. What is in flight then is left to `drain`.
   */
  async run(
    phase: {
      work: Work;
      count: number;
      seconds: number;
      rate?: number;
      timeline?: Timeline;
    },
    signal: AbortSignal,
  ): Promise<number> {
    const { work, count, seconds, rate = 0, timeline } = phase;
    this.#tally = nothing();
    this.#phase = { work, count, rate, timeline };
    this.#stopped = false;
    this.#now = performance.now();
    this.#begun = this.#now;
    timeline?.begin(this.#begun);
    const until = this.#begun + seconds * 1000;
    this.#pump();
    this.#flush();
    while (this.#now < until && !(this.#begins >= count && this.#transactions.inFlight === 0))
      await this.#turn(this.#wait(until), signal);
    this.#stopped = true;
    const took = this.#now - this.#begun;
    this.#begins = 0;
    return took;
  }

  /** Waits for what is in flight, as long as that may take. The tally is complete then. */
  async drain(signal: AbortSignal): Promise<void> {
    while (this.#transactions.inFlight > 0) await this.#turn(IDLE_WAIT_MS, signal);
    this.#phase = undefined;
  }

  /** Keeps the flows for so long. */
  async hold(seconds: number, signal: AbortSignal): Promise<void> {
    const until = performance.now() + seconds * 1000;
    while (performance.now() < until) await this.#turn(IDLE_WAIT_MS, signal);
  }

  end(): void {
    this.#clients.end();
    this.#core.end();
    closeFd(this.#epoll.fd);
    this.#desk.close();
  }

  // ---- the loop

  async #turn(waitMs: number, signal: AbortSignal): Promise<void> {
    const n = this.#epoll.wait(waitMs);
    this.#now = performance.now();
    for (let i = 0; i < n; i++) {
      const mark = this.#epoll.data1(i);
      const index = this.#epoll.data0(i);
      if (i > 0) this.#now = performance.now();
      if ((mark & ((1 << KIND_BITS) - 1)) === CORE) this.#core.ready(index, this.#epoll.events(i));
      else this.#clients.ready(index, mark, this.#epoll.events(i));
    }
    if (!this.#stopped) this.#pump();
    this.#flush();
    if (this.#now - this.#expired > EXPIRE_EVERY_MS) this.#expire();
    if (this.#now - this.#breath < BREATH_MS) return;
    this.#breath = this.#now;
    await new Promise(setImmediate);
    signal.throwIfAborted();
  }

  #flush(): void {
    this.#clients.flush();
    this.#core.flush();
  }

  /** Milliseconds that may be slept. */
  #wait(until: number): number {
    const next = this.#phase?.rate ? Math.min(until, this.#dueAt(this.#begins)) : until;
    return Math.max(0, Math.min(IDLE_WAIT_MS, Math.floor(next - this.#now)));
  }

  #expire(): void {
    this.#expired = this.#now;
    this.#transactions.expire(this.#now - this.#load.timeout * 1000, (flow) => {
      this.#tally.lost++;
      this.#freed(flow);
    });
  }

  // ---- what is begun

  #dueAt(n: number): number {
    return this.#begun + (n * 1000) / (this.#phase as Phase).rate;
  }

  #pump(): void {
    const phase = this.#phase;
    if (!phase || this.#stopped) return;
    this.#now = performance.now();
    if (phase.rate > 0) {
      for (; this.#begins < phase.count && this.#dueAt(this.#begins) <= this.#now; this.#begins++)
        if (!this.#begin(phase, this.#dueAt(this.#begins))) {
          this.#tally.begun++;
          this.#tally.unsent++;
        }
      return;
    }
    while (this.#begins < phase.count && this.#transactions.inFlight < this.#load.window) {
      if (!this.#begin(phase, this.#now)) return;
      this.#begins++;
    }
  }

  #begin({ work }: Phase, at: number): boolean {
    const flow = this.#choose(work);
    const transaction = flow < 0 ? -1 : this.#transactions.begin(flow, at);
    if (transaction < 0) return false;
    this.#tally.begun++;
    switch (work) {
      case 'register':
        this.#sendRegister(flow, transaction);
        break;
      case 'downstream':
        this.#sendDown(flow, transaction);
        break;
      case 'keepalive':
        this.#busy[flow] = transaction;
        this.#clients.ping(flow, transaction);
        break;
      case 'churn':
        this.#busy[flow] = transaction;
        this.#clients.open(flow);
    }
    return true;
  }

  /** A flow for the next one; -1 if those that were looked at are all taken. */
  #choose(work: Work): number {
    const alone = work === 'keepalive' || work === 'churn';
    for (let i = 0; i < OTHERS; i++) {
      const flow = work === 'churn' ? this.#next() : this.#any();
      if (
        work === 'churn'
          ? this.#busy[flow] < 0
          : this.#clients.isOpen(flow) && !(alone && this.#busy[flow] >= 0)
      )
        return flow;
    }
    return -1;
  }

  #next(): number {
    const flow = this.#cursor;
    this.#cursor = flow + 1 === this.#flows ? 0 : flow + 1;
    return flow;
  }

  #any(): number {
    this.#random = (Math.imul(this.#random, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.#random / 2 ** 32) * this.#flows);
  }

  #sendRegister(flow: number, transaction: number): void {
    const at = this.#clients.place(flow);
    this.#clients.send(flow, at, this.#register.write(this.#desk.memory, at, flow, transaction));
  }

  #sendDown(flow: number, transaction: number): void {
    const { memory } = this.#desk;
    const at = this.#core.requestPlace();
    const route = this.#down.before.write(memory, at, flow, transaction);
    const rest = (this.#paths as Paths).write(memory, route, flow);
    this.#core.request(at, this.#down.after.write(memory, rest, flow, transaction));
  }

  // ---- what comes

  opened(flow: number): void {
    this.#up++;
    if (this.#settingUp) this.#busy[flow] = this.#transactions.begin(flow, this.#now);
    if (this.#busy[flow] >= 0) this.#sendRegister(flow, this.#busy[flow]);
  }

  message(flow: number, start: number, end: number): void {
    const { kind, status, transaction } = this.#reading;
    if (kind !== KIND_REGISTER && kind !== KIND_DOWNSTREAM) return;
    if (this.#reading.flow !== flow) this.#tally.misrouted++;
    else if (status >= 200) this.#complete(transaction, flow, status < 300);
    else if (status === 0) {
      const at = this.#clients.place(flow);
      this.#clients.send(flow, at, answer(this.#desk.memory, start, end, at, false));
    }
  }

  pong(flow: number, transaction: number): void {
    if (transaction >= 0) this.#complete(transaction, flow, true);
    else if (this.#busy[flow] >= 0) this.#complete(this.#busy[flow], flow, true);
    else this.#tally.stray++;
  }

  closed(flow: number, wasOpen: boolean): void {
    if (wasOpen) this.#up--;
    const transaction = this.#busy[flow];
    this.#busy[flow] = -1;
    // one that waited for nothing is missed by the next that is sent over it, and in `alive`
    if (transaction >= 0 ? this.#transactions.end(transaction, flow) >= 0 : this.#settingUp && !wasOpen)
      this.#tally.closed++;
  }

  #atCore(start: number, end: number): void {
    const { kind, status, transaction, flow } = this.#reading;
    if (kind !== KIND_REGISTER && kind !== KIND_DOWNSTREAM) return;
    if (status >= 200) this.#complete(transaction, flow, status < 300);
    if (status > 0) return;
    const { memory } = this.#desk;
    const at = this.#core.answerPlace();
    this.#core.answer(at, answer(memory, start, end, at, kind === KIND_REGISTER));
    if (this.#paths && path.start > 0) this.#core.aim(this.#paths.keep(memory, path.start, path.end, flow));
  }

  #complete(transaction: number, flow: number, good: boolean): void {
    const begun = this.#transactions.end(transaction, flow);
    if (begun < 0) {
      this.#tally.stray++;
      return;
    }
    if (good) {
      this.#tally.answered++;
      this.#time((this.#now - begun) * 1000);
    } else this.#tally.failed++;
    this.#freed(flow);
  }

  /** `us`: what an answer took. In a closed loop the time of the measurement is all that counts. */
  #time(us: number): void {
    const { timeline, rate = 0 } = this.#phase ?? {};
    if (!this.#stopped) timeline?.record(this.#now, us);
    else if (rate > 0) timeline?.recordLate(us);
  }

  #freed(flow: number): void {
    if (this.#busy[flow] < 0) return;
    this.#busy[flow] = -1;
    if (this.#phase?.work !== 'churn') return;
    if (this.#clients.isOpen(flow)) this.#up--;
    this.#clients.close(flow);
  }
}
