import type { BindingEvent, Journal } from './events.ts';
import { answer, Location } from './location.ts';
import { NO_ANSWER, type StoreRequest } from './message.ts';
import type { Backend, StoreResult } from './store.ts';

/**
 * The store thread's work without the thread: a batch of requests in, their answers out.
 *
 * One batch is one transaction of the backend, so that a flush or a commit is shared by all who wait for
 * it, and no answer leaves before the commit. If the batch fails, each request is tried alone: one bad
 * request does not spoil the others. Requests of one participant are handled in their order of arrival.
 */
export interface Delivery extends StoreRequest {
  /** participant to answer */
  from: number;
}

export interface Reply {
  to: number;
  id: number;
  result: StoreResult;
}

const NO_EVENTS: readonly BindingEvent[] = [];

export class StoreService {
  readonly location: Location;
  /** requests that failed in the backend */
  failures = 0;
  readonly #journal: Journal | undefined;

  constructor(backend: Backend, journal?: Journal) {
    this.#journal = journal;
    this.location = new Location(backend, journal);
  }

  /** What has happened since it was asked last, of what was committed. */
  takeEvents(): readonly BindingEvent[] {
    return this.#journal?.take() ?? NO_EVENTS;
  }

  handle(batch: readonly Delivery[]): Reply[] {
    const results = this.#commit(batch) ?? batch.map((delivery) => this.#commit([delivery])?.[0]);
    const replies: Reply[] = [];
    batch.forEach(({ from, id }, i) => {
      const result = results[i] ?? answer('error');
      if (results[i] === undefined) this.failures++;
      if (id !== NO_ANSWER) replies.push({ to: from, id, result });
    });
    return replies;
  }

  #commit(batch: readonly Delivery[]): StoreResult[] | undefined {
    const work = () => batch.map(({ op }) => this.location.handle(op));
    try {
      return batch.every(({ op }) => op.kind === 'lookup') ? work() : this.location.batch(work);
    } catch {
      return undefined;
    }
  }

  /** Gives space of expired bindings back, some AORs at a time. How many bindings went. */
  sweep(now: number, budget: number): number {
    try {
      return this.location.batch(() => this.location.sweep(now, budget));
    } catch {
      this.failures++;
      return 0;
    }
  }
}
