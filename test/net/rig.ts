import { once } from 'node:events';
import net from 'node:net';
import { selfTest } from '../../src/native/available.ts';
import { Epoll } from '../../src/native/epoll.ts';
import { createEventfd } from '../../src/native/eventfd.ts';
import { accept, closeFd, openListener, openUdp } from '../../src/native/socket.ts';
import { CoreNet, type CoreOptions } from '../../src/net/core.ts';
import { Endpoint } from '../../src/net/endpoint.ts';
import { FfiNet } from '../../src/net/ffi.ts';
import type { Listener, Net, NetHandler } from '../../src/net/net.ts';
import { Counters } from '../../src/shared/counters.ts';
import { TRANSPORT_TCP, TRANSPORT_UDP } from '../../src/shared/flow-record.ts';
import { FlowTable, OPEN } from '../../src/shared/flow-table.ts';
import { bound, hasIpv6, ok } from '../native/loopback.ts';

/** Listener ids of every rig. */
export const UDP4 = 0;
export const TCP4 = 1;
export const UDP6 = 2;
export const TCP6 = 3;

export const SHARD = 1;
export const backends: Array<Net['name']> = selfTest().ok ? ['ffi', 'core'] : ['core'];
export const hasFfi = backends.includes('ffi');

export interface Heard {
  listener: number;
  from: string;
  local: string;
  text: string;
}

/** A handler that writes everything down; a test replaces what it wants to act on. */
export class Recorder implements NetHandler {
  readonly datagrams: Heard[] = [];
  readonly opens: number[] = [];
  readonly connects: Array<{ slot: number; error: number }> = [];
  readonly closes: Array<{ slot: number; cause: number }> = [];
  readonly unsecureds: string[] = [];
  readonly unsents: string[] = [];
  readonly backlogs: number[] = [];
  readonly introductions: Array<{ slot: number; local: boolean }> = [];
  mayBeProxied = true;
  readonly unreachables: Array<{ listener: number; to: string; errno: number }> = [];
  /** what happened, in order */
  readonly log: string[] = [];
  /** the bytes that were used up, by slot */
  readonly input = new Map<number, Buffer[]>();
  turns = 0;
  nextTimer = Number.POSITIVE_INFINITY;
  onDatagram: (from: Endpoint, bytes: Buffer) => void = () => {};
  /** how many of the bytes are used up */
  use: (slot: number, bytes: Buffer) => number = (_slot, bytes) => bytes.length;
  onUnsent: (text: string) => void = () => {};
  onTurn: () => void = () => {};
  onClosed: (slot: number) => void = () => {};
  canRest: () => boolean = () => true;
  /** calls of this handler that have not returned */
  #inside = 0;
  readonly #net: () => Net;
  readonly #flows: FlowTable;

  constructor(net: () => Net, flows: FlowTable) {
    this.#net = net;
    this.#flows = flows;
  }

  #copy(start: number, end: number): Buffer {
    return Buffer.from(this.#net().arena.mem.subarray(start, end));
  }

  #call<T>(name: string, act: () => T): T {
    this.log.push(this.#inside > 0 ? `${name} inside a call` : name);
    this.#inside++;
    try {
      return act();
    } finally {
      this.#inside--;
    }
  }

  datagram(listener: number, from: Endpoint, local: Endpoint, start: number, end: number): void {
    const bytes = this.#copy(start, end);
    this.datagrams.push({ listener, from: `${from}`, local: `${local}`, text: bytes.toString('latin1') });
    this.#call('datagram', () => this.onDatagram(from, bytes));
  }

  bytes(slot: number, start: number, end: number): number {
    const bytes = this.#copy(start, end);
    const used = this.#call('bytes', () => this.use(slot, bytes));
    const list = this.input.get(slot) ?? [];
    this.input.set(slot, list);
    if (used > 0) list.push(bytes.subarray(0, used));
    return used;
  }

  opened(slot: number): void {
    this.#call('opened', () => {
      this.#flows.publish(slot, OPEN);
      this.opens.push(slot);
    });
  }

  mayProxy(): boolean {
    return this.mayBeProxied;
  }

  proxied(slot: number, local: boolean): void {
    this.introductions.push({ slot, local });
  }

  connected(slot: number, error: number): void {
    this.#call('connected', () => this.connects.push({ slot, error }));
  }

  unsecured(_slot: number, reason: string): void {
    this.#call('unsecured', () => this.unsecureds.push(reason));
  }

  unsent(_slot: number, start: number, end: number): void {
    const text = this.#copy(start, end).toString('latin1');
    this.unsents.push(text);
    this.#call('unsent', () => this.onUnsent(text));
  }

  closed(slot: number, cause: number): void {
    this.#call('closed', () => {
      this.closes.push({ slot, cause });
      this.#flows.release(slot, this.#flows.generation(slot), cause);
      this.onClosed(slot);
    });
  }

  backlog(_slot: number, waiting: number): void {
    this.backlogs.push(waiting);
  }

  unreachable(listener: number, to: Endpoint, errno: number): void {
    this.unreachables.push({ listener, to: `${to}`, errno });
  }

  tick(): void {}

  turn(): number {
    this.turns++;
    this.#inside++;
    this.onTurn();
    this.#inside--;
    return this.nextTimer;
  }

  rest(): boolean {
    return this.canRest();
  }

  text(slot: number): string {
    return Buffer.concat(this.input.get(slot) ?? []).toString('latin1');
  }
}

export class Rig {
  readonly name: Net['name'];
  readonly flows = new FlowTable(FlowTable.allocate(256));
  readonly counters = new Counters(Counters.allocate(2), SHARD);
  readonly listeners: Listener[];
  readonly on: Recorder;
  net!: Net;
  /** added to the clock */
  skew = 0;
  #stopped = false;
  readonly #fds: number[] = [];
  /** ffi: listening descriptors by listener id, which main would hold */
  readonly #listening: number[] = [];

  static async start(name: Net['name'], options: Partial<CoreOptions> = {}): Promise<Rig> {
    const rig = new Rig(name);
    if (name === 'ffi') rig.#makeFfi();
    else rig.net = new CoreNet({ ...rig.coreOptions(), ...options });
    rig.net.start(rig.on);
    if (rig.net instanceof CoreNet) await rig.net.ready;
    return rig;
  }

  constructor(name: Net['name']) {
    this.name = name;
    this.listeners = [listener(UDP4, '127.0.0.1'), listener(TCP4, '127.0.0.1')];
    if (hasIpv6) this.listeners.push(listener(UDP6, '::1'), listener(TCP6, '::1'));
    this.on = new Recorder(() => this.net, this.flows);
  }

  readonly now = (): number => performance.now() + this.skew;

  #makeFfi(): void {
    const own = (fd: number): number => {
      this.#fds.push(ok(fd));
      return fd;
    };
    const sockets = this.listeners.map(({ id, transport, address }) => {
      const fd = own(transport === TRANSPORT_UDP ? openUdp(address) : openListener(address, 64));
      address.port = bound(fd).port;
      this.#listening[id] = fd;
      return transport === TRANSPORT_UDP ? fd : -1;
    });
    const { listeners, flows, counters, now } = this;
    const epoll = own(Epoll.create());
    const eventfd = own(createEventfd());
    this.net = new FfiNet({
      nodeSockets: false,
      shard: 1,
      ssl: undefined,
      listeners,
      sockets,
      epoll,
      eventfd,
      flows,
      counters,
      now,
      replacement: false,
    });
  }

  coreOptions(): CoreOptions {
    const { listeners, flows, counters, now } = this;
    return {
      listeners,
      flows,
      counters,
      now,
      shard: 0,
      accept: true,
      reusePort: false,
      claimStream: (id, remote) => this.claim(id, remote),
    };
  }

  claim(listenerId: number, remote: Endpoint): number {
    const slot = this.flows.claim(SHARD);
    const { a0, a1, a2, a3, port, family } = remote;
    this.flows.setKind(slot, TRANSPORT_TCP, family);
    this.flows.setListener(slot, listenerId);
    this.flows.setRemote(slot, a0, a1, a2, a3, port);
    return slot;
  }

  /**
   * A client's connection to a listener, and its slot once it is open here. A deaf client does not even
   * notice what it is sent, so that nothing at its end wakes this thread.
   */
  async connect(id = TCP4, deaf = false): Promise<{ client: net.Socket; slot: number }> {
    const { address } = this.listeners[id];
    const onread = { buffer: new Uint8Array(1), callback: () => true };
    const client = net.connect({
      host: address.host,
      port: address.port,
      allowHalfOpen: true,
      ...(deaf && { onread }),
    });
    client.on('error', () => {});
    await once(client, 'connect');
    if (deaf) client.pause();
    if (this.name === 'ffi') {
      const remote = new Endpoint();
      const fd = ok(accept(this.#listening[id], remote));
      const slot = this.claim(id, remote);
      this.flows.setFd(slot, fd);
      this.net.adopt(slot);
      return { client, slot };
    }
    const isOurs = (slot: number) => this.flows.remotePort(slot) === client.localPort;
    await until(() => this.on.opens.some(isOurs), 'the connection is not opened');
    return { client, slot: this.on.opens.find(isOurs) as number };
  }

  /** Puts bytes into the out region, as the layers above do. */
  place(bytes: Uint8Array | string): [start: number, end: number] {
    const { arena } = this.net;
    const start = arena.reserve();
    arena.mem.set(Buffer.from(bytes as string, 'latin1'), start);
    arena.outAt = start + bytes.length;
    return [start, arena.outAt];
  }

  send(slot: number, bytes: Uint8Array | string): boolean {
    const [start, end] = this.place(bytes);
    const taken = this.net.sendStream(slot, start, end);
    this.net.wake();
    return taken;
  }

  sendDatagram(id: number, to: Endpoint, bytes: Uint8Array | string): void {
    const [start, end] = this.place(bytes);
    this.net.sendDatagram(id, to, undefined, start, end);
    this.net.wake();
  }

  /** From outside of a handler's call. */
  close(slot: number, cause: number, drain: boolean): void {
    this.net.close(slot, cause, drain);
    this.net.wake();
  }

  /** The next turn has begun and its output is written. */
  async turned(): Promise<void> {
    const { turns } = this.on;
    await until(() => {
      this.net.wake();
      return this.on.turns > turns + 1;
    }, 'no turn comes');
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.net.stop();
    for (const fd of this.#fds) closeFd(fd);
  }
}

function listener(id: number, host: string): Listener {
  const transport = id === UDP4 || id === UDP6 ? TRANSPORT_UDP : TRANSPORT_TCP;
  return { id, transport, address: endpoint(host, 0), wildcard: false, shard: 0 };
}

export function endpoint(host: string, port: number): Endpoint {
  return Endpoint.parse(host, port) as Endpoint;
}

export async function until(holds: () => boolean, otherwise: string): Promise<void> {
  const patience = performance.now() + 8_000;
  while (!holds()) {
    if (performance.now() > patience) throw new Error(otherwise);
    await new Promise(setImmediate);
  }
}

/** What a socket receives from now on, and whether it has seen the end or an error. */
export class Reader {
  readonly chunks: Buffer[] = [];
  length = 0;
  ended = false;
  error = '';

  constructor(socket: net.Socket) {
    socket.on('data', (chunk: Buffer) => {
      this.chunks.push(chunk);
      this.length += chunk.length;
    });
    socket.on('end', () => {
      this.ended = true;
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.error = error.code ?? error.message;
    });
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString('latin1');
  }
}
