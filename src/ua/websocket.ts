/**
 * Flows over WebSocket (RFC 7118): a stream whose first words are HTTP, then frames, one SIP message a frame. It opens
 * when the server has proved that it read the request and speaks `sip` (RFC 6455 4.1); any other answer, a redirect
 * or a 401 too, is the end of the attempt. Frames go out masked, whole, as text where the message is UTF-8.
 *
 * Nobody connects back to a WebSocket client, so it has no address for Via and Contact but a name of its own under
 * `.invalid` (RFC 7118 5.3, appendix B.1), made for each connection.
 *
 * The keep-alive is the CRLF of RFC 5626 in a message of its own, since that is what Flow-Timer and `keep` agree on and
 * what an edge looks for; its answer is CRLF in a message. Ping frames of the server are answered.
 *
 * Over wss the certificate is checked as for https, wildcards included (RFC 7118 9.1), and not as for SIP (tls.ts).
 */
import { isUtf8 } from 'node:buffer';
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, checkServerIdentity } from 'node:tls';
import { latin1 } from '../wire/chars.ts';
import { MAX_UPGRADE } from '../wire/limits.ts';
import { opensWebSocket, upgradeEnd, upgradeRequest } from '../wire/upgrade.ts';
import { defaultPort, WS, WSS } from '../wire/via.ts';
import { Words } from '../wire/words.ts';
import {
  BINARY,
  CLOSE,
  Frames,
  MORE,
  maskedFrame,
  NORMAL,
  PING,
  PONG,
  PROTOCOL_ERROR,
  TEXT,
} from '../wire/wsframe.ts';
import { type ConnectionHandler, type Dial, StreamConnection } from './connection.ts';
import { connectTls } from './tls.ts';

const CR = 13;
const LF = 10;
const KEY_OCTETS = 16;
const MASK_OCTETS = 4;

export interface WebSocketOptions {
  /** of the HTTP request; default `/` */
  path?: string;
  /** further headers of it: Cookie, Authorization, Origin */
  headers?: readonly (readonly [name: string, value: string])[];
  /** for wss; Node's defaults else */
  tls?: ConnectionOptions | undefined;
  /** Octets that nobody can foresee (RFC 6455 10.3), for keys, masks and names. Default: the system's. */
  octets?: (count: number) => Uint8Array;
}

interface WebSocketParts extends Required<Pick<WebSocketOptions, 'path' | 'headers' | 'octets'>> {
  /** as it stands in Host */
  host: string;
}

class WebSocketStream extends StreamConnection {
  readonly #parts: WebSocketParts;
  readonly #key: string;
  readonly #frames = new Frames('server');
  #words = new Words(new Uint8Array(0));
  #upgraded = false;
  /** octets of the HTTP answer that were searched for its end */
  #searched = 0;
  #inMessage = false;

  constructor(transport: number, stream: Duplex, handler: ConnectionHandler, parts: WebSocketParts) {
    super(transport, stream, handler);
    this.#parts = parts;
    this.#key = Buffer.from(parts.octets(KEY_OCTETS)).toString('base64');
  }

  get inMessage(): boolean {
    return this.#inMessage;
  }

  /** The stream stands: asks for the WebSocket. */
  connected(): void {
    const { host, path, headers } = this.#parts;
    this.write(upgradeRequest({ host, path, key: this.#key, more: headers }));
  }

  send(bytes: Uint8Array): void {
    if (!this.#upgraded) return;
    this.#frame(isUtf8(bytes) ? TEXT : BINARY, bytes); // 7118-4.2-02
  }

  protected override farewell(stream: Duplex): void {
    stream.write(this.#masked(CLOSE, closeCode(NORMAL))); // and the server closes (6455 7.1.1)
  }

  protected take(buf: Buffer, length: number): number {
    if (this.#words.mem !== buf) this.#words = new Words(buf);
    let at = 0;
    if (!this.#upgraded) {
      at = this.#upgrade(buf, length);
      if (this.isOver || at === 0) return at;
    }
    for (;;) {
      const kind = this.#frames.next(this.#words, at, length);
      if (kind >= PROTOCOL_ERROR) {
        this.end('malformed', this.#masked(CLOSE, closeCode(kind)));
        return length;
      }
      at = this.#frames.frameEnd;
      this.#inMessage = kind === MORE && at < length;
      if (kind === MORE) return at;
      this.#take(buf, kind, this.#frames.start, this.#frames.end);
      if (this.isOver) return at;
    }
  }

  #take(buf: Buffer, kind: number, start: number, end: number): void {
    if (kind === TEXT || kind === BINARY) this.#message(buf, start, end);
    else if (kind === PING) this.#frame(PONG, buf.subarray(start, end));
    else if (kind === CLOSE)
      // its code comes back, without its reason
      this.end('closed', this.#masked(CLOSE, buf.subarray(start, Math.min(end, start + 2))));
  }

  #message(buf: Buffer, start: number, end: number): void {
    let at = start;
    // 3261 7.5: before a start line
    while (at + 1 < end && buf[at] === CR && buf[at + 1] === LF) at += 2;
    if (at < end) this.handler.message(buf, at, end);
    else if (end - start === 2) this.handler.pong();
  }

  /** Where the frames begin: 0 as long as the answer is not whole. */
  #upgrade(buf: Buffer, length: number): number {
    const behind = upgradeEnd(buf, 0, this.#searched, Math.min(length, MAX_UPGRADE));
    this.#searched = length;
    if (behind < 0) {
      if (length >= MAX_UPGRADE) this.end('no-websocket');
      return 0;
    }
    if (!opensWebSocket(latin1(buf, 0, behind), this.#key)) {
      this.end('no-websocket');
      return 0;
    }
    this.#upgraded = true;
    this.opened(`${Buffer.from(this.#parts.octets(6)).toString('hex')}.invalid`, 0);
    return behind;
  }

  #frame(opcode: number, payload: Uint8Array): void {
    this.write(this.#masked(opcode, payload));
  }

  #masked(opcode: number, payload: Uint8Array): Buffer {
    return maskedFrame(opcode, payload, this.#parts.octets(MASK_OCTETS));
  }
}

const closeCode = (code: number): Uint8Array => Uint8Array.of(code >> 8, code & 0xff);

/** For `transport=ws` and, secured, for wss. */
export function dialWebSocket(
  secured: boolean,
  { path = '/', headers = [], tls, octets = randomBytes }: WebSocketOptions = {},
): Dial {
  const transport = secured ? WSS : WS;
  return (target, handler, options) => {
    const { address } = target;
    const { domain, localAddress } = options;
    const host = address.port === defaultPort(transport) ? domain : `${domain}:${address.port}`;
    const socket = secured
      ? connectTls(target, options, tls, checkServerIdentity)
      : connect({
          host: address.host,
          port: address.port,
          noDelay: true,
          ...(localAddress === undefined ? {} : { localAddress }),
        });
    const connection = new WebSocketStream(transport, socket, handler, { host, path, headers, octets });
    socket.once(secured ? 'secureConnect' : 'connect', () => connection.connected());
    return connection;
  };
}
