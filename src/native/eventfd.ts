/**
 * eventfd: how one thread wakes another out of epoll_wait. Any number of signals before a drain are one
 * wake-up. The eight bytes that each call needs are preset and shared by all counters of this thread.
 */
import { libc, result } from './libc.ts';
import { Region } from './memory.ts';

const EFD_NONBLOCK = 0o4000;
const EFD_CLOEXEC = 0o2000000;

const { read, write } = libc;
const one = Region.allocate(8);
one.words()[0] = 1;
const onePointer = one.pointer;
const count = Region.allocate(8);
const countWords = count.words();
const countPointer = count.pointer;

/** A new eventfd (non-blocking, close-on-exec), or -errno. */
export function createEventfd(): number {
  return result(libc.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
}

export class EventCounter {
  readonly fd: number;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** Makes the fd readable: 8, or -errno. */
  signal(): number {
    return result(write(this.fd, onePointer, 8));
  }

  /** Takes the count and makes the fd unreadable: the number of signals since the last drain, or -errno. */
  drain(): number {
    const n = result(read(this.fd, countPointer, 8));
    return n < 0 ? n : countWords[0] >>> 0;
  }
}
