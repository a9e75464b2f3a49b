import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EPOLLIN, EPOLLOUT } from '../../src/native/epoll.ts';
import {
  EACCES,
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAGAIN,
  EBADF,
  ECONNREFUSED,
  ENETUNREACH,
} from '../../src/native/errno.ts';
import { RecvBatch, SendBatch } from '../../src/native/mmsg.ts';
import {
  accept,
  connectStream,
  cookie,
  duplicate,
  openListener,
  openUdp,
  peerAddress,
  setNoDelay,
  setUserTimeout,
  socketError,
} from '../../src/native/socket.ts';
import { StreamIo } from '../../src/native/stream.ts';
import { anyone, arena, bound, hasIpv6, Loopback, ok, openDescriptors, v4, v6Loopback } from './loopback.ts';

let net: Loopback;
beforeEach(() => {
  net = new Loopback();
});
afterEach(() => net.close());

const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;

function flags(fd: number): number {
  const text = /^flags:\s*([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'));
  return Number.parseInt(text?.[1] ?? '', 8) & (O_NONBLOCK | O_CLOEXEC);
}

describe('sockets', () => {
  it('never block and never pass to a child process', () => {
    const { client, server } = net.pair();
    const listener = net.own(openListener(v4('127.0.0.1'), 1));
    const udp = net.udp(v4('127.0.0.1')).fd;
    for (const fd of [client, server, listener, udp, net.own(duplicate(udp))]) {
      expect(flags(fd)).toBe(O_NONBLOCK | O_CLOEXEC);
    }
  });

  it('know both their addresses', () => {
    const { client, server, peer } = net.pair();
    const seen = anyone();
    ok(peerAddress(server, seen));
    expect(seen).toEqual(bound(client));
    expect(peer).toEqual(bound(client));
    ok(peerAddress(client, seen));
    expect(seen).toEqual(bound(server));
    expect(peerAddress(-1, seen)).toBe(-EBADF);
  });

  it.runIf(hasIpv6)('know them whole when both families are asked by turns', () => {
    const pairs = [net.pair(), net.pair(v6Loopback())];
    const seen = anyone();
    for (const { client, server } of [...pairs, ...pairs]) {
      ok(peerAddress(server, seen));
      expect(seen).toEqual(bound(client));
    }
  });

  it('leave no descriptor behind when they cannot be opened', () => {
    const taken = net.udp(v4('127.0.0.1')).address;
    const listener = net.own(openListener(v4('127.0.0.1'), 1));
    const before = openDescriptors();
    expect(openUdp(taken)).toBe(-EADDRINUSE);
    expect(openUdp(taken, { reusePort: true })).toBe(-EADDRINUSE);
    expect(openListener(bound(listener), 1)).toBe(-EADDRINUSE);
    expect(openUdp(v4('192.0.2.1'))).toBe(-EADDRNOTAVAIL);
    expect(openListener(v4('192.0.2.1'), 1)).toBe(-EADDRNOTAVAIL);
    expect(connectStream(bound(listener), v4('192.0.2.1'))).toBe(-EADDRNOTAVAIL);
    expect(connectStream(v4('255.255.255.255', 9))).toBeLessThan(0);
    expect(openDescriptors()).toEqual(before);
  });

  it('share one UDP address by reusePort', () => {
    const first = net.udp(v4('127.0.0.1'), { reusePort: true });
    const second = net.udp(first.address, { reusePort: true });
    expect(second.address).toEqual(first.address);
    const memory = arena(1024);
    const batch = new RecvBatch(memory, 0, 16, 16);
    const send = new SendBatch(memory, 1);
    send.add(0, 1, first.address);
    expect(send.send(net.udp(v4('127.0.0.1')).fd)).toBe(1);
    const counts = [batch.recv(first.fd), batch.recv(second.fd)].sort();
    expect(counts).toEqual([-EAGAIN, 1]);
  });

  it.runIf(hasIpv6)('keep IPv6 to itself unless asked otherwise', () => {
    const only = net.own(openListener({ ...v6Loopback(), a3: 0 }, 1));
    const port = bound(only).port;
    net.own(openListener(v4('0.0.0.0', port), 1));
    const dual = net.own(openListener({ ...v6Loopback(), a3: 0 }, 1, { v6only: false }));
    expect(openListener(v4('0.0.0.0', bound(dual).port), 1)).toBe(-EADDRINUSE);
    net.udp(v4('0.0.0.0', net.udp({ ...v6Loopback(), a3: 0 }).address.port));
    net.own(connectStream(v4('127.0.0.1', bound(dual).port)));
    net.await(dual, EPOLLIN);
    const peer = anyone();
    net.own(accept(dual, peer));
    expect(peer).toMatchObject(v4('127.0.0.1', peer.port));
  });

  it('have a cookie of their own, which a duplicate shares', () => {
    const { client, server } = net.pair();
    const words = [new Int32Array(2), new Int32Array(2), new Int32Array(2)];
    ok(cookie(client, words[0]));
    ok(cookie(net.own(duplicate(client)), words[1]));
    ok(cookie(server, words[2]));
    expect(words[1]).toEqual(words[0]);
    expect(words[2]).not.toEqual(words[0]);
    expect(cookie(-1, words[0])).toBe(-EBADF);
  });

  it('stay open under a duplicate when the first descriptor is closed', () => {
    const { client, server } = net.pair();
    const copy = net.own(duplicate(client));
    net.closeOne(client);
    const io = new StreamIo(arena(256), 128, 128);
    expect(io.recv(server)).toBe(-EAGAIN);
    io.segment(0, 4);
    expect(io.send(copy)).toBe(4);
    net.await(server, EPOLLIN);
    expect(io.recv(server)).toBe(4);
  });

  it('take the stream options', () => {
    const { client } = net.pair();
    const udp = net.udp(v4('127.0.0.1')).fd;
    expect(setNoDelay(client)).toBe(0);
    expect(setUserTimeout(client, 30_000)).toBe(0);
    expect(setNoDelay(udp)).toBeLessThan(0);
  });
});

describe('connecting', () => {
  it('comes from the address asked for', () => {
    const listener = net.own(openListener(v4('127.0.0.1'), 4));
    net.own(connectStream(bound(listener), v4('127.0.0.8')));
    net.await(listener, EPOLLIN);
    const peer = anyone();
    net.own(accept(listener, peer));
    expect(peer.a3).toBe(v4('127.0.0.8').a3);
    expect(accept(listener, peer)).toBe(-EAGAIN);
  });

  it('to a closed port ends with a refusal that is read once', () => {
    const listener = net.own(openListener(v4('127.0.0.1'), 4));
    const address = bound(listener);
    net.closeOne(listener);
    const fd = connectStream(address);
    // loopback may refuse within the call
    if (fd < 0) {
      expect(fd).toBe(-ECONNREFUSED);
      return;
    }
    net.own(fd);
    net.await(fd, EPOLLOUT);
    expect(socketError(fd)).toBe(-ECONNREFUSED);
    expect(socketError(fd)).toBe(0);
  });

  it('to a broadcast address is refused at once', () => {
    expect([-EACCES, -ENETUNREACH]).toContain(connectStream(v4('255.255.255.255', 9)));
  });
});
