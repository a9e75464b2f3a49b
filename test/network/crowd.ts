/**
 * Many phones and a core in one process, for counts at which the agents of test/harness would be too
 * slow: messages are strings cut at the empty line (none has a body), looked at by indexOf, and nothing
 * is kept of them.
 *
 * Phone number i is the user `u<i>`: it registers once, and is called by a Route with the token of its
 * Path. Request number n has n as its Call-ID, so that a table of octets shows what came where.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { Address } from '../harness/agent.ts';
import { freePort, freshHost } from '../harness/ports.ts';

export type Transport = 'UDP' | 'TCP';

export abstract class Wire {
  abstract readonly transport: Transport;
  readonly host: string;
  readonly port: number;
  /** each message (or CRLF pair) that comes, as text */
  onText: (text: string) => void = () => {};

  constructor(host: string, port: number) {
    this.host = host;
    this.port = port;
  }

  abstract send(text: string | Buffer): void;
  abstract close(): void;

  get hostPort(): string {
    return `${this.host}:${this.port}`;
  }

  /** The next text that fits. */
  next(fits: (text: string) => boolean = () => true, patienceMs = 8_000): Promise<string> {
    const asked = new Error(); // its stack names the line of the test
    return new Promise((resolve, reject) => {
      const before = this.onText;
      const late = setTimeout(() => {
        this.onText = before;
        asked.message = `${this.transport} ${this.hostPort}: nothing came in ${patienceMs} ms`;
        reject(asked);
      }, patienceMs);
      this.onText = (text) => {
        if (!fits(text)) return before(text);
        clearTimeout(late);
        this.onText = before;
        resolve(text);
      };
    });
  }
}

export class UdpWire extends Wire {
  readonly transport = 'UDP';
  readonly socket: UdpSocket;

  private constructor(socket: UdpSocket) {
    super(socket.address().address, socket.address().port);
    this.socket = socket;
    socket.on('message', (bytes) => this.onText(bytes.toString('latin1')));
    socket.on('error', () => {}); // ECONNREFUSED of an earlier send
  }

  static async open(peer: Address, host = freshHost(), port = 0): Promise<UdpWire> {
    const socket = createSocket({ type: 'udp4', recvBufferSize: 1 << 20 });
    socket.bind({ address: host, port, exclusive: true });
    await once(socket, 'listening');
    socket.connect(peer.port, peer.host);
    await once(socket, 'connect');
    return new UdpWire(socket);
  }

  send(text: string | Buffer): void {
    this.socket.send(text as string);
  }

  close(): void {
    this.socket.close();
  }
}

export class TcpWire extends Wire {
  readonly transport = 'TCP';
  readonly socket: Socket;
  /** resolves when the connection is gone, however it ended */
  readonly gone: Promise<void>;
  #rest = '';

  constructor(socket: Socket) {
    super(socket.localAddress as string, socket.localPort as number);
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#cut(chunk.toString('latin1')));
    socket.on('error', () => {}); // a reset is an end like any other
    this.gone = new Promise((resolve) => socket.once('close', () => resolve()));
  }

  static async open(peer: Address, localAddress = freshHost(), allowHalfOpen = false): Promise<TcpWire> {
    const socket = connect({ host: peer.host, port: peer.port, localAddress, allowHalfOpen });
    await once(socket, 'connect');
    return new TcpWire(socket);
  }

  #cut(text: string): void {
    let rest = this.#rest + text;
    for (;;) {
      while (rest.startsWith('\r\n')) {
        rest = rest.slice(2);
        this.onText('\r\n');
      }
      const end = rest.indexOf('\r\n\r\n');
      if (end < 0) break;
      this.onText(rest.slice(0, end + 4));
      rest = rest.slice(end + 4);
    }
    this.#rest = rest;
  }

  send(text: string | Buffer): void {
    this.socket.write(text);
  }

  /** RST: leaves no TIME_WAIT behind. */
  close(): void {
    this.socket.resetAndDestroy();
  }
}

export const openWire = (transport: Transport, peer: Address, host?: string): Promise<Wire> =>
  transport === 'UDP' ? UdpWire.open(peer, host) : TcpWire.open(peer, host);

/** That many, on several hosts, a few at a time. */
export async function openMany(transport: Transport, count: number, peer: Address): Promise<Wire[]> {
  const wires: Wire[] = [];
  for (let done = 0; done < count; done += 50) {
    const host = freshHost();
    const some = Array.from({ length: Math.min(50, count - done) }, () => openWire(transport, peer, host));
    wires.push(...(await Promise.all(some)));
  }
  return wires;
}

let branches = 0;
export const branch = (): string => `z9hG4bK-n${process.pid}-${branches++}`;

export interface RegisterText {
  domain?: string;
  expires?: number;
  regId?: number;
  callId?: string;
}

/** The REGISTER of phone i over this wire. */
export function registerText(wire: Wire, i: number, options: RegisterText = {}): string {
  const { domain = 'example.test', expires = 600, regId = 1, callId = `reg-${i}-${branches}` } = options;
  return (
    `REGISTER sip:${domain} SIP/2.0\r\n` +
    `Via: SIP/2.0/${wire.transport} ${wire.hostPort};rport;branch=${branch()}\r\n` +
    'Max-Forwards: 70\r\n' +
    `From: <sip:u${i}@${domain}>;tag=f${i}\r\nTo: <sip:u${i}@${domain}>\r\n` +
    `Call-ID: ${callId}\r\nCSeq: 1 REGISTER\r\nSupported: path, outbound\r\n` +
    `Contact: <sip:u${i}@${wire.hostPort}>;+sip.instance="<urn:uuid:00000000-0000-4000-8000-${String(i).padStart(12, '0')}>";reg-id=${regId};expires=${expires}\r\n` +
    'Content-Length: 0\r\n\r\n'
  );
}

/** A request with a number to phone i; without a token to its AOR. */
export function requestText(
  wire: Wire,
  n: number,
  i: number,
  route: string | undefined,
  method = 'MESSAGE',
): string {
  return (
    `${method} sip:u${i}@example.test SIP/2.0\r\n` +
    `Via: SIP/2.0/${wire.transport} ${wire.hostPort};rport;branch=${branch()}\r\n` +
    `Max-Forwards: 70\r\n${route === undefined ? '' : `Route: ${route}\r\n`}` +
    `From: <sip:core@example.test>;tag=c\r\nTo: <sip:u${i}@example.test>\r\n` +
    `Call-ID: ${n}\r\nCSeq: 1 ${method}\r\nContent-Length: 0\r\n\r\n`
  );
}

export function optionsText(wire: Wire, callId: string, target = 'sip:example.test'): string {
  return (
    `OPTIONS ${target} SIP/2.0\r\nVia: SIP/2.0/${wire.transport} ${wire.hostPort};rport;branch=${branch()}\r\n` +
    `Max-Forwards: 70\r\nFrom: <sip:t@example.test>;tag=t\r\nTo: <${target}>\r\n` +
    `Call-ID: ${callId}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n`
  );
}

export const isStatus =
  (status: number) =>
  (text: string): boolean =>
    text.startsWith(`SIP/2.0 ${status} `);

export const numberOf = (text: string): number => {
  const at = text.indexOf('Call-ID: ');
  return Number(text.slice(at + 9, text.indexOf('\r\n', at)));
};

/** The phone that the Request-URI names. */
export const phoneOf = (text: string): number => {
  const at = text.indexOf('sip:u') + 5;
  return Number(text.slice(at, text.indexOf('@', at)));
};

/** Copies the lines of these headers, in order. */
const linesOf = (text: string, names: string[]): string =>
  text
    .split('\r\n')
    .slice(1)
    .filter((line) => names.some((name) => line.startsWith(`${name}: `)))
    .map((line) => `${line}\r\n`)
    .join('');

export function answerText(request: string, status = '200 OK', extra = ''): string {
  const copied = linesOf(request, ['Via', 'From', 'Call-ID', 'CSeq']);
  const to = linesOf(request, ['To']).replace('\r\n', ';tag=core\r\n');
  return `SIP/2.0 ${status}\r\n${copied}${to}${extra}Content-Length: 0\r\n\r\n`;
}

/** Registers phone i and waits for its 200. */
export async function registerOn(wire: Wire, i: number, options: RegisterText = {}): Promise<string> {
  const ok = wire.next(isStatus(200));
  wire.send(registerText(wire, i, options));
  return await ok;
}

/**
 * A core behind an edge: answers every REGISTER with 200 and keeps the Path of each phone. It listens on
 * UDP and TCP at one address; the edge's configuration says which of the two it is reached by.
 */
export class Core {
  readonly host: string;
  readonly port: number;
  /** by phone number */
  readonly path: string[] = [];
  /** requests other than REGISTER, and responses */
  onText: (text: string, from: Wire | undefined) => void = () => {};
  readonly connections: TcpWire[] = [];
  readonly #udp: UdpSocket;
  readonly #tcp: Server;

  private constructor(udp: UdpSocket, tcp: Server) {
    this.#udp = udp;
    this.#tcp = tcp;
    this.host = udp.address().address;
    this.port = udp.address().port;
    udp.on('message', (bytes, from) =>
      this.#take(bytes.toString('latin1'), (text) => udp.send(text, from.port, from.address), undefined),
    );
    udp.on('error', () => {});
    tcp.on('connection', (socket) => {
      const wire = new TcpWire(socket);
      this.connections.push(wire);
      wire.onText = (text) => this.#take(text, (answer) => wire.send(answer), wire);
    });
  }

  static async open(): Promise<Core> {
    const host = freshHost();
    const port = await freePort(host);
    const udp = createSocket({ type: 'udp4', recvBufferSize: 4 << 20 });
    udp.bind({ address: host, port, exclusive: true });
    const tcp = createServer();
    tcp.listen({ host, port, exclusive: true });
    await Promise.all([once(udp, 'listening'), once(tcp, 'listening')]);
    return new Core(udp, tcp);
  }

  #take(text: string, answer: (text: string) => void, from: Wire | undefined): void {
    if (!text.startsWith('REGISTER ')) {
      this.onText(text, from);
      return;
    }
    const to = text.indexOf('\r\nTo: <sip:u') + 12;
    const path = linesOf(text, ['Path']);
    this.path[Number(text.slice(to, text.indexOf('@', to)))] = path.slice(6, path.indexOf('\r\n'));
    answer(answerText(text, '200 OK', `${path}${linesOf(text, ['Contact'])}Require: outbound\r\n`));
  }

  close(): void {
    this.#udp.close();
    for (const connection of this.connections) connection.close();
    this.#tcp.close();
  }
}
