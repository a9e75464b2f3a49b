/**
 * What one rule is examined with: flows to the edge, registrations and requests over them. At its end every binding that
 * it made is taken away and every flow closed, whatever became of the rule; bindings of others stay as they are.
 *
 * Ours are known by the user of their Contact, made at random once an examination. What waits, waits for the patience
 * of the examination and not longer; what takes longer than four times that ends by `signal`.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import type { Target } from '../net/targets.ts';
import { Agenda } from '../ua/clock.ts';
import type { Dial } from '../ua/connection.ts';
import { UserAgentError } from '../ua/errors.ts';
import { composeAlone, type Draft, Exchanges, type HeaderList } from '../ua/exchange.ts';
import type { Incoming } from '../ua/incoming.ts';
import { routeOf, type Settings } from '../ua/options.ts';
import { transact } from '../ua/transact.ts';
import { headerParam, type NameAddr, parseNameAddr } from '../wire/nameaddr.ts';
import { parseSipUri } from '../wire/uri.ts';
import { TLS, UDP, WS, WSS } from '../wire/via.ts';
import { Probe } from './probe.ts';
import { expect, Failed, NotApplicable } from './rule.ts';

/** The edge under examination, and how it is asked. */
export interface Subject {
  settings: Settings;
  /** URI of the edge, and the address that it was found at */
  edge: string;
  domain: string;
  target: Target;
  /** ms that an answer may take */
  patience: number;
  /** user of all our Contacts */
  user: string;
  /** seconds to register for: more after a 423 */
  expires: number;
}

export interface Registering {
  /** Contact values; without: asks what is bound */
  contacts?: readonly string[];
  callId?: string;
  cseq?: number;
  supported?: string;
  expires?: number;
  /** `keep` in Via */
  keep?: boolean;
}

export interface Asking {
  callId?: string;
  cseq?: number;
  headers?: HeaderList;
  to?: string;
  body?: string;
  keep?: boolean;
}

export const SUPPORTED = 'path, outbound';

export class Trial {
  readonly subject: Subject;
  readonly signal: AbortSignal;
  readonly exchanges: Exchanges;
  readonly #agenda: Agenda;
  readonly #probes: Probe[] = [];
  readonly #lastly: (() => Promise<void>)[] = [];
  #mayHaveBound = false;

  constructor(subject: Subject, signal: AbortSignal) {
    this.subject = subject;
    this.signal = signal;
    this.#agenda = new Agenda(subject.settings.clock);
    this.exchanges = new Exchanges({
      agenda: this.#agenda,
      timers: subject.settings.timers,
      onRequest: (exchange) => (exchange.carrier as Probe).respond(exchange),
      onAck: () => {},
    });
  }

  get patience(): number {
    return this.subject.patience;
  }

  get aor(): string {
    return this.subject.settings.aor;
  }

  get overUdp(): boolean {
    return this.subject.target.transport === UDP;
  }

  get overWebSocket(): boolean {
    return this.subject.target.transport >= WS;
  }

  /** A new flow, with a source port of its own unless the way of dialling says otherwise. */
  async flow(dial?: Dial): Promise<Probe> {
    const { settings, target, domain, edge, user } = this.subject;
    const way = dial ?? settings.dials[target.transport];
    const probe = await Probe.open(target, way, domain, this.patience, {
      exchanges: this.exchanges,
      account: settings.account,
      user,
      route: [`<${routeOf(edge)}>`],
    });
    this.#probes.push(probe);
    if (!probe.connection) {
      const secured = target.transport === TLS || target.transport === WSS;
      const certificate = secured && probe.ended === 'refused' ? ', or its certificate is not accepted' : '';
      throw new Failed(`no connection: ${probe.ended ?? 'not in time'}${certificate}`);
    }
    return probe;
  }

  /** A REGISTER and its final answer, whatever that is. */
  async register(probe: Probe, options: Registering = {}): Promise<Incoming> {
    const answer = await this.#register(probe, options);
    const least = answer.seconds('min-expires') ?? 0;
    if (answer.status !== 423 || options.expires !== undefined || least <= this.subject.expires)
      return answer;
    this.subject.expires = least;
    return this.#register(probe, { ...options, cseq: (options.cseq ?? 1) + 20 });
  }

  #register(
    probe: Probe,
    { contacts = [], supported = SUPPORTED, expires = this.subject.expires, ...options }: Registering,
  ): Promise<Incoming> {
    if (contacts.length > 0) this.#mayHaveBound = true;
    return this.request(probe, 'REGISTER', this.subject.settings.registrar, {
      ...options,
      to: `<${this.aor}>`,
      headers: [
        ...contacts.map((contact): [string, string] => ['Contact', contact]),
        ...(contacts.length > 0 ? [['Expires', `${expires}`] as [string, string]] : []),
        ['Supported', supported],
      ],
    });
  }

  /** Registers a flow, as what a rule begins with: without outbound there is nothing for it to see. */
  async bound(probe: Probe, instance: string, regId: number, uri = probe.contact): Promise<Incoming> {
    const answer = await this.register(probe, { contacts: [contactOf(uri, instance, regId)] });
    if (answer.status >= 300) throw new NotApplicable(`REGISTER is answered ${lineOf(answer)}`);
    if (!answer.hasTag('require', 'outbound')) throw new NotApplicable('no registration with outbound');
    return answer;
  }

  /** Our bindings in a 200. */
  own(answer: Incoming): NameAddr[] {
    return answer
      .list('contact')
      .map(parseNameAddr)
      .filter((contact) => contact !== undefined && this.#isOurs(contact)) as NameAddr[];
  }

  #isOurs({ uri }: NameAddr): boolean {
    return parseSipUri(uri)?.user === this.subject.user;
  }

  /** Asks over this flow for what is bound. What the edge had sent on it before has come when this returns. */
  ask(probe: Probe): Promise<Incoming> {
    return this.register(probe);
  }

  /** A request outside of any dialog, digest answered. */
  request(probe: Probe, method: string, uri: string, options: Asking = {}): Promise<Incoming> {
    return this.transact(probe, method, this.draft(probe, method, uri, options), options);
  }

  /** A MESSAGE to the AOR itself; resolves with the answer. `callId`: by which it is known where it arrives. */
  message(probe: Probe, callId: string): Promise<Incoming> {
    return this.request(probe, 'MESSAGE', this.aor, {
      callId,
      headers: [
        ['Supported', SUPPORTED],
        ['Content-Type', 'text/plain'],
      ],
      body: 'holdfast check',
    });
  }

  /** The octets of a request that no transaction waits for. */
  octets(probe: Probe, method: string, uri: string, options: Asking): Buffer {
    if (!probe.connection) throw new Failed(`the edge closed the flow (${probe.ended})`);
    return composeAlone(this.draft(probe, method, uri, options)(options.cseq ?? 1), probe.connection);
  }

  draft(
    probe: Probe,
    method: string,
    uri: string,
    { callId = callIdOf(), headers = [], to = `<${uri}>`, body = '' }: Asking,
  ): (cseq: number) => Draft {
    const from = `<${this.aor}>;tag=${randomBytes(6).toString('hex')}`;
    return (cseq) => ({
      method,
      uri,
      headers: [
        ['Max-Forwards', '70'],
        ...probe.route.map((route): [string, string] => ['Route', route]),
        ['From', from],
        ['To', to],
        ['Call-ID', callId],
        ['CSeq', `${cseq} ${method}`],
        ...headers,
      ],
      body: Buffer.from(body),
    });
  }

  /** `make`: of the next try, for a challenge is answered. Fails when there is no final answer in time. */
  async transact(
    probe: Probe,
    method: string,
    make: (cseq: number) => Draft,
    { cseq = 1, keep = false }: Asking = {},
  ): Promise<Incoming> {
    const late = AbortSignal.timeout(this.patience);
    const signal = AbortSignal.any([this.signal, late]);
    let next = cseq;
    const answer = transact({
      exchanges: this.exchanges,
      carrier: probe,
      signal,
      keep,
      draft: () => make(next++),
    });
    // an INVITE is not given up by its signal, only cancelled
    const end = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(new UserAgentError('aborted', '')), { once: true });
    });
    try {
      return await Promise.race([answer, end]);
    } catch (error) {
      if (!(error instanceof UserAgentError)) throw error;
      const gone = probe.ended === undefined ? '' : `: the flow was closed (${probe.ended})`;
      throw new Failed(
        error.code === 'aborted' || error.code === 'timeout'
          ? `no answer to ${method} in ${this.patience / 1000} s`
          : `no answer to ${method}${gone}`,
      );
    } finally {
      answer.catch(() => {});
      end.catch(() => {});
    }
  }

  /** What is to be said over the flows when the trial ends. */
  atEnd(last: () => Promise<void>): void {
    this.#lastly.push(last);
  }

  /** Takes away what was bound and closes what was opened. Never rejects. */
  async end(): Promise<void> {
    for (const last of this.#lastly) await last().catch(() => {});
    if (this.#mayHaveBound) await this.#unbind().catch(() => {});
    for (const probe of this.#probes) probe.close();
    // what was sent last may still go out; then no timer holds the process
    setImmediate(() => this.#agenda.stop());
  }

  async #unbind(): Promise<void> {
    const fresh = new Trial(this.subject, AbortSignal.timeout(this.patience));
    try {
      const probe = await fresh.flow();
      for (const { uri, params } of fresh.own(await fresh.ask(probe))) {
        const instance = headerParam(params, '+sip.instance');
        const regId = headerParam(params, 'reg-id');
        const named = `${instance ? `;+sip.instance=${instance}` : ''}${regId ? `;reg-id=${regId}` : ''}`;
        await fresh.request(probe, 'REGISTER', this.subject.settings.registrar, {
          to: `<${this.aor}>`,
          headers: [
            ['Contact', `<${uri}>${named};expires=0`],
            ['Supported', SUPPORTED],
          ],
        });
      }
    } finally {
      await fresh.end();
    }
  }
}

export const newInstance = (): string => `urn:uuid:${randomUUID()}`;
export const callIdOf = (): string => randomBytes(12).toString('hex');

/** A Contact value. */
export const contactOf = (uri: string, instance?: string, regId?: number | string, more = ''): string =>
  `<${uri}>${instance === undefined ? '' : `;+sip.instance="<${instance}>"`}${regId === undefined ? '' : `;reg-id=${regId}`}${more}`;

export function accepted(answer: Incoming): Incoming {
  expect(answer.status < 300, lineOf(answer));
  return answer;
}

export const lineOf = ({ status, reason }: Incoming): string => `${status} ${reason}`.trim();
