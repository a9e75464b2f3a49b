/**
 * The requests that an INVITE of ours has as offspring: the ACK to a non-2xx (RFC 3261 17.1.1.3) and the
 * CANCEL (9.1). Both have its Request-URI, its top Via alone, its Route, From, Call-ID and CSeq number;
 * the ACK has the To of the response.
 */
import type { Arena } from '../net/arena.ts';
import { ascii, CHARS, LWS } from '../wire/chars.ts';
import { Message, OK } from '../wire/lexer.ts';
import { CALL_ID, FROM, ROUTE, TO, VIA } from '../wire/names.ts';
import { Via } from '../wire/via.ts';
import type { Writer } from '../wire/writer.ts';

const ACK_START = ascii('ACK ');
const CANCEL_START = ascii('CANCEL ');
const VERSION_VIA = ascii(' SIP/2.0\r\nVia: ');
const MAX_FORWARDS = ascii('Max-Forwards: 70\r\n');
const CSEQ = ascii('CSeq: ');
const ACK_END = ascii(' ACK\r\nContent-Length: 0\r\n\r\n');
const CANCEL_END = ascii(' CANCEL\r\nContent-Length: 0\r\n\r\n');

export class Offspring {
  readonly #arena: Arena;
  readonly #invite = new Message();
  readonly #via = new Via();

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  /** `at`, `length`: the INVITE as it was sent. False: nothing usable was written. */
  ack(at: number, length: number, response: Message, w: Writer): boolean {
    if (!this.#head(at, length, ACK_START, w)) return false;
    const row = response.first[TO];
    if (row >= 0) w.range(response.buf, response.lineStart[row], response.lineEnd[row]);
    return this.#tail(w, ACK_END);
  }

  cancel(at: number, length: number, w: Writer): boolean {
    if (!this.#head(at, length, CANCEL_START, w)) return false;
    const m = this.#invite;
    const row = m.first[TO];
    w.range(m.buf, m.lineStart[row], m.lineEnd[row]);
    return this.#tail(w, CANCEL_END);
  }

  #head(at: number, length: number, start: Uint8Array, w: Writer): boolean {
    const m = this.#invite;
    if (m.lex(this.#arena.mem, at, at + length, false) !== OK) return false;
    const viaRow = m.first[VIA];
    if (!this.#via.parse(m.buf, m.valueStart[viaRow], m.valueEnd[viaRow])) return false;
    w.bytes(start);
    w.range(m.buf, m.uriStart, m.uriEnd);
    w.bytes(VERSION_VIA);
    let viaEnd = this.#via.end;
    while (CHARS[m.buf[viaEnd - 1]] & LWS) viaEnd--;
    w.range(m.buf, m.valueStart[viaRow], viaEnd);
    w.crlf();
    for (let row = m.first[ROUTE]; row >= 0; row = m.next(row))
      w.range(m.buf, m.lineStart[row], m.lineEnd[row]);
    w.bytes(MAX_FORWARDS);
    w.range(m.buf, m.lineStart[m.first[FROM]], m.lineEnd[m.first[FROM]]);
    return true;
  }

  #tail(w: Writer, end: Uint8Array): boolean {
    const m = this.#invite;
    w.range(m.buf, m.lineStart[m.first[CALL_ID]], m.lineEnd[m.first[CALL_ID]]);
    w.bytes(CSEQ);
    w.decimal(m.cseqNumber);
    w.bytes(end);
    return !w.overflow;
  }
}
