/**
 * Servers with a WebSocket listener beside UDP and TCP, for each scheme that the configuration takes: `wss`
 * is left out where it is refused as not built (handshake.test.ts says so by a skipped test). Clients come from hosts of their own.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type SecureContextOptions } from 'node:tls';
import { loadConfig } from '../../src/config/load.ts';
import type { Address, Agent, UdpAgent } from '../harness/agent.ts';
import { type Certificates, makeCertificates } from '../harness/certificates.ts';
import { type Edge, startEdge, startEdgeOverTcp } from '../harness/edge.ts';
import type { Holdfast, HoldfastOptions } from '../harness/holdfast.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { Registrar } from '../harness/registrar.ts';
import { type WebSocketOptions, WsAgent } from '../harness/websocket.ts';

export type Scheme = 'ws' | 'wss';

/** Only a scheme that is refused as not built is left out: any other refusal is for the tests to show. */
function isRefused(scheme: Scheme): boolean {
  try {
    loadConfig({ HOLDFAST_LISTEN: `${scheme}:127.0.0.1:8443` });
    return false;
  } catch (error) {
    return /not built/.test((error as Error).message);
  }
}

export const SCHEMES: Scheme[] = (['ws', 'wss'] as const).filter((scheme) => !isRefused(scheme));

/** Where a server listens, and how a client gets in. */
export class Door {
  readonly scheme: Scheme;
  readonly address: Address;
  readonly options: HoldfastOptions;
  readonly certificates: Certificates | undefined;

  private constructor(scheme: Scheme, port: number, options: HoldfastOptions, certificates?: Certificates) {
    this.scheme = scheme;
    this.address = { host: options.host as string, port };
    this.options = options;
    this.certificates = certificates;
  }

  static async make(scheme: Scheme, { settings, ...options }: HoldfastOptions = {}): Promise<Door> {
    const host = freshHost();
    const port = await freePort(host);
    const web = await freePort(host);
    const certificates = scheme === 'wss' ? makeCertificates([`IP:${host}`]) : undefined;
    return new Door(
      scheme,
      web,
      {
        ...options,
        host,
        port,
        settings: {
          LISTEN: `udp:${host}:${port},tcp:${host}:${port},${scheme}:${host}:${web}`,
          ...(certificates && { TLS_CERT: certificates.cert, TLS_KEY: certificates.key }),
          ...settings,
        },
      },
      certificates,
    );
  }

  get tls(): SecureContextOptions | undefined {
    return this.certificates && { ca: this.certificates.trusted };
  }

  get via(): 'WS' | 'WSS' {
    return this.scheme === 'ws' ? 'WS' : 'WSS';
  }

  client(options: Partial<WebSocketOptions> = {}): Promise<WsAgent> {
    return WsAgent.connect({
      peer: this.address,
      localHost: freshHost(),
      ...(this.tls && { tls: this.tls }),
      ...options,
    });
  }

  /** A connection without a word on it. */
  async connection(): Promise<Connection> {
    let socket: Socket = connect({ ...this.address, localAddress: freshHost() });
    await once(socket, 'connect');
    if (this.tls) {
      socket = connectTls({ host: this.address.host, ...this.tls, socket });
      await once(socket, 'secureConnect');
    }
    return new Connection(socket);
  }

  close(): void {
    this.certificates?.remove();
  }
}

/** Octets as they are. */
export class Connection {
  readonly socket: Socket;
  readonly received: Buffer[] = [];
  /** all that was received, once the server has ended the connection */
  readonly ended: Promise<string>;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.received.push(chunk));
    socket.on('error', () => {});
    this.ended = new Promise((resolve) => socket.once('close', () => resolve(this.text)));
  }

  get text(): string {
    return Buffer.concat(this.received).toString('latin1');
  }

  /** False: it waits in this process. */
  write(octets: string | Buffer): boolean {
    return this.socket.write(octets);
  }

  /** Each as a segment of its own. */
  async writePieces(pieces: readonly Buffer[]): Promise<void> {
    for (const piece of pieces) {
      this.socket.write(piece);
      await new Promise((r) => setTimeout(r, 1));
    }
  }

  /** Waits until so many octets are there. */
  async has(octets: number): Promise<Buffer> {
    while (Buffer.concat(this.received).length < octets) await once(this.socket, 'data');
    return Buffer.concat(this.received);
  }
}

export class WebEdge<Core extends Agent = UdpAgent> {
  readonly door: Door;
  readonly edge: Edge<Core>;

  constructor(door: Door, edge: Edge<Core>) {
    this.door = door;
    this.edge = edge;
  }

  async client(options: Partial<WebSocketOptions> = {}): Promise<WsAgent> {
    return this.edge.keep(await this.door.client(options));
  }

  async close(): Promise<void> {
    await this.edge.close();
    this.door.close();
  }
}

export async function startWebEdge(scheme: Scheme, options: HoldfastOptions = {}): Promise<WebEdge> {
  const door = await Door.make(scheme, options);
  return new WebEdge(door, await startEdge(door.options));
}

export async function startWebEdgeOverTcp(scheme: Scheme, options: HoldfastOptions = {}) {
  const door = await Door.make(scheme, options);
  return new WebEdge(door, await startEdgeOverTcp(door.options));
}

export class WebRegistrar {
  readonly door: Door;
  readonly registrar: Registrar;

  constructor(door: Door, registrar: Registrar) {
    this.door = door;
    this.registrar = registrar;
  }

  async client(options: Partial<WebSocketOptions> = {}): Promise<WsAgent> {
    return this.registrar.keep(await this.door.client(options));
  }

  async close(): Promise<void> {
    await this.registrar.close();
    this.door.close();
  }
}

export async function startWebRegistrar(
  scheme: Scheme,
  options: HoldfastOptions = {},
): Promise<WebRegistrar> {
  const door = await Door.make(scheme, options);
  return new WebRegistrar(door, await Registrar.start('memory', door.options));
}

/** Its shards serve before the process takes signals; the line that says so is its last. */
export async function takesSignals(server: Holdfast): Promise<void> {
  while (!server.output.some((line) => line.startsWith('Holdfast is up')))
    await new Promise((r) => setTimeout(r, 5));
}

/** The octets that open a WebSocket, without their last line. */
export const upgrade = (host: string, more: readonly string[] = []): string =>
  [
    'GET / HTTP/1.1',
    `Host: ${host}`,
    'Upgrade: websocket',
    'Connection: Upgrade',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Protocol: sip',
    ...more,
    '\r\n',
  ].join('\r\n');

/** The answer to it. */
export const ACCEPTED =
  'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: sip\r\n\r\n';
