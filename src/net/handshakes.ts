/**
 * The TLS handshakes in progress of one shard: each has HANDSHAKE_MS for it, and there are at most MAX_HANDSHAKES,
 * so that clients who begin and do not go on cost bounded memory for a bounded time.
 */

/** Over a bad mobile network a handshake takes two or three seconds. */
export const HANDSHAKE_MS = 10_000;
/** Their state is some 50 KiB each. Who comes on top is refused at once, and may go elsewhere. */
export const MAX_HANDSHAKES = 4_096;

export class Handshakes<S> {
  /** when each must be done, ms; in that order */
  readonly #all = new Map<S, number>();

  get isFull(): boolean {
    return this.#all.size >= MAX_HANDSHAKES;
  }

  begin(stream: S, now: number): void {
    this.#all.set(stream, now + HANDSHAKE_MS);
  }

  end(stream: S): void {
    this.#all.delete(stream);
  }

  /** Takes out those whose time is over, and gives them to `late`. When the next one's is, or Infinity. */
  expire(now: number, late: (stream: S) => void): number {
    for (const [stream, until] of this.#all) {
      if (until > now) return until;
      this.#all.delete(stream);
      late(stream);
    }
    return Number.POSITIVE_INFINITY;
  }

  clear(): void {
    this.#all.clear();
  }
}
