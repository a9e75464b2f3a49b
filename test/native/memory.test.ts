import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EPOLLIN } from '../../src/native/epoll.ts';
import { Region } from '../../src/native/memory.ts';
import { RecvBatch, SendBatch } from '../../src/native/mmsg.ts';
import { StreamIo } from '../../src/native/stream.ts';
import { arena, Loopback, ok, v4 } from './loopback.ts';

let net: Loopback;
beforeEach(() => {
  net = new Loopback();
});
afterEach(() => net.close());

describe('pinned memory', () => {
  it('stores address plus offset with the carry into the upper word', () => {
    const region = Region.allocate(64);
    const toCarry = Number(0x1_0000_0000n - (region.pointer & 0xffffffffn));
    const words = new Int32Array(4);
    const stored = () => new BigUint64Array(words.buffer)[0];
    fc.assert(
      fc.property(
        fc.oneof(
          fc.nat(2 ** 31),
          fc.integer({ min: -9, max: 9 }).map((d) => Math.max(0, toCarry + d)),
        ),
        (offset) => {
          region.store(words, 0, offset);
          expect(stored()).toBe(region.pointer + BigInt(offset));
        },
      ),
    );
  });

  it('starts where a view starts, over either kind of buffer', () => {
    for (const buffer of [new ArrayBuffer(64), new SharedArrayBuffer(64)]) {
      const whole = new Region(new Uint8Array(buffer));
      expect(new Region(new Uint8Array(buffer, 16, 8)).pointer).toBe(whole.at(16));
    }
  });

  it('stays where it is while the collector runs under traffic', () => {
    const a = net.udp(v4('127.0.0.1'));
    const b = net.udp(v4('127.0.0.1'));
    const { client, server } = net.pair();
    const rounds = 3000;
    let garbage: unknown[] = [];
    let bad = 0;
    // nobody but the pinned list and the objects themselves refers to this memory
    const build = (size: number) => {
      // a small array has its elements on the collected heap at first
      const memory = size < 64 ? new Uint8Array(size) : arena(size);
      return {
        memory,
        send: new SendBatch(memory, 2),
        receive: new RecvBatch(memory, size / 2, 2, size / 4),
        io: new StreamIo(memory, size / 2, size / 4),
      };
    };
    const users = [build(48), build(1024), build(1 << 16)];
    for (let round = 0; round < rounds; round++) {
      const { memory, send, receive, io } = users[round % users.length];
      memory[0] = round & 255;
      memory[1] = round >> 8;
      send.reset();
      send.add(0, 2, b.address);
      if (send.send(a.fd) !== 1) bad++;
      garbage.push(new Uint8Array(16), new ArrayBuffer(20_000), `${round}`.repeat(50), { round });
      if (garbage.length > 400) garbage = [];
      net.await(b.fd, EPOLLIN);
      if (receive.recv(b.fd) !== 1 || receive.length(0) !== 2) bad++;
      if (memory[receive.start(0)] !== (round & 255) || memory[receive.start(0) + 1] !== round >> 8) bad++;
      io.begin();
      io.segment(0, 1);
      io.segment(1, 1);
      if (io.send(client) !== 2) bad++;
      net.await(server, EPOLLIN);
      if (ok(io.recv(server)) !== 2 || memory[memory.length / 2 + 1] !== round >> 8) bad++;
    }
    expect(bad).toBe(0);
  });
});
