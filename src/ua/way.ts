/**
 * What a request outside of any dialog needs to know of the flow that it goes over; and a flow without a registration,
 * for what is to be said while none is up (RFC 5626 4.3: form a new flow by sending to the next hop). Nothing keeps
 * such a flow alive: it lives until one side closes it.
 */
import { Endpoint } from '../net/endpoint.ts';
import type { Target } from '../net/targets.ts';
import { parseSipUri, type SipUri } from '../wire/uri.ts';
import { TRANSPORTS, UDP } from '../wire/via.ts';
import { Authentication } from './authentication.ts';
import type { Agenda, Timer } from './clock.ts';
import type { Connection } from './connection.ts';
import { bracketed, type Carrier, type Exchanges } from './exchange.ts';
import { routeOf, type Settings } from './options.ts';

export interface Way extends Carrier {
  readonly authentication: Authentication;
  /** values of Route, in order */
  readonly route: readonly string[];
  /** the URI of this flow's own address */
  readonly contact: string;
}

/** The URI at which requests over this connection come back. */
export function contactOf(user: string, { transport, localHost, localPort }: Connection): string {
  const name = transport === UDP ? '' : `;transport=${TRANSPORTS[transport].toLowerCase()}`;
  return `sip:${user}@${bracketed(localHost)}:${localPort}${name}`;
}

const CONNECT_MS = 32_000;

export class LooseFlow implements Way {
  readonly authentication: Authentication;
  readonly peer: Endpoint;
  readonly route: readonly string[];
  connection: Connection | undefined;
  readonly #user: string;

  private constructor(settings: Settings, proxy: string, peer: Endpoint) {
    this.authentication = new Authentication(settings.account);
    this.route = [`<${routeOf(proxy)}>`];
    this.peer = peer;
    this.#user = settings.user;
  }

  get contact(): string {
    return this.connection ? contactOf(this.#user, this.connection) : '';
  }

  close(): void {
    this.connection?.close();
  }

  /** The first of the proxies that takes a connection; undefined if none does. `onClosed` only after that. */
  static async open(
    settings: Settings,
    agenda: Agenda,
    exchanges: Exchanges,
    onClosed: (flow: LooseFlow) => void,
  ): Promise<LooseFlow | undefined> {
    for (const proxy of settings.proxies) {
      const uri = parseSipUri(proxy) as SipUri;
      const { targets } = await settings.locate(uri, Object.keys(settings.dials).map(Number));
      for (const target of targets) {
        const flow = new LooseFlow(settings, proxy, new Endpoint().copy(target.address));
        if (await flow.#connect(target, uri.host, settings, agenda, exchanges, onClosed)) return flow;
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
  ): Promise<boolean> {
    const { localAddress, dials } = settings;
    return new Promise((resolve) => {
      let open = false;
      const end = () => {
        timer?.drop();
        this.connection = undefined;
        exchanges.lost(this);
        if (open) onClosed(this);
        else resolve(false);
      };
      const timer: Timer | undefined = agenda.timer(() => connection.close());
      const connection = dials[target.transport](
        target,
        {
          opened: () => {
            open = true;
            timer?.drop();
            this.connection = connection;
            resolve(true);
          },
          message: (buf, start, stop) => exchanges.receive(this, buf, start, stop),
          pong: () => {},
          stun: () => {},
          read: () => {},
          closed: end,
        },
        { localAddress, domain },
      );
      timer?.set(agenda.now() + CONNECT_MS);
    });
  }
}
