/**
 * Memory that the kernel reads and writes. A Region has its address as a bigint made once, and as two
 * 32-bit halves from which "address + offset" is stored into a struct without making another BigInt.
 *
 * The collector does not know that native code holds an address: a buffer that only C refers to is
 * freed under it. So every region is kept in a list for the life of its thread. That list never
 * shrinks: regions belong to shards and modules, not to flows or messages.
 */
import { loadFfi } from './ffi.ts';

const pinned: ArrayBufferLike[] = [];

export const NULL = 0n;

export class Region {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** address of `bytes[0]`; 0 where node:ffi is missing */
  readonly pointer: bigint;
  readonly #low: number;
  readonly #high: number;

  /** Pins `bytes`, over an ArrayBuffer or a SharedArrayBuffer that is never transferred or resized. */
  constructor(bytes: Uint8Array) {
    // reading `.buffer` moves a small array's elements off the collected heap, where they could move
    pinned.push(bytes.buffer);
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const ffi = loadFfi();
    this.pointer = typeof ffi === 'string' ? NULL : ffi.getRawPointer(bytes);
    this.#low = Number(this.pointer & 0xffffffffn);
    this.#high = Number(this.pointer >> 32n);
  }

  /** A zeroed region of its own. */
  static allocate(size: number): Region {
    return new Region(new Uint8Array(new ArrayBuffer(size)));
  }

  /** The region's bytes as 32-bit words of the machine, which is little-endian. */
  words(): Int32Array {
    return new Int32Array(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength >> 2);
  }

  /** A constant pointer into the region; makes a BigInt, so: at start only. */
  at(offset: number): bigint {
    return this.pointer + BigInt(offset);
  }

  /** Stores the address of `bytes[offset]` as a 64-bit pointer at `words[index]`. */
  store(words: Int32Array, index: number, offset: number): void {
    const low = this.#low + offset;
    words[index] = low | 0;
    words[index + 1] = low < 0x1_0000_0000 ? this.#high : this.#high + 1;
  }
}
