/**
 * What phones over every transport call each other through: an edge with all listeners and the registrar and proxy
 * behind it, two processes of Holdfast that speak UDP or TCP with each other; or one process that is all of it.
 *
 * Says how that stands in a message of a phone's: in Via and in the route set, where an element is doubled (RFC 5658)
 * if its two sides differ in transport or address family.
 */
import type { Address, Agent } from '../harness/agent.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { type AnyTransport, type Family, hostOf, Listeners, listenerOf } from '../harness/listeners.ts';
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

export interface ChainOptions {
  /** of the listeners that phones come to */
  families: readonly Family[];
  /** between edge and core; undefined: one process */
  link?: { transport: 'UDP' | 'TCP'; family: Family };
  /** of the edge */
  forwarding?: 'stateful' | 'stateless';
}

const REGISTRAR = { DOMAINS: DOMAIN, STORE: 'memory:' };

const hostPort = (address: Address): string => listenerOf('', address).slice(1);

/** `;transport=` of a URI; over TLS too a WebSocket is called ws (RFC 7118 5.2). */
function parameterOf(transport: AnyTransport): string {
  if (transport === 'UDP') return '';
  return `;transport=${transport === 'WSS' ? 'ws' : transport.toLowerCase()}`;
}

export class Chain {
  readonly phones: Phone[] = [];
  readonly #listeners: Listeners;
  readonly #link: ChainOptions['link'];
  readonly #core: Address;
  readonly #servers: Holdfast[] = [];

  private constructor(listeners: Listeners, link: ChainOptions['link'], core: Address) {
    this.#listeners = listeners;
    this.#link = link;
    this.#core = core;
  }

  static async start({ families, link, forwarding = 'stateful' }: ChainOptions): Promise<Chain> {
    const listeners = await Listeners.make(families);
    const host = hostOf(link?.family ?? families[0]);
    const core = { host, port: await freePort(host) };
    const chain = new Chain(listeners, link, core);
    const launch = async ({ host, port }: Address, settings: Record<string, string>) => {
      chain.#servers.push(await Holdfast.start({ host, port, settings }));
    };
    const edge = listeners.at('UDP', link?.family ?? families[0]);
    const started = link
      ? await Promise.allSettled([
          launch(core, {
            ...REGISTRAR,
            LISTEN: `${listenerOf('udp', core)},${listenerOf('tcp', core)}`,
            // a connection of the edge comes from whatever address the kernel gives it
            TRUSTED: link.family === 'IPv4' ? '127.0.0.0/8' : '::1/128',
          }),
          launch(edge, {
            ...listeners.settings,
            UPSTREAM: `${listenerOf('sip', core)};transport=${link.transport.toLowerCase()}`,
            FORWARDING: forwarding,
          }),
        ])
      : await Promise.allSettled([launch(edge, { ...REGISTRAR, ...listeners.settings })]);
    for (const each of started) {
      if (each.status === 'fulfilled') continue;
      await chain.close();
      throw each.reason;
    }
    return chain;
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

  #listener(transport: AnyTransport, family: Family): string {
    return `${hostPort(this.#listeners.at(transport, family))}${parameterOf(transport)}`;
  }

  /** The Path of a registration, with this token. */
  pathWith(token: string): string[] {
    if (!this.#link) return []; // the flow is its own
    return [`<sip:${token}@${this.#listener(this.#link.transport, this.#link.family)};lr;ob>`];
  }

  /** The route set of a call as the callee reads it, with the phone's name in place of its flow's token. */
  routeSet(caller: Phone, callee: Phone): string[] {
    const [from, to] = [caller, callee].map(({ transport, family }) => this.#listener(transport, family));
    const link = this.#link;
    if (!link) return [...new Set([`callee@${to}`, `callee@${from}`]), `caller@${from}`].map(asRoute);
    const inner = this.#listener(link.transport, link.family);
    const core = `${hostPort(this.#core)}${parameterOf(link.transport)}`;
    return [
      ...new Set([`callee@${to}`, `callee@${inner}`]),
      core,
      ...new Set([`caller@${inner}`, `caller@${from}`]),
    ].map(asRoute);
  }

  /** The Vias of a request that comes to this phone, as `transport host:port`, but for the sender's own. */
  viasTo({ transport, family }: Phone): string[] {
    const last = `${transport} ${hostPort(this.#listeners.at(transport, family))}`;
    const link = this.#link;
    if (!link) return [last];
    const hops = [this.#core, this.#listeners.at(link.transport, link.family)];
    return [last, ...hops.map((address) => `${link.transport} ${hostPort(address)}`)];
  }

  async close(): Promise<void> {
    for (const { agent } of this.phones) await agent.close().catch(() => {});
    for (const server of this.#servers) await server.stop();
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
