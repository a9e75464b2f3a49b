/**
 * Answers kept for a time each, bounded in number: the one that was put first goes first. It holds secrets, so it
 * shows nothing but its size.
 */
import type { Lookup } from './credentials.ts';

interface Kept {
  found: Lookup;
  until: number;
}

export class AnswerCache {
  readonly #most: number;
  readonly #kept = new Map<string, Kept>();

  constructor(most: number) {
    this.#most = most;
  }

  get size(): number {
    return this.#kept.size;
  }

  get(key: string, now: number): Lookup | undefined {
    const kept = this.#kept.get(key);
    if (!kept) return undefined;
    if (now < kept.until) return kept.found;
    this.#kept.delete(key);
    return undefined;
  }

  put(key: string, found: Lookup, until: number): void {
    this.#kept.delete(key);
    if (this.#kept.size >= this.#most) {
      const [first] = this.#kept.keys();
      this.#kept.delete(first);
    }
    this.#kept.set(key, { found, until });
  }
}
