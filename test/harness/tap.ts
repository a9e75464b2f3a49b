/**
 * Taps on the TCP connections between the elements of a test: each is the public address of one element and passes
 * octets on to where it listens, with a PROXY header, so that the element sees its peers as they are. What goes by is
 * kept, by who sent it to whom: a test reads every message of every hop, not only those of the elements that it plays.
 *
 * A peer that is `stranded` does not learn that the element behind its tap has died: its connection stays open and
 * leads nowhere, as behind a NAT that has forgotten it.
 */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { type Address, StreamCutter } from './agent.ts';
import { arrivalOf, Inbox } from './inbox.ts';
import { freePort, freshHost } from './ports.ts';
import type { SipMessage } from './sip.ts';

/** What has gone by on all the taps of a test. */
export class Wire {
  private readonly names = new Map<string, string>();
  private readonly inboxes = new Map<string, Inbox>();
  private readonly taps: Tap[] = [];
  /** hosts that are left with a dead connection */
  readonly stranded = new Set<string>();

  /** Who speaks from that host. */
  name(host: string, name: string): void {
    this.names.set(host, name);
  }

  nameOf(host: string): string {
    return this.names.get(host) ?? host;
  }

  between(from: string, to: string): Inbox {
    const key = `${from} to ${to}`;
    const inbox = this.inboxes.get(key) ?? new Inbox(key);
    this.inboxes.set(key, inbox);
    return inbox;
  }

  /** All that was not looked at, hop by hop. */
  rest(): Record<string, string[]> {
    const left = [...this.inboxes].map(([key, { arrivals }]): [string, string[]] => [
      key,
      arrivals.map(({ kind, message }) => (kind === 'sip' ? message.startLine : kind)),
    ]);
    return Object.fromEntries(left.filter(([, lines]) => lines.length > 0));
  }

  /** The public address of the element `name`, which listens at `to`. `from`: who comes this way, if only one does. */
  async tap(name: string, to: Address, from?: string): Promise<Tap> {
    const tap = await Tap.open(this, name, to, from);
    this.taps.push(tap);
    return tap;
  }

  async close(): Promise<void> {
    for (const tap of this.taps) await tap.close();
  }
}

/** Its host is the one that the element behind it has to trust as a balancer. */
export class Tap {
  readonly host: string;
  readonly port: number;
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();

  private constructor(server: Server, address: Address) {
    this.server = server;
    this.host = address.host;
    this.port = address.port;
  }

  static async open(wire: Wire, name: string, to: Address, from?: string): Promise<Tap> {
    const host = freshHost();
    const server = createServer();
    server.listen({ host, port: await freePort(host), exclusive: true });
    await once(server, 'listening');
    const tap = new Tap(server, { host, port: (server.address() as { port: number }).port });
    server.on('connection', (near: Socket) => tap.join(wire, name, to, from, near));
    return tap;
  }

  private join(wire: Wire, name: string, to: Address, from: string | undefined, near: Socket): void {
    const source = { host: near.remoteAddress as string, port: near.remotePort as number };
    const far = connect({ ...to, localAddress: this.host });
    far.write(`PROXY TCP4 ${source.host} ${this.host} ${source.port} ${this.port}\r\n`);
    const peer = from ?? wire.nameOf(source.host);
    this.pass(near, far, wire.between(peer, name), source);
    this.pass(far, near, wire.between(name, peer), to);
    near.once('close', () => far.destroy());
    far.once('close', () => {
      if (!wire.stranded.has(source.host)) near.destroy();
    });
  }

  private pass(socket: Socket, other: Socket, inbox: Inbox, source: Address): void {
    this.sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('error', () => {});
    socket.once('close', () => this.sockets.delete(socket));
    const cutter = new StreamCutter((bytes) => {
      inbox.deliver(arrivalOf(bytes, source, () => {}));
      if (!other.destroyed) other.write(bytes);
    });
    socket.on('data', (chunk: Buffer) => cutter.push(chunk));
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }
}

/** Start line, body and each header by its name in lower case, lists taken apart. */
export function fields(message: SipMessage): Record<string, string[]> {
  const names = message.headers.map(([name]) => name.toLowerCase());
  return {
    start: [message.startLine],
    ...Object.fromEntries(names.map((name) => [name, message.all(name)])),
    body: [message.body.toString('latin1')],
  };
}

/** What a hop has changed of a message, whole: the values of each field before and after. What stands alike is not in it. */
export function changes(before: SipMessage, after: SipMessage): Record<string, [string[], string[]]> {
  const [old, now] = [fields(before), fields(after)];
  const names = new Set([...Object.keys(old), ...Object.keys(now)]);
  const pairs = [...names].map((name): [string, [string[], string[]]] => [
    name,
    [old[name] ?? [], now[name] ?? []],
  ]);
  return Object.fromEntries(
    pairs.filter(([, [a, b]]) => a.length !== b.length || a.some((value, i) => value !== b[i])),
  );
}
