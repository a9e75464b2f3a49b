/**
 * When to look at which address-of-record: one time for each, in buckets of a second.
 *
 * A deadline is due within a second after its time, never before. Setting and taking cost two map operations; a
 * second without deadlines costs one look-up when it is passed. Above the limit a new address is not followed.
 */
export class Deadlines {
  readonly #limit: number;
  readonly #seconds = new Map<string, number>();
  readonly #buckets = new Map<number, Set<string>>();
  /** no bucket is before it */
  #next = Number.POSITIVE_INFINITY;
  /** addresses that found no room */
  missed = 0;

  constructor(limit = Number.POSITIVE_INFINITY) {
    this.#limit = limit;
  }

  /** `at`: milliseconds; in place of an earlier one of the address. Undefined: no more. */
  set(aor: string, at: number | undefined): void {
    const old = this.#seconds.get(aor);
    const second = at === undefined ? undefined : Math.ceil(at / 1000);
    if (old === second) return;
    if (old !== undefined) this.#drop(aor, old);
    if (second === undefined) return;
    if (this.#seconds.size >= this.#limit) {
      this.missed++;
      return;
    }
    this.#seconds.set(aor, second);
    const bucket = this.#buckets.get(second);
    if (bucket) bucket.add(aor);
    else this.#buckets.set(second, new Set([aor]));
    this.#next = Math.min(this.#next, second);
  }

  #drop(aor: string, second: number): void {
    this.#seconds.delete(aor);
    const bucket = this.#buckets.get(second);
    bucket?.delete(aor);
    if (bucket?.size === 0) this.#buckets.delete(second);
  }

  /** Takes up to `limit` addresses whose time has come, the earliest first. */
  due(now: number, limit: number): string[] {
    const due: string[] = [];
    if (this.#buckets.size === 0) this.#next = Number.POSITIVE_INFINITY;
    while (this.#next * 1000 <= now && this.#buckets.size > 0) {
      for (const aor of this.#buckets.get(this.#next) ?? []) {
        if (due.length >= limit) return due;
        due.push(aor);
        this.#drop(aor, this.#next);
      }
      this.#next++;
    }
    return due;
  }

  get size(): number {
    return this.#seconds.size;
  }
}
