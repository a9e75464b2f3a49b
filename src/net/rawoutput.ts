/**
 * Output of the raw streams of one shard. What a turn queues for a stream goes out by one `sendmsg`, through OpenSSL a
 * record at a time; what the kernel does not take waits in a block of the arena's slabs, and what comes later
 * stands behind it.
 *
 * Guarantees: bytes go out in the order in which they were queued; no stream is written to before it is open; what
 * waits for one is bounded by the largest block (OVERFLOW); whole messages that a broken connection did
 * not take are told once, after the flush that lost them.
 *
 * It ends no stream and asks for no event: it returns how a write went, and the caller does what follows.
 */
import { EAGAIN } from '../native/errno.ts';
import { MAX_SEGMENTS, type StreamIo } from '../native/stream.ts';
import type { Slab } from '../shared/slab.ts';
import { Kept } from './kept.ts';
import type { NetHandler } from './net.ts';
import type { RawStream } from './rawstream.ts';
import type { Secured, SecureStreams } from './securestream.ts';
import { OVERFLOW, Segments } from './segments.ts';
import { OPEN } from './streamstate.ts';

export class RawOutput {
  readonly #slabs: Slab;
  readonly #io: StreamIo;
  /** undefined: no stream is secured */
  readonly #secure: SecureStreams | undefined;
  readonly #segments = new Segments();
  readonly #start = this.#segments.start;
  readonly #end = this.#segments.end;
  readonly #next = this.#segments.next;

  constructor(slabs: Slab, io: StreamIo, secure: SecureStreams | undefined) {
    this.#slabs = slabs;
    this.#io = io;
    this.#secure = secure;
  }

  /** Flush before anything else is queued. */
  get full(): boolean {
    return this.#segments.full;
  }

  /** Adds `[start, end)` of the out region to what the turn has for the stream. Not while `full`. */
  queue(stream: RawStream, start: number, end: number): void {
    this.#segments.append(stream, start, end);
  }

  /** All streams are written: what the out region has is out, waits, or is lost. */
  emptied(): void {
    this.#segments.empty();
  }

  /**
   * Writes what the turn has for the stream, and keeps what is not taken; nothing is queued for it then. 0, OVERFLOW,
   * or the -errno of a broken connection.
   */
  write(stream: RawStream): number {
    const { secured } = stream;
    const first = stream.first;
    stream.first = stream.last = -1;
    let segment = first;
    let from = segment < 0 ? 0 : this.#start[segment];
    // A connection in progress, or bytes that wait already: these stand behind them.
    while (segment >= 0 && stream.waiting === 0 && stream.state >= OPEN) {
      let taken =
        secured === undefined ? this.#send(stream.fd, segment, from) : this.#seal(secured, segment, from);
      if (taken === -EAGAIN) break;
      if (taken < 0) {
        this.#segments.lose(stream.slot, segment, from);
        return taken;
      }
      const isSpent = secured === undefined && taken < this.#io.bytes;
      while (segment >= 0 && taken >= this.#end[segment] - from) {
        taken -= this.#end[segment] - from;
        segment = this.#next[segment];
        from = segment < 0 ? 0 : this.#start[segment];
      }
      from += taken;
      if (isSpent) break; // the socket has no more room
    }
    return segment < 0 || this.#keep(stream, segment, from) ? 0 : OVERFLOW;
  }

  #send(fd: number, segment: number, from: number): number {
    const io = this.#io;
    io.begin();
    for (let i = segment, start = from, n = 0; i >= 0 && n < MAX_SEGMENTS; n++) {
      io.segment(start, this.#end[i] - start);
      i = this.#next[i];
      if (i >= 0) start = this.#start[i];
    }
    return io.send(fd);
  }

  /** One record, of as many segments as go into it. */
  #seal(secured: Secured, segment: number, from: number): number {
    const secure = this.#secure as SecureStreams;
    secure.begins();
    for (let i = segment, start = from; i >= 0; i = this.#next[i], start = this.#start[i])
      if (secure.add(start, this.#end[i]) < this.#end[i]) break;
    return secure.send(secured);
  }

  /** False: there is no room for all of it. */
  #keep(stream: RawStream, segment: number, from: number): boolean {
    stream.out ??= new Kept(this.#slabs, 0);
    const { out } = stream;
    for (let i = segment, start = from; i >= 0; ) {
      if (!out.append(start, this.#end[i])) return false;
      i = this.#next[i];
      if (i >= 0) start = this.#start[i];
    }
    return true;
  }

  /** Writes of what waits. 0, or -errno: -EAGAIN, or the connection is broken. */
  drain(stream: RawStream): number {
    const { out, secured } = stream;
    while (out !== undefined && out.length > 0) {
      const taken = secured === undefined ? this.#sendKept(stream.fd, out) : this.#sealKept(secured, out);
      if (taken < 0) return taken;
      out.consume(taken);
      if (secured === undefined) break;
    }
    return 0;
  }

  #sendKept(fd: number, out: Kept): number {
    this.#io.begin();
    this.#io.segment(out.start, out.length);
    return this.#io.send(fd);
  }

  #sealKept(secured: Secured, out: Kept): number {
    const secure = this.#secure as SecureStreams;
    secure.begins();
    secure.add(out.start, out.end);
    return secure.send(secured);
  }

  /** The connection broke before this turn's output of the stream was written. */
  lose(stream: RawStream): void {
    if (stream.first >= 0) this.#segments.lose(stream.slot, stream.first, this.#start[stream.first]);
  }

  /** Tells what the last flush lost; its bytes still stand in the out region. True if there was anything. */
  reportLost(handler: NetHandler): boolean {
    return this.#segments.reportLost(handler);
  }
}
