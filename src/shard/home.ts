/**
 * The served domains of a process that is registrar and authoritative proxy: REGISTER goes to registrar.ts, any other
 * request to what is registered for its AOR, or for the one device that a GRUU names. Bindings whose flow has ended
 * are removed as they are met.
 *
 * A request that must wait for the store, or that may go to several places, is parked.
 */
import type { Flows } from '../flow/flows.ts';
import { LIVE } from '../flow/flows.ts';
import type { Destination } from '../net/targets.ts';
import type { Answers } from '../proxy/answer.ts';
import type { Branch } from '../proxy/branch.ts';
import { asksTls, writeRecordRoute } from '../proxy/edge.ts';
import { ENDED, type Exchange, SENT } from '../proxy/exchange.ts';
import { Fork } from '../proxy/fork.ts';
import type { NextHop } from '../proxy/nexthop.ts';
import type { Own } from '../proxy/own.ts';
import { type Parked, Parking } from '../proxy/parked.ts';
import type { Home, RequestProxy } from '../proxy/proxy.ts';
import { Silent } from '../proxy/silent.ts';
import { targetGroups } from '../proxy/targets.ts';
import type { ProxyTransactions } from '../proxy/transactions.ts';
import { type Binding, flowKey } from '../registrar/binding.ts';
import type { Gruu, Gruus } from '../registrar/gruu.ts';
import { alongRoute } from '../registrar/gruu-route.ts';
import type { LocationStore, StoreResult } from '../registrar/store.ts';
import type { Clock } from '../shared/clock.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { isSecured, TRANSPORT_UDP } from '../shared/flow-record.ts';
import { UriView } from '../wire/address.ts';
import { latin1, parseDecimal } from '../wire/chars.ts';
import { hasToTag } from '../wire/compose.ts';
import { firstValue } from '../wire/fields.ts';
import { parseNameAddr } from '../wire/nameaddr.ts';
import { CONTACT, formsDialog, INVITE, MAX_BREADTH, RECORD_ROUTE, ROUTE, VIA } from '../wire/names.ts';
import { canonicalAor, formatUri, parseSipUri } from '../wire/uri.ts';
import type { Locations } from './locations.ts';
import type { LocalRegistrar } from './registrar.ts';

/** RFC 5393 5.3.3: the default and the most. */
const MOST_BREADTH = 60;

/** What `#aim` found. */
const NOWHERE = 0;
const DOWN = 1;
const ONWARD = 2;
/** the request has been answered */
const ANSWERED = 3;

/** What a look-up came to: where the request may go, best first, or the status that refuses it. */
type Found = readonly Binding[] | 404 | 503;

interface PlaceInHand {
  binding: Binding;
  target: number;
  breadth: number;
  outcome: number;
}

export interface HomeParts {
  registrar: LocalRegistrar;
  exchange: Exchange;
  proxy: RequestProxy;
  answers: Answers;
  flows: Flows;
  own: Own;
  nextHop: NextHop;
  branch: Branch;
  store: LocationStore;
  counters: Counters;
  clock: Clock;
  /** where names are asked about */
  locations?: Pick<Locations, 'wait'>;
  /** Is this AOR somebody's? Undefined: that is not known here. */
  knows?: ((aor: string) => boolean | undefined) | undefined;
  gruus: Gruus;
}

export class LocalHome implements Home {
  readonly #p: HomeParts;
  readonly #uri = new UriView();
  /** the Request-URI in hand */
  #target = this.#uri;
  readonly #parking: Parking;
  /** the look-up's answer for the request that is being handled again */
  #found: Found | undefined;

  readonly #silent = new Silent();
  readonly #hopOf = (binding: Binding): string => this.#hop(binding);
  /** the place of a fork that the request in the exchange is being sent to */
  #place: PlaceInHand | undefined;
  /** the flow that `#aim` found */
  #slot = -1;
  #generation = 0;
  #listener = 0;

  constructor(parts: HomeParts) {
    this.#p = parts;
    this.#parking = new Parking(parts.exchange, parts.counters);
  }

  register(count: number): void {
    this.#p.registrar.register(count);
  }

  // ---- requests to an AOR

  request(target: UriView): void {
    const { exchange, answers, store, clock, gruus } = this.#p;
    this.#target = target;
    if (this.#place) {
      this.#place.outcome = this.#sendPlace(this.#place);
      return;
    }
    const found = this.#found;
    this.#found = undefined;
    if (found) {
      this.#deliver(found);
      return;
    }
    const m = exchange.message;
    if (target.userStart === target.userEnd) {
      answers.send(404, 'Not Found');
      return;
    }
    const uri = parseSipUri(latin1(m.buf, target.start, target.end));
    const gruu = uri && target.gr ? gruus.read(uri) : undefined;
    if (!uri || (target.gr && !gruu)) {
      this.#deliver(404); // 5627 6.1
      return;
    }
    let parked: Parked | undefined;
    let now: StoreResult | undefined;
    store.lookup(gruu ? gruu.aor : canonicalAor(uri), Math.floor(clock.wall()), (result) => {
      if (parked) this.#again(parked, this.#places(result, gruu));
      else now = result;
    });
    // LMDB answers at once: the exchange still stands as it was.
    if (now) this.#deliver(this.#places(now, gruu));
    else parked = this.#parking.park();
  }

  #places(result: StoreResult, gruu: Gruu | undefined): Found {
    if (result.status !== 'ok') return 503;
    if (!gruu) return result.bindings;
    const named = this.#p.gruus.choose(gruu, result.bindings);
    // 5627 5.3: a public one stays valid without a contact, a temporary one does not
    return named.length === 0 && gruu.epoch !== undefined ? 404 : named;
  }

  #again(parked: Parked, found: Found): void {
    this.#parking.resume(parked, () => {
      this.#found = found;
      this.#p.proxy.routeAgain();
      this.#found = undefined;
    });
  }

  /** 3261 16.5: of a user that nobody knows, 404; of one who is not there, 480 (AP-7-11). */
  #refuse(status: 404 | 480 | 503): void {
    const { answers, knows } = this.#p;
    if (status === 503) answers.send(503, 'Service Unavailable', ['Retry-After: 5']);
    else if (status === 404 || knows?.(this.#aor()) === false) answers.send(404, 'Not Found');
    else answers.send(480, 'Temporarily Unavailable');
  }

  /** To what is registered: in several places by transactions, without them to the best that can be reached. */
  #deliver(bindings: Found): void {
    const { exchange, proxy } = this.#p;
    const { transactions } = proxy;
    if (proxy.isRouted) {
      this.#alongRoute(bindings);
      return;
    }
    if (typeof bindings === 'number') {
      this.#refuse(bindings);
      return;
    }
    if (bindings.length === 0) {
      this.#refuse(480);
      return;
    }
    if (this.#asks(bindings)) return;
    if (transactions && exchange.source.transaction >= 0) {
      this.#fork(bindings, transactions);
      return;
    }
    for (const binding of bindings) {
      const way = this.#aim(binding);
      if (way === NOWHERE) continue;
      if (way === ANSWERED) return;
      if (way === DOWN) proxy.downFlow(this.#slot, this.#generation, this.#listener);
      else proxy.toNextHop();
      return;
    }
    this.#refuse(480);
  }

  /**
   * A GRUU in a dialog (5627 6.1): the Route that is left leads to the device, the stored Path is not added. Anybody
   * may use it as far as the registration itself leads there. Down a flow the request goes even if the GRUU names
   * nobody any more: its token is the authorisation.
   */
  #alongRoute(found: Found): void {
    const { proxy, flows } = this.#p;
    const { table } = flows;
    const slot = proxy.routedSlot;
    const datagram = slot >= 0 && table.transport(slot) === TRANSPORT_UDP;
    const flow = slot < 0 ? '' : flowKey(slot, table.generation(slot), flows.incarnation, datagram);
    const along = typeof found === 'number' ? undefined : alongRoute(found, flow, proxy.nextRoute());
    if (along) proxy.followTo(requestUri(along.binding.contact), along.leads);
    else if (slot >= 0) proxy.follow();
    else this.#refuse(typeof found === 'number' ? found : 480);
  }

  /** Next hops by name that are not known yet. One that is reached by its flow is not asked about (3263-x-01). */
  #asks(bindings: readonly Binding[]): boolean {
    const { locations, nextHop, own, proxy } = this.#p;
    let wanted: Destination[] | undefined;
    for (const binding of bindings) {
      if (!locations || binding.flow !== undefined) continue;
      const text = (binding.path[0] && parseNameAddr(binding.path[0])?.uri) || binding.contact;
      const bytes = Buffer.from(text, 'latin1');
      if (!this.#uri.parse(bytes, 0, bytes.length) || own.isSelf(bytes, this.#uri)) continue;
      if (nextHop.toUri(bytes, this.#uri) || !nextHop.wanted) continue;
      wanted ??= [];
      wanted.push(nextHop.wanted);
    }
    if (!wanted || !locations) return false;
    return locations.wait(wanted, () => {
      this.#found = bindings;
      proxy.routeAgain();
      this.#found = undefined;
    });
  }

  #fork(bindings: readonly Binding[], transactions: ProxyTransactions): void {
    const { exchange, answers, branch, counters, clock, proxy } = this.#p;
    const m = exchange.message;
    const row = m.first[MAX_BREADTH];
    const wanted = row < 0 ? MOST_BREADTH : parseDecimal(m.buf, m.valueStart[row], m.valueEnd[row]);
    if (wanted <= 0) {
      if (wanted < 0) answers.send(400, 'Bad Max-Breadth');
      else answers.send(440, 'Max-Breadth Exceeded');
      return;
    }
    if (branch.isLoop(m)) {
      counters.inc(Counter.loopsDetected);
      answers.send(482, 'Loop Detected');
      return;
    }
    const aor = this.#aor();
    const parts = {
      exchange,
      transactions,
      parking: this.#parking,
      answers,
      send: (binding: Binding, target: number, breadth: number) => this.#launch(binding, target, breadth),
      stale: (binding: Binding) => this.#p.store.remove(aor, binding.key, binding.order), // AP-7-10
      silent: (binding: Binding) => {
        const hop = this.#hop(binding);
        if (hop !== '') this.#silent.note(hop, clock.now());
      },
      heard: (binding: Binding) => {
        if (!this.#silent.isEmpty) this.#silent.heard(this.#hop(binding));
      },
    };
    if (m.method === INVITE) proxy.callSeen();
    const breadth = Math.min(wanted, MOST_BREADTH);
    const places = this.#silent.demote(bindings, this.#hopOf, clock.now());
    new Fork(parts, this.#parking.park(), m.method, targetGroups(places), breadth).start();
  }

  /** One place of a fork: the parked request is in the exchange. */
  #launch(binding: Binding, target: number, breadth: number): number {
    this.#place = { binding, target, breadth, outcome: ENDED };
    this.#p.proxy.route();
    const { outcome } = this.#place ?? { outcome: ENDED };
    this.#place = undefined;
    if (outcome === SENT) this.#p.counters.inc(Counter.forwardedRequests);
    return outcome;
  }

  #sendPlace(place: PlaceInHand): number {
    const { exchange, proxy, nextHop } = this.#p;
    const { message: m, patch } = exchange;
    const { transactions } = proxy;
    const way = this.#aim(place.binding);
    if (!transactions || way === NOWHERE || way === ANSWERED) return ENDED;
    const row = m.first[MAX_BREADTH];
    const w =
      row < 0 ? patch.insert(m.lineStart[m.first[VIA]]) : patch.replace(m.lineStart[row], m.lineEnd[row]);
    w.text(`Max-Breadth: ${place.breadth}\r\n`); // 5393 5.3.3
    if (way === DOWN) return transactions.toFlow(this.#slot, this.#generation, this.#listener, place.target);
    nextHop.suit(m.end - m.start + 250);
    return transactions.toHop(nextHop, place.target);
  }

  /** The edge that a binding is reached through; a flow of ours stands for itself, and is '' when it has ended. */
  #hop(binding: Binding): string {
    const { own, flows, exchange } = this.#p;
    const text = (binding.path[0] && parseNameAddr(binding.path[0])?.uri) || binding.contact;
    const bytes = Buffer.from(text, 'latin1');
    const uri = this.#uri;
    if (!uri.parse(bytes, 0, bytes.length) || !own.isSelf(bytes, uri))
      return text.slice(text.indexOf('@') + 1);
    return flows.resolve(bytes, uri.userStart, uri.userEnd, exchange.ds) === LIVE ? text : '';
  }

  #aor(): string {
    const { exchange, gruus } = this.#p;
    const uri = parseSipUri(latin1(exchange.message.buf, this.#target.start, this.#target.end));
    return uri ? (gruus.read(uri)?.aor ?? canonicalAor(uri)) : '';
  }

  /** Edits the request for a binding. DOWN: the flow is in #slot; ONWARD: `nextHop` is set. */
  #aim(binding: Binding): number {
    const { flows, exchange, own, store, nextHop } = this.#p;
    const { message: m, source } = exchange;
    const forms = formsDialog(m.method) && !hasToTag(m);
    const top = binding.path[0] && parseNameAddr(binding.path[0])?.uri;
    const bytes = Buffer.from(top || binding.contact, 'latin1');
    const uri = this.#uri;
    if (!uri.parse(bytes, 0, bytes.length)) return NOWHERE;
    const self = own.isSelf(bytes, uri);
    // RFC 5630 5.3: a request to a sips URI goes to a sips Contact, or nowhere
    const needsTls = asksTls(m);
    if (needsTls && !/^sips:/i.test(binding.contact)) return NOWHERE;
    if (top && self) {
      if (flows.resolve(bytes, uri.userStart, uri.userEnd, exchange.ds) !== LIVE) {
        // AP-7-10: the flow has ended; a registration made meanwhile has another order and stays
        store.remove(this.#aor(), binding.key, binding.order);
        return NOWHERE;
      }
      if (needsTls && !isSecured(flows.table.transport(flows.slot))) return NOWHERE;
      this.#slot = flows.slot;
      this.#generation = flows.generation;
      this.#listener = flows.table.listener(flows.slot);
      this.#retarget(binding, 1);
      if (forms) {
        if (uri.ob || hasGruu(binding)) this.#recordCallee();
        if (!this.#recordCaller(source.listener, false)) return ANSWERED;
      }
      return DOWN;
    }
    // a Contact that is ourselves would be a loop
    if (self || !nextHop.toUri(bytes, uri) || (needsTls && !isSecured(nextHop.transport))) return NOWHERE;
    this.#retarget(binding, 0);
    const must = top !== undefined && hasGruu(binding); // 5627 6.2, terminating
    if (forms && !this.#recordCaller(nextHop.listener, must)) return ANSWERED;
    return ONWARD;
  }

  /**
   * Record-Route towards the caller, if he is reached by his flow (5626 5.3.2) or `must`: from a proxy that is
   * trusted and records itself, our own URI; else the flow that the request came on. False: answered.
   */
  #recordCaller(upper: number, must: boolean): boolean {
    const { exchange, proxy } = this.#p;
    const { message: m, source } = exchange;
    const isProxied = source.trusted && m.has(RECORD_ROUTE);
    const self = must ? isProxied || source.fromUpstream : isProxied && this.isFromGruu(); // 5627 6.2, originating
    if (self) proxy.recordSelf(upper);
    return self || source.fromUpstream || proxy.recordCaller(upper, must);
  }

  isFromGruu(): boolean {
    return this.#callerGruu() !== undefined;
  }

  usesForeignGruu(caller: string): boolean {
    const gruu = this.#callerGruu();
    return gruu !== undefined && gruu.aor !== caller;
  }

  #callerGruu(): Gruu | undefined {
    const { exchange, own, gruus } = this.#p;
    const text = firstValue(exchange.message, CONTACT) ?? '';
    const uri = /;gr\b/i.test(text) ? parseSipUri(parseNameAddr(text)?.uri ?? '') : undefined;
    return uri && own.servesHost(uri.host) ? gruus.read(uri) : undefined;
  }

  #recordCallee(): void {
    const { exchange, flows, own, proxy } = this.#p;
    flows.ensureToken(this.#slot);
    const { message: m, source } = exchange;
    const w = proxy.insertRecordRoute();
    writeRecordRoute(w, own, flows.table, this.#slot, this.#listener, source.listener, asksTls(m));
  }

  /** RFC 3261 16.5, RFC 3327 5.4: the Contact becomes the Request-URI, the rest of the Path becomes Route. */
  #retarget(binding: Binding, from: number): void {
    const { message: m, patch } = this.#p.exchange;
    patch.replace(m.uriStart, m.uriEnd).text(requestUri(binding.contact));
    if (binding.path.length > from) {
      const row = m.first[ROUTE];
      const w = patch.insert(m.lineStart[row >= 0 ? row : m.first[VIA]]);
      w.text(`Route: ${binding.path.slice(from).join(', ')}\r\n`);
    }
  }

  // ---- flows and the store

  flowEnded(slot: number, generation: number, cause?: number): void {
    const { flows, store } = this.#p;
    const datagram = flows.table.transport(slot) === TRANSPORT_UDP;
    store.flowClosed(flowKey(slot, generation, flows.incarnation, datagram), cause);
  }
}

/** A Contact URI as a Request-URI: what may not stand in one is left out (RFC 3261 16.6 step 2, 19.1.1). */
function requestUri(contact: string): string {
  if (!contact.includes('?') && !/;method=/i.test(contact)) return contact;
  const uri = parseSipUri(contact);
  if (!uri) return contact;
  const params = uri.params.filter(([name]) => name.toLowerCase() !== 'method');
  return formatUri({ ...uri, params, headers: [] });
}

/** RFC 5627 5.4: a binding with an instance-id is bound to its GRUUs, asked for or not. */
const hasGruu = (binding: Binding): boolean => binding.instance !== undefined;
