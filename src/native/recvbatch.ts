/**
 * recvmmsg into preset slots of the shard's arena: up to `slots` datagrams in one call, each with its
 * source and, with packet info, the address of ours that it was sent to. Nothing is allocated per call.
 *
 * A slot's bytes stand until the next `recv`. A socket with RECVERR may answer once with the error of
 * an earlier send (-ECONNREFUSED and its kin): drain the ErrorQueue and call again.
 */
import { libc, result } from './libc.ts';
import { NULL, Region } from './memory.ts';
import {
  CMSG_DATA,
  CMSG_LEVEL,
  CMSG_TYPE,
  CONTROL_LENGTH,
  CONTROL_ROOM,
  FLAGS,
  IOV_LENGTH,
  IP_PKTINFO,
  IPV6_PKTINFO,
  MESSAGE_LENGTH,
  MessageTable,
  MMSGHDR_WORDS,
  MSG_DONTWAIT,
  MSG_TRUNC,
  NAME_LENGTH,
  NAME_ROOM,
  SOL_IP,
  SOL_IPV6,
} from './msghdr.ts';
import { type Address, readSockaddr, readV6, setV4 } from './sockaddr.ts';

/** No UDP payload is longer than 65,527 octets (65,507 on IPv4). */
export const MAX_DATAGRAM = 65536;

const { recvmmsg } = libc;

export class RecvBatch {
  readonly slots: number;
  readonly #offset: number;
  readonly #slotSize: number;
  readonly #controlRoom: number;
  readonly #table: MessageTable;
  readonly #words: Int32Array;
  readonly #pointer: bigint;
  /** slots whose headers the kernel may have rewritten */
  #used: number;

  /** Uses `memory[offset, offset + slots * slotSize)`. */
  constructor(
    memory: Uint8Array,
    offset: number,
    slots = 64,
    slotSize = MAX_DATAGRAM,
    withPktinfo: boolean = false,
  ) {
    if (offset < 0 || offset + slots * slotSize > memory.length) throw new RangeError('receive slots');
    this.slots = slots;
    this.#offset = offset;
    this.#slotSize = slotSize;
    this.#controlRoom = withPktinfo ? CONTROL_ROOM : 0;
    this.#table = new MessageTable(slots);
    this.#words = this.#table.words;
    this.#pointer = this.#table.region.pointer;
    this.#used = slots;
    const arena = new Region(memory);
    for (let i = 0; i < slots; i++) {
      const iovec = this.#table.iovec(i);
      arena.store(this.#words, iovec, this.start(i));
      this.#words[iovec + IOV_LENGTH] = slotSize;
    }
  }

  /** Datagrams received, in slots 0 to n-1; or -errno, -EAGAIN when there are none. */
  recv(fd: number): number {
    const words = this.#words;
    for (let i = 0; i < this.#used; i++) {
      const header = i * MMSGHDR_WORDS;
      words[header + NAME_LENGTH] = NAME_ROOM;
      words[header + CONTROL_LENGTH] = this.#controlRoom;
      words[header + FLAGS] = 0;
    }
    const n = result(recvmmsg(fd, this.#pointer, this.slots, MSG_DONTWAIT, NULL));
    this.#used = n < 0 ? 1 : n === this.slots ? n : n + 1;
    return n;
  }

  /** Offset in `memory` of the i-th datagram. */
  start(i: number): number {
    return this.#offset + i * this.#slotSize;
  }

  length(i: number): number {
    return this.#words[i * MMSGHDR_WORDS + MESSAGE_LENGTH];
  }

  /** The datagram was longer than its slot. */
  truncated(i: number): boolean {
    return (this.#words[i * MMSGHDR_WORDS + FLAGS] & MSG_TRUNC) !== 0;
  }

  from(i: number, out: Address): boolean {
    return readSockaddr(this.#table.view, this.#table.name(i), out);
  }

  /**
   * The local address by which to answer: the datagram's destination, or for a multicast or broadcast
   * one the interface's address (IPv4). The port is left alone. False if packet info is not there.
   */
  local(i: number, out: Address): boolean {
    const view = this.#table.view;
    const control = this.#table.control(i);
    const length = this.#words[i * MMSGHDR_WORDS + CONTROL_LENGTH];
    for (let at = 0; at + CMSG_DATA <= length; ) {
      const level = view.getInt32(control + at + CMSG_LEVEL, true);
      const type = view.getInt32(control + at + CMSG_TYPE, true);
      const data = control + at + CMSG_DATA;
      if (level === SOL_IP && type === IP_PKTINFO) {
        setV4(out, view.getInt32(data + 4)); // in_pktinfo: ifindex, spec_dst, addr
        return true;
      }
      if (level === SOL_IPV6 && type === IPV6_PKTINFO) {
        readV6(view, data, out); // in6_pktinfo: addr, ifindex
        return true;
      }
      const size = view.getUint32(control + at, true);
      if (size < CMSG_DATA) return false;
      at += (size + 7) & ~7;
    }
    return false;
  }
}
