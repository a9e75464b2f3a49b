/**
 * Who we are: is a URI this element, or a domain that it serves, and how is each listener written in
 * Via, Path and Record-Route. All texts are made once, at start; a check is a few compares.
 */
import type { UriView } from '../wire/address.ts';
import { SIPS } from '../wire/address.ts';
import { ascii, equalsNoCase } from '../wire/chars.ts';
import { defaultPort, TLS, TRANSPORTS, UDP, WS, WSS } from '../wire/via.ts';

/** What `Own` needs of a listener; ListenerConfig has it. */
export interface Advertised {
  transport: number;
  host: string;
  port: number;
  advertisedHost: string;
  advertisedPort: number;
}

/** A listener as it is written in messages. */
export interface ListenerText {
  transport: number;
  family: number;
  /** `Via: SIP/2.0/UDP host:port;rport;branch=z9hG4bK`: the branch follows */
  via: Uint8Array;
  /** `@host:port;transport=tcp;lr`: behind the user part of a Route URI (without transport on UDP) */
  route: Uint8Array;
  /** `host:port` */
  address: string;
}

interface Address {
  host: Uint8Array;
  port: number;
}

/** What a URI without a port means. `sip` with `ws` is written for a WebSocket over TLS too (7118 §5.2, §5.5). */
function isDefault(port: number, { scheme, transport }: UriView): boolean {
  if (transport >= WS) return port === defaultPort(WSS) || (port === defaultPort(WS) && scheme !== SIPS);
  return port === defaultPort(scheme === SIPS ? TLS : transport);
}

export class Own {
  readonly listeners: ListenerText[];
  readonly #addresses: Address[] = [];
  readonly #domains: Uint8Array[];
  readonly #domainNames: Set<string>;

  constructor(listen: readonly Advertised[], domains: readonly string[]) {
    this.listeners = listen.map((l) => {
      const hostPort = `${l.advertisedHost}:${l.advertisedPort}`;
      const transport = TRANSPORTS[l.transport];
      const rport = l.transport === UDP ? ';rport' : '';
      // 7118 §5.2: a URI says ws, over TLS too
      const named = l.transport === WSS ? TRANSPORTS[WS] : transport;
      const parameter = l.transport === UDP ? '' : `;transport=${named.toLowerCase()}`;
      return {
        transport: l.transport,
        // the socket's: it says whom we can send to
        family: l.host.includes(':') ? 6 : 4,
        via: ascii(`Via: SIP/2.0/${transport} ${hostPort}${rport};branch=z9hG4bK`),
        route: ascii(`@${hostPort}${parameter};lr`),
        address: hostPort,
      };
    });
    for (const l of listen) {
      this.#add(l.host.includes(':') ? `[${l.host}]` : l.host, l.port);
      this.#add(l.advertisedHost, l.advertisedPort);
    }
    this.#domainNames = new Set(domains.map((domain) => domain.toLowerCase()));
    this.#domains = domains.map((domain) => ascii(domain.toLowerCase()));
  }

  #add(host: string, port: number): void {
    const bytes = ascii(host.toLowerCase());
    if (!this.#addresses.some((a) => a.port === port && equalsNoCase(bytes, 0, bytes.length, a.host)))
      this.#addresses.push({ host: bytes, port });
  }

  /** Is the host and port of a SIP URI one of our listeners, as bound or as advertised? */
  isSelf(buf: Uint8Array, uri: UriView): boolean {
    if (!uri.isSip) return false;
    for (const address of this.#addresses) {
      const fits = uri.port === 0 ? isDefault(address.port, uri) : address.port === uri.port;
      if (fits && equalsNoCase(buf, uri.hostStart, uri.hostEnd, address.host)) return true;
    }
    return false;
  }

  /** The same for a range that is a host, e.g. of `maddr`. */
  isSelfHost(buf: Uint8Array, start: number, end: number, port: number): boolean {
    for (const address of this.#addresses) {
      if ((port === 0 || address.port === port) && equalsNoCase(buf, start, end, address.host)) return true;
    }
    return false;
  }

  /** Is this host, as text, one of the served domains? */
  servesHost(host: string): boolean {
    return this.#domainNames.has(host.toLowerCase());
  }

  /**
   * Do we serve the domain of this URI? A port in it must be none, the default, or one of ours: a domain
   * that is an address (127.0.0.1) is often written with the listener's port.
   */
  serves(buf: Uint8Array, uri: UriView): boolean {
    if (!uri.isSip) return false;
    for (const domain of this.#domains) {
      if (!equalsNoCase(buf, uri.hostStart, uri.hostEnd, domain)) continue;
      if (uri.port === 0 || isDefault(uri.port, uri)) return true;
      return this.#addresses.some((address) => address.port === uri.port);
    }
    return false;
  }
}
