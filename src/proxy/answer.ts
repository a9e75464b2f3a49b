/**
 * Responses that this element makes itself: composed from the request in hand (or from a request that
 * was already rewritten and could not be written), sent back by the rules of RFC 3261 18.2.2 and
 * RFC 3581 section 4. A response to ACK is never made.
 */
import type { Endpoint } from '../net/endpoint.ts';
import { Endpoint as Address } from '../net/endpoint.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { ascii } from '../wire/chars.ts';
import { composeEnd, composeHead, stampVia } from '../wire/compose.ts';
import type { Message } from '../wire/lexer.ts';
import { ACK, REGISTER, VIA } from '../wire/names.ts';
import { UDP, type Via, WS } from '../wire/via.ts';
import type { Branch } from './branch.ts';
import type { Exchange, Outlet, Source } from './exchange.ts';

const reasons = new Map<string, Uint8Array>();
const TO_TAG = new Uint8Array(8);
const UNHASHED_TAG = ascii('holdfast');
export const DEFAULT_PORT = 5060;

const bytesOf = (reason: string): Uint8Array => {
  let bytes = reasons.get(reason);
  if (!bytes) {
    bytes = ascii(reason);
    if (reasons.size < 256) reasons.set(reason, bytes);
  }
  return bytes;
};

/** An answer for the server transaction of the request in hand: it sends and keeps it. */
export type TransactionAnswer = (status: number, start: number, end: number) => void;

export class Answers {
  readonly #exchange: Exchange;
  readonly #outlet: Outlet;
  readonly #branch: Branch;
  readonly #counters: Counters;
  readonly #destination = new Address();
  /** RFC 3581: answer every client where it sent from, asked or not */
  readonly #forceRport: boolean;

  transaction: TransactionAnswer | undefined;
  /** seconds; what a client that offers `keep` is told */
  flowTimer = 120;

  constructor(exchange: Exchange, outlet: Outlet, branch: Branch, counters: Counters, forceRport: boolean) {
    this.#exchange = exchange;
    this.#outlet = outlet;
    this.#branch = branch;
    this.#counters = counters;
    this.#forceRport = forceRport;
  }

  /** Answers the request in hand. `headers` are whole lines without CRLF, one char an octet. */
  send(status: number, reason: string, headers?: readonly string[]): void {
    const { message: m, via, source, patch, out } = this.#exchange;
    if (m.method === ACK || m.first[VIA] < 0) return;
    const start = this.#exchange.openOut();
    patch.begin();
    stampVia(patch, m, via, source.remote, source.transport >= WS);
    if (via.keepAt >= 0) this.#tellKeep(m.method === REGISTER && status >= 200 && status < 300);
    this.#branch.tag(m, via, TO_TAG);
    composeHead(out, m, status, bytesOf(reason), patch, status > 100 ? TO_TAG : undefined);
    if (headers) {
      for (const header of headers) {
        out.text(header);
        out.crlf();
      }
    }
    composeEnd(out);
    if (source.transaction >= 0 && this.transaction) {
      if (!out.overflow) this.transaction(status, start, this.#exchange.keepOut());
      return;
    }
    this.#leave(start, source.transport === UDP ? this.destination(m, via, source) : source.remote);
  }

  /**
   * Answers a request whose Via cannot be read (RFC 4475 3.1.2.1): with its Via as it stands, to where the
   * request came from.
   */
  sendBack(status: number, reason: string): void {
    const { message: m, source, out } = this.#exchange;
    if (m.method === ACK || m.first[VIA] < 0) return;
    const start = this.#exchange.openOut();
    composeHead(out, m, status, bytesOf(reason), undefined, UNHASHED_TAG);
    composeEnd(out);
    this.#leave(start, source.remote);
  }

  /** RFC 6223 4.4: only a registration here makes us the next hop of later requests. */
  #tellKeep(registered: boolean): void {
    const { via, patch } = this.#exchange;
    if (registered) {
      const w = patch.replace(via.keepAt, via.keepEnd);
      w.byte(61);
      w.decimal(this.flowTimer);
    } else if (via.keepEnd > via.keepAt) patch.cut(via.keepAt, via.keepEnd);
  }

  #leave(start: number, to: Endpoint): void {
    const { source, out } = this.#exchange;
    if (out.overflow) {
      this.#counters.inc(Counter.tooLarge);
      return;
    }
    const end = this.#exchange.keepOut();
    if (source.transport === UDP) this.#outlet.toDatagram(source.listener, to, source.local, start, end);
    else this.#outlet.toFlow(source.slot, source.generation, start, end);
  }

  /** Where a response to a datagram goes (RFC 3261 18.2.2, RFC 3581 4). */
  destination(m: Message, via: Via, source: Source): Endpoint {
    const to = this.#destination.copy(source.remote);
    if (via.maddrStart >= 0) {
      let host = '';
      for (let i = via.maddrStart; i < via.maddrEnd; i++) host += String.fromCharCode(m.buf[i]);
      const port = via.port || DEFAULT_PORT;
      // A maddr that is a name, or of another family than the listener, cannot be reached from it.
      const parsed = Address.parse(host, port);
      if (parsed && parsed.family === source.remote.family) return to.copy(parsed);
    }
    if (via.rportFrom < 0 && !this.#forceRport) to.port = via.port || DEFAULT_PORT;
    return to;
  }
}
