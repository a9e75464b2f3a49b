/**
 * `struct msghdr`, `mmsghdr`, `iovec` and `cmsghdr` as word offsets: 64-bit Linux, the same on x64 and
 * arm64. Padding words are zeroed at start and stay so, which also satisfies C libraries that declare
 * the lengths as 32 bits plus padding.
 *
 * A MessageTable is an array of mmsghdr with one iovec, one address and one control area each, all of
 * it preset: per message only lengths and the iovec's base are rewritten.
 */
import { Region } from './memory.ts';

/** msghdr, in words */
export const NAME_POINTER = 0;
export const NAME_LENGTH = 2;
export const IOV_POINTER = 4;
export const IOV_COUNT = 6;
export const CONTROL_POINTER = 8;
export const CONTROL_LENGTH = 10;
export const FLAGS = 12;
/** msghdr in bytes */
export const MSGHDR = 56;
/** mmsghdr: a msghdr and the number of bytes moved, in words */
export const MESSAGE_LENGTH = 14;
export const MMSGHDR_WORDS = 16;
/** iovec: base and length, in words */
export const IOV_WORDS = 4;
export const IOV_LENGTH = 2;
/** cmsghdr, in bytes: length 8, level 4, type 4, then the data; the next one is aligned to 8 */
export const CMSG_LEVEL = 8;
export const CMSG_TYPE = 12;
export const CMSG_DATA = 16;

export const SOL_IP = 0;
export const IP_PKTINFO = 8;
export const IP_RECVERR = 11;
export const SOL_IPV6 = 41;
export const IPV6_RECVERR = 25;
export const IPV6_PKTINFO = 50;

export const MSG_PEEK = 0x2;
export const MSG_TRUNC = 0x20;
export const MSG_DONTWAIT = 0x40;
export const MSG_ERRQUEUE = 0x2000;
export const MSG_NOSIGNAL = 0x4000;

/** a sockaddr_in6 is 28 */
export const NAME_ROOM = 32;
/** CMSG_SPACE(in6_pktinfo) is 40 */
export const CONTROL_ROOM = 64;

export class MessageTable {
  readonly slots: number;
  readonly region: Region;
  readonly words: Int32Array;
  readonly view: DataView;
  readonly #iovecs: number;
  readonly #names: number;
  readonly #controls: number;

  constructor(slots: number) {
    this.slots = slots;
    this.#iovecs = slots * MMSGHDR_WORDS * 4;
    this.#names = this.#iovecs + slots * IOV_WORDS * 4;
    this.#controls = this.#names + slots * NAME_ROOM;
    this.region = Region.allocate(this.#controls + slots * CONTROL_ROOM);
    this.words = this.region.words();
    this.view = this.region.view;
    for (let i = 0; i < slots; i++) {
      const header = this.header(i);
      this.region.store(this.words, header + NAME_POINTER, this.name(i));
      this.region.store(this.words, header + IOV_POINTER, this.iovec(i) * 4);
      this.words[header + IOV_COUNT] = 1;
      this.region.store(this.words, header + CONTROL_POINTER, this.control(i));
    }
  }

  /** word index of the i-th mmsghdr */
  header(i: number): number {
    return i * MMSGHDR_WORDS;
  }

  /** word index of its iovec */
  iovec(i: number): number {
    return (this.#iovecs >> 2) + i * IOV_WORDS;
  }

  /** byte offset of its sockaddr */
  name(i: number): number {
    return this.#names + i * NAME_ROOM;
  }

  /** byte offset of its control area */
  control(i: number): number {
    return this.#controls + i * CONTROL_ROOM;
  }
}
