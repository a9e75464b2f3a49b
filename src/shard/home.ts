/**
 * The served domains of a process that is registrar and authoritative proxy, first form: REGISTER goes
 * to the location store, any other request down the best binding of its AOR (highest q, then newest).
 * Bindings whose flow has ended are removed as they are met.
 *
 * A message that must wait for the store is parked as a copy; when the answer comes it is lexed again
 * where it stood, so nothing else of the exchange has to be kept.
 */
import type { Flows } from '../flow/flows.ts';
import { LIVE } from '../flow/flows.ts';
import type { Answers } from '../proxy/answer.ts';
import { pathValue, writeRecordRoute } from '../proxy/edge.ts';
import { type Exchange, Source } from '../proxy/exchange.ts';
import type { NextHop } from '../proxy/nexthop.ts';
import type { Own } from '../proxy/own.ts';
import type { Home, StatelessProxy } from '../proxy/proxy.ts';
import { answerRegister } from '../registrar/answer.ts';
import { type Binding, flowKey } from '../registrar/binding.ts';
import { decideRegister, type RegisterDecision, type RegisterPolicy } from '../registrar/register.ts';
import type { LocationStore, StoreResult } from '../registrar/store.ts';
import type { Clock } from '../shared/clock.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { TRANSPORT_UDP } from '../shared/flow-record.ts';
import { UriView } from '../wire/address.ts';
import { latin1 } from '../wire/chars.ts';
import { hasToTag } from '../wire/compose.ts';
import type { Message } from '../wire/lexer.ts';
import { parseNameAddr } from '../wire/nameaddr.ts';
import {
  CALL_ID,
  CONTACT,
  EXPIRES,
  formsDialog,
  PATH,
  REQUIRE,
  ROUTE,
  SUPPORTED,
  TO,
  USER_AGENT,
  VIA,
} from '../wire/names.ts';
import { canonicalAor, parseSipUri, type SipUri } from '../wire/uri.ts';

/** What waits for the store. */
interface Parked {
  bytes: Buffer;
  source: Source;
}

export interface HomeParts {
  exchange: Exchange;
  proxy: StatelessProxy;
  answers: Answers;
  flows: Flows;
  own: Own;
  nextHop: NextHop;
  store: LocationStore;
  counters: Counters;
  clock: Clock;
  policy: RegisterPolicy;
  coreListener: number;
  /** seconds */
  flowTimer: number;
  /** a flow was confirmed by a registration here */
  registrationSeen: (slot: number, expires: number, outbound: boolean) => void;
}

export class LocalHome implements Home {
  readonly #p: HomeParts;
  readonly #uri = new UriView();
  /** the look-up's answer for the request that is being handled again */
  #found: readonly Binding[] | undefined;

  constructor(parts: HomeParts) {
    this.#p = parts;
  }

  // ---- REGISTER

  register(count: number): void {
    const { exchange, proxy, answers, flows, own, counters, clock, policy, store } = this.#p;
    const { message: m, source } = exchange;
    const to = toUri(m);
    if (!to) {
      answers.send(400, 'Bad To');
      return;
    }
    // 10.3 step 5: an address-of-record of another domain, or none at all, is not ours to bind
    if (!own.servesHost(to.host) || !to.user) {
      answers.send(404, 'Not Found');
      return;
    }
    const aor = canonicalAor(to);
    const slot = proxy.sourceFlow();
    if (slot < 0) {
      answers.send(503, 'Service Unavailable', ['Retry-After: 5']);
      return;
    }
    const first = count === 1;
    const datagram = source.transport === TRANSPORT_UDP;
    const expires = value(m, EXPIRES);
    const userAgent = value(m, USER_AGENT);
    const decision = decideRegister(
      {
        aor,
        contacts: values(m, CONTACT),
        path: values(m, PATH),
        supported: values(m, SUPPORTED),
        require: values(m, REQUIRE),
        viaCount: count,
        callId: value(m, CALL_ID) ?? '',
        cseq: m.cseqNumber,
        now: Math.floor(clock.wall()),
        ...(expires !== undefined && { expires }),
        ...(userAgent !== undefined && { userAgent: userAgent.slice(0, 128) }),
        // A trusted edge's Path leads back through it; anyone else is reached over the flow that he opened.
        ...(!(source.trusted && count > 1) && {
          localPath: pathValue(own, flows.table, slot, this.#p.coreListener, first),
          flowKey: flowKey(slot, source.generation, flows.incarnation, datagram),
        }),
      },
      policy,
    );
    if (decision.kind === 'reject') {
      answers.send(decision.status, decision.reason, decision.headers);
      return;
    }
    counters.inc(Counter.registrations);
    const parked = this.#park();
    const done = (result: StoreResult) => this.#resume(parked, () => this.#answer(decision, result, first));
    if (decision.kind === 'update') store.update(decision.op, done);
    else store.lookup(decision.aor, decision.now, done);
  }

  #answer(
    decision: Exclude<RegisterDecision, { kind: 'reject' }>,
    result: StoreResult,
    first: boolean,
  ): void {
    const { answers, exchange, flows, flowTimer } = this.#p;
    const { source } = exchange;
    const { status, reason, headers } = answerRegister(decision, result);
    if (status === 200 && decision.kind === 'update') {
      const granted = decision.op.contacts.reduce((most, c) => Math.max(most, c.expires), 0);
      // 5626 §5.4: the element next to the client says how long it waits
      const timer = first && decision.requireOutbound ? flowTimer : 0;
      if (timer > 0) headers.push(`Flow-Timer: ${timer}`);
      if (flows.registered(source.slot, source.generation, granted, timer, exchange.ds) && granted > 0)
        this.#p.registrationSeen(source.slot, granted, timer > 0);
    }
    answers.send(status, reason, headers);
  }

  // ---- requests to an AOR

  request(target: UriView): void {
    const { exchange, answers, store, clock } = this.#p;
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
    if (!uri) {
      answers.send(404, 'Not Found');
      return;
    }
    let parked: Parked | undefined;
    let now: StoreResult | undefined;
    store.lookup(canonicalAor(uri), Math.floor(clock.wall()), (result) => {
      if (parked) this.#again(parked, result);
      else now = result;
    });
    // LMDB answers at once: the exchange still stands as it was.
    if (now) this.#withResult(now);
    else parked = this.#park();
  }

  #withResult(result: StoreResult): void {
    if (result.status === 'ok') this.#deliver(result.bindings);
    else this.#p.answers.send(503, 'Service Unavailable', ['Retry-After: 5']);
  }

  #again(parked: Parked, result: StoreResult): void {
    this.#resume(parked, () => {
      if (result.status !== 'ok') {
        this.#p.answers.send(503, 'Service Unavailable', ['Retry-After: 5']);
        return;
      }
      this.#found = result.bindings;
      this.#p.proxy.route();
      this.#found = undefined;
    });
  }

  /** Down the best binding that can be reached; 480 if there is none (AP-7-11). */
  #deliver(bindings: readonly Binding[]): void {
    const { flows, exchange, own, store, answers, nextHop } = this.#p;
    for (const binding of bindings) {
      const top = binding.path[0] && parseNameAddr(binding.path[0])?.uri;
      const bytes = Buffer.from(top || binding.contact, 'latin1');
      const uri = this.#uri;
      if (!uri.parse(bytes, 0, bytes.length)) continue;
      if (top && own.isSelf(bytes, uri)) {
        if (flows.resolve(bytes, uri.userStart, uri.userEnd, exchange.ds) === LIVE) {
          this.#downBinding(binding, uri.ob);
          return;
        }
        // AP-7-10: the flow has ended; a registration made meanwhile has another order and stays
        store.remove(this.#aor(), binding.key, binding.order);
        continue;
      }
      if (own.isSelf(bytes, uri) || !nextHop.toUri(bytes, uri)) continue;
      this.#retarget(binding, 0);
      if (
        formsDialog(exchange.message.method) &&
        !hasToTag(exchange.message) &&
        !exchange.source.fromUpstream
      )
        if (!this.#p.proxy.recordCaller(nextHop.listener)) return;
      this.#p.proxy.toNextHop();
      return;
    }
    answers.send(480, 'Temporarily Unavailable');
  }

  #aor(): string {
    const m = this.#p.exchange.message;
    const uri = parseSipUri(latin1(m.buf, m.uriStart, m.uriEnd));
    return uri ? canonicalAor(uri) : '';
  }

  #downBinding(binding: Binding, ob: boolean): void {
    const { flows, exchange, own, proxy } = this.#p;
    const { message: m, source } = exchange;
    const { slot, generation, table } = flows;
    const listener = table.listener(slot);
    this.#retarget(binding, 1);
    if (formsDialog(m.method) && !hasToTag(m)) {
      if (ob) {
        flows.ensureToken(slot);
        writeRecordRoute(proxy.insertRecordRoute(), own, table, slot, listener, listener, false);
      }
      if (!source.fromUpstream && !proxy.recordCaller(source.listener)) return;
    }
    proxy.downFlow(slot, generation, listener);
  }

  /** RFC 3261 16.5, RFC 3327 5.4: the Contact becomes the Request-URI, the rest of the Path becomes Route. */
  #retarget(binding: Binding, from: number): void {
    const { message: m, patch } = this.#p.exchange;
    patch.replace(m.uriStart, m.uriEnd).text(binding.contact);
    if (binding.path.length > from) {
      const row = m.first[ROUTE];
      const w = patch.insert(m.lineStart[row >= 0 ? row : m.first[VIA]]);
      w.text(`Route: ${binding.path.slice(from).join(', ')}\r\n`);
    }
  }

  // ---- flows and the store

  flowEnded(slot: number, generation: number): void {
    const { flows, store } = this.#p;
    const datagram = flows.table.transport(slot) === TRANSPORT_UDP;
    store.flowClosed(flowKey(slot, generation, flows.incarnation, datagram));
  }

  // ---- parking

  #park(): Parked {
    const { message: m, source } = this.#p.exchange;
    return { bytes: Buffer.from(m.buf.subarray(m.start, m.end)), source: new Source().copy(source) };
  }

  #resume(parked: Parked, then: () => void): void {
    const { exchange } = this.#p;
    const { arena, message: m, via } = exchange;
    const { bytes } = parked;
    const at = arena.slabs.lease(bytes.length + 1);
    if (at < 0) {
      this.#p.counters.inc(Counter.slabFull);
      return;
    }
    arena.mem.set(bytes, at);
    exchange.source.copy(parked.source);
    m.lex(arena.mem, at, at + bytes.length, false);
    const row = m.first[VIA];
    if (row >= 0 && via.parse(m.buf, m.valueStart[row], m.valueEnd[row])) then();
    arena.slabs.giveBack(at);
  }
}

function values(m: Message, header: number): string[] {
  const list: string[] = [];
  for (let row = m.first[header]; row >= 0; row = m.next(row))
    list.push(latin1(m.buf, m.valueStart[row], m.valueEnd[row]));
  return list;
}

function value(m: Message, header: number): string | undefined {
  const row = m.first[header];
  return row < 0 ? undefined : latin1(m.buf, m.valueStart[row], m.valueEnd[row]);
}

function toUri(m: Message): SipUri | undefined {
  const to = parseNameAddr(value(m, TO) ?? '');
  return to && parseSipUri(to.uri);
}
