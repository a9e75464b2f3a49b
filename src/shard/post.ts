/**
 * What this shard sends to other threads by ring, besides the bytes for their streams (outlet.ts): questions
 * to main, and messages that belong to another shard. Nothing blocks: a ring that is full loses it, counted.
 */
import type { Arena } from '../net/arena.ts';
import { type Destination, encodeDestination } from '../net/targets.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import type { Mesh } from '../shared/mesh.ts';
import { FLOW_FAILED, LOCATE, RESPONSE } from './boot.ts';

/** main's number in the mesh */
const MAIN = 0;

export class Post {
  readonly #mesh: Mesh;
  readonly #arena: Arena;
  readonly #counters: Counters;

  constructor(mesh: Mesh, arena: Arena, counters: Counters) {
    this.#mesh = mesh;
    this.#arena = arena;
    this.#counters = counters;
  }

  /** Asks main where a destination is; `id` is the question's number. False: it cannot be asked. */
  ask(id: number, destination: Destination): boolean {
    const octets = encodeDestination(destination);
    if (!octets) return false;
    this.#mesh.words[0] = id;
    return this.#mesh.send(MAIN, LOCATE, 1, octets, 0, octets.length);
  }

  /** A request at `[start, end)` could not be written: the shard that sent it here answers it. */
  failed(shard: number, start: number, end: number, status: number): void {
    this.#send(shard, FLOW_FAILED, status, 0, start, end);
  }

  /** A response belongs to that shard's transaction; it came on this flow. */
  response(shard: number, slot: number, generation: number, start: number, end: number): void {
    this.#send(shard, RESPONSE, slot, generation, start, end);
  }

  #send(shard: number, type: number, word0: number, word1: number, start: number, end: number): void {
    const { words } = this.#mesh;
    words[0] = word0;
    words[1] = word1;
    if (!this.#mesh.send(shard, type, 2, this.#arena.mem, start, end - start))
      this.#counters.inc(Counter.ringFull);
  }
}
