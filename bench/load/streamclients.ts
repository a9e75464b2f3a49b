/**
 * Clients on connections: TCP, TLS, and WebSocket over either. A connection is a descriptor, a state, and between two
 * reads what came of an unfinished message; the sources are spread over 4,096 addresses of loopback, so that ports do
 * not run out, not even with those that wait out their end (TIME_WAIT) under churn.
 *
 * A client sends one message at a time and the server reads; so what a socket does not take at once is an error here:
 * the connection is closed and counted.
 */

import { EPOLLIN, EPOLLOUT, type Epoll } from '../../src/native/epoll.ts';
import { EAGAIN, EMSGSIZE, EPROTO } from '../../src/native/errno.ts';
import type { Address } from '../../src/native/sockaddr.ts';
import { closeFd, connectStream, setNoDelay, socketError } from '../../src/native/socket.ts';
import { StreamIo } from '../../src/native/stream.ts';
import { CLIENT, type ClientEvents, type Clients, KIND_BITS } from './clients.ts';
import { hostOf, ipv4 } from './datagrams.ts';
import { type Desk, MESSAGE_ROOM, STREAM_READ } from './desk.ts';
import { CLOSE, FrameHead, frame, PING, PONG, TEXT, upgrade, upgraded } from './frames.ts';
import type { Transport } from './options.ts';
import type { Reading } from './reading.ts';
import type { Sealed } from './sealed.ts';

const CLOSED = 0;
const CONNECTING = 1;
const SHAKING = 2;
const UPGRADING = 3;
const OPEN = 4;

const SOURCES = 4096;
/** 127.96.0.1 */
const FIRST_SOURCE = 0x7f600001;
const READS = 4;
const CR = 13;
const LF = 10;
/** A keep-alive, and what answers it */
const DOUBLE_CRLF = Buffer.from('\r\n\r\n', 'latin1');
/** message room, the head of a frame in front */
const HEAD_ROOM = 16;

export class StreamClients implements Clients {
  readonly #desk: Desk;
  readonly #memory: Buffer;
  readonly #out: number;
  readonly #epoll: Epoll;
  readonly #events: ClientEvents;
  readonly #io: StreamIo;
  readonly #server: Address;
  readonly #web: boolean;
  readonly #sealed: Sealed | undefined;
  readonly #upgrade: Buffer;
  readonly #fds: Int32Array;
  readonly #states: Uint8Array;
  readonly #generations: Uint32Array;
  readonly #rests = new Map<number, Buffer>();
  readonly #reading: Reading;
  readonly #frame = new FrameHead();
  readonly #source: Address = ipv4('127.0.0.1', 0);
  #sources = 0;
  dropped = 0;
  lastError = 0;

  /** `sealed`: for tls and wss. */
  constructor(
    desk: Desk,
    epoll: Epoll,
    flows: number,
    server: Address,
    transport: Transport,
    sealed: Sealed | undefined,
    reading: Reading,
    events: ClientEvents,
  ) {
    this.#reading = reading;
    this.#desk = desk;
    this.#memory = desk.memory;
    this.#out = desk.claim(HEAD_ROOM + MESSAGE_ROOM) + HEAD_ROOM;
    this.#epoll = epoll;
    this.#events = events;
    this.#io = new StreamIo(desk.memory, desk.stream, STREAM_READ);
    this.#server = server;
    this.#web = transport === 'ws' || transport === 'wss';
    this.#sealed = sealed;
    this.#upgrade = upgrade(hostOf(server), server.port);
    this.#fds = new Int32Array(flows).fill(-1);
    this.#states = new Uint8Array(flows);
    this.#generations = new Uint32Array(flows);
  }

  open(flow: number): void {
    this.#source.a3 = FIRST_SOURCE + (this.#sources++ % SOURCES);
    const fd = connectStream(this.#server, this.#source);
    if (fd < 0) {
      this.lastError = fd;
      this.#events.closed(flow, false);
      return;
    }
    setNoDelay(fd);
    this.#fds[flow] = fd;
    this.#states[flow] = CONNECTING;
    this.#generations[flow]++;
    this.#epoll.add(fd, EPOLLOUT, flow, this.#mark(flow));
  }

  isOpen(flow: number): boolean {
    return this.#states[flow] === OPEN;
  }

  place(): number {
    return this.#out;
  }

  send(flow: number, at: number, end: number): void {
    this.#write(flow, this.#web ? frame(this.#memory, TEXT, at, end) : at, end);
  }

  ping(flow: number): void {
    const at = this.#out;
    if (this.#web) this.#write(flow, frame(this.#memory, PING, at, at), at);
    else {
      this.#memory.set(DOUBLE_CRLF, at);
      this.#write(flow, at, at + DOUBLE_CRLF.length);
    }
  }

  close(flow: number): void {
    this.#close(flow, true);
  }

  flush(): void {}

  end(): void {
    for (let flow = 0; flow < this.#fds.length; flow++) this.#close(flow, false);
    this.#sealed?.end();
  }

  // ---- what comes

  ready(flow: number, mark: number): void {
    if (this.#states[flow] === CLOSED || mark !== this.#mark(flow)) return;
    if (this.#states[flow] === CONNECTING && !this.#connected(flow)) return;
    if (this.#states[flow] === SHAKING && !this.#shaken(flow)) return;
    for (let i = 0; i < READS; i++) {
      const n = this.#sealed ? this.#sealed.read(flow) : this.#io.recv(this.#fds[flow]);
      if (n === -EAGAIN) return;
      if (n <= 0) {
        this.#lost(flow, n);
        return;
      }
      this.#take(flow, n);
      if (this.#states[flow] === CLOSED || (n < STREAM_READ && !this.#sealed)) return;
    }
  }

  /** Words of 32 bits: which kind, and which life of this flow. */
  #mark(flow: number): number {
    return (this.#generations[flow] << KIND_BITS) | CLIENT;
  }

  #connected(flow: number): boolean {
    const fd = this.#fds[flow];
    const error = socketError(fd);
    if (error < 0) {
      this.#lost(flow, error);
      return false;
    }
    this.#epoll.modify(fd, EPOLLIN, flow, this.#mark(flow));
    if (this.#sealed) {
      this.#sealed.open(flow, fd);
      this.#states[flow] = SHAKING;
      return true;
    }
    this.#through(flow);
    return false;
  }

  #shaken(flow: number): boolean {
    const n = (this.#sealed as Sealed).shake(flow);
    if (n === -EAGAIN) return false;
    if (n < 0) {
      this.#lost(flow, n);
      return false;
    }
    this.#through(flow);
    return this.#states[flow] !== CLOSED;
  }

  /** The transport stands; a WebSocket is asked for now. */
  #through(flow: number): void {
    if (this.#web) {
      this.#states[flow] = UPGRADING;
      this.#memory.set(this.#upgrade, this.#out);
      this.#write(flow, this.#out, this.#out + this.#upgrade.length);
      return;
    }
    this.#states[flow] = OPEN;
    this.#events.opened(flow);
  }

  /** `n` octets have come, behind what was left of the read before. */
  #take(flow: number, n: number): void {
    const end = this.#desk.stream + n;
    let start = this.#desk.joined(this.#rests.get(flow));
    this.#rests.delete(flow);
    const generation = this.#generations[flow];
    while (start < end) {
      const next = this.#web ? this.#nextFrame(flow, start, end) : this.#nextMessage(flow, start, end);
      if (this.#states[flow] === CLOSED || this.#generations[flow] !== generation) return;
      if (next === 0) break;
      start = next;
    }
    const rest = this.#desk.left(start, end);
    if (rest === -1) this.#lost(flow, -EMSGSIZE);
    else if (rest) this.#rests.set(flow, rest);
  }

  /** Where what is at `start` ends, 0 if it is not there in whole. */
  #nextMessage(flow: number, start: number, end: number): number {
    if (this.#memory[start] === CR || this.#memory[start] === LF) {
      if (end - start < 2) return 0;
      this.#events.pong(flow, -1);
      return start + 2;
    }
    if (!this.#reading.read(this.#memory, start, end)) return 0;
    const next = this.#reading.end;
    this.#events.message(flow, start, next);
    return next;
  }

  #nextFrame(flow: number, start: number, end: number): number {
    if (this.#states[flow] === UPGRADING) {
      const next = upgraded(this.#memory, start, end);
      if (next < 0) this.#lost(flow, -EPROTO);
      else if (next > 0) {
        this.#states[flow] = OPEN;
        this.#events.opened(flow);
      }
      return Math.max(0, next);
    }
    const { opcode, payload, end: next } = this.#frame.read(this.#memory, start, end) ? this.#frame : NOTHING;
    if (opcode === PONG) this.#events.pong(flow, -1);
    else if (opcode === CLOSE) this.#lost(flow, 0);
    else if (opcode === PING) this.#echo(flow, payload, next);
    else if (this.#reading.read(this.#memory, payload, next)) this.#events.message(flow, payload, next);
    return next;
  }

  #echo(flow: number, payload: number, end: number): void {
    this.#memory.copyWithin(this.#out, payload, end);
    const at = this.#out;
    this.#write(flow, frame(this.#memory, PONG, at, at + end - payload), at + end - payload);
  }

  // ---- what goes

  #write(flow: number, at: number, end: number): void {
    const length = end - at;
    const n = this.#send(flow, at, length);
    if (n === length) return;
    this.dropped++;
    this.#lost(flow, Math.min(n, 0));
  }

  #send(flow: number, at: number, length: number): number {
    if (this.#sealed) return this.#sealed.write(flow, at, length);
    this.#io.begin();
    this.#io.segment(at, length);
    return this.#io.send(this.#fds[flow]);
  }

  #lost(flow: number, error: number): void {
    this.lastError = error;
    const wasOpen = this.isOpen(flow);
    this.#close(flow, false);
    this.#events.closed(flow, wasOpen);
  }

  #close(flow: number, politely: boolean): void {
    if (this.#states[flow] === CLOSED) return;
    const shaken = this.#states[flow] > SHAKING;
    this.#states[flow] = CLOSED;
    this.#rests.delete(flow);
    this.#sealed?.close(flow, politely && shaken);
    closeFd(this.#fds[flow]);
    this.#fds[flow] = -1;
  }
}

const NOTHING = { opcode: 0, payload: 0, end: 0 };
