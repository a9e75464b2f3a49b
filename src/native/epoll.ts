/**
 * One epoll instance as seen by one thread. The descriptor may have been made by another thread and
 * outlives this object; the event buffer belongs to it. User data is two int32 words, meant for
 * (slot, generation): an event may be stale, when its fd was closed earlier in the same batch, and only
 * the generation tells.
 *
 * `struct epoll_event` is packed on x64 (12 bytes, data at 4) and not on arm64 (16 bytes, data at 8).
 */
import process from 'node:process';
import { EINTR } from './errno.ts';
import { libc, result } from './libc.ts';
import { NULL, Region } from './memory.ts';

export const EPOLLIN = 0x1;
export const EPOLLOUT = 0x4;
export const EPOLLERR = 0x8;
export const EPOLLHUP = 0x10;
export const EPOLLRDHUP = 0x2000;
export const EPOLLET = 1 << 31;

const EPOLL_CLOEXEC = 0o2000000;
const CTL_ADD = 1;
const CTL_DEL = 2;
const CTL_MOD = 3;

const packed = process.arch === 'x64';
/** in 32-bit words */
const EVENT = packed ? 3 : 4;
const DATA = packed ? 1 : 2;

const { epoll_ctl, epoll_wait } = libc;
const change = Region.allocate(EVENT * 4);
const changeWords = change.words();
const changePointer = change.pointer;

export class Epoll {
  readonly fd: number;
  readonly #max: number;
  readonly #pointer: bigint;
  readonly #words: Int32Array;

  constructor(fd: number, maxEvents = 256) {
    const ready = Region.allocate(maxEvents * EVENT * 4);
    this.fd = fd;
    this.#max = maxEvents;
    this.#pointer = ready.pointer;
    this.#words = ready.words();
  }

  /** A new epoll descriptor (close-on-exec), or -errno. */
  static create(): number {
    return result(libc.epoll_create1(EPOLL_CLOEXEC));
  }

  /** 0, or -errno (EEXIST if it is there already). */
  add(fd: number, events: number, data0: number, data1: number): number {
    return this.#control(CTL_ADD, fd, events, data0, data1);
  }

  modify(fd: number, events: number, data0: number, data1: number): number {
    return this.#control(CTL_MOD, fd, events, data0, data1);
  }

  /** Needed before a close only if the socket lives on under another descriptor. */
  remove(fd: number): number {
    return result(epoll_ctl(this.fd, CTL_DEL, fd, NULL));
  }

  /** How many are ready: at most `maxEvents`, 0 also when a signal ended the wait; or -errno. */
  wait(timeoutMs: number): number {
    const n = result(epoll_wait(this.fd, this.#pointer, this.#max, timeoutMs));
    return n === -EINTR ? 0 : n;
  }

  events(i: number): number {
    return this.#words[i * EVENT];
  }

  data0(i: number): number {
    return this.#words[i * EVENT + DATA];
  }

  data1(i: number): number {
    return this.#words[i * EVENT + DATA + 1];
  }

  #control(operation: number, fd: number, events: number, data0: number, data1: number): number {
    changeWords[0] = events;
    changeWords[DATA] = data0;
    changeWords[DATA + 1] = data1;
    return result(epoll_ctl(this.fd, operation, fd, changePointer));
  }
}
