/**
 * Where the destinations are that this node sends to. The kept ones (the upstreams) are resolved ahead and again before
 * their TTL ends, so that no packet waits for DNS; who subscribes hears of every list that differs from the last one.
 * Any other destination is answered when asked, from the resolver's cache where it can.
 *
 * A kept list is not given up because DNS is silent: the last one stands until an answer replaces it, be it that there
 * is nothing. What it cannot know is whether a target lives: that is proxy/targetset.ts.
 *
 * Costs one timer for each kept destination.
 */
import { type Answer, locate, type RecordType, type Way } from '../net/locate.ts';
import { type Destination, encodeTargets, type Location } from '../net/targets.ts';

/** A refresh starts this part of the TTL before its end, but no more than AHEAD_MAX_MS: names change in between. */
const AHEAD_PART = 0.1;
const AHEAD_MAX_MS = 30_000;
/** Between two refreshes, whatever the TTL: a TTL of 0 must not become a load. */
const REFRESH_MIN_MS = 1_000;
/** Longest wait: a numeric host never changes, and timers hold no more than 2^31 ms. */
const REFRESH_MAX_MS = 3_600_000;
/** After a failure the next try comes after RETRY_MIN_MS, doubled each time up to RETRY_MAX_MS. */
const RETRY_MIN_MS = 1_000;
const RETRY_MAX_MS = 30_000;
/** One-off destinations in work; one more is answered `busy`. */
const MAX_ASKED = 64;

export interface LocatorParts {
  resolver: { query(name: string, type: RecordType, ahead?: number): Promise<Answer> };
  ways: readonly Way[];
  /** in [0, 1) */
  random: () => number;
  /** Calls back after so many ms; returns what calls it off. */
  schedule?: (ms: number, run: () => void) => () => void;
}

export type Subscriber = (location: Location) => void;

interface Kept {
  destination: Destination;
  /** each an object of its own: one function may subscribe twice */
  subscribers: Set<{ changed: Subscriber }>;
  /** the list that stands, and its octets, to see a change */
  location: Location | undefined;
  octets: Buffer;
  failures: number;
  cancel: () => void;
}

const BUSY: Location = { targets: [], failure: 'busy', ttl: 1_000 };

export class Locator {
  readonly #parts: Required<LocatorParts>;
  readonly #kept = new Map<string, Kept>();
  readonly #asked = new Map<string, Promise<Location>>();
  #stopped = false;

  constructor(parts: LocatorParts) {
    this.#parts = { schedule: afterTimer, ...parts };
  }

  /**
   * Resolves now and from then on. `changed` is called with the first result, if only a failure, and with every other
   * list after it; not from inside this call. The returned function ends the subscription.
   */
  keep(destination: Destination, changed: Subscriber): () => void {
    const key = keyOf(destination);
    const subscription = { changed };
    const known = this.#kept.get(key);
    const kept = known ?? this.#first(key, destination);
    if (known?.location)
      queueMicrotask(() => {
        if (known.location && known.subscribers.has(subscription)) changed(known.location);
      });
    kept.subscribers.add(subscription);
    return () => {
      kept.subscribers.delete(subscription);
      if (kept.subscribers.size > 0) return;
      kept.cancel();
      if (this.#kept.get(key) === kept) this.#kept.delete(key);
    };
  }

  #first(key: string, destination: Destination): Kept {
    const kept: Kept = {
      destination,
      subscribers: new Set(),
      location: undefined,
      octets: Buffer.alloc(0),
      failures: 0,
      cancel: () => {},
    };
    this.#kept.set(key, kept);
    void this.#refresh(kept, 0);
    return kept;
  }

  /** For a destination that is not kept. Never rejects. */
  locate(destination: Destination): Promise<Location> {
    const key = keyOf(destination);
    const standing = this.#kept.get(key)?.location;
    if (standing) return Promise.resolve(standing);
    const running = this.#asked.get(key);
    if (running) return running;
    if (this.#asked.size >= MAX_ASKED || this.#stopped) return Promise.resolve(BUSY);
    const location = this.#locate(destination, 0).finally(() => this.#asked.delete(key));
    this.#asked.set(key, location);
    return location;
  }

  stop(): void {
    this.#stopped = true;
    for (const kept of this.#kept.values()) kept.cancel();
    this.#kept.clear();
  }

  #locate(destination: Destination, ahead: number): Promise<Location> {
    const { resolver, ways, random } = this.#parts;
    return locate(destination, { query: (name, type) => resolver.query(name, type, ahead), ways, random });
  }

  async #refresh(kept: Kept, ahead: number): Promise<void> {
    const location = await this.#locate(kept.destination, ahead);
    if (this.#stopped || kept.subscribers.size === 0) return;
    const silent = location.failure === 'no-answer' || location.failure === 'busy';
    kept.failures = silent ? kept.failures + 1 : 0;
    if (!silent || kept.location === undefined) this.#publish(kept, location);
    const next = silent ? 0 : aheadOf(location.ttl);
    const wait = silent
      ? Math.min(RETRY_MIN_MS * 2 ** (kept.failures - 1), RETRY_MAX_MS)
      : Math.min(Math.max(location.ttl - next, REFRESH_MIN_MS), REFRESH_MAX_MS);
    kept.cancel = this.#parts.schedule(wait, () => void this.#refresh(kept, next));
  }

  #publish(kept: Kept, location: Location): void {
    const octets = Buffer.from(encodeTargets({ ...location, ttl: 0 }));
    const isNew = kept.location === undefined || !octets.equals(kept.octets);
    kept.location = location;
    kept.octets = octets;
    if (isNew) for (const { changed } of [...kept.subscribers]) changed(location);
  }
}

const aheadOf = (ttl: number): number => Math.min(ttl * AHEAD_PART, AHEAD_MAX_MS);

const keyOf = ({ scheme, host, port, transport }: Destination): string =>
  `${scheme} ${transport} ${port} ${host.toLowerCase()}`;

function afterTimer(ms: number, run: () => void): () => void {
  const timer = setTimeout(run, ms);
  return () => clearTimeout(timer);
}
