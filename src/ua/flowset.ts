/**
 * The outbound-proxy-set as a machine: for each URI whether its flow is up, how often registering through it has
 * failed in a row, and when the next attempt is due (RFC 5626 4.5). It opens nothing and sends nothing: the agent
 * tells it what happened, with the time, and asks what is due.
 *
 * A flow is a success, and clears its counter, when its registration succeeded and, where keep-alives are in use, one
 * of them was answered since; where they are not, which is where outbound is not, when it has lasted for the base-time
 * of a set that is down. Before that its loss counts as one more failure, so that a proxy which accepts and closes at
 * once is not dialled in a loop. The loss of a proven flow is answered by an attempt at once.
 *
 * "Up" is registered: a first attempt that is still under way keeps nobody reachable, so it does not raise the base
 * time of the others (UA-4.5-09).
 */
import { BACKOFF, type BackoffTimes, refreshDelay, retryDelay } from './backoff.ts';

export interface Member {
  /** as configured */
  readonly uri: string;
  readonly regId: number;
  /** consecutive failures */
  failures: number;
  /** registered */
  up: boolean;
  /** registered and, where keep-alives are in use, heard from since */
  proven: boolean;
  /** when a flow without keep-alives is proven by its age; else Infinity */
  provenAt: number;
  /** the proxy was reached and will not take an outbound registration (439): no outage for the others (UA-4.2.1-22) */
  refused: boolean;
  /** refreshes in a row that were refused for now; and those of them that came when the binding was over */
  deferrals: number;
  lapsed: number;
  /** when the next attempt is due; Infinity while one is under way or the flow is up */
  dueAt: number;
}

export interface FailedAttempt {
  /** of a 503, in ms */
  retryAfter?: number;
  /** false: refused by policy (439), not unreachable */
  outage?: boolean;
}

export interface FlowSetOptions {
  random: () => number;
  times?: BackoffTimes;
  /** flows to keep; two at least where there are two URIs (UA-4.2.1-04) */
  most?: number;
}

export class FlowSet {
  readonly members: readonly Member[];
  readonly #random: () => number;
  readonly #times: BackoffTimes;

  constructor(
    uris: readonly { uri: string; regId: number }[],
    { random, times = BACKOFF, most = Infinity }: FlowSetOptions,
  ) {
    const kept = uris.slice(0, Math.max(most, 2));
    this.members = kept.map(({ uri, regId }) => ({
      uri,
      regId,
      failures: 0,
      up: false,
      proven: false,
      provenAt: Infinity,
      refused: false,
      deferrals: 0,
      lapsed: 0,
      dueAt: Number.NEGATIVE_INFINITY, // UA-4.5-09: the first attempt is immediate
    }));
    this.#random = random;
    this.#times = times;
  }

  get someUp(): boolean {
    return this.members.some(({ up }) => up);
  }

  /** The members whose attempt is due. Each is under way from now on, until the outcome is told. */
  due(now: number): Member[] {
    const due = this.members.filter(({ dueAt }) => dueAt <= now);
    for (const member of due) member.dueAt = Infinity;
    return due;
  }

  nextDue(): number {
    return this.members.reduce((next, { dueAt }) => Math.min(next, dueAt), Infinity);
  }

  /** A 2xx to its REGISTER. `keepAlives`: answers to keep-alives are expected on this flow. */
  registered(member: Member, keepAlives: boolean, now: number): void {
    this.#age(member, now);
    member.up = true;
    member.refused = false;
    member.deferrals = member.lapsed = 0;
    member.dueAt = Infinity;
    member.provenAt = keepAlives ? Infinity : Math.min(member.provenAt, now + this.#times.allDown * 1000);
  }

  /** A keep-alive was answered. */
  heard(member: Member): void {
    if (!member.up) return;
    member.proven = true;
    member.failures = 0; // UA-4.5-03
  }

  /** Registering did not succeed, or the flow under it went away before it had. When the next attempt is due. */
  attemptFailed(member: Member, now: number, { retryAfter, outage = true }: FailedAttempt = {}): number {
    this.#age(member, now);
    this.#down(member);
    member.refused = !outage;
    // 4.2.1: the first 503 with Retry-After is taken at its word, 0 included; from then on it can only lengthen.
    const trusted = retryAfter !== undefined && member.failures === 0;
    member.failures++;
    const others = this.members.some((other) => other !== member && (other.up || other.refused)); // UA-4.5-04
    const wait = trusted ? 0 : retryDelay(member.failures, others, this.#random, this.#times);
    member.dueAt = now + Math.max(wait, retryAfter ?? 0); // UA-4.5-08
    return member.dueAt;
  }

  /** The flow of a registered member is gone. When the next attempt is due. */
  lost(member: Member, now: number): number {
    this.#age(member, now);
    if (!member.proven) return this.attemptFailed(member, now);
    this.#down(member);
    member.dueAt = now; // UA-4.5-02
    return now;
  }

  /**
   * A refresh was refused for now and the flow lives. When it is tried again; `left`: ms of the binding. Retry-After is
   * taken at its word once, as above.
   */
  deferred(member: Member, now: number, left: number, retryAfter?: number): number {
    const first = member.deferrals++ === 0;
    if (first && retryAfter !== undefined) return now + retryAfter;
    const others = this.members.some((other) => other !== member && other.up);
    const wait =
      refreshDelay(left, this.#random) ?? retryDelay(++member.lapsed, others, this.#random, this.#times);
    return now + Math.max(wait, retryAfter ?? 0);
  }

  /** The device has another address: no fault of any proxy, and no reason to wait, as after a boot. The counters stay. */
  restart(now: number): void {
    for (const member of this.members) {
      this.#age(member, now);
      this.#down(member);
      member.dueAt = now;
    }
  }

  #down(member: Member): void {
    member.up = false;
    member.proven = false;
    member.provenAt = Infinity;
  }

  /** Before anything that asks whether the flow is proven: it may have become so by itself. */
  #age(member: Member, now: number): void {
    if (now >= member.provenAt) this.heard(member);
  }
}
