/**
 * Which counts (`nc`) of which digest nonces have been used, for all threads: of any number of spenders of one
 * nonce and count, on whatever shards, exactly one is told FRESH. Says nothing of who may spend.
 *
 * Serials number the nonces; serial s has slot s mod slots, so slots are reused oldest first, and only by a nonce
 * that somebody spends: challenges that are never answered, a flood of them too, push nobody out. A nonce that was
 * pushed out is PASSED, and so are counts above MAX_NC. Counts up to 64 behind the highest are always told apart;
 * one further behind is PASSED if a later count took its place.
 *
 * A slot is nine words, and count n belongs to word (n / 8) mod 9, which says all about itself: 12 bits of round
 * (serial / slots), 12 of block (n / 8), one bit a count. Round and block only rise and bits are only set, each by
 * one compare-and-swap. A serial, a highest count and a window in words of their own would need three: a thread
 * that dies between them leaves half of a change, and one that reads between them believes it.
 * No step waits for another thread. Costs 36 octets a slot, and one swap a request.
 */

/** used for the first time, and marked so */
export const FRESH = 0;
/** used before */
export const SPENT = 1;
/** too far behind, too high, or the slot went to a later nonce: whether it was used is not known any more */
export const PASSED = 2;

const BLOCKS = 9;
const BITS = 8;
/** The highest count of one nonce: 12 bits of block. */
export const MAX_NC = 4096 * BITS - 1;
const ROUND_SHIFT = 20;
const BLOCK_SHIFT = 8;
const FIELD = 0xfff;
/**
 * Rounds are compared modulo 4096, so nonces that lie further back than this are not looked up. A word that rested
 * for 4096 rounds can pass for a later one than a nonce of the round before: that nonce is PASSED, for nothing.
 */
const OLDEST = 1024;

const SERIAL = 0;
/** the serial has a cache line of its own */
const SLOTS = 16;

/** 20 bits of slot and 12 of round are the serial. */
export const MAX_SLOTS = 1 << 20;

export interface NonceTableDescriptor {
  readonly buffer: SharedArrayBuffer;
  readonly slots: number;
}

export class NonceTable {
  readonly slots: number;
  readonly #words: Int32Array;
  readonly #mask: number;
  readonly #roundShift: number;
  readonly #roundMask: number;

  /** At least `slots`, as a power of two. */
  static allocate(slots: number): NonceTableDescriptor {
    if (!Number.isInteger(slots) || slots < 1 || slots > MAX_SLOTS) {
      throw new RangeError(`slots is ${slots}; allowed is 1 to ${MAX_SLOTS}`);
    }
    let power = 1;
    while (power < slots) power *= 2;
    return { buffer: new SharedArrayBuffer((SLOTS + power * BLOCKS) * 4), slots: power };
  }

  constructor({ buffer, slots }: NonceTableDescriptor) {
    this.slots = slots;
    this.#words = new Int32Array(buffer);
    this.#mask = slots - 1;
    this.#roundShift = 31 - Math.clz32(slots);
    this.#roundMask = 0xffffffff >>> this.#roundShift;
  }

  /** A serial for a new nonce: 32 bits, as a signed number. Writes nothing else. */
  next(): number {
    return Atomics.add(this.#words, SERIAL, 1);
  }

  /** Any serial and any count may be asked for: they come from the network, though signed. */
  spend(serial: number, nc: number): number {
    if (nc < 0 || nc > MAX_NC) return PASSED;
    const words = this.#words;
    const shift = this.#roundShift;
    const block = nc >>> 3;
    const bit = 1 << (nc & (BITS - 1));
    const at = SLOTS + (serial & this.#mask) * BLOCKS + (block % BLOCKS);
    const mine = (((serial >>> shift) & FIELD) << ROUND_SHIFT) | (block << BLOCK_SHIFT) | bit;
    for (;;) {
      const word = Atomics.load(words, at);
      // read after the word: no round that stands there is later than this one
      const round = Atomics.load(words, SERIAL) >>> shift;
      const age = (round - (serial >>> shift)) & this.#roundMask;
      if (age > OLDEST) return PASSED;
      const ageThere = (round - (word >>> ROUND_SHIFT)) & FIELD;
      let next = mine;
      // 0 was never written: each word in use has a bit
      if (word !== 0 && ageThere <= age) {
        if (ageThere < age) return PASSED;
        const blockThere = (word >>> BLOCK_SHIFT) & FIELD;
        if (blockThere > block) return PASSED;
        if (blockThere === block) {
          if ((word & bit) !== 0) return SPENT;
          next |= word;
        }
      }
      if (Atomics.compareExchange(words, at, word, next) === word) return FRESH;
    }
  }
}
