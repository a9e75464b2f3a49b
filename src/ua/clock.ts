/**
 * Time in the user agent: what it waits for itself, beside the wheel of its transactions, and one alarm of the outside
 * for whichever comes first. A test passes a clock of its own; nothing else here asks for the time.
 *
 * The times stand in a list that is looked through: an agent at rest has two for each flow, and a wheel's buckets would
 * be most of what it costs. A timer is never early. What `run` throws is not caught.
 */

export interface Clock {
  /** ms, monotonic */
  now(): number;
  /** Calls once, not before that time; returns what calls it off. */
  alarm(atMs: number, run: () => void): () => void;
}

const LONGEST = 2 ** 31 - 1;

/** An agent keeps the process alive, also while it has no flow and waits for its next attempt. */
export const systemClock: Clock = {
  now: () => performance.now(),
  alarm: (atMs, run) => {
    const timer = setTimeout(run, Math.min(LONGEST, Math.max(0, Math.ceil(atMs - performance.now()))));
    return () => clearTimeout(timer);
  },
};

/** Something else that has times of its own: the transaction table. */
export interface Timed {
  advance(now: number): void;
  nextDeadline(): number;
}

/** More than an agent with a hundred calls waits for. */
const TIMERS = 4096;

export class Agenda {
  readonly #clock: Clock;
  /** by timer; Infinity: not set */
  readonly #times: number[] = [];
  readonly #runs: (((now: number) => void) | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #others: Timed[] = [];
  /** the least of the times, or something before it */
  #least = Infinity;
  #calledOff: () => void = () => {};
  #alarmAt = Infinity;
  #stopped = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  now(): number {
    return this.#clock.now();
  }

  join(other: Timed): void {
    this.#others.push(other);
  }

  /** A timer that is not set yet. It belongs to its maker until `drop`. Undefined: no room. */
  timer(run: (now: number) => void): Timer | undefined {
    const id = this.#free.pop() ?? this.#runs.length;
    if (id >= TIMERS) return undefined;
    this.#runs[id] = run;
    this.#times[id] = Infinity;
    return new Timer(this, id);
  }

  set(id: number, atMs: number): void {
    this.#times[id] = atMs;
    this.#least = Math.min(this.#least, atMs);
    this.arm();
  }

  drop(id: number): void {
    this.#times[id] = Infinity;
    this.#runs[id] = undefined;
    this.#free.push(id);
  }

  /** After anything that may have set a time of another's. */
  arm(): void {
    if (this.#stopped) return;
    let next = this.#least;
    for (const other of this.#others) next = Math.min(next, other.nextDeadline());
    if (next >= this.#alarmAt) return; // one that comes too early costs a look
    this.#calledOff();
    this.#alarmAt = next;
    this.#calledOff = this.#clock.alarm(next, this.#turn);
  }

  readonly #turn = (): void => {
    this.#alarmAt = Infinity;
    if (this.#stopped) return;
    const now = this.#clock.now();
    const due: number[] = [];
    this.#least = Infinity;
    for (const [id, at] of this.#times.entries())
      if (at <= now) due.push(id);
      else this.#least = Math.min(this.#least, at);
    // a time that one of these sets, however early, is the next alarm's: so this ends
    for (const id of due) {
      if (this.#times[id] > now) continue;
      this.#times[id] = Infinity;
      this.#runs[id]?.(now);
    }
    for (const other of this.#others) other.advance(now);
    this.arm();
  };

  stop(): void {
    this.#stopped = true;
    this.#calledOff();
  }
}

export class Timer {
  readonly #agenda: Agenda;
  readonly #id: number;
  #dropped = false;

  constructor(agenda: Agenda, id: number) {
    this.#agenda = agenda;
    this.#id = id;
  }

  /** Infinity: not at all. */
  set(atMs: number): void {
    if (!this.#dropped) this.#agenda.set(this.#id, atMs);
  }

  drop(): void {
    if (this.#dropped) return;
    this.#dropped = true;
    this.#agenda.drop(this.#id);
  }
}
