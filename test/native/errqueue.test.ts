import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EPOLLERR, EPOLLIN } from '../../src/native/epoll.ts';
import { EAGAIN, ECONNREFUSED } from '../../src/native/errno.ts';
import { ErrorQueue, ORIGIN_ICMP, ORIGIN_ICMP6 } from '../../src/native/errqueue.ts';
import { RecvBatch, SendBatch } from '../../src/native/mmsg.ts';
import { socketError } from '../../src/native/socket.ts';
import { arena, hasIpv6, Loopback, v4, v6Loopback } from './loopback.ts';

let net: Loopback;
beforeEach(() => {
  net = new Loopback();
});
afterEach(() => net.close());

describe.each([
  ['IPv4', v4('127.0.0.1'), true, ORIGIN_ICMP, 3, 3],
  ['IPv6', v6Loopback(), hasIpv6, ORIGIN_ICMP6, 1, 4],
])('an ICMP error over %s', (_family, loopback, possible, origin, type, code) => {
  it.runIf(possible)('is charged to the dead peer while the healthy one still gets its datagram', () => {
    const memory = arena(1024);
    const a = net.udp(loopback, { pktinfo: true });
    const healthy = net.udp(loopback);
    const dead = net.udp(loopback);
    net.closeOne(dead.fd);
    const send = new SendBatch(memory, 4);
    const errors = new ErrorQueue();

    send.add(0, 5, dead.address);
    expect(send.send(a.fd)).toBe(1);
    expect(net.await(a.fd, EPOLLIN) & EPOLLERR).toBe(EPOLLERR);

    send.reset();
    send.add(0, 7, healthy.address);
    expect(send.send(a.fd)).toBe(-ECONNREFUSED);
    expect(send.index).toBe(0);
    expect(errors.next(a.fd)).toBe(1);
    expect(errors).toMatchObject({ errno: ECONNREFUSED, origin, icmpType: type, icmpCode: code });
    expect(errors.to).toEqual(dead.address);
    expect(errors.hasOffender).toBe(true);
    expect(errors.offender).toMatchObject({ family: dead.address.family, a3: dead.address.a3 });
    expect(errors.next(a.fd)).toBe(0);
    expect(send.repeats(-ECONNREFUSED)).toBe(true);
    expect(send.send(a.fd)).toBe(1);

    const batch = new RecvBatch(memory, 512, 2, 64);
    net.await(healthy.fd, EPOLLIN);
    expect(batch.recv(healthy.fd)).toBe(1);
    expect(batch.length(0)).toBe(7);
  });
});

describe('the error queue', () => {
  it('names each of several dead peers, and its draining clears the pending error', () => {
    const memory = arena(1024);
    const a = net.udp(v4('127.0.0.1'));
    const dead = [net.udp(v4('127.0.0.2')), net.udp(v4('127.0.0.3')), net.udp(v4('127.0.0.4'))];
    for (const peer of dead) net.closeOne(peer.fd);
    const send = new SendBatch(memory, 1);
    const errors = new ErrorQueue();
    const reported = new Set<string>();
    for (const peer of dead) {
      send.reset();
      send.add(0, 3, peer.address);
      while (!send.done) {
        const n = send.send(a.fd);
        if (n < 0) expect([n, send.repeats(n)]).toEqual([-ECONNREFUSED, true]);
      }
    }
    net.await(a.fd, EPOLLIN);
    while (errors.next(a.fd) > 0) reported.add(`${errors.to.a3}:${errors.to.port}`);
    expect(reported).toEqual(new Set(dead.map(({ address }) => `${address.a3}:${address.port}`)));
    expect(socketError(a.fd)).toBe(0);
    expect(new RecvBatch(memory, 512, 2, 64).recv(a.fd)).toBe(-EAGAIN);
  });

  it('makes a receive fail once with the error of a send, and not again', () => {
    const memory = arena(1024);
    const a = net.udp(v4('127.0.0.1'));
    const dead = net.udp(v4('127.0.0.1'));
    net.closeOne(dead.fd);
    const send = new SendBatch(memory, 1);
    send.add(0, 3, dead.address);
    send.send(a.fd);
    net.await(a.fd, EPOLLIN);
    const batch = new RecvBatch(memory, 512, 2, 64);
    expect(batch.recv(a.fd)).toBe(-ECONNREFUSED);
    expect(batch.recv(a.fd)).toBe(-EAGAIN);
    const errors = new ErrorQueue();
    expect(errors.next(a.fd)).toBe(1);
    expect(errors.to).toEqual(dead.address);
  });

  it('grants a failing datagram a bounded number of repeats', () => {
    const memory = arena(64);
    const send = new SendBatch(memory, 2);
    send.add(0, 1, v4('127.0.0.1', 9));
    let granted = 0;
    while (send.repeats(-ECONNREFUSED)) granted++;
    expect(granted).toBe(3);
    send.skip();
    expect(send.repeats(-ECONNREFUSED)).toBe(true);
    expect(send.repeats(-EAGAIN)).toBe(false);
  });

  it('says so when the descriptor is none', () => {
    expect(new ErrorQueue().next(-1)).toBeLessThan(0);
  });
});
