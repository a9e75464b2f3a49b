/**
 * A SIP WebSocket client for tests, RFC 6455 by hand over a TCP or TLS socket: any handshake, any
 * frame, right or wrong. Data messages go to the inbox like other arrivals (with their opcode);
 * control frames are kept in `control`.
 */
import { createHash, randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls, TLSSocket } from 'node:tls';
import { type Address, Agent } from './agent.ts';
import { arrivalOf, isCrlf, PATIENCE_MS } from './inbox.ts';
import { newBranch, unique } from './sip.ts';

export const TEXT = 1;
export const BINARY = 2;
export const CLOSE = 8;
export const PING = 9;
export const PONG = 10;

export interface FrameOptions {
  opcode?: number;
  fin?: boolean;
  /** false: sent without a mask, which no client may do */
  mask?: boolean;
  rsv?: number;
}

export function frame(payload: Buffer, options: FrameOptions = {}): Buffer {
  const { opcode = TEXT, fin = true, mask = true, rsv = 0 } = options;
  const head = [(fin ? 0x80 : 0) | (rsv << 4) | opcode];
  const bit = mask ? 0x80 : 0;
  if (payload.length < 126) head.push(bit | payload.length);
  else if (payload.length < 65_536) head.push(bit | 126, payload.length >> 8, payload.length & 255);
  else {
    const length = Buffer.alloc(8);
    length.writeBigUInt64BE(BigInt(payload.length));
    head.push(bit | 127, ...length);
  }
  if (!mask) return Buffer.concat([Buffer.from(head), payload]);
  const key = randomBytes(4);
  return Buffer.concat([Buffer.from(head), key, Buffer.from(payload.map((b, i) => b ^ key[i & 3]))]);
}

/** The server's answer to a handshake. */
export interface Handshake {
  status: number;
  headers: Map<string, string>;
  /** Sec-WebSocket-Accept is the one that the key asks for */
  accepted: boolean;
}

export interface WebSocketOptions {
  peer: Address;
  localHost?: string;
  path?: string;
  protocols?: string[];
  version?: string;
  headers?: [string, string][];
  tls?: ConnectionOptions;
  name?: string;
}

export class WsAgent extends Agent {
  readonly transport: 'WS' | 'WSS';
  readonly handshake: Handshake;
  readonly control: { opcode: number; payload: Buffer }[] = [];
  private readonly controls = new EventEmitter();
  /** the close code of the server, 1006 if it sent none */
  readonly closed: Promise<number>;
  readonly socket: Socket;
  private readonly invalidHost = `${unique('ws')}.invalid`;
  private rest: Buffer;
  private parts: Buffer[] = [];
  private opcode = 0;
  private closeCode = 1006;

  private constructor(name: string, socket: Socket, handshake: Handshake, rest: Buffer) {
    super(name, socket.localAddress as string, socket.localPort as number);
    this.transport = socket instanceof TLSSocket ? 'WSS' : 'WS';
    this.socket = socket;
    this.handshake = handshake;
    this.rest = rest;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.read(chunk));
    socket.on('error', () => {});
    this.closed = new Promise((resolve) => socket.once('close', () => resolve(this.closeCode)));
    socket.once('close', () => setImmediate(() => this.abandon('connection closed')));
    this.read(Buffer.alloc(0));
  }

  /** Resolves also when the server refuses: look at `handshake`. */
  static async connect(options: WebSocketOptions): Promise<WsAgent> {
    const { peer, localHost, path = '/', protocols = ['sip'], version = '13', headers = [] } = options;
    let socket: Socket = connect({
      ...peer,
      ...(localHost === undefined ? {} : { localAddress: localHost }),
    });
    await once(socket, 'connect');
    if (options.tls) {
      socket = connectTls({ host: peer.host, ...options.tls, socket });
      await once(socket, 'secureConnect');
    }
    const key = randomBytes(16).toString('base64');
    const lines = [
      `GET ${path} HTTP/1.1`,
      `Host: ${peer.host}:${peer.port}`,
      'Upgrade: websocket',
      'Connection: Upgrade',
      `Sec-WebSocket-Key: ${key}`,
      `Sec-WebSocket-Version: ${version}`,
      ...(protocols.length ? [`Sec-WebSocket-Protocol: ${protocols.join(', ')}`] : []),
      ...headers.map(([n, v]) => `${n}: ${v}`),
    ];
    socket.write(`${lines.join('\r\n')}\r\n\r\n`);
    let bytes = Buffer.alloc(0);
    while (!bytes.includes('\r\n\r\n')) {
      const [chunk] = (await once(socket, 'data')) as [Buffer];
      bytes = Buffer.concat([bytes, chunk]);
    }
    const end = bytes.indexOf('\r\n\r\n');
    const [status, ...fields] = bytes.subarray(0, end).toString('latin1').split('\r\n');
    const map = new Map(
      fields.map((f): [string, string] => [
        f.split(':')[0].trim().toLowerCase(),
        f.slice(f.indexOf(':') + 1).trim(),
      ]),
    );
    const expected = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    const handshake = {
      status: Number(status.split(' ')[1]),
      headers: map,
      accepted: map.get('sec-websocket-accept') === expected,
    };
    return new WsAgent(options.name ?? 'WebSocket client', socket, handshake, bytes.subarray(end + 4));
  }

  /** As a browser writes it: a name that nobody can resolve. */
  override via(params = '', branch = newBranch()): string {
    return `SIP/2.0/${this.transport} ${this.invalidHost};branch=${branch}${params}`;
  }

  override uri(user: string): string {
    return `sip:${user}@${this.invalidHost};transport=ws`;
  }

  send(bytes: Buffer): void {
    this.sendFrame(bytes);
  }

  sendFrame(payload: Buffer, options: FrameOptions = {}): void {
    this.socket.write(frame(payload, options));
  }

  /** The first control frame that has not been taken yet. */
  async nextControl(): Promise<{ opcode: number; payload: Buffer }> {
    for (;;) {
      const first = this.control.shift();
      if (first) return first;
      await once(this.controls, 'frame', { signal: AbortSignal.timeout(PATIENCE_MS) });
    }
  }

  /** Octets as they are, no frame around them. */
  sendRaw(bytes: Buffer): void {
    this.socket.write(bytes);
  }

  /** The CRLF keep-alive of RFC 7118 section 6. */
  async probe(): Promise<void> {
    this.sendFrame(Buffer.from('\r\n\r\n'));
    await this.next(isCrlf);
  }

  async close(): Promise<void> {
    this.abandon('closed');
    if (this.socket.destroyed) return;
    this.socket.destroy();
    await once(this.socket, 'close');
  }

  private read(chunk: Buffer): void {
    this.rest = Buffer.concat([this.rest, chunk]);
    for (;;) {
      if (this.rest.length < 2) return;
      let length = this.rest[1] & 0x7f;
      let at = 2;
      if (length === 126) {
        if (this.rest.length < 4) return;
        length = this.rest.readUInt16BE(2);
        at = 4;
      } else if (length === 127) {
        if (this.rest.length < 10) return;
        length = Number(this.rest.readBigUInt64BE(2));
        at = 10;
      }
      if (this.rest[1] & 0x80) throw new Error('the server masked a frame');
      if (this.rest.length < at + length) return;
      const first = this.rest[0];
      const payload = this.rest.subarray(at, at + length);
      this.rest = this.rest.subarray(at + length);
      this.take(first & 0x0f, (first & 0x80) !== 0, payload);
    }
  }

  private take(opcode: number, fin: boolean, payload: Buffer): void {
    if (opcode >= CLOSE) {
      this.control.push({ opcode, payload });
      if (opcode === CLOSE && payload.length >= 2) this.closeCode = payload.readUInt16BE(0);
      this.controls.emit('frame');
      return;
    }
    if (opcode !== 0) this.opcode = opcode;
    this.parts.push(payload);
    if (!fin) return;
    const bytes = Buffer.concat(this.parts);
    this.parts = [];
    const from = { host: this.socket.remoteAddress as string, port: this.socket.remotePort as number };
    const arrival = arrivalOf(bytes, from, (answer) => this.send(answer));
    this.deliver({ ...arrival, opcode: this.opcode });
  }
}
