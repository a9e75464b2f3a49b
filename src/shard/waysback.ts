/**
 * Where a response goes when the connection that its request came over is gone and the address it came from
 * takes no new one either (RFC 3261 18.2.2, RFC 3263 5): to what the sent-by of its topmost Via names. A number
 * is that address; a name with a port has addresses; a name alone has SRV records. The next is tried when one
 * cannot be reached; after the last the response is lost, as its sender would have found without us.
 *
 * For trusted peers only: anybody else could have us connect anywhere by what he writes in a Via.
 *
 * The response is kept as a copy while names are asked about. It holds nothing else: which addresses were tried
 * follows from the one that failed last. Bounded; each failure is looked at on the shard's next turn, because
 * it is told in the middle of another message.
 */
import { Endpoint } from '../net/endpoint.ts';
import type { Target } from '../net/targets.ts';
import type { Exchange, Outlet } from '../proxy/exchange.ts';
import type { Parking } from '../proxy/parked.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { latin1 } from '../wire/chars.ts';
import { TCP } from '../wire/via.ts';
import type { Locations } from './locations.ts';

const MOST_WAITING = 256;
const DEFAULT_PORT = 5060;

interface Unreached {
  /** one character an octet */
  response: string;
  /** where it could not be sent to */
  failed: Endpoint;
}

export interface WaysBackParts {
  exchange: Exchange;
  parking: Parking;
  outlet: Outlet;
  locations: Pick<Locations, 'find' | 'learn'>;
  counters: Counters;
  /** Is the address that a request came from one of a peer that we believe? */
  trusts: (address: Endpoint) => boolean;
  /** makes the shard's loop turn soon */
  wake: () => void;
}

export class WaysBack {
  readonly #p: WaysBackParts;
  readonly #source = new Endpoint();
  #unreached: Unreached[] = [];
  /** responses whose names are being asked about */
  #asking = 0;

  constructor(parts: WaysBackParts) {
    this.#p = parts;
  }

  /** These bytes, a response, could not be sent to this address. */
  failed(to: Endpoint, start: number, end: number): void {
    if (this.#unreached.length + this.#asking >= MOST_WAITING) {
      this.#p.counters.inc(Counter.responsesLost);
      return;
    }
    const response = latin1(this.#p.exchange.arena.mem, start, end);
    this.#unreached.push({ response, failed: new Endpoint().copy(to) });
    this.#p.wake();
  }

  /** Once a turn. */
  turn(): void {
    if (this.#unreached.length === 0) return;
    const all = this.#unreached;
    this.#unreached = [];
    for (const each of all) this.#load(each, true);
  }

  #load(unreached: Unreached, mayAsk: boolean): void {
    const { parking, counters } = this.#p;
    if (!parking.load(unreached.response, () => this.#next(unreached, mayAsk)))
      counters.inc(Counter.responsesLost);
  }

  /** The response is in the exchange. */
  #next(unreached: Unreached, mayAsk: boolean): void {
    const { counters } = this.#p;
    const targets = this.#targets();
    if (targets === undefined) {
      if (!mayAsk || !this.#ask(unreached)) counters.inc(Counter.responsesLost);
      return;
    }
    const tried = targets.findIndex(({ address }) => address.equals(unreached.failed));
    for (const { address } of targets.slice(tried + 1)) if (this.#send(address)) return;
    counters.inc(Counter.responsesLost);
  }

  /** Undefined: not known yet. */
  #targets(): readonly Pick<Target, 'address'>[] | undefined {
    const { exchange, locations } = this.#p;
    const { message: m, via } = exchange;
    if (via.transport !== TCP || !this.#believes()) return [];
    const address = Endpoint.parse(this.#host(), via.port || DEFAULT_PORT);
    if (address) return [{ address }];
    if (m.buf[via.hostStart] === 0x5b) return []; // an IPv6 reference that is none
    return locations.find(this.#destination())?.targets;
  }

  #believes(): boolean {
    const { message: m, via } = this.#p.exchange;
    const host = via.receivedStart >= 0 ? latin1(m.buf, via.receivedStart, via.receivedEnd) : this.#host();
    return this.#source.parse(host, via.port || DEFAULT_PORT) !== undefined && this.#p.trusts(this.#source);
  }

  #host(): string {
    const { message: m, via } = this.#p.exchange;
    return latin1(m.buf, via.hostStart, via.hostEnd);
  }

  #destination() {
    const host = this.#host().toLowerCase();
    return { scheme: 'sip', host, port: this.#p.exchange.via.port, transport: TCP } as const;
  }

  #ask(unreached: Unreached): boolean {
    this.#asking++;
    const asked = this.#p.locations.learn([this.#destination()], () => {
      this.#asking--;
      this.#load(unreached, false);
    });
    if (!asked) this.#asking--;
    return asked;
  }

  #send(to: Endpoint): boolean {
    const { exchange, outlet } = this.#p;
    const { message: m } = exchange;
    const start = exchange.openOut();
    exchange.out.range(m.buf, m.start, m.end);
    return outlet.toConnection(to, start, exchange.keepOut());
  }
}
