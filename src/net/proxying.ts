/**
 * The first octets of an accepted stream, which may be a PROXY header: whether they are one, whether this peer
 * may send one, and what it says into the flow's record. Both backends ask here before anything else reads the
 * stream, TLS included.
 *
 * A balancer has no setting of its own: whoever is believed may send a header, and need not. So a peer that
 * begins with CR LF CR LF may mean a keep-alive or a header; on plain TCP it is answered as a keep-alive, and a
 * header may still follow. A balancer that cuts its header just there costs its client a CR LF too many.
 */
import { Cause } from '../shared/cause.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { TRANSPORT_TCP } from '../shared/flow-record.ts';
import type { FlowTable } from '../shared/flow-table.ts';
import type { NetHandler } from './net.ts';
import { CLIENT, HEADER, LOCAL, MALFORMED, MORE, PING, ProxyHeader } from './proxyheader.ts';

const CR = 13;

/** Keep the octets and ask again with more behind them. */
export const WAIT = -1;
/** Close the stream with `cause`. */
export const REFUSED = -2;
/** They are PING octets, for the handler; ask again with what follows. */
export const KEEP_ALIVE = -3;

export class Proxying {
  cause: number = Cause.NONE;
  readonly #mem: Uint8Array;
  readonly #flows: FlowTable;
  readonly #counters: Counters;
  readonly #header = new ProxyHeader();

  constructor(mem: Uint8Array, flows: FlowTable, counters: Counters) {
    this.#mem = mem;
    this.#flows = flows;
    this.#counters = counters;
  }

  /** Has nothing of this accepted stream been read yet? No if a predecessor of this shard has read of it. */
  awaits(slot: number): boolean {
    return this.#flows.messagesIn(slot) === 0;
  }

  /**
   * What stands at `[start, end)` of the arena, the front of the stream, or what follows its `seen` octets of
   * KEEP_ALIVE: so many octets of a header, 0 if there is none, or one of the codes above.
   */
  examine(slot: number, start: number, end: number, seen: number, handler: NetHandler): number {
    const header = this.#header;
    const verdict = header.read(this.#mem, start, end, seen);
    if (header.signed && !handler.mayProxy(slot)) return this.#refuse(Cause.PROXY_UNTRUSTED);
    if (verdict === MALFORMED) return this.#refuse(Cause.PROXY_MALFORMED);
    if (verdict === MORE) {
      const isPing = seen === 0 && end - start === PING && this.#mem[start] === CR;
      return isPing && this.#flows.transport(slot) === TRANSPORT_TCP ? KEEP_ALIVE : WAIT;
    }
    if (verdict !== HEADER) return 0;
    this.#flows.countIn(slot); // no second one is looked for, by a successor of this shard either
    if (header.about === CLIENT) {
      const { a0, a1, a2, a3, port } = header.client;
      this.#flows.setClient(slot, a0, a1, a2, a3, port);
    }
    handler.proxied(slot, header.about === LOCAL);
    return header.length - seen;
  }

  #refuse(cause: number): number {
    this.cause = cause;
    this.#counters.inc(Counter.proxyRefused);
    return REFUSED;
  }
}
