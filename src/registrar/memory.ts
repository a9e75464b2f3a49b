import type { Binding } from './binding.ts';
import type { Backend } from './store.ts';

/**
 * Bindings in a Map: for tests, labs, and sites where clients may register again after a restart.
 * Nothing survives the thread. A transaction keeps the previous values of what it touches, so that a
 * failed batch leaves no trace. A scan that goes on where the last one ended costs O(limit); entries
 * put meanwhile are seen by it or by the next round.
 */
export class MemoryBackend implements Backend {
  readonly #map = new Map<string, Binding[]>();
  #undo: Map<string, Binding[] | undefined> | undefined;
  #scan: Iterator<[string, Binding[]]> | undefined;
  #scannedTo: string | undefined;

  get(aor: string): Binding[] | undefined {
    return this.#map.get(aor);
  }

  put(aor: string, bindings: Binding[]): void {
    if (this.#undo && !this.#undo.has(aor)) this.#undo.set(aor, this.#map.get(aor));
    this.#set(aor, bindings);
  }

  #set(aor: string, bindings: Binding[] | undefined): void {
    if (!bindings || bindings.length === 0) this.#map.delete(aor);
    else this.#map.set(aor, bindings);
  }

  scan(after: string | undefined, limit: number): [string, Binding[]][] {
    if (after === undefined || !this.#scan || after !== this.#scannedTo) {
      this.#scan = this.#map.entries();
      if (after !== undefined) this.#skipPast(after);
    }
    const entries: [string, Binding[]][] = [];
    while (entries.length < limit) {
      const next = this.#scan.next();
      if (next.done) {
        this.#scan = undefined;
        break;
      }
      entries.push(next.value);
    }
    this.#scannedTo = entries.at(-1)?.[0];
    return entries;
  }

  /** A Map's iterator goes on after deletions, so this is reached only by a caller that changes its place. */
  #skipPast(after: string): void {
    if (!this.#map.has(after)) return;
    for (;;) {
      const next = this.#scan!.next();
      if (next.done || next.value[0] === after) return;
    }
  }

  transaction<T>(work: () => T): T {
    if (this.#undo) return work();
    this.#undo = new Map();
    try {
      return work();
    } catch (error) {
      for (const [aor, bindings] of this.#undo) this.#set(aor, bindings);
      throw error;
    } finally {
      this.#undo = undefined;
    }
  }

  async close(): Promise<void> {
    this.#map.clear();
  }
}
