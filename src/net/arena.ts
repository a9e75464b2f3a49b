/**
 * One shard's buffer memory: a SharedArrayBuffer with fixed regions. Received datagrams, a stream's
 * reads, scratch text, outgoing messages and the slabs of unfinished messages all lie in it, so that a
 * slice moves from the incoming to the outgoing message by `copyWithin`, and the kernel's pointers are
 * constants. Memory that is never touched costs address space only.
 *
 * The out region is filled front to back within a turn; `flush` makes it empty again.
 */
import { MAX_BLOCK, Slab } from '../shared/slab.ts';

const KIB = 1024;

export const DATAGRAMS = 64;
export const DATAGRAM_SLOT = 64 * KIB;

/** Slabs stand first, so that their offsets are the arena's. */
const CHUNKS = 240;
const RECEIVE = CHUNKS * MAX_BLOCK;
const STREAM = RECEIVE + DATAGRAMS * DATAGRAM_SLOT;
export const STREAM_READ = 64 * KIB;
const SCRATCH = STREAM + STREAM_READ + KIB;
const SCRATCH_SIZE = 64 * KIB;
const OUT = SCRATCH + SCRATCH_SIZE;
const OUT_SIZE = 2048 * KIB;
/** what transactions keep to send again, in cells of one or two of these */
const KEPT = OUT + OUT_SIZE;
export const KEPT_CELL = KIB;
export const KEPT_CELLS = 96 * KIB;

/** The largest outgoing message: MAX_MESSAGE of wire/limits.ts and what is added to it. */
const LARGEST = 264 * KIB;

export class Arena {
  readonly mem: Buffer;
  /** offsets of the regions */
  readonly receive = RECEIVE;
  readonly stream = STREAM;
  readonly scratch = SCRATCH;
  readonly scratchSize = SCRATCH_SIZE;
  readonly kept = KEPT;
  readonly slabs: Slab;
  /** where the next outgoing message starts */
  outAt = OUT;
  readonly outLimit = OUT + OUT_SIZE;
  /** empties the out region by sending what is in it */
  flush: () => void = () => {};

  constructor() {
    const buffer = new SharedArrayBuffer(KEPT + KEPT_CELL * KEPT_CELLS);
    this.mem = Buffer.from(buffer);
    this.slabs = new Slab({ buffer, chunks: CHUNKS });
  }

  /** The start of room for one message of any size. */
  reserve(): number {
    if (this.outLimit - this.outAt < LARGEST) this.flush();
    return this.outAt;
  }

  emptied(): void {
    this.outAt = OUT;
  }
}
