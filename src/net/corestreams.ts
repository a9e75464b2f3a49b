/**
 * Streams of one shard on the core backend, TCP and (with coresecure.ts) TLS: their life and their input. They are Node
 * sockets that read by `onread` into the region of the arena that all of them share, with the guarantees of
 * rawstreams.ts. Bytes go out in the order in which they were queued (coreoutput.ts); a reader that is too slow is
 * closed with WRITE_QUEUE; `closed` is told once and never from inside a call of the handler's own.
 *
 * A secured stream is told of when its handshake is done; time and number of handshakes are bounded as there.
 * TLS sockets cannot read into the region: their bytes are copied there.
 *
 * libuv closes the descriptor: the record says NODE_OWNED_FD and has none.
 */
import net from 'node:net';
import { TLSSocket } from 'node:tls';
import { Cause } from '../shared/cause.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { isSecured, NODE_OWNED_FD, PARTIAL_IN, UNDRAINED_OUT } from '../shared/flow-record.ts';
import type { FlowTable } from '../shared/flow-table.ts';
import { type Arena, STREAM_READ } from './arena.ts';
import { CoreFronts } from './corefronts.ts';
import { BROKEN, CoreOutput } from './coreoutput.ts';
import { CoreSecure } from './coresecure.ts';
import { CoreStream } from './corestream.ts';
import { Endpoint } from './endpoint.ts';
import { Handshakes } from './handshakes.ts';
import type { Hosts } from './hosts.ts';
import type { NetHandler } from './net.ts';
import { PING } from './proxyheader.ts';
import { KEEP_ALIVE, Proxying, REFUSED, WAIT } from './proxying.ts';
import { OVERFLOW } from './segments.ts';
import type { Serving } from './serving.ts';
import { CLOSED, CONNECTING, DRAINING, HANDSHAKING, LINGER_MS, LINGERING, OPEN } from './streamstate.ts';

const EPROTO = 71;

export interface CoreStreamsOptions {
  arena: Arena;
  flows: FlowTable;
  counters: Counters;
  hosts: Hosts;
  now: () => number;
  /** something happened that wants a turn */
  woken: () => void;
}

export class CoreStreams {
  handler!: NetHandler;
  readonly #arena: Arena;
  readonly #flows: FlowTable;
  readonly #counters: Counters;
  readonly #hosts: Hosts;
  readonly #now: () => number;
  readonly #woken: () => void;
  /** what all sockets read into; a read is handed up before the next one can happen */
  readonly #region: Uint8Array;
  readonly #streams = new Map<number, CoreStream>();
  readonly #output: CoreOutput;
  readonly #dirty: CoreStream[] = [];
  readonly #closed: CoreStream[] = [];
  readonly #lingering: CoreStream[] = [];
  readonly #handshakes = new Handshakes<CoreStream>();
  #secure: CoreSecure | undefined;
  readonly #address = new Endpoint();
  readonly #proxying: Proxying;
  readonly #fronts: CoreFronts;

  constructor(options: CoreStreamsOptions) {
    this.#arena = options.arena;
    this.#flows = options.flows;
    this.#counters = options.counters;
    this.#hosts = options.hosts;
    this.#now = options.now;
    this.#proxying = new Proxying(options.arena.mem, options.flows, options.counters);
    this.#fronts = new CoreFronts(options.arena, options.flows, this.#proxying);
    this.#output = new CoreOutput(options.arena, options.now);
    this.#woken = options.woken;
    this.#region = options.arena.mem.subarray(options.arena.stream, options.arena.stream + STREAM_READ);
  }

  isOpen(slot: number): boolean {
    const stream = this.#streams.get(slot);
    return stream !== undefined && stream.state <= OPEN && this.#flows.generation(slot) === stream.generation;
  }

  set serving(serving: Serving) {
    this.#secure = new CoreSecure(serving);
  }

  identities(slot: number): readonly string[] | undefined {
    return this.#streams.get(slot)?.identities;
  }

  /** Serves the connection of an accepted handle under the claimed record. */
  accepted(slot: number, handle: unknown): void {
    const stream = this.#make(slot, handle);
    stream.fresh = this.#proxying.awaits(slot);
    this.#setLocal(stream);
    this.handler.opened(slot);
    this.#woken();
  }

  /** The same through a handshake. False: there are too many, or no certificate. */
  acceptedSecured(slot: number, raw: net.Socket): boolean {
    const secure = this.#secure;
    if (!secure || this.#handshakes.isFull || this.#fronts.isFull) {
      this.#counters.inc(Counter.tlsRefused);
      return false;
    }
    if (this.#proxying.awaits(slot))
      this.#fronts.read(slot, raw, this.handler, () => this.#secureIt(slot, raw, secure));
    else this.#secureIt(slot, raw, secure);
    return true;
  }

  #secureIt(slot: number, raw: net.Socket, secure: CoreSecure): void {
    const socket = secure.accept(raw);
    if (!socket) {
      this.#counters.inc(Counter.tlsRefused);
      this.#flows.abandon(slot, Cause.TLS);
      raw.resetAndDestroy();
      return;
    }
    const stream = this.#watchSecured(slot, socket);
    this.#awaitHandshake(stream);
    this.#setLocal(stream);
    socket.once('secure', () => {
      if (stream.state !== HANDSHAKING) return;
      const reason = secure.refuses(socket);
      if (reason !== '') {
        this.#failedHandshake(stream, reason);
        return;
      }
      stream.identities = secure.identitiesOf(socket);
      this.#shaken(stream, socket);
      this.handler.opened(slot);
    });
  }

  #awaitHandshake(stream: CoreStream): void {
    stream.state = HANDSHAKING;
    this.#handshakes.begin(stream, this.#now());
    this.#woken();
  }

  #shaken(stream: CoreStream, socket: TLSSocket): void {
    this.#handshakes.end(stream);
    stream.state = OPEN;
    this.#counters.inc(Counter.tlsHandshakes);
    if (socket.isSessionReused()) this.#counters.inc(Counter.tlsResumed);
    this.#woken();
  }

  /** The handshake is not done and will not be. */
  #unshaken(stream: CoreStream, reason: string): void {
    this.handler.unsecured(stream.slot, reason);
    if (stream.host === undefined) this.#end(stream, Cause.TLS);
    else this.#unconnected(stream, EPROTO);
  }

  /** 0: how it ends comes by `connected`. */
  dial(slot: number, to: Endpoint, host: string, from: Endpoint | undefined): number {
    const address = { host: this.#hosts.text(to), port: to.port, ...(from && { localAddress: from.host }) };
    if (isSecured(this.#flows.transport(slot))) return this.#dialSecured(slot, address, host);
    const stream = this.#make(slot, undefined);
    stream.state = CONNECTING;
    stream.socket.setNoDelay(true);
    stream.socket.connect(address);
    stream.socket.once('connect', () => this.#connected(stream));
    return 0;
  }

  #dialSecured(slot: number, address: net.TcpNetConnectOpts, host: string): number {
    if (!this.#secure) return EPROTO;
    const socket = this.#secure.connect(address, host);
    const stream = this.#watchSecured(slot, socket);
    stream.state = CONNECTING;
    stream.host = host;
    socket.setNoDelay(true);
    socket.once('connect', () => {
      if (stream.state === CONNECTING) this.#awaitHandshake(stream);
    });
    socket.once('secureConnect', () => {
      if (stream.state !== HANDSHAKING) return;
      const reason = CoreSecure.mistaken(socket, host);
      if (reason !== '') {
        this.#failedHandshake(stream, reason);
        return;
      }
      this.#shaken(stream, socket);
      stream.state = CONNECTING;
      this.#connected(stream);
    });
    return 0;
  }

  #watchSecured(slot: number, socket: TLSSocket): CoreStream {
    const stream = this.#watch(slot, socket);
    const region = this.#region;
    socket.on('data', (chunk: Buffer) => {
      for (let at = 0; at < chunk.length; at += STREAM_READ) {
        const piece = chunk.subarray(at, at + STREAM_READ);
        region.set(piece);
        this.#read(stream, piece.length);
      }
    });
    return stream;
  }

  #make(slot: number, handle: unknown): CoreStream {
    const options: net.SocketConstructorOpts = {
      allowHalfOpen: true,
      onread: {
        buffer: this.#region,
        callback: (n: number): boolean => {
          this.#read(stream, n);
          return true;
        },
      },
    };
    if (handle) options.handle = handle as net.BoundSocket;
    const stream: CoreStream = this.#watch(slot, new net.Socket(options));
    return stream;
  }

  #watch(slot: number, socket: net.Socket): CoreStream {
    const stream: CoreStream = new CoreStream(
      slot,
      this.#flows.generation(slot),
      socket,
      this.#arena.slabs,
      (): void => this.#written(stream),
    );
    socket.on('end', () => this.#ended(stream));
    socket.on('error', (error: NodeJS.ErrnoException) => this.#failed(stream, error));
    socket.on('close', () => {
      if (stream.state === HANDSHAKING) this.#failedHandshake(stream, 'the peer has closed');
      else if (stream.state !== CLOSED) this.#end(stream, stream.cause || Cause.PEER_CLOSED);
    });
    this.#flows.setFd(slot, -1);
    this.#flows.raise(slot, NODE_OWNED_FD);
    this.#streams.set(slot, stream);
    return stream;
  }

  #setLocal(stream: CoreStream): void {
    const { localAddress, localPort } = stream.socket;
    const at = this.#address;
    if (localAddress && localPort && this.#hosts.parse(localAddress, localPort, at))
      this.#flows.setLocal(stream.slot, at.a0, at.a1, at.a2, at.a3, at.port);
  }

  #connected(stream: CoreStream): void {
    if (stream.state !== CONNECTING) return;
    stream.state = OPEN;
    this.#setLocal(stream);
    this.handler.connected(stream.slot, 0);
    if (stream.state < LINGERING && stream.out.length > 0) this.#drain(stream);
    this.#woken();
  }

  #read(stream: CoreStream, n: number): void {
    if (stream.state !== OPEN) return;
    const { in: kept, slot } = stream;
    const start = this.#arena.stream;
    this.#woken();
    if (kept.length === 0) {
      this.handler.tick();
      const used = this.#taken(stream, start, start + n);
      if (stream.state !== OPEN || used >= n) return;
      if (!kept.append(start + used, start + n)) this.#end(stream, Cause.TOO_LARGE);
      else this.#flows.raise(slot, PARTIAL_IN);
      return;
    }
    if (!kept.append(start, start + n)) {
      this.#end(stream, Cause.TOO_LARGE);
      return;
    }
    this.handler.tick();
    const used = this.#taken(stream, kept.start, kept.end);
    if (stream.state !== OPEN) return;
    kept.consume(used);
    if (kept.length === 0) this.#flows.lower(slot, PARTIAL_IN);
  }

  /** How many of the bytes are used up: by a PROXY header in front, and by the handler. */
  #taken(stream: CoreStream, start: number, end: number): number {
    if (!stream.fresh) return this.handler.bytes(stream.slot, start, end);
    const length = this.#proxying.examine(stream.slot, start, end, stream.seen, this.handler);
    if (length === WAIT) return 0;
    if (length === REFUSED) {
      this.#end(stream, this.#proxying.cause);
      return 0;
    }
    if (length === KEEP_ALIVE) {
      stream.seen = PING;
      return this.handler.bytes(stream.slot, start, end);
    }
    stream.fresh = false;
    if (start + length === end) return length;
    return length + this.handler.bytes(stream.slot, start + length, end);
  }

  #ended(stream: CoreStream): void {
    stream.peerEnded = true;
    if (stream.state === HANDSHAKING) this.#failedHandshake(stream, 'the peer has closed');
    else if (stream.state === OPEN) this.close(stream.slot, Cause.PEER_CLOSED, true);
    else if (stream.state === LINGERING) this.#end(stream, stream.cause);
  }

  #failedHandshake(stream: CoreStream, reason: string): void {
    this.#counters.inc(Counter.tlsFailures);
    this.#unshaken(stream, reason);
  }

  #unconnected(stream: CoreStream, error: number): void {
    // It may fail before the flush of the turn that dialled.
    if (stream.first >= 0) this.#write(stream);
    this.handler.connected(stream.slot, error);
    const { out } = stream;
    if (out.length > 0) this.handler.unsent(stream.slot, out.start, out.end);
    this.#end(stream, Cause.CONNECT_FAILED);
  }

  #failed(stream: CoreStream, error: NodeJS.ErrnoException): void {
    if (stream.state === CONNECTING) this.#unconnected(stream, Math.abs(error.errno ?? 0) || 1);
    else if (stream.state === HANDSHAKING) this.#failedHandshake(stream, error.message);
    else {
      this.#output.lose(stream);
      this.#broken(stream, error);
    }
  }

  /** A stream that drains was closed for a reason before its connection broke. */
  #broken(stream: CoreStream, error: NodeJS.ErrnoException): void {
    this.#end(stream, stream.state === OPEN ? causeOf(error) : stream.cause);
  }

  /** Tells what the last flush lost. True if there was anything: it wants another. */
  reportLost(): boolean {
    return this.#output.reportLost(this.handler);
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

  #mark(stream: CoreStream): void {
    this.#dirty.push(stream);
    this.#woken();
  }

  /** Writes every stream that has output. The out region may be used again afterwards. */
  flush(): void {
    const dirty = this.#dirty;
    for (let i = 0; i < dirty.length; i++) {
      const stream = dirty[i];
      if (stream.state === CLOSED) continue;
      if (stream.first >= 0) this.#write(stream);
      if (stream.state === DRAINING && stream.waiting === 0) this.#finish(stream);
    }
    dirty.length = 0;
    this.#output.emptied();
  }

  #write(stream: CoreStream): void {
    const outcome = this.#output.write(stream);
    if (outcome === OVERFLOW) {
      this.#counters.inc(Counter.writeQueueOverflow);
      this.#end(stream, Cause.WRITE_QUEUE);
      return;
    }
    if (outcome === BROKEN) {
      this.#broken(stream, stream.socket.errored as Error);
      return;
    }
    if (stream.waiting === 0) return;
    this.#flows.raise(stream.slot, UNDRAINED_OUT);
    this.handler.backlog(stream.slot, stream.waiting);
  }

  #written(stream: CoreStream): void {
    // Writes that ended within their call come here too, later.
    if (stream.inFlight === 0 || stream.state === CLOSED || stream.socket.writableLength > 0) return;
    stream.inFlight = 0;
    this.#drain(stream);
  }

  #drain(stream: CoreStream): void {
    if (!this.#output.drain(stream)) return;
    this.#flows.lower(stream.slot, UNDRAINED_OUT);
    this.handler.backlog(stream.slot, 0);
    if (stream.state === DRAINING && stream.first < 0) this.#finish(stream);
    this.#woken();
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
    stream.in.release();
    this.#flows.lower(slot, PARTIAL_IN);
    if (stream.first < 0) this.#mark(stream);
  }

  /** Everything is written: FIN, and wait for the peer's. */
  #finish(stream: CoreStream): void {
    if (stream.peerEnded) {
      this.#end(stream, stream.cause);
      return;
    }
    stream.socket.end();
    stream.state = LINGERING;
    stream.lingerUntil = this.#now() + LINGER_MS;
    this.#lingering.push(stream);
    this.#woken();
  }

  #end(stream: CoreStream, cause: number): void {
    if (stream.state === CLOSED) return;
    stream.state = CLOSED;
    stream.cause = cause;
    stream.in.release();
    stream.out.release();
    stream.first = stream.last = -1;
    this.#output.forget(stream);
    this.#handshakes.end(stream);
    this.#closed.push(stream);
    this.#woken();
  }

  /** Ends what lingered or stood still too long, closes sockets, and tells the handler. When to come again, or Infinity. */
  settle(now: number): number {
    let next = Number.POSITIVE_INFINITY;
    const lingering = this.#lingering;
    let kept = 0;
    for (const stream of lingering) {
      if (stream.state !== LINGERING) continue;
      if (stream.lingerUntil <= now) this.#end(stream, stream.cause);
      else {
        lingering[kept++] = stream;
        next = Math.min(next, stream.lingerUntil);
      }
    }
    lingering.length = kept;
    const handshake = this.#handshakes.expire(now, (stream) => {
      this.#counters.inc(Counter.tlsTimeouts);
      this.#unshaken(stream, 'no handshake in its time');
    });
    next = Math.min(next, handshake);
    const still = this.#output.expire(now, (stream) =>
      this.#end(stream, stream.state === OPEN ? Cause.TIMEOUT : stream.cause),
    );
    next = Math.min(next, still);
    const closed = this.#closed;
    // What the handler queues when it is told wants a turn.
    if (closed.length > 0) next = now;
    for (let i = 0; i < closed.length; i++) {
      const stream = closed[i];
      this.#streams.delete(stream.slot);
      stream.socket.destroy();
      this.handler.closed(stream.slot, stream.cause);
    }
    closed.length = 0;
    return next;
  }

  /** Closes all at once, without telling: the end of the shard. */
  closeAll(): void {
    this.#fronts.destroyAll();
    for (const stream of this.#streams.values()) {
      const { state, socket } = stream;
      stream.state = CLOSED;
      if (socket instanceof TLSSocket && state === OPEN) socket.end(); // close_notify
      socket.destroy();
    }
    this.#streams.clear();
    this.#output.clear();
    this.#handshakes.clear();
    for (const list of [this.#dirty, this.#closed, this.#lingering]) list.length = 0;
  }
}

function causeOf(error: NodeJS.ErrnoException): number {
  if (error.code === 'ETIMEDOUT') return Cause.TIMEOUT;
  if (error.code?.startsWith('ERR_SSL')) return Cause.TLS;
  if (error.code === 'ECONNRESET' || error.code === 'EPIPE' || error.syscall === 'write') return Cause.RESET;
  return Cause.IO;
}
