/**
 * Flows over WebSocket (RFC 7118): a stream whose first words are HTTP, then frames, one SIP message a frame. It opens
 * when the server has proved that it read the request and speaks `sip` (RFC 6455 4.1); any other answer, a redirect
 * too, is the end of the attempt. Frames go out masked, whole, as text where the message is UTF-8.
 *
 * A 401 is answered with the account's digest (RFC 7616), once, and once more where the nonce was stale: over the same
 * connection if the server keeps it, else over another. Each connection is asked anew, so that no server sees what
 * another one asked for. Basic is not answered, for it gives the password away: who wants it, or a token, sets
 * Authorization himself, and then that is what stands there and a 401 is its refusal.
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
import { type Account, answerChallenge, type Session } from '../auth/client.ts';
import { challengesOf } from '../auth/params.ts';
import { latin1 } from '../wire/chars.ts';
import { MAX_UPGRADE } from '../wire/limits.ts';
import { type Demand, demandOf, opensWebSocket, upgradeEnd, upgradeRequest } from '../wire/upgrade.ts';
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
import { type ConnectionHandler, type Dial, type Ending, StreamConnection } from './connection.ts';
import { connectTls } from './tls.ts';

const CR = 13;
const LF = 10;
const KEY_OCTETS = 16;
const MASK_OCTETS = 4;
const CNONCE_OCTETS = 12;
/** To a challenge, and to one that says that the nonce of the first answer was stale. */
const MOST_ANSWERS = 2;

export interface WebSocketOptions {
  /** of the HTTP request; default `/` */
  path?: string;
  /** further headers of it: Cookie, Authorization, Origin */
  headers?: readonly (readonly [name: string, value: string])[];
  /** for a server that asks who is there, unless `headers` has Authorization */
  account?: Account | undefined;
  /** for wss; Node's defaults else */
  tls?: ConnectionOptions | undefined;
  /** Octets that nobody can foresee (RFC 6455 10.3), for keys, masks and names. Default: the system's. */
  octets?: (count: number) => Uint8Array;
}

interface WebSocketParts extends Required<Pick<WebSocketOptions, 'path' | 'headers' | 'octets'>> {
  /** as it stands in Host */
  host: string;
  account: Account | undefined;
  /** Another stream to the same server; `stands` is called when it can be written to. */
  open: (stands: () => void) => Duplex;
}

class WebSocketStream extends StreamConnection {
  readonly #parts: WebSocketParts;
  #key = '';
  readonly #frames = new Frames('server');
  #words = new Words(new Uint8Array(0));
  #upgraded = false;
  /** octets of the HTTP answer that were searched for its end */
  #searched = 0;
  /** what challenges were answered with */
  readonly #answers: Session[] = [];
  /** octets of a 401's body that are still to come, behind which we ask again */
  #unread = 0;
  /** this stream has carried a 401, and nothing of the next answer */
  #kept = false;
  #inMessage = false;

  constructor(transport: number, handler: ConnectionHandler, parts: WebSocketParts) {
    super(
      transport,
      parts.open(() => this.#ask()),
      handler,
    );
    this.#parts = parts;
  }

  get inMessage(): boolean {
    return this.#inMessage;
  }

  /** For the WebSocket. */
  #ask(): void {
    const { host, path, headers, octets } = this.#parts;
    this.#key = Buffer.from(octets(KEY_OCTETS)).toString('base64');
    const session = this.#answers.at(-1);
    const more: [string, string][] = [];
    if (session) {
      const cnonce = Buffer.from(octets(CNONCE_OCTETS)).toString('hex');
      more.push(['Authorization', session.answer('GET', path, cnonce)]);
    }
    const request = upgradeRequest({ host, path, key: this.#key, more: [...headers, ...more] });
    this.write(Buffer.from(request, 'latin1'));
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
      at = this.#unread > 0 ? this.#passOver(length) : this.#upgrade(buf, length);
      if (this.isOver || !this.#upgraded) return at;
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

  /** How much of the HTTP answer is used up; behind one that opens the WebSocket the frames begin. */
  #upgrade(buf: Buffer, length: number): number {
    const behind = upgradeEnd(buf, 0, this.#searched, Math.min(length, MAX_UPGRADE));
    this.#searched = length;
    if (behind < 0) {
      if (length >= MAX_UPGRADE) this.end('no-websocket');
      return 0;
    }
    const head = latin1(buf, 0, behind);
    if (!opensWebSocket(head, this.#key)) {
      const demand = demandOf(head);
      if (demand) return this.#challenged(demand, behind, length);
      this.end('no-websocket');
      return 0;
    }
    this.#upgraded = true;
    this.opened(`${Buffer.from(this.#parts.octets(6)).toString('hex')}.invalid`, 0);
    return behind;
  }

  /** A 401 whose head ends at `behind`. All of it that is there is used up. */
  #challenged({ challenges, body }: Demand, behind: number, length: number): number {
    const { account, headers } = this.#parts;
    const isOwn = headers.some(([name]) => name.toLowerCase() === 'authorization');
    const asked = challenges.flatMap(challengesOf);
    const session = account && !isOwn ? answerChallenge(asked, account, this.#answers) : undefined;
    const isLast = this.#answers.length === MOST_ANSWERS;
    if (!session || isLast || (this.#answers.length > 0 && !session.challenge.stale)) {
      this.end('unauthorized');
      return length;
    }
    this.#answers.push(session);
    this.#searched = 0;
    this.#kept = true;
    this.#unread = body < 0 ? body : behind + body;
    return this.#passOver(length);
  }

  /** Octets that nobody wants to know; behind the last of them we ask again. */
  #passOver(length: number): number {
    this.#unread -= length;
    if (this.#unread === 0) this.#ask();
    else if (this.#unread < 0) this.#anew(); // it takes no other request, or says more than was asked for
    return length;
  }

  #anew(): void {
    this.#kept = false;
    this.#unread = 0;
    this.replace(this.#parts.open(() => this.#ask()));
  }

  /** A server may close behind its 401 without a word about it. */
  protected override broke(ending: Ending): void {
    if (this.#kept && this.#searched === 0 && !this.#upgraded) this.#anew();
    else super.broke(ending);
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
  { path = '/', headers = [], account, tls, octets = randomBytes }: WebSocketOptions = {},
): Dial {
  const transport = secured ? WSS : WS;
  return (target, handler, options) => {
    const { address } = target;
    const { domain, localAddress } = options;
    const host = address.port === defaultPort(transport) ? domain : `${domain}:${address.port}`;
    const open = (stands: () => void) => {
      const socket = secured
        ? connectTls(target, options, tls, checkServerIdentity)
        : connect({
            host: address.host,
            port: address.port,
            noDelay: true,
            ...(localAddress === undefined ? {} : { localAddress }),
          });
      return socket.once(secured ? 'secureConnect' : 'connect', stands);
    };
    return new WebSocketStream(transport, handler, { host, path, headers, account, octets, open });
  };
}
