/**
 * Next hops that gave no answer lately: an edge that is stopped, or cut off. They are demoted for a while,
 * not given up: a device that has another flow is tried there first, one that has none still here. So one
 * call waits for the dead edge, not each. Any answer ends it.
 *
 * Of this shard alone, and bounded: with more silent hops than that, the one noted first is forgotten.
 */
const SILENT_MS = 60_000;
const MOST = 1_024;

export class Silent {
  /** until when, ms */
  readonly #until = new Map<string, number>();

  get isEmpty(): boolean {
    return this.#until.size === 0;
  }

  note(hop: string, nowMs: number): void {
    this.#until.delete(hop); // so that it becomes the youngest
    if (this.#until.size >= MOST)
      for (const oldest of this.#until.keys()) {
        this.#until.delete(oldest);
        break;
      }
    this.#until.set(hop, nowMs + SILENT_MS);
  }

  heard(hop: string): void {
    this.#until.delete(hop);
  }

  has(hop: string, nowMs: number): boolean {
    const until = this.#until.get(hop);
    if (until === undefined) return false;
    if (nowMs < until) return true;
    this.#until.delete(hop);
    return false;
  }

  /** The same list, those of silent hops behind the others. */
  demote<P>(places: readonly P[], hopOf: (place: P) => string, nowMs: number): readonly P[] {
    if (this.isEmpty) return places;
    const last = places.filter((place) => this.has(hopOf(place), nowMs));
    if (last.length === 0) return places;
    return [...places.filter((place) => !last.includes(place)), ...last];
  }
}
