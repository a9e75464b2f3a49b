/**
 * OPTIONS to the targets of the upstream, each in a client transaction of its own: any answer but 503 shows that one
 * lives, silence for the answer time or an error that it does not. When they are due, and what they prove, says
 * targetset.ts.
 *
 * Each shard asks for itself, since what it finds out includes its own connections; no message between shards is needed
 * for it. Costs one request a target, interval and shard.
 */
import { MAX_TARGETS } from '../net/targets.ts';
import { TRANSPORTS, UDP } from '../wire/via.ts';
import type { Writer } from '../wire/writer.ts';
import type { Branch } from './branch.ts';
import type { NextHop } from './nexthop.ts';
import type { Own } from './own.ts';
import type { ProxyTransactions } from './transactions.ts';
import type { Upstream } from './upstream.ts';

export interface ProbeParts {
  upstream: Upstream;
  transactions: ProxyTransactions;
  /** of its own */
  hop: NextHop;
  own: Own;
  branch: Branch;
  shard: number;
  /** 0 to 2^32 - 1, nobody can guess it */
  random: () => number;
}

export class Probes {
  readonly #p: ProbeParts;
  readonly #due = new Uint8Array(MAX_TARGETS);
  readonly #callId: string;
  #sent = 0;
  readonly #write = (w: Writer, client: number, generation: number): void =>
    this.#compose(w, client, generation);

  constructor(parts: ProbeParts) {
    this.#p = parts;
    this.#callId = `${parts.random().toString(16)}${parts.random().toString(16)}`;
  }

  /** Sends what is due. Returns when to come again, ms or Infinity. */
  turn(nowMs: number): number {
    const { upstream, transactions, hop } = this.#p;
    const { targets } = upstream;
    if (nowMs < targets.nextProbe()) return targets.nextProbe();
    const n = targets.dueProbes(nowMs, this.#due);
    for (let i = 0; i < n; i++) {
      const slot = this.#due[i];
      const target = targets.at(slot);
      if (target && hop.toTarget(slot, target, false)) transactions.targets?.probe(hop, this.#write);
    }
    return targets.nextProbe();
  }

  #compose(w: Writer, client: number, generation: number): void {
    const { hop, own, branch, shard, random } = this.#p;
    const listener = own.listeners[hop.listener];
    const transport = hop.transport === UDP ? '' : `;transport=${TRANSPORTS[hop.transport].toLowerCase()}`;
    w.text(`OPTIONS sip:${hop.address}${transport} SIP/2.0\r\n`);
    w.bytes(listener.via);
    branch.writeTransaction(w, shard, client, generation, 0);
    w.text(
      `\r\nMax-Forwards: 70\r\nFrom: <sip:holdfast@${listener.address}>;tag=${random().toString(16)}\r\n`,
    );
    w.text(`To: <sip:${hop.address}>\r\nCall-ID: ${this.#callId}-${++this.#sent}\r\n`);
    w.text('CSeq: 1 OPTIONS\r\nAccept: application/sdp\r\nContent-Length: 0\r\n\r\n');
  }
}
