/**
 * SipHash-2-4 (Aumasson and Bernstein) with a 128-bit key and a 64-bit result, in 32-bit integer
 * arithmetic: each 64-bit word is a pair of int32, so no BigInt is made.
 *
 * Guarantees what SipHash does: whoever does not know the key can neither forge a result nor aim
 * at collisions. It is a MAC of 64 bits, good for what lives seconds (Via branches, hash tables),
 * too short for what lives for days (flow tokens have HMAC-SHA-256).
 *
 * A message may be given in pieces without joining them: begin, update and word, end. Allocates
 * nothing after construction. Costs two rounds for each eight octets begun, and four more.
 */
export class SipHash {
  /** The result, as two int32 words; octets 0..3 of the reference's output are `lo`, little-endian. */
  lo = 0;
  hi = 0;

  /** v0 lo, v0 hi, v1 lo, ... v3 hi */
  readonly #v = new Int32Array(8);
  readonly #key: Int32Array;
  /** the 64-bit block that is being filled */
  readonly #block = new Uint8Array(8);
  #taken = 0;

  constructor(key: Uint8Array) {
    if (key.length !== 16) throw new RangeError(`a SipHash key has 16 octets, not ${key.length}`);
    this.#key = new Int32Array(4);
    for (let i = 0; i < 4; i++) this.#key[i] = load32(key, i * 4);
  }

  hash(buf: Uint8Array, start: number, end: number): void {
    this.begin();
    this.update(buf, start, end);
    this.end();
  }

  begin(): void {
    const v = this.#v;
    const k = this.#key;
    v[0] = k[0] ^ 0x70736575;
    v[1] = k[1] ^ 0x736f6d65;
    v[2] = k[2] ^ 0x6e646f6d;
    v[3] = k[3] ^ 0x646f7261;
    v[4] = k[0] ^ 0x6e657261;
    v[5] = k[1] ^ 0x6c796765;
    v[6] = k[2] ^ 0x79746573;
    v[7] = k[3] ^ 0x74656462;
    this.#taken = 0;
  }

  update(buf: Uint8Array, start: number, end: number): void {
    const block = this.#block;
    let taken = this.#taken;
    let i = start;
    if ((taken & 7) !== 0) {
      while (i < end && (taken & 7) !== 0) block[taken++ & 7] = buf[i++];
      if ((taken & 7) === 0) absorb(this.#v, block, 0, 8);
    }
    const whole = i + ((end - i) & ~7);
    if (whole > i) absorb(this.#v, buf, i, whole);
    taken += whole - i;
    for (i = whole; i < end; i++) block[taken++ & 7] = buf[i];
    this.#taken = taken;
  }

  /** Four octets of the message, the least significant first. */
  word(n: number): void {
    this.#octet(n);
    this.#octet(n >>> 8);
    this.#octet(n >>> 16);
    this.#octet(n >>> 24);
  }

  end(): void {
    const v = this.#v;
    const length = this.#taken;
    const block = this.#block;
    for (let i = length & 7; i < 7; i++) block[i] = 0;
    block[7] = length;
    absorb(v, block, 0, 8);
    v[4] ^= 0xff;
    // two blocks of zeros are four rounds
    absorb(v, ZEROS, 0, 16);
    this.lo = v[0] ^ v[2] ^ v[4] ^ v[6];
    this.hi = v[1] ^ v[3] ^ v[5] ^ v[7];
  }

  #octet(octet: number): void {
    const at = this.#taken++ & 7;
    this.#block[at] = octet;
    if (at === 7) absorb(this.#v, this.#block, 0, 8);
  }
}

const ZEROS = new Uint8Array(16);

function load32(buf: Uint8Array, at: number): number {
  return buf[at] | (buf[at + 1] << 8) | (buf[at + 2] << 16) | (buf[at + 3] << 24);
}

/**
 * Two SipRounds for each eight octets of buf[start, end). The state stays in locals throughout. A
 * carry is seen by the sum being smaller than a summand, unsigned; it is a coin toss, so it is added
 * as a number: written as a choice it became a branch, and mispredictions doubled the time.
 */
function absorb(v: Int32Array, buf: Uint8Array, start: number, end: number): void {
  let a = v[0];
  let A = v[1];
  let b = v[2];
  let B = v[3];
  let c = v[4];
  let C = v[5];
  let d = v[6];
  let D = v[7];
  let t = 0;
  for (let i = start; i < end; i += 8) {
    const lo = load32(buf, i);
    const hi = load32(buf, i + 4);
    d ^= lo;
    D ^= hi;
    for (let round = 0; round < 2; round++) {
      // v0 += v1; v1 <<<= 13; v1 ^= v0; v0 <<<= 32
      a = (a + b) | 0;
      A = (A + B + +(a >>> 0 < b >>> 0)) | 0;
      t = (b << 13) | (B >>> 19);
      B = ((B << 13) | (b >>> 19)) ^ A;
      b = t ^ a;
      t = a;
      a = A;
      A = t;
      // v2 += v3; v3 <<<= 16; v3 ^= v2
      c = (c + d) | 0;
      C = (C + D + +(c >>> 0 < d >>> 0)) | 0;
      t = (d << 16) | (D >>> 16);
      D = ((D << 16) | (d >>> 16)) ^ C;
      d = t ^ c;
      // v0 += v3; v3 <<<= 21; v3 ^= v0
      a = (a + d) | 0;
      A = (A + D + +(a >>> 0 < d >>> 0)) | 0;
      t = (d << 21) | (D >>> 11);
      D = ((D << 21) | (d >>> 11)) ^ A;
      d = t ^ a;
      // v2 += v1; v1 <<<= 17; v1 ^= v2; v2 <<<= 32
      c = (c + b) | 0;
      C = (C + B + +(c >>> 0 < b >>> 0)) | 0;
      t = (b << 17) | (B >>> 15);
      B = ((B << 17) | (b >>> 15)) ^ C;
      b = t ^ c;
      t = c;
      c = C;
      C = t;
    }
    a ^= lo;
    A ^= hi;
  }
  v[0] = a;
  v[1] = A;
  v[2] = b;
  v[3] = B;
  v[4] = c;
  v[5] = C;
  v[6] = d;
  v[7] = D;
}
