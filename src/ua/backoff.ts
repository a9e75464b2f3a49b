/**
 * How long to wait before the next registration through one URI of the outbound-proxy-set (RFC 5626 4.5 and
 * Appendix A): a number from the upper half of W, where W doubles with each failure of that URI up to a maximum and
 * starts lower when the whole set is down. Pure; chance is an argument. Milliseconds, except for the settings.
 *
 * That is about flows that have failed. Over a flow that lives a refused refresh has to be tried again while the
 * binding lasts: each time in a part of what is left of it.
 *
 * It knows nothing of what counts as a failure or a success: flowset.ts does.
 */
export interface BackoffTimes {
  /** base-time in seconds while no flow of the set is up */
  allDown: number;
  /** base-time in seconds while at least one is */
  someUp: number;
  /** max-time in seconds */
  most: number;
}

/** RFC 5626 4.5. */
export const BACKOFF: Readonly<BackoffTimes> = { allDown: 30, someUp: 90, most: 1800 };

/** W after so many consecutive failures; 0 after none. */
export function upperBound(failures: number, someUp: boolean, times: BackoffTimes = BACKOFF): number {
  if (failures <= 0) return 0;
  const base = someUp ? times.someUp : times.allDown;
  return Math.min(times.most, base * 2 ** failures) * 1000; // UA-4.5-05
}

/** Uniform in [W/2, W]. `random` in [0, 1). */
export function retryDelay(
  failures: number,
  someUp: boolean,
  random: () => number,
  times: BackoffTimes = BACKOFF,
): number {
  return upperBound(failures, someUp, times) * (0.5 + 0.5 * random()); // UA-4.5-07
}

/** So close to the end of a binding nothing more is tried: the answer would come too late. */
const TOO_LATE_MS = 2_000;

/** After a refresh that was refused for now; `left`: ms of the binding. Undefined: it is as good as over. */
export function refreshDelay(left: number, random: () => number): number | undefined {
  const most = left / 2;
  return most < TOO_LATE_MS ? undefined : most * (0.5 + 0.5 * random());
}
