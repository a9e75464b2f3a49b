/**
 * Names that requests bring with them, and that are not the upstream's: the Route or Request-URI of who may name a next
 * hop, the Contact or Path of a binding. A shard asks main (RFC 3263 is walked there) and parks the request meanwhile;
 * it is handled anew when the answer is there, which is kept for its TTL, a failure too.
 *
 * Bounded: questions in work, requests that wait, answers kept, and the time of a question. Who would go above a bound
 * is told so at once, and a request waits once only: what is not known then counts as not found.
 */
import type { Destination, Location } from '../net/targets.ts';
import type { Parking } from '../proxy/parked.ts';

const MOST_WAITING = 256;
const MOST_KEPT = 512;
const QUESTION_MS = 5_000;
/** an answer is kept for its TTL within these */
const SHORTEST_MS = 1_000;
const LONGEST_MS = 300_000;
const NO_ANSWER: Location = { targets: [], failure: 'no-answer', ttl: SHORTEST_MS };

interface Waiting {
  /** answers that are missing */
  left: number;
  then: () => void;
}

interface Question {
  key: string;
  deadline: number;
  waiting: Waiting[];
}

export interface LocationParts {
  parking: Parking;
  /** ms */
  now: () => number;
  /** Does who sent the request in the exchange still wait for an answer? */
  isWanted: () => boolean;
  /** Puts the question to main. False: it cannot take it now. */
  ask: (id: number, destination: Destination) => boolean;
}

export class Locations {
  readonly #p: LocationParts;
  readonly #kept = new Map<string, { location: Location; until: number }>();
  /** oldest first */
  readonly #questions = new Map<number, Question>();
  #waiting = 0;
  #lastId = 0;
  #resuming = false;

  constructor(parts: LocationParts) {
    this.#p = parts;
  }

  /** What is known of a destination now; undefined: ask. */
  find(destination: Destination): Location | undefined {
    if (destination.host.endsWith('.invalid')) return { ...NO_ANSWER, failure: 'no-such-name' }; // RFC 6761 6.4
    const kept = this.#kept.get(keyOf(destination));
    if (kept && this.#p.now() < kept.until) return kept.location;
    return undefined;
  }

  /** Parks the request in the exchange until these are known, and runs `then` with it. False: it cannot wait. */
  wait(destinations: readonly Destination[], then: () => void): boolean {
    if (this.#resuming || this.#waiting >= MOST_WAITING) return false;
    const { parking, isWanted } = this.#p;
    const parked = parking.park();
    return this.learn(destinations, () => {
      this.#resuming = true;
      parking.resume(parked, () => {
        if (isWanted()) then();
      });
      this.#resuming = false;
    });
  }

  /** Runs `then` when these are known, or cannot be; not from inside this call. False: they cannot be asked about. */
  learn(destinations: readonly Destination[], then: () => void): boolean {
    if (this.#waiting >= MOST_WAITING) return false;
    const waiting: Waiting = { left: 0, then };
    for (const destination of destinations) {
      const question = this.#question(destination);
      if (!question) continue;
      question.waiting.push(waiting);
      waiting.left++;
    }
    if (waiting.left === 0) return false;
    this.#waiting++;
    return true;
  }

  #question(destination: Destination): Question | undefined {
    const key = keyOf(destination);
    for (const question of this.#questions.values()) if (question.key === key) return question;
    const id = (this.#lastId + 1) | 0;
    if (!this.#p.ask(id, destination)) return undefined;
    this.#lastId = id;
    const question = { key, deadline: this.#p.now() + QUESTION_MS, waiting: [] };
    this.#questions.set(id, question);
    return question;
  }

  /** Main's answer. */
  answered(id: number, location: Location): void {
    const question = this.#questions.get(id);
    if (!question) return;
    this.#questions.delete(id);
    this.#keep(question.key, location);
    for (const waiting of question.waiting) {
      if (--waiting.left > 0) continue;
      this.#waiting--;
      waiting.then();
    }
  }

  #keep(key: string, location: Location): void {
    this.#kept.delete(key);
    if (this.#kept.size >= MOST_KEPT)
      for (const oldest of this.#kept.keys()) {
        this.#kept.delete(oldest);
        break;
      }
    const ttl = Math.min(Math.max(location.ttl, SHORTEST_MS), LONGEST_MS);
    this.#kept.set(key, { location, until: this.#p.now() + ttl });
  }

  /** Ends what was not answered in time. Returns when to come again, ms or Infinity. */
  turn(nowMs: number): number {
    for (const [id, { deadline }] of this.#questions) {
      if (deadline > nowMs) return deadline;
      this.answered(id, NO_ANSWER);
    }
    return Infinity;
  }
}

const keyOf = ({ scheme, host, port, transport }: Destination): string =>
  `${scheme} ${transport} ${port} ${host}`;
