/**
 * One flow's socket, as the user agent needs it: a connected UDP socket, or a byte stream that Node dials. It frames
 * what comes in (wire/framer.ts) and tells messages, pongs, STUN and the end; it knows nothing of SIP above that.
 *
 * Why not the shards' network (net/core.ts): there UDP is one socket a listener, unconnected, for any number of peers.
 * A user agent has a handful of flows and wants of each what that cannot give: a source port of its own that goes
 * away with the flow, the ICMP errors of a connected socket, and the local address that the kernel chose for this
 * peer. It also needs neither a flow table nor 166 MiB of arena.
 *
 * A stream is any Duplex: TLS (tls.ts), WebSockets (websocket.ts) and what else there is come in by a `Dial` of their
 * own, under their transport code.
 * `closed` is told once, and nothing after it. A peer that does not read is cut off at MOST_WAITING.
 */
import dgram from 'node:dgram';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import type { Endpoint } from '../net/endpoint.ts';
import type { Target } from '../net/targets.ts';
import { Framer, MESSAGE, MORE, PONG } from '../wire/framer.ts';
import { MAX_MESSAGE } from '../wire/limits.ts';
import { isStun } from '../wire/stun.ts';
import { TCP, UDP } from '../wire/via.ts';

/** Why a socket ended. */
export type Ending =
  | 'refused'
  /** an HTTP server that opens no WebSocket for SIP */
  | 'no-websocket'
  /** a 401 of it to our credentials, or one that asks for what we have not */
  | 'unauthorized'
  | 'closed'
  | 'reset'
  | 'icmp'
  | 'malformed'
  | 'write-queue'
  | 'stopped';

export interface ConnectionHandler {
  opened(): void;
  /** One whole message; buf[end] is there and may be another value during the call (the lexer's sentinel). */
  message(buf: Uint8Array, start: number, end: number): void;
  pong(): void;
  stun(bytes: Buffer): void;
  /** All octets of one read have been dealt with. */
  read(): void;
  closed(ending: Ending): void;
}

export interface Connection {
  readonly transport: number;
  readonly reliable: boolean;
  /** for Via and Contact: numeric, without brackets, or a name that leads nowhere; '' before `opened` */
  localHost: string;
  /** 0: none is written */
  localPort: number;
  /** a message has begun to come in and is not complete */
  readonly inMessage: boolean;
  send(bytes: Uint8Array): void;
  /** What was sent still goes out. `closed` is told: at once where it was not open yet, else later. */
  close(): void;
}

export interface DialOptions {
  /** host of the URI that the target was found for: whom a certificate has to name */
  domain: string;
  /** numeric address to send from */
  localAddress?: string | undefined;
}

export type Dial = (target: Target, handler: ConnectionHandler, options: DialOptions) => Connection;

const MOST_WAITING = 1 << 20;
const CLOSE_MS = 2_000;

/** A byte stream as a connection; what its octets mean is the subclass's. */
export abstract class StreamConnection implements Connection {
  readonly transport: number;
  readonly reliable = true;
  localHost = '';
  localPort = 0;
  protected readonly handler: ConnectionHandler;
  #stream: Duplex;
  /** octets of an unfinished message, with one more for the sentinel */
  #kept = Buffer.alloc(0);
  #length = 0;
  readonly #waiting: Buffer[] = [];
  #reading = false;
  #open = false;
  #ended = false;
  #closing = false;

  constructor(transport: number, stream: Duplex, handler: ConnectionHandler) {
    this.transport = transport;
    this.#stream = stream;
    this.handler = handler;
    this.#listen(stream);
  }

  #listen(stream: Duplex): void {
    const broke = (ending: Ending) => {
      if (stream === this.#stream && !this.#ended) this.broke(ending);
    };
    stream.on('data', (chunk: Buffer) => {
      if (stream === this.#stream) this.#read(chunk);
    });
    stream.on('end', () => broke('closed'));
    stream.on('error', (error: NodeJS.ErrnoException) =>
      broke(!this.#open ? 'refused' : error.code === 'ECONNRESET' ? 'reset' : 'closed'),
    );
    stream.on('close', () => broke('closed'));
  }

  abstract get inMessage(): boolean;
  abstract send(bytes: Uint8Array): void;
  /** What is whole of `buf[0, length)` is dealt with, as long as the connection lasts; how much of it is used up. */
  protected abstract take(buf: Buffer, length: number): number;

  opened(host: string, port: number): void {
    if (this.#ended) return;
    this.localHost = host;
    this.localPort = port;
    this.#open = true;
    this.handler.opened();
  }

  close(): void {
    if (this.#ended || this.#closing) return;
    this.#closing = true;
    if (!this.#open) {
      this.end('stopped');
      return;
    }
    this.farewell(this.#stream);
    // not a time of the protocol: a peer that never closes its side must not hold the descriptor
    setTimeout(() => this.end('stopped'), CLOSE_MS).unref();
  }

  /** Goes on over another stream. Of what came over the present one all is used up, or will be when `take` returns. */
  protected replace(stream: Duplex): void {
    const old = this.#stream;
    this.#stream = stream;
    this.#waiting.length = 0;
    old.destroy();
    this.#listen(stream);
  }

  /** The stream is at its end, by itself or by the peer. */
  protected broke(ending: Ending): void {
    this.end(ending);
  }

  /** The last that goes out. */
  protected farewell(stream: Duplex): void {
    stream.end();
  }

  protected get isClosing(): boolean {
    return this.#closing;
  }

  protected get isOver(): boolean {
    return this.#ended;
  }

  /** Not after `close`: nothing follows it. */
  protected write(bytes: Uint8Array | string): void {
    if (this.#ended || this.#closing) return;
    this.#stream.write(bytes);
    if (this.#stream.writableLength > MOST_WAITING) this.end('write-queue');
  }

  #read(chunk: Buffer): void {
    if (this.#ended) return;
    // what a handler writes may be answered while it is written: after the octets at hand, which lie in #kept
    this.#waiting.push(chunk);
    if (this.#reading) return;
    this.#reading = true;
    try {
      for (let next = this.#waiting.shift(); next && !this.#ended; next = this.#waiting.shift())
        this.#dealWith(next);
    } finally {
      this.#reading = false;
    }
  }

  #dealWith(chunk: Buffer): void {
    if (this.#length + chunk.length + 1 > this.#kept.length) {
      const larger = Buffer.alloc(Math.max(2 * this.#kept.length, this.#length + chunk.length + 1, 4096));
      this.#kept.copy(larger, 0, 0, this.#length);
      this.#kept = larger;
    }
    chunk.copy(this.#kept, this.#length);
    this.#length += chunk.length;
    const buf = this.#kept;
    const used = this.take(buf, this.#length);
    if (this.#ended) return;
    buf.copyWithin(0, used, this.#length);
    this.#length -= used;
    if (this.#length === 0 && buf.length > MAX_MESSAGE / 4) this.#kept = Buffer.alloc(0);
    this.handler.read();
  }

  /** `last`: octets that are still to reach the peer. */
  protected end(ending: Ending, last?: Uint8Array): void {
    if (this.#ended) return;
    this.#ended = true;
    if (last && !this.#closing) {
      this.#stream.end(last);
      setTimeout(() => this.#stream.destroy(), CLOSE_MS).unref();
    } else this.#stream.destroy();
    this.handler.closed(this.#closing ? 'stopped' : ending);
  }
}

/** SIP as it stands, message behind message, pongs between them. */
class SipStream extends StreamConnection {
  readonly #framer = new Framer(PONG);

  get inMessage(): boolean {
    return this.#framer.inMessage;
  }

  send(bytes: Uint8Array): void {
    this.write(bytes);
  }

  protected take(buf: Buffer, length: number): number {
    let at = 0;
    for (;;) {
      const verdict = this.#framer.next(buf, at, length);
      at = this.#framer.frameEnd;
      if (verdict === MORE) return at;
      if (verdict === PONG) this.handler.pong();
      else if (verdict === MESSAGE) this.handler.message(buf, this.#framer.frameStart, at);
      else this.end('malformed');
      if (this.isOver) return at;
    }
  }
}

/** A stream that somebody else opens; `opened` of the result has to be called when it is. */
export const overStream = (transport: number, stream: Duplex, handler: ConnectionHandler): StreamConnection =>
  new SipStream(transport, stream, handler);

export const dialTcp: Dial = ({ address }, handler, { localAddress }) => {
  const socket = net.connect({
    host: address.host,
    port: address.port,
    noDelay: true,
    ...(localAddress === undefined ? {} : { localAddress }),
  });
  const connection = overStream(TCP, socket, handler);
  socket.once('connect', () => connection.opened(socket.localAddress ?? '', socket.localPort ?? 0));
  return connection;
};

class DatagramConnection implements Connection {
  readonly transport = UDP;
  readonly reliable = false;
  readonly inMessage = false;
  localHost = '';
  localPort = 0;
  readonly #socket: dgram.Socket;
  readonly #handler: ConnectionHandler;
  #ended = false;
  #closing = false;

  constructor(to: Endpoint, handler: ConnectionHandler, localAddress: string | undefined) {
    this.#handler = handler;
    const socket = dgram.createSocket(to.family === 4 ? 'udp4' : 'udp6');
    this.#socket = socket;
    socket.on('message', (bytes) => this.#received(bytes));
    socket.on('error', () => this.#end(this.localPort === 0 ? 'refused' : 'icmp')); // ST-5389-15
    socket.on('connect', () => {
      if (this.#ended) return;
      const { address, port } = socket.address();
      this.localHost = address;
      this.localPort = port;
      handler.opened();
    });
    socket.bind({ ...(localAddress === undefined ? {} : { address: localAddress }), port: 0 }, () => {
      if (!this.#ended) socket.connect(to.port, to.host);
    });
  }

  #received(bytes: Buffer): void {
    if (this.#ended || bytes.length === 0) return;
    if (isStun(bytes, 0)) this.#handler.stun(bytes);
    else {
      const room = Buffer.alloc(bytes.length + 1);
      bytes.copy(room);
      this.#handler.message(room, 0, bytes.length);
    }
    if (!this.#ended) this.#handler.read();
  }

  send(bytes: Uint8Array): void {
    if (this.#ended || this.#closing || this.localPort === 0) return;
    this.#socket.send(bytes, (error) => {
      if (error) this.#end('icmp');
    });
  }

  close(): void {
    if (this.#ended || this.#closing) return;
    this.#closing = true;
    // what was sent has been given to the kernel when the next turn comes
    setImmediate(() => this.#end('stopped'));
  }

  #end(ending: Ending): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#socket.close();
    this.#handler.closed(this.#closing ? 'stopped' : ending);
  }
}

export const dialUdp: Dial = ({ address }, handler, { localAddress }) =>
  new DatagramConnection(address, handler, localAddress);
