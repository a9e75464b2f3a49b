/**
 * The STUN server of a SIP port (5626 §8, RFC 5389): answers Binding requests with the source
 * address that they came from, in the buffer they came in. It keeps no state and never forwards.
 *
 * Answered: requests with the magic cookie, with or without FINGERPRINT. Unknown attributes that
 * must be understood give error 420. Dropped without a word: everything malformed, a wrong
 * FINGERPRINT, indications, responses, other methods than Binding, and RFC 3489 (no cookie).
 * Credentials are ignored, since this usage has none. SOFTWARE is not sent: it costs octets and
 * names the product.
 *
 * A response has at most STUN_ROOM octets, so a forged source gains little by it. Allocates nothing.
 */
import type { Endpoint } from '../net/endpoint.ts';

/** Octets that a response may take at its place. */
export const STUN_ROOM = 128;
/** Longer requests are junk: STUN over UDP stays below the smallest IPv6 MTU (5389 §7.1). */
const REQUEST_MOST = 1280;
const HEADER = 20;
const COOKIE = 0x2112a442;

const BINDING_REQUEST = 0x0001;
const BINDING_SUCCESS = 0x0101;
const BINDING_ERROR = 0x0111;

const USERNAME = 0x0006;
const MESSAGE_INTEGRITY = 0x0008;
const MAPPED_ADDRESS = 0x0001;
const ERROR_CODE = 0x0009;
const UNKNOWN_ATTRIBUTES = 0x000a;
const REALM = 0x0014;
const NONCE = 0x0015;
const XOR_MAPPED_ADDRESS = 0x0020;
const FINGERPRINT = 0x8028;
const FINGERPRINT_XOR = 0x5354554e;

/** The 420 lists at most this many types: the client cannot go on after the first anyway. */
const UNKNOWN_MOST = 32;
const unknown = new Uint16Array(UNKNOWN_MOST);

const UNKNOWN_REASON = Uint8Array.from('Unknown Attribute', (c) => c.charCodeAt(0));

/** 5626 §8: a SIP message never starts with octet 0 or 1, a STUN message always does. */
export function isStun(buf: Uint8Array, start: number): boolean {
  return buf[start] <= 1;
}

/**
 * Answers the datagram buf[start, end) that came from `from`, at out[at]. That may be the request's
 * own place (same buffer, at === start) if STUN_ROOM octets are free there; otherwise the ranges
 * must not overlap. Returns the response's length, or 0 to drop.
 */
export function answerStun(
  buf: Uint8Array,
  start: number,
  end: number,
  from: Endpoint,
  out: Uint8Array,
  at: number,
): number {
  const length = end - start;
  if (length < HEADER || length > REQUEST_MOST) return 0;
  if (load16(buf, start) !== BINDING_REQUEST) return 0;
  if (load32(buf, start + 4) !== COOKIE) return 0;
  // 5389 §6: a multiple of 4; a datagram holds one message and nothing else
  const body = load16(buf, start + 2);
  if ((body & 3) !== 0 || body + HEADER !== length) return 0;

  let unknowns = 0;
  let ignoring = false;
  let fingerprinted = false;
  for (let i = start + HEADER; i < end; ) {
    // fingerprint comes last; what follows it makes the message malformed
    if (fingerprinted) return 0;
    const type = load16(buf, i);
    const size = load16(buf, i + 2);
    const next = i + 4 + ((size + 3) & ~3);
    if (next > end) return 0;
    if (type === FINGERPRINT) {
      if (size !== 4 || load32(buf, i + 4) !== (crc32(buf, start, i) ^ FINGERPRINT_XOR)) return 0;
      fingerprinted = true;
    } else if (type < 0x8000 && !ignoring && !isKnown(type)) {
      unknowns = addUnknown(type, unknowns);
    }
    // 5389 §15.4: what follows MESSAGE-INTEGRITY is ignored, except FINGERPRINT
    if (type === MESSAGE_INTEGRITY) ignoring = true;
    i = next;
  }

  if (out !== buf || at !== start) for (let i = 4; i < HEADER; i++) out[at + i] = buf[start + i];
  let to = at + HEADER;
  if (unknowns > 0) {
    store16(out, at, BINDING_ERROR);
    to = putUnknown(out, to, unknowns);
  } else {
    store16(out, at, BINDING_SUCCESS);
    to = putMappedAddress(out, to, at, from);
  }
  store16(out, at + 2, to - at - HEADER + (fingerprinted ? 8 : 0));
  if (fingerprinted) {
    const crc = crc32(out, at, to) ^ FINGERPRINT_XOR;
    store16(out, to, FINGERPRINT);
    store16(out, to + 2, 4);
    store32(out, to + 4, crc);
    to += 8;
  }
  return to - at;
}

/** 5389 §18.2, without the types that RFC 3489 had and 5389 only reserves. */
function isKnown(type: number): boolean {
  switch (type) {
    case MAPPED_ADDRESS:
    case USERNAME:
    case MESSAGE_INTEGRITY:
    case ERROR_CODE:
    case UNKNOWN_ATTRIBUTES:
    case REALM:
    case NONCE:
    case XOR_MAPPED_ADDRESS:
      return true;
    default:
      return false;
  }
}

function addUnknown(type: number, count: number): number {
  for (let i = 0; i < count; i++) if (unknown[i] === type) return count;
  if (count === UNKNOWN_MOST) return count;
  unknown[count] = type;
  return count + 1;
}

/** 5389 §15.6 and §15.9: ERROR-CODE 420, then the types, padded to four octets. */
function putUnknown(out: Uint8Array, at: number, count: number): number {
  let to = at;
  store16(out, to, ERROR_CODE);
  store16(out, to + 2, 4 + UNKNOWN_REASON.length);
  store32(out, to + 4, (4 << 8) | 20);
  to += 8;
  for (let i = 0; i < UNKNOWN_REASON.length; i++) out[to++] = UNKNOWN_REASON[i];
  while (((to - at) & 3) !== 0) out[to++] = 0;
  store16(out, to, UNKNOWN_ATTRIBUTES);
  store16(out, to + 2, count * 2);
  to += 4;
  for (let i = 0; i < count; i++, to += 2) store16(out, to, unknown[i]);
  if ((count & 1) !== 0) {
    store16(out, to, 0);
    to += 2;
  }
  return to;
}

/** 5389 §15.2. A client that came over IPv4 to a dual-stack socket is told its IPv4 address. */
function putMappedAddress(out: Uint8Array, at: number, header: number, from: Endpoint): number {
  const v4 = from.a0 === 0 && from.a1 === 0 && from.a2 === 0xffff;
  store16(out, at, XOR_MAPPED_ADDRESS);
  store16(out, at + 2, v4 ? 8 : 20);
  store16(out, at + 4, v4 ? 1 : 2);
  store16(out, at + 6, from.port ^ (COOKIE >>> 16));
  if (v4) {
    store32(out, at + 8, from.a3 ^ COOKIE);
    return at + 12;
  }
  store32(out, at + 8, from.a0 ^ COOKIE);
  store32(out, at + 12, from.a1 ^ load32(out, header + 8));
  store32(out, at + 16, from.a2 ^ load32(out, header + 12));
  store32(out, at + 20, from.a3 ^ load32(out, header + 16));
  return at + 24;
}

const CRC = new Int32Array(256);
for (let i = 0; i < 256; i++) {
  let c = i;
  for (let k = 0; k < 8; k++) c = (c & 1) !== 0 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
  CRC[i] = c;
}

/** int32 */
function crc32(buf: Uint8Array, start: number, end: number): number {
  let c = -1;
  for (let i = start; i < end; i++) c = CRC[(c ^ buf[i]) & 255] ^ (c >>> 8);
  return ~c;
}

function load16(buf: Uint8Array, at: number): number {
  return (buf[at] << 8) | buf[at + 1];
}

function load32(buf: Uint8Array, at: number): number {
  return (buf[at] << 24) | (buf[at + 1] << 16) | (buf[at + 2] << 8) | buf[at + 3];
}

function store16(buf: Uint8Array, at: number, value: number): void {
  buf[at] = value >>> 8;
  buf[at + 1] = value;
}

function store32(buf: Uint8Array, at: number, value: number): void {
  buf[at] = value >>> 24;
  buf[at + 1] = value >>> 16;
  buf[at + 2] = value >>> 8;
  buf[at + 3] = value;
}
