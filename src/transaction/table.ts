/**
 * All transactions of one shard: their states, timers and keys, in typed arrays of a fixed size. Feeds
 * the machines (machine.ts) with what happened and says what to do; to send, to keep bytes and to tell
 * the user is the caller's work. Single thread; allocates nothing after construction, unless it is one that grows.
 *
 * A transaction is named by its id, a record number, and the generation of the record, which rises at
 * every end: both stand in the branch of what we send, and `isLive` or `findClient` checks what comes back.
 * An id without its generation is good only as long as its holder knows that it has not ended.
 *
 * When a result has END, the record has ended already: no look-up finds it. Its fields can still be read
 * until the next `advance`, so that the caller can act on the result and free what was kept.
 *
 * Timers are those of the wheel, never early and at most a tick (10 ms) late; a series of retransmissions
 * counts from its due times, so that it does not drift. After a stall one retransmission goes out, not
 * those that were missed. When the state's end is due at the same time, only the end happens.
 *
 * Full: the oldest completed non-INVITE server transaction gives way (a late copy of its request would
 * then count as a new one), else -1. Costs 128 octets a record, 12 for its timer and 16 to 32 for its key.
 */
import { Wheel } from '../flow/wheel.ts';
import { CANCEL, INVITE } from '../wire/names.ts';
import { KeyIndex } from './key-index.ts';
import {
  ABSORB,
  ALARM,
  CLIENT,
  COMPLETED,
  endEvent,
  INVITE_CLIENT,
  INVITE_SERVER,
  KINDS,
  ON_CANCELLED,
  ON_HUNDRED,
  ON_REQUEST,
  ON_RETRANSMIT,
  ON_START,
  ON_TU_PROVISIONAL,
  PROCEEDING,
  SERVER,
  STATE_MASK,
  sendEvent,
  step,
  TERMINATED,
} from './machine.ts';
import {
  ALARM_AT,
  END_AT,
  GENERATION,
  KEY_HI,
  KEY_LO,
  KIND_SHIFT,
  LIFE,
  METHOD_SHIFT,
  OLDER,
  RECORD_TIMES,
  RECORD_WORDS,
  RELIABLE_SHIFT,
  SEND_AT,
  SENT_MASK,
  SENT_SHIFT,
  TransactionRecords,
  YOUNGER,
} from './record.ts';
import { RUNS_ON, Timers } from './timers.ts';

const TICK_MS = 10;
/** of a table that grows, a revolution of 5 s: it has few timers, and a timer beyond that is looked at each time */
const FEW_BUCKETS = 512;
const GROWTH = 4;
/** the CANCEL of a client INVITE has no branch of its own: it is found by the name of its INVITE */
const CANCEL_KEY = 0x9e3779b1;
const MAX_GENERATION = 0x7fffffff;

export interface TransactionsOptions {
  capacity: number;
  /** records made at the start, where most tables will never need all; default: all */
  first?: number;
  /** the clock's present time */
  nowMs: number;
  timers?: Timers;
  /** A completed transaction gives way to a new one: free what it kept. Its fields can be read in the call only. */
  onReclaim: (id: number) => void;
}

export type Fire = (id: number, actions: number) => void;

export class Transactions extends TransactionRecords {
  readonly timers: Timers;
  readonly #wheel: Wheel;
  #index: KeyIndex;
  readonly #most: number;
  readonly #onReclaim: (id: number) => void;
  /** a stack of records that may be used */
  #free: Int32Array;
  #freeCount = 0;
  /** those that ended since the last `advance`; used only if there are no others */
  #resting: Int32Array;
  #restingCount = 0;
  readonly #counts = new Int32Array(KINDS);
  #oldest = 0;
  #youngest = 0;
  #now: number;
  #fire: Fire = () => {};
  readonly #onWheel = (id: number): void => this.#due(id);

  constructor({ capacity, first = capacity, nowMs, timers = new Timers(), onReclaim }: TransactionsOptions) {
    super(first);
    this.timers = timers;
    this.#most = capacity;
    this.#wheel = new Wheel(first, TICK_MS, nowMs, first < capacity ? FEW_BUCKETS : undefined);
    this.#index = new KeyIndex(first);
    this.#onReclaim = onReclaim;
    this.#free = new Int32Array(first);
    this.#resting = new Int32Array(first);
    this.#vacate(0);
    this.#now = nowMs;
  }

  /** Transactions that have not ended. */
  get size(): number {
    return this.capacity - this.#freeCount - this.#restingCount;
  }

  count(kind: number): number {
    return this.#counts[kind];
  }

  /** Any numbers may be asked for: they come from the network. */
  isLive(id: number, generation: number): boolean {
    if (!(id >= 0 && id < this.capacity)) return false;
    const at = id * RECORD_WORDS;
    return this.words[at + GENERATION] === generation && (this.words[at + LIFE] & STATE_MASK) !== TERMINATED;
  }

  /** A request that we send, now: do SEND and KEEP (KEEP not for a non-INVITE over a reliable transport). -1: full. */
  openClient(method: number, reliable: boolean, nowMs: number): number {
    return this.#open(method === INVITE ? INVITE_CLIENT : CLIENT, ON_START, method, +reliable, nowMs);
  }

  /** The CANCEL for a live INVITE client: it goes the same way under the same branch. Tells the INVITE too. -1: full. */
  openCancel(invite: number, nowMs: number): number {
    const at = invite * RECORD_WORDS;
    const generation = this.words[at + GENERATION];
    const id = this.#open(CLIENT, ON_START, CANCEL, this.reliable(invite), nowMs);
    if (id < 0) return -1;
    this.#setKey(id, Math.imul(invite + 1, CANCEL_KEY), generation);
    this.event(invite, ON_CANCELLED, nowMs);
    return id;
  }

  /** A request that came and that `find` did not know. Its key is of key.ts. The request goes to the user. -1: full. */
  openServer(method: number, reliable: boolean, keyLo: number, keyHi: number, nowMs: number): number {
    const kind = method === INVITE ? INVITE_SERVER : SERVER;
    const id = this.#open(kind, ON_REQUEST, method, +reliable, nowMs);
    if (id >= 0) this.#setKey(id, keyLo, keyHi);
    return id;
  }

  /** The live server transaction with this key, or -1. */
  find(keyLo: number, keyHi: number): number {
    const index = this.#index;
    for (let place = index.first(keyLo); place >= 0; place = index.next(place, keyLo)) {
      const id = index.id(place);
      if (this.words[id * RECORD_WORDS + KEY_HI] === keyHi && this.kind(id) >= INVITE_SERVER) return id;
    }
    return -1;
  }

  /** The live client transaction that a response belongs to, by the name in its branch and its CSeq method (17.1.3), or -1. */
  findClient(id: number, generation: number, cseqMethod: number): number {
    if (this.isLive(id, generation) && this.method(id) === cseqMethod && this.kind(id) < INVITE_SERVER)
      return id;
    if (cseqMethod !== CANCEL) return -1;
    const index = this.#index;
    const lo = Math.imul(id + 1, CANCEL_KEY);
    for (let place = index.first(lo); place >= 0; place = index.next(place, lo)) {
      const cancel = index.id(place);
      if (this.words[cancel * RECORD_WORDS + KEY_HI] === generation && this.kind(cancel) === CLIENT)
        return cancel;
    }
    return -1;
  }

  /** Something happened to a transaction: its new state in the low bits, and what to do. 0 if it has ended. */
  event(id: number, event: number, nowMs: number): number {
    const at = id * RECORD_WORDS;
    const life = this.words[at + LIFE];
    const state = life & STATE_MASK;
    if (state === TERMINATED) return 0;
    const kind = (life >>> KIND_SHIFT) & (KINDS - 1);
    const result = step(kind, state, event, (life >>> RELIABLE_SHIFT) & 1);
    const next = result & STATE_MASK;
    if (next === TERMINATED) this.#end(id, kind);
    else if (next !== state) this.#enter(id, kind, next, nowMs);
    else if ((result & ABSORB) === 0) this.#restart(id, kind, state, event, nowMs);
    return result;
  }

  /** Ends a transaction at once, whatever its state: for its user, when nothing of it matters any more. */
  release(id: number): void {
    if (this.state(id) !== TERMINATED) this.#end(id, this.kind(id));
  }

  /** One time of the user's own for each transaction, such as Timer C; `advance` gives it as ALARM, once. Infinity: none. */
  setAlarm(id: number, atMs: number): void {
    if (this.state(id) === TERMINATED) return;
    this.times[id * RECORD_TIMES + ALARM_AT] = atMs;
    this.#arm(id);
  }

  /** Fires what is due. `fire` may call everything but `advance`, and must not throw. Once a turn. */
  advance(nowMs: number, fire: Fire): void {
    while (this.#restingCount > 0) this.#free[this.#freeCount++] = this.#resting[--this.#restingCount];
    this.#now = nowMs;
    this.#fire = fire;
    this.#wheel.advance(nowMs, this.#onWheel);
  }

  /** When `advance` next has something to look at; Infinity if never. May be too early, never too late. */
  nextDeadline(): number {
    return this.#wheel.nextDeadline();
  }

  #due(id: number): void {
    const times = id * RECORD_TIMES;
    const now = this.#now;
    const generation = this.generation(id);
    if (this.times[times + END_AT] <= now) {
      this.#fire(id, this.event(id, endEvent(this.kind(id), this.state(id)), now));
      return;
    }
    if (this.times[times + SEND_AT] <= now) {
      this.#fire(id, this.event(id, sendEvent(this.kind(id), this.state(id)), now));
      if (!this.isLive(id, generation)) return;
    }
    const alarmed = this.times[times + ALARM_AT] <= now;
    if (alarmed) this.times[times + ALARM_AT] = Infinity;
    this.#arm(id);
    if (alarmed) this.#fire(id, this.state(id) | ALARM);
  }

  #open(kind: number, event: number, method: number, reliable: number, nowMs: number): number {
    const id = this.#take();
    if (id < 0) return -1;
    const at = id * RECORD_WORDS;
    const generation = this.words[at + GENERATION];
    this.words.fill(0, at, at + RECORD_WORDS);
    this.words[at + GENERATION] = generation;
    this.words[at + LIFE] = (kind << KIND_SHIFT) | (reliable << RELIABLE_SHIFT) | (method << METHOD_SHIFT);
    this.times[id * RECORD_TIMES + ALARM_AT] = Infinity;
    this.#counts[kind]++;
    this.#enter(id, kind, step(kind, TERMINATED, event, reliable) & STATE_MASK, nowMs);
    return id;
  }

  #take(): number {
    // not a resting one: who was told of its end may still read it, and has to free what it kept
    if (this.#freeCount === 0 && this.capacity < this.#most) this.#grow();
    if (this.#freeCount > 0) return this.#free[--this.#freeCount];
    if (this.#oldest === 0) return -1;
    const id = this.#oldest - 1;
    this.#onReclaim(id);
    this.#end(id, SERVER);
    return this.#resting[--this.#restingCount];
  }

  /** The records from this one on may be used, the lowest first. */
  #vacate(from: number): void {
    for (let id = this.capacity - 1; id >= from; id--) this.#free[this.#freeCount++] = id;
  }

  #grow(): void {
    const before = this.capacity;
    const capacity = Math.min(this.#most, before * GROWTH);
    const resting = this.#resting;
    this.extend(capacity);
    this.#wheel.grow(capacity);
    this.#free = new Int32Array(capacity);
    this.#resting = new Int32Array(capacity);
    this.#resting.set(resting);
    this.#vacate(before);
    this.#index = new KeyIndex(capacity);
    for (let id = 0; id < before; id++) if (this.#hasKey(id)) this.#index.insert(this.keyLo(id), id);
  }

  #hasKey(id: number): boolean {
    if (this.state(id) === TERMINATED) return false;
    return this.kind(id) >= INVITE_SERVER || this.method(id) === CANCEL;
  }

  #setKey(id: number, lo: number, hi: number): void {
    this.words[id * RECORD_WORDS + KEY_LO] = lo;
    this.words[id * RECORD_WORDS + KEY_HI] = hi;
    this.#index.insert(lo, id);
  }

  #enter(id: number, kind: number, state: number, nowMs: number): void {
    const at = id * RECORD_WORDS;
    const times = id * RECORD_TIMES;
    const life = this.words[at + LIFE];
    this.words[at + LIFE] = (life & ~(STATE_MASK | SENT_MASK)) | state;
    const send = this.timers.firstSend(kind, state, (life >>> RELIABLE_SHIFT) & 1);
    const lasts = this.timers.lasts(kind, state);
    if (send !== RUNS_ON) this.times[times + SEND_AT] = nowMs + send;
    if (lasts !== RUNS_ON) this.times[times + END_AT] = nowMs + lasts;
    this.#arm(id);
    if (kind === SERVER && state === COMPLETED) this.#enqueue(id);
  }

  /** The events that move a timer without a change of state. */
  #restart(id: number, kind: number, state: number, event: number, nowMs: number): void {
    const times = id * RECORD_TIMES;
    switch (event) {
      case ON_RETRANSMIT: {
        const at = id * RECORD_WORDS + LIFE;
        const sent = Math.min(this.retransmissions(id) + 1, SENT_MASK >>> SENT_SHIFT);
        this.words[at] = (this.words[at] & ~SENT_MASK) | (sent << SENT_SHIFT);
        const interval = this.timers.nextSend(kind, state, sent);
        const due = this.times[times + SEND_AT] + interval;
        this.times[times + SEND_AT] = due > nowMs ? due : nowMs + interval;
        break;
      }
      // the 100 is not due any more: an answer is there, or the user has been asked for it
      case ON_TU_PROVISIONAL:
      case ON_HUNDRED:
        this.times[times + SEND_AT] = Infinity;
        break;
      case ON_CANCELLED:
        // before a provisional response Timer B goes on
        if (state === PROCEEDING) this.times[times + END_AT] = nowMs + this.timers.longest;
        break;
      default:
        return;
    }
    this.#arm(id);
  }

  #arm(id: number): void {
    const times = id * RECORD_TIMES;
    this.#wheel.schedule(
      id,
      Math.min(this.times[times + SEND_AT], this.times[times + END_AT], this.times[times + ALARM_AT]),
    );
  }

  #end(id: number, kind: number): void {
    const at = id * RECORD_WORDS;
    const words = this.words;
    const life = words[at + LIFE];
    if (kind >= INVITE_SERVER || life >>> METHOD_SHIFT === CANCEL) this.#index.remove(words[at + KEY_LO], id);
    if (kind === SERVER && (life & STATE_MASK) === COMPLETED) this.#dequeue(at);
    words[at + LIFE] = life & ~STATE_MASK;
    words[at + GENERATION] = words[at + GENERATION] === MAX_GENERATION ? 1 : words[at + GENERATION] + 1;
    this.#wheel.cancel(id);
    this.#counts[kind]--;
    this.#resting[this.#restingCount++] = id;
  }

  #enqueue(id: number): void {
    if (this.#youngest === 0) this.#oldest = id + 1;
    else this.words[(this.#youngest - 1) * RECORD_WORDS + YOUNGER] = id + 1;
    this.words[id * RECORD_WORDS + OLDER] = this.#youngest;
    this.#youngest = id + 1;
  }

  #dequeue(at: number): void {
    const older = this.words[at + OLDER];
    const younger = this.words[at + YOUNGER];
    if (older === 0) this.#oldest = younger;
    else this.words[(older - 1) * RECORD_WORDS + YOUNGER] = younger;
    if (younger === 0) this.#youngest = older;
    else this.words[(younger - 1) * RECORD_WORDS + OLDER] = older;
  }
}
