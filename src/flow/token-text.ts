/**
 * A flow token as text, without crypto: its possible lengths, where slot and generation stand in
 * it, the comparison with the text that is kept beside the flow, and its percent-encoded forms.
 *
 * With these a token of a live flow is recognised in one table look-up and one comparison; only a
 * text that differs from the kept one needs the MAC (token.ts). Nothing here says that a token is
 * genuine. Allocates nothing.
 */
import { base64urlLength, base64urlValue } from './base64url.ts';

/** Octets before the MAC for a stream flow; a UDP flow adds two addresses with their ports. */
export const FIXED_OCTETS = 16;
export const MAC_OCTETS = 12;
export const V4_OCTETS = 12;
export const V6_OCTETS = 36;

export const STREAM_LENGTH = base64urlLength(FIXED_OCTETS + MAC_OCTETS);
export const UDP_V4_LENGTH = base64urlLength(FIXED_OCTETS + V4_OCTETS + MAC_OCTETS);
export const UDP_V6_LENGTH = base64urlLength(FIXED_OCTETS + V6_OCTETS + MAC_OCTETS);
/** Room for any token's text: 38, 54 or 86 characters. */
export const TOKEN_ROOM = UDP_V6_LENGTH;

export function isTokenLength(length: number): boolean {
  return length === STREAM_LENGTH || length === UDP_V4_LENGTH || length === UDP_V6_LENGTH;
}

export interface SlotRef {
  /** 32 bits, unsigned */
  slot: number;
  generation: number;
}

/**
 * Reads slot and generation from the token's text at buf[start, end). They are a claim, good for
 * finding the flow whose kept text is to be compared. False if this cannot be a token.
 */
export function peekSlot(buf: Uint8Array, start: number, end: number, into: SlotRef): boolean {
  if (!isTokenLength(end - start)) return false;
  // Octets 8..15 of the token are the last of characters 8..11, then 12..21 less 4 bits.
  const at = start + 8;
  const a = sextets4(buf, at);
  const b = sextets4(buf, at + 4);
  const c = sextets4(buf, at + 8);
  const d = (base64urlValue(buf[at + 12]) << 6) | base64urlValue(buf[at + 13]);
  if ((a | b | c | d) < 0) return false;
  into.slot = ((a << 24) | b) >>> 0;
  into.generation = ((c << 8) | (d >>> 4)) >>> 0;
  return true;
}

function sextets4(buf: Uint8Array, at: number): number {
  return (
    (base64urlValue(buf[at]) << 18) |
    (base64urlValue(buf[at + 1]) << 12) |
    (base64urlValue(buf[at + 2]) << 6) |
    base64urlValue(buf[at + 3])
  );
}

/** Compares in a time that depends on `length` only (EP-5.3.1-06). */
export function sameText(a: Uint8Array, aStart: number, b: Uint8Array, bStart: number, length: number) {
  // a range that runs out of its array would read as zeros and could equal another such range
  if (aStart + length > a.length || bStart + length > b.length) return false;
  let differing = 0;
  for (let i = 0; i < length; i++) differing |= a[aStart + i] ^ b[bStart + i];
  return differing === 0;
}

/**
 * Writes buf[start, end) with its %XX escapes resolved to dst, which has TOKEN_ROOM octets.
 * Returns the length, or -1 for a broken escape or a text longer than any token.
 */
export function unescapeToken(buf: Uint8Array, start: number, end: number, dst: Uint8Array): number {
  let to = 0;
  for (let i = start; i < end; i++) {
    if (to === TOKEN_ROOM) return -1;
    let octet = buf[i];
    if (octet === PERCENT) {
      if (i + 2 >= end) return -1;
      octet = (hex(buf[i + 1]) << 4) | hex(buf[i + 2]);
      if (octet < 0) return -1;
      i += 2;
    }
    dst[to++] = octet;
  }
  return to;
}

/** True if buf[start, end) has an escape. */
export function isEscaped(buf: Uint8Array, start: number, end: number): boolean {
  for (let i = start; i < end; i++) if (buf[i] === PERCENT) return true;
  return false;
}

const PERCENT = 0x25;

function hex(octet: number): number {
  if (octet >= 0x30 && octet <= 0x39) return octet - 0x30;
  const lower = octet | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
