/**
 * What location (RFC 3263) speaks of: a destination, as a URI names it, and the targets that it comes to; and
 * both as octets, so that main, which resolves, and a shard, which sends, can tell each other through a ring.
 *
 * A list is bounded by MAX_TARGETS, a name by MAX_NAME: a message has at most LOCATION_BYTES. What cannot be read
 * is undefined, never a throw. Both ends are one build, so there is no version. Not for the packet path: a shard
 * decodes when a list has changed, not when a message comes.
 */
import { Endpoint } from './endpoint.ts';

/** Addresses that one destination may come to. Trying sixteen takes longer than any caller waits. */
export const MAX_TARGETS = 16;
/** RFC 1035 2.3.4: octets of a name in text */
export const MAX_NAME = 253;

export interface Destination {
  scheme: 'sip' | 'sips';
  /** as in the URI (or its maddr): a name, or a number, IPv6 with or without brackets */
  host: string;
  /** 0: not given */
  port: number;
  /** transport code of the transport parameter; 0: not given */
  transport: number;
}

export interface Target {
  transport: number;
  /** where the certificate must be for another name than `host`: the one that was asked about (RFC 5922 7.3) */
  domain?: string;
  /** whose address this is, lower case: the SRV target, or the host asked for */
  host: string;
  /** with the port */
  address: Endpoint;
  /** SRV priority: lower ones first, the next only when all of these are dead */
  priority: number;
  /** this address's part of its name's SRV weight: where load is spread, in this proportion */
  weight: number;
  /** the transport was asked for by name: the size of a message does not change it (RFC 3261 18.1.1) */
  named?: boolean;
}

/** Why there is no target. The index is the code in a ring. */
export const FAILURES = [
  '',
  /** no such name, or no address of a family that we speak */
  'no-such-name',
  /** DNS says that the service is decidedly not there: SRV with the target "." */
  'no-service',
  /** DNS did not answer */
  'no-answer',
  /** no transport of ours fits the URI */
  'no-transport',
  /** more questions are in work than the bound allows */
  'busy',
] as const;
export type LocateFailure = (typeof FAILURES)[number];

export interface Location {
  /** in the order in which they are to be tried; empty exactly when `failure` says why */
  targets: Target[];
  failure: LocateFailure;
  /** milliseconds for which this may be believed; Infinity for a numeric host */
  ttl: number;
}

const TARGET_HEAD = 28; // transport, family, port 2, priority 2, weight 4, address 16, lengths of host and domain
export const LOCATION_BYTES = 8 + MAX_TARGETS * (TARGET_HEAD + 2 * MAX_NAME);
const NO_END = 0xffffffff;
const NAMED = 0x80; // beside the transport

export function encodeDestination({ scheme, host, port, transport }: Destination): Uint8Array | undefined {
  if (host.length === 0 || host.length > MAX_NAME) return undefined;
  const bytes = Buffer.alloc(5 + host.length);
  bytes[0] = scheme === 'sips' ? 1 : 0;
  bytes[1] = transport;
  bytes.writeUInt16BE(port, 2);
  bytes[4] = host.length;
  bytes.write(host, 5, 'latin1');
  return bytes;
}

export function decodeDestination(bytes: Uint8Array): Destination | undefined {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.length < 6 || view.length !== 5 + view[4] || view[0] > 1) return undefined;
  return {
    scheme: view[0] === 1 ? 'sips' : 'sip',
    host: view.toString('latin1', 5),
    port: view.readUInt16BE(2),
    transport: view[1],
  };
}

/** Targets behind MAX_TARGETS are left out. */
export function encodeTargets({ targets, failure, ttl }: Location): Uint8Array {
  const bytes = Buffer.alloc(LOCATION_BYTES);
  const count = Math.min(targets.length, MAX_TARGETS);
  bytes[0] = count;
  bytes[1] = FAILURES.indexOf(failure);
  bytes.writeUInt32BE(ttl < NO_END ? Math.max(0, Math.floor(ttl)) : NO_END, 4);
  let at = 8;
  for (let i = 0; i < count; i++) at = writeTarget(bytes, at, targets[i]);
  return bytes.subarray(0, at);
}

export function decodeTargets(bytes: Uint8Array): Location | undefined {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.length < 8 || view[0] > MAX_TARGETS || view[1] >= FAILURES.length) return undefined;
  const targets: Target[] = [];
  let at = 8;
  for (let i = 0; i < view[0]; i++) {
    if (at + TARGET_HEAD > view.length) return undefined;
    const end = at + TARGET_HEAD + view[at + TARGET_HEAD - 2] + view[at + TARGET_HEAD - 1];
    if (end > view.length || (view[at + 1] !== 4 && view[at + 1] !== 6)) return undefined;
    targets.push(readTarget(view, at, end));
    at = end;
  }
  if (at !== view.length) return undefined;
  const ttl = view.readUInt32BE(4);
  return { targets, failure: FAILURES[view[1]], ttl: ttl === NO_END ? Infinity : ttl };
}

function writeTarget(bytes: Buffer, at: number, target: Target): number {
  const { address } = target;
  const host = target.host.slice(0, MAX_NAME);
  const domain = target.domain?.slice(0, MAX_NAME) ?? '';
  bytes[at] = target.transport | (target.named ? NAMED : 0);
  bytes[at + 1] = address.family;
  bytes.writeUInt16BE(address.port, at + 2);
  bytes.writeUInt16BE(target.priority, at + 4);
  bytes.writeFloatBE(target.weight, at + 6);
  bytes.writeInt32BE(address.a0, at + 10);
  bytes.writeInt32BE(address.a1, at + 14);
  bytes.writeInt32BE(address.a2, at + 18);
  bytes.writeInt32BE(address.a3, at + 22);
  bytes[at + TARGET_HEAD - 2] = host.length;
  bytes[at + TARGET_HEAD - 1] = domain.length;
  bytes.write(host + domain, at + TARGET_HEAD, 'latin1');
  return at + TARGET_HEAD + host.length + domain.length;
}

function readTarget(view: Buffer, at: number, end: number): Target {
  const address = new Endpoint();
  address.family = view[at + 1];
  address.port = view.readUInt16BE(at + 2);
  address.a0 = view.readInt32BE(at + 10);
  address.a1 = view.readInt32BE(at + 14);
  address.a2 = view.readInt32BE(at + 18);
  address.a3 = view.readInt32BE(at + 22);
  const middle = at + TARGET_HEAD + view[at + TARGET_HEAD - 2];
  return {
    transport: view[at] & ~NAMED,
    ...(view[at] & NAMED && { named: true }),
    ...(middle < end && { domain: view.toString('latin1', middle, end) }),
    host: view.toString('latin1', at + TARGET_HEAD, middle),
    address,
    priority: view.readUInt16BE(at + 4),
    weight: view.readFloatBE(at + 6),
  };
}
