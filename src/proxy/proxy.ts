/**
 * The requests of an RFC 5626 edge: the steps of RFC 3261 16.3 to 16.6 in their order, each a named
 * method. Nothing of a request is kept here; a request down a flow finds it by the token in its Route.
 * What it is forwarded in, a transaction or a stateless branch (16.11), is decided when it is sent.
 *
 * Who may send where (DESIGN 5): a valid token in the top Route is its own authorisation, from any
 * source. Anyone else reaches the upstream or a served domain only; a Route to another host is 403. So
 * there is no open relay.
 *
 * `Home` is the registrar and location service of the served domains, where this process has one.
 */
import type { Flows } from '../flow/flows.ts';
import type { Destination } from '../net/targets.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { isSecured } from '../shared/flow-record.ts';
import { SIPS, TEL, UriView } from '../wire/address.ts';
import { ascii, latin1 } from '../wire/chars.ts';
import { hasToTag, stampVia } from '../wire/compose.ts';
import { BAD_VERSION, NO_END, NOT_SIP, OK, statusOf } from '../wire/lexer.ts';
import {
  ACK,
  CANCEL,
  formsDialog,
  INVITE,
  OPTIONS,
  PATH,
  PROXY_AUTHORIZATION,
  PROXY_REQUIRE,
  RECORD_ROUTE,
  REGISTER,
  SUPPORTED,
  VIA,
} from '../wire/names.ts';
import { eachTag, hasTag } from '../wire/tags.ts';
import { UDP, WS } from '../wire/via.ts';
import type { Writer } from '../wire/writer.ts';
import type { Answers } from './answer.ts';
import { needsFlow, viaCount, writeOwnRecordRoute, writePath, writeRecordRoute } from './edge.ts';
import { BUSY, type Exchange, type Outlet, SENT } from './exchange.ts';
import type { Forwarder } from './forward.ts';
import type { NextHop } from './nexthop.ts';
import type { Own } from './own.ts';
import { BAD_ROUTE, FLOW_ENDED, RouteInformation } from './routeinfo.ts';
import { NO_TARGET } from './targetset.ts';
import { type ProxyTransactions, TOO_LARGE, UNREACHABLE } from './transactions.ts';
import { ANY_TARGET, OTHER_HOST, type Upstream } from './upstream.ts';

const PATH_TAG = ascii('path');
const SUPPORTED_PATH = ascii('Supported: path\r\n');
const REQUIRE_PATH = ascii('Require: path\r\n');
/** Via and Path or Record-Route, in octets */
const USUALLY_ADDED = 250;
const RETRY_AFTER = ['Retry-After: 5'];
/** the next hop's name must be asked for */
const WAITS = -1;
const REASONS: Record<number, string> = {
  403: 'Forbidden',
  404: 'Not Found',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
};
const ALLOW = [
  'Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, REGISTER, MESSAGE, SUBSCRIBE, NOTIFY, REFER, UPDATE, INFO, PRACK, PUBLISH',
  'Supported: path, outbound',
];

export interface ProxyOptions {
  path: 'always' | 'strict';
  pathInner: boolean;
  /** listener whose address stands in Path; undefined: the one that the REGISTER leaves by */
  pathListener: number | undefined;
}

/** The served domains' side. Each call ends in an answer or a forward, now or later. */
export interface Home {
  /** `count`: Via values, up to 2 */
  register(count: number): void;
  /** a request to a served domain: `target` is its Request-URI; Route values are left only if it is a GRUU */
  request(target: UriView): void;
  /** the Contact of the request is a GRUU of a served domain */
  isFromGruu(): boolean;
  /** the same, and it is that of another user than this AOR: the call would turn traffic to him (RFC 5627 6.2, 10.2) */
  usesForeignGruu(caller: string): boolean;
}

/** Who calls: asked before a request goes on that no token authorises. */
export interface Callers {
  /** `served`: to a domain of ours. False: it has been answered, or comes again by `routeAgain`. */
  admits(served: boolean): boolean;
  /** Takes out of the request what was meant for us alone. */
  cutCredentials(): void;
}

/** For the log: a call was forwarded. */
export type CallSeen = () => void;

export interface ProxyParts {
  exchange: Exchange;
  outlet: Outlet;
  flows: Flows;
  own: Own;
  counters: Counters;
  answers: Answers;
  forwarder: Forwarder;
  nextHop: NextHop;
  upstream: Upstream | undefined;
  options: ProxyOptions;
}

export class RequestProxy {
  readonly #x: Exchange;
  readonly #outlet: Outlet;
  readonly #flows: Flows;
  readonly #own: Own;
  readonly #counters: Counters;
  readonly #answers: Answers;
  readonly #forwarder: Forwarder;
  readonly #nextHop: NextHop;
  readonly #upstream: Upstream | undefined;
  readonly #options: ProxyOptions;
  readonly #uri = new UriView();
  readonly #target = new UriView();
  readonly #routing: RouteInformation;
  home: Home | undefined;
  /** undefined: nobody is asked who he is */
  callers: Callers | undefined;
  /** the AOR of who has proved that he sent the request in the exchange */
  caller: string | undefined;
  /** with HOLDFAST_FORWARDING=stateful */
  transactions: ProxyTransactions | undefined;
  callSeen: CallSeen = () => {};
  /** Parks the request until this destination is known, and then runs `again` with it. False: it cannot wait. */
  ask: (destination: Destination, again: () => void) => boolean = () => false;

  /** it has not been routed before */
  #isNew = false;
  /** what `home` wrote in place of a GRUU, '' nothing */
  #contact = '';

  constructor(parts: ProxyParts) {
    this.#x = parts.exchange;
    this.#outlet = parts.outlet;
    this.#flows = parts.flows;
    this.#own = parts.own;
    this.#counters = parts.counters;
    this.#answers = parts.answers;
    this.#forwarder = parts.forwarder;
    this.#nextHop = parts.nextHop;
    this.#upstream = parts.upstream;
    this.#options = parts.options;
    this.#routing = new RouteInformation(parts.exchange, parts.flows, parts.own, this.#target);
  }

  /** Handles the request in the exchange, as lexed with this verdict. */
  request(verdict: number): void {
    const { message: m, via } = this.#x;
    if (verdict === NOT_SIP || verdict === NO_END) {
      this.#counters.inc(Counter.junk);
      return;
    }
    const viaRow = m.first[VIA];
    if (viaRow < 0 || !via.parse(m.buf, m.valueStart[viaRow], m.valueEnd[viaRow])) {
      this.#counters.inc(Counter.malformed);
      this.#answers.sendBack(400, 'Bad Via');
      return;
    }
    if (verdict !== OK) {
      this.#counters.inc(verdict === BAD_VERSION ? Counter.junk : Counter.malformed);
      const { status, reason } = statusOf(verdict);
      this.#answers.send(status, reason);
      return;
    }
    if (!this.transactions) this.#x.source.transaction = -1;
    else if (!this.transactions.admit()) return;
    this.#isNew = true;
    this.route();
    this.#isNew = false;
    this.caller = undefined;
  }

  /** Routes it again, when it had to wait: for whom it was admitted, unless it has been cancelled meanwhile. */
  routeAgain(caller?: string): void {
    if (this.transactions?.isCancelled) {
      this.refuse(487, 'Request Terminated');
      return;
    }
    this.caller = caller;
    this.route();
    this.caller = undefined;
  }

  /** The steps for a request that has been admitted; for one that forks, again for each place. */
  route(): void {
    const { message: m, via, patch } = this.#x;
    patch.begin();
    stampVia(patch, m, via, this.#x.source.remote, this.#x.source.transport >= WS);
    if (!this.#validate() || !this.#preprocess()) return;
    // RFC 5627 6.1: a GRUU becomes a Contact here, also in a dialog, whose Route leads further
    if (this.#target.gr && this.home && m.method !== REGISTER && this.#own.serves(m.buf, this.#target)) {
      if (this.#admits(true)) this.home.request(this.#target);
    } else this.follow();
  }

  /** Asks who calls, once. False: it has been answered, or comes again. */
  #admits(served: boolean): boolean {
    const isNew = this.#isNew;
    this.#isNew = false; // a fork routes it again from inside
    if (!this.callers) return true;
    if (isNew && !this.#routing.authorised && !this.callers.admits(served)) return false;
    const { message: m } = this.#x;
    if (m.has(PROXY_AUTHORIZATION)) this.callers.cutCredentials();
    const { caller, home } = this;
    if (caller !== undefined && formsDialog(m.method) && !hasToTag(m) && home?.usesForeignGruu(caller))
      return this.refuse(403, 'Forbidden');
    return true;
  }

  /** Where Route says; where the Request-URI does if no Route is left. */
  follow(): void {
    if (this.#routing.slot >= 0) this.#down();
    else this.#onward();
  }

  /** Route has a flow or a next hop for the request. */
  get isRouted(): boolean {
    return this.#routing.slot >= 0 || this.#routing.hasNext;
  }

  /** The flow that Route names, -1 none. */
  get routedSlot(): number {
    return this.#routing.slot;
  }

  /** The URI of the first Route value that goes on with the request, '' none. */
  nextRoute(): string {
    return this.#routing.nextText();
  }

  /** `follow` with a Contact in place of the GRUU. `may`: Route leads to a hop of the Contact's own Path. */
  followTo(contact: string, may: boolean): void {
    const { message: m, patch } = this.#x;
    this.#contact = contact;
    if (may) this.#routing.authorised = true;
    patch.replace(m.uriStart, m.uriEnd).text(contact);
    this.follow();
  }

  /** Answers a request of which only the head could be framed, if its Via can be read. */
  answerOnly(status: number, reason: string): void {
    const { message: m, via } = this.#x;
    const row = m.first[VIA];
    if (m.isRequest && row >= 0 && via.parse(m.buf, m.valueStart[row], m.valueEnd[row]))
      this.#answers.send(status, reason);
  }

  /** 16.3: syntax, scheme, Max-Forwards, Proxy-Require, in this order. */
  #validate(): boolean {
    const { message: m } = this.#x;
    if (!this.#target.parse(m.buf, m.uriStart, m.uriEnd)) return this.refuse(400, 'Bad Request-URI');
    if (!this.#target.isSip && this.#target.scheme !== TEL) return this.refuse(416, 'Unsupported URI Scheme');
    // 19.1.1: a Request-URI has no headers; what an escaped one would mean here, nobody may guess (4475 3.1.2.11)
    if (this.#target.isSip && this.#target.paramsEnd < m.uriEnd) return this.refuse(400, 'Bad Request-URI');
    if (m.maxForwards === 0) {
      this.#counters.inc(Counter.maxForwardsReached);
      if (m.method === OPTIONS) return this.refuse(200, 'OK', ALLOW);
      return this.refuse(483, 'Too Many Hops');
    }
    // 3261 8.2.2.3: not in CANCEL, nor in the ACK to a non-2xx
    if (m.has(PROXY_REQUIRE) && m.method !== CANCEL && m.method !== ACK) {
      const unknown: string[] = [];
      eachTag(m, PROXY_REQUIRE, (start, end) => unknown.push(latin1(m.buf, start, end)));
      if (unknown.length > 0)
        return this.refuse(420, 'Bad Extension', [`Unsupported: ${unknown.join(', ')}`]);
    }
    return true;
  }

  refuse(status: number, reason: string, headers?: readonly string[]): false {
    this.#answers.send(status, reason, headers);
    return false;
  }

  /** 16.4, and 5626 5.3: our own Route values, and the flow that one of them names. */
  #preprocess(): boolean {
    this.#contact = '';
    const status = this.#routing.read(this.home !== undefined);
    if (status === 0) return true;
    if (status === BAD_ROUTE) return this.refuse(400, 'Bad Route');
    if (status === FLOW_ENDED) return this.#flowFailed();
    this.#counters.inc(Counter.tokenTampered);
    if (this.#x.message.method === ACK) this.#counters.inc(Counter.ackDropped);
    return this.refuse(403, 'Forbidden');
  }

  #flowFailed(): false {
    this.#counters.inc(Counter.flowFailed);
    if (this.#x.message.method === ACK) this.#counters.inc(Counter.ackDropped);
    return this.refuse(430, 'Flow Failed');
  }

  /** 5626 5.3.1: down the flow that the token names, whatever the Request-URI says. */
  #down(): void {
    const { message: m, source } = this.#x;
    const { slot, generation, ob } = this.#routing;
    const flows = this.#flows;
    const { table } = flows;
    const listener = table.listener(slot);
    if (source.slot >= 0 && source.transport !== UDP) flows.hasDialog(source.slot, source.generation);
    if (ob && formsDialog(m.method) && !hasToTag(m)) {
      flows.ensureToken(slot);
      writeRecordRoute(
        this.insertRecordRoute(),
        this.#own,
        table,
        slot,
        listener,
        source.listener,
        this.#target.scheme === SIPS,
      );
    }
    this.downFlow(slot, generation, listener);
  }

  /** Forwards the patched request down a flow; 430 if it has ended. */
  downFlow(slot: number, generation: number, listener: number): void {
    // RFC 5630 5.3, 7118 §9.2: not even the last hop
    if (this.#target.scheme === SIPS && !isSecured(this.#flows.table.transport(slot))) {
      this.refuse(480, 'Temporarily Unavailable');
      return;
    }
    this.#forwarded(this.#sendDown(slot, generation, listener));
  }

  #sendDown(slot: number, generation: number, listener: number): number {
    if (this.transactions && this.#x.source.transaction >= 0)
      return this.transactions.toFlow(slot, generation, listener);
    if (!this.#forwarder.compose(listener, this.#flows.table.transport(slot) !== UDP)) return TOO_LARGE;
    return this.#outlet.toFlow(slot, generation, this.#forwarder.start, this.#forwarder.end);
  }

  #forwarded(outcome: number): void {
    switch (outcome) {
      case SENT:
        this.#counters.inc(Counter.forwardedRequests);
        if (this.#x.message.method === INVITE) this.callSeen();
        return;
      case BUSY:
        this.refuse(503, 'Service Unavailable', RETRY_AFTER);
        return;
      case TOO_LARGE:
        this.refuse(513, 'Message Too Large');
        return;
      case UNREACHABLE:
        this.refuse(500, 'Next Hop Unreachable');
        return;
      default:
        this.#flowFailed();
    }
  }

  /** On top of what stands there. */
  insertRecordRoute(): Writer {
    const { message: m, patch } = this.#x;
    const row = m.first[RECORD_ROUTE];
    return patch.insert(m.lineStart[row >= 0 ? row : m.first[VIA]]);
  }

  /** 16.5 and 16.6: to a served domain, the upstream, or the address that Route or Request-URI names. */
  #onward(): void {
    const { message: m, source } = this.#x;
    const { buf } = m;
    const target = this.#target;
    const { hasNext: hasRoute } = this.#routing;
    const served = !hasRoute && this.home !== undefined && this.#own.serves(buf, target);
    if (!hasRoute) {
      // 3261 11.2: no user part means the server itself, by its address or by a domain that it serves
      const forUs = served || this.#own.isSelf(buf, target);
      if (m.method === OPTIONS && target.userStart === target.userEnd && forUs) {
        this.refuse(200, 'OK', ALLOW);
        return;
      }
    }
    if (m.method !== REGISTER && !this.#admits(served)) return;
    if (this.home && served) {
      if (m.method === REGISTER) this.home.register(viaCount(m, this.#x.via.end));
      else this.home.request(target);
      return;
    }
    let status = this.#choose(hasRoute);
    if (status === WAITS) {
      const { wanted } = this.#nextHop;
      const { caller } = this;
      if (wanted && this.ask(wanted, () => this.routeAgain(caller))) return;
      status = 503;
    }
    // RFC 3261 26.2.2: no hop in the clear
    if (status === 0 && this.#target.scheme === SIPS && !isSecured(this.#nextHop.transport)) status = 502;
    if (status !== 0) {
      this.refuse(status, REASONS[status], status === 503 ? RETRY_AFTER : undefined);
      return;
    }
    if (hasRoute) this.#routing.strictNext(this.#contact);
    if (m.method === REGISTER) {
      if (!this.#path()) return;
    } else if (formsDialog(m.method) && !hasToTag(m)) {
      if (!source.trusted) {
        if (!this.recordCaller(this.#nextHop.listener)) return;
      } else if (m.has(RECORD_ROUTE) && this.home?.isFromGruu()) this.recordSelf(this.#nextHop.listener);
    }
    this.toNextHop();
  }

  /** Fills `nextHop`. 0, or the status that refuses. */
  #choose(hasRoute: boolean): number {
    const { message: m, source } = this.#x;
    const { buf } = m;
    const upstream = this.#upstream;
    const { authorised } = this.#routing;
    const may = source.trusted || authorised;
    // a lab on one machine, where nobody is asked who he is
    const isLab = upstream === undefined && this.callers === undefined && source.remote.isLoopback;
    if (hasRoute) {
      const uri = this.#uri;
      this.#routing.nextUri(uri);
      const slot = upstream ? upstream.match(buf, uri) : OTHER_HOST;
      if (upstream && slot !== OTHER_HOST) return this.#toUpstream(upstream, slot);
      if (!may && !isLab) return 403;
      if (this.#nextHop.toUri(buf, uri)) return 0;
      if (this.#nextHop.wanted) return WAITS;
      return upstream ? this.#toUpstream(upstream, ANY_TARGET) : this.#nowhere(502);
    }
    if (source.fromUpstream || (authorised && hasToTag(m))) {
      if (this.#nextHop.toUri(buf, this.#target)) return 0;
      if (this.#nextHop.wanted) return WAITS;
      if (source.fromUpstream) return this.#nowhere(404); // sending it back would be a loop
    }
    if (upstream) return this.#toUpstream(upstream, ANY_TARGET);
    if (!may && !isLab && this.caller === undefined) return 403;
    if (this.#nextHop.toUri(buf, this.#target)) return 0;
    return this.#nextHop.wanted ? WAITS : this.#nowhere(502);
  }

  /** The status for a next hop that is not found; 503 where the name servers are silent. */
  #nowhere(status: number): number {
    return this.#nextHop.silent ? 503 : status;
  }

  /** To one target, or to whichever this request is for. */
  #toUpstream(upstream: Upstream, slot: number): number {
    const chosen = slot === ANY_TARGET ? upstream.choose(this.#x.message) : slot;
    const target = chosen === NO_TARGET ? undefined : upstream.at(chosen);
    if (!target) return 503; // its name has not been resolved, or comes to nothing
    const movable = slot === ANY_TARGET && upstream.targets.count > 1;
    return this.#nextHop.toTarget(chosen, target, movable) ? 0 : 502;
  }

  /** 5626 5.1 and RFC 3327 5.2. False: the request has been answered. */
  #path(): boolean {
    const { message: m, source, patch } = this.#x;
    const count = viaCount(m, this.#x.via.end);
    const first = count === 1;
    // A ready-made Path counts only from those whose Path is believed (EP-5.1-10).
    const believed = source.trusted ? m.first[PATH] : -1;
    if (!source.trusted)
      for (let row = m.first[PATH]; row >= 0; row = m.next(row)) patch.cut(m.lineStart[row], m.lineEnd[row]);
    if (count > 1 && !this.#options.pathInner) return true;
    const offered = hasTag(m, SUPPORTED, PATH_TAG);
    if (!offered && this.#options.path === 'strict')
      return this.refuse(421, 'Extension Required', ['Require: path']);
    const slot = this.sourceFlow();
    if (slot < 0) return this.refuse(503, 'Service Unavailable', RETRY_AFTER);
    const w = patch.insert(m.lineStart[believed >= 0 ? believed : m.first[VIA]]);
    const listener = this.#options.pathListener ?? this.#nextHop.listener;
    writePath(w, this.#own, this.#flows.table, slot, listener, first);
    if (!offered) w.bytes(SUPPORTED_PATH);
    if (this.#options.path === 'strict') w.bytes(REQUIRE_PATH);
    return true;
  }

  /** RFC 5627 6.2, where the request has passed a proxy that is trusted: our own URI, by which it can come back. */
  recordSelf(upper: number): void {
    writeOwnRecordRoute(this.insertRecordRoute(), this.#own, upper, this.#x.source.listener);
  }

  /**
   * 5626 5.3.2: Record-Route for the flow of the client that forms a dialog; `must`: also where he could be reached
   * without. False: answered.
   */
  recordCaller(upper: number, must = false): boolean {
    const { message: m, source } = this.#x;
    if (!must && !needsFlow(m, source)) return true;
    const slot = this.sourceFlow();
    if (slot < 0) return this.refuse(503, 'Service Unavailable', RETRY_AFTER);
    writeRecordRoute(
      this.insertRecordRoute(),
      this.#own,
      this.#flows.table,
      slot,
      upper,
      source.listener,
      this.#target.scheme === SIPS,
    );
    return true;
  }

  /** The flow that the request came in on, with its token; made now for a datagram. -1: no record is free. */
  sourceFlow(): number {
    const { source, ds } = this.#x;
    const flows = this.#flows;
    if (source.slot < 0) {
      if (source.transport !== UDP) return -1;
      source.slot = flows.findOrMake(source.listener, source.remote, source.local, ds);
      if (source.slot < 0) return -1;
      source.generation = flows.table.generation(source.slot);
    }
    flows.ensureToken(source.slot);
    return source.slot;
  }

  /** Sends the patched request to `nextHop`. */
  toNextHop(): void {
    this.#forwarded(this.#sendOn());
  }

  #sendOn(): number {
    const { source, message: m } = this.#x;
    const hop = this.#nextHop;
    hop.suit(m.end - m.start + USUALLY_ADDED);
    if (this.transactions && source.transaction >= 0) return this.transactions.toHop(hop);
    const stream = hop.transport !== UDP;
    if (!this.#forwarder.compose(hop.listener, stream)) return TOO_LARGE;
    const { start, end } = this.#forwarder;
    if (stream)
      return this.#outlet.toConnection(hop.address, start, end, hop.transport, hop.host) ? SENT : UNREACHABLE;
    const local = source.listener === hop.listener ? source.local : undefined;
    this.#outlet.toDatagram(hop.listener, hop.address, local, start, end);
    return SENT;
  }
}
