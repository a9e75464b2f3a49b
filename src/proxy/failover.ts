/**
 * A request once more, for another target of the upstream (RFC 3263 4.3): which target, and the octets. They are made from
 * those that went to the target that failed, so the request as it came in need not be kept: the top Via alone is
 * new, with the branch of the new client transaction and the transport of the target, and Content-Length is added
 * where a stream needs it. Path and Record-Route stay: they name listeners of ours, and each of them can be reached.
 *
 * Costs a lexing of the request; runs only after a failure.
 */

import { ascii } from '../wire/chars.ts';
import { Message, OK } from '../wire/lexer.ts';
import { VIA } from '../wire/names.ts';
import { UDP, Via } from '../wire/via.ts';
import type { Branch } from './branch.ts';
import type { Exchange } from './exchange.ts';
import type { NextHop } from './nexthop.ts';
import type { Own } from './own.ts';
import { NO_TARGET } from './targetset.ts';
import type { Upstream } from './upstream.ts';

const CONTENT_LENGTH = ascii('Content-Length: ');

export interface FailoverParts {
  exchange: Exchange;
  upstream: Upstream;
  /** of its own: the exchange's may be in use */
  hop: NextHop;
  own: Own;
  branch: Branch;
  /** of the transactions that it writes branches for */
  shard: number;
}

export class Failover {
  readonly upstream: Upstream;
  readonly hop: NextHop;
  /** the range that `compose` wrote */
  start = 0;
  end = 0;
  readonly #exchange: Exchange;
  readonly #own: Own;
  readonly #branch: Branch;
  readonly #shard: number;
  readonly #sent = new Message();
  readonly #via = new Via();

  constructor({ exchange, upstream, hop, own, branch, shard }: FailoverParts) {
    this.#exchange = exchange;
    this.upstream = upstream;
    this.hop = hop;
    this.#own = own;
    this.#branch = branch;
    this.#shard = shard;
  }

  /** Takes the request as it was sent, `length` octets of the arena at `at`. False: it has no Via of ours. */
  open(at: number, length: number): boolean {
    const m = this.#sent;
    const via = this.#via;
    if (m.lex(this.#exchange.arena.mem, at, at + length, false) !== OK) return false;
    const row = m.first[VIA];
    return via.parse(m.buf, m.valueStart[row], m.valueEnd[row]) && via.end >= m.valueEnd[row];
  }

  /** Aims `hop` at a target that is not among the tried ones: its slot, or NO_TARGET. */
  next(tried: number): number {
    const slot = this.upstream.choose(this.#sent, tried);
    const target = slot === NO_TARGET ? undefined : this.upstream.at(slot);
    if (!target || !this.hop.toTarget(slot, target, true)) return NO_TARGET;
    this.hop.suit(this.#sent.end - this.#sent.start);
    return slot;
  }

  /** Aims `hop` at the same target without regard to the size (3261 18.1.1): its slot, or NO_TARGET. */
  unsized(slot: number): number {
    const target = this.upstream.at(slot);
    return target && this.hop.toTarget(slot, target, true) ? slot : NO_TARGET;
  }

  /** Writes the request for `hop` in this client transaction. False: too large. */
  compose(transaction: number, generation: number): boolean {
    const { out } = this.#exchange;
    const m = this.#sent;
    const via = this.#via;
    const branch = this.#branch;
    const row = m.first[VIA];
    // 5393 4.2: by what it was routed when it came in, which its octets do not show any more
    const known = via.branchStart >= 0 && branch.read(m.buf, via.branchStart, via.branchEnd);
    const loop = known && branch.transaction >= 0 ? branch.loop : branch.loopHash(m);
    this.start = this.#exchange.openOut();
    out.range(m.buf, m.start, m.lineStart[row]);
    out.bytes(this.#own.listeners[this.hop.listener].via);
    branch.writeTransaction(out, this.#shard, transaction, generation, loop);
    out.crlf();
    if (this.hop.transport !== UDP && m.contentLength < 0) {
      out.bytes(CONTENT_LENGTH);
      out.decimal(m.end - m.bodyStart);
      out.crlf();
    }
    out.range(m.buf, m.lineEnd[row], m.end);
    if (out.overflow) return false;
    this.end = this.#exchange.keepOut();
    return true;
  }
}
