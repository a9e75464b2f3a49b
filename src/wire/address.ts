/**
 * The byte-level view of a name-addr and of a SIP URI: offsets only, filled again for every use.
 * It knows the URI parameters that routing asks about (lr, ob, transport, maddr, gr) and skips the
 * rest. The string-level grammars, for code off the packet path, are in uri.ts and nameaddr.ts.
 */
import { ascii, CHARS, equalsNoCase, HOST, LWS, parseDecimal, TOKEN } from './chars.ts';
import { quotedEnd, transportCode } from './via.ts';

export const SCHEME_OTHER = 0;
export const SIP = 1;
export const SIPS = 2;
export const TEL = 3;

const LR = ascii('lr');
const OB = ascii('ob');
const GR = ascii('gr');
const MADDR = ascii('maddr');
const TRANSPORT = ascii('transport');

export class UriView {
  scheme = SCHEME_OTHER;
  start = 0;
  end = 0;
  /** the user part without password; empty range when absent */
  userStart = 0;
  userEnd = 0;
  hostStart = 0;
  /** brackets included */
  hostEnd = 0;
  /** 0 when absent */
  port = 0;
  /** behind host and port: parameters start here */
  hostPortEnd = 0;
  /** behind the parameters, before `?` */
  paramsEnd = 0;
  lr = false;
  ob = false;
  gr = false;
  /** the whole `;ob` parameter, to cut it out */
  obFrom = -1;
  obEnd = -1;
  /** transport code of `;transport=`, 0 when absent or unknown; the range of the whole parameter */
  transport = 0;
  transportFrom = -1;
  transportEnd = -1;
  maddrFrom = -1;
  maddrStart = -1;
  maddrEnd = -1;

  get isSip(): boolean {
    return this.scheme === SIP || this.scheme === SIPS;
  }

  /** False if it is no URI at all. A URI of another scheme is true with `scheme` 0 or TEL. */
  parse(buf: Uint8Array, start: number, end: number): boolean {
    this.start = start;
    this.end = end;
    this.lr = this.ob = this.gr = false;
    this.obFrom = this.obEnd = this.transportFrom = this.transportEnd = -1;
    this.maddrFrom = this.maddrStart = this.maddrEnd = -1;
    this.transport = 0;
    this.port = 0;
    this.scheme = schemeOf(buf, start, end);
    if (!this.isSip) {
      let p = start;
      while (p < end && (CHARS[buf[p]] & TOKEN) !== 0) p++;
      return p > start && p + 1 < end && buf[p] === 58;
    }
    let p = start + (this.scheme === SIP ? 4 : 5);
    // The user part may hold ";" and "?" (RFC 3261 25.1), so the first "@" decides.
    let at = -1;
    for (let i = p; i < end; i++) {
      const c = buf[i];
      if (c === 64) {
        at = i;
        break;
      }
      if (c <= 32 || c === 62 || c === 60 || c === 34) return false;
    }
    this.userStart = this.userEnd = p;
    if (at >= 0) {
      if (at === p) return false;
      this.userEnd = at;
      for (let i = p; i < at; i++) {
        if (buf[i] === 58) {
          this.userEnd = i;
          break;
        }
      }
      p = at + 1;
    }
    this.hostStart = p;
    if (buf[p] === 91) {
      while (p < end && buf[p] !== 93) p++;
      if (p >= end) return false;
      p++;
    } else while (p < end && CHARS[buf[p]] & HOST) p++;
    this.hostEnd = p;
    if (p === this.hostStart) return false;
    if (p < end && buf[p] === 58) {
      const digits = ++p;
      while (p < end && buf[p] >= 48 && buf[p] <= 57) p++;
      this.port = parseDecimal(buf, digits, p);
      if (this.port < 1 || this.port > 65535) return false;
    }
    this.hostPortEnd = p;
    return this.#parameters(buf, p, end);
  }

  #parameters(buf: Uint8Array, from: number, end: number): boolean {
    let p = from;
    while (p < end && buf[p] === 59) {
      const semicolon = p++;
      const nameStart = p;
      while (p < end && buf[p] !== 61 && buf[p] !== 59 && buf[p] !== 63) {
        if (buf[p] <= 32) return false;
        p++;
      }
      const nameEnd = p;
      let valueStart = -1;
      if (p < end && buf[p] === 61) {
        valueStart = ++p;
        while (p < end && buf[p] !== 59 && buf[p] !== 63) {
          if (buf[p] <= 32) return false;
          p++;
        }
      }
      switch (nameEnd - nameStart) {
        case 2:
          if (equalsNoCase(buf, nameStart, nameEnd, LR)) this.lr = true;
          else if (equalsNoCase(buf, nameStart, nameEnd, OB)) {
            this.ob = true;
            this.obFrom = semicolon;
            this.obEnd = p;
          } else if (equalsNoCase(buf, nameStart, nameEnd, GR)) this.gr = true;
          break;
        case 5:
          if (equalsNoCase(buf, nameStart, nameEnd, MADDR)) {
            this.maddrFrom = semicolon;
            this.maddrStart = valueStart;
            this.maddrEnd = p;
          }
          break;
        case 9:
          if (equalsNoCase(buf, nameStart, nameEnd, TRANSPORT)) {
            this.transportFrom = semicolon;
            this.transportEnd = p;
            this.transport = valueStart < 0 ? 0 : transportCode(buf, valueStart, p);
          }
          break;
        default:
      }
    }
    this.paramsEnd = p;
    return p === end || buf[p] === 63;
  }
}

function schemeOf(buf: Uint8Array, p: number, end: number): number {
  if (end - p < 4) return SCHEME_OTHER;
  if ((buf[p] | 32) === 115 && (buf[p + 1] | 32) === 105 && (buf[p + 2] | 32) === 112) {
    if (buf[p + 3] === 58) return SIP;
    if (end - p > 4 && (buf[p + 3] | 32) === 115 && buf[p + 4] === 58) return SIPS;
  }
  if ((buf[p] | 32) === 116 && (buf[p + 1] | 32) === 101 && (buf[p + 2] | 32) === 108 && buf[p + 3] === 58)
    return TEL;
  return SCHEME_OTHER;
}

/** One element of a header whose values are name-addr or addr-spec: Route, Path, Contact, To, From. */
export class AddressView {
  /** where the element starts (its display name or its `<`) and ends (at the comma or the end of the value) */
  start = 0;
  end = 0;
  uriStart = 0;
  uriEnd = 0;
  /** header parameters: from the first `;` behind the URI */
  paramsStart = 0;
  bracketed = false;

  /** Parses the element at `p`. False if it is malformed. */
  parse(buf: Uint8Array, p: number, limit: number): boolean {
    while (p < limit && CHARS[buf[p]] & LWS) p++;
    this.start = p;
    this.bracketed = false;
    if (buf[p] === 34) {
      p = quotedEnd(buf, p, limit);
      if (p < 0) return false;
    }
    // a display name of tokens, or the addr-spec itself
    const plain = p;
    while (p < limit && buf[p] !== 60 && buf[p] !== 44 && buf[p] !== 59 && buf[p] !== 34) p++;
    if (p < limit && buf[p] === 60) {
      this.bracketed = true;
      this.uriStart = ++p;
      while (p < limit && buf[p] !== 62) p++;
      if (p >= limit) return false;
      this.uriEnd = p++;
    } else {
      this.uriStart = plain;
      let uriEnd = p;
      while (uriEnd > plain && CHARS[buf[uriEnd - 1]] & LWS) uriEnd--;
      this.uriEnd = uriEnd;
      if (uriEnd === plain) return false;
    }
    while (p < limit && CHARS[buf[p]] & LWS) p++;
    this.paramsStart = p;
    if (p < limit && buf[p] !== 59 && buf[p] !== 44) return false;
    while (p < limit && buf[p] !== 44) {
      if (buf[p] === 34) {
        p = quotedEnd(buf, p, limit);
        if (p < 0) return false;
      } else p++;
    }
    this.end = p;
    return true;
  }

  /** Does the element have a header parameter of this name (lower case)? */
  hasParam(buf: Uint8Array, name: Uint8Array): boolean {
    return this.findParam(buf, name) >= 0;
  }

  /** Where the name of the header parameter ends, or -1. */
  findParam(buf: Uint8Array, name: Uint8Array): number {
    let p = this.paramsStart;
    while (p < this.end && buf[p] === 59) {
      p++;
      while (p < this.end && CHARS[buf[p]] & LWS) p++;
      const at = p;
      while (p < this.end && CHARS[buf[p]] & TOKEN) p++;
      if (equalsNoCase(buf, at, p, name)) return p;
      while (p < this.end && buf[p] !== 59) {
        if (buf[p] === 34) p = quotedEnd(buf, p, this.end);
        else p++;
        if (p < 0) return -1;
      }
    }
    return -1;
  }
}
