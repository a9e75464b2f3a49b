/**
 * What phones over every transport call each other through: an edge with all listeners and the registrar and proxy
 * behind it, two processes of Holdfast that speak UDP, TCP or TLS with each other; or one process that is all of it.
 * Over TLS edge and core know each other by name: by that each finds the other, and its certificate must have it.
 *
 * Says how that stands in a message of a phone's: in Via and in the route set, where an element is doubled (RFC 5658)
 * if its two sides differ in transport or address family.
 */
import { type Address, type Agent, bracketed } from '../harness/agent.ts';
import { DnsStub } from '../harness/dns.ts';
import { Holdfast } from '../harness/holdfast.ts';
import {
  type AnyTransport,
  CORE_NAME,
  type Family,
  hostOf,
  Listeners,
  listenerOf,
  NAME,
} from '../harness/listeners.ts';
import { freePort } from '../harness/ports.ts';
import { DOMAIN, type Registered, register } from '../harness/registrar.ts';
import { parseNameAddr } from '../harness/sip.ts';

/** A phone with a flow, registered over it. */
export interface Phone extends Registered {
  agent: Agent;
  role: 'caller' | 'callee';
  transport: AnyTransport;
  family: Family;
}

/** Between edge and core. */
export interface Link {
  transport: 'UDP' | 'TCP' | 'TLS';
  family: Family;
}

export interface ChainOptions {
  /** of the listeners that phones come to */
  families: readonly Family[];
  /** undefined: one process */
  link?: Link;
  /** of the edge */
  forwarding?: 'stateful' | 'stateless';
}

const REGISTRAR = { DOMAINS: DOMAIN, STORE: 'memory:' };

/** `;transport=` of a URI; over TLS too a WebSocket is called ws (RFC 7118 5.2). */
function parameterOf(transport: AnyTransport): string {
  if (transport === 'UDP') return '';
  return `;transport=${transport === 'WSS' ? 'ws' : transport.toLowerCase()}`;
}

export class Chain {
  readonly phones: Phone[] = [];
  readonly #listeners: Listeners;
  readonly #link: Link | undefined;
  /** where the edge finds the core, as `host:port` */
  #core = '';
  readonly #opened: { close(): Promise<unknown> }[] = [];

  private constructor(listeners: Listeners, link: Link | undefined) {
    this.#listeners = listeners;
    this.#link = link;
  }

  static async start({ families, link, forwarding = 'stateful' }: ChainOptions): Promise<Chain> {
    const listeners = await Listeners.make(families, link?.transport === 'TLS' ? ['TLS'] : []);
    const chain = new Chain(listeners, link);
    try {
      if (link) await chain.#startBoth(link, forwarding);
      else await chain.#launch(listeners.at('UDP', families[0]), { ...REGISTRAR, ...listeners.settings });
    } catch (error) {
      await chain.close();
      throw error;
    }
    return chain;
  }

  async #launch({ host, port }: Address, settings: Record<string, string>): Promise<void> {
    const server = await Holdfast.start({ host, port, settings });
    this.#opened.push({ close: () => server.stop() });
  }

  async #startBoth({ transport, family }: Link, forwarding: string): Promise<void> {
    const listeners = this.#listeners;
    const isNamed = transport === 'TLS';
    const host = hostOf(family);
    const [plain, secured] = [await freePort(host), await freePort(host)].map((port) => ({ host, port }));
    const { port } = isNamed ? secured : plain;
    this.#core = `${isNamed ? CORE_NAME : bracketed(host)}:${port}`;
    const dns = await DnsStub.open();
    this.#opened.push(dns);
    const edge = listeners.at('UDP', family);
    const type = family === 'IPv4' ? 'A' : 'AAAA';
    dns.add(type, CORE_NAME, host).add(type, NAME, edge.host);
    const common = { DNS: `${dns.host}:${dns.port}` };
    const listen = [
      listenerOf('udp', plain),
      listenerOf('tcp', plain),
      `${listenerOf('tls', secured)}/${CORE_NAME}`,
    ];
    const started = await Promise.allSettled([
      this.#launch(plain, {
        ...common,
        ...REGISTRAR,
        ...listeners.tls,
        LISTEN: listen.join(','),
        // a connection of the edge comes from whatever address the kernel gives it
        TRUSTED: family === 'IPv4' ? '127.0.0.0/8' : '::1/128',
      }),
      this.#launch(edge, {
        ...common,
        ...listeners.settings,
        UPSTREAM: `sip:${this.#core};transport=${transport.toLowerCase()}`,
        FORWARDING: forwarding,
      }),
    ]);
    for (const each of started) if (each.status === 'rejected') throw each.reason;
  }

  /** The one caller, or callee, that comes over this transport. Fails if its registration does. */
  async phone(role: 'caller' | 'callee', transport: AnyTransport, family: Family): Promise<Phone> {
    const is = (phone: Phone) =>
      phone.role === role && phone.transport === transport && phone.family === family;
    const known = this.phones.find(is);
    if (known) return known;
    const agent = await this.#listeners.phone(transport, family);
    const phone = { ...(await register(agent)), agent, role, transport, family };
    this.phones.push(phone);
    if (phone.answer.status !== 200) throw new Error(`REGISTER: ${phone.answer}`);
    return phone;
  }

  #listener({ transport, family }: { transport: AnyTransport; family: Family }): string {
    return `${this.#listeners.hostPort(transport, family)}${parameterOf(transport)}`;
  }

  /** The Path of a registration, with this token. */
  pathWith(token: string): string[] {
    if (!this.#link) return []; // the flow is its own
    return [`<sip:${token}@${this.#listener(this.#link)};lr;ob>`];
  }

  /** The route set of a call as the callee reads it, with the phone's name in place of its flow's token. */
  routeSet(caller: Phone, callee: Phone): string[] {
    const [from, to] = [this.#listener(caller), this.#listener(callee)];
    const link = this.#link;
    if (!link) return [...new Set([`callee@${to}`, `callee@${from}`]), `caller@${from}`].map(asRoute);
    const inner = this.#listener(link);
    return [
      ...new Set([`callee@${to}`, `callee@${inner}`]),
      `${this.#core}${parameterOf(link.transport)}`,
      ...new Set([`caller@${inner}`, `caller@${from}`]),
    ].map(asRoute);
  }

  /** The Vias of a request that comes to this phone, as `transport host:port`, but for the sender's own. */
  viasTo({ transport, family }: Phone): string[] {
    const last = `${transport} ${this.#listeners.hostPort(transport, family)}`;
    const link = this.#link;
    if (!link) return [last];
    const hops = [this.#core, this.#listeners.hostPort(link.transport, link.family)];
    return [last, ...hops.map((hop) => `${link.transport} ${hop}`)];
  }

  async close(): Promise<void> {
    for (const { agent } of this.phones) await agent.close().catch(() => {});
    for (const each of this.#opened.reverse()) await each.close();
    this.#listeners.close();
  }
}

const asRoute = (to: string): string => `<sip:${to};lr>`;

/** The tokens in Record-Route or Path values, each once, in order. */
export function tokensIn(routes: string[]): string[] {
  return [...new Set(routes.map((route) => parseNameAddr(route).user).filter((user) => user !== ''))];
}

/** The first token is called callee and the second caller, as in `routeSet`. */
export function named(routes: string[]): string[] {
  const [callee, caller] = tokensIn(routes);
  return routes.map((route) => route.replace(`:${callee}@`, ':callee@').replace(`:${caller}@`, ':caller@'));
}
