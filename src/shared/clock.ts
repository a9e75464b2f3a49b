/**
 * One clock for all threads: milliseconds since the process started, monotonic, the same on every
 * thread (`performance.now` alone counts from each thread's own start). A test may put a clock of its
 * own in shared memory in its place and move it by hand; then time stands still until it does.
 */
import { performance } from 'node:perf_hooks';
import process from 'node:process';

export interface ClockDescriptor {
  /** process.hrtime at the start, in ms */
  origin: number;
  /** Date.now at the start */
  wallOrigin: number;
  /** Float64Array(1): the time, in ms, that replaces the monotonic one */
  manual?: SharedArrayBuffer;
}

const monotonic = (): number => {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + nanoseconds / 1e6;
};

export class Clock {
  readonly #offset: number;
  readonly #wallOrigin: number;
  readonly #manual: Float64Array | undefined;

  static start(manual?: SharedArrayBuffer): ClockDescriptor {
    const descriptor: ClockDescriptor = { origin: monotonic(), wallOrigin: Date.now() };
    if (manual) descriptor.manual = manual;
    return descriptor;
  }

  constructor({ origin, wallOrigin, manual }: ClockDescriptor) {
    this.#offset = monotonic() - performance.now() - origin;
    this.#wallOrigin = wallOrigin;
    this.#manual = manual && new Float64Array(manual);
  }

  /** Milliseconds since the start. */
  now(): number {
    return this.#manual ? this.#manual[0] : performance.now() + this.#offset;
  }

  /** Unix time in ms, as far as the start knew it: it does not follow steps of the system clock. */
  wall(): number {
    return this.#wallOrigin + this.now();
  }
}

/** Deciseconds since the start, as flow records hold them. */
export const deciseconds = (ms: number): number => Math.floor(ms / 100);
