/**
 * The other thread of worker.test.ts: waits on an epoll that the main thread made, echoes what comes on
 * its stream and UDP sockets out of a shared arena, and ends when word 0 of the arena says so.
 */
import { workerData } from 'node:worker_threads';
import { Epoll } from '../../src/native/epoll.ts';
import { EventCounter } from '../../src/native/eventfd.ts';
import { RecvBatch, SendBatch } from '../../src/native/mmsg.ts';
import { StreamIo } from '../../src/native/stream.ts';
import { anyone } from './loopback.ts';

export const WAKE = 1;
export const STREAM = 2;
export const UDP = 3;

export interface ShardData {
  epollFd: number;
  eventFd: number;
  memory: SharedArrayBuffer;
}

if (workerData?.epollFd !== undefined) run(workerData as ShardData);

function run({ epollFd, eventFd, memory }: ShardData): void {
  const bytes = new Uint8Array(memory);
  const control = new Int32Array(memory, 0, 4);
  const epoll = new Epoll(epollFd, 8);
  const wake = new EventCounter(eventFd);
  const io = new StreamIo(bytes, 1024, 1024);
  const receive = new RecvBatch(bytes, 2048, 8, 256);
  const send = new SendBatch(bytes, 8);
  const from = anyone();
  Atomics.store(control, 1, 1);
  Atomics.notify(control, 1);
  while (Atomics.load(control, 0) === 0) {
    const ready = epoll.wait(20); // terminate() takes effect when the wait ends
    for (let i = 0; i < ready; i++) {
      const fd = epoll.data1(i);
      switch (epoll.data0(i)) {
        case WAKE:
          Atomics.add(control, 2, wake.drain());
          Atomics.notify(control, 2);
          break;
        case STREAM: {
          const n = io.recv(fd);
          io.begin();
          if (n > 0) io.segment(1024, n);
          if (n > 0) io.send(fd);
          break;
        }
        case UDP: {
          const n = receive.recv(fd);
          send.reset();
          for (let k = 0; k < n; k++) {
            receive.from(k, from);
            send.add(receive.start(k), receive.length(k), from);
          }
          send.send(fd);
        }
      }
    }
  }
}
