/**
 * A WebSocket's octets become messages (RFC 6455 section 5): frames are unmasked and fragments joined in place, in the
 * range that the caller keeps them in, so that one WebSocket message, which is one SIP message (RFC 7118 5), is one
 * range without a copy of it anywhere else. Both sides: a server reads masked frames, a client frames without a mask,
 * and each refuses the other kind (5.1).
 *
 * Guarantees: any split of the stream gives the same results; limits hold before the octets are kept; what is
 * wrong is told as the code of the Close frame that it deserves. No extension is negotiated, so the reserved
 * bits are 0. A text message is whole UTF-8 (8.1), looked at when it is complete.
 *
 * Frames need no state between messages: a head that is not all there is read again with the rest. Within a
 * fragmented message the range kept is `joined | gap | octets not yet read`: the heads of continuations
 * and of control frames become gap, payloads move down over it, and the gap is given back when it has grown
 * as large as what is joined. So each octet moves a bounded number of times, and ten thousand empty fragments
 * cost what their octets cost. Until its message is whole at least one octet is kept: whoever looks at a flow
 * from outside can tell that one is open.
 */
import { MAX_MESSAGE } from './limits.ts';
import { Words } from './words.ts';

/** Results of `next`: MORE, an opcode, or a close code. */
export const MORE = 0;
export const TEXT = 1;
export const BINARY = 2;
export const CLOSE = 8;
export const PING = 9;
export const PONG = 10;
/** From here on the stream has no frames any more: a Close frame with this code, and the end. */
export const PROTOCOL_ERROR = 1002;
export const NOT_UTF8 = 1007;
export const TOO_BIG = 1009;

/** Further codes that a server sends (7.4.1; 1012 is in IANA's registry: service restart). */
export const NORMAL = 1000;
export const POLICY = 1008;
export const RESTART = 1012;

const FIN = 0x80;
const RESERVED = 0x70;
const MASKED = 0x80;
const CONTROL_MOST = 125;
/** A gap of this size is closed however much has to move for it. */
const GAP_MOST = 8 * 1024;

/** The most that a frame adds to a payload on the server's side. */
export const HEAD_MOST = 10;
const KEY_OCTETS = 4;

export class Frames {
  /** the mask bit of what the peer sends, and the octets of its key */
  readonly #mask: number;
  readonly #key: number;
  /** of the message whose fragments are being joined, 0: none is open */
  #opcode = MORE;
  #joined = 0;
  #gap = 0;
  #ascii = true;
  /** the payload of what `next` has found */
  start = 0;
  end = 0;
  /** where to go on; after MORE the octets before it are used up */
  frameEnd = 0;

  /** `from`: who sends what is read here. */
  constructor(from: 'client' | 'server' = 'client') {
    this.#mask = from === 'client' ? MASKED : 0;
    this.#key = from === 'client' ? KEY_OCTETS : 0;
  }

  /**
   * What stands at the front of `[start, end)` of the memory? The caller goes on from `frameEnd`; after MORE
   * it keeps the octets from there on and calls again with them (they may have moved) and new ones behind.
   */
  next(words: Words, start: number, end: number): number {
    const { mem } = words;
    let from = start;
    let at = start + this.#joined + this.#gap;
    for (;;) {
      if (end - at < 2) return this.#wait(mem, from);
      const first = mem[at];
      const opcode = first & 15;
      let length = mem[at + 1] & 0x7f;
      let head = 2;
      if ((first & RESERVED) !== 0 || (mem[at + 1] & MASKED) !== this.#mask) return PROTOCOL_ERROR;
      if (opcode >= CLOSE) {
        if (opcode > PONG || (first & FIN) === 0 || length > CONTROL_MOST) return PROTOCOL_ERROR;
      } else {
        // a continuation if and only if a message is open
        if (opcode > BINARY || (opcode === 0) !== (this.#opcode !== 0)) return PROTOCOL_ERROR;
        if (length > CONTROL_MOST) {
          head = length === 126 ? 4 : 10;
          if (end - at < head) return this.#wait(mem, from);
          length = extendedLength(mem, at + 2, head - 2);
          if (length < 0) return PROTOCOL_ERROR;
        }
        if (this.#joined + length > MAX_MESSAGE) return TOO_BIG;
      }
      head += this.#key;
      const payload = at + head;
      at = payload + length;
      if (at > end) return this.#wait(mem, from);
      const ascii =
        this.#mask === 0 ? words.isAscii(payload, at) : words.unmask(payload, at, payload - KEY_OCTETS);
      if (opcode >= CLOSE) return this.#control(words, opcode, from, payload, at);
      if (opcode !== 0) {
        if (first & FIN) return this.#message(words, opcode, payload, at, at, ascii);
        this.#opcode = opcode;
        this.#ascii = ascii;
        this.#joined = length;
        this.#gap = length === 0 ? 1 : 0;
        from = payload - this.#gap;
        continue;
      }
      mem.copyWithin(from + this.#joined, payload, at);
      this.#joined += length;
      this.#gap += head;
      this.#ascii &&= ascii;
      if (first & FIN) {
        const whole = this.#opcode;
        const to = from + this.#joined;
        this.#opcode = MORE;
        this.#joined = this.#gap = 0;
        return this.#message(words, whole, from, to, at, this.#ascii);
      }
    }
  }

  #wait(mem: Uint8Array, from: number): number {
    this.frameEnd = from;
    const joined = this.#joined;
    const least = this.#opcode !== 0 && joined === 0 ? 1 : 0;
    const spare = this.#gap - least;
    if (spare <= 0 || this.#gap < Math.min(joined, GAP_MOST)) return MORE;
    mem.copyWithin(from + spare, from, from + joined);
    this.#gap = least;
    this.frameEnd = from + spare;
    return MORE;
  }

  #message(
    words: Words,
    opcode: number,
    start: number,
    end: number,
    frameEnd: number,
    ascii: boolean,
  ): number {
    this.start = start;
    this.end = end;
    this.frameEnd = frameEnd;
    return opcode === TEXT && !ascii && !words.isUtf8(start, end) ? NOT_UTF8 : opcode;
  }

  /** It may stand between the fragments of a message. */
  #control(words: Words, opcode: number, from: number, start: number, end: number): number {
    this.start = start;
    this.end = end;
    if (this.#opcode === 0) this.frameEnd = end;
    else {
      this.#gap = end - from - this.#joined;
      this.frameEnd = from;
    }
    return opcode === CLOSE ? checkClose(words, start, end) : opcode;
  }
}

/** The length in 2 or 8 octets. -1: it would have fitted in less (5.2), or its highest bit is set. */
function extendedLength(mem: Uint8Array, at: number, octets: number): number {
  let length = 0;
  for (let i = 0; i < octets; i++) length = length * 256 + mem[at + i];
  if (octets === 2) return length > CONTROL_MOST ? length : -1;
  return length > 0xffff && mem[at] < 0x80 ? length : -1;
}

/** Section 7.4: codes that may stand in a frame. */
const isCode = (code: number): boolean =>
  (code >= 1000 && code <= 1014 && code !== 1004 && code !== 1005 && code !== 1006) ||
  (code >= 3000 && code <= 4999);

function checkClose(words: Words, start: number, end: number): number {
  if (end === start) return CLOSE;
  const { mem } = words;
  if (end - start < 2 || !isCode((mem[start] << 8) | mem[start + 1])) return PROTOCOL_ERROR;
  return words.isText(start + 2, end) ? CLOSE : NOT_UTF8;
}

/** Writes the head of a server's frame: not masked, not fragmented. Returns where its payload begins. */
export function writeHead(mem: Uint8Array, at: number, opcode: number, length: number): number {
  mem[at] = FIN | opcode;
  if (length <= CONTROL_MOST) {
    mem[at + 1] = length;
    return at + 2;
  }
  if (length <= 0xffff) {
    mem[at + 1] = 126;
    mem[at + 2] = length >> 8;
    mem[at + 3] = length & 0xff;
    return at + 4;
  }
  mem[at + 1] = 127;
  mem.fill(0, at + 2, at + 6);
  mem[at + 6] = length >>> 24;
  mem[at + 7] = (length >>> 16) & 0xff;
  mem[at + 8] = (length >>> 8) & 0xff;
  mem[at + 9] = length & 0xff;
  return at + HEAD_MOST;
}

/** A whole frame of a client (5.3). `key`: four octets that nobody can foresee, new ones for each frame. */
export function maskedFrame(opcode: number, payload: Uint8Array, key: Uint8Array): Buffer {
  const mem = Buffer.alloc(HEAD_MOST + KEY_OCTETS + payload.length);
  const keyAt = writeHead(mem, 0, opcode, payload.length);
  const at = keyAt + KEY_OCTETS;
  const end = at + payload.length;
  mem[1] |= MASKED;
  mem.set(key, keyAt);
  mem.set(payload, at);
  new Words(mem).unmask(at, end, keyAt); // on is as off
  return mem.subarray(0, end);
}

/** A frame as `writeHead` begins it, read back: what a connection did not take is frames. */
export class OwnFrame {
  opcode = MORE;
  start = 0;
  end = 0;

  /** False: no whole frame of ours stands at `at`. */
  read(mem: Uint8Array, at: number, limit: number): boolean {
    if (limit - at < 2 || (mem[at] & (FIN | RESERVED)) !== FIN) return false;
    this.opcode = mem[at] & 15;
    let length = mem[at + 1];
    let start = at + 2;
    if (length > CONTROL_MOST) {
      const octets = length === 126 ? 2 : length === 127 ? 8 : 0;
      if (octets === 0 || limit - start < octets) return false;
      length = extendedLength(mem, start, octets);
      start += octets;
    }
    this.start = start;
    this.end = start + length;
    return length >= 0 && this.end <= limit;
  }
}
