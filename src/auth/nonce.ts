/**
 * Digest nonces that say all about themselves, signed, so that a challenge leaves nothing behind but a number:
 * base64url( key id 1 | node 2 | incarnation 4 | time 4 | serial 4 | bound to 4 | MAC 8 ), 36 characters. What is
 * remembered, in shared memory, is which counts of a nonce were used (shared/nonce-table.ts): a replay is seen on
 * whichever shard it comes.
 *
 * Bound to whom the challenged request named: the AOR in To of a REGISTER, in From of others. RFC 7616 5.4 lets a
 * server narrow a nonce so, and asks nobody to: a nonce that somebody else overheard is no use to him, not even to
 * spend its counts. A client that takes it to another of his own lines is told `stale` and asks no user.
 *
 * The MAC is SipHash, 64 bits under a key of its own: a forged nonce gives nothing away (it takes the password to
 * answer it), it would only choose its own time and serial. Times are of the process's clock, and an earlier life
 * of the process has another incarnation: its counts are not known any more, so its nonces are stale.
 */

import { decodeBase64url, encodeBase64url } from '../flow/base64url.ts';
import type { Keyring } from '../flow/keyring.ts';
import { SipHash } from '../flow/siphash.ts';
import type { NonceTable } from '../shared/nonce-table.ts';
import { FRESH, MAX_NC, SPENT } from '../shared/nonce-table.ts';

export const NONCE_OK = 0;
/** ours, but too old, of another node, life or identity, or its counts are not known any more */
export const NONCE_STALE = 1;
/** this count was used before */
export const NONCE_REPLAYED = 2;
/** never made by a holder of our keys */
export const NONCE_FORGED = 3;

const NODE = 1;
const INCARNATION = 3;
const TIME = 7;
const SERIAL = 11;
const BOUND = 15;
const MAC = 19;
const OCTETS = 27;
/** Characters of a nonce. */
export const NONCE_LENGTH = 36;
/** Deciseconds that another shard's clock may be ahead of ours. */
const AHEAD = 50;

interface SigningKey {
  id: number;
  mac: SipHash;
  bound: SipHash;
}

export interface NonceParts {
  keyring: Keyring;
  table: NonceTable;
  /** 0 to 65535 */
  node: number;
  /** of this life of the process */
  incarnation: number;
  /** seconds; 300 unless told */
  life?: number;
}

export class Nonces {
  readonly #table: NonceTable;
  readonly #current: SigningKey;
  readonly #previous: SigningKey | undefined;
  readonly #node: number;
  readonly #incarnation: number;
  readonly #life: number;
  readonly #octets = Buffer.alloc(OCTETS);
  readonly #text = Buffer.alloc(NONCE_LENGTH);

  /** Of the nonce that `check` looked at, for `spend`. */
  serial = 0;

  constructor({ keyring, table, node, incarnation, life = 300 }: NonceParts) {
    this.#table = table;
    this.#node = node;
    this.#incarnation = incarnation >>> 0;
    this.#life = life * 10;
    this.#current = signingKey(keyring.currentId, keyring.derive('nonce'), keyring.derive('nonce identity'));
    const mac = keyring.derivePrevious('nonce');
    const bound = keyring.derivePrevious('nonce identity');
    this.#previous = mac && bound && signingKey(keyring.previousId, mac, bound);
  }

  /** A new nonce for requests in the name of `identity`. `ds`: deciseconds of the process. */
  issue(identity: string, ds: number): string {
    const octets = this.#octets;
    const key = this.#current;
    octets[0] = key.id;
    octets.writeUInt16BE(this.#node, NODE);
    octets.writeUInt32BE(this.#incarnation, INCARNATION);
    octets.writeUInt32BE(ds >>> 0, TIME);
    octets.writeInt32BE(this.#table.next(), SERIAL);
    octets.writeInt32BE(boundTo(key, identity), BOUND);
    key.mac.hash(octets, 0, MAC);
    octets.writeInt32BE(key.mac.lo, MAC);
    octets.writeInt32BE(key.mac.hi, MAC + 4);
    encodeBase64url(octets, 0, OCTETS, this.#text, 0);
    return this.#text.toString('latin1');
  }

  /** NONCE_OK, NONCE_STALE or NONCE_FORGED; spends nothing. Any text may be asked for. */
  check(nonce: string, identity: string, ds: number): number {
    const octets = this.#octets;
    if (nonce.length !== NONCE_LENGTH) return NONCE_FORGED;
    this.#text.write(nonce, 'latin1');
    if (decodeBase64url(this.#text, 0, NONCE_LENGTH, octets, 0) !== OCTETS) return NONCE_FORGED;
    const key = octets[0] === this.#current.id ? this.#current : this.#previous;
    if (!key || key.id !== octets[0]) return NONCE_FORGED;
    key.mac.hash(octets, 0, MAC);
    const wrong = (octets.readInt32BE(MAC) ^ key.mac.lo) | (octets.readInt32BE(MAC + 4) ^ key.mac.hi);
    if (wrong !== 0) return NONCE_FORGED;
    if (octets.readUInt16BE(NODE) !== this.#node) return NONCE_STALE;
    if (octets.readUInt32BE(INCARNATION) !== this.#incarnation) return NONCE_STALE;
    const age = ds - octets.readUInt32BE(TIME);
    if (age > this.#life || age < -AHEAD) return NONCE_STALE;
    if (octets.readInt32BE(BOUND) !== boundTo(key, identity)) return NONCE_STALE;
    this.serial = octets.readInt32BE(SERIAL);
    return NONCE_OK;
  }

  /**
   * Marks a count of a nonce as used: NONCE_OK for the first who does, then NONCE_REPLAYED, or NONCE_STALE where it
   * is not known. Only for a request whose digest is right: else whoever overhears a nonce could use it up.
   */
  spend(serial: number, nc: number): number {
    const verdict = this.#table.spend(serial, nc);
    if (verdict === FRESH) return NONCE_OK;
    return verdict === SPENT ? NONCE_REPLAYED : NONCE_STALE;
  }
}

/** The value of `nc`: exactly eight hexadecimal digits (RFC 7616 3.4), from 1 on; -1 for anything else. */
export function parseNc(text: string): number {
  if (!/^[0-9a-fA-F]{8}$/.test(text)) return -1;
  const nc = Number.parseInt(text, 16);
  // beyond the table's last count all are alike
  return nc === 0 ? -1 : Math.min(nc, MAX_NC + 1);
}

function signingKey(id: number, mac: Uint8Array, bound: Uint8Array): SigningKey {
  return { id, mac: new SipHash(mac), bound: new SipHash(bound) };
}

function boundTo(key: SigningKey, identity: string): number {
  const octets = Buffer.from(identity, 'utf8');
  key.bound.hash(octets, 0, octets.length);
  return key.bound.lo;
}
