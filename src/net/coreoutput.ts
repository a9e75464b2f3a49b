/**
 * Output of the streams of one shard on the core backend, with the guarantees of rawoutput.ts. A turn's output of a
 * stream goes out by as few writes of WRITE bytes as it takes. A Node socket has at most one write in flight; what
 * comes behind it waits in a block of the arena's slabs, so that the memory that a slow peer holds is bounded
 * here and not by Node's queue.
 *
 * Node cannot set TCP_USER_TIMEOUT: who has a write that has not ended in that time is told by `expire`.
 */
import type { Arena } from './arena.ts';
import type { CoreStream } from './corestream.ts';
import type { NetHandler } from './net.ts';
import { OVERFLOW, Segments } from './segments.ts';
import { OPEN } from './streamstate.ts';

/** The socket has an error: the kernel has taken nothing of the write that showed it. */
export const BROKEN = -1;

const WRITE = 64 * 1024;
const USER_TIMEOUT_MS = 30_000;

export class CoreOutput {
  readonly #arena: Arena;
  readonly #now: () => number;
  readonly #segments = new Segments();
  /** of whom something waits */
  readonly #undrained = new Set<CoreStream>();
  /** where `#gather` stands in a chain */
  #segment = -1;
  #from = 0;

  constructor(arena: Arena, now: () => number) {
    this.#arena = arena;
    this.#now = now;
  }

  /** Flush before anything else is queued. */
  get full(): boolean {
    return this.#segments.full;
  }

  /** Adds `[start, end)` of the out region to what the turn has for the stream. Not while `full`. */
  queue(stream: CoreStream, start: number, end: number): void {
    this.#segments.append(stream, start, end);
  }

  /** All streams are written: what the out region has is out, waits, or is lost. */
  emptied(): void {
    this.#segments.empty();
  }

  /** Writes what the turn has for the stream, and keeps what is not taken; nothing is queued for it then. 0, OVERFLOW, or BROKEN. */
  write(stream: CoreStream): number {
    const { start, end, next } = this.#segments;
    let left = this.#segments.length(stream);
    this.#segment = stream.first;
    this.#from = start[stream.first];
    stream.first = stream.last = -1;
    // A connection in progress, or bytes that wait already: these stand behind them.
    while (left > 0 && stream.waiting === 0 && stream.state >= OPEN) {
      const chunk = Buffer.allocUnsafe(Math.min(left, WRITE));
      const first = this.#segment;
      const from = this.#from;
      this.#gather(chunk);
      left -= chunk.length;
      this.#give(stream, chunk);
      // An error within the call. (A later one comes as an event.)
      if (stream.socket.errored) {
        this.#segments.lose(stream.slot, first, from);
        return BROKEN;
      }
    }
    while (left > 0) {
      const to = end[this.#segment];
      if (!stream.out.append(this.#from, to)) return OVERFLOW;
      left -= to - this.#from;
      this.#segment = next[this.#segment];
      if (this.#segment >= 0) this.#from = start[this.#segment];
    }
    if (stream.waiting > 0) this.#undrained.add(stream);
    return 0;
  }

  /** Fills the chunk from the chain and moves on in it. */
  #gather(chunk: Uint8Array): void {
    const { start, end, next } = this.#segments;
    const { mem } = this.#arena;
    for (let at = 0; at < chunk.length; ) {
      const n = Math.min(end[this.#segment] - this.#from, chunk.length - at);
      chunk.set(mem.subarray(this.#from, this.#from + n), at);
      at += n;
      this.#from += n;
      if (this.#from < end[this.#segment]) return;
      this.#segment = next[this.#segment];
      if (this.#segment >= 0) this.#from = start[this.#segment];
    }
  }

  /** The socket gives it to the kernel within the call if it can; else it is in flight until `written`. */
  #give(stream: CoreStream, chunk: Buffer): void {
    stream.socket.write(chunk, stream.written);
    if (stream.socket.writableLength === 0) return;
    stream.inFlight = chunk.length;
    stream.since = this.#now();
  }

  /** Writes of what waits. True: nothing does any more. */
  drain(stream: CoreStream): boolean {
    const { out } = stream;
    const { mem } = this.#arena;
    while (out.length > 0 && stream.inFlight === 0) {
      const n = Math.min(out.length, WRITE);
      const chunk = Buffer.allocUnsafe(n);
      chunk.set(mem.subarray(out.start, out.start + n));
      out.consume(n);
      this.#give(stream, chunk);
    }
    if (stream.waiting > 0) return false;
    this.#undrained.delete(stream);
    return true;
  }

  /** The connection broke before this turn's output of the stream was written. */
  lose(stream: CoreStream): void {
    if (stream.first >= 0) this.#segments.lose(stream.slot, stream.first, this.#segments.start[stream.first]);
  }

  /** Tells what the last flush lost; its bytes still stand in the out region. True if there was anything. */
  reportLost(handler: NetHandler): boolean {
    return this.#segments.reportLost(handler);
  }

  /** Gives those whose write stands still to `late`. When the next one's time is over, or Infinity. */
  expire(now: number, late: (stream: CoreStream) => void): number {
    let next = Number.POSITIVE_INFINITY;
    for (const stream of this.#undrained) {
      if (stream.inFlight === 0) continue;
      const until = stream.since + USER_TIMEOUT_MS;
      if (until <= now) late(stream);
      else next = Math.min(next, until);
    }
    return next;
  }

  /** The stream has ended. */
  forget(stream: CoreStream): void {
    this.#undrained.delete(stream);
  }

  clear(): void {
    this.#undrained.clear();
  }
}
