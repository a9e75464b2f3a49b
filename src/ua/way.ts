/**
 * What a request outside of any dialog needs to know of the flow that it goes over; and a flow without a registration,
 * for what is to be said while none is up (RFC 5626 4.3: form a new flow by sending to the next hop).
 *
 * Such a flow is kept alive for the dialogs on it, if the next hop agrees (RFC 6223): `keep` stands in the Via of what
 * forms each of them, and from a value in the answer until the last of them has ended there are keep-alives. One that
 * is not answered is the end of them and not of the flow, which lives until one side closes it.
 */
import { Endpoint } from '../net/endpoint.ts';
import type { Target } from '../net/targets.ts';
import { parseSipUri, type SipUri } from '../wire/uri.ts';
import { TRANSPORTS, UDP, WS, WSS } from '../wire/via.ts';
import { Authentication } from './authentication.ts';
import type { Agenda, Timer } from './clock.ts';
import type { Connection } from './connection.ts';
import { type Carrier, type Exchanges, hostPort } from './exchange.ts';
import { routeOf, type Settings } from './options.ts';
import { Pulse } from './pulse.ts';
import { RoundTrip } from './stun.ts';

export interface Way extends Carrier {
  readonly authentication: Authentication;
  /** values of Route, in order */
  readonly route: readonly string[];
  /** the URI of this flow's own address */
  readonly contact: string;
  /** what forms a dialog is to ask for keep-alives */
  readonly asksKeep: boolean;
  /** A dialog has been formed; the topmost Via of the answer had this value of `keep`. */
  joined(dialog: object, keep: number | undefined): void;
  left(dialog: object): void;
}

/** The URI at which requests over this connection come back. */
export function contactOf(user: string, connection: Connection): string {
  const { transport } = connection;
  const name = TRANSPORTS[transport === WSS ? WS : transport].toLowerCase(); // 7118 5.2: ws for both
  return `sip:${user}@${hostPort(connection)}${transport === UDP ? '' : `;transport=${name}`}`;
}

const CONNECT_MS = 32_000;

export class LooseFlow implements Way {
  readonly authentication: Authentication;
  readonly peer: Endpoint;
  readonly route: readonly string[];
  readonly asksKeep = true;
  connection: Connection | undefined;
  readonly #user: string;
  /** those that keep-alives were agreed on for */
  readonly #dialogs = new Set<object>();
  #pulse: Pulse | undefined;

  private constructor(settings: Settings, proxy: string, peer: Endpoint) {
    this.authentication = new Authentication(settings.account);
    this.route = [`<${routeOf(proxy)}>`];
    this.peer = peer;
    this.#user = settings.user;
  }

  get contact(): string {
    return this.connection ? contactOf(this.#user, this.connection) : '';
  }

  joined(dialog: object, keep: number | undefined): void {
    if (keep === undefined) return;
    this.#dialogs.add(dialog);
    this.#pulse?.agree({ expect: true, seconds: keep || undefined }); // 6223-5-01: 0 leaves the interval to us
  }

  left(dialog: object): void {
    if (this.#dialogs.delete(dialog) && this.#dialogs.size === 0) this.#pulse?.pause(); // 6223-4.2.3-01
  }

  close(): void {
    this.connection?.close();
  }

  /**
   * The first of the proxies that takes a connection; undefined if none does. `onClosed` only after that. `signal` ends
   * the attempt, and the flow.
   */
  static async open(
    settings: Settings,
    agenda: Agenda,
    exchanges: Exchanges,
    onClosed: (flow: LooseFlow) => void,
    signal: AbortSignal,
  ): Promise<LooseFlow | undefined> {
    for (const proxy of settings.proxies) {
      const uri = parseSipUri(proxy) as SipUri;
      const { targets } = await settings.locate(uri, Object.keys(settings.dials).map(Number));
      for (const target of targets) {
        if (signal.aborted) return undefined;
        const flow = new LooseFlow(settings, proxy, new Endpoint().copy(target.address));
        if (await flow.#connect(target, uri.host, settings, agenda, exchanges, onClosed, signal)) return flow;
      }
    }
    return undefined;
  }

  #connect(
    target: Target,
    domain: string,
    settings: Settings,
    agenda: Agenda,
    exchanges: Exchanges,
    onClosed: (flow: LooseFlow) => void,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { localAddress, dials } = settings;
    return new Promise((resolve) => {
      let open = false;
      const abort = () => connection.close();
      const end = () => {
        signal.removeEventListener('abort', abort);
        timer?.drop();
        this.#pulse?.stop();
        this.connection = undefined;
        exchanges.lost(this);
        if (open) onClosed(this);
        else resolve(false);
      };
      const timer: Timer | undefined = agenda.timer(abort);
      const connection = dials[target.transport](
        target,
        {
          opened: () => {
            open = true;
            timer?.drop();
            this.connection = connection;
            this.#pulse = new Pulse(connection, {
              agenda,
              random: settings.random,
              pings: settings.pings,
              trip: new RoundTrip(),
              asked: () => {},
              heard: () => {},
              failed: () => {}, // 6223-10-03
            });
            resolve(true);
          },
          message: (buf, start, stop) => exchanges.receive(this, buf, start, stop),
          pong: () => this.#pulse?.pong(),
          stun: (bytes) => this.#pulse?.stun(bytes),
          read: () => this.#pulse?.read(),
          closed: end,
        },
        { localAddress, domain },
      );
      timer?.set(agenda.now() + CONNECT_MS);
      signal.addEventListener('abort', abort, { once: true });
    });
  }
}
