/**
 * Node's sockets speak of addresses in text, Holdfast in integers: this turns one into the other and
 * keeps what it has seen, so that a peer that is heard or answered again costs a look-up and no parsing.
 *
 * Both caches are bounded. Text to address: a map that forgets its oldest entry. Address to text: a
 * table of one entry a place, where a newcomer displaces the one before it. A miss costs a microsecond.
 */
import { Endpoint } from './endpoint.ts';

const KNOWN = 4_096;
const PLACES = 4_096;

export class Hosts {
  readonly #known = new Map<string, Endpoint>();
  readonly #addresses = Array.from({ length: PLACES }, () => new Endpoint());
  readonly #texts = new Array<string>(PLACES).fill('');

  /** Fills `into` from what a Node socket says; false if that is no numeric address. An IPv6 zone is left off. */
  parse(host: string, port: number, into: Endpoint): boolean {
    let known = this.#known.get(host);
    if (!known) {
      const zone = host.indexOf('%');
      known = Endpoint.parse(zone < 0 ? host : host.slice(0, zone), 0);
      if (!known) return false;
      if (this.#known.size === KNOWN) {
        const [oldest] = this.#known.keys();
        this.#known.delete(oldest);
      }
      this.#known.set(host, known);
    }
    into.copy(known);
    into.port = port;
    return true;
  }

  text(address: Endpoint): string {
    const { a0, a1, a2, a3, family } = address;
    const place = (Math.imul(a0 ^ Math.imul(a1, 31) ^ Math.imul(a2, 961) ^ a3, 0x9e3779b1) >>> 20) % PLACES;
    const kept = this.#addresses[place];
    if (this.#texts[place] === '' || !kept.sameAddress(address) || kept.family !== family) {
      kept.copy(address);
      this.#texts[place] = address.host;
    }
    return this.#texts[place];
  }
}
