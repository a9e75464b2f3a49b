/**
 * One URI of the outbound-proxy-set at work: it finds the proxy, opens the flow, registers over it, keeps it alive,
 * and says when it is gone (RFC 5626 4.2, 4.4). When to try again is not decided here: flowset.ts says it, agent.ts
 * asks. Over flows that come and go it is one carrier, so that a dialog that was formed on it goes on.
 *
 * An attempt tries the addresses of the URI in order (RFC 3263), the one that failed last behind the others, and has
 * failed when all have. Each attempt and each connection has its own serial: whatever an earlier one still tells is
 * passed over.
 */
import type { Session } from '../auth/client.ts';
import { Endpoint } from '../net/endpoint.ts';
import type { Target } from '../net/targets.ts';
import { parseSipUri, type SipUri } from '../wire/uri.ts';
import { Authentication } from './authentication.ts';
import type { Agenda, Timer } from './clock.ts';
import type { Connection, ConnectionHandler, Ending } from './connection.ts';
import type { Draft, Exchanges } from './exchange.ts';
import type { Member } from './flowset.ts';
import type { Incoming } from './incoming.ts';
import type { Failure } from './keepalive.ts';
import { routeOf, type Settings } from './options.ts';
import { Pulse } from './pulse.ts';
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
  keepAlive(flow: OutboundFlow, state: 'sent' | 'answered'): void;
  /** No flow any more. `was`: it was registered. `retryAfter` in ms; `outage` false after a 439. */
  gone(
    flow: OutboundFlow,
    cause: FlowCause,
    detail: { was: boolean; retryAfter?: number | undefined; outage?: boolean },
  ): void;
  /** A refresh did not succeed and the flow stays; when it is tried again. */
  deferred(flow: OutboundFlow, status: number, retryAfter: number | undefined): number;
}

export interface FlowParts {
  settings: Settings;
  agenda: Agenda;
  exchanges: Exchanges;
  user: FlowUser;
  instance: string;
}

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
  readonly #parts: FlowParts;
  readonly #uri: SipUri;
  readonly #trip = new RoundTrip();
  #pulse: Pulse | undefined;
  #targets: Target[] = [];
  #failedTarget: Endpoint | undefined;
  #target: Target | undefined;
  /** what an attempt that ran out of targets failed with last */
  #cause: FlowCause = 'not-found';
  #serial = 0;
  /** a REGISTER has no final answer yet */
  #asking = false;
  #again = 0;
  #tried: Session[] = [];
  #removed: (() => void) | undefined;

  constructor(member: Member, parts: FlowParts) {
    const { settings, agenda, instance } = parts;
    const { aor, registrar, expires, require, fallback, gruu, keepAlives, random } = settings;
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
      gruus: gruu,
      require,
      fallback,
      keepAlives,
      random,
    });
    // one for each of four flows: there is room
    this.#timer = agenda.timer((now) => this.#due(now)) as Timer;
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

  /** The registration has its own keep-alives, and they last longer than any dialog. */
  readonly asksKeep = false;
  joined(): void {}
  left(): void {}

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
        this.#targets = targets
          .filter(({ transport }) => dials[transport] !== undefined)
          .sort(
            (a, b) => Number(failed?.equals(a.address) ?? false) - Number(failed?.equals(b.address) ?? false),
          );
        this.#next();
      },
      () => {
        if (serial === this.#serial) this.#next();
      },
    );
  }

  /**
   * Takes the binding away and closes; resolves when that was answered or the flow is gone. A REGISTER that is under way
   * is waited for first: none may be sent before its answer (RFC 3261 10.2), which may bring the binding.
   */
  remove(): Promise<void> {
    if (this.state !== 'registered' && this.state !== 'registering') {
      this.close();
      return Promise.resolve();
    }
    this.state = 'removing';
    this.#timer.set(Infinity);
    return new Promise((resolve) => {
      this.#removed = resolve;
      if (!this.#asking) this.#takeAway();
    });
  }

  /** The end, without a word to the user. */
  close(): void {
    this.state = 'idle';
    this.#drop();
    this.registration.lost();
    this.#removed?.();
    this.#removed = undefined;
  }

  #next(): void {
    const target = this.#targets.shift();
    if (!target) {
      this.#lose(this.#cause);
      return;
    }
    const { agenda, settings } = this.#parts;
    const serial = ++this.#serial;
    this.#target = target;
    this.peer.copy(target.address);
    this.state = 'connecting';
    this.#timer.set(agenda.now() + CONNECT_MS);
    this.connection = settings.dials[target.transport](target, this.#handlerOf(serial), {
      localAddress: settings.localAddress,
      domain: this.#uri.host,
    });
  }

  #handlerOf(serial: number): ConnectionHandler {
    const current = () => serial === this.#serial;
    const { exchanges } = this.#parts;
    return {
      opened: () => {
        if (!current() || !this.connection) return;
        this.state = 'registering';
        this.#timer.set(Infinity);
        this.#pulse = this.#newPulse(this.connection);
        this.#begin();
        this.#register(false);
      },
      message: (buf, start, end) => {
        if (current()) exchanges.receive(this, buf, start, end);
      },
      pong: () => {
        if (current()) this.#pulse?.pong();
      },
      stun: (bytes) => {
        if (current()) this.#pulse?.stun(bytes);
      },
      read: () => {
        if (current()) this.#pulse?.read();
      },
      closed: (ending) => {
        if (current()) this.#failed(ending);
      },
    };
  }

  #newPulse(connection: Connection): Pulse {
    const { agenda, settings, user } = this.#parts;
    return new Pulse(connection, {
      agenda,
      random: settings.random,
      pings: settings.pings,
      trip: this.#trip,
      asked: () => user.keepAlive(this, 'sent'),
      heard: () => {
        user.heard(this);
        user.keepAlive(this, 'answered');
      },
      failed: (failure) => this.#lose(failure),
    });
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
    this.#asking = true; // before: it may fail while it is sent, which ends that
    const sent = exchanges.send(
      draft,
      this,
      {
        response: (response) => {
          if (serial !== this.#serial || response.status < 200) return;
          this.#asking = false;
          if (removing || this.state !== 'removing') this.#answered(response, contact);
          else this.#answeredLate(response, contact);
        },
        failed: () => {
          if (serial === this.#serial) this.#failed('no-answer');
        },
      },
      true, // 6223-4.3-01
    );
    if (!sent) this.#failed('no-answer');
  }

  #takeAway(): void {
    this.#begin();
    this.#register(true);
  }

  /** To what was under way when the end came: is there a binding now? */
  #answeredLate(response: Incoming, contact: string): void {
    const now = this.#parts.agenda.now();
    this.registration.outcome(response, now, contact);
    if (this.registration.expiresAt > now) this.#takeAway();
    else this.close();
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
        this.#targets = [];
        this.#timer.set(this.registration.refreshAt);
        this.#pulse?.agree(outcome);
        user.registered(this, outcome);
        return;
      case 'again':
        if (this.#again++ < MOST_AGAIN) this.#register(false);
        else this.#refused(status);
        return;
      case 'recoverable':
        if (this.state === 'registered') {
          // UA-4.2.2-03
          this.#timer.set(user.deferred(this, status, outcome.retryAfter));
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
    this.#asking = false;
    this.#pulse?.stop();
    this.#pulse = undefined;
    this.#timer.set(Infinity);
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
}
