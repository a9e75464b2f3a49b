/**
 * A request that has to wait, for the location store or for the answer of another place: a copy of its
 * octets and of where it came from. `resume` lexes it again into the exchange, so nothing else of the
 * exchange is kept; the copy stays good for any number of times.
 *
 * The copy is a string, one character an octet: a small Buffer is a part of one of 64 KiB, and a call that rings would
 * keep all of that.
 */
import { Counter, type Counters } from '../shared/counters.ts';
import { latin1 } from '../wire/chars.ts';
import { VIA } from '../wire/names.ts';
import { type Exchange, Source } from './exchange.ts';

export interface Parked {
  octets: string;
  source: Source;
}

export class Parking {
  readonly #exchange: Exchange;
  readonly #counters: Counters;

  constructor(exchange: Exchange, counters: Counters) {
    this.#exchange = exchange;
    this.#counters = counters;
  }

  park(): Parked {
    const { message: m, source } = this.#exchange;
    return { octets: latin1(m.buf, m.start, m.end), source: new Source().copy(source) };
  }

  /** Runs `then` with the request in the exchange. False: there is no buffer for it now. */
  resume(parked: Parked, then: () => void): boolean {
    this.#exchange.source.copy(parked.source);
    return this.load(parked.octets, then);
  }

  /** The same for any message: a request, or a response that was kept. */
  load(octets: string, then: () => void): boolean {
    const { arena, message: m, via } = this.#exchange;
    const at = arena.slabs.lease(octets.length + 1);
    if (at < 0) {
      this.#counters.inc(Counter.slabFull);
      return false;
    }
    arena.mem.write(octets, at, 'latin1');
    m.lex(arena.mem, at, at + octets.length, false);
    const row = m.first[VIA];
    if (row >= 0 && via.parse(m.buf, m.valueStart[row], m.valueEnd[row])) then();
    arena.slabs.giveBack(at);
    return true;
  }
}
