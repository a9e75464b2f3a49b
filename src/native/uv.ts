/**
 * The epoll descriptor of libuv's loop on the calling thread. Nested in a shard's own epoll it becomes
 * readable when libuv has work, so that the shard may sleep in one place. It is only watched: never
 * add to it, read from it or close it. libuv registers new watchers in its own poll phase only, so the
 * descriptor does not yet speak for handles made in this turn.
 */
import { loadFfi } from './ffi.ts';
import { libc } from './libc.ts';

let cached = -1;

/** The descriptor; it stays the same for the life of the thread. Throws where node:ffi is missing. */
export function backendFd(): number {
  if (cached >= 0) return cached;
  const ffi = loadFfi();
  if (typeof ffi === 'string') throw new Error(`native I/O is not available: ${ffi}`);
  cached = libc.uv_backend_fd(ffi.getCurrentEventLoop());
  return cached;
}
