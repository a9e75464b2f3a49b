/**
 * Latencies by the time at which they were seen: a histogram for each of some equal intervals of the measurement, and
 * one for those that were seen only after it, which are in no interval's rate.
 */
import { Histogram } from './histogram.ts';

/** Points of a picture; shorter intervals than this say little. */
const INTERVALS = 60;
const SHORTEST_MS = 50;

export interface Point {
  /** end of the interval, seconds from the start */
  seconds: number;
  /** transactions a second in it */
  rate: number;
  /** microseconds */
  p50: number;
  p99: number;
}

export class Timeline {
  readonly #intervals: Histogram[];
  readonly #late = new Histogram();
  readonly #width: number;
  #start = 0;

  constructor(durationMs: number) {
    const count = Math.max(1, Math.min(INTERVALS, Math.floor(durationMs / SHORTEST_MS)));
    this.#intervals = Array.from({ length: count }, () => new Histogram());
    this.#width = durationMs / count;
  }

  begin(nowMs: number): void {
    this.#start = nowMs;
  }

  record(nowMs: number, us: number): void {
    const i = Math.floor((nowMs - this.#start) / this.#width);
    this.#intervals[Math.min(Math.max(i, 0), this.#intervals.length - 1)].record(us);
  }

  recordLate(us: number): void {
    this.#late.record(us);
  }

  /** All of them in one. */
  total(): Histogram {
    const all = new Histogram();
    for (const each of [...this.#intervals, this.#late]) all.add(each);
    return all;
  }

  points(): Point[] {
    return this.#intervals.map((each, i) => ({
      seconds: ((i + 1) * this.#width) / 1000,
      rate: (each.count * 1000) / this.#width,
      p50: each.percentile(0.5),
      p99: each.percentile(0.99),
    }));
  }
}
