/**
 * A hashed timing wheel: one timer for each small integer id, for as many ids as there are flows
 * or transactions.
 *
 * Guarantees: a timer never fires early, and fires in the first `advance` whose time is one tick or
 * more past its deadline at the latest. To schedule, to cancel and to fire are O(1). To schedule a
 * later time than before, which is what every keep-alive does, is one store: the timer stays where
 * it hangs and is hung anew when the wheel comes by. Delays may exceed a revolution; such a timer
 * is looked at once each revolution. A clock that jumps costs one pass over the buckets.
 *
 * Does not guarantee: an order among the timers that one `advance` fires. Delays above 2^30 ticks
 * are cut to that (124 days at 10 ms). A clock that runs backwards stops the wheel until it is back,
 * so give it a monotonic one.
 *
 * Costs 12 octets an id and 4 a bucket. Allocates nothing after construction, but in `grow`.
 */
const NIL = -1;
const UNLINKED = -0x8000_0000;
const MOST_TICKS = 2 ** 30;

export class Wheel {
  readonly tickMs: number;
  readonly #startMs: number;
  readonly #mask: number;
  /** deadline in ticks since the start, modulo 2^32; compared by signed difference */
  #due: Int32Array;
  #next: Int32Array;
  /** the id before this one, or ~bucket for the first of a bucket, or UNLINKED */
  #prev: Int32Array;
  /** first id of each bucket; the last element is the bucket that is being fired */
  readonly #head: Int32Array;
  /** one bit for each bucket that may hold a timer */
  readonly #filled: Int32Array;
  /** the last tick that was fired, as a number that does not wrap */
  #tick = 0;
  #count = 0;

  /** `buckets` is a power of two from 32; tick times buckets should exceed the usual delay. */
  constructor(capacity: number, tickMs: number, startMs: number, buckets = 4096) {
    if (buckets < 32 || (buckets & (buckets - 1)) !== 0) throw new RangeError(`${buckets} buckets`);
    this.tickMs = tickMs;
    this.#startMs = startMs;
    this.#mask = buckets - 1;
    this.#due = new Int32Array(capacity);
    this.#next = new Int32Array(capacity);
    this.#prev = new Int32Array(capacity).fill(UNLINKED);
    this.#head = new Int32Array(buckets + 1).fill(NIL);
    this.#filled = new Int32Array(buckets >>> 5);
  }

  get capacity(): number {
    return this.#due.length;
  }

  /** Room for more ids; what waits goes on waiting. `fire` may call it too. */
  grow(capacity: number): void {
    const more = (old: Int32Array, fill: number): Int32Array => {
      const larger = new Int32Array(capacity).fill(fill, old.length);
      larger.set(old);
      return larger;
    };
    this.#due = more(this.#due, 0);
    this.#next = more(this.#next, 0);
    this.#prev = more(this.#prev, UNLINKED);
  }

  /** The number of timers that wait. */
  get size(): number {
    return this.#count;
  }

  isScheduled(id: number): boolean {
    return this.#prev[id] !== UNLINKED;
  }

  /** One timer an id: a second call replaces the first. A time in the past fires with the next tick. Infinity cancels. */
  schedule(id: number, atMs: number): void {
    if (atMs === Infinity) {
      this.cancel(id);
      return;
    }
    let ticks = Math.ceil((atMs - this.#startMs) / this.tickMs) - this.#tick;
    if (ticks < 1) ticks = 1;
    else if (ticks > MOST_TICKS) ticks = MOST_TICKS;
    const due = (this.#tick + ticks) | 0;
    if (this.#prev[id] !== UNLINKED) {
      // It hangs where the wheel comes by no later than at its present deadline.
      if (((due - this.#due[id]) | 0) >= 0) {
        this.#due[id] = due;
        return;
      }
      this.#unlink(id);
      this.#count--;
    }
    this.#due[id] = due;
    this.#link(id, due & this.#mask);
    this.#count++;
  }

  cancel(id: number): void {
    if (this.#prev[id] === UNLINKED) return;
    this.#unlink(id);
    this.#count--;
  }

  /** Fires all timers with a deadline up to now. `fire` may schedule and cancel any id, but must not throw or advance. */
  advance(nowMs: number, fire: (id: number) => void): void {
    const now = Math.floor((nowMs - this.#startMs) / this.tickMs);
    const passed = now - this.#tick;
    if (!(passed > 0)) return;
    const buckets = this.#mask + 1;
    let bucket = (this.#tick + 1) & this.#mask;
    // What is scheduled from here on, by `fire` too, lies after `now`: no pass can run forever.
    this.#tick = now;
    for (let left = Math.min(passed, buckets); left > 0; ) {
      const gap = this.#emptyFrom(bucket);
      if (gap >= left) return;
      bucket = (bucket + gap) & this.#mask;
      this.#fireBucket(bucket, now | 0, fire);
      bucket = (bucket + 1) & this.#mask;
      left -= gap + 1;
    }
  }

  /** When `advance` next has something to look at; Infinity if no timer waits. May be too early, never too late. */
  nextDeadline(): number {
    if (this.#count === 0) return Infinity;
    const from = (this.#tick + 1) & this.#mask;
    return this.#startMs + (this.#tick + 1 + this.#emptyFrom(from)) * this.tickMs;
  }

  #fireBucket(bucket: number, now: number, fire: (id: number) => void): void {
    const head = this.#head;
    const firing = this.#mask + 1;
    // The list moves aside, so that timers which `fire` hangs into this bucket are not met again.
    const first = head[bucket];
    head[bucket] = NIL;
    this.#filled[bucket >>> 5] &= ~(1 << (bucket & 31));
    if (first === NIL) return;
    head[firing] = first;
    this.#prev[first] = ~firing;
    for (let id = first; id !== NIL; id = head[firing]) {
      this.#unlink(id);
      const due = this.#due[id];
      if (((due - now) | 0) > 0) {
        this.#link(id, due & this.#mask);
      } else {
        this.#count--;
        fire(id);
      }
    }
  }

  #link(id: number, bucket: number): void {
    const first = this.#head[bucket];
    this.#next[id] = first;
    this.#prev[id] = ~bucket;
    if (first !== NIL) this.#prev[first] = id;
    this.#head[bucket] = id;
    this.#filled[bucket >>> 5] |= 1 << (bucket & 31);
  }

  /** Leaves the bucket's bit set; whoever finds the bucket empty clears it. */
  #unlink(id: number): void {
    const prev = this.#prev[id];
    const next = this.#next[id];
    if (prev >= 0) this.#next[prev] = next;
    else this.#head[~prev] = next;
    if (next !== NIL) this.#prev[next] = prev;
    this.#prev[id] = UNLINKED;
  }

  /** How many buckets from this one on, in turning order, are empty. At most all. */
  #emptyFrom(bucket: number): number {
    const filled = this.#filled;
    const words = filled.length;
    let word = bucket >>> 5;
    // bits of buckets before this one belong to the end of the turn
    let bits = filled[word] & (-1 << (bucket & 31));
    for (let i = 0; i <= words; i++) {
      if (bits !== 0) {
        const found = (word << 5) + 31 - Math.clz32(bits & -bits);
        return (found - bucket) & this.#mask;
      }
      word = word + 1 === words ? 0 : word + 1;
      bits = filled[word];
    }
    return this.#mask + 1;
  }
}
