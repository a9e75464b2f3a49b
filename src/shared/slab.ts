/**
 * Blocks of four sizes (4, 16, 64 and 272 KiB) inside one arena, named by their offset. A flow leases one only while it
 * has part of a message; the largest holds the largest message with room to spare.
 *
 * The arena is cut into chunks of 272 KiB. A chunk serves one size while any of its blocks is leased and goes back
 * to the pool when none is, so no size can keep the memory for ever. A lease takes the tightest size that
 * fits and never a larger one in its place. Every call is O(1) (`grow` copies). When the arena is used up, -1.
 *
 * It is used up for large blocks first: the last chunks are kept for smaller ones. So a crowd that holds as much as it
 * may, readers that do not read, leaves room for the messages of ordinary size of others.
 *
 * One thread only: no atomics, and the books die with the thread. The arena may be shared memory.
 */
export const BLOCK_SIZES = [4 << 10, 16 << 10, 64 << 10, 272 << 10] as const;
export const MAX_BLOCK = BLOCK_SIZES[3];
const CHUNK = MAX_BLOCK;
/** The part of all chunks that a size leaves to the smaller ones. */
const LEFT = [0, 1 / 32, 1 / 16, 1 / 8];
const MAX_BLOCKS = CHUNK / BLOCK_SIZES[0];
const NONE = -1;
const UNUSED = 255;

export interface SlabDescriptor {
  readonly buffer: SharedArrayBuffer;
  readonly chunks: number;
}

export class Slab {
  readonly memory: Uint8Array;
  /** Bytes leased now, and the most that ever were, as block sizes. */
  inUse = 0;
  highWater = 0;
  /** Leases that found no room. */
  refused = 0;
  // Per chunk: the size class it serves, its free blocks (count, head of a list), and its place among the chunks of its
  // class that have a free block, or among the unused ones.
  readonly #class: Uint8Array;
  readonly #free: Uint8Array;
  readonly #firstFree: Int8Array;
  readonly #before: Int32Array;
  readonly #after: Int32Array;
  // Per block: the next free one of its chunk, and whether it is leased.
  readonly #nextFree: Int8Array;
  readonly #leased: Uint8Array;
  #unused: number;
  readonly #left: number[];
  // Heads of those chunk lists, by class; the last is the unused ones.
  readonly #heads = new Int32Array(BLOCK_SIZES.length + 1).fill(NONE);

  static allocate(bytes: number): SlabDescriptor {
    const chunks = Math.max(1, Math.floor(bytes / CHUNK));
    return { buffer: new SharedArrayBuffer(chunks * CHUNK), chunks };
  }

  constructor({ buffer, chunks }: SlabDescriptor) {
    this.memory = new Uint8Array(buffer);
    this.#class = new Uint8Array(chunks).fill(UNUSED);
    this.#free = new Uint8Array(chunks);
    this.#firstFree = new Int8Array(chunks);
    this.#before = new Int32Array(chunks);
    this.#after = new Int32Array(chunks);
    this.#nextFree = new Int8Array(chunks * MAX_BLOCKS);
    this.#leased = new Uint8Array(chunks * MAX_BLOCKS);
    this.#unused = chunks;
    this.#left = LEFT.map((part) => Math.floor(part * chunks));
    for (let chunk = chunks - 1; chunk >= 0; chunk--) this.#link(BLOCK_SIZES.length, chunk);
  }

  /** The offset of a block of at least that many bytes, or -1: no room, or more than the largest block. */
  lease(minBytes: number): number {
    let size = 0;
    while (size < BLOCK_SIZES.length && BLOCK_SIZES[size] < minBytes) size++;
    let chunk = size < BLOCK_SIZES.length ? this.#heads[size] : NONE;
    if (chunk === NONE && size < BLOCK_SIZES.length) chunk = this.#cut(size);
    if (chunk === NONE) {
      this.refused++;
      return -1;
    }
    const block = this.#firstFree[chunk];
    this.#firstFree[chunk] = this.#nextFree[chunk * MAX_BLOCKS + block];
    this.#leased[chunk * MAX_BLOCKS + block] = 1;
    if (--this.#free[chunk] === 0) this.#unlink(size, chunk);
    this.inUse += BLOCK_SIZES[size];
    if (this.inUse > this.highWater) this.highWater = this.inUse;
    return chunk * CHUNK + block * BLOCK_SIZES[size];
  }

  /** False, and nothing done, if the offset is not a leased block's. */
  giveBack(offset: number): boolean {
    const size = this.#sizeClass(offset);
    if (size === NONE) return false;
    const chunk = Math.floor(offset / CHUNK);
    const block = (offset - chunk * CHUNK) / BLOCK_SIZES[size];
    this.#leased[chunk * MAX_BLOCKS + block] = 0;
    this.#nextFree[chunk * MAX_BLOCKS + block] = this.#firstFree[chunk];
    this.#firstFree[chunk] = block;
    this.inUse -= BLOCK_SIZES[size];
    if (this.#free[chunk]++ === 0) this.#link(size, chunk);
    if (this.#free[chunk] === blocksOf(size)) {
      this.#unlink(size, chunk);
      this.#class[chunk] = UNUSED;
      this.#unused++;
      this.#link(BLOCK_SIZES.length, chunk);
    }
    return true;
  }

  /** Bytes of a leased block; 0 if the offset is not one's. */
  sizeOf(offset: number): number {
    const size = this.#sizeClass(offset);
    return size === NONE ? 0 : BLOCK_SIZES[size];
  }

  /**
   * A block of at least newMin bytes that begins with the first `used` bytes of this one, which is given back. The same
   * offset if it is large enough already; -1 if there is no room, and then the old block stays.
   */
  grow(offset: number, used: number, newMin: number): number {
    if (this.sizeOf(offset) >= newMin) return offset;
    const larger = this.lease(newMin);
    if (larger < 0) return -1;
    this.memory.copyWithin(larger, offset, offset + used);
    this.giveBack(offset);
    return larger;
  }

  #sizeClass(offset: number): number {
    if (offset < 0 || offset >= this.memory.length) return NONE;
    const chunk = Math.floor(offset / CHUNK);
    const size = this.#class[chunk];
    if (size === UNUSED) return NONE;
    const block = (offset - chunk * CHUNK) / BLOCK_SIZES[size];
    return Number.isInteger(block) && this.#leased[chunk * MAX_BLOCKS + block] === 1 ? size : NONE;
  }

  #cut(size: number): number {
    const chunk = this.#heads[BLOCK_SIZES.length];
    if (chunk === NONE || this.#unused <= this.#left[size]) return NONE;
    this.#unused--;
    this.#unlink(BLOCK_SIZES.length, chunk);
    const blocks = blocksOf(size);
    this.#class[chunk] = size;
    this.#free[chunk] = blocks;
    this.#firstFree[chunk] = 0;
    for (let block = 0; block < blocks; block++) {
      this.#nextFree[chunk * MAX_BLOCKS + block] = block + 1 < blocks ? block + 1 : NONE;
    }
    this.#link(size, chunk);
    return chunk;
  }

  #link(list: number, chunk: number): void {
    const head = this.#heads[list];
    this.#before[chunk] = NONE;
    this.#after[chunk] = head;
    if (head !== NONE) this.#before[head] = chunk;
    this.#heads[list] = chunk;
  }

  #unlink(list: number, chunk: number): void {
    const before = this.#before[chunk];
    const after = this.#after[chunk];
    if (before === NONE) this.#heads[list] = after;
    else this.#after[before] = after;
    if (after !== NONE) this.#before[after] = before;
  }
}

function blocksOf(size: number): number {
  return Math.floor(CHUNK / BLOCK_SIZES[size]);
}
