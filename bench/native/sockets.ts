/** Sockets on loopback for the native benches, and a check for calls that must not fail. */

import { EPOLLIN, Epoll } from '../../src/native/epoll.ts';
import { errnoName } from '../../src/native/errno.ts';
import type { Address } from '../../src/native/sockaddr.ts';
import {
  accept,
  closeFd,
  connectStream,
  localAddress,
  openListener,
  openUdp,
} from '../../src/native/socket.ts';

const LOOPBACK = 0x7f000001;
const PATIENCE_MS = 1000;

export function ok(n: number, what: string): number {
  if (n < 0) throw new Error(`${what}: ${errnoName(n)}`);
  return n;
}

const loopback = (): Address => ({ family: 4, port: 0, a0: 0, a1: 0, a2: 0xffff, a3: LOOPBACK });

export function udp(): { fd: number; address: Address } {
  const address = loopback();
  const fd = ok(openUdp(address), 'a UDP socket');
  ok(localAddress(fd, address), 'its address');
  return { fd, address };
}

/** Both ends of a TCP connection. */
export function streamPair(): { client: number; server: number } {
  const address = loopback();
  const listener = ok(openListener(address, 1), 'a listener');
  ok(localAddress(listener, address), 'its address');
  const client = ok(connectStream(address), 'a connection');
  const epoll = new Epoll(ok(Epoll.create(), 'epoll'), 1);
  ok(epoll.add(listener, EPOLLIN, 0, 0), 'epoll');
  if (epoll.wait(PATIENCE_MS) !== 1) throw new Error('the connection does not arrive');
  const server = ok(accept(listener, loopback()), 'accept');
  closeFd(epoll.fd);
  closeFd(listener);
  return { client, server };
}
