/**
 * Error numbers of Linux, which are the same on x64 and arm64. Every call in this folder returns
 * `>= 0` or `-errno`, so that a caller compares with a constant: `if (n === -EAGAIN)`.
 *
 * Only the numbers that some code decides on have names as exports; the others still have a word for
 * the log by `errnoName`.
 */
export const EPERM = 1;
export const ENOENT = 2;
export const EINTR = 4;
export const EIO = 5;
export const EBADF = 9;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EEXIST = 17;
export const EINVAL = 22;
export const ENFILE = 23;
export const EMFILE = 24;
export const EPIPE = 32;
export const EPROTO = 71;
export const EMSGSIZE = 90;
export const ENOPROTOOPT = 92;
export const EOPNOTSUPP = 95;
export const EAFNOSUPPORT = 97;
export const EADDRINUSE = 98;
export const EADDRNOTAVAIL = 99;
export const ENETDOWN = 100;
export const ENETUNREACH = 101;
export const ECONNABORTED = 103;
export const ECONNRESET = 104;
export const ENOBUFS = 105;
export const ENOTCONN = 107;
export const ETIMEDOUT = 110;
export const ECONNREFUSED = 111;
export const EHOSTDOWN = 112;
export const EHOSTUNREACH = 113;
export const EALREADY = 114;
export const EINPROGRESS = 115;

const names = new Map<number, string>(
  Object.entries({
    EPERM,
    ENOENT,
    EINTR,
    EIO,
    ENXIO: 6,
    EBADF,
    EAGAIN,
    ENOMEM,
    EACCES,
    EFAULT: 14,
    EBUSY: 16,
    EEXIST,
    ENODEV: 19,
    EINVAL,
    ENFILE,
    EMFILE,
    ENOSPC: 28,
    EPIPE,
    ENOSYS: 38,
    ELOOP: 40,
    EPROTO,
    ENOTSOCK: 88,
    EDESTADDRREQ: 89,
    EMSGSIZE,
    ENOPROTOOPT,
    EPROTONOSUPPORT: 93,
    EOPNOTSUPP,
    EAFNOSUPPORT,
    EADDRINUSE,
    EADDRNOTAVAIL,
    ENETDOWN,
    ENETUNREACH,
    ENETRESET: 102,
    ECONNABORTED,
    ECONNRESET,
    ENOBUFS,
    EISCONN: 106,
    ENOTCONN,
    ETIMEDOUT,
    ECONNREFUSED,
    EHOSTDOWN,
    EHOSTUNREACH,
    EALREADY,
    EINPROGRESS,
    ECANCELED: 125,
  }).map(([name, number]) => [number, name] as const),
);

/** "ECONNREFUSED" for 111 and for -111; "errno 999" for a number without a name here. */
export function errnoName(errno: number): string {
  const number = Math.abs(errno);
  return names.get(number) ?? `errno ${number}`;
}
