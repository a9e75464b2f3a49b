/**
 * REGISTER for the served domains of this process: who asks, what the request means (registrar/register.ts), the
 * location store's answer, and what a registration that was taken says of the flow it came on. A request that waits
 * for the store is parked.
 */
import type { Flows } from '../flow/flows.ts';
import type { Answers } from '../proxy/answer.ts';
import { pathValue } from '../proxy/edge.ts';
import type { Exchange } from '../proxy/exchange.ts';
import type { Own } from '../proxy/own.ts';
import { Parking } from '../proxy/parked.ts';
import type { RequestProxy } from '../proxy/proxy.ts';
import { answerRegister } from '../registrar/answer.ts';
import { flowKey } from '../registrar/binding.ts';
import type { Gruus } from '../registrar/gruu.ts';
import { decideRegister, type RegisterDecision, type RegisterPolicy } from '../registrar/register.ts';
import type { LocationStore, StoreResult } from '../registrar/store.ts';
import type { Clock } from '../shared/clock.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { TRANSPORT_UDP } from '../shared/flow-record.ts';
import { allValues, firstValue, sipUriOf } from '../wire/fields.ts';
import { CALL_ID, CONTACT, EXPIRES, PATH, REQUIRE, SUPPORTED, TO, USER_AGENT } from '../wire/names.ts';
import { canonicalAor, canonicalHost, type SipUri } from '../wire/uri.ts';
import type { Admission } from './admission.ts';

export interface RegistrarParts {
  exchange: Exchange;
  /** knows the flow that a request came in on */
  proxy: Pick<RequestProxy, 'sourceFlow'>;
  answers: Answers;
  flows: Flows;
  own: Own;
  store: LocationStore;
  counters: Counters;
  clock: Clock;
  policy: RegisterPolicy;
  coreListener: number;
  /** seconds */
  flowTimer: number;
  /** a flow was confirmed by a registration here */
  registrationSeen: (slot: number, expires: number, outbound: boolean) => void;
  /** undefined: nobody is asked who he is */
  admission?: Admission | undefined;
  gruus: Gruus;
}

export class LocalRegistrar {
  readonly #p: RegistrarParts;
  readonly #parking: Parking;

  constructor(parts: RegistrarParts) {
    this.#p = parts;
    this.#parking = new Parking(parts.exchange, parts.counters);
  }

  /** The REGISTER in the exchange, which has so many Via values (up to 2). */
  register(count: number): void {
    const { exchange, answers, own } = this.#p;
    const m = exchange.message;
    const to = sipUriOf(m, TO);
    if (!to) {
      answers.send(400, 'Bad To');
      return;
    }
    // 10.3 step 5: an address-of-record of another domain, or none at all, is not ours to bind
    if (!own.servesHost(to.host) || !to.user) {
      answers.send(404, 'Not Found');
      return;
    }
    this.#ask(to, count);
  }

  /** Who is it? Goes on at once where nobody is asked. */
  #ask(to: SipUri, count: number): void {
    const { admission } = this.#p;
    const aor = canonicalAor(to);
    if (admission) admission.ask('registrar', aor, canonicalHost(to.host), () => this.#admitted(aor, count));
    else this.#admitted(aor, count);
  }

  #admitted(aor: string, count: number): void {
    const { exchange, proxy, answers, flows, own, counters, clock, policy, store, gruus } = this.#p;
    const { message: m, source } = exchange;
    const slot = proxy.sourceFlow();
    if (slot < 0) {
      answers.send(503, 'Service Unavailable', ['Retry-After: 5']);
      return;
    }
    const first = count === 1;
    const datagram = source.transport === TRANSPORT_UDP;
    const expires = firstValue(m, EXPIRES);
    const userAgent = firstValue(m, USER_AGENT);
    const decision = decideRegister(
      {
        aor,
        contacts: allValues(m, CONTACT),
        path: allValues(m, PATH),
        supported: allValues(m, SUPPORTED),
        require: allValues(m, REQUIRE),
        viaCount: count,
        callId: firstValue(m, CALL_ID) ?? '',
        cseq: m.cseqNumber,
        now: Math.floor(clock.wall()),
        ...(expires !== undefined && { expires }),
        ...(userAgent !== undefined && { userAgent: userAgent.slice(0, 128) }),
        aorOfGruu: (uri) => gruus.read(uri)?.aor,
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
    const parked = this.#parking.park();
    const done = (result: StoreResult) =>
      this.#parking.resume(parked, () => this.#answer(decision, result, first));
    if (decision.kind === 'update') store.update(decision.op, done);
    else store.lookup(decision.aor, decision.now, done);
  }

  #answer(
    decision: Exclude<RegisterDecision, { kind: 'reject' }>,
    result: StoreResult,
    first: boolean,
  ): void {
    const { answers, exchange, flows, flowTimer, store, gruus } = this.#p;
    const { source } = exchange;
    const aor = decision.kind === 'update' ? decision.op.aor : decision.aor;
    const extras = decision.gruu ? gruus.inContacts(aor) : undefined;
    const { status, reason, headers } = answerRegister(decision, result, extras);
    if (status === 200 && decision.kind === 'update') {
      const granted = decision.op.contacts.reduce((most, c) => Math.max(most, c.expires), 0);
      // 5626 §5.4: the element next to the client says how long it waits
      const timer = first && decision.requireOutbound ? flowTimer : 0;
      const promised = timer > 0 || exchange.via.keepAt >= 0 ? flowTimer : 0; // 6223 §5: the same number
      if (timer > 0) headers.push(`Flow-Timer: ${timer}`);
      if (flows.registered(source.slot, source.generation, granted, promised, exchange.ds) && granted > 0)
        this.#p.registrationSeen(source.slot, granted, timer > 0);
      // It ended while the store wrote: nobody has told of it, since no registration was known on it then.
      const { flow } = decision.op;
      if (flow !== undefined && !flows.table.isLive(source.slot, source.generation)) store.flowClosed(flow);
    }
    answers.send(status, reason, headers);
  }
}
