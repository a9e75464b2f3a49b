/**
 * A shard's memory as 32-bit words, for what must be done to every octet of a range: the mask of a
 * WebSocket frame (RFC 6455 5.3) is taken off in place, and a range is ASCII, or UTF-8, or neither. Both in
 * one pass: what is unmasked is looked at on the way, so that ASCII, which most of SIP is, costs no second one.
 *
 * Nothing outside the range is written, though its words are shared with its neighbours: the octets before
 * the first whole word and behind the last one are done one by one.
 */
import { isUtf8 } from 'node:buffer';

const HIGH_BITS = 0x80808080 | 0;

export class Words {
  readonly mem: Uint8Array;
  readonly #words: Int32Array;
  readonly #keyOctets = new Uint8Array(4);
  readonly #key = new Int32Array(this.#keyOctets.buffer);

  /** `mem` begins on a word. */
  constructor(mem: Uint8Array) {
    this.mem = mem;
    this.#words = new Int32Array(mem.buffer, mem.byteOffset, mem.byteLength >> 2);
  }

  /** Takes the mask whose four octets stand at `keyAt` off `[start, end)`. True if all that comes out is ASCII. */
  unmask(start: number, end: number, keyAt: number): boolean {
    const mem = this.mem;
    let seen = 0;
    let p = start;
    for (; p < end && (p & 3) !== 0; p++) {
      const octet = mem[p] ^ mem[keyAt + ((p - start) & 3)];
      mem[p] = octet;
      seen |= octet;
    }
    if (end - p >= 4) {
      const turned = p - start;
      for (let i = 0; i < 4; i++) this.#keyOctets[i] = mem[keyAt + ((turned + i) & 3)];
      const key = this.#key[0];
      const words = this.#words;
      const last = end >> 2;
      let wide = 0;
      for (let i = p >> 2; i < last; i++) {
        const word = words[i] ^ key;
        words[i] = word;
        wide |= word;
      }
      if ((wide & HIGH_BITS) !== 0) seen |= 0x80;
      p = last << 2;
    }
    for (; p < end; p++) {
      const octet = mem[p] ^ mem[keyAt + ((p - start) & 3)];
      mem[p] = octet;
      seen |= octet;
    }
    return seen < 0x80;
  }

  isAscii(start: number, end: number): boolean {
    const mem = this.mem;
    let seen = 0;
    let p = start;
    for (; p < end && (p & 3) !== 0; p++) seen |= mem[p];
    if (end - p >= 4) {
      const words = this.#words;
      const last = end >> 2;
      let wide = 0;
      for (let i = p >> 2; i < last; i++) wide |= words[i];
      if ((wide & HIGH_BITS) !== 0) return false;
      p = last << 2;
    }
    for (; p < end; p++) seen |= mem[p];
    return seen < 0x80;
  }

  isText(start: number, end: number): boolean {
    return this.isAscii(start, end) || this.isUtf8(start, end);
  }

  isUtf8(start: number, end: number): boolean {
    return isUtf8(this.mem.subarray(start, end));
  }
}
