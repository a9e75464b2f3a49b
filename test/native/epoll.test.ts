import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP, Epoll } from '../../src/native/epoll.ts';
import { EAGAIN, EBADF, EEXIST, ENOENT } from '../../src/native/errno.ts';
import { createEventfd, EventCounter } from '../../src/native/eventfd.ts';
import { shutdownWrite } from '../../src/native/socket.ts';
import { backendFd } from '../../src/native/uv.ts';
import { Loopback, ok } from './loopback.ts';

let net: Loopback;
let epoll: Epoll;
beforeEach(() => {
  net = new Loopback();
  epoll = new Epoll(net.own(Epoll.create()), 8);
});
afterEach(() => net.close());

const counter = () => new EventCounter(net.own(createEventfd()));

describe('epoll', () => {
  it('gives each of several ready descriptors its own 64 bits of data', () => {
    const counters = [counter(), counter(), counter(), counter(), counter()];
    for (const [i, one] of counters.entries()) {
      ok(epoll.add(one.fd, EPOLLIN, i, i === 0 ? -(2 ** 31) : 2 ** 31 - i));
      if (i !== 2) one.signal();
    }
    expect(epoll.wait(1000)).toBe(4);
    const seen = new Map<number, number>();
    for (let i = 0; i < 4; i++) {
      expect(epoll.events(i)).toBe(EPOLLIN);
      seen.set(epoll.data0(i), epoll.data1(i));
    }
    expect([...seen].sort()).toEqual([
      [0, -(2 ** 31)],
      [1, 2 ** 31 - 1],
      [3, 2 ** 31 - 3],
      [4, 2 ** 31 - 4],
    ]);
  });

  it('never reports more than it has room for, and the rest at the next wait', () => {
    const small = new Epoll(epoll.fd, 2);
    for (let i = 0; i < 3; i++) {
      const one = counter();
      ok(small.add(one.fd, EPOLLIN | EPOLLET, i, 0));
      one.signal();
    }
    expect(small.wait(0)).toBe(2);
    expect(small.wait(0)).toBe(1);
    expect(small.wait(0)).toBe(0);
  });

  it('changes interest and data, and forgets what is removed', () => {
    const { client } = net.pair();
    ok(epoll.add(client, EPOLLIN, 1, 1));
    expect(epoll.wait(0)).toBe(0);
    ok(epoll.modify(client, EPOLLIN | EPOLLOUT, 2, 3));
    expect(epoll.wait(0)).toBe(1);
    expect([epoll.events(0), epoll.data0(0), epoll.data1(0)]).toEqual([EPOLLOUT, 2, 3]);
    ok(epoll.remove(client));
    expect(epoll.wait(0)).toBe(0);
  });

  it('tells a half-closed peer by RDHUP', () => {
    const { client, server } = net.pair();
    ok(epoll.add(server, EPOLLIN | EPOLLRDHUP, 0, 0));
    ok(shutdownWrite(client));
    expect(epoll.wait(1000)).toBe(1);
    expect(epoll.events(0)).toBe(EPOLLIN | EPOLLRDHUP);
  });

  it('returns the error number of a refused change', () => {
    const one = counter();
    expect(epoll.remove(one.fd)).toBe(-ENOENT);
    ok(epoll.add(one.fd, EPOLLIN, 0, 0));
    expect(epoll.add(one.fd, EPOLLIN, 0, 0)).toBe(-EEXIST);
    expect(epoll.add(-1, EPOLLIN, 0, 0)).toBe(-EBADF);
    expect(new Epoll(one.fd).wait(0)).toBeLessThan(0);
  });

  it('reports nothing, and no error, when a signal ends the wait', async () => {
    const signalled = once(process, 'SIGUSR2');
    const sender = spawn('sh', ['-c', `sleep 0.1; kill -USR2 ${process.pid}`]);
    await once(sender, 'spawn');
    expect(epoll.wait(1000)).toBe(0);
    await signalled;
  });

  it('wakes for the work of libuv when its descriptor is nested', async () => {
    ok(epoll.add(backendFd(), EPOLLIN, 77, 0));
    expect(backendFd()).toBe(backendFd());
    const { createSocket } = await import('node:dgram');
    const socket = createSocket('udp4');
    const received = new Promise((resolve) => socket.once('message', resolve));
    await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
    // libuv registers the socket in its next poll phase
    await new Promise(setImmediate);
    await new Promise(setImmediate);
    const sender = createSocket('udp4');
    await new Promise<void>((resolve) => {
      sender.send('x', socket.address().port, '127.0.0.1', () => {
        expect(epoll.wait(1000)).toBe(1);
        expect(epoll.data0(0)).toBe(77);
        resolve();
      });
    });
    await received;
    sender.close();
    socket.close();
  });
});

describe('eventfd', () => {
  it('turns any number of signals into one wake-up that a drain ends', () => {
    const one = counter();
    ok(epoll.add(one.fd, EPOLLIN, 0, 0));
    expect(one.drain()).toBe(-EAGAIN);
    for (let i = 0; i < 5; i++) expect(one.signal()).toBe(8);
    expect(epoll.wait(0)).toBe(1);
    expect(one.drain()).toBe(5);
    expect(epoll.wait(0)).toBe(0);
    expect(new EventCounter(-1).signal()).toBe(-EBADF);
  });
});
