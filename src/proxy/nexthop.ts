/**
 * Where a request goes that does not go down a flow: an address, a transport and the listener of ours
 * whose name its Via carries; of the upstream, which of its targets, and whether another one may take its
 * place. Of another host that is a name it is known, by `names`, where it is, or it says what must be asked.
 */
import { Endpoint } from '../net/endpoint.ts';
import type { Destination, Location, Target } from '../net/targets.ts';
import { SIPS, type UriView } from '../wire/address.ts';
import { latin1 } from '../wire/chars.ts';
import { defaultPort, TCP, TLS, UDP, WS } from '../wire/via.ts';
import type { Own } from './own.ts';
import { NO_TARGET } from './targetset.ts';

/** What is known of destinations now; undefined: nothing yet. */
export interface Names {
  find(destination: Destination): Location | undefined;
}

/** RFC 3261 18.1.1: more than this goes over a transport with congestion control, since the path's MTU is unknown. */
const MOST_BY_UDP = 1_300;

export class NextHop {
  transport = UDP;
  /** the URI says which transport; otherwise the size of the message may change it */
  #named = false;
  readonly address = new Endpoint();
  listener = 0;
  /** of the upstream, NO_TARGET: this is another host */
  slot = NO_TARGET;
  /** any target of the upstream would do */
  movable = false;
  /** whom the certificate must name, where the transport is secured */
  host = '';
  /** TCP for the size of the request alone */
  sized = false;
  names: Names | undefined;
  /** after a `toUri` that was false: what must be asked first */
  wanted: Destination | undefined;
  /** after a `toUri` that was false: name servers are silent, another time it may be known */
  silent = false;
  readonly #own: Own;
  readonly #coreListener: number;

  constructor(own: Own, coreListener: number) {
    this.#own = own;
    this.#coreListener = coreListener;
  }

  /** A target of the upstream. False: no listener of ours fits it. */
  toTarget(slot: number, target: Target, movable: boolean): boolean {
    this.transport = target.transport;
    this.#named = target.named === true;
    this.host = target.domain ?? target.host;
    this.address.copy(target.address);
    this.slot = slot;
    this.movable = movable;
    this.sized = false;
    return this.#choose();
  }

  /** False: the host is a name that is not known (yet), or no listener of ours fits its transport and family. */
  toUri(buf: Uint8Array, uri: UriView): boolean {
    this.wanted = undefined;
    this.silent = false;
    if (!uri.isSip || (uri.transport === 0 && uri.transportFrom >= 0)) return false;
    if (uri.transport >= WS) return false; // WebSockets are opened by clients alone: by its flow or not at all
    const isSips = uri.scheme === SIPS;
    if (isSips && uri.transport === UDP) return false;
    const hostStart = uri.maddrStart >= 0 ? uri.maddrStart : uri.hostStart;
    const hostEnd = uri.maddrStart >= 0 ? uri.maddrEnd : uri.hostEnd;
    this.transport = isSips ? TLS : uri.transport || UDP;
    this.#named = isSips || uri.transport !== 0;
    this.slot = NO_TARGET;
    this.movable = this.sized = false;
    const host = latin1(buf, hostStart, hostEnd).toLowerCase();
    this.host = host;
    if (this.address.parse(host, uri.port || defaultPort(this.transport))) return this.#choose();
    return this.#toName({
      scheme: isSips ? 'sips' : 'sip',
      host,
      port: uri.port,
      transport: uri.transport,
    });
  }

  /** The first of its targets: who has a choice, and hears how it went, is the upstream alone. */
  #toName(destination: Destination): boolean {
    if (!this.names) return false;
    const location = this.names.find(destination);
    if (!location) {
      this.wanted = destination;
      return false;
    }
    const [target] = location.targets;
    this.silent = location.failure === 'no-answer' || location.failure === 'busy';
    if (!target) return false;
    this.transport = target.transport;
    this.address.copy(target.address);
    return this.#choose();
  }

  /** For a request of about this many octets as it goes out. */
  suit(octets: number): void {
    if (octets <= MOST_BY_UDP || this.transport !== UDP || this.#named) return;
    this.transport = TCP;
    this.sized = this.#choose();
    if (this.sized) return;
    this.transport = UDP; // no listener whose name a Via over TCP could carry
    this.#choose();
  }

  /** The core-facing listener where it fits, else the first that does. */
  #choose(): boolean {
    const fits = (id: number) => {
      const l = this.#own.listeners[id];
      return l.transport === this.transport && l.family === this.address.family;
    };
    if (this.transport !== UDP && this.transport !== TCP && this.transport !== TLS) return false;
    if (fits(this.#coreListener)) {
      this.listener = this.#coreListener;
      return true;
    }
    this.listener = this.#own.listeners.findIndex((_, id) => fits(id));
    return this.listener >= 0;
  }
}
