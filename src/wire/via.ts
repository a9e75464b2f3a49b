/**
 * One Via value as offsets (RFC 3261 20.42, RFC 3581, RFC 6223). A `Via` is filled again for every
 * message; it holds no text.
 */
import { ascii, CHARS, equalsNoCase, LWS, parseDecimal, TOKEN } from './chars.ts';

const BRANCH = ascii('branch');
const RECEIVED = ascii('received');
const ALIAS = ascii('alias');
const RPORT = ascii('rport');
const MADDR = ascii('maddr');
const KEEP = ascii('keep');

const UDP_NAME = ascii('udp');
const TCP_NAME = ascii('tcp');
const TLS_NAME = ascii('tls');
const WS_NAME = ascii('ws');
const WSS_NAME = ascii('wss');

/** Transport codes, as they stand in flow records and tokens; 0 is a transport that we do not speak. */
export const UDP = 1;
export const TCP = 2;
export const TLS = 3;
export const WS = 4;
export const WSS = 5;

export const TRANSPORTS = ['', 'UDP', 'TCP', 'TLS', 'WS', 'WSS'];

const DEFAULT_PORTS = [5060, 5060, 5060, 5061, 80, 443];

/** Where a URI or a Via names no port (RFC 3261 19.1.2, 18.1.1; RFC 7118 5.5). */
export const defaultPort = (transport: number): number => DEFAULT_PORTS[transport];

export function transportCode(buf: Uint8Array, start: number, end: number): number {
  if (equalsNoCase(buf, start, end, UDP_NAME)) return UDP;
  if (equalsNoCase(buf, start, end, TCP_NAME)) return TCP;
  if (equalsNoCase(buf, start, end, TLS_NAME)) return TLS;
  if (equalsNoCase(buf, start, end, WS_NAME)) return WS;
  if (equalsNoCase(buf, start, end, WSS_NAME)) return WSS;
  return 0;
}

export class Via {
  transport = 0;
  hostStart = 0;
  /** brackets of an IPv6 reference included */
  hostEnd = 0;
  /** 0 when absent: the transport's default applies */
  port = 0;
  /** where the sent-by ends: parameters may be inserted here */
  sentByEnd = 0;
  branchStart = -1;
  branchEnd = -1;
  /** value range of `received`, -1 when absent */
  receivedStart = -1;
  receivedEnd = -1;
  /** the whole parameter from its `;` on, for replacement; -1 when absent */
  receivedFrom = -1;
  /** `alias` is there (RFC 5923) */
  alias = false;
  rportFrom = -1;
  rportEnd = -1;
  /** -1 absent, 0 without value, else the port */
  rport = -1;
  maddrStart = -1;
  maddrEnd = -1;
  /** behind the name of `keep`; -1 when absent */
  keepAt = -1;
  keepEnd = -1;
  /** where this value ends: at the end of the header or at the comma before the next value */
  end = 0;

  /** Parses the value at `p`, which ends at `limit` or at a comma. False if it is malformed. */
  parse(buf: Uint8Array, p: number, limit: number): boolean {
    this.branchStart = this.branchEnd = -1;
    this.receivedStart = this.receivedEnd = this.receivedFrom = -1;
    this.alias = false;
    this.rportFrom = this.rportEnd = this.rport = -1;
    this.maddrStart = this.maddrEnd = -1;
    this.keepAt = this.keepEnd = -1;
    this.port = 0;
    // sent-protocol: SIP / 2.0 / transport, with white space allowed around the slashes
    for (let part = 0; part < 3; part++) {
      while (p < limit && CHARS[buf[p]] & LWS) p++;
      const at = p;
      while (p < limit && CHARS[buf[p]] & TOKEN) p++;
      if (p === at) return false;
      if (part === 2) this.transport = transportCode(buf, at, p);
      else {
        while (p < limit && CHARS[buf[p]] & LWS) p++;
        if (buf[p] !== 47) return false;
        p++;
      }
    }
    const gap = p;
    while (p < limit && CHARS[buf[p]] & LWS) p++;
    if (p === gap) return false;
    this.hostStart = p;
    if (buf[p] === 91) {
      while (p < limit && buf[p] !== 93) p++;
      if (p === limit) return false;
      p++;
    } else {
      while (p < limit && CHARS[buf[p]] & TOKEN) p++; // host names are tokens in practice: "_" occurs
    }
    this.hostEnd = p;
    if (p === this.hostStart) return false;
    this.sentByEnd = p;
    while (p < limit && CHARS[buf[p]] & LWS) p++;
    if (p < limit && buf[p] === 58) {
      p++;
      while (p < limit && CHARS[buf[p]] & LWS) p++;
      const at = p;
      while (p < limit && buf[p] >= 48 && buf[p] <= 57) p++;
      this.port = parseDecimal(buf, at, p);
      if (this.port < 1 || this.port > 65535) return false;
      this.sentByEnd = p;
      while (p < limit && CHARS[buf[p]] & LWS) p++;
    }
    return this.#parameters(buf, p, limit);
  }

  #parameters(buf: Uint8Array, from: number, limit: number): boolean {
    let p = from;
    for (;;) {
      if (p >= limit || buf[p] === 44) {
        this.end = Math.min(p, limit);
        return true;
      }
      if (buf[p] !== 59) return false;
      const semicolon = p;
      p++;
      while (p < limit && CHARS[buf[p]] & LWS) p++;
      const nameStart = p;
      while (p < limit && CHARS[buf[p]] & TOKEN) p++;
      const nameEnd = p;
      if (nameEnd === nameStart) return false;
      while (p < limit && CHARS[buf[p]] & LWS) p++;
      let valueStart = -1;
      let valueEnd = nameEnd;
      if (p < limit && buf[p] === 61) {
        p++;
        while (p < limit && CHARS[buf[p]] & LWS) p++;
        valueStart = p;
        if (buf[p] === 34) {
          p = quotedEnd(buf, p, limit);
          if (p < 0) return false;
        } else
          while (p < limit && (CHARS[buf[p]] & TOKEN || buf[p] === 91 || buf[p] === 93 || buf[p] === 58)) p++;
        valueEnd = p;
        while (p < limit && CHARS[buf[p]] & LWS) p++;
      }
      this.#parameter(buf, semicolon, nameStart, nameEnd, valueStart, valueEnd);
    }
  }

  #parameter(
    buf: Uint8Array,
    semicolon: number,
    nameStart: number,
    nameEnd: number,
    valueStart: number,
    valueEnd: number,
  ): void {
    switch (nameEnd - nameStart) {
      case 4:
        if (equalsNoCase(buf, nameStart, nameEnd, KEEP)) {
          this.keepAt = nameEnd;
          this.keepEnd = valueEnd;
        }
        return;
      case 5:
        if (equalsNoCase(buf, nameStart, nameEnd, RPORT)) {
          this.rportFrom = semicolon;
          this.rportEnd = valueEnd;
          this.rport = valueStart < 0 ? 0 : Math.max(0, parseDecimal(buf, valueStart, valueEnd));
          if (this.rport > 65535) this.rport = 0;
        } else if (equalsNoCase(buf, nameStart, nameEnd, MADDR)) {
          this.maddrStart = valueStart;
          this.maddrEnd = valueEnd;
        } else if (equalsNoCase(buf, nameStart, nameEnd, ALIAS)) this.alias = true;
        return;
      case 6:
        if (equalsNoCase(buf, nameStart, nameEnd, BRANCH) && valueStart >= 0) {
          this.branchStart = valueStart;
          this.branchEnd = valueEnd;
        }
        return;
      case 8:
        if (equalsNoCase(buf, nameStart, nameEnd, RECEIVED) && valueStart >= 0) {
          this.receivedFrom = semicolon;
          this.receivedStart = valueStart;
          this.receivedEnd = valueEnd;
        }
        return;
      default:
    }
  }
}

/** Behind the closing quote of the quoted string that opens at `p`, or -1. */
export function quotedEnd(buf: Uint8Array, p: number, limit: number): number {
  for (let i = p + 1; i < limit; i++) {
    if (buf[i] === 92) i++;
    else if (buf[i] === 34) return i + 1;
  }
  return -1;
}
