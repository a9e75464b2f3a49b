/**
 * The life of a flow record, shared by all threads. Slot and generation name a flow for ever: the generation
 * rises at every release (29 bits, never 0), so a stale name is recognised at once.
 *
 * State and generation are one word, so that every step is one compare-and-swap and can never act on another
 * life than the one it looked at. In state CLAIMED that word holds the owner in place of the generation (which
 * then stands in its own word), so that a slot whose claimer died at any instruction is found by `sweep`.
 * No step waits for another thread.
 *
 * Reading rule: if `isLive(slot, generation)` holds before and after, what was read between belongs to that life.
 * Confirmed flows are never reused; provisional ones are, oldest first, by whichever shard needs a slot.
 * `used` is right when no thread is inside a call; a thread that died inside one leaves it off by one until the sweep.
 */
import { FlowRecords, GENERATION, LIFE, OWNER, RECORD_WORDS, TOKEN_BYTES } from './flow-record.ts';
import { entryMatches, entrySlot, ProvisionalQueue } from './provisional-queue.ts';
import { ctz, Vacancy } from './vacancy.ts';

export const FREE = 0;
/** held by one thread that fills it; nobody else looks inside */
export const CLAIMED = 1;
/** a UDP flow that no 2xx has confirmed yet */
export const PROVISIONAL = 2;
export const OPEN = 3;
/** ended; its owner still has something to undo */
export const CLOSING = 4;

/** 24 bits of slot + 1 in the index and in the queue. */
export const MAX_FLOWS = 0xfffffe;
export const MAX_OWNERS = 256;
const MAX_GENERATION = 0x1fffffff;
const STATE_MASK = 7;
const GENERATION_SHIFT = 3;

export interface FlowTableDescriptor {
  readonly buffer: SharedArrayBuffer;
  readonly maxFlows: number;
}

export class FlowTable extends FlowRecords {
  readonly capacity: number;
  readonly #vacancy: Vacancy;
  readonly #queue: ProvisionalQueue;
  readonly #owned: Int32Array;
  /**
   * The slot that this thread looks at first. Each starts elsewhere, so that claims do not meet; it goes on from slot to
   * slot, so that few flows touch little memory, and a slot rests for a whole round before its next life.
   */
  #hand: number;

  static allocate(maxFlows: number): FlowTableDescriptor {
    if (!Number.isInteger(maxFlows) || maxFlows < 1 || maxFlows > MAX_FLOWS) {
      throw new RangeError(`maxFlows is ${maxFlows}; allowed is 1 to ${MAX_FLOWS}`);
    }
    const descriptor = { buffer: new SharedArrayBuffer(regions(maxFlows).end), maxFlows };
    Vacancy.format(vacancyWords(descriptor), maxFlows);
    return descriptor;
  }

  constructor(descriptor: FlowTableDescriptor) {
    const { buffer, maxFlows } = descriptor;
    const at = regions(maxFlows);
    super(
      new Int32Array(buffer, 0, maxFlows * RECORD_WORDS),
      new Uint8Array(buffer, at.tokens, maxFlows * TOKEN_BYTES),
    );
    this.capacity = maxFlows;
    this.#vacancy = new Vacancy(vacancyWords(descriptor), maxFlows);
    this.#queue = new ProvisionalQueue(new Int32Array(buffer, at.queue, ProvisionalQueue.words(maxFlows)));
    this.#owned = new Int32Array(buffer, at.owned, MAX_OWNERS + 1);
    const attached = Atomics.add(this.#owned, MAX_OWNERS, 1);
    this.#hand = ((Math.imul(attached, 0x9e3779b1) >>> 1) % this.#vacancy.groups) * 32;
  }

  /** Slots that are not free. */
  used(): number {
    return this.#vacancy.taken();
  }

  /** Slots of one owner. A hint: a thread that dies inside a call can leave it off by one until that owner is swept. */
  owned(owner: number): number {
    return Atomics.load(this.#owned, owner);
  }

  state(slot: number): number {
    return Atomics.load(this.words, slot * RECORD_WORDS + LIFE) & STATE_MASK;
  }

  /** Of the life that the slot has now; of a free slot, the last one. */
  generation(slot: number): number {
    return this.words[slot * RECORD_WORDS + GENERATION];
  }

  /** State and generation in one number, to compare before and after a read. */
  life(slot: number): number {
    return Atomics.load(this.words, slot * RECORD_WORDS + LIFE);
  }

  /** True for PROVISIONAL and OPEN of this generation. Any numbers may be asked for: they come from the network. */
  isLive(slot: number, generation: number): boolean {
    if (slot < 0 || slot >= this.capacity) return false;
    const life = Atomics.load(this.words, slot * RECORD_WORDS + LIFE);
    return life >>> GENERATION_SHIFT === generation && isLiveLife(life);
  }

  /** A cleared slot in state CLAIMED for this owner, or -1 when there is none. One pass at most. */
  claim(owner: number): number {
    const hand = this.#hand;
    const slot = this.#claimIn(hand, this.#vacancy.groups, owner);
    return slot >= 0 ? slot : this.#claimIn(0, (hand + 31) >>> 5, owner);
  }

  /** From a slot to the end of the last group before `to`. */
  #claimIn(from: number, to: number, owner: number): number {
    const vacancy = this.#vacancy;
    const first = from >>> 5;
    for (let group = vacancy.findGroup(first, to); group >= 0; group = vacancy.findGroup(group + 1, to)) {
      let bits = vacancy.openBits(group);
      if (bits === 0) vacancy.closeGroup(group);
      if (group === first) bits &= -1 << (from & 31);
      for (; bits !== 0; bits &= bits - 1) {
        const slot = group * 32 + ctz(bits);
        if (this.#claimSlot(slot, owner)) {
          this.#hand = slot + 1 < this.capacity ? slot + 1 : 0;
          return slot;
        }
        // taken, but its claimer has not said so yet, or never will
        this.#restate(slot);
      }
    }
    return -1;
  }

  #claimSlot(slot: number, owner: number): boolean {
    const words = this.words;
    const at = slot * RECORD_WORDS;
    const life = Atomics.load(words, at + LIFE);
    if ((life & STATE_MASK) !== FREE) return false;
    if (Atomics.compareExchange(words, at + LIFE, life, claimedBy(owner)) !== life) return false;
    words[at + GENERATION] = life >>> GENERATION_SHIFT || 1;
    words[at + OWNER] = owner;
    this.#vacancy.take(slot);
    Atomics.add(this.#owned, owner, 1);
    this.clear(slot);
    return true;
  }

  /** Makes a filled slot visible as PROVISIONAL or OPEN. Only by the holder of the CLAIMED slot. */
  publish(slot: number, state: typeof PROVISIONAL | typeof OPEN): void {
    const at = slot * RECORD_WORDS;
    const generation = this.words[at + GENERATION];
    Atomics.store(this.words, at + LIFE, (generation << GENERATION_SHIFT) | state);
    if (state !== PROVISIONAL) return;
    this.#queue.push(slot, generation);
    // each push steps over two that have ended or been confirmed, so that the queue holds little else than the living
    for (let i = 0; i < 2; i++) {
      const entry = this.#queue.oldest();
      if (entry === 0 || this.#candidate(entry) !== 0) return;
      this.#queue.drop(entry);
    }
  }

  /** A 2xx passed for it: PROVISIONAL becomes OPEN. False if that life has ended. True also if it was OPEN. */
  confirm(slot: number, generation: number): boolean {
    return this.#step(slot, generation, PROVISIONAL, OPEN) || this.life(slot) === lifeOf(generation, OPEN);
  }

  /** Ends the look-ups of a live flow and makes the caller its only holder. True for one caller only. */
  close(slot: number, generation: number): boolean {
    return this.#step(slot, generation, OPEN, CLOSING) || this.#step(slot, generation, PROVISIONAL, CLOSING);
  }

  /**
   * Ends a life that is PROVISIONAL, OPEN or CLOSING; the descriptor and the index entry are the caller's to end
   * first. False, and nothing done, if that life had ended already: then somebody else has the slot.
   */
  release(slot: number, generation: number, cause: number): boolean {
    if (this.life(slot) !== lifeOf(generation, CLOSING) && !this.close(slot, generation)) return false;
    this.#free(slot, generation, cause);
    return true;
  }

  /** Gives back a CLAIMED slot that was not published. Only by its holder. */
  abandon(slot: number, cause: number): void {
    this.#free(slot, this.generation(slot), cause);
  }

  #free(slot: number, generation: number, cause: number): void {
    const at = slot * RECORD_WORDS;
    this.setCause(slot, cause);
    this.dropFd(slot);
    const owner = this.words[at + OWNER];
    const next = generation === MAX_GENERATION ? 1 : generation + 1;
    Atomics.store(this.words, at + LIFE, (next << GENERATION_SHIFT) | FREE);
    this.#vacancy.give(slot);
    Atomics.sub(this.#owned, owner, 1);
  }

  /** Hands a live flow to another shard. */
  setOwner(slot: number, owner: number): void {
    const before = Atomics.exchange(this.words, slot * RECORD_WORDS + OWNER, owner);
    Atomics.sub(this.#owned, before, 1);
    Atomics.add(this.#owned, owner, 1);
  }

  /**
   * Takes over the oldest provisional flow as a CLAIMED slot with a new generation, or -1. The record still holds
   * the old flow: remove it from the index, then `clear` it (FlowIndex.reclaim does both).
   */
  reclaimProvisional(owner: number): number {
    const words = this.words;
    for (;;) {
      const entry = this.#queue.oldest();
      if (entry === 0) return -1;
      const life = this.#candidate(entry);
      this.#queue.drop(entry);
      if (life === 0) continue;
      const slot = entrySlot(entry);
      const at = slot * RECORD_WORDS;
      if (Atomics.compareExchange(words, at + LIFE, life, claimedBy(owner)) !== life) continue;
      const generation = life >>> GENERATION_SHIFT;
      words[at + GENERATION] = generation === MAX_GENERATION ? 1 : generation + 1;
      this.setOwner(slot, owner);
      return slot;
    }
  }

  /**
   * After a shard's death and before its replacement starts, by the supervisor: shows every slot that was its own, in whatever state, and puts right
   * what it left unfinished. `visit` may release a live slot or leave it for the shard's replacement; a CLAIMED one is
   * given back after the visit (`setCause` says why). Returns how many it showed. Reads every record.
   */
  sweep(owner: number, visit: (slot: number, state: number, generation: number) => void): number {
    const vacancy = this.#vacancy;
    let shown = 0;
    let kept = 0;
    for (let slot = 0; slot < this.capacity; slot++) {
      const life = this.life(slot);
      const state = life & STATE_MASK;
      if (state !== FREE && (state === CLAIMED ? life >>> GENERATION_SHIFT : this.owner(slot)) === owner) {
        // a claimer may have died before it wrote its name
        if (state === CLAIMED) this.words[slot * RECORD_WORDS + OWNER] = owner;
        shown++;
        visit(slot, state, state === CLAIMED ? this.generation(slot) : life >>> GENERATION_SHIFT);
        if (state === CLAIMED) this.abandon(slot, this.cause(slot));
        if (this.state(slot) !== FREE && this.owner(slot) === owner) kept++;
      }
      if (vacancy.isTaken(slot) !== (state !== FREE)) this.#restate(slot);
      if ((slot & 31) === 0 && vacancy.openBits(slot >>> 5) !== 0) vacancy.openGroup(slot >>> 5);
    }
    Atomics.store(this.#owned, owner, kept);
    return shown;
  }

  /** Makes the vacancy bit say what the life word says, while others may change both: ends on a look, not on a write. */
  #restate(slot: number): void {
    let taken: boolean;
    do {
      taken = this.state(slot) !== FREE;
      if (taken) this.#vacancy.take(slot);
      else this.#vacancy.give(slot);
    } while (taken !== (this.state(slot) !== FREE));
  }

  /** The life word of a queue entry's slot if it may be taken over, else 0. */
  #candidate(entry: number): number {
    const life = this.life(entrySlot(entry));
    return (life & STATE_MASK) === PROVISIONAL && entryMatches(entry, life >>> GENERATION_SHIFT) ? life : 0;
  }

  #step(slot: number, generation: number, from: number, to: number): boolean {
    const before = lifeOf(generation, from);
    return (
      Atomics.compareExchange(
        this.words,
        slot * RECORD_WORDS + LIFE,
        before,
        (generation << GENERATION_SHIFT) | to,
      ) === before
    );
  }
}

/** Whether a life word is PROVISIONAL or OPEN. */
export function isLiveLife(life: number): boolean {
  return (life & (STATE_MASK - 1)) === PROVISIONAL;
}

/** The generation in a life word, for every state but CLAIMED. */
export function generationOf(life: number): number {
  return life >>> GENERATION_SHIFT;
}

function lifeOf(generation: number, state: number): number {
  return (generation << GENERATION_SHIFT) | state;
}

function claimedBy(owner: number): number {
  return (owner << GENERATION_SHIFT) | CLAIMED;
}

function regions(maxFlows: number) {
  const line = (bytes: number) => (bytes + 63) & ~63;
  const tokens = maxFlows * RECORD_WORDS * 4;
  const vacancy = tokens + line(maxFlows * TOKEN_BYTES);
  const queue = vacancy + line(Vacancy.words(maxFlows) * 4);
  const owned = queue + line(ProvisionalQueue.words(maxFlows) * 4);
  return { tokens, vacancy, queue, owned, end: owned + line((MAX_OWNERS + 1) * 4) };
}

function vacancyWords({ buffer, maxFlows }: FlowTableDescriptor): Int32Array {
  return new Int32Array(buffer, regions(maxFlows).vacancy, Vacancy.words(maxFlows));
}
