/**
 * The PROXY protocol, versions 1 and 2 (haproxy's doc/proxy-protocol.txt, section 2): what a balancer sends in
 * front of a connection to say whose it is. Pure: octets in, a verdict out.
 *
 * Guarantees: any split of the stream gives the same verdict; nothing throws; a header has at most MAX_HEADER
 * octets, and MORE is never said to as many. Of a header with a checksum (PP2_TYPE_CRC32C) nothing is checked:
 * all TLVs are passed over. Costs one look at the first octet where there is no header.
 */
import { Endpoint } from './endpoint.ts';

/** no header stands here: the octets are the stream's own */
export const NONE = 0;
/** what is there may be the beginning of one */
export const MORE = 1;
/** a whole one, of `length` octets */
export const HEADER = 2;
/** the signature of one, and behind it what none has */
export const MALFORMED = 3;

/** The connection is the sender's own, a health check: its addresses are those of the socket. */
export const LOCAL = 0;
/** It was made for somebody whose address the sender does not know, or who has none of ours. */
export const UNKNOWN = 1;
/** It was made for `client`. */
export const CLIENT = 2;

const latin1 = (text: string): Uint8Array => Buffer.from(text, 'latin1');
const SIGNATURE_1 = latin1('PROXY ');
const SIGNATURE_2 = latin1('\r\n\r\n\0\r\nQUIT\n');
/** A line of version 1 with its CRLF. */
const MAX_LINE = 107;
const FIXED = 16;
/** The sizes of address blocks, by family: unspecified, IPv4, IPv6, UNIX. */
const BLOCKS = [0, 12, 36, 216];
const STREAM = 1;
/** Octets of a whole header with its TLVs. A sender keeps to 536, except for certificates. */
export const MAX_HEADER = 4_096;
/** What is common to version 2 and a keep-alive: CR LF CR LF. */
export const PING = 4;

const LINE = /^TCP([46]) ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})$/;
const HEADING_ZERO = /(^|\.)0\d/;

export class ProxyHeader {
  /** after HEADER */
  length = 0;
  /** LOCAL, UNKNOWN or CLIENT */
  about = LOCAL;
  readonly client = new Endpoint();
  /** The signature is there: whatever follows, this is no SIP. */
  signed = false;
  readonly #destination = new Endpoint();

  /**
   * Looks at `buf[start, end)`, the first octets of a stream. `seen`: so many stood in front of them and are
   * gone, the front of the version 2 signature.
   */
  read(buf: Uint8Array, start: number, end: number, seen = 0): number {
    const base = start - seen;
    this.signed = false;
    if (seen === 0 && agrees(buf, start, end, base, SIGNATURE_1)) {
      if (end - base < SIGNATURE_1.length) return MORE;
      this.signed = true;
      return this.#line(buf, base, end);
    }
    if (!agrees(buf, start, end, base, SIGNATURE_2)) return NONE;
    if (end - base < SIGNATURE_2.length) return MORE;
    this.signed = true;
    return this.#block(buf, base, end);
  }

  /** 2.1 */
  #line(buf: Uint8Array, base: number, end: number): number {
    const limit = Math.min(end, base + MAX_LINE);
    let p = base + SIGNATURE_1.length;
    while (p < limit && buf[p] !== 13 && buf[p] !== 10) p++;
    if (p + 1 >= limit) return end - base >= MAX_LINE || (p < limit && buf[p] === 10) ? MALFORMED : MORE;
    if (buf[p] !== 13 || buf[p + 1] !== 10) return MALFORMED;
    let text = '';
    for (let i = base + SIGNATURE_1.length; i < p; i++) text += String.fromCharCode(buf[i]);
    this.length = p + 2 - base;
    if (text === 'UNKNOWN' || text.startsWith('UNKNOWN ')) {
      this.about = UNKNOWN;
      return HEADER;
    }
    const parts = LINE.exec(text);
    if (!parts) return MALFORMED;
    const [, family, from, to, fromPort, toPort] = parts;
    this.about = CLIENT;
    return address(this.client, family, from, fromPort) && address(this.#destination, family, to, toPort)
      ? HEADER
      : MALFORMED;
  }

  /** 2.2 */
  #block(buf: Uint8Array, base: number, end: number): number {
    const have = end - base;
    const command = buf[base + 12];
    if (have > 12 && command !== 0x20 && command !== 0x21) return MALFORMED;
    const [family, transport] = [buf[base + 13] >> 4, buf[base + 13] & 15];
    if (have > 13 && (family > 3 || transport > 2)) return MALFORMED;
    if (have < FIXED) return MORE;
    const length = (buf[base + 14] << 8) | buf[base + 15];
    if (FIXED + length > MAX_HEADER) return MALFORMED;
    const isLocal = command === 0x20; // its family, and its block, are to be ignored
    if (!isLocal && transport > 0 && length < BLOCKS[family]) return MALFORMED;
    if (have < FIXED + length) return MORE;
    this.length = FIXED + length;
    this.about = isLocal ? LOCAL : UNKNOWN;
    if (isLocal || transport !== STREAM || (family !== 1 && family !== 2)) return HEADER;
    this.about = CLIENT;
    const at = base + FIXED;
    const { client } = this;
    if (family === 1) client.setV4(word(buf, at), (buf[at + 8] << 8) | buf[at + 9]);
    else {
      client.a0 = word(buf, at);
      client.a1 = word(buf, at + 4);
      client.a2 = word(buf, at + 8);
      client.a3 = word(buf, at + 12);
      client.port = (buf[at + 32] << 8) | buf[at + 33];
      unmap(client);
    }
    return HEADER;
  }
}

/** Do the octets agree with the signature as far as both go? `buf[base]` is its first, seen or not. */
function agrees(buf: Uint8Array, start: number, end: number, base: number, signature: Uint8Array): boolean {
  const limit = Math.min(end, base + signature.length);
  for (let p = start; p < limit; p++) if (buf[p] !== signature[p - base]) return false;
  return true;
}

function address(into: Endpoint, family: string, host: string, port: string): boolean {
  const number = Number(port);
  if (number > 65_535 || (family === '4') === host.includes(':') || HEADING_ZERO.test(host)) return false;
  if (!into.parse(host, number)) return false;
  unmap(into);
  return true;
}

/** A balancer that listens on IPv6 for both families calls an IPv4 client ::ffff:192.0.2.1: he is an IPv4 client. */
function unmap(address: Endpoint): void {
  address.family = address.a0 === 0 && address.a1 === 0 && address.a2 === 0xffff ? 4 : 6;
}

const word = (buf: Uint8Array, p: number): number =>
  (buf[p] << 24) | (buf[p + 1] << 16) | (buf[p + 2] << 8) | buf[p + 3];
