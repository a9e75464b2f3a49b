/**
 * The last steps of RFC 3261 16.6 that every forwarded request shares: Max-Forwards, Via with a
 * stateless branch, Content-Length for a stream, and the outgoing bytes. What a role changes besides
 * stands in the exchange's patch already.
 */
import { ascii } from '../wire/chars.ts';
import { MAX_FORWARDS, VIA } from '../wire/names.ts';
import { UDP } from '../wire/via.ts';
import type { Answers } from './answer.ts';
import type { Branch } from './branch.ts';
import type { Exchange } from './exchange.ts';
import type { Own } from './own.ts';

const MAX_FORWARDS_70 = ascii('Max-Forwards: 70\r\n');
const CONTENT_LENGTH = ascii('Content-Length: ');

export class Forwarder {
  readonly #exchange: Exchange;
  readonly #own: Own;
  readonly #branch: Branch;
  readonly #answers: Answers;
  /** of the transactions that it writes branches for */
  shard = 0;
  /** the range that `compose` wrote */
  start = 0;
  end = 0;

  constructor(exchange: Exchange, own: Own, branch: Branch, answers: Answers) {
    this.#exchange = exchange;
    this.#own = own;
    this.#branch = branch;
    this.#answers = answers;
  }

  /**
   * Writes the request for `listener` (whose name stands in Via), `stream` if it goes out on one, with the
   * branch of a client transaction or, without one, a stateless branch. False: too large.
   */
  compose(listener: number, stream: boolean, transaction = -1, generation = 0): boolean {
    const { message: m, patch, out } = this.#exchange;
    const viaRow = m.first[VIA];
    const w = patch.insert(m.lineStart[viaRow]);
    w.bytes(this.#own.listeners[listener].via);
    if (transaction >= 0) {
      const loop = this.#branch.loopHash(m);
      this.#branch.writeTransaction(w, this.shard, transaction, generation, loop);
    } else {
      this.#aim();
      this.#branch.write(w, m, this.#exchange.via);
    }
    w.crlf();
    if (m.maxForwards < 0) w.bytes(MAX_FORWARDS_70);
    if (stream && m.contentLength < 0) {
      w.bytes(CONTENT_LENGTH);
      w.decimal(m.end - m.bodyStart);
      w.crlf();
    }
    if (m.maxForwards >= 0) {
      const row = m.first[MAX_FORWARDS];
      patch.replace(m.valueStart[row], m.valueEnd[row]).decimal(m.maxForwards - 1);
    }
    this.start = this.#exchange.openOut();
    if (!patch.apply(m.start, m.end, out)) return false;
    this.end = this.#exchange.keepOut();
    return true;
  }

  /** What the branch must say: where the response goes. */
  #aim(): void {
    const { source, message, via } = this.#exchange;
    const branch = this.#branch;
    branch.listener = source.listener;
    branch.slot = source.slot;
    branch.generation = source.generation;
    branch.hasDestination = false;
    if (source.transport !== UDP) return;
    const to = this.#answers.destination(message, via, source);
    branch.hasDestination = source.slot < 0 || !to.equals(source.remote);
    if (branch.hasDestination) branch.destination.copy(to);
  }
}
