/** One turn's calls on stream sockets: epoll_wait with nothing and with one ready, sendmsg, recvmsg. */
import { selfTest } from '../../src/native/available.ts';
import { EPOLLIN, Epoll } from '../../src/native/epoll.ts';
import { closeFd } from '../../src/native/socket.ts';
import { StreamIo } from '../../src/native/stream.ts';
import type { Suite } from '../suite.ts';
import { ok, streamPair } from './sockets.ts';

const LENGTH = 700;

export default function prepare(): Suite | string {
  const test = selfTest();
  if (!test.ok) return test.reason;
  const memory = Buffer.from(new SharedArrayBuffer(128 * 1024)).fill(65);
  const { client, server } = streamPair();
  const ready = streamPair();
  const io = new StreamIo(memory, 64 * 1024, 64 * 1024);
  const quiet = new Epoll(ok(Epoll.create(), 'epoll'), 64);
  const busy = new Epoll(ok(Epoll.create(), 'epoll'), 64);
  ok(quiet.add(server, EPOLLIN, 1, 1), 'epoll');
  ok(busy.add(ready.server, EPOLLIN, 1, 1), 'epoll');
  io.segment(0, 1);
  ok(io.send(ready.client), 'send');
  if (busy.wait(1000) !== 1) throw new Error('an octet does not arrive');
  return {
    cases: [
      { name: 'epoll_wait, none ready', run: () => quiet.wait(0) },
      { name: 'epoll_wait, one ready', run: () => busy.wait(0) },
      {
        name: 'sendmsg and recvmsg, 700 octets',
        run() {
          io.begin();
          io.segment(0, LENGTH);
          ok(io.send(client), 'send');
          for (let got = 0; got < LENGTH; ) got += ok(io.recv(server), 'receive');
        },
      },
    ],
    close() {
      for (const fd of [client, server, ready.client, ready.server, quiet.fd, busy.fd]) closeFd(fd);
    },
  };
}
