/**
 * Route information preprocessing (RFC 3261 16.4, RFC 5626 5.3): values of the Route header that are ours are taken
 * out of the request in the exchange, and the flow that one of them names by its token is found. What is
 * left of Route, or the Request-URI where nothing is, says where the request goes.
 *
 * The edits stand in the patch. Nothing is answered here: `read` returns the status that refuses the request. What
 * it found is good until the next `read`.
 */
import { type Flows, FORGED, GONE } from '../flow/flows.ts';
import { UriView } from '../wire/address.ts';
import { ascii, latin1 } from '../wire/chars.ts';
import { stampVia } from '../wire/compose.ts';
import { ROUTE } from '../wire/names.ts';
import { WS } from '../wire/via.ts';
import type { Exchange } from './exchange.ts';
import type { Own } from './own.ts';
import { Routes } from './routes.ts';

/** A value cannot be read, its token is not of our making, or the flow has ended (5626 5.3). */
export const BAD_ROUTE = 400;
export const FORGED_TOKEN = 403;
export const FLOW_ENDED = 430;

const ROUTE_NAME = ascii('Route: <');

export class RouteInformation {
  /** a valid token stood in the top Route */
  authorised = false;
  /** the flow that the request goes down, -1: it goes on to a next hop */
  slot = -1;
  generation = 0;
  /** the Route URI that named it had `ob` */
  ob = false;
  readonly #x: Exchange;
  readonly #flows: Flows;
  readonly #own: Own;
  /** the Request-URI; where a strict router has sent the request, the one that it was put behind Route for */
  readonly #target: UriView;
  readonly #uri = new UriView();
  readonly #routes = new Routes();
  /** the first Route value that is not ours; how many of the last are gone (strict router before us) */
  #next = 0;
  #last = 0;

  constructor(exchange: Exchange, flows: Flows, own: Own, target: UriView) {
    this.#x = exchange;
    this.#flows = flows;
    this.#own = own;
    this.#target = target;
  }

  /** Does a Route value go on with the request? */
  get hasNext(): boolean {
    return this.#next < this.#last;
  }

  /** The URI of the first that does. */
  nextUri(into: UriView): boolean {
    return into.parse(
      this.#x.message.buf,
      this.#routes.uriStart[this.#next],
      this.#routes.uriEnd[this.#next],
    );
  }

  /** The same as text, '' none. */
  nextText(): string {
    if (!this.hasNext) return '';
    return latin1(this.#x.message.buf, this.#routes.uriStart[this.#next], this.#routes.uriEnd[this.#next]);
  }

  /** 0, or the status that refuses the request. `isHome`: the served domains are this process's own. */
  read(isHome: boolean): number {
    const { message: m, patch } = this.#x;
    const { buf } = m;
    const routes = this.#routes;
    const target = this.#target;
    this.#next = 0;
    this.slot = -1;
    this.authorised = false;
    if (!routes.parse(m, ROUTE)) return BAD_ROUTE;
    this.#last = routes.count;
    // A strict router before us: the Request-URI is what we put in Record-Route, the real one is the last Route.
    if (target.lr && target.userEnd > target.userStart && routes.count > 0 && this.#own.isSelf(buf, target)) {
      this.#last--;
      const from = routes.uriStart[this.#last];
      const to = routes.uriEnd[this.#last];
      patch.replace(m.uriStart, m.uriEnd).range(buf, from, to);
      const status = this.#ownValue(target);
      if (status !== 0) return status;
      if (!target.parse(buf, from, to)) return BAD_ROUTE;
    } else if (target.maddrStart >= 0) this.#ownMaddr();
    const uri = this.#uri;
    while (this.slot < 0 && this.#next < this.#last) {
      if (!this.nextUri(uri)) return BAD_ROUTE;
      if (!this.#own.isSelf(buf, uri) && !(isHome && this.#isServed(uri))) break;
      this.#next++;
      const status = this.#ownValue(uri);
      if (status !== 0) return status;
    }
    if (this.#next > 0 || this.#last < routes.count) routes.keep(patch, m, this.#next, this.#last);
    return 0;
  }

  /** A domain that is served here resolves to this proxy: phones name their outbound proxy so. */
  #isServed(uri: UriView): boolean {
    return uri.userStart === uri.userEnd && this.#own.serves(this.#x.message.buf, uri);
  }

  /** A maddr of ours is stripped, with port and transport. */
  #ownMaddr(): void {
    const { message: m, patch } = this.#x;
    const target = this.#target;
    if (!this.#own.isSelfHost(m.buf, target.maddrStart, target.maddrEnd, target.port)) return;
    patch.cut(target.maddrFrom, target.maddrEnd);
    if (target.transportFrom >= 0) patch.cut(target.transportFrom, target.transportEnd);
    if (target.hostPortEnd > target.hostEnd) patch.cut(target.hostEnd, target.hostPortEnd);
    target.maddrStart = target.maddrFrom = -1;
    target.port = 0;
    target.transport = 0;
    target.transportFrom = -1;
  }

  /** One Route value of ours. 0, or the status. */
  #ownValue(uri: UriView): number {
    if (uri.userStart === uri.userEnd) return 0;
    const { message: m, source, ds } = this.#x;
    const flows = this.#flows;
    const verdict = flows.resolve(m.buf, uri.userStart, uri.userEnd, ds);
    if (verdict === FORGED) return FORGED_TOKEN;
    if (verdict === GONE) return FLOW_ENDED;
    this.authorised = true;
    // 5.3: the request came in on the flow itself: outgoing
    if (flows.slot === source.slot && flows.generation === source.generation) return 0;
    this.slot = flows.slot;
    this.generation = flows.generation;
    this.ob = uri.ob;
    this.#dropTwin(uri);
    return 0;
  }

  /** The other URI of a double Record-Route: the same token once more. */
  #dropTwin(uri: UriView): void {
    if (!this.hasNext) return;
    const { buf } = this.#x.message;
    const start = uri.userStart;
    const length = uri.userEnd - start;
    const twin = this.#uri;
    if (!this.nextUri(twin)) return;
    if (!this.#own.isSelf(buf, twin) || twin.userEnd - twin.userStart !== length) return;
    for (let i = 0; i < length; i++) if (buf[twin.userStart + i] !== buf[start + i]) return;
    this.#next++;
  }

  /**
   * 16.6 step 6: the next Route has no `lr`: it becomes the Request-URI, which goes to the end of Route. `contact`:
   * what was written in the Request-URI's place, '' nothing.
   */
  strictNext(contact: string): void {
    const { message: m, source, via, patch } = this.#x;
    const { buf } = m;
    const uri = this.#uri;
    const routes = this.#routes;
    this.nextUri(uri);
    if (uri.lr) return;
    // The edits of `keep` stand already and would overlap: begin anew.
    patch.begin();
    stampVia(patch, m, via, source.remote, source.transport >= WS);
    patch.replace(m.uriStart, m.uriEnd).range(buf, uri.start, uri.end);
    routes.keep(patch, m, this.#next + 1, this.#last);
    const w = patch.insert(
      this.#next + 1 < this.#last ? m.lineEnd[m.last[ROUTE]] : m.lineStart[m.first[ROUTE]],
    );
    w.bytes(ROUTE_NAME);
    if (contact !== '') w.text(contact);
    else w.range(buf, this.#target.start, this.#target.end);
    w.byte(62);
    w.crlf();
  }
}
