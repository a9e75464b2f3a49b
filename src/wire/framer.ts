/**
 * A stream's bytes become frames: ping or pong, SIP message, or a coded refusal. The caller holds
 * the bytes that are not yet a frame in one contiguous range and calls `next` until it says MORE.
 *
 * Guarantees: any split of the stream gives the same frames; no octet is looked at twice for the
 * end of the head (the scan goes on where it stopped), so a peer that sends one octet a time costs
 * one octet a time; limits hold before the bytes are kept.
 *
 * A double CRLF is a ping wherever no message is open (RFC 5626 4.4.1). A lone CRLF is a pong or the
 * leading CRLF of RFC 3261 7.5: dropped, except where pongs are awaited. Whether "\r\n" is half a ping is known only when the next
 * octet has come, so those octets are counted, not kept: a flow between messages owns no buffer.
 * STUN never runs on streams (5626 4.4.2): an octet 0 or 1 here is junk like any other.
 */
import { CHARS, LWS, parseDecimal, TOKEN } from './chars.ts';
import { type Message, OK } from './lexer.ts';
import { MAX_HEAD, MAX_MESSAGE } from './limits.ts';
import { CONTENT_LENGTH, headerId } from './names.ts';

/** nothing whole yet; the octets before `frameEnd` are used up, those behind it must be kept */
export const MORE = 0;
/** CR LF CR LF between messages: answer CR LF */
export const PING = 1;
/** one whole message in [frameStart, frameEnd) */
export const MESSAGE = 2;
/** From here on the stream cannot be framed any more: answer where the head is known, and close. */
export const JUNK = 3;
export const HEAD_TOO_LARGE = 4;
/** head in [frameStart, frameEnd), as for the two below */
export const MESSAGE_TOO_LARGE = 5;
export const NO_CONTENT_LENGTH = 6;
/** not a number, or two that differ */
export const BAD_CONTENT_LENGTH = 7;
/** CR LF between messages, for a framer that awaits pongs */
export const PONG = 8;

const CR = 13;
const LF = 10;

export class Framer {
  /** octets that make a ping, or a pong */
  readonly #whole: number;
  /** how many of them were seen between messages */
  #crlf = 0;
  /** octets behind `start` already searched for the end of the head */
  #scanned = 0;
  /** where the line stands that the scan is in, and the first line that may be a Content-Length (0: none yet) */
  #line = 0;
  #lengthAt = 0;
  /** total length of the message being received, once its head is known; else 0 */
  #length = 0;
  frameStart = 0;
  frameEnd = 0;

  /** `awaits`: the end that answers keep-alives is told of PING, the end that sends them of PONG. */
  constructor(awaits: typeof PING | typeof PONG = PING) {
    this.#whole = awaits === PING ? 4 : 2;
  }

  /** True between the first octet of a message and its last: no pong may be awaited inside it. */
  get inMessage(): boolean {
    return this.#length > 0 || this.#scanned > 0;
  }

  /** How many octets the message in progress needs in all; 0 while its head is incomplete. */
  get expected(): number {
    return this.#length;
  }

  reset(): void {
    this.#crlf = 0;
    this.#scanned = 0;
    this.#line = 0;
    this.#lengthAt = 0;
    this.#length = 0;
  }

  /**
   * The short way: a whole message stands at the front of `buf[start, end)`, which is lexed into `message`. So the
   * pass that finds its headers finds its end too, and most messages come whole. False says nothing but that `next` is
   * to be asked; a message in pieces is tried once, with its first piece. As for `lex`, `buf[end]` must exist.
   */
  take(message: Message, buf: Uint8Array, start: number, end: number): boolean {
    if (this.inMessage || this.#crlf & 1 || start >= end || !(CHARS[buf[start]] & TOKEN)) return false;
    if (message.lex(buf, start, end, true) !== OK || message.contentLength < 0) return false;
    if (message.bodyStart - start > MAX_HEAD || message.end - start > MAX_MESSAGE) return false;
    this.#crlf = 0;
    this.frameStart = start;
    this.frameEnd = message.end;
    return true;
  }

  /**
   * What stands at the front of `buf[start, end)`? The caller goes on from `frameEnd`; after MORE it
   * keeps the octets from there on and calls again with them (they may have moved) and new ones behind.
   */
  next(buf: Uint8Array, start: number, end: number): number {
    if (this.#length > 0) return this.#body(start, end);
    let p = start;
    if (this.#scanned === 0) {
      while (p < end) {
        const want = this.#crlf & 1 ? LF : CR;
        if (buf[p] !== want) break;
        p++;
        if (++this.#crlf === this.#whole) {
          this.#crlf = 0;
          this.frameEnd = p;
          return this.#whole === 4 ? PING : PONG;
        }
      }
      if (p === end) {
        this.frameEnd = p;
        return MORE;
      }
      if (this.#crlf & 1 || !(CHARS[buf[p]] & TOKEN)) return this.#refuse(JUNK, p, end);
      this.#crlf = 0;
    }
    return this.#head(buf, p, end);
  }

  #head(buf: Uint8Array, start: number, end: number): number {
    let p = start + this.#scanned;
    let line = start + this.#line;
    for (;;) {
      p = lineFeed(buf, p, end);
      if (p >= end) break;
      if (p - line === 1 && p - start >= 3 && buf[line] === CR && buf[line - 2] === CR) {
        return this.#headComplete(buf, start, p + 1, end);
      }
      if (this.#lengthAt === 0 && mayBeContentLength(buf, line)) this.#lengthAt = line - start;
      line = ++p;
    }
    this.#scanned = end - start;
    this.#line = line - start;
    if (this.#scanned > MAX_HEAD) return this.#refuse(HEAD_TOO_LARGE, start, end);
    this.frameEnd = start;
    return MORE;
  }

  #headComplete(buf: Uint8Array, start: number, headEnd: number, end: number): number {
    if (headEnd - start > MAX_HEAD) return this.#refuse(HEAD_TOO_LARGE, start, headEnd);
    const length = this.#lengthAt === 0 ? -1 : contentLength(buf, start + this.#lengthAt - 1, headEnd);
    if (length === -1) return this.#refuse(NO_CONTENT_LENGTH, start, headEnd);
    if (length < 0) return this.#refuse(BAD_CONTENT_LENGTH, start, headEnd);
    const whole = headEnd - start + length;
    if (whole > MAX_MESSAGE) return this.#refuse(MESSAGE_TOO_LARGE, start, headEnd);
    this.#length = whole;
    return this.#body(start, end);
  }

  #body(start: number, end: number): number {
    this.frameStart = start;
    this.frameEnd = start;
    if (end - start < this.#length) return MORE;
    this.frameEnd = start + this.#length;
    this.reset();
    return MESSAGE;
  }

  #refuse(verdict: number, frameStart: number, frameEnd: number): number {
    this.reset();
    this.frameStart = frameStart;
    this.frameEnd = frameEnd;
    return verdict;
  }
}

/** The Content-Length of the head `buf[start, end)`: -1 absent, -2 malformed or contradictory (18.3). */
export function contentLength(buf: Uint8Array, start: number, end: number): number {
  let found = -1;
  let p = start;
  for (;;) {
    while (p < end && buf[p] !== LF) p++;
    p++;
    if (p + 2 >= end) return found;
    const c = buf[p] | 32;
    if (c !== 99 && c !== 108) continue; // c, l
    let q = p;
    while (q < end && CHARS[buf[q]] & TOKEN) q++;
    if (headerId(buf, p, q) !== CONTENT_LENGTH) continue;
    while (buf[q] === 32 || buf[q] === 9) q++;
    if (buf[q] !== 58) continue;
    q++;
    while (q < end && CHARS[buf[q]] & LWS && !isLineEnd(buf, q)) q++;
    let valueEnd = q;
    while (valueEnd < end && !isLineEnd(buf, valueEnd)) valueEnd++;
    p = valueEnd;
    while (valueEnd > q && CHARS[buf[valueEnd - 1]] & LWS) valueEnd--;
    const value = parseDecimal(buf, q, valueEnd);
    if (value < 0 || (found >= 0 && value !== found)) return -2;
    found = value;
  }
}

/** The first LF from `p` on, or `end`. A function of its own: inside the loop over lines it took twice the time. */
function lineFeed(buf: Uint8Array, p: number, end: number): number {
  for (let i = p; i < end; i++) if (buf[i] === LF) return i;
  return end;
}

/** By two letters of its long name or the first of its compact one: most lines are told apart by less. */
function mayBeContentLength(buf: Uint8Array, line: number): boolean {
  const first = buf[line] | 32;
  return first === 108 || (first === 99 && (buf[line + 8] | 32) === 108); // l; c.......l
}

/** CR LF that is not a fold. */
function isLineEnd(buf: Uint8Array, p: number): boolean {
  return buf[p] === CR && buf[p + 1] === LF && buf[p + 2] !== 32 && buf[p + 2] !== 9;
}
