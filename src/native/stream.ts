/**
 * Receive and send on stream sockets, over one arena that is pinned for the life of the thread. All
 * pointers are constants; where an address varies it stands in a preset iovec. No call blocks or
 * raises SIGPIPE. recvmsg is used even for one place: with three arguments it is a third cheaper than
 * recv with four (see libc.ts).
 *
 * One StreamIo serves every stream socket of a shard: it holds no state of any of them. What a socket
 * does not take (a short count, or -EAGAIN) is the caller's to keep until EPOLLOUT.
 */
import { libc, result } from './libc.ts';
import { Region } from './memory.ts';
import {
  IOV_COUNT,
  IOV_LENGTH,
  IOV_POINTER,
  IOV_WORDS,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  MSG_PEEK,
  MSGHDR,
} from './msghdr.ts';

/** Segments in one sendmsg; the kernel allows 1024, and more than a few are rare. */
export const MAX_SEGMENTS = 64;

const IOV = IOV_WORDS * 4;
const { recvmsg, sendmsg } = libc;

export class StreamIo {
  readonly #arena: Region;
  /** three headers, each followed by its iovecs: the fixed receive, the receive anywhere, the send */
  readonly #words: Int32Array;
  readonly #fixed: bigint;
  readonly #anywhere: bigint;
  readonly #anywhereIovec: number;
  readonly #send: bigint;
  readonly #sendHeader: number;
  readonly #sendIovecs: number;
  #segments = 0;
  #bytes = 0;

  /** `recvOffset`, `recvLength`: the part of `memory` that `recv` reads into. */
  constructor(memory: Uint8Array, recvOffset: number, recvLength: number) {
    if (recvOffset < 0 || recvOffset + recvLength > memory.length) throw new RangeError('receive area');
    this.#arena = new Region(memory);
    const one = MSGHDR + IOV;
    const table = Region.allocate(2 * one + MSGHDR + MAX_SEGMENTS * IOV);
    this.#words = table.words();
    for (const header of [0, one, 2 * one]) {
      table.store(this.#words, (header >> 2) + IOV_POINTER, header + MSGHDR);
      this.#words[(header >> 2) + IOV_COUNT] = 1;
    }
    this.#fixed = table.at(0);
    this.#anywhere = table.at(one);
    this.#anywhereIovec = (one + MSGHDR) >> 2;
    this.#send = table.at(2 * one);
    this.#sendHeader = (2 * one) >> 2;
    this.#sendIovecs = (2 * one + MSGHDR) >> 2;
    this.#place(MSGHDR >> 2, recvOffset, recvLength);
  }

  /** Bytes now in the arena at `recvOffset`; 0 is the peer's FIN; or -errno. */
  recv(fd: number): number {
    return result(recvmsg(fd, this.#fixed, MSG_DONTWAIT));
  }

  /** The same, and the bytes stay with the socket: the next `recv` gives them again. */
  peek(fd: number): number {
    return result(recvmsg(fd, this.#fixed, MSG_DONTWAIT | MSG_PEEK));
  }

  /** The same to another place of the arena, for a flow that holds a partial message. */
  recvAt(fd: number, offset: number, length: number): number {
    this.#place(this.#anywhereIovec, offset, length);
    return result(recvmsg(fd, this.#anywhere, MSG_DONTWAIT));
  }

  /** The same, and the bytes stay with the kernel: the next receive has them too. */
  peekAt(fd: number, offset: number, length: number): number {
    this.#place(this.#anywhereIovec, offset, length);
    return result(recvmsg(fd, this.#anywhere, MSG_DONTWAIT | MSG_PEEK));
  }

  /** Starts a new list of segments. */
  begin(): void {
    this.#segments = 0;
    this.#bytes = 0;
  }

  /** Adds `memory[offset, offset + length)`; false if MAX_SEGMENTS are there already. */
  segment(offset: number, length: number): boolean {
    if (this.#segments === MAX_SEGMENTS) return false;
    this.#place(this.#sendIovecs + this.#segments * IOV_WORDS, offset, length);
    this.#segments++;
    this.#bytes += length;
    return true;
  }

  /** Bytes in the list: what `send` returns if the socket takes all. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Bytes taken from the front of the list, maybe fewer than `bytes`; or -errno. The list is unchanged. */
  send(fd: number): number {
    this.#words[this.#sendHeader + IOV_COUNT] = this.#segments;
    return result(sendmsg(fd, this.#send, MSG_DONTWAIT | MSG_NOSIGNAL));
  }

  #place(iovec: number, offset: number, length: number): void {
    this.#arena.store(this.#words, iovec, offset);
    this.#words[iovec + IOV_LENGTH] = length;
  }
}
