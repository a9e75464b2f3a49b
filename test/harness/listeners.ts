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

/** The host name in the certificate. */
const NAME = 'edge.test';

export const hostOf = (family: Family): string => (family === 'IPv4' ? freshHost() : '::1');

export const listenerOf = (transport: string, { host, port }: Address): string =>
  `${transport.toLowerCase()}:${bracketed(host)}:${port}`;

export class Listeners {
  readonly #addresses: Map<string, Address>;
  readonly #certificates: Certificates;

  private constructor(addresses: Map<string, Address>, certificates: Certificates) {
    this.#addresses = addresses;
    this.#certificates = certificates;
  }

  static async make(
    families: readonly Family[],
    transports: readonly AnyTransport[] = EVERY_TRANSPORT,
  ): Promise<Listeners> {
    const addresses = new Map<string, Address>();
    for (const family of families) {
      const host = hostOf(family);
      for (const transport of transports)
        addresses.set(`${transport} ${family}`, { host, port: await freePort(host) });
    }
    return new Listeners(addresses, makeCertificates([`DNS:${NAME}`]));
  }

  /** For Holdfast.start. */
  get settings(): { LISTEN: string; TLS_CERT: string; TLS_KEY: string } {
    const listen = [...this.#addresses].map(([name, address]) => listenerOf(name.split(' ')[0], address));
    const { cert, key } = this.#certificates;
    return { LISTEN: listen.join(','), TLS_CERT: cert, TLS_KEY: key };
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
