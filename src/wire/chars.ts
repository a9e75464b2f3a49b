/**
 * Character classes of RFC 3261 section 25.1 as one table of bits, so that a class test is one load
 * and one mask.
 */
export const TOKEN = 1;
export const DIGIT = 2;
/** octets that may stand in a host name, an IPv4 address or, with brackets, an IPv6 reference */
export const HOST = 4;
/** space, tab, and the CR and LF of a folded line (the lexer has made sure that these are folds) */
export const LWS = 8;
export const HEX = 16;

export const CHARS = new Uint8Array(256);

const mark = (text: string, bits: number) => {
  for (const char of text) CHARS[char.charCodeAt(0)] |= bits;
};
mark('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789', TOKEN | HOST);
mark("-.!%*_+`'~", TOKEN);
mark('-._', HOST);
mark('0123456789', DIGIT | HEX);
mark('abcdefABCDEF', HEX);
mark(' \t\r\n', LWS);

/** The lower-case form of each octet. */
const LOWER = Uint8Array.from({ length: 256 }, (_, c) => (c >= 65 && c <= 90 ? c | 32 : c));

/** Does `buf[start, end)` equal the ASCII text, letter case aside? `text` must be lower case. */
export function equalsNoCase(buf: Uint8Array, start: number, end: number, text: Uint8Array): boolean {
  if (end - start !== text.length) return false;
  for (let i = 0; i < text.length; i++) if (LOWER[buf[start + i]] !== text[i]) return false;
  return true;
}

export function ascii(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** The octets as text, one char an octet: for logs, keys and the string-level grammars. */
export function latin1(buf: Uint8Array, start: number, end: number): string {
  return Buffer.from(buf.buffer, buf.byteOffset + start, end - start).toString('latin1');
}

/** The octets as UTF-8 text. */
export function utf8(buf: Uint8Array, start: number, end: number): string {
  return Buffer.from(buf.buffer, buf.byteOffset + start, end - start).toString('utf8');
}

/** A decimal number of at most nine digits, or -1 for anything else. */
export function parseDecimal(buf: Uint8Array, start: number, end: number): number {
  if (start >= end || end - start > 9) {
    // leading zeros are legal: strip them before giving up on the length
    while (start < end - 1 && buf[start] === 48) start++;
    if (start >= end || end - start > 10) return -1;
  }
  let value = 0;
  for (let i = start; i < end; i++) {
    const d = buf[i] - 48;
    if (d < 0 || d > 9) return -1;
    value = value * 10 + d;
  }
  return value;
}
