/**
 * recv and sendmsg on stream sockets, over one arena that is pinned for the life of the thread. All
 * pointers are constants; where an address varies it stands in a preset iovec. Neither call blocks or
 * raises SIGPIPE.
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
  MSGHDR,
} from './msghdr.ts';

/** Segments in one sendmsg; the kernel allows 1024, and more than a few are rare. */
export const MAX_SEGMENTS = 64;

const HEADER_WORDS = MSGHDR >> 2;
const { recv, recvmsg, sendmsg } = libc;

export class StreamIo {
  readonly #arena: Region;
  readonly #recvPointer: bigint;
  readonly #recvLength: number;
  readonly #header: bigint;
  readonly #words: Int32Array;
  #segments = 0;
  #bytes = 0;

  /** `recvOffset`, `recvLength`: the part of `memory` that `recv` reads into. */
  constructor(memory: Uint8Array, recvOffset: number, recvLength: number) {
    if (recvOffset < 0 || recvOffset + recvLength > memory.length) throw new RangeError('receive area');
    this.#arena = new Region(memory);
    this.#recvPointer = this.#arena.at(recvOffset);
    this.#recvLength = recvLength;
    const table = Region.allocate(MSGHDR + MAX_SEGMENTS * IOV_WORDS * 4);
    this.#words = table.words();
    this.#header = table.pointer;
    table.store(this.#words, IOV_POINTER, MSGHDR);
  }

  /** Bytes now in the arena at `recvOffset`; 0 is the peer's FIN; or -errno. */
  recv(fd: number): number {
    return result(recv(fd, this.#recvPointer, this.#recvLength, MSG_DONTWAIT));
  }

  /** The same to another place of the arena, for a flow that holds a partial message. Ends a `begin`. */
  recvAt(fd: number, offset: number, length: number): number {
    this.begin();
    this.segment(offset, length);
    this.#words[IOV_COUNT] = 1;
    const n = result(recvmsg(fd, this.#header, MSG_DONTWAIT));
    this.begin();
    return n;
  }

  /** Starts a new list of segments. */
  begin(): void {
    this.#segments = 0;
    this.#bytes = 0;
  }

  /** Adds `memory[offset, offset + length)`; false if MAX_SEGMENTS are there already. */
  segment(offset: number, length: number): boolean {
    if (this.#segments === MAX_SEGMENTS) return false;
    const iovec = HEADER_WORDS + this.#segments * IOV_WORDS;
    this.#arena.store(this.#words, iovec, offset);
    this.#words[iovec + IOV_LENGTH] = length;
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
    this.#words[IOV_COUNT] = this.#segments;
    return result(sendmsg(fd, this.#header, MSG_DONTWAIT | MSG_NOSIGNAL));
  }
}
