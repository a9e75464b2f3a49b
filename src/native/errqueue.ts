/**
 * The error queue of a UDP socket opened with RECVERR: what ICMP said about datagrams sent earlier,
 * with the address that each was sent to, so that an error is charged to its peer and to nobody else.
 *
 * An entry keeps EPOLLERR raised until it is read (a level-triggered loop spins otherwise), and leaves
 * one error pending on the socket, which the next send or receive returns in place of doing its work;
 * draining the queue clears that too. The kernel drops entries when the receive buffer is full: a peer
 * without an error here is not thereby alive.
 */
import { EAGAIN } from './errno.ts';
import { libc, result } from './libc.ts';
import { Region } from './memory.ts';
import {
  CMSG_DATA,
  CMSG_LEVEL,
  CMSG_TYPE,
  CONTROL_LENGTH,
  CONTROL_POINTER,
  FLAGS,
  IP_RECVERR,
  IPV6_RECVERR,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  NAME_LENGTH,
  NAME_POINTER,
  NAME_ROOM,
  SOL_IP,
  SOL_IPV6,
} from './msghdr.ts';
import { type Address, readSockaddr } from './sockaddr.ts';

/** Values of `origin`: who reported the error. */
export const ORIGIN_ICMP = 2;
export const ORIGIN_ICMP6 = 3;

const NAME = 64;
const CONTROL = NAME + NAME_ROOM;
const CONTROL_ROOM = 256;
/** sock_extended_err: errno 4, origin 1, type 1, code 1, pad 1, info 4, data 4; then the offender */
const EXTENDED_ERROR = 16;

const { recvmsg } = libc;

export class ErrorQueue {
  /** positive, as the ICMP error translates: ECONNREFUSED, EHOSTUNREACH, EMSGSIZE ... */
  errno = 0;
  origin = 0;
  icmpType = 0;
  icmpCode = 0;
  /** the path MTU where errno is EMSGSIZE */
  info = 0;
  /** where the failing datagram was sent */
  readonly to: Address = { family: 4, port: 0, a0: 0, a1: 0, a2: 0, a3: 0 };
  /** the host that reported, if `hasOffender` */
  readonly offender: Address = { family: 4, port: 0, a0: 0, a1: 0, a2: 0, a3: 0 };
  hasOffender = false;

  readonly #view: DataView;
  readonly #words: Int32Array;
  readonly #pointer: bigint;

  constructor() {
    const region = Region.allocate(CONTROL + CONTROL_ROOM);
    this.#view = region.view;
    this.#words = region.words();
    this.#pointer = region.pointer;
    region.store(this.#words, NAME_POINTER, NAME);
    region.store(this.#words, CONTROL_POINTER, CONTROL);
  }

  /** 1: one entry was taken and stands in the fields; 0: the queue is empty; or -errno. */
  next(fd: number): number {
    this.#words[NAME_LENGTH] = NAME_ROOM;
    this.#words[CONTROL_LENGTH] = CONTROL_ROOM;
    this.#words[FLAGS] = 0;
    const n = result(recvmsg(fd, this.#pointer, MSG_ERRQUEUE | MSG_DONTWAIT));
    if (n < 0) return n === -EAGAIN ? 0 : n;
    this.#parse();
    return 1;
  }

  #parse(): void {
    const view = this.#view;
    this.errno = 0;
    this.origin = 0;
    this.icmpType = 0;
    this.icmpCode = 0;
    this.info = 0;
    this.hasOffender = false;
    if (this.#words[NAME_LENGTH] === 0 || !readSockaddr(view, NAME, this.to)) this.to.port = 0;
    const length = this.#words[CONTROL_LENGTH];
    for (let at = 0; at + CMSG_DATA <= length; ) {
      const size = view.getUint32(CONTROL + at, true);
      const level = view.getInt32(CONTROL + at + CMSG_LEVEL, true);
      const type = view.getInt32(CONTROL + at + CMSG_TYPE, true);
      if (size < CMSG_DATA) return;
      if ((level === SOL_IP && type === IP_RECVERR) || (level === SOL_IPV6 && type === IPV6_RECVERR)) {
        this.#extended(CONTROL + at + CMSG_DATA);
      }
      at += (size + 7) & ~7;
    }
  }

  #extended(at: number): void {
    const view = this.#view;
    this.errno = view.getUint32(at, true);
    this.origin = view.getUint8(at + 4);
    this.icmpType = view.getUint8(at + 5);
    this.icmpCode = view.getUint8(at + 6);
    this.info = view.getUint32(at + 8, true);
    this.hasOffender = readSockaddr(view, at + EXTENDED_ERROR, this.offender);
  }
}
