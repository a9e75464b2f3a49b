/**
 * Every way into a server: a listener of each of the five transports in IPv4, IPv6 or both, with one certificate for
 * those that need one, and phones that come in by any of them. All of IPv6 is on ::1, the one loopback address that
 * there is, so peers differ by port there; in IPv4 each has a host of its own.
 */
import { type Address, type Agent, bracketed, TcpAgent, UdpAgent } from './agent.ts';
import { type Certificates, makeCertificates } from './certificates.ts';
import { freePort, freshHost } from './ports.ts';
import { WsAgent } from './websocket.ts';

export const EVERY_TRANSPORT = ['UDP', 'TCP', 'TLS', 'WS', 'WSS'] as const;
export type AnyTransport = (typeof EVERY_TRANSPORT)[number];

export type Family = 'IPv4' | 'IPv6';

/** The names in the certificate: the server's, and that of a core behind it. */
export const NAME = 'edge.test';
export const CORE_NAME = 'core.test';

export const hostOf = (family: Family): string => (family === 'IPv4' ? freshHost() : '::1');

export const listenerOf = (transport: string, { host, port }: Address): string =>
  `${transport.toLowerCase()}:${bracketed(host)}:${port}`;

export class Listeners {
  readonly #addresses: Map<string, Address>;
  readonly #named: readonly AnyTransport[];
  readonly #certificates: Certificates;

  private constructor(
    addresses: Map<string, Address>,
    named: readonly AnyTransport[],
    certificates: Certificates,
  ) {
    this.#addresses = addresses;
    this.#named = named;
    this.#certificates = certificates;
  }

  /** `named`: those that are advertised by NAME, and not by their address. */
  static async make(families: readonly Family[], named: readonly AnyTransport[] = []): Promise<Listeners> {
    const addresses = new Map<string, Address>();
    for (const family of families) {
      const host = hostOf(family);
      for (const transport of EVERY_TRANSPORT)
        addresses.set(`${transport} ${family}`, { host, port: await freePort(host) });
    }
    const certificates = makeCertificates([`DNS:${NAME}`, `DNS:${CORE_NAME}`]);
    return new Listeners(addresses, named, certificates);
  }

  /** For Holdfast.start. */
  get settings(): Record<string, string> {
    const listen = [...this.#addresses].map(([key, address]) => {
      const [transport] = key.split(' ') as [AnyTransport];
      return `${listenerOf(transport, address)}${this.#named.includes(transport) ? `/${NAME}` : ''}`;
    });
    return { LISTEN: listen.join(','), ...this.tls };
  }

  /** The part of it that is about certificates. */
  get tls(): Record<string, string> {
    const { cert, key, ca } = this.#certificates;
    return { TLS_CERT: cert, TLS_KEY: key, TLS_CA: ca };
  }

  /** `host:port` as messages have it. */
  hostPort(transport: AnyTransport, family: Family): string {
    const { host, port } = this.at(transport, family);
    return `${this.#named.includes(transport) ? NAME : bracketed(host)}:${port}`;
  }

  at(transport: AnyTransport, family: Family): Address {
    const address = this.#addresses.get(`${transport} ${family}`);
    if (!address) throw new Error(`no listener for ${transport} over ${family}`);
    return address;
  }

  /** A phone with a flow to the listener of that transport and family: an open connection, or a UDP socket. */
  async phone(
    transport: AnyTransport,
    family: Family,
    localHost = hostOf(family),
    name = `phone over ${transport}, ${family},`,
  ): Promise<Agent> {
    const peer = this.at(transport, family);
    const tls = { ca: this.#certificates.trusted, servername: NAME };
    switch (transport) {
      case 'UDP':
        return UdpAgent.open({ host: localHost, peer, name });
      case 'TCP':
        return TcpAgent.connect({ peer, localHost, name });
      case 'TLS':
        return TcpAgent.connectTls({ peer, localHost, name, ...tls });
      default:
        return WsAgent.connect({ peer, localHost, name, ...(transport === 'WSS' && { tls }) });
    }
  }

  close(): void {
    this.#certificates.remove();
  }
}
