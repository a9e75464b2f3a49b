/**
 * One SIP message as its bytes plus a table of offsets: no strings, no objects per header. The
 * table belongs to a `Message` that is made once a shard and filled again for every message; its
 * numbers are valid until the next `lex`. Unknown headers and methods are rows like any other.
 *
 * What is checked is what RFC 3261 16.3 step 1 needs to route a message: start line, well-formed
 * header lines, the presence of the mandatory headers, CSeq, Max-Forwards, Content-Length. Values
 * that routing does not need are not looked at (16.3: "parts not needed are not validated").
 *
 * Cost: one pass over the head, its values four octets at a time; about 1 ns an octet, less where values are long.
 */
import { CHARS, DIGIT, LWS, parseDecimal, TOKEN } from './chars.ts';
import { MAX_HEAD, MAX_HEADER_LINE, MAX_HEADERS, MAX_START_LINE } from './limits.ts';
import {
  CALL_ID,
  CONTENT_LENGTH,
  CSEQ,
  FROM,
  HEADER_IDS,
  headerId,
  M_OTHER,
  MAX_FORWARDS,
  methodId,
  TO,
  VIA,
} from './names.ts';

/** Verdicts of `lex`. Those up to NO_RESPONSE can be answered with the status that `statusOf` names. */
export const OK = 0;
export const BAD_START_LINE = 1;
export const BAD_VERSION = 2;
export const BAD_HEADER = 3;
export const MISSING_HEADER = 4;
export const BAD_CSEQ = 5;
export const BAD_MAX_FORWARDS = 6;
export const BAD_CONTENT_LENGTH = 7;
export const TOO_LARGE = 8;
export const DUPLICATE_HEADER = 9;
/** the head has no end: nothing in it can be trusted enough to answer */
export const NO_END = 10;
export const NOT_SIP = 11;

/** The status and reason that a request with this verdict is answered with. */
export function statusOf(verdict: number): { status: number; reason: string } {
  switch (verdict) {
    case BAD_VERSION:
      return { status: 505, reason: 'Version Not Supported' };
    case TOO_LARGE:
      return { status: 513, reason: 'Message Too Large' };
    case MISSING_HEADER:
      return { status: 400, reason: 'Missing Header' };
    case BAD_CSEQ:
      return { status: 400, reason: 'Bad CSeq' };
    case BAD_MAX_FORWARDS:
      return { status: 400, reason: 'Bad Max-Forwards' };
    case BAD_CONTENT_LENGTH:
      return { status: 400, reason: 'Bad Content-Length' };
    case DUPLICATE_HEADER:
      return { status: 400, reason: 'Duplicate Header' };
    default:
      return { status: 400, reason: 'Bad Request' };
  }
}

const CR = 13;
const LF = 10;
const SP = 32;
const TAB = 9;
const COLON = 58;
const BACKSLASH = 92;

export class Message {
  buf: Uint8Array = new Uint8Array(0);
  start = 0;
  /** where the message ends, body included; on UDP with a Content-Length, the octets behind it are cut */
  end = 0;
  /** the first octet behind the empty line */
  bodyStart = 0;
  isRequest = false;
  method = M_OTHER;
  methodStart = 0;
  methodEnd = 0;
  uriStart = 0;
  uriEnd = 0;
  status = 0;
  cseqNumber = 0;
  cseqMethod = M_OTHER;
  cseqMethodStart = 0;
  cseqMethodEnd = 0;
  /** -1 when the header is absent */
  maxForwards = -1;
  contentLength = -1;
  /** rows of the table */
  count = 0;
  readonly ids = new Uint8Array(MAX_HEADERS);
  readonly lineStart = new Int32Array(MAX_HEADERS);
  readonly nameEnd = new Int32Array(MAX_HEADERS);
  /** value without surrounding white space; folds are left inside */
  readonly valueStart = new Int32Array(MAX_HEADERS);
  readonly valueEnd = new Int32Array(MAX_HEADERS);
  /** the first octet of the next line */
  readonly lineEnd = new Int32Array(MAX_HEADERS);
  /** by header id: the first and the last row with it (-1: none); OTHER is not kept */
  readonly first = new Int16Array(HEADER_IDS);
  readonly last = new Int16Array(HEADER_IDS);

  has(id: number): boolean {
    return this.first[id] >= 0;
  }

  /** The next row with the same id, or -1. */
  next(row: number): number {
    const id = this.ids[row];
    if (row === this.last[id]) return -1;
    for (let i = row + 1; i < this.count; i++) if (this.ids[i] === id) return i;
    return -1;
  }

  /**
   * Fills the table from `buf[start, end)`; the range holds one whole message (as the framer or the
   * datagram gives it). `buf[end]` must exist: it is overwritten for the time of the call.
   * `datagram`: Content-Length shorter than the rest cuts the message (RFC 3261 18.3).
   */
  lex(buf: Uint8Array, start: number, end: number, datagram: boolean): number {
    const kept = buf[end];
    buf[end] = 0; // a sentinel: every scan below stops at an octet under 32
    const verdict = this.#lex(buf, start, end, datagram);
    buf[end] = kept;
    return verdict;
  }

  #lex(buf: Uint8Array, start: number, end: number, datagram: boolean): number {
    if (buf !== this.buf) this.#words = new Int32Array(buf.buffer, 0, buf.buffer.byteLength >> 2);
    this.buf = buf;
    this.start = start;
    this.end = end;
    this.bodyStart = end;
    this.count = 0;
    this.method = M_OTHER;
    this.status = 0;
    this.maxForwards = -1;
    this.contentLength = -1;
    this.cseqNumber = 0;
    this.cseqMethod = M_OTHER;
    this.cseqMethodStart = 0;
    this.first.fill(-1);
    this.last.fill(-1);
    const startLine = this.#startLine(buf, start);
    if (startLine < 0) return -startLine;
    // The headers are read even below a start line of another version or of excessive length, so that the
    // answer can be composed.
    const verdict = this.#headers(buf, startLine);
    if (verdict !== OK) return verdict;
    if (startLine - 2 - start > MAX_START_LINE) return TOO_LARGE;
    if (this.#badVersion) return BAD_VERSION;
    return this.#mandatory(buf, datagram);
  }

  #badVersion = false;
  /** all of `buf`'s memory */
  #words: Int32Array = new Int32Array(0);

  /** Returns the offset of the first header line, or the negated verdict. */
  #startLine(buf: Uint8Array, start: number): number {
    let p = start;
    this.#badVersion = false;
    if (isVersion(buf, p) && buf[p + 7] === SP) {
      this.isRequest = false;
      const a = buf[p + 8] - 48;
      const b = buf[p + 9] - 48;
      const c = buf[p + 10] - 48;
      if (a < 1 || a > 6 || b < 0 || b > 9 || c < 0 || c > 9 || (buf[p + 11] !== SP && buf[p + 11] !== CR))
        return -BAD_START_LINE;
      this.status = a * 100 + b * 10 + c;
      p += 11;
      while (buf[p] >= SP || buf[p] === TAB) p++;
    } else {
      this.isRequest = true;
      this.methodStart = p;
      while (CHARS[buf[p]] & TOKEN) p++;
      this.methodEnd = p;
      if (p === start) return -NOT_SIP;
      if (buf[p] !== SP) return buf[p] === COLON || buf[p] < SP ? -NOT_SIP : -BAD_START_LINE;
      this.method = methodId(buf, start, p);
      this.uriStart = ++p;
      while (buf[p] > SP) p++;
      this.uriEnd = p;
      if (buf[p] !== SP) return this.#looseStartLine(buf, p);
      p++;
      if (p - 1 === this.uriStart) return this.#looseStartLine(buf, p);
      if (!isVersion(buf, p) || buf[p + 7] !== CR) {
        if (!isSipName(buf, p)) return this.#looseStartLine(buf, p);
        this.#badVersion = true;
        while (buf[p] > SP) p++;
        if (buf[p] !== CR) return this.#looseStartLine(buf, p);
      } else p += 7;
    }
    if (buf[p] !== CR || buf[p + 1] !== LF) return -BAD_START_LINE;
    return p + 2;
  }

  /** No version, or spaces where none may be (RFC 4475 3.1.2.8 and others): 400, once its headers are known. */
  #looseStartLine(buf: Uint8Array, from: number): number {
    let p = from;
    while (buf[p] >= SP || buf[p] === TAB) p++;
    if (buf[p] !== CR || buf[p + 1] !== LF) return -BAD_START_LINE;
    return this.#headers(buf, p + 2) === OK && this.first[VIA] >= 0 ? -BAD_START_LINE : -NOT_SIP;
  }

  #headers(buf: Uint8Array, from: number): number {
    let p = from;
    let n = 0;
    const limit = this.start + MAX_HEAD;
    const words = this.#words;
    const base = buf.byteOffset;
    for (;;) {
      if (buf[p] === CR && buf[p + 1] === LF) {
        this.count = n;
        this.bodyStart = p + 2;
        return this.bodyStart > this.end ? NO_END : p > limit ? TOO_LARGE : OK;
      }
      if (p >= this.end) return NO_END;
      const lineStart = p;
      while (CHARS[buf[p]] & TOKEN) p++;
      const nameEnd = p;
      while (buf[p] === SP || buf[p] === TAB) p++;
      if (buf[p] !== COLON || nameEnd === lineStart) return p + 1 >= this.end ? NO_END : BAD_HEADER;
      p++;
      while (CHARS[buf[p]] & LWS) {
        // a fold: CR LF and then white space; anything else ends the (empty) value
        if (buf[p] === CR) {
          if (buf[p + 1] !== LF || (buf[p + 2] !== SP && buf[p + 2] !== TAB)) break;
          p += 2;
        } else if (buf[p] === LF) break;
        p++;
      }
      const valueStart = p;
      for (;;) {
        p = control(words, base + p) - base;
        while (buf[p] >= SP || buf[p] === TAB) p++;
        if (buf[p] !== CR || buf[p + 1] !== LF) {
          if (p + 1 >= this.end) return NO_END;
          // A quoted-pair may hold any octet but CR and LF (RFC 3261 25.1, RFC 4475 3.1.1.2).
          if (buf[p] === CR || buf[p] === LF || buf[p - 1] !== BACKSLASH) return BAD_HEADER;
          p++;
          continue;
        }
        if (buf[p + 2] !== SP && buf[p + 2] !== TAB) break;
        p += 3;
      }
      let valueEnd = p;
      while (valueEnd > valueStart && CHARS[buf[valueEnd - 1]] & LWS) valueEnd--;
      p += 2;
      if (n === MAX_HEADERS || p - lineStart > MAX_HEADER_LINE) {
        this.count = n;
        return TOO_LARGE;
      }
      const id = headerId(buf, lineStart, nameEnd);
      this.ids[n] = id;
      this.lineStart[n] = lineStart;
      this.nameEnd[n] = nameEnd;
      this.valueStart[n] = valueStart;
      this.valueEnd[n] = valueEnd;
      this.lineEnd[n] = p;
      if (id !== 0) {
        if (this.first[id] < 0) this.first[id] = n;
        this.last[id] = n;
      }
      n++;
      this.count = n; // kept right at every step, so that a refused message can still be answered
    }
  }

  #mandatory(buf: Uint8Array, datagram: boolean): number {
    const first = this.first;
    if (first[VIA] < 0 || first[FROM] < 0 || first[TO] < 0 || first[CALL_ID] < 0 || first[CSEQ] < 0)
      return MISSING_HEADER;
    if (
      first[FROM] !== this.last[FROM] ||
      first[TO] !== this.last[TO] ||
      first[CALL_ID] !== this.last[CALL_ID] ||
      first[CSEQ] !== this.last[CSEQ] ||
      first[MAX_FORWARDS] !== this.last[MAX_FORWARDS]
    )
      return DUPLICATE_HEADER;
    let row = first[CSEQ];
    let p = this.valueStart[row];
    const cseqEnd = this.valueEnd[row];
    const digits = p;
    while (p < cseqEnd && CHARS[buf[p]] & DIGIT) p++;
    this.cseqNumber = parseDecimal(buf, digits, p);
    if (this.cseqNumber < 0 || this.cseqNumber > 0x7fffffff || p === cseqEnd || !(CHARS[buf[p]] & LWS))
      return BAD_CSEQ;
    while (CHARS[buf[p]] & LWS) p++;
    this.cseqMethodStart = p;
    this.cseqMethodEnd = cseqEnd;
    this.cseqMethod = methodId(buf, p, cseqEnd);
    if (this.isRequest && !sameMethod(this, buf)) return BAD_CSEQ;
    row = first[MAX_FORWARDS];
    if (row >= 0) {
      this.maxForwards = parseDecimal(buf, this.valueStart[row], this.valueEnd[row]);
      if (this.maxForwards < 0 || this.maxForwards > 255) return BAD_MAX_FORWARDS;
    }
    return this.#length(buf, datagram);
  }

  #length(buf: Uint8Array, datagram: boolean): number {
    for (let row = this.first[CONTENT_LENGTH]; row >= 0; row = this.next(row)) {
      const value = parseDecimal(buf, this.valueStart[row], this.valueEnd[row]);
      if (value < 0 || (this.contentLength >= 0 && value !== this.contentLength)) return BAD_CONTENT_LENGTH;
      this.contentLength = value;
    }
    if (this.contentLength < 0) return OK;
    const bodyEnd = this.bodyStart + this.contentLength;
    if (bodyEnd > this.end) return BAD_CONTENT_LENGTH;
    if (datagram) this.end = bodyEnd;
    return OK;
  }
}

/**
 * Where the first octet under 32 may stand at the earliest, from octet `at` of the memory on: no octet before it is one.
 * Four at a time, and a function of its own: inside the loop over lines it gained nothing.
 */
function control(words: Int32Array, at: number): number {
  let i = at >> 2;
  // the octets in front of `at` are made 255
  let four = words[i] | ((1 << ((at & 3) << 3)) - 1);
  let found = (four - 0x20202020) & ~four & 0x80808080;
  while (found === 0) {
    four = words[++i] | 0;
    found = (four - 0x20202020) & ~four & 0x80808080;
  }
  return (i << 2) + ((31 - Math.clz32(found & -found)) >> 3);
}

function sameMethod(m: Message, buf: Uint8Array): boolean {
  if (m.cseqMethod !== m.method) return false;
  if (m.method !== M_OTHER) return true;
  const length = m.methodEnd - m.methodStart;
  if (m.cseqMethodEnd - m.cseqMethodStart !== length) return false;
  for (let i = 0; i < length; i++) if (buf[m.methodStart + i] !== buf[m.cseqMethodStart + i]) return false;
  return true;
}

/** "SIP/", any letter case (RFC 3261 7.1). */
function isSipName(buf: Uint8Array, p: number): boolean {
  return (buf[p] | 32) === 115 && (buf[p + 1] | 32) === 105 && (buf[p + 2] | 32) === 112 && buf[p + 3] === 47;
}

function isVersion(buf: Uint8Array, p: number): boolean {
  return isSipName(buf, p) && buf[p + 4] === 50 && buf[p + 5] === 46 && buf[p + 6] === 48;
}
