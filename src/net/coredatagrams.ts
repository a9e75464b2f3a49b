/**
 * The UDP sockets of one shard on the core backend: one `dgram` socket per UDP listener, a member of
 * that listener's SO_REUSEPORT group where there are several shards. A datagram is copied into the
 * arena's receive region and handed up at once; what is sent is copied out of the arena at the flush,
 * all datagrams of a turn into one Buffer, since libuv may keep them.
 *
 * UDP may lose: what libuv or the kernel does not take is dropped and counted. Node shows neither ICMP
 * errors nor the local address of a datagram: a wildcard listener tells its own address.
 * About 10 us a datagram, two and a half times the ffi backend.
 */
import dgram from 'node:dgram';
import { Counter, type Counters } from '../shared/counters.ts';
import { type Arena, DATAGRAM_SLOT, DATAGRAMS } from './arena.ts';
import { Endpoint } from './endpoint.ts';
import type { Hosts } from './hosts.ts';
import type { Listener, NetHandler } from './net.ts';

/** Datagrams queued before a flush of their own. */
const QUEUE = 256;
/** As the ffi backend's sockets; the kernel caps it. */
const BUFFER = 4 << 20;
/** Bytes that libuv may hold for one socket because the kernel does not take them. */
const LIBUV_QUEUE = 1 << 20;

interface Outgoing {
  listener: number;
  start: number;
  end: number;
  to: Endpoint;
}

/** Addresses are numeric: without a name to look up a send happens in the call, in order. */
const numeric = (
  host: string,
  _options: unknown,
  done: (error: null, address: string, family: number) => void,
): void => done(null, host, host.includes(':') ? 6 : 4);

export class CoreDatagrams {
  readonly #arena: Arena;
  readonly #counters: Counters;
  readonly #hosts: Hosts;
  readonly #woken: () => void;
  readonly #sockets: Array<dgram.Socket | undefined> = [];
  readonly #queue: Outgoing[] = Array.from({ length: QUEUE }, () => ({
    listener: 0,
    start: 0,
    end: 0,
    to: new Endpoint(),
  }));
  #queued = 0;
  /** receive slots in use since the last flush */
  #held = 0;
  readonly #from = new Endpoint();
  readonly #local = new Endpoint();

  constructor(arena: Arena, counters: Counters, hosts: Hosts, woken: () => void) {
    this.#arena = arena;
    this.#counters = counters;
    this.#hosts = hosts;
    this.#woken = woken;
  }

  /** Binds the socket of a UDP listener; port 0 becomes the port that was given. Rejects with the bind error. */
  open(listener: Listener, reusePort: boolean, handler: NetHandler): Promise<void> {
    const { address } = listener;
    const socket = dgram.createSocket({
      type: address.family === 4 ? 'udp4' : 'udp6',
      ipv6Only: address.family === 6,
      reusePort,
      lookup: numeric as NonNullable<dgram.SocketOptions['lookup']>,
    });
    this.#sockets[listener.id] = socket;
    socket.on('message', (message, rinfo) => this.#received(listener, message, rinfo, handler));
    const bound = new Promise<void>((resolve, reject) => {
      // After the bind an error is some datagram's, and UDP may lose.
      socket.on('error', reject);
      socket.once('listening', () => {
        address.port = socket.address().port;
        socket.setRecvBufferSize(BUFFER);
        socket.setSendBufferSize(BUFFER);
        resolve();
      });
    });
    socket.bind({ address: address.host, port: address.port, exclusive: true });
    return bound;
  }

  #received(listener: Listener, message: Buffer, rinfo: dgram.RemoteInfo, handler: NetHandler): void {
    this.#counters.inc(Counter.datagramsIn);
    if (!this.#hosts.parse(rinfo.address, rinfo.port, this.#from) || message.length > DATAGRAM_SLOT) return;
    if (this.#held === DATAGRAMS) this.#arena.flush();
    const start = this.#arena.receive + this.#held++ * DATAGRAM_SLOT;
    this.#arena.mem.set(message, start);
    this.#local.copy(listener.address);
    handler.tick();
    handler.datagram(listener.id, this.#from, this.#local, start, start + message.length);
    this.#woken();
  }

  queue(listener: number, to: Endpoint, start: number, end: number): void {
    if (this.#queued === QUEUE) this.flush();
    const entry = this.#queue[this.#queued++];
    entry.listener = listener;
    entry.to.copy(to);
    entry.start = start;
    entry.end = end;
    this.#woken();
  }

  flush(): void {
    const queued = this.#queued;
    this.#queued = 0;
    this.#held = 0;
    if (queued === 0) return;
    let bytes = 0;
    for (let i = 0; i < queued; i++) bytes += this.#queue[i].end - this.#queue[i].start;
    const copy = Buffer.allocUnsafe(bytes);
    let at = 0;
    for (let i = 0; i < queued; i++) {
      const { listener, start, end, to } = this.#queue[i];
      const socket = this.#sockets[listener];
      const length = end - start;
      copy.set(this.#arena.mem.subarray(start, end), at);
      // Port 0 would throw.
      if (!socket || to.port === 0 || socket.getSendQueueSize() > LIBUV_QUEUE)
        this.#counters.inc(Counter.sendDropped);
      else socket.send(copy, at, length, to.port, this.#hosts.text(to), this.#sent);
      at += length;
    }
  }

  readonly #sent = (error: Error | null): void => {
    this.#counters.inc(error ? Counter.sendDropped : Counter.datagramsOut);
  };

  close(): void {
    for (const socket of this.#sockets) socket?.close();
    this.#sockets.length = 0;
  }
}
