/**
 * The UDP sockets of one shard on the ffi backend: one per UDP listener, each a member of that
 * listener's SO_REUSEPORT group, or the one socket of a listener that one shard reads and all may send by. Opened by
 * main and never closed here. Datagrams come and go in batches
 * of 64 (recvmmsg, sendmmsg); what the handler queues while it reads is sent at the next flush.
 *
 * UDP may lose: a datagram that the kernel will not take (EAGAIN, ENOBUFS) is dropped and counted. An
 * ICMP error is charged to the address in it and never to the datagram that happened to meet it.
 */
import { EAGAIN, ENOBUFS } from '../native/errno.ts';
import { ErrorQueue, ORIGIN_ICMP, ORIGIN_ICMP6 } from '../native/errqueue.ts';
import { RecvBatch, SendBatch } from '../native/mmsg.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { type Arena, DATAGRAM_SLOT, DATAGRAMS } from './arena.ts';
import { Endpoint } from './endpoint.ts';
import type { Listener, NetHandler } from './net.ts';

/** Batches read from one socket before the others have their turn. */
const READ_BUDGET = 4;

interface Socket {
  fd: number;
  listener: Listener;
  receive: RecvBatch;
  send: SendBatch;
}

export class Datagrams {
  readonly #sockets: Array<Socket | undefined>;
  readonly #errors = new ErrorQueue();
  readonly #from = new Endpoint();
  readonly #local = new Endpoint();
  readonly #to = new Endpoint();
  readonly #counters: Counters;

  /** `fds[id]` is this shard's socket of listener `id`, -1 for a stream listener. */
  constructor(arena: Arena, listeners: Listener[], fds: number[], counters: Counters) {
    this.#counters = counters;
    this.#sockets = listeners.map((listener, id) =>
      fds[id] < 0
        ? undefined
        : {
            fd: fds[id],
            listener,
            receive: new RecvBatch(arena.mem, arena.receive, DATAGRAMS, DATAGRAM_SLOT, listener.wildcard),
            send: new SendBatch(arena.mem, DATAGRAMS),
          },
    );
  }

  read(listenerId: number, handler: NetHandler, beforeBatch: () => void): void {
    const socket = this.#sockets[listenerId];
    if (!socket) return;
    const { receive, listener } = socket;
    for (let round = 0; round < READ_BUDGET; round++) {
      if (round > 0) beforeBatch();
      const n = receive.recv(socket.fd);
      if (n <= 0) {
        if (n < 0 && n !== -EAGAIN) this.drainErrors(listenerId, handler);
        return;
      }
      this.#counters.add(Counter.datagramsIn, n);
      for (let i = 0; i < n; i++) {
        if (!receive.from(i, this.#from) || receive.truncated(i)) continue;
        if (!listener.wildcard || !receive.local(i, this.#local)) this.#local.copy(listener.address);
        this.#local.port = listener.address.port;
        const start = receive.start(i);
        handler.datagram(listenerId, this.#from, this.#local, start, start + receive.length(i));
      }
      if (n < DATAGRAMS) return;
    }
  }

  queue(
    listenerId: number,
    to: Endpoint,
    local: Endpoint | undefined,
    start: number,
    end: number,
    handler: NetHandler,
  ): void {
    const socket = this.#sockets[listenerId];
    if (!socket) return;
    if (socket.send.full) this.#flush(socket, handler);
    socket.send.add(start, end - start, to, socket.listener.wildcard ? local : undefined);
  }

  flush(handler: NetHandler): void {
    for (const socket of this.#sockets) if (socket && socket.send.count > 0) this.#flush(socket, handler);
  }

  #flush(socket: Socket, handler: NetHandler): void {
    const batch = socket.send;
    while (!batch.done) {
      const n = batch.send(socket.fd);
      if (n > 0) {
        this.#counters.add(Counter.datagramsOut, n);
        continue;
      }
      if (n === -EAGAIN || n === -ENOBUFS) {
        this.#counters.add(Counter.sendDropped, batch.count - batch.index);
        break;
      }
      this.drainErrors(socket.listener.id, handler);
      if (!batch.repeats(n)) {
        this.#counters.inc(Counter.sendDropped);
        batch.skip();
      }
    }
    batch.reset();
  }

  /** Empties the error queue: without that EPOLLERR would be reported for ever. */
  drainErrors(listenerId: number, handler: NetHandler): void {
    const socket = this.#sockets[listenerId];
    if (!socket) return;
    const errors = this.#errors;
    while (errors.next(socket.fd) > 0) {
      if (errors.origin !== ORIGIN_ICMP && errors.origin !== ORIGIN_ICMP6) continue;
      this.#counters.inc(Counter.icmpErrors);
      const { family, port, a0, a1, a2, a3 } = errors.to;
      Object.assign(this.#to, { family, port, a0, a1, a2, a3 });
      handler.unreachable(listenerId, this.#to, errors.errno);
    }
  }
}
