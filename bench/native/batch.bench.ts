/**
 * Datagrams of 700 octets over loopback, sent and received by one thread: both include the kernel's
 * share, in which a send on loopback also does the receiving socket's work.
 */
import { selfTest } from '../../src/native/available.ts';
import { RecvBatch } from '../../src/native/recvbatch.ts';
import { SendBatch } from '../../src/native/sendbatch.ts';
import { closeFd } from '../../src/native/socket.ts';
import type { Case, Suite } from '../suite.ts';
import { ok, udp } from './sockets.ts';

const LENGTH = 700;
const SLOT = 64 * 1024;
const SLOTS = 64;

export default function prepare(): Suite | string {
  const test = selfTest();
  if (!test.ok) return test.reason;
  const memory = Buffer.from(new SharedArrayBuffer((SLOTS + 1) * SLOT)).fill(65);
  const a = udp();
  const b = udp();
  const send = new SendBatch(memory, SLOTS);
  const receive = new RecvBatch(memory, SLOT, SLOTS);
  const fill = (count: number): void => {
    send.reset();
    for (let i = 0; i < count; i++) send.add(i * LENGTH, LENGTH, b.address);
    while (!send.done) ok(send.send(a.fd), 'send');
  };
  const drain = (count: number): void => {
    for (let got = 0; got < count; ) got += ok(receive.recv(b.fd), 'receive');
  };
  const passing = (count: number): Case => ({
    name: `sendmmsg and recvmmsg of ${count}`,
    ops: count,
    run() {
      fill(count);
      drain(count);
    },
  });
  return {
    cases: [
      passing(1),
      passing(8),
      passing(SLOTS),
      { name: 'recvmmsg of none', run: () => receive.recv(b.fd) },
    ],
    close() {
      closeFd(a.fd);
      closeFd(b.fd);
    },
  };
}
