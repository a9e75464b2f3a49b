/**
 * An edge that speaks WebSocket, played by a test: what a client asks for, frame by frame, and any answer, right or
 * wrong. Data messages go to one inbox; requests and frames are kept as they came. Fragments are not joined: clients
 * under test send none.
 */
import { createHash } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import { Agent } from './agent.ts';
import { arrivalOf, isCrlf, PATIENCE_MS } from './inbox.ts';
import { BINARY, type FrameOptions, frame, TEXT } from './websocket.ts';

export interface Received {
  opcode: number;
  fin: boolean;
  masked: boolean;
  /** the mask, four octets */
  key: Buffer;
  payload: Buffer;
}

/** The 101 to this request, with other headers in place of its own. */
export function accepting(request: string, changes: Record<string, string | undefined> = {}): string {
  const key = /^Sec-WebSocket-Key: (.*)$/im.exec(request)?.[1] ?? '';
  const headers: Record<string, string | undefined> = {
    Upgrade: 'websocket',
    Connection: 'Upgrade',
    'Sec-WebSocket-Accept': createHash('sha1')
      .update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
      .digest('base64'),
    'Sec-WebSocket-Protocol': 'sip',
    ...changes,
  };
  const lines = Object.entries(headers).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}: ${value}`],
  );
  return `HTTP/1.1 101 Switching Protocols\r\n${lines.join('\r\n')}\r\n\r\n`;
}

export class WsConnection {
  readonly socket: Socket;
  /** the HTTP request, '' before it is whole */
  request = '';
  readonly frames: Received[] = [];
  readonly closed: Promise<unknown>;
  private readonly changes = new EventEmitter();
  private rest = Buffer.alloc(0);

  constructor(
    socket: Socket,
    opened: (connection: WsConnection) => void,
    data: (connection: WsConnection, payload: Buffer, opcode: number) => void,
  ) {
    this.socket = socket;
    socket.on('error', () => {});
    this.closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('data', (chunk: Buffer) => {
      this.rest = Buffer.concat([this.rest, chunk]);
      if (this.request === '') {
        const end = this.rest.indexOf('\r\n\r\n');
        if (end < 0) return;
        this.request = this.rest.toString('latin1', 0, end + 4);
        this.rest = this.rest.subarray(end + 4);
        opened(this);
      }
      for (let got = this.cut(); got; got = this.cut()) {
        this.frames.push(got);
        if (got.opcode === TEXT || got.opcode === BINARY) data(this, got.payload, got.opcode);
        this.changes.emit('frame');
      }
    });
  }

  /** As a server sends it, unless the options say otherwise. */
  send(payload: Buffer, options: FrameOptions = {}): void {
    this.sendRaw(frame(payload, { mask: false, ...options }));
  }

  sendRaw(bytes: Buffer | string): void {
    this.socket.write(bytes);
  }

  /** The first frame with this opcode. */
  async frame(opcode: number): Promise<Received> {
    for (;;) {
      const found = this.frames.find((f) => f.opcode === opcode);
      if (found) return found;
      await once(this.changes, 'frame', { signal: AbortSignal.timeout(PATIENCE_MS) });
    }
  }

  private cut(): Received | undefined {
    const { rest } = this;
    if (rest.length < 2) return undefined;
    const masked = (rest[1] & 0x80) !== 0;
    let length = rest[1] & 0x7f;
    let at = 2;
    if (length === 126) {
      if (rest.length < 4) return undefined;
      length = rest.readUInt16BE(2);
      at = 4;
    } else if (length === 127) {
      if (rest.length < 10) return undefined;
      length = Number(rest.readBigUInt64BE(2));
      at = 10;
    }
    const key = masked ? rest.subarray(at, at + 4) : Buffer.alloc(4);
    if (masked) at += 4;
    if (rest.length < at + length) return undefined;
    const payload = Buffer.from(rest.subarray(at, at + length).map((octet, i) => octet ^ key[i & 3]));
    this.rest = rest.subarray(at + length);
    return { opcode: rest[0] & 15, fin: (rest[0] & 0x80) !== 0, masked, key, payload };
  }
}

export interface WsEdgeOptions {
  host: string;
  port?: number;
  tls?: TlsOptions;
  /** what is said to the request; undefined: nothing. Default: `accepting`. */
  answer?: (request: string) => string | undefined;
}

export class WsEdge extends Agent {
  readonly transport: 'WS' | 'WSS';
  readonly connections: WsConnection[] = [];
  answer: (request: string) => string | undefined;
  private readonly server: Server;

  private constructor(server: Server, { tls, answer = accepting }: WsEdgeOptions) {
    const bound = server.address() as { address: string; port: number };
    super('WebSocket edge', bound.address, bound.port);
    this.transport = tls ? 'WSS' : 'WS';
    this.answer = answer;
    this.server = server;
    server.on(tls ? 'secureConnection' : 'connection', (socket: Socket) => {
      const from = { host: socket.remoteAddress as string, port: socket.remotePort as number };
      const connection = new WsConnection(
        socket,
        ({ request }) => {
          const said = this.answer(request);
          if (said !== undefined) socket.write(said, 'latin1');
        },
        (to, payload, opcode) =>
          this.deliver({ ...arrivalOf(payload, from, (bytes) => to.send(bytes)), opcode }),
      );
      this.connections.push(connection);
      socket.once('close', () => this.connections.splice(this.connections.indexOf(connection), 1));
    });
    server.on('tlsClientError', () => {});
  }

  static async open(options: WsEdgeOptions): Promise<WsEdge> {
    const server = options.tls ? createTlsServer(options.tls) : createServer();
    server.listen({ host: options.host, port: options.port ?? 0, exclusive: true });
    await once(server, 'listening');
    return new WsEdge(server, options);
  }

  /** Over the newest connection. */
  send(bytes: Buffer): void {
    this.newest.send(bytes);
  }

  get newest(): WsConnection {
    const connection = this.connections.at(-1);
    if (!connection) throw new Error(`${this.name}: no client has connected`);
    return connection;
  }

  async probe(): Promise<void> {
    throw new Error(`${this.name}: a client answers no ${isCrlf.name}`);
  }

  async close(): Promise<void> {
    this.abandon('closed');
    for (const { socket } of [...this.connections]) socket.destroy();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }
}
