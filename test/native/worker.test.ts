import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EPOLLIN, Epoll } from '../../src/native/epoll.ts';
import { createEventfd, EventCounter } from '../../src/native/eventfd.ts';
import { RecvBatch, SendBatch } from '../../src/native/mmsg.ts';
import { StreamIo } from '../../src/native/stream.ts';
import { anyone, arena, Loopback, ok, v4 } from './loopback.ts';
import { type ShardData, STREAM, UDP, WAKE } from './shard-worker.ts';

let net: Loopback;
beforeEach(() => {
  net = new Loopback();
});
afterEach(() => net.close());

/** Everything that outlives a worker: its epoll, its sockets, its arena. */
function shard() {
  const epoll = new Epoll(net.own(Epoll.create()), 8);
  const wake = new EventCounter(net.own(createEventfd()));
  const stream = net.pair();
  const udp = net.udp(v4('127.0.0.1'));
  ok(epoll.add(wake.fd, EPOLLIN, WAKE, wake.fd));
  ok(epoll.add(stream.server, EPOLLIN, STREAM, stream.server));
  ok(epoll.add(udp.fd, EPOLLIN, UDP, udp.fd));
  const memory = new SharedArrayBuffer(8192);
  return {
    epoll,
    wake,
    client: stream.client,
    udp: udp.address,
    memory,
    control: new Int32Array(memory, 0, 4),
  };
}

async function start(of: ReturnType<typeof shard>): Promise<Worker> {
  of.control.fill(0);
  const data: ShardData = { epollFd: of.epoll.fd, eventFd: of.wake.fd, memory: of.memory };
  const worker = new Worker(new URL('./shard-worker.ts', import.meta.url), { workerData: data });
  const waiting = Atomics.waitAsync(of.control, 1, 0, 10_000);
  expect(await waiting.value).not.toBe('timed-out');
  return worker;
}

function echoes(of: ReturnType<typeof shard>, seed: number): void {
  const memory = arena(4096);
  const io = new StreamIo(memory, 1024, 1024);
  const send = new SendBatch(memory, 8);
  const receive = new RecvBatch(memory, 2048, 8, 256);
  const peer = net.udp(v4('127.0.0.1'));
  for (let round = 0; round < 200; round++) {
    memory[0] = seed + round;
    io.begin();
    io.segment(0, 100);
    expect(io.send(of.client)).toBe(100);
    net.await(of.client, EPOLLIN);
    expect([io.recv(of.client), memory[1024]]).toEqual([100, (seed + round) & 255]);
    send.reset();
    send.add(0, 200, of.udp);
    expect(send.send(peer.fd)).toBe(1);
    net.await(peer.fd, EPOLLIN);
    const from = anyone();
    expect(receive.recv(peer.fd)).toBe(1);
    expect(receive.from(0, from)).toBe(true);
    expect([from, receive.length(0), memory[2048]]).toEqual([of.udp, 200, (seed + round) & 255]);
  }
}

describe('a worker thread', () => {
  it('serves sockets by an epoll that main made, out of shared memory, and is woken by an eventfd', async () => {
    const of = shard();
    const worker = await start(of);
    echoes(of, 0);
    for (let i = 0; i < 3; i++) of.wake.signal();
    while (Atomics.load(of.control, 2) < 3) {
      const seen = Atomics.load(of.control, 2);
      await Atomics.waitAsync(of.control, 2, seen, 1000).value;
    }
    expect(Atomics.load(of.control, 2)).toBe(3);
    Atomics.store(of.control, 0, 1);
    of.wake.signal();
    expect(await once(worker, 'exit')).toEqual([0]);
  });

  it('can be terminated at any moment, and its replacement goes on with the same connection', async () => {
    const of = shard();
    for (let life = 0; life < 4; life++) {
      const worker = await start(of);
      echoes(of, life * 17);
      await worker.terminate();
    }
    const last = await start(of);
    echoes(of, 99);
    Atomics.store(of.control, 0, 1);
    of.wake.signal();
    expect(await once(last, 'exit')).toEqual([0]);
  });
});
