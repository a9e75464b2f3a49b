/**
 * RFC 5626 section 5: what an edge writes into a request so that its client can be reached again.
 * Path with the flow's token and `ob` for a first hop (5.1), Record-Route with the token for requests
 * that form dialogs (5.3.1, 5.3.2), doubled where the two sides differ in transport or address family
 * (RFC 5658: the side that a route set is read from finds an address that it can use; both URIs carry
 * the same token).
 */
import { isSecured } from '../shared/flow-record.ts';
import type { FlowTable } from '../shared/flow-table.ts';
import { AddressView, UriView } from '../wire/address.ts';
import { ascii, latin1 } from '../wire/chars.ts';
import { isHost } from '../wire/compose.ts';
import type { Message } from '../wire/lexer.ts';
import { CONTACT, VIA } from '../wire/names.ts';
import { UDP } from '../wire/via.ts';
import type { Writer } from '../wire/writer.ts';
import type { Source } from './exchange.ts';
import type { Own } from './own.ts';

const PATH = ascii('Path: <sip:');
const RECORD_ROUTE = ascii('Record-Route: <sip:');
const RECORD_ROUTE_SIPS = ascii('Record-Route: <sips:');
const OB_END = ascii(';ob>');
const END = ascii('>');

const contact = new AddressView();
const contactUri = new UriView();

/** Do requests on these two listeners reach each other's peers only through two addresses of ours? */
export function differ(own: Own, a: number, b: number): boolean {
  const x = own.listeners[a];
  const y = own.listeners[b];
  return x.transport !== y.transport || x.family !== y.family;
}

function token(w: Writer, table: FlowTable, slot: number): void {
  const at = table.tokenOffset(slot);
  w.range(table.tokens, at, at + table.tokenLength(slot));
}

/** `Path: <sip:TOKEN@host:port;lr;ob>`, as a line. `first`: this element is the first hop (5.1). */
export function writePath(
  w: Writer,
  own: Own,
  table: FlowTable,
  slot: number,
  listener: number,
  first: boolean,
): void {
  w.bytes(PATH);
  token(w, table, slot);
  w.bytes(own.listeners[listener].route);
  w.bytes(first ? OB_END : END);
  w.crlf();
}

/** The same as a value, for a binding in our own store. */
export function pathValue(
  own: Own,
  table: FlowTable,
  slot: number,
  listener: number,
  first: boolean,
): string {
  const at = table.tokenOffset(slot);
  const text = latin1(table.tokens, at, at + table.tokenLength(slot));
  const { route } = own.listeners[listener];
  return `<sip:${text}${latin1(route, 0, route.length)}${first ? ';ob' : ''}>`;
}

/**
 * Record-Route lines with the token of a client's flow. `upper` is the listener of the side that the
 * request goes to: its URI stands on top. `lower` is that of the side it came from. `sips`: the Request-URI is (16.6
 * step 4); a side in the clear has no such URI.
 */
export function writeRecordRoute(
  w: Writer,
  own: Own,
  table: FlowTable,
  slot: number,
  upper: number,
  lower: number,
  sips: boolean,
): void {
  for (const listener of differ(own, upper, lower) ? [upper, lower] : [upper]) {
    w.bytes(sips && isSecured(own.listeners[listener].transport) ? RECORD_ROUTE_SIPS : RECORD_ROUTE);
    token(w, table, slot);
    w.bytes(own.listeners[listener].route);
    w.bytes(END);
    w.crlf();
  }
}

/** The same without a token: this element alone, on both sides (RFC 5627 6.2). */
export function writeOwnRecordRoute(w: Writer, own: Own, upper: number, lower: number): void {
  for (const listener of differ(own, upper, lower) ? [upper, lower] : [upper]) {
    const { route } = own.listeners[listener];
    w.bytes(RECORD_ROUTE);
    w.range(route, 1, route.length); // without its "@"
    w.bytes(END);
    w.crlf();
  }
}

/**
 * Must mid-dialog requests to this client come over its flow? Yes with `ob` in its Contact (5.3.2); also
 * without it where nothing else could reach it: on a stream, or when the Contact is another address than
 * the request came from, that is behind a NAT (EP-5.3.2-02).
 */
export function needsFlow(m: Message, source: Source): boolean {
  const row = m.first[CONTACT];
  if (row < 0) return source.transport !== UDP;
  const { buf } = m;
  const parsed =
    contact.parse(buf, m.valueStart[row], m.valueEnd[row]) &&
    contactUri.parse(buf, contact.uriStart, contact.uriEnd) &&
    contactUri.isSip;
  if (!parsed) return source.transport !== UDP;
  if (contactUri.ob || source.transport !== UDP) return true;
  if (contactUri.gr) return true; // a GRUU names no address at all
  const port = contactUri.port || 5060;
  return port !== source.remote.port || !isHost(buf, contactUri.hostStart, contactUri.hostEnd, source.remote);
}

/** A `sips` Request-URI: every hop must be over TLS (RFC 3261 26.2.2). */
export const asksTls = ({ buf, uriStart: p }: Message): boolean =>
  (buf[p + 3] | 32) === 115 && buf[p + 4] === 58;

const COMMA = 44;
const QUOTE = 34;

/** How many Via values the message has, counted up to 2: exactly one means that its sender made it (5.1). */
export function viaCount(m: Message, firstEnd: number): number {
  const row = m.first[VIA];
  if (row < 0) return 0;
  if (m.last[VIA] !== row) return 2;
  const end = m.valueEnd[row];
  let quoted = false;
  for (let i = firstEnd; i < end; i++) {
    const c = m.buf[i];
    if (c === QUOTE) quoted = !quoted;
    else if (c === COMMA && !quoted) return 2;
  }
  return 1;
}
