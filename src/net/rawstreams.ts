/**
 * Raw streams of one shard on the ffi backend, TCP and (with securestream.ts) TLS: their life from the first octet or
 * the dial to the descriptor's end, and their input. A stream that is between messages and has nothing
 * to send owns no buffer: reads land in one region shared by all, unfinished messages are kept in
 * slabs, output is written once a turn (rawoutput.ts).
 *
 * Guarantees: bytes go out in the order in which they were queued, whole messages never interleave;
 * a reader that is too slow is closed with WRITE_QUEUE, never grown for; `closed` is told once per
 * stream and never from inside a call of the handler's own.
 *
 * A secured stream is told of when its handshake is done. Until then it is nobody's: time and number are bounded
 * (handshakes.ts), and a round does so many steps of them that others have their turn.
 *
 * The descriptor is closed here and only here. The flow record tells main what it would have to close
 * if this shard died (fd, socket cookie), and whether the stream was quiet (PARTIAL_IN, UNDRAINED_OUT).
 */

import { EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, type Epoll } from '../native/epoll.ts';
import { EAGAIN, ECONNRESET, EEXIST, EPIPE, EPROTO, ETIMEDOUT } from '../native/errno.ts';
import { NULL } from '../native/memory.ts';
import {
  closeFd,
  connectStream,
  cookie,
  localAddress,
  setLinger0,
  setNoDelay,
  setUserTimeout,
  shutdownWrite,
  socketError,
} from '../native/socket.ts';
import { StreamIo } from '../native/stream.ts';
import { Cause } from '../shared/cause.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { isSecured, OUTBOUND_DIALED, PARTIAL_IN, UNDRAINED_OUT } from '../shared/flow-record.ts';
import type { FlowTable } from '../shared/flow-table.ts';
import type { SslTable } from '../shared/ssl-table.ts';
import { type Arena, STREAM_READ } from './arena.ts';
import { Endpoint } from './endpoint.ts';
import { Handshakes } from './handshakes.ts';
import { Kept, SENTINEL } from './kept.ts';
import type { NetHandler } from './net.ts';
import { MAX_HEADER, PING } from './proxyheader.ts';
import { KEEP_ALIVE, Proxying, REFUSED, WAIT } from './proxying.ts';
import { RawOutput } from './rawoutput.ts';
import { RawStream } from './rawstream.ts';
import { type Secured, SecureStreams } from './securestream.ts';
import { OVERFLOW } from './segments.ts';
import type { Serving } from './serving.ts';
import { CLOSED, CONNECTING, DRAINING, HANDSHAKING, LINGER_MS, LINGERING, OPEN } from './streamstate.ts';

/** Reads of one stream in a row before others have their turn. */
const READ_BUDGET = 4;
/** The kernel gives up on a peer that acknowledges nothing for this long. */
const USER_TIMEOUT_MS = 30_000;
/** Steps of handshakes in one round, of some 0.3 ms each: the epoll set gives the others in the next rounds. */
const HANDSHAKE_BUDGET = 16;

export interface RawStreamsParts {
  arena: Arena;
  epoll: Epoll;
  flows: FlowTable;
  counters: Counters;
  now: () => number;
  /** undefined: no stream is secured */
  ssl: SslTable | undefined;
}

export class RawStreams {
  readonly #arena: Arena;
  readonly #epoll: Epoll;
  readonly #flows: FlowTable;
  readonly #counters: Counters;
  readonly #io: StreamIo;
  readonly #now: () => number;
  readonly #secure: SecureStreams | undefined;
  readonly #streams = new Map<number, RawStream>();
  readonly #output: RawOutput;
  readonly #dirty: RawStream[] = [];
  readonly #closed: RawStream[] = [];
  readonly #lingering: RawStream[] = [];
  readonly #handshakes = new Handshakes<RawStream>();
  #steps = 0;
  /** OpenSSL holds octets of theirs that have not been read */
  #unread: RawStream[] = [];
  readonly #cookie = new Int32Array(2);
  readonly #address = new Endpoint();
  readonly #proxying: Proxying;

  constructor(parts: RawStreamsParts) {
    const { arena, epoll, flows, counters, now, ssl } = parts;
    this.#now = now;
    this.#arena = arena;
    this.#epoll = epoll;
    this.#flows = flows;
    this.#counters = counters;
    this.#proxying = new Proxying(arena.mem, flows, counters);
    this.#io = new StreamIo(arena.mem, arena.stream, STREAM_READ);
    this.#secure = ssl && new SecureStreams(ssl, this.#io, arena, counters);
    this.#output = new RawOutput(arena.slabs, this.#io, this.#secure);
  }

  set serving(serving: Serving) {
    if (this.#secure) this.#secure.serving = serving;
  }

  /** The domains of the certificate that the peer has shown; undefined: it has shown none. */
  identities(slot: number): readonly string[] | undefined {
    return this.#streams.get(slot)?.secured?.identities;
  }

  get size(): number {
    return this.#streams.size;
  }

  isOpen(slot: number): boolean {
    const stream = this.#streams.get(slot);
    return stream !== undefined && stream.state <= OPEN && this.#flows.generation(slot) === stream.generation;
  }

  /**
   * Takes over the record's descriptor: fresh from main, or left in the epoll set by a predecessor of this shard. True
   * if it is open now; else a handshake comes first, and then `opened`.
   */
  adopt(slot: number): boolean {
    const flows = this.#flows;
    const secured = this.#begin(slot, undefined);
    const stream = new RawStream(slot, flows.generation(slot), flows.fd(slot), secured);
    stream.fresh = this.#proxying.awaits(slot) && !flows.has(slot, OUTBOUND_DIALED);
    this.#streams.set(slot, stream);
    if (secured?.ssl === NULL && !this.#awaitHandshake(stream)) return false;
    const events = EPOLLIN | EPOLLRDHUP;
    if (this.#epoll.add(stream.fd, events, slot, stream.generation) === -EEXIST) {
      this.#epoll.modify(stream.fd, events, slot, stream.generation);
      if (secured) this.#unread.push(stream);
    } else {
      setNoDelay(stream.fd);
      setUserTimeout(stream.fd, USER_TIMEOUT_MS);
    }
    return stream.state === OPEN;
  }

  #begin(slot: number, host: string | undefined): Secured | undefined {
    if (!this.#secure || !isSecured(this.#flows.transport(slot))) return undefined;
    return this.#secure.begin(slot, host);
  }

  /** 0, or an errno. `host` for a secured one: whom the certificate must name. */
  dial(slot: number, to: Endpoint, host: string, from: Endpoint | undefined): number {
    const fd = connectStream(to, from);
    if (fd < 0) return -fd;
    setNoDelay(fd);
    setUserTimeout(fd, USER_TIMEOUT_MS);
    this.#flows.setFd(slot, fd);
    if (cookie(fd, this.#cookie) >= 0) this.#flows.setCookie(slot, this.#cookie[0], this.#cookie[1]);
    const stream = new RawStream(slot, this.#flows.generation(slot), fd, this.#begin(slot, host));
    stream.state = CONNECTING;
    this.#streams.set(slot, stream);
    this.#epoll.add(fd, EPOLLOUT | EPOLLRDHUP, slot, stream.generation);
    return 0;
  }

  // ---- handshakes

  /** False: there are too many, and this one ends. */
  #awaitHandshake(stream: RawStream): boolean {
    if (this.#handshakes.isFull) {
      this.#counters.inc(Counter.tlsRefused);
      setLinger0(stream.fd);
      this.#end(stream, Cause.TLS);
      return false;
    }
    stream.state = HANDSHAKING;
    this.#handshakes.begin(stream, this.#now());
    return true;
  }

  #handshake(stream: RawStream, secured: Secured, handler: NetHandler): void {
    if (stream.fresh && !this.#begins(stream, handler)) return;
    if (stream.held > 0) {
      this.#counters.inc(Counter.tlsFailures);
      this.#unshaken(stream, 'the front of a PROXY header', handler);
      return;
    }
    const secure = this.#secure as SecureStreams;
    // who has shown a part is told of news only
    if (this.#steps >= HANDSHAKE_BUDGET && !secured.partial) return;
    this.#steps++;
    const { blocked, partial } = secured;
    const error = secure.handshake(stream.slot, stream.fd, secured);
    if (error === -EAGAIN) {
      if (blocked !== secured.blocked || partial !== secured.partial) this.#interest(stream);
      return;
    }
    if (error !== 0) {
      this.#counters.inc(Counter.tlsFailures);
      this.#unshaken(stream, secure.reason, handler);
      return;
    }
    this.#handshakes.end(stream);
    stream.state = OPEN;
    if (blocked || partial || secured.host !== undefined) this.#interest(stream);
    if (secured.host === undefined) handler.opened(stream.slot);
    else this.#established(stream, handler);
  }

  /** The handshake is not done and will not be. */
  #unshaken(stream: RawStream, reason: string, handler: NetHandler): void {
    handler.unsecured(stream.slot, reason);
    if (stream.secured?.host === undefined) this.#end(stream, Cause.TLS);
    else this.#unconnected(stream, EPROTO, handler);
  }

  #expire(now: number, handler: NetHandler): number {
    this.#steps = 0;
    return this.#handshakes.expire(now, (stream) => {
      this.#counters.inc(Counter.tlsTimeouts);
      this.#unshaken(stream, 'no handshake in its time', handler);
    });
  }

  /** Reads on where OpenSSL has more than a turn was given. */
  resume(handler: NetHandler): void {
    if (this.#unread.length === 0) return;
    const list = this.#unread;
    this.#unread = [];
    for (const stream of list) if (stream.state === OPEN) this.#read(stream, handler);
  }

  event(slot: number, generation: number, events: number, now: number, handler: NetHandler): void {
    const stream = this.#streams.get(slot);
    if (!stream || stream.generation !== generation || stream.state === CLOSED) return;
    if (stream.state === CONNECTING) {
      if (!this.#connected(stream, handler)) return;
    }
    const { secured } = stream;
    if (stream.state === HANDSHAKING) this.#handshake(stream, secured as Secured, handler);
    else if (events & EPOLLOUT) this.#writable(stream, now, handler);
    if (stream.state === OPEN && events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP))
      this.#read(stream, handler);
    else if (stream.state === LINGERING) this.#discard(stream);
    else if (stream.state === DRAINING && events & (EPOLLHUP | EPOLLERR)) {
      this.#output.lose(stream);
      this.#end(stream, stream.cause);
    }
  }

  #connected(stream: RawStream, handler: NetHandler): boolean {
    const error = socketError(stream.fd);
    if (error !== 0) {
      this.#unconnected(stream, Math.abs(error), handler);
      return false;
    }
    const at = this.#address;
    if (localAddress(stream.fd, at) >= 0)
      this.#flows.setLocal(stream.slot, at.a0, at.a1, at.a2, at.a3, at.port);
    if (stream.secured) {
      stream.state = HANDSHAKING;
      this.#handshakes.begin(stream, this.#now());
      this.#interest(stream);
      return true;
    }
    stream.state = OPEN;
    this.#interest(stream);
    this.#established(stream, handler);
    return true;
  }

  #established(stream: RawStream, handler: NetHandler): void {
    handler.connected(stream.slot, 0);
    if (stream.first >= 0) this.#mark(stream);
  }

  #unconnected(stream: RawStream, error: number, handler: NetHandler): void {
    // It may fail before the flush that follows the dial.
    if (stream.first >= 0) this.#write(stream, handler);
    handler.connected(stream.slot, error);
    const { out } = stream;
    if (out !== undefined && out.length > 0) handler.unsent(stream.slot, out.start, out.end);
    this.#end(stream, Cause.CONNECT_FAILED);
  }

  /** There is room for output again. */
  #writable(stream: RawStream, now: number, handler: NetHandler): void {
    if (stream.secured?.blocked) {
      stream.secured.blocked = false;
      this.#interest(stream);
      if (stream.state === OPEN) this.#read(stream, handler);
    }
    if (stream.waiting > 0) this.#drain(stream, now, handler);
  }

  #interest(stream: RawStream): void {
    const { state, secured } = stream;
    let events = state <= OPEN || state === LINGERING ? EPOLLIN | EPOLLRDHUP : 0;
    if (stream.waiting > 0 && state !== HANDSHAKING) events |= EPOLLOUT;
    if (secured !== undefined && state <= OPEN) {
      if (secured.blocked) events = EPOLLOUT;
      // what is peeked at stays readable: only news is an event
      else if (secured.partial) events |= EPOLLET;
    }
    this.#epoll.modify(stream.fd, events, stream.slot, stream.generation);
  }

  #read(stream: RawStream, handler: NetHandler): void {
    if (stream.fresh && !this.#begins(stream, handler)) return;
    const region = this.#arena.stream;
    const { secured } = stream;
    for (let round = 0; round < READ_BUDGET; round++) {
      const n =
        secured === undefined ? this.#io.recv(stream.fd) : (this.#secure as SecureStreams).read(secured);
      if (n < 0) {
        if (n === -EAGAIN) {
          if (secured?.blocked) this.#interest(stream);
          return;
        }
        this.#unreadable(stream, n);
        return;
      }
      if (n === 0) {
        this.close(stream.slot, Cause.PEER_CLOSED, true);
        return;
      }
      if (stream.held === 0) {
        const used = handler.bytes(stream.slot, region, region + n);
        if (stream.state !== OPEN) return;
        if (used < n && !this.#keep(stream, region + used, region + n)) return;
      } else {
        if (!this.#keep(stream, region, region + n)) return;
        const kept = stream.in as Kept;
        const used = handler.bytes(stream.slot, kept.start, kept.end);
        if (stream.state !== OPEN) return;
        kept.consume(used);
        if (kept.length === 0) this.#flows.lower(stream.slot, PARTIAL_IN);
      }
      if (secured === undefined) {
        if (n < STREAM_READ) return;
      } else if (!(this.#secure as SecureStreams).hasPending(secured)) return;
    }
    if (secured !== undefined) this.#unread.push(stream);
  }

  #unreadable(stream: RawStream, error: number): void {
    this.#output.lose(stream);
    this.#end(stream, causeOf(error));
  }

  /**
   * Looks at the first octets where the kernel has them, and takes those of a PROXY header alone: what is behind
   * it may be for another reader, as TLS. True: the stream begins here (or the peer has ended it, which a read tells).
   */
  #begins(stream: RawStream, handler: NetHandler): boolean {
    const region = this.#arena.stream;
    const n = this.#io.peekAt(stream.fd, region, MAX_HEADER);
    if (n === 0 || n === -EAGAIN) return n === 0;
    if (n < 0) {
      this.#unreadable(stream, n); // the look has taken the error
      return false;
    }
    const { held } = stream;
    if (held > 0 && !this.#keep(stream, region, region + n)) return false;
    const start = held > 0 ? (stream.in as Kept).start : region;
    const length = this.#proxying.examine(stream.slot, start, start + held + n, stream.seen, handler);
    if (length === REFUSED) {
      this.#end(stream, this.#proxying.cause);
      return false;
    }
    if (length === WAIT) {
      this.#io.recvAt(stream.fd, region, n);
      if (held === 0) this.#keep(stream, region, region + n);
      return false;
    }
    if (length === KEEP_ALIVE) {
      this.#io.recvAt(stream.fd, region, n);
      stream.seen = PING;
      handler.bytes(stream.slot, start, start + PING);
      if (held > 0 && stream.state === OPEN) this.#release(stream);
      return false;
    }
    stream.fresh = false;
    if (length > 0) {
      this.#io.recvAt(stream.fd, region, length - held);
      if (held > 0) this.#release(stream);
    } else if (held > 0) stream.in?.retract(n); // the kernel still has them
    return true;
  }

  /** Bytes of an unfinished message move behind those that are held. False: there is no room, and the stream ends. */
  #keep(stream: RawStream, start: number, end: number): boolean {
    stream.in ??= new Kept(this.#arena.slabs, SENTINEL);
    const isFirst = stream.held === 0;
    if (!stream.in.append(start, end)) {
      this.#end(stream, Cause.TOO_LARGE);
      return false;
    }
    if (isFirst) this.#flows.raise(stream.slot, PARTIAL_IN);
    return true;
  }

  #release(stream: RawStream): void {
    stream.in?.release();
    this.#flows.lower(stream.slot, PARTIAL_IN);
  }

  #discard(stream: RawStream): void {
    for (let round = 0; round < READ_BUDGET; round++) {
      const n = this.#io.recv(stream.fd);
      if (n === -EAGAIN) return;
      if (n <= 0) {
        this.#end(stream, stream.cause);
        return;
      }
    }
  }

  /** Queues `[start, end)` of the out region. False: closed, or closing now because the queue is full. */
  send(slot: number, start: number, end: number): boolean {
    const stream = this.#streams.get(slot);
    if (!stream || stream.state > OPEN) return false;
    if (this.#output.full) {
      this.#arena.flush();
      if (stream.state > OPEN) return false;
    }
    if (stream.first < 0) this.#mark(stream);
    this.#output.queue(stream, start, end);
    return true;
  }

  #mark(stream: RawStream): void {
    this.#dirty.push(stream);
  }

  /** Writes every stream that has output. The out region may be used again afterwards. */
  flush(now: number, handler: NetHandler): void {
    const dirty = this.#dirty;
    for (let i = 0; i < dirty.length; i++) {
      const stream = dirty[i];
      if (stream.state === CLOSED) continue;
      this.#write(stream, handler);
      if (stream.state === DRAINING && stream.waiting === 0) this.#finish(stream, now);
    }
    dirty.length = 0;
    this.#output.emptied();
  }

  #write(stream: RawStream, handler: NetHandler): void {
    const before = stream.waiting;
    const error = this.#output.write(stream);
    if (error !== 0) {
      this.#broken(stream, error);
      return;
    }
    const { waiting } = stream;
    if (waiting === before) return;
    if (before === 0) {
      this.#flows.raise(stream.slot, UNDRAINED_OUT);
      if (stream.state >= OPEN) this.#interest(stream);
    }
    handler.backlog(stream.slot, waiting);
  }

  /** Tells what the last flush lost. True if there was anything: it wants another. */
  reportLost(handler: NetHandler): boolean {
    return this.#output.reportLost(handler);
  }

  #drain(stream: RawStream, now: number, handler: NetHandler): void {
    const error = this.#output.drain(stream);
    if (error !== 0) {
      if (error !== -EAGAIN) this.#broken(stream, error);
      return;
    }
    if (stream.waiting > 0) return;
    this.#flows.lower(stream.slot, UNDRAINED_OUT);
    this.#interest(stream);
    handler.backlog(stream.slot, 0);
    if (stream.state === DRAINING && stream.first < 0) this.#finish(stream, now);
  }

  /** A write failed. A stream that drains was closed for a reason before that. */
  #broken(stream: RawStream, error: number): void {
    if (error === OVERFLOW) {
      this.#counters.inc(Counter.writeQueueOverflow);
      this.#end(stream, Cause.WRITE_QUEUE);
      return;
    }
    const cause = error === -ETIMEDOUT ? Cause.TIMEOUT : error === -EPROTO ? Cause.TLS : Cause.RESET;
    this.#end(stream, stream.state === DRAINING ? stream.cause : cause);
  }

  close(slot: number, cause: number, drain: boolean): void {
    const stream = this.#streams.get(slot);
    if (!stream || stream.state >= DRAINING) return;
    if (!drain || stream.state < OPEN) {
      this.#end(stream, cause);
      return;
    }
    stream.cause = cause;
    stream.state = DRAINING;
    if (stream.held > 0) this.#release(stream);
    this.#interest(stream);
    if (stream.first < 0) this.#mark(stream);
  }

  /** Everything is written: FIN, and wait for the peer's. */
  #finish(stream: RawStream, now: number): void {
    if (stream.secured) this.#secure?.notify(stream.secured);
    if (stream.cause === Cause.PEER_CLOSED) {
      this.#end(stream, stream.cause);
      return;
    }
    shutdownWrite(stream.fd);
    stream.state = LINGERING;
    stream.lingerUntil = now + LINGER_MS;
    this.#lingering.push(stream);
    this.#interest(stream);
  }

  #end(stream: RawStream, cause: number): void {
    if (stream.state === CLOSED) return;
    if (stream.state === HANDSHAKING) this.#handshakes.end(stream);
    else if (stream.secured && stream.state === OPEN && !isBroken(cause))
      this.#secure?.notify(stream.secured);
    stream.state = CLOSED;
    stream.cause = cause;
    stream.in?.release();
    stream.out?.release();
    stream.first = stream.last = -1;
    this.#closed.push(stream);
  }

  /** Ends what lingered too long, closes descriptors, and tells the handler. When to come again, or Infinity. */
  settle(now: number, handler: NetHandler): number {
    let next = this.#expire(now, handler);
    const lingering = this.#lingering;
    if (lingering.length > 0) {
      let kept = 0;
      for (const stream of lingering) {
        if (stream.state !== LINGERING) continue;
        if (stream.lingerUntil <= now) this.#end(stream, stream.cause);
        else {
          lingering[kept++] = stream;
          if (stream.lingerUntil < next) next = stream.lingerUntil;
        }
      }
      lingering.length = kept;
    }
    const closed = this.#closed;
    // What the handler queues when it is told wants a round, and so does what OpenSSL holds.
    if (closed.length > 0 || this.#unread.length > 0) next = now;
    for (let i = 0; i < closed.length; i++) {
      const stream = closed[i];
      this.#streams.delete(stream.slot);
      this.#flows.setFd(stream.slot, -1);
      closeFd(stream.fd);
      if (stream.secured) this.#secure?.free(stream.slot, stream.secured);
      handler.closed(stream.slot, stream.cause);
    }
    closed.length = 0;
    return next;
  }

  /** Closes all at once, without telling: the end of the shard. */
  closeAll(): void {
    for (const { slot, fd, state, secured } of this.#streams.values()) {
      this.#flows.setFd(slot, -1);
      if (secured && state === OPEN) this.#secure?.notify(secured);
      closeFd(fd);
      if (secured) this.#secure?.free(slot, secured);
    }
    this.#streams.clear();
    // Within a round there may be some that wait for its end: their descriptors are closed now.
    for (const list of [this.#dirty, this.#closed, this.#lingering, this.#unread]) list.length = 0;
    this.#handshakes.clear();
  }
}

function causeOf(error: number): number {
  if (error === -ECONNRESET || error === -EPIPE) return Cause.RESET;
  if (error === -ETIMEDOUT) return Cause.TIMEOUT;
  return error === -EPROTO ? Cause.TLS : Cause.IO;
}

/** Has the connection, or OpenSSL's side of it, failed? Then nothing can be said on it any more. */
const isBroken = (cause: number): boolean =>
  cause === Cause.RESET || cause === Cause.TIMEOUT || cause === Cause.TLS || cause === Cause.IO;
