/**
 * SIP elements played by a test, on real sockets: a client or core over UDP, a client connection over
 * TCP, and a core that accepts TCP. Any local address of 127.0.0.0/8 can be taken, so that one test
 * has several hosts.
 *
 * They send exactly the octets they are given, never retransmit, and answer nothing on their own.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import {
  type ConnectionOptions,
  connect as connectTls,
  createServer as createTlsServer,
  TLSSocket,
  type TlsOptions,
} from 'node:tls';
import { type Arrival, arrivalOf, Inbox, isCrlf, isStun, isTrying } from './inbox.ts';
import { type Header, newBranch, type RequestOptions, request, response } from './sip.ts';
import { parseStun, stun } from './stun.ts';

export interface Address {
  host: string;
  port: number;
}

export const bracketed = (host: string) => (host.includes(':') ? `[${host}]` : host);

export abstract class Agent extends Inbox {
  abstract readonly transport: 'UDP' | 'TCP' | 'TLS' | 'WS' | 'WSS';
  readonly host: string;
  readonly port: number;

  constructor(name: string, host: string, port: number) {
    super(name);
    this.host = host;
    this.port = port;
  }

  abstract send(bytes: Buffer, to?: Address): void;
  abstract close(): Promise<void>;

  get hostPort(): string {
    return `${bracketed(this.host)}:${this.port}`;
  }

  /** A Via value of this agent with a new branch. */
  via(params = ';rport', branch = newBranch()): string {
    return `SIP/2.0/${this.transport} ${this.hostPort};branch=${branch}${params}`;
  }

  uri(user: string): string {
    return `sip:${user}@${this.hostPort}${this.transport === 'UDP' ? '' : `;transport=${this.transport.toLowerCase()}`}`;
  }

  /** A request of this agent: as `request`, with the agent's own Via unless one is given. */
  compose(method: string, uri: string, options: Partial<RequestOptions> = {}): Buffer {
    return request(method, uri, { ...options, via: options.via ?? this.via() });
  }

  /** Answers a request the way it came. */
  reply(
    to: Arrival,
    status: number,
    reason: string,
    headers: Header[] = [],
    body: string | Buffer = '',
  ): Buffer {
    const bytes = response(to.message, status, reason, headers, body);
    to.answer(bytes);
    return bytes;
  }

  /**
   * Nothing has arrived, and nothing was on its way: asks the server for a keep-alive answer, which
   * comes after what the server had already sent here, and looks again. `graceMs` adds a wait for
   * what another thread of the server might still send.
   */
  async expectNothing(graceMs = 0): Promise<void> {
    if (graceMs > 0) await new Promise((r) => setTimeout(r, graceMs));
    await this.probe();
    if (this.arrivals.some((a) => !isTrying(a)))
      throw new Error(
        `${this.name} should have received nothing, but has:\n${this.arrivals[0].bytes.toString('latin1')}`,
      );
  }

  /** One keep-alive exchange with the server: STUN over UDP, double CRLF over TCP. */
  abstract probe(): Promise<void>;
}

export class UdpAgent extends Agent {
  readonly transport = 'UDP';
  private readonly socket: UdpSocket;
  private readonly peer: Address | undefined;

  private constructor(name: string, socket: UdpSocket, peer: Address | undefined) {
    const bound = socket.address();
    super(name, bound.address, bound.port);
    this.socket = socket;
    this.peer = peer;
    socket.on('message', (bytes, source) => {
      const from = { host: source.address, port: source.port };
      this.deliver(
        arrivalOf(bytes, from, (answer) => this.send(answer, from)),
        true,
      );
    });
    socket.on('error', () => {}); // ECONNREFUSED of an earlier send: what a test is about shows elsewhere
  }

  static async open(options: {
    host: string;
    port?: number;
    peer?: Address;
    name?: string;
  }): Promise<UdpAgent> {
    const socket = createSocket({
      type: options.host.includes(':') ? 'udp6' : 'udp4',
      recvBufferSize: 1 << 20,
    });
    socket.bind({ address: options.host, port: options.port ?? 0, exclusive: true });
    await once(socket, 'listening');
    return new UdpAgent(options.name ?? 'UDP agent', socket, options.peer);
  }

  send(bytes: Buffer, to: Address | undefined = this.peer): void {
    if (!to) throw new Error(`${this.name} has no peer to send to`);
    this.socket.send(bytes, to.port, to.host);
  }

  async probe(): Promise<void> {
    const ask = stun();
    const id = parseStun(ask)?.id as Buffer;
    this.send(ask);
    await this.next((a) => isStun(a) && (a.stun?.id.equals(id) ?? false));
  }

  async close(): Promise<void> {
    this.abandon('closed');
    await new Promise<void>((r) => this.socket.close(r));
  }
}

/** Cuts a stream into CRLFs and messages the way a tester wants to see them; what is incomplete waits. */
export class StreamCutter {
  private rest: Buffer = Buffer.alloc(0);
  private readonly each: (bytes: Buffer) => void;

  constructor(each: (bytes: Buffer) => void) {
    this.each = each;
  }

  push(chunk: Buffer): void {
    this.rest = Buffer.concat([this.rest, chunk]);
    for (;;) {
      const length = this.whole();
      if (length === 0) return;
      const bytes = this.rest.subarray(0, length);
      this.rest = this.rest.subarray(length);
      this.each(bytes);
    }
  }

  /** The length of the unit at the front, 0 if it is not complete. */
  private whole(): number {
    if (this.rest.length < 2) return 0;
    if (this.rest[0] === 13 && this.rest[1] === 10) return 2;
    const end = this.rest.indexOf('\r\n\r\n');
    if (end < 0) return 0;
    const head = this.rest.subarray(0, end + 2).toString('latin1');
    const body = Number(/^(?:content-length|l)\s*:\s*(\d+)/im.exec(head)?.[1] ?? 0);
    return this.rest.length >= end + 4 + body ? end + 4 + body : 0;
  }
}

export class TcpAgent extends Agent {
  readonly transport: 'TCP' | 'TLS';
  readonly socket: Socket;
  /** how the connection ended; pending while it is open */
  readonly closed: Promise<'end' | 'reset'>;
  /** every octet received, in order */
  readonly octets: Buffer[] = [];

  private constructor(name: string, socket: Socket, inbox?: Inbox) {
    super(name, socket.localAddress as string, socket.localPort as number);
    this.transport = socket instanceof TLSSocket ? 'TLS' : 'TCP';
    this.socket = socket;
    socket.setNoDelay(true);
    const from = { host: socket.remoteAddress as string, port: socket.remotePort as number };
    const cutter = new StreamCutter((bytes) =>
      (inbox ?? this).deliver(arrivalOf(bytes, from, (answer) => this.send(answer))),
    );
    socket.on('data', (chunk: Buffer) => {
      this.octets.push(chunk);
      cutter.push(chunk);
    });
    this.closed = new Promise((resolve) => {
      socket.once('error', () => resolve('reset'));
      socket.once('close', () => resolve('end'));
    });
    socket.once('close', () => setImmediate(() => this.abandon('connection closed')));
  }

  static async connect(options: {
    peer: Address;
    localHost?: string;
    localPort?: number;
    name?: string;
  }): Promise<TcpAgent> {
    const socket = connect({
      host: options.peer.host,
      port: options.peer.port,
      ...(options.localHost === undefined ? {} : { localAddress: options.localHost }),
      ...(options.localPort === undefined ? {} : { localPort: options.localPort }),
    });
    await once(socket, 'connect');
    return new TcpAgent(options.name ?? 'TCP agent', socket);
  }

  /** Over TLS; fails if the server's certificate is not good for `servername` under `ca`. */
  static async connectTls(
    options: ConnectionOptions & { peer: Address; localHost?: string; name?: string },
  ): Promise<TcpAgent> {
    const { peer, localHost, name, ...tls } = options;
    const carrier = connect({ ...peer, ...(localHost === undefined ? {} : { localAddress: localHost }) });
    await once(carrier, 'connect');
    const socket = connectTls({ ...tls, socket: carrier });
    await once(socket, 'secureConnect');
    return new TcpAgent(name ?? 'TLS agent', socket);
  }

  /** The far end of an accepted connection; arrivals go to `inbox`. */
  static accepted(socket: Socket, inbox: Inbox): TcpAgent {
    return new TcpAgent('TCP core connection', socket, inbox);
  }

  send(bytes: Buffer): void {
    this.socket.write(bytes);
  }

  /** Writes each piece as a segment of its own, a turn of the event loop (and a little) apart. */
  async sendPieces(pieces: Buffer[], gapMs = 15): Promise<void> {
    for (const piece of pieces) {
      this.socket.write(piece);
      await new Promise((r) => setTimeout(r, gapMs));
    }
  }

  async probe(): Promise<void> {
    this.send(Buffer.from('\r\n\r\n'));
    await this.next(isCrlf);
  }

  /** Orderly end (FIN); resolves when the server has closed its side too. */
  async close(): Promise<void> {
    if (this.socket.destroyed) return;
    this.socket.end();
    const gone = once(this.socket, 'close');
    const late = setTimeout(() => this.socket.destroy(), 1_000);
    await gone;
    clearTimeout(late);
  }

  /** RST instead of FIN. */
  async reset(): Promise<void> {
    const gone = once(this.socket, 'close');
    this.socket.resetAndDestroy();
    await gone;
  }
}

/** A core that listens on TCP or TLS: one inbox over all connections that the server opens to it. */
export class TcpCore extends Agent {
  readonly transport: 'TCP' | 'TLS';
  readonly connections: TcpAgent[] = [];
  /** how many connections have been opened so far */
  opened = 0;
  private readonly server: Server;

  private constructor(name: string, server: Server, secured = false) {
    const bound = server.address() as { address: string; port: number };
    super(name, bound.address, bound.port);
    this.transport = secured ? 'TLS' : 'TCP';
    this.server = server;
    server.on(secured ? 'secureConnection' : 'connection', (socket: Socket) => {
      this.opened++;
      const connection = TcpAgent.accepted(socket, this);
      this.connections.push(connection);
      socket.once('close', () => this.connections.splice(this.connections.indexOf(connection), 1));
    });
  }

  /** `tls`: certificate and key, for a core or an edge that speaks TLS. */
  static async open(options: {
    host: string;
    port?: number;
    name?: string;
    tls?: TlsOptions;
  }): Promise<TcpCore> {
    const server = options.tls ? createTlsServer(options.tls) : createServer();
    server.listen({ host: options.host, port: options.port ?? 0, exclusive: true });
    await once(server, 'listening');
    return new TcpCore(options.name ?? 'TCP core', server, options.tls !== undefined);
  }

  static async openTls(
    options: TlsOptions & { host: string; port?: number; name?: string },
  ): Promise<TcpCore> {
    const server = createTlsServer(options);
    server.on('tlsClientError', () => {});
    server.listen({ host: options.host, port: options.port ?? 0, exclusive: true });
    await once(server, 'listening');
    return new TcpCore(options.name ?? 'TLS core', server, true);
  }

  /** Over the newest connection of the server. */
  send(bytes: Buffer): void {
    const connection = this.connections.at(-1);
    if (!connection) throw new Error(`${this.name}: the server has not connected`);
    connection.send(bytes);
  }

  async probe(): Promise<void> {
    this.send(Buffer.from('\r\n\r\n'));
    await this.next(isCrlf);
  }

  async close(): Promise<void> {
    this.abandon('closed');
    for (const connection of [...this.connections]) connection.socket.destroy();
    await new Promise<void>((r) => this.server.close(() => r()));
  }
}
