/**
 * Responses made from a request (RFC 3261 8.2.6): Via in order, From, To with a tag, Call-ID, CSeq,
 * then what the caller adds, then Content-Length. The top Via gets `received` and `rport` as RFC 3581
 * section 4 and RFC 3261 18.2.1 ask; `stampVia` does the same for a request that is forwarded.
 */
import { Endpoint } from '../net/endpoint.ts';
import { AddressView } from './address.ts';
import { ascii } from './chars.ts';
import type { Message } from './lexer.ts';
import { CALL_ID, CSEQ, FROM, TO, VIA } from './names.ts';
import type { Patch } from './patch.ts';
import type { Via } from './via.ts';
import { Writer } from './writer.ts';

const TAG = ascii('tag');
const VERSION = ascii('SIP/2.0 ');
const RPORT = ascii(';rport=');
const RECEIVED = ascii(';received=');
const TAG_PARAM = ascii(';tag=');
const CONTENT_LENGTH_0 = ascii('Content-Length: 0\r\n\r\n');

const V4_LENGTH = 15;
/** the IPv4 address that was written last, as text: messages of one peer come in runs */
const lastV4 = new Writer(new Uint8Array(V4_LENGTH));
let lastV4Word = -1;

/** Writes the numeric host, IPv6 without brackets (Via `received` has none, RFC 3261 25.1 IPv6address). */
export function writeHost(w: Writer, address: Endpoint): void {
  if (address.family !== 4) {
    w.text(address.host);
    return;
  }
  if (lastV4Word !== address.a3 || lastV4.at === 0) {
    lastV4Word = address.a3;
    lastV4.open(0, V4_LENGTH);
    for (let shift = 24; shift >= 0; shift -= 8) {
      lastV4.decimal((lastV4Word >>> shift) & 255);
      if (shift > 0) lastV4.byte(46);
    }
  }
  w.range(lastV4.buf, 0, lastV4.at);
}

/**
 * Edits the top Via of a request for the address that it came from. `rport` is filled when the client
 * asked (with or without a value of its own: 3581-4-04) and then `received` is always given;
 * otherwise `received` only when sent-by is a name or another address. A `received` or `rport` of the
 * client's own making is replaced. `web`: it came by a WebSocket, whose client has no address to compare and where
 * the one seen may be a proxy's (RFC 7118 5.3): only who asks is told.
 */
export function stampVia(patch: Patch, m: Message, via: Via, from: Endpoint, web = false): void {
  const asked = via.rportFrom >= 0;
  if (asked) {
    const w = patch.replace(via.rportFrom, via.rportEnd);
    w.bytes(RPORT);
    w.decimal(from.port);
  }
  const differs = !web && !isHost(m.buf, via.hostStart, via.hostEnd, from);
  if (via.receivedFrom >= 0) {
    const w = patch.replace(via.receivedFrom, via.receivedEnd);
    if (asked || differs) {
      w.bytes(RECEIVED);
      writeHost(w, from);
    }
  } else if (asked || differs) {
    const w = patch.insert(via.sentByEnd);
    w.bytes(RECEIVED);
    writeHost(w, from);
  }
}

const spelled = new Endpoint();

/** Is the text of a sent-by host this numeric address? A name never is. */
export function isHost(buf: Uint8Array, start: number, end: number, address: Endpoint): boolean {
  if (address.family === 4) {
    let word = 0;
    let octet = -1;
    let dots = 0;
    for (let i = start; i < end; i++) {
      const c = buf[i];
      if (c === 46) {
        if (octet < 0) return false;
        word = (word << 8) | octet;
        octet = -1;
        dots++;
      } else if (c >= 48 && c <= 57) {
        octet = (octet < 0 ? 0 : octet * 10) + c - 48;
        if (octet > 255) return false;
      } else return false;
    }
    return dots === 3 && octet >= 0 && ((word << 8) | octet) === address.a3;
  }
  if (buf[start] !== 91) return false;
  let text = '';
  for (let i = start; i < end; i++) text += String.fromCharCode(buf[i]);
  return spelled.parse(text, address.port)?.sameAddress(address) ?? false;
}

const to = new AddressView();

/** Has the To header a tag? Then the request is inside a dialog. */
export function hasToTag(m: Message): boolean {
  const row = m.first[TO];
  return row >= 0 && to.parse(m.buf, m.valueStart[row], m.valueEnd[row]) && to.hasParam(m.buf, TAG);
}

/**
 * Appends the head of a response to `m`: the start line and the five copied headers. `viaPatch` has the
 * edits of the top Via, or is undefined to copy it as it is. `tag` goes to a To that has none.
 */
export function composeHead(
  w: Writer,
  m: Message,
  status: number,
  reason: Uint8Array,
  viaPatch: Patch | undefined,
  tag: Uint8Array | undefined,
): void {
  w.bytes(VERSION);
  w.decimal(status);
  w.byte(32);
  w.bytes(reason);
  w.crlf();
  let first = true;
  for (let row = m.first[VIA]; row >= 0; row = m.next(row)) {
    if (first && viaPatch) viaPatch.apply(m.lineStart[row], m.lineEnd[row], w);
    else w.range(m.buf, m.lineStart[row], m.lineEnd[row]);
    first = false;
  }
  line(w, m, FROM);
  const row = m.first[TO];
  if (row >= 0) {
    w.range(m.buf, m.lineStart[row], m.valueEnd[row]);
    if (tag && !hasToTag(m)) {
      w.bytes(TAG_PARAM);
      w.bytes(tag);
    }
    w.crlf();
  }
  line(w, m, CALL_ID);
  line(w, m, CSEQ);
}

function line(w: Writer, m: Message, id: number): void {
  const row = m.first[id];
  if (row >= 0) w.range(m.buf, m.lineStart[row], m.lineEnd[row]);
}

export function composeEnd(w: Writer): void {
  w.bytes(CONTENT_LENGTH_0);
}
