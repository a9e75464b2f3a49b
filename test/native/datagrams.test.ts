import { createSocket } from 'node:dgram';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EPOLLIN } from '../../src/native/epoll.ts';
import { EAGAIN, EMSGSIZE } from '../../src/native/errno.ts';
import { MAX_DATAGRAM, RecvBatch, SendBatch } from '../../src/native/mmsg.ts';
import type { Address } from '../../src/native/sockaddr.ts';
import { anyone, arena, hasIpv6, Loopback, v4, v6Loopback } from './loopback.ts';

let net: Loopback;
beforeEach(() => {
  net = new Loopback();
});
afterEach(() => net.close());

/** Receives until `count` datagrams are there; the batch must be large enough for what comes at once. */
function receive(batch: RecvBatch, memory: Uint8Array, fd: number, count: number) {
  const got: { text: string; from: Address; local: Address | undefined }[] = [];
  while (got.length < count) {
    const n = batch.recv(fd);
    if (n === -EAGAIN) net.await(fd, EPOLLIN);
    for (let i = 0; i < n; i++) {
      const from = anyone();
      const local = anyone();
      expect(batch.from(i, from)).toBe(true);
      const text = Buffer.from(memory.slice(batch.start(i), batch.start(i) + batch.length(i))).toString(
        'latin1',
      );
      got.push({ text, from, local: batch.local(i, local) ? local : undefined });
    }
  }
  return got;
}

function put(memory: Uint8Array, offset: number, text: string): number {
  return Buffer.from(memory.buffer).write(text, offset, 'latin1');
}

describe.each([
  ['IPv4', v4('127.0.0.1'), true],
  ['IPv6', v6Loopback(), hasIpv6],
])('datagrams over %s', (_family, loopback, possible) => {
  it.runIf(possible)('arrive in order with their bytes and both addresses', () => {
    const memory = arena(16384);
    const a = net.udp(loopback);
    const b = net.udp(loopback, { pktinfo: true });
    const send = new SendBatch(memory, 8);
    const batch = new RecvBatch(memory, 8192, 16, 256, true);
    for (let round = 0; round < 3; round++) {
      send.reset();
      for (let i = 0; i < 8; i++) {
        const length = put(memory, i * 64, `${round}/${i}`.padEnd(i + 3, '.'));
        expect(send.add(i * 64, length, b.address)).toBe(i);
      }
      expect(send.full).toBe(true);
      expect(send.add(0, 1, b.address)).toBe(-1);
      expect(send.send(a.fd)).toBe(8);
      expect(send.done).toBe(true);
      const got = receive(batch, memory, b.fd, 8);
      expect(got.map((d) => d.text)).toEqual(
        Array.from({ length: 8 }, (_, i) => `${round}/${i}`.padEnd(i + 3, '.')),
      );
      for (const datagram of got) {
        expect(datagram.from).toEqual(a.address);
        expect(datagram.local).toEqual({ ...b.address, port: 0 });
      }
    }
    expect(batch.recv(b.fd)).toBe(-EAGAIN);
  });

  it.runIf(possible)('pass with 60 kB, whole', () => {
    const memory = arena(4 * MAX_DATAGRAM);
    const a = net.udp(loopback);
    const b = net.udp(loopback);
    for (let i = 0; i < 60_000; i++) memory[i] = (i * 31) & 255;
    const send = new SendBatch(memory, 1);
    send.add(0, 60_000, b.address);
    expect(send.send(a.fd)).toBe(1);
    const batch = new RecvBatch(memory, 2 * MAX_DATAGRAM, 2);
    net.await(b.fd, EPOLLIN);
    expect(batch.recv(b.fd)).toBe(1);
    expect(batch.length(0)).toBe(60_000);
    expect(batch.truncated(0)).toBe(false);
    const start = batch.start(0);
    expect(Buffer.compare(memory.slice(start, start + 60_000), memory.slice(0, 60_000))).toBe(0);
  });
});

describe('a datagram batch', () => {
  it('empties a queue longer than itself in several calls, with the headers fresh for each', () => {
    const memory = arena(8192);
    const peers = [net.udp(v4('127.0.0.1')), net.udp(v4('127.0.0.2')), net.udp(v4('127.0.0.3'))];
    const b = net.udp(v4('0.0.0.0'), { pktinfo: true });
    const to = { ...b.address, a3: v4('127.0.0.9').a3 };
    const send = new SendBatch(memory, 1);
    const expected: string[] = [];
    for (let i = 0; i < 11; i++) {
      send.reset();
      send.add(0, put(memory, 0, `n${i}`.padEnd(2 + (i % 3), '-')), to);
      expect(send.send(peers[i % 3].fd)).toBe(1);
      expected.push(`n${i}`.padEnd(2 + (i % 3), '-'));
    }
    const batch = new RecvBatch(memory, 1024, 4, 128, true);
    const got = receive(batch, memory, b.fd, 11);
    expect(got.map((d) => d.text)).toEqual(expected);
    for (const [i, datagram] of got.entries()) {
      expect(datagram.from).toEqual(peers[i % 3].address);
      expect(datagram.local).toEqual({ ...to, port: 0 });
    }
  });

  it('marks a datagram longer than its slot and writes nothing beyond it', () => {
    const memory = arena(4096).fill(0x55);
    const a = net.udp(v4('127.0.0.1'));
    const b = net.udp(v4('127.0.0.1'));
    const send = new SendBatch(memory, 2);
    send.add(0, 100, b.address);
    send.add(0, 16, b.address);
    expect(send.send(a.fd)).toBe(2);
    memory.fill(0);
    const batch = new RecvBatch(memory, 1024, 4, 16);
    net.await(b.fd, EPOLLIN);
    expect(batch.recv(b.fd)).toBe(2);
    expect([batch.truncated(0), batch.length(0)]).toEqual([true, 16]);
    expect([batch.truncated(1), batch.length(1)]).toEqual([false, 16]);
    expect(memory.slice(1024 + 32, 1024 + 64).every((byte) => byte === 0)).toBe(true);
  });

  it('answers from the address that was asked, on a wildcard socket', () => {
    const memory = arena(4096);
    const server = net.udp(v4('0.0.0.0'), { pktinfo: true });
    const client = net.udp(v4('127.0.0.1'), { pktinfo: true });
    const batch = new RecvBatch(memory, 1024, 4, 64, true);
    const send = new SendBatch(memory, 4);
    put(memory, 0, 'xy');
    for (const asked of ['127.0.0.2', '127.0.0.3']) {
      send.add(0, 2, { ...server.address, a3: v4(asked).a3 });
    }
    expect(send.send(client.fd)).toBe(2);
    const asked = receive(batch, memory, server.fd, 2);
    expect(asked.map((d) => d.local?.a3)).toEqual([v4('127.0.0.2').a3, v4('127.0.0.3').a3]);

    send.reset();
    for (const datagram of asked) send.add(0, 2, datagram.from, datagram.local);
    expect(send.send(server.fd)).toBe(2);
    const answers = receive(batch, memory, client.fd, 2);
    expect(answers.map((d) => d.from)).toEqual([
      v4('127.0.0.2', server.address.port),
      v4('127.0.0.3', server.address.port),
    ]);

    send.reset();
    send.add(0, 2, client.address); // in a slot that had a source before
    expect(send.send(server.fd)).toBe(1);
    expect(receive(batch, memory, client.fd, 1)[0].from).toEqual(v4('127.0.0.1', server.address.port));
  });

  it('names the address to answer from when a broadcast was received', async () => {
    const memory = arena(1024);
    const server = net.udp(v4('0.0.0.0'), { pktinfo: true });
    const sender = createSocket('udp4');
    await new Promise<void>((resolve) => sender.bind(0, '127.0.0.1', resolve));
    sender.setBroadcast(true);
    await new Promise((resolve) => sender.send('x', server.address.port, '127.255.255.255', resolve));
    const [got] = receive(new RecvBatch(memory, 0, 2, 64, true), memory, server.fd, 1);
    sender.close();
    expect(got.local).toMatchObject({ family: 4, a3: v4('127.0.0.1').a3 });
  });

  it.runIf(hasIpv6)('serves an IPv4 and an IPv6 socket by turns', () => {
    const memory = arena(4096);
    const batch = new RecvBatch(memory, 1024, 4, 64, true);
    const send = new SendBatch(memory, 4);
    const pairs = [v4('127.0.0.1'), v6Loopback()].map((a) => [net.udp(a), net.udp(a, { pktinfo: true })]);
    for (let round = 0; round < 4; round++) {
      const [from, to] = pairs[round % 2];
      send.reset();
      for (let i = 0; i < 3; i++) send.add(0, 1, to.address);
      expect(send.send(from.fd)).toBe(3);
      for (const datagram of receive(batch, memory, to.fd, 3)) {
        expect(datagram.from).toEqual(from.address);
        expect(datagram.local).toEqual({ ...to.address, port: 0 });
      }
    }
  });

  it.runIf(hasIpv6)('serves IPv4 and IPv6 peers on one dual-stack socket', () => {
    const memory = arena(4096);
    const server = net.udp({ ...v6Loopback(), a3: 0 }, { v6only: false, pktinfo: true });
    const port = server.address.port;
    const four = net.udp(v4('127.0.0.1'));
    const six = net.udp(v6Loopback());
    const send = new SendBatch(memory, 4);
    const batch = new RecvBatch(memory, 1024, 4, 64, true);
    for (const [peer, to] of [
      [four, v4('127.0.0.5', port)],
      [six, v6Loopback(port)],
    ] as const) {
      send.reset();
      send.add(0, 1, to);
      expect(send.send(peer.fd)).toBe(1);
      const [got] = receive(batch, memory, server.fd, 1);
      expect(got.from).toEqual(peer.address);
      expect(got.local).toEqual({ ...to, port: 0 });
      send.reset();
      send.add(0, 1, got.from, got.local);
      expect(send.send(server.fd)).toBe(1);
      expect(receive(batch, memory, peer.fd, 1)[0].from).toEqual(to);
    }
  });

  it('keeps its place at a datagram that fails, and goes on after it is skipped', () => {
    const memory = arena(2 * MAX_DATAGRAM);
    const a = net.udp(v4('127.0.0.1'));
    const b = net.udp(v4('127.0.0.1'));
    const send = new SendBatch(memory, 4);
    send.add(0, put(memory, 0, 'first'), b.address);
    send.add(0, 65_508, b.address); // one octet more than IPv4 carries
    send.add(8, put(memory, 8, 'last'), b.address);
    expect(send.send(a.fd)).toBe(1);
    expect([send.index, send.done]).toEqual([1, false]);
    expect(send.send(a.fd)).toBe(-EMSGSIZE);
    expect([send.index, send.repeats(-EMSGSIZE)]).toEqual([1, false]);
    send.skip();
    expect(send.send(a.fd)).toBe(1);
    expect(send.done).toBe(true);
    expect(send.send(a.fd)).toBe(0);
    send.skip();
    expect(send.index).toBe(3);
    const batch = new RecvBatch(memory, MAX_DATAGRAM, 4, 64);
    expect(receive(batch, memory, b.fd, 2).map((d) => d.text)).toEqual(['first', 'last']);
  });

  it('is refused where it does not fit into the memory', () => {
    expect(() => new RecvBatch(arena(1000), 500, 4, 126)).toThrow(RangeError);
  });
});
