/**
 * The flow token: the user part by which an edge finds a client's flow again (5626 §5.2).
 *
 *   base64url( key id 1 | version and transport 1 | node 2 | incarnation 4 | slot 4 | generation 4
 *              | UDP only: remote address and port, local address and port | MAC 12 )
 *
 * The MAC is HMAC-SHA-256, cut to 96 bits, over everything before it: a token that reads as OK was
 * made by a holder of the key for exactly these fields. It does not say that the flow still lives;
 * that is the flow table's to answer. UDP tokens carry their addresses so that a flow can be taken
 * up again after a restart (DESIGN: incarnation).
 *
 * Minting and verifying cost one HMAC by node:crypto, some microseconds and a few objects. Both are
 * rare: a token is made once for each flow, and a token that equals the kept text needs no reading.
 */
import { createHmac, createSecretKey, type KeyObject } from 'node:crypto';
import { Endpoint } from '../net/endpoint.ts';
import { decodeBase64url, encodeBase64url } from './base64url.ts';
import type { Keyring } from './keyring.ts';
import {
  FIXED_OCTETS,
  isEscaped,
  isTokenLength,
  MAC_OCTETS,
  peekSlot,
  sameText,
  TOKEN_ROOM,
  unescapeToken,
  V4_OCTETS,
  V6_OCTETS,
} from './token-text.ts';

/** Transport codes as they stand in the token; 1 is the only one with addresses. */
export const TOKEN_UDP = 1;
export const TOKEN_TCP = 2;
export const TOKEN_TLS = 3;
export const TOKEN_WS = 4;
export const TOKEN_WSS = 5;

const VERSION = 1;
const IPV6 = 8;
const OCTETS_MOST = FIXED_OCTETS + V6_OCTETS + MAC_OCTETS;

/** What a token names. The endpoints count for UDP only. */
export interface TokenFields {
  /** 1 UDP, 2 TCP, 3 TLS, 4 WS, 5 WSS */
  transport: number;
  incarnation: number;
  slot: number;
  generation: number;
  remote: Endpoint;
  local: Endpoint;
}

export const TokenVerdict = {
  OK: 0,
  /** wrong length, alphabet, version or transport: never ours. 403 (EP-5.3.1-08) */
  NOT_A_TOKEN: 1,
  /** the MAC is wrong or the key unknown. 403 (EP-5.3.1-04) */
  TAMPERED: 2,
} as const;
export type TokenVerdict = (typeof TokenVerdict)[keyof typeof TokenVerdict];

/** The octets of a token and their MAC: what minting and reading share. */
class TokenOctets {
  readonly octets = new Uint8Array(OCTETS_MOST);
  /** the part under the MAC, by its three lengths */
  readonly #stream = this.octets.subarray(0, FIXED_OCTETS);
  readonly #v4 = this.octets.subarray(0, FIXED_OCTETS + V4_OCTETS);
  readonly #v6 = this.octets.subarray(0, FIXED_OCTETS + V6_OCTETS);

  mac(key: KeyObject, length: number): Uint8Array {
    const covered =
      length === FIXED_OCTETS ? this.#stream : length === FIXED_OCTETS + V4_OCTETS ? this.#v4 : this.#v6;
    return createHmac('sha256', key).update(covered).digest();
  }

  put16(at: number, value: number): void {
    this.octets[at] = value >>> 8;
    this.octets[at + 1] = value;
  }

  put32(at: number, value: number): void {
    this.octets[at] = value >>> 24;
    this.octets[at + 1] = value >>> 16;
    this.octets[at + 2] = value >>> 8;
    this.octets[at + 3] = value;
  }

  get16(at: number): number {
    return (this.octets[at] << 8) | this.octets[at + 1];
  }

  /** int32 */
  get32(at: number): number {
    const o = this.octets;
    return (o[at] << 24) | (o[at + 1] << 16) | (o[at + 2] << 8) | o[at + 3];
  }

  putEndpoint(at: number, endpoint: Endpoint, v6: boolean): number {
    let to = at;
    if (v6) {
      this.put32(to, endpoint.a0);
      this.put32(to + 4, endpoint.a1);
      this.put32(to + 8, endpoint.a2);
      to += 12;
    }
    this.put32(to, endpoint.a3);
    this.put16(to + 4, endpoint.port);
    return to + 6;
  }

  getEndpoint(at: number, v6: boolean, into: Endpoint): number {
    if (!v6) {
      into.setV4(this.get32(at), this.get16(at + 4));
      return at + 6;
    }
    into.family = 6;
    into.a0 = this.get32(at);
    into.a1 = this.get32(at + 4);
    into.a2 = this.get32(at + 8);
    into.a3 = this.get32(at + 12);
    into.port = this.get16(at + 16);
    return at + 18;
  }
}

export class TokenMint {
  readonly #node: number;
  readonly #token = new TokenOctets();
  #key!: KeyObject;
  #keyId = -1;

  /** `node` is this edge's number in its cluster, 0 to 65535. */
  constructor(keyring: Keyring, node: number) {
    this.#node = node;
    this.rekey(keyring);
  }

  /** New tokens are made with this ring's current key from now on. */
  rekey(keyring: Keyring): void {
    this.#key = createSecretKey(keyring.derive('token', 32));
    this.#keyId = keyring.currentId;
  }

  /** Writes the token's text at out[at], which has TOKEN_ROOM octets. Returns its length. */
  write(fields: TokenFields, out: Uint8Array, at: number): number {
    const token = this.#token;
    const udp = fields.transport === TOKEN_UDP;
    const v6 = udp && fields.remote.family === 6;
    token.octets[0] = this.#keyId;
    token.octets[1] = (VERSION << 4) | fields.transport | (v6 ? IPV6 : 0);
    token.put16(2, this.#node);
    token.put32(4, fields.incarnation);
    token.put32(8, fields.slot);
    token.put32(12, fields.generation);
    let length = FIXED_OCTETS;
    if (udp) {
      length = token.putEndpoint(length, fields.remote, v6);
      length = token.putEndpoint(length, fields.local, v6);
    }
    const mac = token.mac(this.#key, length);
    for (let i = 0; i < MAC_OCTETS; i++) token.octets[length + i] = mac[i];
    return encodeBase64url(token.octets, 0, length + MAC_OCTETS, out, at) - at;
  }
}

/** Reads tokens into its own fields, which hold until the next call. */
export class TokenReader implements TokenFields {
  transport = 0;
  node = 0;
  incarnation = 0;
  slot = 0;
  generation = 0;
  readonly remote = new Endpoint();
  readonly local = new Endpoint();
  /** false: made with the previous key; the flow's kept text differs, and should be given out anew */
  keyIsCurrent = false;

  /** The text with escapes resolved: the caller's own buffer, or a scratch where there were any. */
  text: Uint8Array;
  textStart = 0;
  textLength = 0;

  readonly #token = new TokenOctets();
  readonly #scratch = new Uint8Array(TOKEN_ROOM);
  #current!: KeyObject;
  #currentId = -1;
  #previous: KeyObject | undefined;
  #previousId = -1;

  constructor(keyring: Keyring) {
    this.text = this.#scratch;
    this.rekey(keyring);
  }

  rekey(keyring: Keyring): void {
    const previous = keyring.derivePrevious('token', 32);
    this.#current = createSecretKey(keyring.derive('token', 32));
    this.#currentId = keyring.currentId;
    this.#previous = previous && createSecretKey(previous);
    this.#previousId = keyring.previousId;
  }

  /**
   * Fills slot and generation (a claim) and the `text` fields, without crypto: compare the text with
   * the one kept beside that flow. False if this cannot be a token.
   */
  peek(buf: Uint8Array, start: number, end: number): boolean {
    return this.#resolve(buf, start, end) && peekSlot(this.text, this.textStart, this.#textEnd, this);
  }

  /** True if the last peeked or read text equals kept[at, at + length), in constant time. */
  equals(kept: Uint8Array, at: number, length: number): boolean {
    return length === this.textLength && sameText(this.text, this.textStart, kept, at, length);
  }

  /** Verifies the token in buf[start, end) and, if it is OK, fills all fields. */
  read(buf: Uint8Array, start: number, end: number): TokenVerdict {
    if (!this.#resolve(buf, start, end)) return TokenVerdict.NOT_A_TOKEN;
    const token = this.#token;
    const octets = decodeBase64url(this.text, this.textStart, this.#textEnd, token.octets, 0);
    if (octets < 0) return TokenVerdict.NOT_A_TOKEN;
    const kind = token.octets[1];
    const v6 = (kind & IPV6) !== 0;
    const transport = kind & 7;
    const udp = transport === TOKEN_UDP;
    if (kind >>> 4 !== VERSION || transport < TOKEN_UDP || transport > TOKEN_WSS || (v6 && !udp)) {
      return TokenVerdict.NOT_A_TOKEN;
    }
    const length = FIXED_OCTETS + (udp ? (v6 ? V6_OCTETS : V4_OCTETS) : 0);
    if (octets !== length + MAC_OCTETS) return TokenVerdict.NOT_A_TOKEN;

    const id = token.octets[0];
    const key = id === this.#currentId ? this.#current : id === this.#previousId ? this.#previous : undefined;
    if (key === undefined) return TokenVerdict.TAMPERED;
    if (!sameText(token.mac(key, length), 0, token.octets, length, MAC_OCTETS)) return TokenVerdict.TAMPERED;

    this.transport = transport;
    this.keyIsCurrent = id === this.#currentId;
    this.node = token.get16(2);
    this.incarnation = token.get32(4) >>> 0;
    this.slot = token.get32(8) >>> 0;
    this.generation = token.get32(12) >>> 0;
    if (udp) token.getEndpoint(token.getEndpoint(FIXED_OCTETS, v6, this.remote), v6, this.local);
    return TokenVerdict.OK;
  }

  get #textEnd(): number {
    return this.textStart + this.textLength;
  }

  #resolve(buf: Uint8Array, start: number, end: number): boolean {
    this.text = buf;
    this.textStart = start;
    this.textLength = end - start;
    if (isEscaped(buf, start, end)) {
      const length = unescapeToken(buf, start, end, this.#scratch);
      this.text = this.#scratch;
      this.textStart = 0;
      this.textLength = Math.max(length, 0);
    }
    return isTokenLength(this.textLength);
  }
}
