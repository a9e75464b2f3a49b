/**
 * What can be said of a list of times: how they lie (a histogram of text), whether they are spread evenly between two
 * bounds, and how many of them fall into the busiest second. Pure.
 *
 * Evenness is the distance of Kolmogorov and Smirnov: the largest gap between the share of the times up to a point and
 * the share that an even spread would have there. Chance alone exceeds CHANCE / sqrt(n) in one run of a thousand.
 */
const CHANCE = 1.95;
/** For what is not chance: timers that are late, and the margin that keeps a keep-alive from being so. */
const ALLOWED_MS = 200;
/** Fewer values say nothing about how they are spread. */
const FEWEST = 100;
const BAR = 50;

/** `values` in [0, 1], where they should be even; beyond that they count as the bound. */
export function evenDistance(values: readonly number[]): number {
  const sorted = values.map((value) => Math.min(1, Math.max(0, value))).sort((a, b) => a - b);
  let most = 0;
  for (const [i, value] of sorted.entries())
    most = Math.max(most, value - i / sorted.length, (i + 1) / sorted.length - value);
  return most;
}

/** What is wrong with the spread, or undefined. `windowMs`: what 0 to 1 stands for. */
export function uneven(values: readonly number[], windowMs: number): string | undefined {
  if (values.length < FEWEST) return undefined;
  const distance = evenDistance(values);
  const limit = CHANCE / Math.sqrt(values.length) + ALLOWED_MS / windowMs;
  if (distance <= limit) return undefined;
  return `${distance.toFixed(3)} from an even spread, chance and lateness explain ${limit.toFixed(3)}`;
}

/** The most times within one second, wherever it begins. Times in ms. */
export function busiestSecond(times: readonly number[]): number {
  const sorted = times.toSorted((a, b) => a - b);
  let from = 0;
  let most = 0;
  for (const [i, at] of sorted.entries()) {
    while (sorted[from] <= at - 1000) from++;
    most = Math.max(most, i - from + 1);
  }
  return most;
}

/** The value that this share of all does not exceed. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

/** One line a bucket: where it begins, in seconds, how many, a bar. `times` in ms. */
export function histogram(times: readonly number[], buckets = 20): string[] {
  if (times.length === 0) return ['(none)'];
  const seconds = times.map((ms) => ms / 1000);
  const least = seconds.reduce((a, b) => Math.min(a, b));
  const most = seconds.reduce((a, b) => Math.max(a, b));
  const width = roundUp((most - least) / buckets || 0.001);
  const first = Math.floor(least / width);
  const counts = new Array<number>(Math.floor(most / width) - first + 1).fill(0);
  for (const value of seconds) counts[Math.floor(value / width) - first]++;
  const highest = Math.max(...counts);
  const digits = Math.max(0, Math.ceil(-Math.log10(width)));
  const labels = counts.map((_, i) => ((first + i) * width).toFixed(digits));
  const room = Math.max(...labels.map(({ length }) => length));
  return counts.map((count, i) => {
    const bar = '#'.repeat(Math.ceil((count / highest) * BAR));
    return `${labels[i].padStart(room)} s ${String(count).padStart(String(highest).length)} ${bar}`.trimEnd();
  });
}

/** To 1, 2 or 5 times a power of ten. */
function roundUp(width: number): number {
  const power = 10 ** Math.floor(Math.log10(width));
  return ([1, 2, 5, 10].find((step) => step * power >= width) as number) * power;
}
