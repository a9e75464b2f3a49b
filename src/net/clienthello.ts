/**
 * The server name (SNI, RFC 6066 section 3) out of the first octets of a TLS connection. It says nothing about
 * whether they are good: what is broken has no name here, and OpenSSL judges it afterwards.
 *
 * The octets are a copy that was peeked at; a message that is spread over several records is put together in
 * place. Bounded by MAX_HELLO. Nothing throws.
 */

/** The hello is not complete: more octets are needed. */
export const HELLO_MORE = 0;
/** It names a server: `nameStart`, `nameEnd`. */
export const HELLO_NAME = 1;
/** It names none, or is no hello. */
export const HELLO_NONE = 2;

/** With post-quantum key shares a hello has 1.8 KiB; the largest are those of clients with huge tickets. */
export const MAX_HELLO = 16 * 1024;

const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const SERVER_NAME = 0;
const HOST_NAME = 0;
const MAX_RECORD = 16 * 1024;
const RECORD_HEAD = 5;
const MESSAGE_HEAD = 4;

export class ClientHello {
  nameStart = 0;
  nameEnd = 0;

  /** Reads, and rearranges, `buf[start, end)`. */
  read(buf: Uint8Array, start: number, end: number): number {
    let at = start;
    let to = start;
    for (;;) {
      const have = to - start;
      if (have >= MESSAGE_HEAD) {
        const need = MESSAGE_HEAD + ((buf[start + 1] << 16) | u16(buf, start + 2));
        if (buf[start] !== CLIENT_HELLO || need > MAX_HELLO) return HELLO_NONE;
        if (have >= need) return this.#name(buf, start + MESSAGE_HEAD, start + need);
      }
      if (at < end && buf[at] !== HANDSHAKE) return HELLO_NONE;
      if (at + RECORD_HEAD > end) return HELLO_MORE;
      const length = u16(buf, at + 3);
      if (length === 0 || length > MAX_RECORD) return HELLO_NONE;
      at += RECORD_HEAD;
      if (at + length > end) return HELLO_MORE;
      buf.copyWithin(to, at, at + length);
      to += length;
      at += length;
    }
  }

  #name(buf: Uint8Array, start: number, end: number): number {
    let p = start + 34; // version, random
    if (p >= end) return HELLO_NONE;
    p += 1 + buf[p]; // session id
    if (p + 2 > end) return HELLO_NONE;
    p += 2 + u16(buf, p); // cipher suites
    if (p >= end) return HELLO_NONE;
    p += 1 + buf[p]; // compression methods
    if (p + 2 > end) return HELLO_NONE;
    const limit = Math.min(end, p + 2 + u16(buf, p));
    p += 2;
    while (p + 4 <= limit) {
      const type = u16(buf, p);
      const next = p + 4 + u16(buf, p + 2);
      if (next > limit) return HELLO_NONE;
      if (type === SERVER_NAME) return this.#hostName(buf, p + 4, next);
      p = next;
    }
    return HELLO_NONE;
  }

  /** A list with one element, in practice and since RFC 8446. */
  #hostName(buf: Uint8Array, start: number, end: number): number {
    if (start + 5 > end || buf[start + 2] !== HOST_NAME) return HELLO_NONE;
    const length = u16(buf, start + 3);
    if (length === 0 || start + 5 + length > end) return HELLO_NONE;
    this.nameStart = start + 5;
    this.nameEnd = this.nameStart + length;
    return HELLO_NAME;
  }
}

const u16 = (buf: Uint8Array, at: number): number => (buf[at] << 8) | buf[at + 1];
