/**
 * The targets of one destination and what is known of each: alive, or dead until a time. It chooses; whoever sends
 * reports how it went. Pure: the time comes in, in ms; nothing allocates but `replace`.
 *
 * A target keeps its slot (0 to 15) for as long as it is in the list, so a transaction holds the targets that it has
 * tried as bits of one int, and gives them to the next choice (RFC 3263 4.3). Two orders:
 *   choose  spreads: of the lowest priority that has a live target, the one that wins for this hash, in proportion
 *           to the weights. Same hash, same target, on every shard and however the list is sorted (RFC 3263 4.4); a death
 *           moves only what was on the dead one.
 *   first   follows the list: the first live target.
 * With none alive both give the one that will be tried again soonest: a request that may fail is better than one that
 * must. Who wants to refuse instead asks `alive` first.
 *
 * Without probes a dead target is given requests again when its time is over. With probes only an answer revives it; they
 * go out as fast as the back-off, and never slower than to a live one. Each shard's set learns for itself.
 */
import type { Endpoint } from '../net/endpoint.ts';
import { MAX_TARGETS, type Target } from '../net/targets.ts';

export interface TargetLimits {
  /** ms for which a target is dead after its first failure; doubled by each further one up to `backoffMax` */
  backoffMin: number;
  backoffMax: number;
  /** ms between two OPTIONS to a live target; 0: no probes */
  probeInterval: number;
  /** probes in a row without an answer after which a live target is dead: one lost datagram is no outage */
  probeFailures: number;
  /** probes in a row with an answer after which a dead one lives: what has just started may fall again */
  probeSuccesses: number;
}

export const TARGET_LIMITS: TargetLimits = {
  backoffMin: 1_000,
  backoffMax: 60_000,
  probeInterval: 0,
  probeFailures: 2,
  probeSuccesses: 2,
};

export const NO_TARGET = -1;

class State {
  target: Target | undefined;
  /** of its address, port and transport */
  key = 0;
  dead = false;
  deadUntil = 0;
  /** ms, of the last death; 0: none since it last lived */
  backoff = 0;
  /** probes in a row that failed, or that were answered since its death */
  missed = 0;
  answered = 0;
  nextProbe = Infinity;
}

export class TargetSet {
  readonly #limits: TargetLimits;
  readonly #states = Array.from({ length: MAX_TARGETS }, () => new State());
  /** slots in the order of the list */
  readonly #order = new Uint8Array(MAX_TARGETS);
  #count = 0;

  constructor(limits: Partial<TargetLimits> = {}) {
    this.#limits = { ...TARGET_LIMITS, ...limits };
  }

  get count(): number {
    return this.#count;
  }

  at(slot: number): Target | undefined {
    return this.#states[slot]?.target;
  }

  /** A new list: targets that were in the old one keep their slot and what is known of them. */
  replace(targets: readonly Target[], now: number): void {
    const kept = targets.slice(0, MAX_TARGETS);
    for (const state of this.#states)
      if (state.target && !kept.some((t) => isSame(t, state.target as Target))) state.target = undefined;
    this.#count = 0;
    for (const target of kept) {
      let slot = this.#states.findIndex((s) => s.target && isSame(s.target, target));
      if (slot < 0) {
        slot = this.#states.findIndex((s) => !s.target);
        this.#states[slot] = this.#fresh(target, now, slot);
      }
      this.#states[slot].target = target;
      if (!this.#order.subarray(0, this.#count).includes(slot)) this.#order[this.#count++] = slot;
    }
  }

  isAlive(slot: number, now: number): boolean {
    const state = this.#states[slot];
    return !state.dead || (this.#limits.probeInterval === 0 && now >= state.deadUntil);
  }

  /** How many may be given requests. */
  alive(now: number): number {
    let n = 0;
    for (let i = 0; i < this.#count; i++) if (this.isAlive(this.#order[i], now)) n++;
    return n;
  }

  /** The slot for a request of this hash, `tried` as bits left out; NO_TARGET when none is left. */
  choose(hash: number, now: number, tried = 0): number {
    if (this.#count === 1) return (tried >>> this.#order[0]) & 1 ? NO_TARGET : this.#order[0];
    let best = NO_TARGET;
    let priority = Infinity;
    let highest = -Infinity;
    for (let i = 0; i < this.#count; i++) {
      const slot = this.#order[i];
      const state = this.#states[slot];
      const target = state.target as Target;
      if (((tried >>> slot) & 1) !== 0 || target.priority > priority || !this.isAlive(slot, now)) continue;
      const score = scoreOf(state.key, target.weight, hash);
      if (target.priority === priority && score <= highest) continue;
      best = slot;
      priority = target.priority;
      highest = score;
    }
    return best !== NO_TARGET ? best : this.#soonest(tried);
  }

  /** Is a target left that is not among the tried ones? */
  hasOther(tried: number): boolean {
    for (let i = 0; i < this.#count; i++) if (((tried >>> this.#order[i]) & 1) === 0) return true;
    return false;
  }

  /** The slot of this address and transport (any, where it is 0), or NO_TARGET. */
  find(address: Endpoint, transport = 0): number {
    for (let i = 0; i < this.#count; i++) {
      const slot = this.#order[i];
      const target = this.#states[slot].target as Target;
      if ((transport === 0 || target.transport === transport) && target.address.equals(address)) return slot;
    }
    return NO_TARGET;
  }

  /** The first slot of this server: its name, lower case, and port. NO_TARGET: there is none. */
  findHost(host: string, port: number): number {
    for (let i = 0; i < this.#count; i++) {
      const target = this.#states[this.#order[i]].target as Target;
      if (target.host === host && target.address.port === port) return this.#order[i];
    }
    return NO_TARGET;
  }

  /** The first of the list that lives, `tried` as bits left out; NO_TARGET when none is left. */
  first(now: number, tried = 0): number {
    for (let i = 0; i < this.#count; i++) {
      const slot = this.#order[i];
      if (((tried >>> slot) & 1) === 0 && this.isAlive(slot, now)) return slot;
    }
    return this.#soonest(tried);
  }

  /**
   * A transport error, or a transaction without any answer. Of the many that fail together the first one counts: the
   * rest were sent before the target was known to be dead.
   */
  failed(slot: number, now: number): void {
    const state = this.#states[slot];
    if (!state.target || (state.dead && now < state.deadUntil)) return;
    this.#kill(state, now);
  }

  isDead(slot: number): boolean {
    return this.#states[slot].dead;
  }

  /** Would `succeeded` change anything? */
  isSuspect(slot: number): boolean {
    const state = this.#states[slot];
    return state.dead || state.missed > 0;
  }

  /** A response of any kind. It revives at once: nothing proves more. */
  succeeded(slot: number, now: number): void {
    const state = this.#states[slot];
    if (state.target) this.#revive(state, now);
  }

  /** Slots whose probe is due, into `slots`; each counts as sent now. Returns how many. */
  dueProbes(now: number, slots: Uint8Array): number {
    const { probeInterval } = this.#limits;
    if (probeInterval === 0) return 0;
    let n = 0;
    for (let i = 0; i < this.#count && n < slots.length; i++) {
      const state = this.#states[this.#order[i]];
      if (now < state.nextProbe) continue;
      state.nextProbe = now + (state.dead ? Math.min(state.backoff, probeInterval) : probeInterval);
      slots[n++] = this.#order[i];
    }
    return n;
  }

  /** When `dueProbes` has something next, Infinity for never. */
  nextProbe(): number {
    if (this.#limits.probeInterval === 0) return Infinity;
    let next = Infinity;
    for (let i = 0; i < this.#count; i++) next = Math.min(next, this.#states[this.#order[i]].nextProbe);
    return next;
  }

  /** The end of a probe: any response is an answer, except what the sender takes for a refusal (503). */
  probed(slot: number, answered: boolean, now: number): void {
    const state = this.#states[slot];
    if (!state.target) return;
    if (!answered) {
      state.missed++;
      if (state.dead || state.missed >= this.#limits.probeFailures) this.#kill(state, now);
    } else if (!state.dead) {
      state.missed = 0;
    } else if (++state.answered >= this.#limits.probeSuccesses) {
      this.#revive(state, now);
    } else {
      state.nextProbe = Math.min(state.nextProbe, now + this.#limits.backoffMin); // the next proof soon
    }
  }

  #kill(state: State, now: number): void {
    const { backoffMin, backoffMax } = this.#limits;
    state.dead = true;
    state.backoff = state.backoff === 0 ? backoffMin : Math.min(state.backoff * 2, backoffMax);
    state.deadUntil = now + state.backoff;
    state.answered = 0;
    state.nextProbe = now + Math.min(state.backoff, this.#limits.probeInterval);
  }

  #revive(state: State, now: number): void {
    if (state.dead) state.nextProbe = now + this.#limits.probeInterval;
    state.dead = false;
    state.backoff = state.missed = state.answered = 0;
  }

  /** The slot that comes back first, of those not tried. */
  #soonest(tried: number): number {
    let best = NO_TARGET;
    for (let i = 0; i < this.#count; i++) {
      const slot = this.#order[i];
      if (((tried >>> slot) & 1) !== 0) continue;
      if (best === NO_TARGET || this.#states[slot].deadUntil < this.#states[best].deadUntil) best = slot;
    }
    return best;
  }

  /** First probes are spread over the interval by slot, so that a new list does not ask all at once. */
  #fresh(target: Target, now: number, slot: number): State {
    const state = new State();
    state.key = keyOf(target);
    state.nextProbe = now + (this.#limits.probeInterval * slot) / MAX_TARGETS;
    return state;
  }
}

const isSame = (a: Target, b: Target): boolean => a.transport === b.transport && a.address.equals(b.address);

/** Not the slot, not the place in the list: it must be the same on every shard and after every refresh. */
function keyOf({ transport, address }: Target): number {
  let key = mix(address.a0, transport);
  key = mix(address.a1, key);
  key = mix(address.a2, key);
  key = mix(address.a3, key);
  return mix(address.port, key);
}

/**
 * Weighted rendezvous: for a hash each target draws a number in (0, 1) of its own, and -weight / ln(number) is highest
 * for each of them as often as its weight says. Weight 0 scores 0: only beside others of 0, the first in the list.
 */
function scoreOf(key: number, weight: number, hash: number): number {
  const draw = ((mix(hash, key) >>> 0) + 0.5) / 0x1_0000_0000;
  return -weight / Math.log(draw);
}

/** murmur3's finaliser over the sum: every bit of both decides every bit of the result. */
function mix(a: number, b: number): number {
  let h = (Math.imul(a, 0x9e3779b1) + b) | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
