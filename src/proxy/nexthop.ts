/**
 * Where a request goes that does not go down a flow: an address, a transport and the listener of ours
 * whose name its Via carries. Numeric hosts only are resolved here; a name is the upstream's business.
 */
import { Endpoint } from '../net/endpoint.ts';
import { SIPS, type UriView } from '../wire/address.ts';
import { latin1 } from '../wire/chars.ts';
import { TCP, UDP } from '../wire/via.ts';
import type { Own } from './own.ts';

export interface Upstream {
  transport: number;
  /** its URI names the transport */
  named: boolean;
  address: Endpoint;
  /** its host as text, lower case: a Route may name it so */
  host: string;
}

/** RFC 3261 18.1.1: more than this goes over a transport with congestion control, since the path's MTU is unknown. */
const MOST_BY_UDP = 1_300;

export class NextHop {
  transport = UDP;
  /** the URI says which transport; otherwise the size of the message may change it */
  #named = false;
  readonly address = new Endpoint();
  listener = 0;
  readonly #own: Own;
  readonly #coreListener: number;

  constructor(own: Own, coreListener: number) {
    this.#own = own;
    this.#coreListener = coreListener;
  }

  toUpstream(upstream: Upstream): boolean {
    this.transport = upstream.transport;
    this.#named = upstream.named;
    this.address.copy(upstream.address);
    return this.#choose();
  }

  /** False: the host is a name, or no listener of ours fits its transport and family. */
  toUri(buf: Uint8Array, uri: UriView): boolean {
    if (!uri.isSip || uri.scheme === SIPS) return false;
    if (uri.transport === 0 && uri.transportFrom >= 0) return false;
    const hostStart = uri.maddrStart >= 0 ? uri.maddrStart : uri.hostStart;
    const hostEnd = uri.maddrStart >= 0 ? uri.maddrEnd : uri.hostEnd;
    this.transport = uri.transport || UDP;
    this.#named = uri.transport !== 0;
    if (!this.address.parse(latin1(buf, hostStart, hostEnd), uri.port || 5060)) return false;
    return this.#choose();
  }

  /** For a request of about this many octets as it goes out. */
  suit(octets: number): void {
    if (octets <= MOST_BY_UDP || this.transport !== UDP || this.#named) return;
    this.transport = TCP;
    if (this.#choose()) return;
    this.transport = UDP; // no listener whose name a Via over TCP could carry
    this.#choose();
  }

  /** Is it this upstream? A Route with its name is, too. */
  isUpstream(buf: Uint8Array, uri: UriView, upstream: Upstream): boolean {
    const host = latin1(buf, uri.hostStart, uri.hostEnd).toLowerCase();
    const port = uri.port || 5060;
    if (port !== upstream.address.port) return false;
    if (host === upstream.host) return true;
    const parsed = this.address.parse(host, port);
    return parsed?.sameAddress(upstream.address) ?? false;
  }

  /** The core-facing listener where it fits, else the first that does. */
  #choose(): boolean {
    const fits = (id: number) => {
      const l = this.#own.listeners[id];
      return l.transport === this.transport && l.family === this.address.family;
    };
    if (this.transport !== UDP && this.transport !== TCP) return false;
    if (fits(this.#coreListener)) {
      this.listener = this.#coreListener;
      return true;
    }
    this.listener = this.#own.listeners.findIndex((_, id) => fits(id));
    return this.listener >= 0;
  }
}
