/**
 * The way back (RFC 3261 16.7, 16.11): the branch in our own Via, under its MAC, names a transaction or
 * says where the response goes; our Via is removed. One whose branch is not ours, changed, of an earlier
 * life, or whose flow is gone, is dropped and counted: nobody injects responses into a flow.
 *
 * A 2xx is also what makes a flow: to a REGISTER it confirms it, with the expiry and Flow-Timer that the
 * client now knows (5626 5.4); to a dialog-forming request it keeps the flows of both ends, and so does a
 * provisional response, since a phone may ring for longer than a flow is provisional.
 */
import type { Flows } from '../flow/flows.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { AddressView, UriView } from '../wire/address.ts';
import { ascii, CHARS, DIGIT, LWS, parseDecimal } from '../wire/chars.ts';
import { composeEnd, composeHead } from '../wire/compose.ts';
import { type Message, OK } from '../wire/lexer.ts';
import {
  ACK,
  CONTACT,
  EXPIRES,
  FLOW_TIMER,
  formsDialog,
  RECORD_ROUTE,
  REGISTER,
  REQUIRE,
  VIA,
} from '../wire/names.ts';
import { hasTag } from '../wire/tags.ts';
import { UDP } from '../wire/via.ts';
import type { Branch } from './branch.ts';
import { type Exchange, type Outlet, SENT } from './exchange.ts';
import { tellKeep } from './keep.ts';
import type { Own } from './own.ts';

const OUTBOUND = ascii('outbound');
const EXPIRES_PARAM = ascii('expires');
const FLOW_TIMER_NAME = ascii('Flow-Timer: ');
const CONTENT_LENGTH = ascii('Content-Length: ');
const TAG = new Uint8Array(8);
/** no flow is kept longer than a week on the word of one response */
const LONGEST_S = 604_800;
const STATUS_500 = ascii('SIP/2.0 500 Server Internal Error');

/** A registration passed that confirmed this flow: for the log. */
export type RegistrationSeen = (slot: number, expires: number, outbound: boolean) => void;

/** The transactions of this shard, for responses and requests whose branch is one of theirs. */
export interface TransactionUser {
  /** the response in the exchange; the branch object names the transaction */
  response(): void;
  /** the request `[start, end)` could not be written; the branch object names its transaction */
  undelivered(start: number, end: number, status: number): void;
}

export class Responses {
  readonly #x: Exchange;
  readonly #outlet: Outlet;
  readonly #flows: Flows;
  readonly #branch: Branch;
  readonly #counters: Counters;
  readonly #flowTimer: number;
  readonly #contact = new AddressView();
  readonly #uri = new UriView();
  /** who we are, to know whether we stand in a route set */
  own: Own | undefined;
  registrationSeen: RegistrationSeen = () => {};
  user: TransactionUser | undefined;
  /** header lines that go into the response that is composed next */
  extra = '';
  /** the range that was composed last */
  start = 0;
  end = 0;

  constructor(
    exchange: Exchange,
    outlet: Outlet,
    flows: Flows,
    branch: Branch,
    counters: Counters,
    flowTimer: number,
  ) {
    this.#x = exchange;
    this.#outlet = outlet;
    this.#flows = flows;
    this.#branch = branch;
    this.#counters = counters;
    this.#flowTimer = flowTimer;
  }

  /** Handles the response in the exchange, as lexed with this verdict. */
  response(verdict: number): void {
    const { message: m } = this.#x;
    if (verdict !== OK) {
      this.#counters.inc(Counter.malformed);
      return;
    }
    if (!this.#ours()) return;
    if (this.#branch.transaction >= 0) {
      if (this.user) this.user.response();
      else this.#counters.inc(Counter.strayResponses);
      return;
    }
    if (!this.compose(m.status)) return;
    if (this.#deliver()) this.#counters.inc(Counter.forwardedResponses);
    else this.#counters.inc(Counter.strayResponses);
  }

  /**
   * Writes the response in the exchange without our Via, for the flow or destination that stands in the
   * branch object; `status` may be another one (16.7 step 6: a 503 goes on as 500). `wayBack`: its flow is gone,
   * and it leaves over a new connection. False: dropped.
   */
  compose(status: number, wayBack = false): boolean {
    const { message: m, patch, out } = this.#x;
    const branch = this.#branch;
    const { table } = this.#flows;
    if (!wayBack && !branch.hasDestination && !table.isLive(branch.slot, branch.generation)) {
      this.#counters.inc(Counter.strayResponses);
      return false;
    }
    patch.begin();
    const ownEnd = this.#cutOwnVia();
    if (ownEnd < 0) {
      this.#counters.inc(Counter.strayResponses); // no Via below ours: we sent no such request
      return false;
    }
    if (status !== m.status) {
      const w = patch.replace(m.start, m.lineStart[0] - 2);
      w.bytes(STATUS_500);
    } else {
      const told = tellKeep(m, patch, ownEnd, this.#keepSeconds());
      if (m.status > 100 && m.status < 300) this.#success(ownEnd, told);
    }
    if (
      m.contentLength < 0 &&
      (wayBack || (!branch.hasDestination && table.transport(branch.slot) !== UDP))
    ) {
      const w = patch.insert(m.bodyStart - 2);
      w.bytes(CONTENT_LENGTH);
      w.decimal(m.end - m.bodyStart);
      w.crlf();
    }
    if (this.extra !== '') patch.insert(m.bodyStart - 2).text(this.extra);
    this.start = this.#x.openOut();
    if (!patch.apply(m.start, m.end, out)) {
      this.#counters.inc(Counter.tooLarge);
      return false;
    }
    this.end = this.#x.keepOut();
    return true;
  }

  /** Is the top Via ours, with a branch that we made? Then the branch says where to. */
  #ours(): boolean {
    const { message: m, via } = this.#x;
    const row = m.first[VIA];
    if (row < 0 || !via.parse(m.buf, m.valueStart[row], m.valueEnd[row])) {
      this.#counters.inc(Counter.malformed);
      return false;
    }
    if (via.branchStart < 0 || !this.#branch.read(m.buf, via.branchStart, via.branchEnd)) {
      this.#counters.inc(Counter.badBranch);
      return false;
    }
    return true;
  }

  /** Where our value ends; -1 if it is the only one. */
  #cutOwnVia(): number {
    const { message: m, via, patch } = this.#x;
    const row = m.first[VIA];
    if (via.end >= m.valueEnd[row]) {
      if (m.next(row) < 0) return -1;
      patch.cut(m.lineStart[row], m.lineEnd[row]);
      return m.valueEnd[row];
    }
    let next = via.end + 1;
    while (CHARS[m.buf[next]] & LWS) next++;
    patch.cut(m.valueStart[row], next);
    return via.end;
  }

  /** What a neighbour that offers `keep` may be told: nothing if we are not on its later way (6223 4.4). */
  #keepSeconds(): number {
    const { message: m } = this.#x;
    if (m.status < 101 || m.status > 299) return 0;
    if (m.cseqMethod === REGISTER) return m.status >= 200 ? this.#flowTimer : 0;
    return formsDialog(m.cseqMethod) && this.#inRouteSet(m) ? this.#flowTimer : 0;
  }

  #inRouteSet(m: Message): boolean {
    const { own } = this;
    const address = this.#contact;
    if (!own) return false;
    for (let row = m.first[RECORD_ROUTE]; row >= 0; row = m.next(row)) {
      const limit = m.valueEnd[row];
      for (let p = m.valueStart[row]; p < limit; p = address.end + 1) {
        if (!address.parse(m.buf, p, limit)) return false;
        if (this.#uri.parse(m.buf, address.uriStart, address.uriEnd) && own.isSelf(m.buf, this.#uri))
          return true;
      }
    }
    return false;
  }

  #success(ownEnd: number, told: boolean): void {
    const { message: m, source } = this.#x;
    const branch = this.#branch;
    if (m.cseqMethod === REGISTER) {
      if (branch.slot >= 0 && m.status >= 200) this.#registered(ownEnd, told);
    } else if (formsDialog(m.cseqMethod)) {
      if (branch.slot >= 0) this.#flows.hasDialog(branch.slot, branch.generation);
      if (told && branch.slot >= 0 && m.status >= 200)
        this.#flows.table.setFlowTimer(branch.slot, this.#flowTimer);
      if (source.slot >= 0) this.#flows.hasDialog(source.slot, source.generation);
    }
  }

  /** 5626 5.4: Flow-Timer, by the element next to the client only (EP-5.4-10). */
  #registered(ownEnd: number, told: boolean): void {
    const { message: m, patch, ds } = this.#x;
    if (viasBelow(m, ownEnd) !== 1) return;
    const outbound = hasTag(m, REQUIRE, OUTBOUND);
    for (let header = m.first[FLOW_TIMER]; header >= 0; header = m.next(header))
      patch.cut(m.lineStart[header], m.lineEnd[header]);
    if (outbound) {
      const w = patch.insert(m.lineEnd[m.last[VIA]]);
      w.bytes(FLOW_TIMER_NAME);
      w.decimal(this.#flowTimer);
      w.crlf();
    }
    const { slot, generation } = this.#branch;
    const expires = this.#granted(m);
    if (this.#flows.registered(slot, generation, expires, outbound || told ? this.#flowTimer : 0, ds)) {
      this.#counters.inc(Counter.flowsConfirmed);
      this.registrationSeen(slot, expires, outbound);
    }
  }

  /** The largest expiry in the 2xx, seconds; 0 if no contact is left. */
  #granted(m: Message): number {
    const { buf } = m;
    const header = m.first[EXPIRES];
    const common = header < 0 ? -1 : deltaSeconds(buf, m.valueStart[header], m.valueEnd[header]);
    const contact = this.#contact;
    let most = 0;
    for (let row = m.first[CONTACT]; row >= 0; row = m.next(row)) {
      const limit = m.valueEnd[row];
      for (let p = m.valueStart[row]; p < limit; p = contact.end + 1) {
        if (!contact.parse(buf, p, limit)) break;
        const value = this.#expiresParam(buf);
        const expires = value >= 0 ? value : common >= 0 ? common : 3600;
        if (expires > most) most = expires;
      }
    }
    return Math.min(most, LONGEST_S);
  }

  #expiresParam(buf: Uint8Array): number {
    let p = this.#contact.findParam(buf, EXPIRES_PARAM);
    if (p < 0) return -1;
    while (CHARS[buf[p]] & LWS) p++;
    if (buf[p] !== 61) return -1;
    p++;
    while (CHARS[buf[p]] & LWS) p++;
    const start = p;
    while (buf[p] >= 48 && buf[p] <= 57) p++;
    return deltaSeconds(buf, start, p);
  }

  #deliver(): boolean {
    const branch = this.#branch;
    const { start, end } = this;
    if (!branch.hasDestination)
      return this.#outlet.toFlow(branch.slot, branch.generation, start, end) === SENT;
    this.#outlet.toDatagram(branch.listener, branch.destination, undefined, start, end);
    return true;
  }

  /**
   * Writes the answer to a request that we had rewritten already, from the rewritten bytes, as if its next
   * hop had sent it. The branch object then says whose request it was. False: it gets none.
   */
  composeInstead(start: number, end: number, status: number, reason: string): boolean {
    const { message: m, patch, out, arena } = this.#x;
    if (m.lex(arena.mem, start, end, false) !== OK || !m.isRequest || m.method === ACK || !this.#ours())
      return false;
    patch.begin();
    if (this.#cutOwnVia() < 0) return false;
    this.start = this.#x.openOut();
    if (status > 100) this.#branch.tag(m, this.#x.via, TAG);
    composeHead(out, m, status, ascii(reason), patch, status > 100 ? TAG : undefined);
    composeEnd(out);
    if (out.overflow) return false;
    this.end = this.#x.keepOut();
    return true;
  }

  /** A rewritten request could not be written: its flow's shard says so, or its connection never came up. */
  undelivered(start: number, end: number, status: number, reason: string): void {
    if (!this.composeInstead(start, end, status, reason)) return;
    if (this.#branch.transaction >= 0) this.user?.undelivered(start, end, status);
    else this.#deliver();
  }
}

/** Via values below ours, counted up to 2. */
function viasBelow(m: Message, ownEnd: number): number {
  const row = m.first[VIA];
  let count = 0;
  let p = ownEnd;
  for (let i = row; i >= 0; i = m.next(i)) {
    const end = m.valueEnd[i];
    if (i !== row) count++;
    else if (p < end) count++; // the comma behind our value
    if (p < m.valueStart[i]) p = m.valueStart[i];
    else if (i === row && p < end) p++;
    for (; p < end; p++) if (m.buf[p] === 44) count++;
    if (count > 1) return 2;
  }
  return count;
}

/** RFC 3261 20.19: digits without limit; more than we count in is the longest time. -1: not a number. */
function deltaSeconds(buf: Uint8Array, start: number, end: number): number {
  const value = parseDecimal(buf, start, end);
  if (value >= 0 || start >= end) return value;
  for (let i = start; i < end; i++) if (!(CHARS[buf[i]] & DIGIT)) return -1;
  return LONGEST_S;
}
