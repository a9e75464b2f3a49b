import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EPOLLIN, EPOLLOUT } from '../../src/native/epoll.ts';
import { EAGAIN, ECONNRESET, EPIPE } from '../../src/native/errno.ts';
import { closeFd, setBuffers, setLinger0, shutdownWrite } from '../../src/native/socket.ts';
import { MAX_SEGMENTS, StreamIo } from '../../src/native/stream.ts';
import { arena, hasIpv6, Loopback, ok, v6Loopback } from './loopback.ts';

const RECV = 65536;
let net: Loopback;
let memory: Uint8Array;
let io: StreamIo;
beforeEach(() => {
  net = new Loopback();
  memory = arena(2 * RECV);
  io = new StreamIo(memory, RECV, RECV);
});
afterEach(() => net.close());

function put(offset: number, text: string): number {
  return Buffer.from(memory.buffer).write(text, offset, 'latin1');
}

function received(fd: number): string {
  net.await(fd, EPOLLIN);
  const n = ok(io.recv(fd));
  return Buffer.from(memory.slice(RECV, RECV + n)).toString('latin1');
}

describe('a stream socket', () => {
  it('sends scattered segments as one run of bytes', () => {
    const { client, server } = net.pair();
    io.begin();
    io.segment(100, put(100, 'SIP/2.0 '));
    io.segment(10, put(10, '430 '));
    io.segment(50, put(50, 'Flow Failed\r\n'));
    expect(io.bytes).toBe(25);
    expect(io.send(client)).toBe(25);
    expect(received(server)).toBe('SIP/2.0 430 Flow Failed\r\n');
    expect(io.recv(server)).toBe(-EAGAIN);
  });

  it.runIf(hasIpv6)('works over IPv6', () => {
    const { client, server, peer } = net.pair(v6Loopback());
    expect(peer).toMatchObject({ family: 6, a0: 0, a1: 0, a2: 0, a3: 1 });
    io.segment(0, put(0, '\r\n\r\n'));
    expect(io.send(server)).toBe(4);
    expect(received(client)).toBe('\r\n\r\n');
  });

  it('shows what has come without taking it', () => {
    const { client, server } = net.pair();
    io.segment(0, put(0, 'PROXY UNKNOWN\r\nOPTIONS'));
    io.send(client);
    net.await(server, EPOLLIN);
    expect(io.peekAt(server, 500, 4)).toBe(4);
    expect(io.peekAt(server, 500, 100)).toBe(22);
    expect(io.recvAt(server, 500, 15)).toBe(15);
    expect(received(server)).toBe('OPTIONS');
    expect(io.peekAt(server, 500, 100)).toBe(-EAGAIN);
  });

  it('takes as many segments as it says and no more', () => {
    const { client, server } = net.pair();
    for (let i = 0; i < MAX_SEGMENTS; i++) {
      memory[i * 3] = 65 + (i % 26);
      expect(io.segment(i * 3, 1)).toBe(true);
    }
    expect(io.segment(0, 1)).toBe(false);
    expect(io.send(client)).toBe(MAX_SEGMENTS);
    expect(received(server)).toBe(
      Array.from({ length: MAX_SEGMENTS }, (_, i) => String.fromCharCode(65 + (i % 26))).join(''),
    );
  });

  it('reads into the place of a partial message', () => {
    const { client, server } = net.pair();
    io.segment(0, put(0, 'rest'));
    io.send(client);
    net.await(server, EPOLLIN);
    put(500, 'head-????!');
    expect(io.recvAt(server, 505, 4)).toBe(4);
    expect(Buffer.from(memory.slice(500, 510)).toString()).toBe('head-rest!');
    expect(io.recvAt(server, 505, 4)).toBe(-EAGAIN);
  });

  it('loses and doubles nothing when the peer reads slowly and the socket is full', () => {
    const { client, server } = net.pair();
    ok(setBuffers(client, 16384, 16384));
    ok(setBuffers(server, 16384, 16384));
    const total = 3_000_000;
    const byteAt = (i: number) => (i * 7 + (i >> 8)) & 255;
    let sent = 0;
    let read = 0;
    let partial = 0;
    let refused = 0;
    let wrong = 0;
    while (read < total) {
      while (sent < total) {
        // four segments of uneven length, from the first byte not yet taken
        const length = Math.min(40_000, total - sent);
        for (let i = 0; i < length; i++) memory[i] = byteAt(sent + i);
        io.begin();
        const cuts = [0, length >> 3, length >> 2, length >> 1, length];
        for (let i = 0; i < 4; i++) io.segment(cuts[i], cuts[i + 1] - cuts[i]);
        const n = io.send(client);
        if (n < 0) {
          expect(n).toBe(-EAGAIN);
          refused++;
          break;
        }
        if (n < length) partial++;
        sent += n;
      }
      net.await(server, EPOLLIN);
      const n = ok(io.recv(server));
      for (let i = 0; i < n; i++) if (memory[RECV + i] !== byteAt(read + i)) wrong++;
      read += n;
    }
    expect({ sent, read, wrong }).toEqual({ sent: total, read: total, wrong: 0 });
    expect(partial).toBeGreaterThan(0);
    expect(refused).toBeGreaterThan(0);
    expect(net.await(client, EPOLLOUT)).toBe(EPOLLOUT);
  });

  it('reads 0 at a FIN and can still write to the half-closed peer', () => {
    const { client, server } = net.pair();
    ok(shutdownWrite(client));
    net.await(server, EPOLLIN);
    expect(io.recv(server)).toBe(0);
    io.segment(0, put(0, 'bye'));
    expect(io.send(server)).toBe(3);
    expect(received(client)).toBe('bye');
  });

  it('reports a reset, and a write after it without a signal', () => {
    const { client, server } = net.pair();
    ok(setLinger0(client));
    net.closeOne(client);
    net.await(server, EPOLLIN);
    expect(io.recv(server)).toBe(-ECONNRESET);
    io.segment(0, 1);
    expect(io.send(server)).toBe(-EPIPE);
  });

  it('returns the error number for a descriptor that is closed', () => {
    const { client } = net.pair();
    net.closeOne(client);
    io.segment(0, 1);
    expect(io.send(client)).toBeLessThan(0);
    expect(io.recv(client)).toBeLessThan(0);
    expect(closeFd(client)).toBeLessThan(0);
  });

  it('is refused a receive area outside its memory', () => {
    expect(() => new StreamIo(memory, RECV + 1, RECV)).toThrow(RangeError);
  });
});
