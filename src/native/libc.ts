/**
 * The C functions that Holdfast calls, with the types it calls them by. Sizes are declared u32 and
 * results i32, because u64 would cost a BigInt per call; no buffer here comes near 2 GiB. Pointers are
 * bigint constants (see memory.ts): a typed array as argument would cost about 70 ns more.
 *
 * Measured over the system call itself: some 20 to 80 ns with up to three arguments, some 250 with
 * four or more (node:ffi of 26.10 takes its slower path then). So calls made per message have three.
 *
 * Where node:ffi is missing the module still loads: each function then throws when called, and
 * `unavailable` holds the reason. available.ts is the place that asks first.
 */
import { EIO } from './errno.ts';
import { type Ffi, loadFfi } from './ffi.ts';

const signatures = {
  __errno_location: { return: 'pointer', arguments: [] },
  close: { return: 'i32', arguments: ['i32'] },
  read: { return: 'i32', arguments: ['i32', 'pointer', 'u32'] },
  write: { return: 'i32', arguments: ['i32', 'pointer', 'u32'] },
  // fcntl is variadic in C; for integers both ABIs pass the third argument as if it were not
  fcntl: { return: 'i32', arguments: ['i32', 'i32', 'i32'] },
  eventfd: { return: 'i32', arguments: ['u32', 'i32'] },
  epoll_create1: { return: 'i32', arguments: ['i32'] },
  epoll_ctl: { return: 'i32', arguments: ['i32', 'i32', 'i32', 'pointer'] },
  epoll_wait: { return: 'i32', arguments: ['i32', 'pointer', 'i32', 'i32'] },
  socket: { return: 'i32', arguments: ['i32', 'i32', 'i32'] },
  bind: { return: 'i32', arguments: ['i32', 'pointer', 'u32'] },
  listen: { return: 'i32', arguments: ['i32', 'i32'] },
  connect: { return: 'i32', arguments: ['i32', 'pointer', 'u32'] },
  accept4: { return: 'i32', arguments: ['i32', 'pointer', 'pointer', 'i32'] },
  shutdown: { return: 'i32', arguments: ['i32', 'i32'] },
  getsockname: { return: 'i32', arguments: ['i32', 'pointer', 'pointer'] },
  getpeername: { return: 'i32', arguments: ['i32', 'pointer', 'pointer'] },
  getsockopt: { return: 'i32', arguments: ['i32', 'i32', 'i32', 'pointer', 'pointer'] },
  setsockopt: { return: 'i32', arguments: ['i32', 'i32', 'i32', 'pointer', 'u32'] },
  recvmsg: { return: 'i32', arguments: ['i32', 'pointer', 'i32'] },
  sendmsg: { return: 'i32', arguments: ['i32', 'pointer', 'i32'] },
  recvmmsg: { return: 'i32', arguments: ['i32', 'pointer', 'u32', 'i32', 'pointer'] },
  sendmmsg: { return: 'i32', arguments: ['i32', 'pointer', 'u32', 'i32'] },
  uv_backend_fd: { return: 'i32', arguments: ['pointer'] },
} as const;

type CType = 'i32' | 'u32' | 'pointer';
type Value<T extends CType> = T extends 'pointer' ? bigint : number;
type Values<A extends readonly CType[]> = { -readonly [K in keyof A]: Value<A[K]> };
type Signatures = typeof signatures;

export type Libc = {
  readonly [F in keyof Signatures]: (
    ...args: Values<Signatures[F]['arguments']>
  ) => Value<Signatures[F]['return']>;
};

const ffi = loadFfi();
const bound = typeof ffi === 'string' ? ffi : bind(ffi);

function bind(module: Ffi): Libc | string {
  try {
    return module.dlopen(null, signatures).functions as Libc;
  } catch (error) {
    return `libc cannot be bound: ${(error as Error).message}`;
  }
}

/** Why there are no native calls in this process, or undefined if there are. */
export const unavailable: string | undefined = typeof bound === 'string' ? bound : undefined;

export const libc: Libc = typeof bound === 'string' ? absent(bound) : bound;

function absent(reason: string): Libc {
  const refuse = () => {
    throw new Error(`native I/O is not available: ${reason}`);
  };
  return Object.fromEntries(Object.keys(signatures).map((name) => [name, refuse])) as unknown as Libc;
}

/** errno of this thread, as memory: read it directly after the call, before anything else can run. */
const errno =
  typeof ffi === 'string' || unavailable !== undefined
    ? new Int32Array(1)
    : new Int32Array(ffi.toArrayBuffer(libc.__errno_location(), 4, false));

/** The convention of this folder: what the call returned, or `-errno`; a failure is never 0 (a FIN). */
export function result(returned: number): number {
  return returned < 0 ? -(errno[0] || EIO) : returned;
}
