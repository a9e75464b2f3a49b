/**
 * Opening, asking and closing sockets. Every descriptor made here is non-blocking and close-on-exec;
 * every function returns `>= 0` or `-errno`, and one that fails half-way has closed what it opened.
 *
 * Arguments for the kernel stand in one scratch region per thread, so nothing here may be re-entered;
 * nothing can be, since no call comes back into JavaScript.
 */
import { EINPROGRESS } from './errno.ts';
import { libc, result } from './libc.ts';
import { Region } from './memory.ts';
import { type Address, AF_INET, AF_INET6, readSockaddr, SOCKADDR_IN6, writeSockaddr } from './sockaddr.ts';

const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SHUT_WR = 1;
const F_DUPFD_CLOEXEC = 1030;

const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_ERROR = 4;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_LINGER = 13;
const SO_REUSEPORT = 15;
const SO_COOKIE = 57;
const IPPROTO_IP = 0;
const IP_PKTINFO = 8;
const IP_RECVERR = 11;
const IP_BIND_ADDRESS_NO_PORT = 24;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const TCP_USER_TIMEOUT = 18;
const IPPROTO_IPV6 = 41;
const IPV6_RECVERR = 25;
const IPV6_V6ONLY = 26;
const IPV6_RECVPKTINFO = 49;

/** What a burst may pile up while a shard is busy; the kernel caps it at net.core.rmem_max, wmem_max. */
const UDP_BUFFER = 4 << 20;

// scratch: [0, 28) sockaddr, [32, 36) its length, [40, 48) option value, [48, 52) option length
const scratch = Region.allocate(64);
const view = scratch.view;
const words = scratch.words();
const NAME = scratch.at(0);
const NAME_LENGTH = scratch.at(32);
const NAME_LENGTH_WORD = 8;
const OPTION = scratch.at(40);
const OPTION_WORD = 10;
const OPTION_LENGTH = scratch.at(48);
const OPTION_LENGTH_WORD = 12;

export interface UdpOptions {
  /** several sockets on one address, among which the kernel spreads the peers */
  reusePort?: boolean;
  /** family 6 only; default true, whatever the system's default */
  v6only?: boolean;
  /** deliver the destination address of each datagram (RecvBatch.local) */
  pktinfo?: boolean;
}

export interface ListenerOptions {
  reusePort?: boolean;
  v6only?: boolean;
}

/**
 * A bound UDP socket that reports ICMP errors on its error queue (RECVERR): then a send or a receive
 * may fail once with the error of an earlier datagram, see ErrorQueue. No SO_REUSEADDR: on UDP that would let
 * another process take the port over.
 */
export function openUdp(address: Address, options: UdpOptions = {}): number {
  const fd = open(address, SOCK_DGRAM);
  if (fd < 0) return fd;
  setInt(fd, SOL_SOCKET, SO_RCVBUF, UDP_BUFFER);
  setInt(fd, SOL_SOCKET, SO_SNDBUF, UDP_BUFFER);
  let error = 0;
  if (options.reusePort) error ||= setInt(fd, SOL_SOCKET, SO_REUSEPORT, 1);
  error ||= setInt(fd, IPPROTO_IP, IP_RECVERR, 1);
  if (address.family === 6) {
    error ||= setInt(fd, IPPROTO_IPV6, IPV6_V6ONLY, options.v6only === false ? 0 : 1);
    error ||= setInt(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
    if (options.pktinfo) error ||= setInt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
  } else if (options.pktinfo) {
    error ||= setInt(fd, IPPROTO_IP, IP_PKTINFO, 1);
  }
  error ||= bindTo(fd, address);
  return error < 0 ? abandon(fd, error) : fd;
}

/** A listening TCP socket; SO_REUSEADDR, so that a restart is not held up by TIME_WAIT. */
export function openListener(address: Address, backlog: number, options: ListenerOptions = {}): number {
  const fd = open(address, SOCK_STREAM);
  if (fd < 0) return fd;
  let error = setInt(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (options.reusePort) error ||= setInt(fd, SOL_SOCKET, SO_REUSEPORT, 1);
  if (address.family === 6) {
    error ||= setInt(fd, IPPROTO_IPV6, IPV6_V6ONLY, options.v6only === false ? 0 : 1);
  }
  error ||= bindTo(fd, address);
  error ||= result(libc.listen(fd, backlog));
  return error < 0 ? abandon(fd, error) : fd;
}

/** The next connection of the backlog and its peer's address; -EAGAIN if there is none. */
export function accept(listenFd: number, out: Address): number {
  words[NAME_LENGTH_WORD] = SOCKADDR_IN6;
  const fd = result(libc.accept4(listenFd, NAME, NAME_LENGTH, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (fd >= 0) readSockaddr(view, 0, out);
  return fd;
}

/**
 * A TCP socket whose connect is under way: it becomes writable when it is settled, and `socketError`
 * then says how. `local` with port 0 fixes the source address only.
 */
export function connectStream(address: Address, local?: Address): number {
  const fd = open(address, SOCK_STREAM);
  if (fd < 0) return fd;
  let error = 0;
  if (local) {
    if (local.port === 0) setInt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    error = bindTo(fd, local);
  }
  if (error === 0) {
    const length = writeSockaddr(view, 0, address);
    error = result(libc.connect(fd, NAME, length));
    if (error === -EINPROGRESS) error = 0;
  }
  return error < 0 ? abandon(fd, error) : fd;
}

/** The pending error, which this clears: 0 or -errno. */
export function socketError(fd: number): number {
  const error = getOption(fd, SOL_SOCKET, SO_ERROR, 4);
  return error < 0 ? error : 0 - words[OPTION_WORD];
}

export function localAddress(fd: number, out: Address): number {
  words[NAME_LENGTH_WORD] = SOCKADDR_IN6;
  const error = result(libc.getsockname(fd, NAME, NAME_LENGTH));
  if (error === 0) readSockaddr(view, 0, out);
  return error;
}

export function peerAddress(fd: number, out: Address): number {
  words[NAME_LENGTH_WORD] = SOCKADDR_IN6;
  const error = result(libc.getpeername(fd, NAME, NAME_LENGTH));
  if (error === 0) readSockaddr(view, 0, out);
  return error;
}

export function setNoDelay(fd: number): number {
  return setInt(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

/** How long written bytes may stay unacknowledged before the kernel ends the connection (ETIMEDOUT). */
export function setUserTimeout(fd: number, ms: number): number {
  return setInt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, ms);
}

/** The next close sends RST and leaves nothing behind, neither unsent bytes nor TIME_WAIT. */
export function setLinger0(fd: number): number {
  words[OPTION_WORD] = 1;
  words[OPTION_WORD + 1] = 0;
  return result(libc.setsockopt(fd, SOL_SOCKET, SO_LINGER, OPTION, 8));
}

/** Send and receive buffer of one socket, in bytes asked for; the kernel doubles and caps them. */
export function setBuffers(fd: number, sendBytes: number, receiveBytes: number): number {
  return setInt(fd, SOL_SOCKET, SO_SNDBUF, sendBytes) || setInt(fd, SOL_SOCKET, SO_RCVBUF, receiveBytes);
}

/** Sends FIN; what the peer still sends can be read. */
export function shutdownWrite(fd: number): number {
  return result(libc.shutdown(fd, SHUT_WR));
}

/** Never repeated on EINTR: Linux has released the number by then, and another thread may own it. */
export function closeFd(fd: number): number {
  return result(libc.close(fd));
}

/** The socket's identity for as long as the kernel runs, into two words; a reused fd number has another. */
export function cookie(fd: number, out: Int32Array): number {
  const error = getOption(fd, SOL_SOCKET, SO_COOKIE, 8);
  if (error < 0) return error;
  out[0] = words[OPTION_WORD];
  out[1] = words[OPTION_WORD + 1];
  return 0;
}

/** A second descriptor (close-on-exec) of the same socket, or -errno. */
export function duplicate(fd: number): number {
  return result(libc.fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

function open(address: Address, type: number): number {
  const domain = address.family === 4 ? AF_INET : AF_INET6;
  return result(libc.socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

function bindTo(fd: number, address: Address): number {
  return result(libc.bind(fd, NAME, writeSockaddr(view, 0, address)));
}

function abandon(fd: number, error: number): number {
  libc.close(fd);
  return error;
}

function setInt(fd: number, level: number, name: number, value: number): number {
  words[OPTION_WORD] = value;
  return result(libc.setsockopt(fd, level, name, OPTION, 4));
}

function getOption(fd: number, level: number, name: number, length: number): number {
  words[OPTION_LENGTH_WORD] = length;
  return result(libc.getsockopt(fd, level, name, OPTION, OPTION_LENGTH));
}
