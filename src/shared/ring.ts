/**
 * A bounded byte ring from one thread to one other, carrying framed messages: a type, up to eight int32 words, and
 * a payload that lies in one piece for the reader. Nothing blocks: `write` says false when there is no room, and counts.
 *
 * A message is visible only when it is complete (the tail is stored last), so a producer that dies while writing leaves
 * nothing behind. A consumer that dies between `peek` and `advance` leaves the message for its replacement, which
 * may have died of it: the supervisor calls `discard` first. At most one producer and one consumer at any time.
 *
 * The positions count bytes and wrap at 2^32. A frame that would run over the end is put at the start behind a wrap
 * marker, so the largest frame is half the ring.
 */
const HEAD = 0;
const TAIL = 16;
const REFUSED = 17; // by the producer, beside its tail
const DATA = 32; // words
const DATA_BYTES = DATA * 4;
const HEADER_BYTES = 8; // payload length; type | word count << 16
const WRAP = -1;
export const MAX_WORDS = 8;

/** Copies without making a view first; a loop is cheaper up to about this many bytes. */
const SHORT = 24;
const copy = Buffer.prototype.copy;

export class Ring {
  readonly #control: Int32Array;
  readonly #data: Int32Array;
  /** The ring's memory as bytes: `payloadOffset` counts from its start. */
  readonly memory: Uint8Array;
  readonly #size: number;
  /** The most payload bytes of one message. */
  readonly maxPayload: number;
  // Each side keeps the other's position as it last saw it, and looks again only when that is not enough.
  #head: number;
  #tail: number;
  #frame = 0;
  #frameWords = 0;

  /** Valid after `peek` has returned true. */
  type = 0;
  wordCount = 0;
  payloadOffset = 0;
  payloadLength = 0;

  static bytes(size: number): number {
    return DATA_BYTES + size;
  }

  /** `size` is a power of two from 64 on. */
  constructor(buffer: SharedArrayBuffer, byteOffset: number, size: number) {
    if (size < 64 || (size & (size - 1)) !== 0)
      throw new RangeError(`ring size ${size} is not a power of two`);
    this.#control = new Int32Array(buffer, byteOffset, DATA);
    this.#data = new Int32Array(buffer, byteOffset + DATA_BYTES, size >>> 2);
    this.memory = new Uint8Array(buffer, byteOffset + DATA_BYTES, size);
    this.#size = size;
    this.maxPayload = (size >>> 1) - HEADER_BYTES - MAX_WORDS * 4;
    this.#head = Atomics.load(this.#control, HEAD);
    this.#tail = Atomics.load(this.#control, TAIL);
  }

  /** Producer. Sends words[0, wordCount) and bytes[start, start + length). False: no room now, or ever if too long. */
  write(
    type: number,
    words: Int32Array,
    wordCount: number,
    bytes: Uint8Array,
    start: number,
    length: number,
  ): boolean {
    const size = this.#size;
    const control = this.#control;
    const frame = HEADER_BYTES + wordCount * 4 + ((length + 3) & ~3);
    if (length > this.maxPayload || wordCount > MAX_WORDS) return this.#refuse();
    const tail = control[TAIL];
    const offset = tail & (size - 1);
    const skip = offset + frame > size ? size - offset : 0;
    if (((tail + skip + frame - this.#head) | 0) > size) {
      this.#head = Atomics.load(control, HEAD);
      if (((tail + skip + frame - this.#head) | 0) > size) return this.#refuse();
    }
    const data = this.#data;
    if (skip > 0) data[offset >>> 2] = WRAP;
    let at = skip > 0 ? 0 : offset >>> 2;
    data[at++] = length;
    data[at++] = type | (wordCount << 16);
    for (let i = 0; i < wordCount; i++) data[at++] = words[i];
    this.#copyIn(at * 4, bytes, start, length);
    Atomics.store(control, TAIL, (tail + skip + frame) | 0);
    return true;
  }

  #copyIn(to: number, bytes: Uint8Array, start: number, length: number): void {
    const memory = this.memory;
    if (length > SHORT) copy.call(bytes as Buffer, memory, to, start, start + length);
    else for (let i = 0; i < length; i++) memory[to + i] = bytes[start + i];
  }

  #refuse(): boolean {
    this.#control[REFUSED]++;
    return false;
  }

  /** Messages that found no room. */
  get refused(): number {
    return this.#control[REFUSED] >>> 0;
  }

  /** Consumer. Shows the next message in the public fields, in place; false if there is none. */
  peek(): boolean {
    const control = this.#control;
    let head = control[HEAD];
    if (head === this.#tail) {
      this.#tail = Atomics.load(control, TAIL);
      if (head === this.#tail) return false;
    }
    let at = (head & (this.#size - 1)) >>> 2;
    const data = this.#data;
    if (data[at] === WRAP) {
      head = (head + this.#size - at * 4) | 0;
      at = 0;
    }
    const kind = data[at + 1];
    this.type = kind & 0xffff;
    this.wordCount = kind >>> 16;
    this.payloadLength = data[at];
    this.#frameWords = at + 2;
    this.payloadOffset = (at + 2 + this.wordCount) * 4;
    this.#frame = (head + HEADER_BYTES + this.wordCount * 4 + ((this.payloadLength + 3) & ~3)) | 0;
    return true;
  }

  /** Word i of the message that `peek` shows. */
  word(i: number): number {
    return this.#data[this.#frameWords + i];
  }

  /** Gives the room of the message that `peek` shows back to the producer. Its payload must not be read after. */
  advance(): void {
    Atomics.store(this.#control, HEAD, this.#frame);
  }

  /** Whether there is nothing to read, as a consumer must ask before it sleeps. */
  isEmpty(): boolean {
    return Atomics.load(this.#control, HEAD) === Atomics.load(this.#control, TAIL);
  }

  /** Consumer side, before a replacement thread attaches: drops all messages and returns their bytes. */
  discard(): number {
    const tail = Atomics.load(this.#control, TAIL);
    const bytes = (tail - Atomics.load(this.#control, HEAD)) | 0;
    Atomics.store(this.#control, HEAD, tail);
    return bytes;
  }
}
