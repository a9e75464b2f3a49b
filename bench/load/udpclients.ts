/**
 * UDP clients without a socket each: flow n is port n / 65,536 of a few sockets and address n % 65,536 of
 * 127.64.0.0/16 and the networks behind it. So the server sees as many address pairs as it is asked to hold, and the
 * generator needs sixteen descriptors for a million of them and no memory.
 *
 * The mapped address in each STUN response is compared with the one that the request was sent from.
 */
import { EPOLLIN, type Epoll } from '../../src/native/epoll.ts';
import type { Address } from '../../src/native/sockaddr.ts';
import { CLIENT, type ClientEvents, type Clients } from './clients.ts';
import { DatagramSocket, ipv4, need } from './datagrams.ts';
import type { Desk } from './desk.ts';
import type { Reading } from './reading.ts';
import { writeBinding } from './templates.ts';

const ADDRESS_BITS = 16;
const ADDRESSES = 1 << ADDRESS_BITS;
/** 127.64.0.1 */
const FIRST_SOURCE = 0x7f400001;

const BINDING_SUCCESS = 0x0101;
const XOR_MAPPED_ADDRESS = 0x0020;
const COOKIE = 0x2112a442;
/** 8 octets of an attribute with an IPv4 address, and its head */
const STUN_HEAD = 20;

export class UdpClients implements Clients {
  readonly #sockets: DatagramSocket[] = [];
  readonly #desk: Desk;
  readonly #events: ClientEvents;
  readonly #server: Address;
  readonly #from: Address = ipv4('127.0.0.1', 0);
  readonly #reading: Reading;
  readonly lastError = 0;

  constructor(
    desk: Desk,
    epoll: Epoll,
    flows: number,
    server: Address,
    reading: Reading,
    events: ClientEvents,
  ) {
    this.#reading = reading;
    this.#desk = desk;
    this.#events = events;
    this.#server = server;
    for (let i = 0; i < Math.ceil(flows / ADDRESSES); i++) {
      const socket = new DatagramSocket(desk, ipv4('0.0.0.0', 0));
      this.#sockets.push(socket);
      need(epoll.add(socket.fd, EPOLLIN, i, CLIENT), 'epoll_ctl');
    }
  }

  get dropped(): number {
    return this.#sockets.reduce((all, { dropped }) => all + dropped, 0);
  }

  open(flow: number): void {
    this.#events.opened(flow);
  }

  /** An address pair is. */
  isOpen(): boolean {
    return true;
  }

  place(flow: number): number {
    return this.#sockets[flow >> ADDRESS_BITS].place();
  }

  send(flow: number, at: number, end: number): void {
    this.#from.a3 = FIRST_SOURCE + (flow & (ADDRESSES - 1));
    this.#sockets[flow >> ADDRESS_BITS].send(at, end, this.#server, this.#from);
  }

  ping(flow: number, transaction: number): void {
    const at = this.place(flow);
    this.send(flow, at, writeBinding(this.#desk.memory, at, flow, transaction));
  }

  close(): void {}

  ready(index: number): void {
    const socket = this.#sockets[index];
    const { receive } = socket;
    const { memory } = this.#desk;
    const n = socket.read();
    for (let i = 0; i < n; i++) {
      if (!receive.local(i, this.#from)) continue;
      const flow = (index << ADDRESS_BITS) + this.#from.a3 - FIRST_SOURCE;
      const start = receive.start(i);
      const end = start + receive.length(i);
      if (memory[start] > 1) {
        if (this.#reading.read(memory, start, end)) this.#events.message(flow, start, end);
      } else if (memory.readUInt16BE(start) === BINDING_SUCCESS && this.#isMapped(socket, start, end))
        this.#events.pong(flow, memory.readUInt32BE(start + 12));
    }
  }

  /** Does the response say the address that the flow has? */
  #isMapped({ address }: DatagramSocket, start: number, end: number): boolean {
    const { memory } = this.#desk;
    for (let at = start + STUN_HEAD; at + 12 <= end; at += 4 + ((memory.readUInt16BE(at + 2) + 3) & ~3)) {
      if (memory.readUInt16BE(at) !== XOR_MAPPED_ADDRESS) continue;
      const port = memory.readUInt16BE(at + 6) ^ (COOKIE >>> 16);
      return port === address.port && (memory.readInt32BE(at + 8) ^ COOKIE) === this.#from.a3;
    }
    return false;
  }

  flush(): void {
    for (const socket of this.#sockets) socket.flush();
  }

  end(): void {
    for (const socket of this.#sockets) socket.close();
  }
}
