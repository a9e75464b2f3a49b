/**
 * The other side of the edge: a registrar that answers each REGISTER with 200 and keeps the Path, and the sender of
 * requests down those Paths. Over UDP one socket; over TCP the connections that the edge opens, on which its requests
 * are answered, and one of our own for ours.
 *
 * Over TCP what one turn has for a connection leaves as one write, as from a server that works in turns too.
 */

import { EPOLLIN, EPOLLOUT, type Epoll } from '../../src/native/epoll.ts';
import { EAGAIN } from '../../src/native/errno.ts';
import type { Address } from '../../src/native/sockaddr.ts';
import {
  accept,
  closeFd,
  connectStream,
  localAddress,
  openListener,
  setNoDelay,
} from '../../src/native/socket.ts';
import { StreamIo } from '../../src/native/stream.ts';
import { CORE } from './clients.ts';
import { DatagramSocket, ipv4, need } from './datagrams.ts';
import { type Desk, MESSAGE_ROOM, STREAM_READ } from './desk.ts';
import type { CoreTransport } from './options.ts';
import type { Reading } from './reading.ts';

/** A whole message, as the Reading says; until this returns `answerPlace` and `answer` reach who sent it. */
export type CoreMessage = (start: number, end: number) => void;

export interface Core {
  readonly address: Address;
  readonly transport: CoreTransport;
  answerPlace(): number;
  answer(at: number, end: number): void;
  /** Where the edge listens for us, as its Path says. */
  aim(edge: Address): void;
  requestPlace(): number;
  request(at: number, end: number): void;
  ready(index: number, events: number): void;
  flush(): void;
  end(): void;
  readonly dropped: number;
}

export interface CoreParts {
  desk: Desk;
  epoll: Epoll;
  /** where to listen; port 0: any */
  at: Address;
  reading: Reading;
  heard: CoreMessage;
}

export const openCore = (transport: CoreTransport, parts: CoreParts): Core =>
  transport === 'udp' ? new UdpCore(parts) : new TcpCore(parts);

class UdpCore implements Core {
  readonly transport = 'udp';
  readonly #socket: DatagramSocket;
  readonly #memory: Buffer;
  readonly #reading: Reading;
  readonly #heard: CoreMessage;
  readonly #from: Address = ipv4('127.0.0.1', 0);
  #edge: Address = ipv4('127.0.0.1', 0);

  constructor({ desk, epoll, at, reading, heard }: CoreParts) {
    this.#socket = new DatagramSocket(desk, at);
    this.#memory = desk.memory;
    this.#reading = reading;
    this.#heard = heard;
    need(epoll.add(this.#socket.fd, EPOLLIN, 0, CORE), 'epoll_ctl');
  }

  get address(): Address {
    return this.#socket.address;
  }

  get dropped(): number {
    return this.#socket.dropped;
  }

  answerPlace(): number {
    return this.#socket.place();
  }

  answer(at: number, end: number): void {
    this.#socket.send(at, end, this.#from);
  }

  aim(edge: Address): void {
    this.#edge = edge;
  }

  requestPlace(): number {
    return this.#socket.place();
  }

  request(at: number, end: number): void {
    this.#socket.send(at, end, this.#edge);
  }

  ready(): void {
    const { receive } = this.#socket;
    const n = this.#socket.read();
    for (let i = 0; i < n; i++) {
      const start = receive.start(i);
      const end = start + receive.length(i);
      if (receive.from(i, this.#from) && this.#reading.read(this.#memory, start, end))
        this.#heard(start, end);
    }
  }

  flush(): void {
    this.#socket.flush();
  }

  end(): void {
    this.#socket.close();
  }
}

/** Output of one connection until the turn ends, and longer where its socket takes less. */
const ROOM = 1 << 18;
/** One of each worker of the edge, and ours. */
const MAX_CONNECTIONS = 72;

interface Connection {
  fd: number;
  out: number;
  length: number;
  rest: Buffer | undefined;
  /** EPOLLOUT is awaited */
  blocked: boolean;
}

class TcpCore implements Core {
  readonly transport = 'tcp';
  readonly address: Address;
  readonly #listener: number;
  readonly #desk: Desk;
  readonly #epoll: Epoll;
  readonly #heard: CoreMessage;
  readonly #io: StreamIo;
  readonly #reading: Reading;
  /** by place in the epoll data; 0 is the listener */
  readonly #connections: Array<Connection | undefined> = [undefined];
  #current!: Connection;
  #own: Connection | undefined;
  dropped = 0;

  constructor({ desk, epoll, at, reading, heard }: CoreParts) {
    this.#desk = desk;
    this.#reading = reading;
    this.#epoll = epoll;
    this.#heard = heard;
    this.#io = new StreamIo(desk.memory, desk.stream, STREAM_READ);
    this.address = { ...at };
    this.#listener = need(openListener(at, 64), 'the listener of the core');
    need(localAddress(this.#listener, this.address), 'its address');
    need(epoll.add(this.#listener, EPOLLIN, 0, CORE), 'epoll_ctl');
  }

  answerPlace(): number {
    return this.#placeOn(this.#current);
  }

  answer(at: number, end: number): void {
    this.#queue(this.#current, at, end);
  }

  aim(edge: Address): void {
    this.#own ??= this.#add(need(connectStream(edge), 'a connection to the edge'));
  }

  requestPlace(): number {
    return this.#placeOn(this.#toEdge());
  }

  request(at: number, end: number): void {
    this.#queue(this.#toEdge(), at, end);
  }

  #toEdge(): Connection {
    if (!this.#own) throw new Error('the edge has closed the connection that the core made to it');
    return this.#own;
  }

  ready(index: number, events: number): void {
    if (index === 0) {
      this.#accept();
      return;
    }
    const connection = this.#connections[index];
    if (!connection) return;
    if (events & EPOLLOUT) this.#write(connection);
    if (events & ~EPOLLOUT) this.#read(connection, index);
  }

  flush(): void {
    for (const connection of this.#connections)
      if (connection && connection.length > 0 && !connection.blocked) this.#write(connection);
  }

  end(): void {
    closeFd(this.#listener);
    for (const connection of this.#connections) if (connection) closeFd(connection.fd);
  }

  #accept(): void {
    const peer = ipv4('127.0.0.1', 0);
    for (let fd = accept(this.#listener, peer); fd >= 0; fd = accept(this.#listener, peer)) this.#add(fd);
  }

  #add(fd: number): Connection {
    const vacant = this.#connections.indexOf(undefined, 1);
    const index = vacant < 0 ? this.#connections.length : vacant;
    if (index > MAX_CONNECTIONS)
      throw new Error('the edge opens more connections to the core than it has workers');
    setNoDelay(fd);
    const connection = { fd, out: this.#desk.claim(ROOM), length: 0, rest: undefined, blocked: false };
    this.#connections[index] = connection;
    need(this.#epoll.add(fd, EPOLLIN, index, CORE), 'epoll_ctl');
    return connection;
  }

  #placeOn(connection: Connection): number {
    if (connection.length > ROOM - MESSAGE_ROOM) this.#write(connection);
    return connection.out + Math.min(connection.length, ROOM - MESSAGE_ROOM);
  }

  #queue(connection: Connection, at: number, end: number): void {
    if (at === connection.out + connection.length) connection.length += end - at;
    else this.dropped++; // there was no room
  }

  #write(connection: Connection): void {
    const { out, length } = connection;
    this.#io.begin();
    this.#io.segment(out, length);
    const sent = length === 0 ? 0 : Math.max(0, this.#io.send(connection.fd));
    this.#desk.memory.copyWithin(out, out + sent, out + length);
    connection.length -= sent;
    this.#await(connection, connection.length > 0);
  }

  #await(connection: Connection, blocked: boolean): void {
    if (connection.blocked === blocked) return;
    connection.blocked = blocked;
    const events = EPOLLIN | (blocked ? EPOLLOUT : 0);
    this.#epoll.modify(connection.fd, events, this.#connections.indexOf(connection), CORE);
  }

  #read(connection: Connection, index: number): void {
    const n = this.#io.recv(connection.fd);
    if (n === -EAGAIN) return;
    if (n <= 0) {
      closeFd(connection.fd);
      this.#connections[index] = undefined;
      if (connection === this.#own) this.#own = undefined;
      return;
    }
    const { memory, stream } = this.#desk;
    const end = stream + n;
    let start = this.#desk.joined(connection.rest);
    this.#current = connection;
    while (start < end && this.#reading.read(memory, start, end)) {
      const next = this.#reading.end;
      this.#heard(start, next);
      start = next;
    }
    const rest = this.#desk.left(start, end);
    if (rest === -1) throw new Error('the edge sends the core what is no SIP');
    connection.rest = rest;
  }
}
