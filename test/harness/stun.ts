/**
 * STUN Binding (RFC 5389) as a tester writes and reads it: composes any request, right or wrong, and
 * takes answers apart attribute by attribute. Shares nothing with the server's own STUN code.
 */
import { randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';

export const COOKIE = 0x2112a442;

export interface StunAttribute {
  type: number;
  value: Buffer;
}

export interface StunMessage {
  type: number;
  length: number;
  cookie: number;
  id: Buffer;
  attributes: StunAttribute[];
  raw: Buffer;
}

export interface StunOptions {
  type?: number;
  cookie?: number;
  id?: Buffer;
  /** what to write in the length field instead of the true length */
  length?: number;
  attributes?: StunAttribute[];
  fingerprint?: 'right' | 'wrong';
}

/** A Binding request (or, by `type`, anything else) with the given attributes. */
export function stun(options: StunOptions = {}): Buffer {
  const parts = (options.attributes ?? []).map(({ type, value }) => {
    const padded = Buffer.alloc(4 + Math.ceil(value.length / 4) * 4);
    padded.writeUInt16BE(type, 0);
    padded.writeUInt16BE(value.length, 2);
    value.copy(padded, 4);
    return padded;
  });
  const bodyLength = parts.reduce((sum, p) => sum + p.length, 0) + (options.fingerprint ? 8 : 0);
  const head = Buffer.alloc(20);
  head.writeUInt16BE(options.type ?? 0x0001, 0);
  head.writeUInt16BE(options.length ?? bodyLength, 2);
  head.writeUInt32BE(options.cookie ?? COOKIE, 4);
  (options.id ?? randomBytes(12)).copy(head, 8);
  const message = Buffer.concat([head, ...parts]);
  if (!options.fingerprint) return message;
  const print = Buffer.alloc(8);
  print.writeUInt16BE(0x8028, 0);
  print.writeUInt16BE(4, 2);
  const wrong = options.fingerprint === 'wrong' ? 1 : 0;
  print.writeUInt32BE((crc32(message) ^ 0x5354554e ^ wrong) >>> 0, 4);
  return Buffer.concat([message, print]);
}

/** Undefined if the bytes are no well-formed STUN message: attributes must fill the length exactly. */
export function parseStun(raw: Buffer): StunMessage | undefined {
  if (raw.length < 20 || raw[0] > 1) return undefined;
  const length = raw.readUInt16BE(2);
  if (length % 4 !== 0 || raw.length !== 20 + length) return undefined;
  const attributes: StunAttribute[] = [];
  for (let at = 20; at < raw.length; ) {
    if (at + 4 > raw.length) return undefined;
    const size = raw.readUInt16BE(at + 2);
    if (at + 4 + size > raw.length) return undefined;
    attributes.push({ type: raw.readUInt16BE(at), value: raw.subarray(at + 4, at + 4 + size) });
    at += 4 + Math.ceil(size / 4) * 4;
  }
  return {
    type: raw.readUInt16BE(0),
    length,
    cookie: raw.readUInt32BE(4),
    id: raw.subarray(8, 20),
    attributes,
    raw,
  };
}

export const attribute = (message: StunMessage, type: number): Buffer | undefined =>
  message.attributes.find((a) => a.type === type)?.value;

/** "192.0.2.1:32853" or "[...]:port" out of XOR-MAPPED-ADDRESS. */
export function mappedAddress(message: StunMessage): string | undefined {
  const value = attribute(message, 0x0020);
  if (value?.[0] !== 0) return undefined;
  const port = value.readUInt16BE(2) ^ (COOKIE >>> 16);
  const mask = Buffer.alloc(16);
  mask.writeUInt32BE(COOKIE, 0);
  message.id.copy(mask, 4);
  const octets = Buffer.from(value.subarray(4).map((b, i) => b ^ mask[i]));
  if (value[1] === 1 && octets.length === 4) return `${octets.join('.')}:${port}`;
  if (value[1] !== 2 || octets.length !== 16) return undefined;
  const groups = Array.from({ length: 8 }, (_, i) => octets.readUInt16BE(2 * i).toString(16));
  return `[${new URL(`http://[${groups.join(':')}]/`).hostname.slice(1, -1)}]:${port}`;
}
