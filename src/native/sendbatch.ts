/**
 * sendmmsg from preset slots: datagrams are collected by address of their bytes, then sent in one
 * call. The kernel stops at the first that fails, and says so only when that one is the first of a
 * call, so the batch keeps its place: `index` is the datagram that the last error is about.
 *
 *     while (!batch.done) {
 *       const n = batch.send(fd);
 *       if (n >= 0) continue;
 *       if (n === -EAGAIN || n === -ENOBUFS) break;       // keep the rest, or drop it and count
 *       while (errors.next(fd) > 0) charge(errors);       // an ICMP error of an earlier datagram
 *       if (!batch.repeats(n)) batch.skip();              // this one's own error
 *     }
 *
 * With RECVERR a send can fail for the sins of another datagram: the pending error is taken from the
 * socket and this datagram was not sent. `repeats` grants a bounded number of further tries.
 */
import { EAGAIN, EBADF, EINVAL, EMSGSIZE, ENOBUFS, ENOMEM } from './errno.ts';
import { libc, result } from './libc.ts';
import { Region } from './memory.ts';
import {
  CMSG_DATA,
  CMSG_LEVEL,
  CMSG_TYPE,
  CONTROL_LENGTH,
  IOV_LENGTH,
  IP_PKTINFO,
  IPV6_PKTINFO,
  MessageTable,
  MMSGHDR_WORDS,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  NAME_LENGTH,
  SOL_IP,
  SOL_IPV6,
} from './msghdr.ts';
import { type Address, writeSockaddr, writeV6 } from './sockaddr.ts';

/** One more error may arrive between drain and repeat; a stream of them must not hold up the shard. */
const MAX_REPEATS = 3;

/** CMSG_LEN and CMSG_SPACE of in_pktinfo (12 bytes) and in6_pktinfo (20 bytes) */
const PKTINFO_LENGTH = CMSG_DATA + 12;
const PKTINFO_SPACE = 32;
const PKTINFO6_LENGTH = CMSG_DATA + 20;
const PKTINFO6_SPACE = 40;

const { sendmmsg, sendmsg } = libc;

export class SendBatch {
  readonly slots: number;
  readonly #arena: Region;
  readonly #table: MessageTable;
  readonly #words: Int32Array;
  /** the address of each header, since a call may start at any of them */
  readonly #pointers: bigint[] = [];
  #count = 0;
  #sent = 0;
  #repeats = 0;

  constructor(memory: Uint8Array, slots = 64) {
    this.slots = slots;
    this.#arena = new Region(memory);
    this.#table = new MessageTable(slots);
    this.#words = this.#table.words;
    for (let i = 0; i < slots; i++) this.#pointers.push(this.#table.region.at(this.#table.header(i) * 4));
  }

  /** Datagrams added since `reset`. */
  get count(): number {
    return this.#count;
  }

  /** The first datagram not yet sent or skipped; the one that a failing `send` is about. */
  get index(): number {
    return this.#sent;
  }

  get full(): boolean {
    return this.#count === this.slots;
  }

  get done(): boolean {
    return this.#sent === this.#count;
  }

  reset(): void {
    this.#count = 0;
    this.#sent = 0;
    this.#repeats = 0;
  }

  /**
   * Adds `memory[offset, offset + length)` for `to`, from the local address `from` if given (its port
   * is the socket's in any case). The bytes must stand until they are sent. Returns its index, or -1
   * if the batch is full.
   */
  add(offset: number, length: number, to: Address, from?: Address): number {
    if (this.#count === this.slots) return -1;
    const i = this.#count++;
    const header = i * MMSGHDR_WORDS;
    const iovec = this.#table.iovec(i);
    this.#arena.store(this.#words, iovec, offset);
    this.#words[iovec + IOV_LENGTH] = length;
    this.#words[header + NAME_LENGTH] = writeSockaddr(this.#table.view, this.#table.name(i), to);
    this.#words[header + CONTROL_LENGTH] = from ? this.#source(i, from) : 0;
    return i;
  }

  /** One call for what is left: how many it took (then `index` has moved on), or -errno. */
  send(fd: number): number {
    const left = this.#count - this.#sent;
    if (left === 0) return 0;
    const n = left === 1 ? this.#sendOne(fd) : this.#sendMany(fd, left);
    if (n > 0) {
      this.#sent += n;
      this.#repeats = 0;
    }
    return n;
  }

  /**
   * Whether the datagram at `index` deserves another try after `error` (negative, as `send` gave it):
   * not for errors that can only be its own or the socket's, and not for ever.
   */
  repeats(error: number): boolean {
    switch (error) {
      case -EAGAIN:
      case -ENOBUFS:
      case -ENOMEM:
      case -EBADF:
      case -EINVAL:
      case -EMSGSIZE:
        return false;
    }
    return this.#repeats++ < MAX_REPEATS;
  }

  /** Gives up the datagram at `index`. */
  skip(): void {
    if (this.#sent < this.#count) this.#sent++;
    this.#repeats = 0;
  }

  #sendMany(fd: number, left: number): number {
    return result(sendmmsg(fd, this.#pointers[this.#sent], left, MSG_DONTWAIT | MSG_NOSIGNAL));
  }

  /** A mmsghdr begins with its msghdr, and three arguments are cheaper than four (see libc.ts). */
  #sendOne(fd: number): number {
    const n = result(sendmsg(fd, this.#pointers[this.#sent], MSG_DONTWAIT | MSG_NOSIGNAL));
    return n < 0 ? n : 1;
  }

  #source(i: number, from: Address): number {
    const view = this.#table.view;
    const control = this.#table.control(i);
    const data = control + CMSG_DATA;
    if (from.family === 4) {
      view.setUint32(control, PKTINFO_LENGTH, true);
      view.setInt32(control + CMSG_LEVEL, SOL_IP, true);
      view.setInt32(control + CMSG_TYPE, IP_PKTINFO, true);
      view.setInt32(data, 0); // any interface
      view.setInt32(data + 4, from.a3);
      view.setInt32(data + 8, 0);
      return PKTINFO_SPACE;
    }
    view.setUint32(control, PKTINFO6_LENGTH, true);
    view.setInt32(control + CMSG_LEVEL, SOL_IPV6, true);
    view.setInt32(control + CMSG_TYPE, IPV6_PKTINFO, true);
    writeV6(view, data, from);
    view.setInt32(data + 16, 0);
    return PKTINFO6_SPACE;
  }
}
