/**
 * An edge with every listener and the registrar and proxy behind it: two processes of Holdfast, which speak UDP with
 * each other, with phones in front of them. Says how the two stand in a message of a phone's: in Via and in the
 * route set, where the edge is doubled (RFC 5658) if the phone's transport or address family is another one than the
 * core's.
 */
import type { Address, Agent } from '../harness/agent.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { type AnyTransport, type Family, hostOf, Listeners, listenerOf } from '../harness/listeners.ts';
import { freePort } from '../harness/ports.ts';
import { DOMAIN, type Registered, register } from '../harness/registrar.ts';
import { parseNameAddr } from '../harness/sip.ts';

/** A phone with a flow to the edge, registered over it. */
export interface Phone extends Registered {
  agent: Agent;
  transport: AnyTransport;
  family: Family;
}

export interface ChainOptions {
  /** of the edge's listeners */
  families: readonly Family[];
  /** between edge and core */
  core: Family;
  forwarding: 'stateful' | 'stateless';
}

const hostPort = (address: Address): string => listenerOf('', address).slice(1);

export class Chain {
  readonly phones: Phone[] = [];
  readonly #listeners: Listeners;
  readonly #family: Family;
  readonly #core: Address;
  readonly #servers: Holdfast[] = [];

  private constructor(listeners: Listeners, family: Family, core: Address) {
    this.#listeners = listeners;
    this.#family = family;
    this.#core = core;
  }

  static async start({ families, core: family, forwarding }: ChainOptions): Promise<Chain> {
    const listeners = await Listeners.make(families);
    const host = hostOf(family);
    const core = { host, port: await freePort(host) };
    const edge = listeners.at('UDP', family);
    const chain = new Chain(listeners, family, core);
    const started = await Promise.allSettled([
      chain.#launch(core, {
        LISTEN: `${listenerOf('udp', core)},${listenerOf('tcp', core)}`,
        DOMAINS: DOMAIN,
        STORE: 'memory:',
        TRUSTED: `${edge.host}/${family === 'IPv4' ? 32 : 128}`,
      }),
      chain.#launch(edge, {
        ...listeners.settings,
        UPSTREAM: `${listenerOf('sip', core)};transport=udp`,
        FORWARDING: forwarding,
      }),
    ]);
    for (const each of started) {
      if (each.status === 'fulfilled') continue;
      await chain.close();
      throw each.reason;
    }
    return chain;
  }

  async #launch({ host, port }: Address, settings: Record<string, string>): Promise<void> {
    this.#servers.push(await Holdfast.start({ host, port, settings }));
  }

  /** Fails if the registration does. */
  async phone(transport: AnyTransport, family: Family): Promise<Phone> {
    const agent = await this.#listeners.phone(transport, family);
    const phone = { ...(await register(agent)), agent, transport, family };
    this.phones.push(phone);
    if (phone.answer.status !== 200) throw new Error(`REGISTER: ${phone.answer}`);
    return phone;
  }

  /** `host:port` and `;transport=` of a URI of the edge; over TLS too a WebSocket is called ws (RFC 7118 5.2). */
  #edgeAt(transport: AnyTransport, family: Family): string {
    const named = transport === 'WSS' ? 'ws' : transport.toLowerCase();
    const parameter = transport === 'UDP' ? '' : `;transport=${named}`;
    return `${hostPort(this.#listeners.at(transport, family))}${parameter}`;
  }

  /** The Path value that a registration through the edge has. */
  pathWith(token: string): string {
    return `<sip:${token}@${this.#edgeAt('UDP', this.#family)};lr;ob>`;
  }

  /** The edge in a route set, for this phone: its own side first. */
  #edgeFor({ transport, family, answer }: Phone): string[] {
    const token = parseNameAddr(answer.all('Path')[0]).user;
    const sides = new Set([this.#edgeAt(transport, family), this.#edgeAt('UDP', this.#family)]);
    return [...sides].map((side) => `<sip:${token}@${side};lr>`);
  }

  /** The route set of a call as the callee reads it. */
  routeSet(caller: Phone, callee: Phone): string[] {
    const core = `<sip:${hostPort(this.#core)};lr>`;
    return [...this.#edgeFor(callee), core, ...this.#edgeFor(caller).reverse()];
  }

  /** The Vias of a request that comes to this phone, as `transport host:port`, but for the sender's own. */
  viasTo({ transport, family }: Phone): string[] {
    const [core, edge] = [this.#core, this.#listeners.at('UDP', this.#family)].map(hostPort);
    return [`${transport} ${hostPort(this.#listeners.at(transport, family))}`, `UDP ${core}`, `UDP ${edge}`];
  }

  async close(): Promise<void> {
    for (const { agent } of this.phones) await agent.close().catch(() => {});
    for (const server of this.#servers) await server.stop();
    this.#listeners.close();
  }
}
