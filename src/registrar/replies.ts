import type { Mesh } from '../shared/mesh.ts';
import { answer } from './location.ts';
import { encodeAnswer, STORE_ANSWER } from './message.ts';
import type { Reply } from './service.ts';

/**
 * The way of answers from a store's thread into the rings of those who asked.
 *
 * A ring that is full gets its answer later, and never holds up the others: up to a limit, above which an
 * answer is dropped and its requester runs into his timeout. The order of one ring's answers may change
 * then; each carries the id of its request.
 */

/** answers kept for full rings; about what the rings hold themselves */
const MAX_HELD = 4_096;

export class Replies {
  readonly #mesh: Mesh;
  readonly #maxPayload: number;
  #held: { to: number; bytes: Uint8Array }[] = [];

  constructor(mesh: Mesh, ringBytes: number) {
    this.#mesh = mesh;
    this.#maxPayload = ringBytes / 2 - 64;
  }

  send({ to, id, result }: Reply): void {
    let bytes = encodeAnswer({ id, result });
    // More bindings than any policy lets in, or a ring that was made too small
    if (bytes.length > this.#maxPayload) bytes = encodeAnswer({ id, result: answer('error') });
    if (this.#mesh.send(to, STORE_ANSWER, 0, bytes, 0, bytes.length)) return;
    if (this.#held.length < MAX_HELD) this.#held.push({ to, bytes: Uint8Array.from(bytes) });
  }

  /** Once a turn. */
  retry(): void {
    if (this.#held.length === 0) return;
    this.#held = this.#held.filter(
      ({ to, bytes }) => !this.#mesh.send(to, STORE_ANSWER, 0, bytes, 0, bytes.length),
    );
  }

  /** Answers that wait for room. */
  get held(): number {
    return this.#held.length;
  }
}

/** How a store's thread wakes the others: by their eventfds, if they have such. */
export async function ringWaker(
  wakeFds: readonly number[] | undefined,
): Promise<((participant: number) => boolean) | undefined> {
  if (!wakeFds) return undefined;
  const { EventCounter } = await import('../native/eventfd.ts'); // only where node:ffi is known to work
  const counters = wakeFds.map((fd) => new EventCounter(fd));
  return (participant) => {
    if (!counters[participant]) return false;
    counters[participant].signal();
    return true;
  };
}
