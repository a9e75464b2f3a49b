/**
 * The one piece of memory that the generator's sockets read into and write from. What is read lies at fixed places
 * and stands until the next read; what is to be sent is written at a place that its socket gives out. So an answer
 * is made by copying within one buffer, and nothing is allocated for a message.
 */

/** No SIP message here is near this long. */
export const DATAGRAM_SLOT = 4096;
export const BATCH = 64;
/** What was left of a stream by the read before is put in front of the next one. */
export const STREAM_HEAD = 16 * 1024;
export const STREAM_READ = 64 * 1024;
/** Room of one message that is sent, with the head of a WebSocket frame. */
export const MESSAGE_ROOM = 2048;

const SIZE = 32 << 20;
/** Native calls keep what they have seen for the life of the thread (src/native/memory.ts), so it is used again. */
const spare: Buffer[] = [];

export class Desk {
  readonly memory: Buffer;
  /** BATCH slots of DATAGRAM_SLOT octets, for one batch at a time */
  readonly datagrams: number;
  /** STREAM_READ octets with STREAM_HEAD in front */
  readonly stream: number;
  #claimed = 0;

  constructor() {
    this.memory = spare.pop() ?? Buffer.from(new ArrayBuffer(SIZE));
    this.datagrams = this.claim(BATCH * DATAGRAM_SLOT);
    this.stream = this.claim(STREAM_HEAD + STREAM_READ + 64) + STREAM_HEAD;
  }

  /** A range for one owner, for good. Throws if none is left. */
  claim(octets: number): number {
    const at = this.#claimed;
    this.#claimed += (octets + 63) & ~63;
    if (this.#claimed > SIZE) throw new RangeError('the generator has no memory left');
    return at;
  }

  /** Puts what a stream's earlier read left in front of what has come at `stream`; returns where that starts. */
  joined(rest: Buffer | undefined): number {
    if (!rest) return this.stream;
    this.memory.set(rest, this.stream - rest.length);
    return this.stream - rest.length;
  }

  /** A copy of what is no whole message yet; undefined if there is nothing, -1 if it never will be one. */
  left(start: number, end: number): Buffer | undefined | -1 {
    if (end - start > STREAM_HEAD) return -1;
    return start < end ? Buffer.from(this.memory.subarray(start, end)) : undefined;
  }

  /** The next one may have this memory. */
  close(): void {
    spare.push(this.memory);
  }
}
