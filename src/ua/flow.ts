/**
 * One URI of the outbound-proxy-set at work: it finds the proxy, opens the flow, registers over it, keeps it alive,
 * and says when it is gone (RFC 5626 4.2, 4.4). When to try again is not decided here: flowset.ts says it, agent.ts
 * asks. Over flows that come and go it is one carrier, so that a dialog that was formed on it goes on.
 *
 * An attempt tries the addresses of the URI in order (RFC 3263), the one that failed last behind the others, and has
 * failed when all have. Each attempt and each connection has its own serial: whatever an earlier one still tells is
 * passed over.
 */
import { randomBytes } from 'node:crypto';
import type { Session } from '../auth/client.ts';
import { Endpoint } from '../net/endpoint.ts';
import type { Target } from '../net/targets.ts';
import { bindingRequest, ID_BYTES, readBinding } from '../wire/binding.ts';
import { parseSipUri, type SipUri } from '../wire/uri.ts';
import { Authentication } from './authentication.ts';
import type { Agenda, Timer } from './clock.ts';
import type { Connection, ConnectionHandler, Ending } from './connection.ts';
import type { Draft, Exchanges } from './exchange.ts';
import type { Member } from './flowset.ts';
import type { Incoming } from './incoming.ts';
import { type Action, DATAGRAM, type Failure, KeepAlive } from './keepalive.ts';
import { routeOf, type Settings } from './options.ts';
import { type Outcome, Registration } from './registration.ts';
import { RoundTrip } from './stun.ts';
import { contactOf, type Way } from './way.ts';

/** Why a flow ended or could not be formed. `refused`: with the status of the answer. */
export type FlowCause =
  | Failure
  | Ending
  | 'not-found'
  | 'connect-timeout'
  | 'no-answer'
  | 'network-changed'
  | { status: number };

export interface FlowUser {
  /** A 2xx to a REGISTER that was not a removal. */
  registered(flow: OutboundFlow, outcome: Extract<Outcome, { kind: 'registered' }>): void;
  heard(flow: OutboundFlow): void;
  /** No flow any more. `was`: it was registered. `retryAfter` in ms; `outage` false after a 439. */
  gone(
    flow: OutboundFlow,
    cause: FlowCause,
    detail: { was: boolean; retryAfter?: number | undefined; outage?: boolean },
  ): void;
  /** A refresh did not succeed and the flow stays; when it is tried again. */
  deferred(flow: OutboundFlow, status: number, failures: number, retryAfter: number | undefined): number;
}

export interface FlowParts {
  settings: Settings;
  agenda: Agenda;
  exchanges: Exchanges;
  user: FlowUser;
  instance: string;
}

const PING = Buffer.from('\r\n\r\n');
/** As Timer F: a proxy that does not take the connection in that time is not there. */
const CONNECT_MS = 32_000;
/** 423, 439 and challenges in one go; more is a server in a loop */
const MOST_AGAIN = 6;

type State = 'idle' | 'locating' | 'connecting' | 'registering' | 'registered' | 'removing';

export class OutboundFlow implements Way {
  readonly member: Member;
  readonly registration: Registration;
  readonly authentication: Authentication;
  readonly peer = new Endpoint();
  connection: Connection | undefined;
  state: State = 'idle';
  /** the time of the next REGISTER to replace the present binding, or of the attempt's end */
  readonly #timer: Timer;
  readonly #keepTimer: Timer;
  readonly #parts: FlowParts;
  readonly #uri: SipUri;
  readonly #trip = new RoundTrip();
  #keepAlive: KeepAlive;
  #targets: Target[] = [];
  #failedTarget: Endpoint | undefined;
  #target: Target | undefined;
  /** what an attempt that ran out of targets failed with last */
  #cause: FlowCause = 'not-found';
  #serial = 0;
  #again = 0;
  #refreshFailures = 0;
  #tried: Session[] = [];
  #stunId: Buffer = Buffer.alloc(0);
  #stunBytes: Buffer = Buffer.alloc(0);
  #removed: (() => void) | undefined;

  constructor(member: Member, parts: FlowParts) {
    const { settings, agenda, instance } = parts;
    const { aor, registrar, expires, require, fallback, keepAlives, random } = settings;
    this.member = member;
    this.#parts = parts;
    this.#uri = parseSipUri(member.uri) as SipUri;
    this.authentication = new Authentication(settings.account);
    this.registration = new Registration({
      aor,
      registrar,
      instance,
      regId: member.regId,
      expires,
      require,
      fallback,
      keepAlives,
      random,
    });
    this.#keepAlive = this.#newKeepAlive(false);
    // two timers a flow, four flows: there is room
    this.#timer = agenda.timer((now) => this.#due(now)) as Timer;
    this.#keepTimer = agenda.timer((now) => this.#keep(now)) as Timer;
  }

  /** URIs for the Route of a request outside of any dialog: what the registrar said, else the proxy. */
  get route(): readonly string[] {
    const { serviceRoute } = this.registration;
    return serviceRoute.length > 0 ? serviceRoute : [`<${routeOf(this.member.uri)}>`];
  }

  /** The URI of this flow's own address, as REGISTER has it. */
  get contact(): string {
    return this.connection ? contactOf(this.#parts.settings.user, this.connection) : '';
  }

  /** Forms a flow and registers over it. How it ends is told to the user, once. */
  attempt(): void {
    const { locate, dials } = this.#parts.settings;
    const serial = ++this.#serial;
    this.state = 'locating';
    this.#cause = 'not-found';
    const transports = Object.keys(dials).map(Number);
    locate(this.#uri, transports).then(
      ({ targets }) => {
        if (serial !== this.#serial) return;
        // UA-4.2.1-19: another host than the one that failed, if there is one
        const failed = this.#failedTarget;
        this.#targets = [...targets].sort(
          (a, b) => Number(failed?.equals(a.address) ?? false) - Number(failed?.equals(b.address) ?? false),
        );
        this.#next();
      },
      () => {
        if (serial === this.#serial) this.#next();
      },
    );
  }

  /** Takes the binding away and closes; resolves when that was answered or the flow is gone. */
  remove(): Promise<void> {
    if (this.state !== 'registered') {
      this.close();
      return Promise.resolve();
    }
    this.state = 'removing';
    this.#timer.set(Infinity);
    this.#begin();
    return new Promise((resolve) => {
      this.#removed = resolve;
      this.#register(true);
    });
  }

  /** The end, without a word to the user. */
  close(): void {
    this.#serial++;
    this.state = 'idle';
    this.#keepAlive.stop();
    this.#timer.set(Infinity);
    this.#keepTimer.set(Infinity);
    const { connection } = this;
    this.connection = undefined;
    connection?.close();
    this.#parts.exchanges.lost(this);
    this.#removed?.();
    this.#removed = undefined;
  }

  #next(): void {
    const target = this.#targets.shift();
    const dial = target && this.#parts.settings.dials[target.transport];
    if (!target || !dial) {
      this.#lose(this.#cause);
      return;
    }
    const { agenda, settings } = this.#parts;
    const serial = ++this.#serial;
    this.#target = target;
    this.peer.copy(target.address);
    this.state = 'connecting';
    this.#timer.set(agenda.now() + CONNECT_MS);
    this.connection = dial(target, this.#handlerOf(serial), { localAddress: settings.localAddress });
  }

  #handlerOf(serial: number): ConnectionHandler {
    const current = () => serial === this.#serial;
    const { exchanges, agenda } = this.#parts;
    return {
      opened: () => {
        if (!current() || !this.connection) return;
        this.state = 'registering';
        this.#timer.set(Infinity);
        this.#keepAlive = this.#newKeepAlive(!this.connection.reliable);
        this.#begin();
        this.#register(false);
      },
      message: (buf, start, end) => {
        if (current()) exchanges.receive(this, buf, start, end);
      },
      pong: () => {
        if (current() && this.#keepAlive.pong()) this.#parts.user.heard(this);
      },
      stun: (bytes) => {
        if (!current()) return;
        const answer = readBinding(bytes, this.#stunId);
        if (answer === undefined) return;
        const failure = this.#keepAlive.answered(answer, agenda.now());
        if (failure) this.#lose(failure);
        else {
          this.#parts.user.heard(this);
          this.#keepTimer.set(this.#keepAlive.nextDue());
        }
      },
      read: () => {
        if (current()) this.#keep(agenda.now());
      },
      closed: (ending) => {
        if (current()) this.#failed(ending);
      },
    };
  }

  #newKeepAlive(stun: boolean): KeepAlive {
    const { random, pings } = this.#parts.settings;
    return new KeepAlive({ stun, random, defaults: stun ? DATAGRAM : pings, trip: this.#trip });
  }

  #begin(): void {
    this.#again = 0;
    this.#tried = [];
  }

  #register(removing: boolean): void {
    const { settings, exchanges } = this.#parts;
    const serial = this.#serial;
    const contact = this.contact;
    const body = Buffer.alloc(0);
    const draft: Draft = {
      method: 'REGISTER',
      uri: settings.registrar,
      headers: [
        ['Max-Forwards', '70'],
        ['Route', `<${routeOf(this.member.uri)}>`],
        ...this.registration.headers(contact, removing),
        ...this.authentication.headers('REGISTER', settings.registrar, body),
      ],
      body,
    };
    const sent = exchanges.send(
      draft,
      this,
      {
        response: (response) => {
          if (serial === this.#serial && response.status >= 200) this.#answered(response, contact);
        },
        failed: () => {
          if (serial === this.#serial) this.#failed('no-answer');
        },
      },
      true, // 6223-4.3-01
    );
    if (!sent) this.#failed('no-answer');
  }

  #answered(response: Incoming, contact: string): void {
    const { agenda, user } = this.#parts;
    const { status } = response;
    const removing = this.state === 'removing';
    if (this.#again < MOST_AGAIN && (status === 401 || status === 407)) {
      this.#again++;
      if (this.authentication.challenged(response, this.#tried)) {
        this.#register(removing);
        return;
      }
    }
    const now = agenda.now();
    const outcome = this.registration.outcome(response, now, contact);
    if (removing) {
      this.close();
      return;
    }
    switch (outcome.kind) {
      case 'registered':
        this.state = 'registered';
        this.#failedTarget = undefined;
        this.#refreshFailures = 0;
        this.#targets = [];
        this.#timer.set(this.registration.refreshAt);
        this.#keepAlive.agree(now, outcome);
        this.#keepTimer.set(this.#keepAlive.nextDue());
        user.registered(this, outcome);
        return;
      case 'again':
        if (this.#again++ < MOST_AGAIN) this.#register(false);
        else this.#refused(status);
        return;
      case 'recoverable':
        if (this.state === 'registered') {
          // UA-4.2.2-03
          this.#timer.set(user.deferred(this, status, ++this.#refreshFailures, outcome.retryAfter));
          return;
        }
        this.#failedTarget = this.#target?.address;
        if (outcome.retryAfter !== undefined) this.#lose({ status }, { retryAfter: outcome.retryAfter });
        else this.#failed({ status });
        return;
      case 'refused':
        this.#refused(status, outcome.outage);
        return;
      default:
    }
  }

  #refused(status: number, outage = true): void {
    this.#lose({ status }, { outage });
  }

  /** This target did not do: the next one, unless the flow was up already. */
  #failed(cause: FlowCause): void {
    if (this.state === 'registered' || this.state === 'removing') {
      this.#lose(cause);
      return;
    }
    this.#failedTarget = this.#target?.address;
    this.#cause = cause;
    this.#drop();
    this.#next();
  }

  #drop(): void {
    this.#serial++;
    this.#keepAlive.stop();
    this.#timer.set(Infinity);
    this.#keepTimer.set(Infinity);
    const { connection } = this;
    this.connection = undefined;
    connection?.close();
    this.#parts.exchanges.lost(this);
  }

  #lose(cause: FlowCause, detail: { retryAfter?: number; outage?: boolean } = {}): void {
    const was = this.state === 'registered';
    if (this.state === 'removing') {
      this.close();
      return;
    }
    this.state = 'idle';
    this.#drop();
    this.registration.lost();
    this.#parts.user.gone(this, cause, { was, ...detail });
  }

  #due(_now: number): void {
    if (this.state === 'connecting') this.#failed('connect-timeout');
    else if (this.state === 'registered') {
      this.#begin();
      this.#register(false);
    }
  }

  #keep(now: number): void {
    const { connection } = this;
    if (!connection) return;
    const action = this.#keepAlive.advance(now, connection.inMessage);
    if (action !== undefined) this.#act(action, connection);
    if (connection === this.connection) this.#keepTimer.set(this.#keepAlive.nextDue());
  }

  #act(action: Action, connection: Connection): void {
    switch (action) {
      case 'ping':
        connection.send(PING);
        return;
      case 'stun':
        this.#stunId = randomBytes(ID_BYTES);
        this.#stunBytes = bindingRequest(this.#stunId);
        connection.send(this.#stunBytes);
        return;
      case 'stun-again':
        connection.send(this.#stunBytes);
        return;
      default:
        this.#lose(action);
    }
  }
}
