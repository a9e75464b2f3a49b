/**
 * The branches that we write, under a MAC, so that nobody can make one and inject a response into a flow.
 *
 * Of a transaction: whose it is. A response finds it on whichever shard it arrives.
 *
 *   z9hG4bK base64url( flags and life 1 | shard 1 | incarnation 4 | id 4 | generation 4 | loop 4 | MAC 8 )
 *
 * `loop` is the second part of RFC 5393 4.2: a hash of what the request was routed by.
 *
 * Stateless (RFC 3261 16.11): all that a response needs to find its way back.
 *
 *   z9hG4bK base64url( flags 1 | listener 1 | incarnation 4 | [slot 4 | generation 4]
 *                      | [destination address 4 or 16 | port 2] | hash 8 | MAC 8 )
 *
 * Slot and generation name the flow that the request came from. The destination is there where no flow
 * says it: a datagram that has no flow record, or whose response goes to another port than it came from
 * (RFC 3261 18.2.2). The hash covers the received top branch, sent-by and Request-URI, not the method:
 * a retransmission, a CANCEL and the ACK to a non-2xx get the branch of their INVITE.
 * Hash and MAC are SipHash-2-4 under keys of their own.
 */

import { base64urlLength, decodeBase64url, encodeBase64url } from '../flow/base64url.ts';
import type { Keyring } from '../flow/keyring.ts';
import { SipHash } from '../flow/siphash.ts';
import { Endpoint } from '../net/endpoint.ts';
import type { Message } from '../wire/lexer.ts';
import { CALL_ID, FROM, ROUTE, VIA } from '../wire/names.ts';
import { Via } from '../wire/via.ts';
import type { Writer } from '../wire/writer.ts';

const FLOW = 1;
const V4 = 2;
const V6 = 4;
const TRANSACTION = 128;
/** how often the shard had been replaced: a replacement names its transactions anew */
const LIFE = 127;
const TRANSACTION_OCTETS = 6 + 12 + 8;
const SHORTEST = TRANSACTION_OCTETS;
const HASH_AND_MAC = 16;
const STATELESS_SHORTEST = 6 + 6 + HASH_AND_MAC;
const LONGEST = 6 + 8 + 18 + HASH_AND_MAC;
const COOKIE_LENGTH = 7;

export class Branch {
  /** where a response to the request goes; what `read` found, and what `write` takes */
  listener = 0;
  slot = -1;
  generation = 0;
  hasDestination = false;
  readonly destination = new Endpoint();
  readonly #seen = new Via();
  /** the client transaction that the branch names, -1 for a stateless one; `generation` is then its own */
  transaction = -1;
  shard = 0;
  loop = 0;
  ofLife = 0;
  /** of this shard */
  life = 0;
  readonly #incarnation: number;
  readonly #hash: SipHash;
  readonly #mac: SipHash;
  readonly #octets = new Uint8Array(LONGEST + 8);

  constructor(keyring: Keyring, incarnation: number) {
    this.#incarnation = incarnation;
    this.#hash = new SipHash(keyring.derive('branch-hash'));
    this.#mac = new SipHash(keyring.derive('branch-mac'));
  }

  /** Writes the text behind "z9hG4bK" for a request whose top Via, as received, is `via`. */
  write(w: Writer, m: Message, via: Via): void {
    const o = this.#octets;
    const to = this.destination;
    const flow = this.slot >= 0;
    const v6 = this.hasDestination && to.family === 6;
    o[0] = (flow ? FLOW : 0) | (this.hasDestination ? (v6 ? V6 : V4) : 0);
    o[1] = this.listener;
    put32(o, 2, this.#incarnation);
    let n = 6;
    if (flow) {
      put32(o, n, this.slot);
      put32(o, n + 4, this.generation);
      n += 8;
    }
    if (this.hasDestination) {
      if (v6) {
        put32(o, n, to.a0);
        put32(o, n + 4, to.a1);
        put32(o, n + 8, to.a2);
        n += 12;
      }
      put32(o, n, to.a3);
      o[n + 4] = to.port >>> 8;
      o[n + 5] = to.port;
      n += 6;
    }
    this.#hashRequest(m, via);
    put32(o, n, this.#hash.lo);
    put32(o, n + 4, this.#hash.hi);
    n += 8;
    this.#mac.hash(o, 0, n);
    put32(o, n, this.#mac.lo);
    put32(o, n + 4, this.#mac.hi);
    this.#encode(w, n + 8);
  }

  /** Writes the text behind "z9hG4bK" for a client transaction. */
  writeTransaction(w: Writer, shard: number, id: number, generation: number, loop: number): void {
    const o = this.#octets;
    o[0] = TRANSACTION | (this.life & LIFE);
    o[1] = shard;
    put32(o, 2, this.#incarnation);
    put32(o, 6, id);
    put32(o, 10, generation);
    put32(o, 14, loop);
    this.#mac.hash(o, 0, 18);
    put32(o, 18, this.#mac.lo);
    put32(o, 22, this.#mac.hi);
    this.#encode(w, TRANSACTION_OCTETS);
  }

  /** What the request is routed by (RFC 5393 4.2): Request-URI and the Route values, not the method. */
  loopHash(m: Message): number {
    const hash = this.#hash;
    hash.begin();
    hash.update(m.buf, m.uriStart, m.uriEnd);
    for (let row = m.first[ROUTE]; row >= 0; row = m.next(row))
      hash.update(m.buf, m.valueStart[row], m.valueEnd[row]);
    hash.end();
    return hash.lo;
  }

  #encode(w: Writer, octets: number): void {
    if (w.fits(base64urlLength(octets))) w.at = encodeBase64url(this.#octets, 0, octets, w.buf, w.at);
  }

  /** After `read`: does the transaction belong to the present life of its shard, if that is this one? */
  get isOfThisLife(): boolean {
    return this.ofLife === (this.life & LIFE);
  }

  /** RFC 5393 4.2: has a transaction of ours sent this request on with the same routing before? Uses up the object. */
  isLoop(m: Message): boolean {
    const loop = this.loopHash(m);
    const { buf } = m;
    const via = this.#seen;
    for (let row = m.first[VIA]; row >= 0; row = m.next(row)) {
      for (let p = m.valueStart[row]; p < m.valueEnd[row]; p = via.end + 1) {
        if (!via.parse(buf, p, m.valueEnd[row])) break;
        if (via.branchStart < 0 || !this.read(buf, via.branchStart, via.branchEnd)) continue;
        if (this.transaction >= 0 && this.loop === loop) return true;
      }
    }
    return false;
  }

  #hashRequest(m: Message, via: Via): void {
    const hash = this.#hash;
    const { buf } = m;
    hash.begin();
    if (hasCookie(buf, via)) hash.update(buf, via.branchStart, via.branchEnd);
    else {
      // RFC 2543: nothing in Via is unique, so what the transaction consists of
      hash.update(buf, m.valueStart[m.first[FROM]], m.valueEnd[m.first[FROM]]);
      hash.update(buf, m.valueStart[m.first[CALL_ID]], m.valueEnd[m.first[CALL_ID]]);
      hash.word(m.cseqNumber);
    }
    hash.update(buf, via.hostStart, via.sentByEnd);
    hash.update(buf, m.uriStart, m.uriEnd);
    hash.end();
  }

  /** Reads the branch value `buf[start, end)` of a response. False: not ours, changed, or of an earlier life. */
  read(buf: Uint8Array, start: number, end: number): boolean {
    const o = this.#octets;
    const length = end - start - COOKIE_LENGTH;
    if (length <= 0 || length > 72 || !cookieAt(buf, start)) return false;
    const n = decodeBase64url(buf, start + COOKIE_LENGTH, end, o, 0);
    if (n < SHORTEST || n > LONGEST) return false;
    this.#mac.hash(o, 0, n - 8);
    if ((get32(o, n - 8) ^ this.#mac.lo) | (get32(o, n - 4) ^ this.#mac.hi)) return false;
    if (get32(o, 2) !== (this.#incarnation | 0)) return false;
    this.slot = -1;
    this.generation = 0;
    this.hasDestination = false;
    if (o[0] & TRANSACTION) {
      if (n !== TRANSACTION_OCTETS) return false;
      this.shard = o[1];
      this.ofLife = o[0] & LIFE;
      this.transaction = get32(o, 6);
      this.generation = get32(o, 10);
      this.loop = get32(o, 14);
      return true;
    }
    this.transaction = -1;
    if (n < STATELESS_SHORTEST) return false;
    this.listener = o[1];
    let p = 6;
    if (o[0] & FLOW) {
      this.slot = get32(o, p);
      this.generation = get32(o, p + 4);
      p += 8;
    }
    this.hasDestination = (o[0] & (V4 | V6)) !== 0;
    if (!this.hasDestination) return true;
    const to = this.destination;
    if (o[0] & V6) {
      to.family = 6;
      to.a0 = get32(o, p);
      to.a1 = get32(o, p + 4);
      to.a2 = get32(o, p + 8);
      to.a3 = get32(o, p + 12);
      to.port = (o[p + 16] << 8) | o[p + 17];
    } else to.setV4(get32(o, p), (o[p + 4] << 8) | o[p + 5]);
    return true;
  }

  /** Eight hex digits that are the same for a retransmission: the To tag of our own answers. */
  tag(m: Message, via: Via, into: Uint8Array): void {
    this.#hashRequest(m, via);
    const word = this.#hash.lo;
    for (let i = 0; i < 8; i++) {
      const nibble = (word >>> (28 - 4 * i)) & 15;
      into[i] = nibble < 10 ? 48 + nibble : 87 + nibble;
    }
  }
}

/** Does the branch start with z9hG4bK (RFC 3261 8.1.1.7)? */
export function hasCookie(buf: Uint8Array, via: Via): boolean {
  return via.branchEnd - via.branchStart > COOKIE_LENGTH && cookieAt(buf, via.branchStart);
}

function cookieAt(buf: Uint8Array, p: number): boolean {
  return (
    buf[p] === 122 &&
    buf[p + 1] === 57 &&
    buf[p + 2] === 104 &&
    buf[p + 3] === 71 &&
    buf[p + 4] === 52 &&
    buf[p + 5] === 98 &&
    buf[p + 6] === 75
  );
}

function put32(o: Uint8Array, at: number, value: number): void {
  o[at] = value >>> 24;
  o[at + 1] = value >>> 16;
  o[at + 2] = value >>> 8;
  o[at + 3] = value;
}

function get32(o: Uint8Array, at: number): number {
  return (o[at] << 24) | (o[at + 1] << 16) | (o[at + 2] << 8) | o[at + 3];
}
