/**
 * The descriptors that main opens and keeps on the ffi backend, and the acceptor. All UDP sockets of all
 * shards are bound before the first datagram is read: a change of a SO_REUSEPORT group would move clients
 * between its sockets. A replacement shard gets the same ones.
 *
 * Accepting: main waits on the listening sockets in an epoll set of its own with libuv nested in it (the
 * same inverted loop as a shard's), accepts in batches, claims a flow record for the shard that has the
 * fewest flows, and puts its slot in that shard's ring. No descriptor, no record or no room in the ring:
 * the connection is reset and counted, so that the client goes elsewhere at once. For the case that no
 * descriptor is left one is kept in reserve: it is given up to accept, and to reset, the next in the queue.
 */
import type { ListenerConfig } from '../config/config.ts';
import { EPOLLIN, Epoll } from '../native/epoll.ts';
import { EAGAIN, EMFILE, ENFILE, errnoName } from '../native/errno.ts';
import { createEventfd, EventCounter } from '../native/eventfd.ts';
import { NULL } from '../native/memory.ts';
import { openssl } from '../native/openssl.ts';
import { accept, closeFd, cookie, openListener, openUdp, setLinger0 } from '../native/socket.ts';
import { backendFd } from '../native/uv.ts';
import { Endpoint } from '../net/endpoint.ts';
import type { Logger } from '../observe/log.ts';
import { HANDOFF } from '../shard/boot.ts';
import { Cause } from '../shared/cause.ts';
import type { Clock } from '../shared/clock.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import type { FlowTable } from '../shared/flow-table.ts';
import type { Mesh, MessageHandler } from '../shared/mesh.ts';
import type { SslTable } from '../shared/ssl-table.ts';
import { UDP } from '../wire/via.ts';

const BACKLOG = 4_096;
const BATCH = 64;
/** The longest wait: timers of Node's on this thread may be late by as much. */
const LONGEST_WAIT_MS = 20;
/** When even the reserve is gone the listeners rest, or the loop would spin on them. */
const REST_MS = 100;
/** One log line for all that is refused within this time for want of descriptors. */
const QUIET_MS = 10_000;
const LIBUV = -2;
const WAKE_UP = -1;

/** A descriptor that the start cannot do without. */
function opened(fd: number): number {
  if (fd < 0) throw new Error(`no descriptor left: ${errnoName(-fd)}`);
  return fd;
}

export interface Accepting {
  mail: Mesh;
  table: FlowTable;
  counters: Counters;
  log: Logger;
  clock: Clock;
  /** what the shards say to main */
  onMail: MessageHandler;
}

interface Listening {
  fd: number;
  listener: number;
  transport: number;
}

export class Descriptors {
  /** by participant; -1 for one that waits on its bell */
  readonly eventfds: number[];
  /** by shard index, 0 to shards - 1 */
  readonly epolls: number[] = [];
  /** by shard index, then listener id */
  readonly sockets: number[][] = [];
  /** of secured streams, where there are any */
  ssl: SslTable | undefined;
  readonly #shards: number;
  readonly #listening: Listening[] = [];
  readonly #signals: (EventCounter | undefined)[];
  readonly #own = new Epoll(opened(Epoll.create()));
  readonly #peer = new Endpoint();
  readonly #cookie = new Int32Array(2);
  #accepting: Accepting | undefined;
  #restUntil = 0;
  #reserve = createEventfd();
  #quietUntil = 0;
  #open = true;

  private constructor(shards: number, participants: number, store: number) {
    this.#shards = shards;
    this.eventfds = Array.from({ length: participants }, (_, i) =>
      i === store && store > 0 ? -1 : opened(createEventfd()),
    );
    this.#signals = this.eventfds.map((fd) => (fd < 0 ? undefined : new EventCounter(fd)));
    for (let i = 0; i < shards; i++) this.epolls.push(opened(Epoll.create()));
  }

  /** Throws, with all closed, if an address cannot be bound. */
  static open(
    listen: readonly ListenerConfig[],
    shards: number,
    participants: number,
    store: number,
  ): Descriptors {
    const all = new Descriptors(shards, participants, store);
    try {
      for (let i = 0; i < shards; i++) all.sockets.push(listen.map(() => -1));
      for (const [id, l] of listen.entries()) all.#bind(id, l);
    } catch (error) {
      all.close();
      throw error;
    }
    return all;
  }

  #bind(id: number, l: ListenerConfig): void {
    const address = Endpoint.parse(l.host, l.port) as Endpoint;
    const check = (fd: number): number => {
      if (fd < 0) throw new Error(`${l.scheme}:${address} cannot be bound: ${errnoName(-fd)}`);
      return fd;
    };
    if (l.transport === UDP) {
      // Alone first, without SO_REUSEPORT: another process on the port must be an error, not a companion.
      const pktinfo = address.isWildcard;
      const alone = check(openUdp(address, { pktinfo }));
      if (l.shard > 0) {
        for (const sockets of this.sockets) sockets[id] = alone; // the others only send by it
        return;
      }
      closeFd(alone);
      for (const sockets of this.sockets) sockets[id] = check(openUdp(address, { reusePort: true, pktinfo }));
    } else
      this.#listening.push({
        fd: check(openListener(address, BACKLOG)),
        listener: id,
        transport: l.transport,
      });
  }

  readonly wake = (participant: number): boolean => {
    const signal = this.#signals[participant];
    if (!signal) return false;
    signal.signal();
    return true;
  };

  // ---- accepting

  async accept(accepting: Accepting): Promise<void> {
    this.#accepting = accepting;
    this.#own.add(backendFd(), EPOLLIN, LIBUV, 0);
    this.#own.add(this.eventfds[0], EPOLLIN, WAKE_UP, 0);
    for (const [i, { fd }] of this.#listening.entries()) this.#own.add(fd, EPOLLIN, i, 0);
    setImmediate(this.#loop);
  }

  readonly #loop = (): void => {
    if (!this.#accepting) return;
    const { mail, clock, onMail } = this.#accepting;
    const now = clock.now();
    mail.bell.prepareSleep();
    const n = this.#own.wait(mail.isQuiet() ? LONGEST_WAIT_MS : 0);
    mail.bell.awake();
    for (let i = 0; i < n; i++) {
      const which = this.#own.data0(i);
      if (which >= 0) this.#acceptFrom(this.#listening[which]);
      else if (which === WAKE_UP) this.#signals[0]?.drain();
    }
    mail.receive(onMail, BATCH);
    if (this.#restUntil > 0 && now >= this.#restUntil) {
      this.#restUntil = 0;
      for (const [i, { fd }] of this.#listening.entries()) this.#own.add(fd, EPOLLIN, i, 0);
    }
    setImmediate(this.#loop);
  };

  #acceptFrom({ fd, listener, transport }: Listening): void {
    const { clock } = this.#accepting as Accepting;
    for (let i = 0; i < BATCH; i++) {
      const accepted = accept(fd, this.#peer);
      if (accepted >= 0) {
        this.#handOver(accepted, listener, transport);
        continue;
      }
      if (accepted === -EAGAIN) return;
      if (accepted === -EMFILE || accepted === -ENFILE) {
        const refused = this.#refuseNext(fd);
        if (refused === -EAGAIN) return; // the kernel wants a descriptor before it looks whether anyone waits
        this.#exhausted(accepted);
        if (refused >= 0) continue;
        if (this.#restUntil === 0) {
          for (const { fd: listening } of this.#listening) this.#own.remove(listening);
          this.#restUntil = clock.now() + REST_MS;
        }
        return;
      }
      // ECONNABORTED and the like concern the one connection
    }
  }

  #exhausted(error: number): void {
    const { counters, log, clock } = this.#accepting as Accepting;
    counters.inc(Counter.fdExhausted);
    const now = clock.now();
    if (now < this.#quietUntil) return;
    this.#quietUntil = now + QUIET_MS;
    log.error({ event: 'no-descriptors', error: errnoName(-error) });
  }

  /** With the descriptor in reserve. -EAGAIN: nobody waits; another -errno: the reserve is gone too. */
  #refuseNext(listening: number): number {
    if (this.#reserve >= 0) closeFd(this.#reserve);
    const accepted = accept(listening, this.#peer);
    if (accepted >= 0) this.#refuse(accepted);
    this.#reserve = createEventfd();
    return accepted;
  }

  #handOver(fd: number, listener: number, transport: number): void {
    const { mail, table, counters, log } = this.#accepting as Accepting;
    const shard = this.#leastLoaded(table);
    const slot = table.claim(shard);
    if (slot < 0) {
      counters.inc(Counter.tableFull);
      this.#refuse(fd);
      return;
    }
    const peer = this.#peer;
    table.setKind(slot, transport, peer.family);
    table.setListener(slot, listener);
    table.setRemote(slot, peer.a0, peer.a1, peer.a2, peer.a3, peer.port);
    table.setFd(slot, fd);
    if (cookie(fd, this.#cookie) >= 0) table.setCookie(slot, this.#cookie[0], this.#cookie[1]);
    const generation = table.generation(slot);
    mail.words[0] = slot;
    mail.words[1] = generation;
    if (mail.send(shard, HANDOFF, 2)) return;
    counters.inc(Counter.ringFull);
    log.warn({ event: 'ring-full', shard });
    table.abandon(slot, Cause.TABLE_FULL);
    this.#refuse(fd);
  }

  #refuse(fd: number): void {
    setLinger0(fd);
    closeFd(fd);
  }

  #leastLoaded(table: FlowTable): number {
    let best = 1;
    for (let shard = 2; shard <= this.#shards; shard++)
      if (table.owned(shard) < table.owned(best)) best = shard;
    return best;
  }

  /** Closes the descriptor of a lost shard's flow, if the number still belongs to that socket. */
  closeFlow(fd: number, cookieLow: number, cookieHigh: number): void {
    if (cookie(fd, this.#cookie) < 0) return;
    if (this.#cookie[0] === cookieLow && this.#cookie[1] === cookieHigh) closeFd(fd);
  }

  /** Frees what OpenSSL holds for a lost shard's flow, if it is secured. */
  freeSecured(slot: number): void {
    const connection = this.ssl?.get(slot) ?? NULL;
    if (connection === NULL) return;
    this.ssl?.set(slot, NULL);
    openssl.SSL_free(connection);
  }

  stopAccepting(): void {
    if (!this.#accepting) return;
    this.#accepting = undefined;
    this.#own.remove(backendFd());
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.stopAccepting();
    for (const { fd } of this.#listening) closeFd(fd);
    for (const fd of new Set(this.sockets.flat())) if (fd >= 0) closeFd(fd);
    for (const fd of this.epolls) closeFd(fd);
    for (const fd of this.eventfds) if (fd >= 0) closeFd(fd);
    if (this.#reserve >= 0) closeFd(this.#reserve);
    closeFd(this.#own.fd);
  }
}
