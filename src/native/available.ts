/**
 * Whether this process can do native I/O, shown by doing it: each call and each struct layout that the
 * native backend relies on is used once on loopback, with what comes back compared. A wrong layout, a
 * changed node:ffi, a seccomp filter or a missing error queue shows here, as a reason for the log, and
 * the `core` backend is taken instead.
 *
 * Costs a few milliseconds at start, opens six descriptors and closes them all. It does not show that
 * IPv6 works (many hosts have none), nor anything about load.
 */

import { EPOLLIN, EPOLLOUT, Epoll } from './epoll.ts';
import { EAGAIN, ECONNREFUSED, errnoName } from './errno.ts';
import { ErrorQueue } from './errqueue.ts';
import { createEventfd, EventCounter } from './eventfd.ts';
import { unavailable } from './libc.ts';
import { RecvBatch } from './recvbatch.ts';
import { SendBatch } from './sendbatch.ts';
import { type Address, setV4 } from './sockaddr.ts';
import {
  accept,
  closeFd,
  connectStream,
  cookie,
  duplicate,
  localAddress,
  openListener,
  openUdp,
  peerAddress,
  setNoDelay,
  socketError,
} from './socket.ts';
import { StreamIo } from './stream.ts';
import { backendFd } from './uv.ts';

export type SelfTest = { ok: true } | { ok: false; reason: string };

const LOOPBACK = 0x7f000001;
/** Loopback answers within the call; a machine that stands still may take a while. */
const PATIENCE_MS = 250;
const ARENA = 4096;

export function selfTest(): SelfTest {
  if (unavailable !== undefined) return { ok: false, reason: unavailable };
  const trial = new Trial();
  try {
    trial.run();
    return { ok: true };
  } catch (error) {
    return { ok: false, reason: (error as Error).message };
  } finally {
    trial.close();
  }
}

class Trial {
  readonly #opened: number[] = [];
  readonly #arena = new Uint8Array(new SharedArrayBuffer(ARENA));
  #epoll!: Epoll;

  run(): void {
    this.#epoll = new Epoll(this.#open(Epoll.create(), 'epoll_create1'), 8);
    check(backendFd() >= 0, 'uv_backend_fd gives no descriptor');
    this.#wakeUps();
    this.#datagrams();
    this.#streams();
    this.#icmpErrors();
  }

  close(): void {
    for (const fd of this.#opened) closeFd(fd);
  }

  /** Two ready descriptors: the second event's data shows the size of struct epoll_event. */
  #wakeUps(): void {
    const first = new EventCounter(this.#open(createEventfd(), 'eventfd'));
    const second = this.#open(duplicate(first.fd), 'fcntl(F_DUPFD_CLOEXEC)');
    const epoll = this.#epoll;
    need(epoll.add(first.fd, EPOLLIN, 0x1234567, -2), 'epoll_ctl');
    need(epoll.add(second, EPOLLIN, 0x1234567, -2), 'epoll_ctl');
    need(first.signal(), 'write to eventfd');
    check(need(epoll.wait(PATIENCE_MS), 'epoll_wait') === 2, 'epoll_wait misses a ready eventfd');
    for (let i = 0; i < 2; i++) {
      const same = epoll.events(i) === EPOLLIN && epoll.data0(i) === 0x1234567 && epoll.data1(i) === -2;
      check(same, 'struct epoll_event has another layout');
    }
    check(need(first.drain(), 'read from eventfd') === 1, 'eventfd counts wrongly');
    check(epoll.wait(0) === 0, 'a drained eventfd stays ready');
    need(epoll.remove(first.fd), 'epoll_ctl');
    need(epoll.remove(second), 'epoll_ctl');
  }

  #datagrams(): void {
    const [a, addressA] = this.#udp();
    const [b, addressB] = this.#udp();
    const send = new SendBatch(this.#arena, 4);
    const receive = new RecvBatch(this.#arena, 1024, 4, 64, true);
    this.#arena.set([1, 2, 3, 4, 5]);
    send.add(0, 2, addressB);
    send.add(2, 3, addressB, addressA);
    check(need(send.send(a), 'sendmmsg') === 2, 'sendmmsg sends one of two');
    this.#await(b, EPOLLIN, 'a datagram does not arrive');
    check(need(receive.recv(b), 'recvmmsg') === 2, 'recvmmsg gives one of two');
    const from = anyone();
    const local = anyone();
    for (let i = 0; i < 2; i++) {
      check(receive.from(i, from) && same(from, addressA), 'recvmmsg gives another source address');
      check(receive.local(i, local) && local.a3 === LOOPBACK, 'no packet info with a datagram');
      check(receive.length(i) === 2 + i && !receive.truncated(i), 'struct mmsghdr has another layout');
      check(this.#arena[receive.start(i)] === 1 + 2 * i, 'a datagram arrives changed');
    }
  }

  #streams(): void {
    const at = loopback();
    const listener = this.#open(openListener(at, 8), 'listen on 127.0.0.1');
    need(localAddress(listener, at), 'getsockname');
    const client = this.#open(connectStream(at), 'connect to 127.0.0.1');
    this.#await(listener, EPOLLIN, 'a connection does not arrive');
    const peer = anyone();
    const server = this.#open(accept(listener, peer), 'accept4');
    this.#await(client, EPOLLOUT, 'a connection is not made');
    need(socketError(client), 'SO_ERROR');
    need(setNoDelay(client), 'TCP_NODELAY');
    const mine = anyone();
    need(localAddress(client, mine), 'getsockname');
    check(same(peer, mine), 'accept4 gives another peer address');
    need(peerAddress(client, mine), 'getpeername');
    check(same(at, mine), 'getpeername gives another address');
    const words = new Int32Array(4);
    need(cookie(client, words), 'SO_COOKIE');
    need(cookie(server, words.subarray(2)), 'SO_COOKIE');
    check(words[0] !== words[2] || words[1] !== words[3], 'two sockets have one cookie');

    const io = new StreamIo(this.#arena, 1024, 64);
    this.#arena.set([7, 0, 8, 9]);
    io.segment(0, 1);
    io.segment(2, 2);
    check(need(io.send(client), 'sendmsg') === 3, 'struct msghdr has another layout');
    this.#await(server, EPOLLIN, 'bytes do not arrive');
    check(need(io.recv(server), 'recvmsg') === 3, 'recvmsg gives another length');
    check(this.#arena[1024] === 7 && this.#arena[1026] === 9, 'bytes arrive changed');
    check(io.recvAt(client, 0, 8) === -EAGAIN, 'an idle socket does not say EAGAIN');
  }

  /** A port that was ours a moment ago is closed now: the kernel itself answers with ICMP. */
  #icmpErrors(): void {
    const [fd] = this.#udp();
    const [closed, dead] = this.#udp();
    this.#opened.splice(this.#opened.indexOf(closed), 1);
    closeFd(closed);
    const send = new SendBatch(this.#arena, 1);
    send.add(0, 1, dead);
    need(send.send(fd), 'sendmmsg');
    this.#await(fd, 0, 'a port unreachable is not reported');
    const errors = new ErrorQueue();
    check(need(errors.next(fd), 'recvmsg(MSG_ERRQUEUE)') === 1, 'the error queue is empty');
    check(errors.errno === ECONNREFUSED && same(errors.to, dead), 'the error queue has another layout');
    check(errors.next(fd) === 0, 'the error queue does not end');
  }

  #udp(): [number, Address] {
    const address = loopback();
    const fd = this.#open(openUdp(address, { pktinfo: true }), 'a UDP socket on 127.0.0.1');
    need(localAddress(fd, address), 'getsockname');
    return [fd, address];
  }

  #open(fd: number, what: string): number {
    this.#opened.push(need(fd, what));
    return fd;
  }

  #await(fd: number, events: number, otherwise: string): void {
    need(this.#epoll.add(fd, events, fd, 0), 'epoll_ctl');
    check(need(this.#epoll.wait(PATIENCE_MS), 'epoll_wait') === 1, otherwise);
    need(this.#epoll.remove(fd), 'epoll_ctl');
  }
}

function anyone(): Address {
  return { family: 4, port: 0, a0: 0, a1: 0, a2: 0, a3: 0 };
}

function loopback(): Address {
  const address = anyone();
  setV4(address, LOOPBACK);
  return address;
}

function same(a: Address, b: Address): boolean {
  return a.port === b.port && a.a3 === b.a3 && a.a2 === b.a2 && a.family === b.family;
}

function check(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise);
}

function need(n: number, what: string): number {
  if (n < 0) throw new Error(`${what}: ${errnoName(n)}`);
  return n;
}
