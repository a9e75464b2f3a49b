import { readdirSync, readlinkSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
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
  type UdpOptions,
} from '../../src/native/socket.ts';

/** Sockets on loopback that one test opens, and that are closed after it. */
export class Loopback {
  readonly #opened = new Set<number>();
  readonly #epoll = new Epoll(ok(Epoll.create()), 4);

  own(fd: number): number {
    this.#opened.add(ok(fd));
    return fd;
  }

  closeOne(fd: number): void {
    this.#opened.delete(fd);
    ok(closeFd(fd));
  }

  close(): void {
    for (const fd of this.#opened) closeFd(fd);
    closeFd(this.#epoll.fd);
  }

  udp(address: Address, options: UdpOptions = {}): { fd: number; address: Address } {
    const fd = this.own(openUdp(address, options));
    return { fd, address: bound(fd) };
  }

  /** A connected pair of stream sockets. */
  pair(address = v4('127.0.0.1')): { client: number; server: number; peer: Address } {
    const listener = this.own(openListener(address, 8));
    const client = this.own(connectStream(bound(listener)));
    this.await(listener, EPOLLIN);
    const peer = anyone();
    const server = this.own(accept(listener, peer));
    this.closeOne(listener);
    return { client, server, peer };
  }

  /** The events that come on `fd` among those asked for; throws if there are none within two seconds. */
  await(fd: number, events: number): number {
    ok(this.#epoll.add(fd, events, 0, 0));
    const n = ok(this.#epoll.wait(2000));
    ok(this.#epoll.remove(fd));
    if (n === 0) throw new Error(`no event on fd ${fd}`);
    return this.#epoll.events(0);
  }
}

export function ok(n: number): number {
  if (n < 0) throw new Error(errnoName(n));
  return n;
}

export function anyone(): Address {
  return { family: 0, port: 0, a0: 0, a1: 0, a2: 0, a3: 0 };
}

export function v4(host: string, port = 0): Address {
  const word = host.split('.').reduce((sum, octet) => (sum << 8) | Number(octet), 0);
  return { family: 4, port, a0: 0, a1: 0, a2: 0xffff, a3: word };
}

/** ::1 */
export function v6Loopback(port = 0): Address {
  return { family: 6, port, a0: 0, a1: 0, a2: 0, a3: 1 };
}

export const hasIpv6 = Object.values(networkInterfaces()).some((list) =>
  list?.some((a) => a.address === '::1'),
);

export function bound(fd: number): Address {
  const address = anyone();
  ok(localAddress(fd, address));
  return address;
}

/** The open descriptors of this process and what they are; the directory being read is left out. */
export function openDescriptors(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [`${fd} ${readlinkSync(`/proc/self/fd/${fd}`)}`];
    } catch {
      return [];
    }
  });
}

export function arena(size: number): Uint8Array {
  return new Uint8Array(new SharedArrayBuffer(size));
}
