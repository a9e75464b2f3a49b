/**
 * A shard's view of the flows: finding, making, confirming, timing and ending them, over the shared
 * table and index. Records of other shards are read and refreshed here too; only the owner runs a
 * flow's timer and ends it.
 *
 * UDP: a record is made only when a token is needed. It is provisional for PROVISIONAL_S until a 2xx
 * passes for it; when the table is full the oldest provisional record makes room, a confirmed one
 * never does. Streams: main or the dialler makes the record, the owner opens it.
 *
 * A deadline is checked when the flow is used, so it is exact there; the wheel only cleans up, and
 * looks again at least every RECHECK_MS because another shard may have shortened a deadline.
 */
import { Endpoint } from '../net/endpoint.ts';
import type { Listener } from '../net/net.ts';
import { Cause } from '../shared/cause.ts';
import { type Clock, deciseconds } from '../shared/clock.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import type { FlowIndex } from '../shared/flow-index.ts';
import {
  ADOPTED,
  DIALOG,
  EXEMPT,
  isWebSocket,
  OUTBOUND_DIALED,
  PROXIED,
  REGISTERED,
  TRANSPORT_UDP,
  UPGRADING,
} from '../shared/flow-record.ts';
import { CLAIMED, type FlowTable, OPEN, PROVISIONAL } from '../shared/flow-table.ts';
import { latin1 } from '../wire/chars.ts';
import {
  ACCEPTED,
  deadlineCause,
  type FlowLife,
  flowDeadline,
  type LifeLimits,
  NO_STAGE,
  STAGES,
} from './deadline.ts';
import type { Keyring } from './keyring.ts';
import { type TokenFields, TokenMint, TokenReader, TokenVerdict } from './token.ts';
import { Wheel } from './wheel.ts';

/** Transaction time of a client that retransmits (64 T1): a 2xx comes within it or never. */
export const PROVISIONAL_S = 32;
const RECHECK_MS = 30_000;
const TICK_MS = 100;

/** What a token in a Route stands for. */
export const LIVE = 0;
/** ours once, its flow is no more: 430 */
export const GONE = 1;
/** not made with our keys, or changed: 403 */
export const FORGED = 2;

export interface FlowsOptions {
  self: number;
  table: FlowTable;
  index: FlowIndex;
  counters: Counters;
  clock: Clock;
  listeners: Listener[];
  keyring: Keyring;
  node: number;
  incarnation: number;
  /** seconds */
  flowTimer: number;
  grace: number;
  idle: number;
}

/** Told when a flow has ended, before its record is free for another. */
export type FlowEnded = (slot: number, generation: number, cause: number) => void;

export class Flows {
  readonly table: FlowTable;
  readonly incarnation: number;
  readonly reader: TokenReader;
  readonly #self: number;
  readonly #index: FlowIndex;
  readonly #counters: Counters;
  readonly #clock: Clock;
  readonly #listeners: Listener[];
  readonly #mint: TokenMint;
  readonly #node: number;
  readonly #wheel: Wheel;
  readonly #limits: LifeLimits;
  /** deciseconds after the start in which tokens of the last incarnation make flows */
  readonly #adoption: number;
  readonly #life: FlowLife = {
    upgrading: false,
    exempt: false,
    flowTimer: 0,
    registeredUntil: 0,
    hasDialog: false,
    opened: 0,
    lastByte: 0,
    stage: NO_STAGE,
    since: 0,
  };
  /** by slot, of the streams of this shard: their stage (deadline.ts), and since when, in deciseconds */
  readonly #stage: Uint8Array;
  readonly #since: Int32Array;
  readonly #fields: TokenFields = {
    transport: 0,
    incarnation: 0,
    slot: 0,
    generation: 0,
    remote: new Endpoint(),
    local: new Endpoint(),
  };
  readonly #text = new Uint8Array(128);
  /** a stream whose time is over: its net closes it, and `ended` follows */
  closeStream: (slot: number, cause: number) => void = () => {};
  ended: FlowEnded = () => {};
  /** the live flow that `resolve` found, and its generation */
  slot = -1;
  generation = 0;

  constructor(options: FlowsOptions) {
    this.table = options.table;
    this.incarnation = options.incarnation;
    this.reader = new TokenReader(options.keyring);
    this.#self = options.self;
    this.#index = options.index;
    this.#counters = options.counters;
    this.#clock = options.clock;
    this.#listeners = options.listeners;
    this.#mint = new TokenMint(options.keyring, options.node);
    this.#node = options.node;
    this.#wheel = new Wheel(options.table.capacity, TICK_MS, options.clock.now());
    this.#limits = { grace: options.grace, idle: options.idle };
    this.#stage = new Uint8Array(options.table.capacity);
    this.#since = new Int32Array(options.table.capacity);
    this.#adoption = (options.flowTimer + options.grace) * 10;
  }

  now(): number {
    return deciseconds(this.#clock.now());
  }

  // ---- UDP

  /** The live flow of these addresses, or -1. */
  find(listener: number, remote: Endpoint, local: Endpoint): number {
    const { a0, a1, a2, a3, port } = remote;
    return this.#index.lookup(listener, a0, a1, a2, a3, port, local.a0, local.a1, local.a2, local.a3);
  }

  /** Something came from the flow: its silence starts anew (EP-5.4-09). */
  touch(slot: number, ds: number): void {
    const table = this.table;
    table.setLastByte(slot, ds);
    table.countIn(slot);
    if (table.has(slot, ADOPTED)) this.#confirmAdopted(slot);
  }

  keepAlive(slot: number, ds: number): void {
    this.touch(slot, ds);
    this.table.setLastKeepAlive(slot, ds);
  }

  /** The flow of these addresses, made provisional if there is none. -1: no record is free. */
  findOrMake(listener: number, remote: Endpoint, local: Endpoint, ds: number): number {
    const found = this.find(listener, remote, local);
    if (found >= 0) return found;
    return this.#makeDatagram(listener, remote, local, ds, 0);
  }

  #makeDatagram(listener: number, remote: Endpoint, local: Endpoint, ds: number, flags: number): number {
    const table = this.table;
    let slot = table.claim(this.#self);
    if (slot < 0) {
      slot = this.#index.reclaim(this.#self);
      if (slot < 0) {
        this.#counters.inc(Counter.tableFull);
        return -1;
      }
      this.#counters.inc(Counter.flowsReclaimed);
    }
    table.setKind(slot, TRANSPORT_UDP, remote.family);
    table.setListener(slot, listener);
    table.setRemote(slot, remote.a0, remote.a1, remote.a2, remote.a3, remote.port);
    table.setLocal(slot, local.a0, local.a1, local.a2, local.a3, local.port);
    table.setOpenedAt(slot, ds);
    table.setLastByte(slot, ds);
    table.setIncarnation(slot, this.incarnation);
    if (flags !== 0) table.raise(slot, flags);
    this.#write(slot);
    const generation = table.generation(slot);
    table.publish(slot, PROVISIONAL);
    const entered = this.#index.insert(slot);
    if (entered !== slot) {
      table.release(slot, generation, Cause.REPLACED);
      if (entered < 0) this.#counters.inc(Counter.indexFull);
      return entered;
    }
    this.#counters.inc(Counter.flowsOpened);
    this.#wheel.schedule(slot, this.#clock.now() + PROVISIONAL_S * 1000);
    return slot;
  }

  #confirmAdopted(slot: number): void {
    this.table.lower(slot, ADOPTED);
    this.table.raise(slot, DIALOG);
    this.table.confirm(slot, this.table.generation(slot));
  }

  // ---- streams

  /** Opens a claimed record whose kind, addresses and descriptor are set. */
  openStream(slot: number, ds: number): void {
    const table = this.table;
    table.setOpenedAt(slot, ds);
    table.setLastByte(slot, ds);
    table.setIncarnation(slot, this.incarnation);
    // one that is taken over is open already, and may be a WebSocket
    if (isWebSocket(table.transport(slot)) && table.state(slot) === CLAIMED) table.raise(slot, UPGRADING);
    table.publish(slot, OPEN);
    this.#counters.inc(Counter.flowsOpened);
    this.#begin(slot, true);
  }

  /** What we dialled may say nothing until it is asked. */
  #begin(slot: number, isNew: boolean): void {
    const { table } = this;
    const waits = !table.has(slot, OUTBOUND_DIALED) && (isNew || table.messagesIn(slot) === 0);
    this.#stage[slot] = waits ? ACCEPTED : NO_STAGE;
    this.#since[slot] = table.openedAt(slot);
    this.#rearm(slot);
  }

  stage(slot: number): number {
    return this.#stage[slot];
  }

  /** The stream has come into this stage. */
  enter(slot: number, stage: number, ds: number): void {
    this.#stage[slot] = stage;
    this.#since[slot] = ds;
    // A longer one is met when the flow is looked at again.
    if (STAGES[stage].seconds * 1000 < RECHECK_MS) this.#rearm(slot);
  }

  /** Is it believed from now on, so that it has no deadline, or no longer? */
  setExempt(slot: number, exempt: boolean): void {
    const { table } = this;
    if (exempt) table.raise(slot, EXEMPT);
    else table.lower(slot, EXEMPT);
    this.#rearm(slot);
  }

  /** Its HTTP request has been answered: a WebSocket from now on. */
  upgraded(slot: number): void {
    this.table.lower(slot, UPGRADING);
    this.#rearm(slot);
  }

  // ---- tokens

  /** The flow's token, as text in `table.tokens` from `table.tokenOffset(slot)` on, `table.tokenLength(slot)` octets. */
  ensureToken(slot: number): void {
    if (this.table.tokenLength(slot) === 0) this.#write(slot);
  }

  tokenText(slot: number): string {
    this.ensureToken(slot);
    const from = this.table.tokenOffset(slot);
    return latin1(this.table.tokens, from, from + this.table.tokenLength(slot));
  }

  #write(slot: number): void {
    const { table } = this;
    const fields = this.#fields;
    fields.transport = table.transport(slot);
    fields.incarnation = table.incarnation(slot);
    fields.slot = slot;
    fields.generation = table.generation(slot);
    this.remoteOf(slot, fields.remote);
    this.localOf(slot, fields.local);
    table.setToken(slot, this.#text, 0, this.#mint.write(fields, this.#text, 0));
  }

  /** LIVE (then `slot` and `generation` name the flow), GONE or FORGED. */
  resolve(buf: Uint8Array, start: number, end: number, ds: number): number {
    const { reader, table } = this;
    this.slot = -1;
    if (!reader.peek(buf, start, end)) return FORGED;
    let { slot, generation } = reader;
    // A token that equals the kept one of the live flow needs no crypto.
    const kept =
      table.isLive(slot, generation) &&
      reader.equals(table.tokens, table.tokenOffset(slot), table.tokenLength(slot));
    if (!kept) {
      if (reader.read(buf, start, end) !== TokenVerdict.OK) return FORGED;
      // The nodes of a cluster share their keys, not their flows.
      if (reader.node !== this.#node) return GONE;
      slot = reader.slot;
      generation = reader.generation;
      if (reader.incarnation !== this.incarnation) {
        slot = this.#ofEarlierLife(ds);
        if (slot < 0) return GONE;
        generation = table.generation(slot);
      }
      if (!table.isLive(slot, generation)) return GONE;
    }
    if (this.#isOver(slot, ds)) return GONE;
    this.slot = slot;
    this.generation = generation;
    return LIVE;
  }

  /** DESIGN 5: a UDP token of an earlier incarnation is good for the flow of its address pair, within limits. */
  #ofEarlierLife(ds: number): number {
    const { reader, table } = this;
    if (reader.transport !== TRANSPORT_UDP || reader.incarnation > this.incarnation) return -1;
    const listener = this.#listenerAt(reader.local);
    if (listener < 0) return -1;
    const found = this.find(listener, reader.remote, reader.local);
    if (found >= 0) return table.openedAt(found) <= this.#adoption ? found : -1;
    if (ds > this.#adoption) return -1;
    const made = this.#makeDatagram(listener, reader.remote, reader.local, ds, ADOPTED);
    if (made >= 0) this.#counters.inc(Counter.flowsAdopted);
    return made;
  }

  #listenerAt(local: Endpoint): number {
    for (const { id, transport, address, wildcard } of this.#listeners) {
      if (transport !== TRANSPORT_UDP || address.port !== local.port || address.family !== local.family)
        continue;
      if (wildcard || address.sameAddress(local)) return id;
    }
    return -1;
  }

  // ---- what is known about a flow

  remoteOf(slot: number, into: Endpoint): Endpoint {
    const { table } = this;
    into.family = table.family(slot);
    into.port = table.remotePort(slot);
    into.a0 = table.remote(slot, 0);
    into.a1 = table.remote(slot, 1);
    into.a2 = table.remote(slot, 2);
    into.a3 = table.remote(slot, 3);
    return into;
  }

  /** Whose flow it is: the client that a balancer told of in a PROXY header, or the one that the socket has. */
  clientOf(slot: number, into: Endpoint): Endpoint {
    const { table } = this;
    if (!table.has(slot, PROXIED)) return this.remoteOf(slot, into);
    into.port = table.clientPort(slot);
    into.a0 = table.client(slot, 0);
    into.a1 = table.client(slot, 1);
    into.a2 = table.client(slot, 2);
    into.a3 = table.client(slot, 3);
    // It need not be the socket's.
    into.family = into.a0 === 0 && into.a1 === 0 && into.a2 === 0xffff ? 4 : 6;
    return into;
  }

  localOf(slot: number, into: Endpoint): Endpoint {
    const { table } = this;
    into.family = table.family(slot);
    into.port = table.localPort(slot);
    into.a0 = table.local(slot, 0);
    into.a1 = table.local(slot, 1);
    into.a2 = table.local(slot, 2);
    into.a3 = table.local(slot, 3);
    return into;
  }

  /**
   * A 2xx to a REGISTER went down the flow: `expires` is the largest expiry in it (0: none left), seconds;
   * `flowTimer` what the client was told, 0 for nothing. True if this is what confirmed the flow.
   */
  registered(slot: number, generation: number, expires: number, flowTimer: number, ds: number): boolean {
    const { table } = this;
    if (!table.isLive(slot, generation)) return false;
    const first = !table.has(slot, REGISTERED);
    // Where no contact is left, other addresses-of-record of a phone may still be registered over the flow.
    if (first || expires > 0) {
      table.setFlowTimer(slot, flowTimer);
      const until = Math.max(1, ds + expires * 10);
      if (until > table.registrationExpiry(slot)) table.setRegistrationExpiry(slot, until);
    }
    table.raise(slot, REGISTERED);
    this.#confirm(slot, generation);
    return first;
  }

  /** A dialog was set up over the flow, or it carries requests that a token authorised. */
  hasDialog(slot: number, generation: number): void {
    if (!this.table.isLive(slot, generation) || this.table.has(slot, DIALOG)) return;
    this.table.raise(slot, DIALOG);
    this.#confirm(slot, generation);
  }

  #confirm(slot: number, generation: number): void {
    this.table.confirm(slot, generation);
    if (this.table.owner(slot) === this.#self) this.#rearm(slot);
  }

  #fill(slot: number): FlowLife {
    const { table } = this;
    const life = this.#life;
    life.upgrading = table.has(slot, UPGRADING);
    life.exempt = table.has(slot, EXEMPT);
    life.flowTimer = table.flowTimer(slot);
    life.registeredUntil = table.registrationExpiry(slot);
    life.hasDialog = table.has(slot, DIALOG);
    life.opened = table.openedAt(slot);
    life.lastByte = table.lastByte(slot);
    // Another shard's streams are looked up here too: what they have begun is known to their owner alone.
    const mine = table.owner(slot) === this.#self && table.transport(slot) !== TRANSPORT_UDP;
    life.stage = mine ? this.#stage[slot] : NO_STAGE;
    life.since = this.#since[slot];
    return life;
  }

  #deadline(slot: number): number {
    const life = this.#fill(slot);
    if (this.table.state(slot) === PROVISIONAL) return life.opened + PROVISIONAL_S * 10;
    return flowDeadline(life, this.#limits);
  }

  #isOver(slot: number, ds: number): boolean {
    return this.#deadline(slot) <= ds;
  }

  #rearm(slot: number): void {
    const deadline = this.#deadline(slot);
    this.table.setDeadline(slot, deadline === Number.POSITIVE_INFINITY ? 0x7fffffff : deadline);
    const at = Math.min(deadline * 100, this.#clock.now() + RECHECK_MS);
    if (deadline === Number.POSITIVE_INFINITY) this.#wheel.cancel(slot);
    else this.#wheel.schedule(slot, at);
  }

  // ---- time and end

  /** Runs the timers that are due. Returns when the next one is, ms or Infinity. */
  advance(nowMs: number): number {
    this.#wheel.advance(nowMs, this.#fire);
    return this.#wheel.nextDeadline();
  }

  readonly #fire = (slot: number): void => {
    const { table } = this;
    const state = table.state(slot);
    if ((state !== OPEN && state !== PROVISIONAL) || table.owner(slot) !== this.#self) return;
    if (!this.#isOver(slot, this.now())) {
      this.#rearm(slot);
      return;
    }
    const cause =
      state === PROVISIONAL ? Cause.STAGE_DEADLINE : deadlineCause(this.#fill(slot), this.#limits);
    this.#counters.inc(cause === Cause.EXPIRED ? Counter.flowsExpired : Counter.stageDeadlines);
    if (table.transport(slot) === TRANSPORT_UDP) this.end(slot, table.generation(slot), cause);
    else this.closeStream(slot, cause);
  };

  /** Ends a flow of this shard: retires its bindings through `ended`, frees its record. A stream's descriptor is closed first. */
  end(slot: number, generation: number, cause: number): void {
    const { table } = this;
    const provisional = table.state(slot) === PROVISIONAL;
    if (!table.close(slot, generation)) return;
    if (table.transport(slot) === TRANSPORT_UDP) this.#index.remove(slot);
    this.#wheel.cancel(slot);
    if (!provisional) this.ended(slot, generation, cause);
    this.#counters.inc(Counter.flowsClosed);
    table.release(slot, generation, cause);
  }

  /** After this shard's predecessor has died: takes its UDP flows and timers over; `stream` gets each live stream. */
  inherit(stream: (slot: number, generation: number) => void): number {
    let taken = 0;
    const { table } = this;
    for (let slot = 0; slot < table.capacity; slot++) {
      const state = table.state(slot);
      if ((state !== OPEN && state !== PROVISIONAL) || table.owner(slot) !== this.#self) continue;
      taken++;
      if (table.transport(slot) === TRANSPORT_UDP) this.#rearm(slot);
      else {
        stream(slot, table.generation(slot));
        this.#begin(slot, false);
      }
    }
    return taken;
  }
}
