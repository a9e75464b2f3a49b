/**
 * Latencies in buckets of a constant relative width: each power of two is cut into 32, so a figure read back is
 * less than 1/32 above what was recorded, whatever its size. Recording is two shifts and an increment, and no
 * sample is kept, so a run of any length costs the same 5 KiB.
 *
 * Values are whole microseconds; below 32 they are exact. What is above the last bucket (71 minutes) is counted there.
 */

const SUB_BITS = 5;
const SUB = 1 << SUB_BITS;
/** 2^32 microseconds */
const OCTAVES = 32;
const BUCKETS = (OCTAVES - SUB_BITS + 1) * SUB;
const HIGHEST = 0xffffffff;

/** Which bucket counts `us`. */
function bucketOf(us: number): number {
  if (us < SUB) return us;
  const octave = 31 - Math.clz32(us);
  return ((octave - SUB_BITS + 1) << SUB_BITS) + ((us >>> (octave - SUB_BITS)) & (SUB - 1));
}

/** The highest value that it counts. */
function topOf(bucket: number): number {
  if (bucket < SUB) return bucket;
  const shift = (bucket >> SUB_BITS) - 1;
  return (SUB + (bucket & (SUB - 1)) + 1) * 2 ** shift - 1;
}

export class Histogram {
  readonly #counts = new Uint32Array(BUCKETS);
  #count = 0;
  #sum = 0;
  #max = 0;

  get count(): number {
    return this.#count;
  }

  /** The largest value itself, not its bucket. */
  get max(): number {
    return this.#max;
  }

  get mean(): number {
    return this.#count === 0 ? 0 : this.#sum / this.#count;
  }

  /** `us`: microseconds, rounded up; what is negative counts as 0. */
  record(us: number): void {
    const whole = us <= 0 ? 0 : us >= HIGHEST ? HIGHEST : Math.ceil(us);
    this.#counts[bucketOf(whole)]++;
    this.#count++;
    this.#sum += whole;
    if (whole > this.#max) this.#max = whole;
  }

  /** The value that a share of `fraction` (0 to 1) of all samples does not exceed; 0 without samples. */
  percentile(fraction: number): number {
    const rank = Math.max(1, Math.ceil(fraction * this.#count));
    let seen = 0;
    for (let i = 0; i < BUCKETS; i++) {
      seen += this.#counts[i];
      if (seen >= rank) return Math.min(topOf(i), this.#max);
    }
    return 0;
  }

  /** Adds all samples of another one. */
  add(other: Histogram): void {
    for (let i = 0; i < BUCKETS; i++) this.#counts[i] += other.#counts[i];
    this.#count += other.#count;
    this.#sum += other.#sum;
    this.#max = Math.max(this.#max, other.#max);
  }

  reset(): void {
    this.#counts.fill(0);
    this.#count = 0;
    this.#sum = 0;
    this.#max = 0;
  }

  /** `[highest microseconds of the bucket, samples]` of each bucket that has any. */
  buckets(): Array<[number, number]> {
    const all: Array<[number, number]> = [];
    this.#counts.forEach((n, i) => {
      if (n > 0) all.push([topOf(i), n]);
    });
    return all;
  }
}
