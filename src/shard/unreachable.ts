/**
 * ICMP errors (RFC 3261 18.4, EP-5.3.1-09). What came back is charged to the flow of the address in it. Where no
 * flow has it, it was a next hop: the upstream and the transactions that wait for it are told, on every
 * shard, because the kernel gives the error to any socket of the group and the request may be another shard's.
 */
import type { Flows } from '../flow/flows.ts';
import { Endpoint } from '../net/endpoint.ts';
import type { Listener } from '../net/net.ts';
import type { Losses } from '../proxy/losses.ts';
import type { Upstream } from '../proxy/upstream.ts';
import { Cause } from '../shared/cause.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { TRANSPORT_UDP } from '../shared/flow-record.ts';
import type { Mesh } from '../shared/mesh.ts';
import type { Ring } from '../shared/ring.ts';
import { UNREACHABLE } from './boot.ts';

/** Errors for one address come in runs: the other shards are told of it so often at most. */
const TELL_AGAIN_MS = 20;

export interface UnreachableParts {
  flows: Flows;
  listeners: readonly Listener[];
  mesh: Mesh;
  /** how many there are */
  shards: number;
  counters: Counters;
  now: () => number;
  upstream: Upstream | undefined;
  /** undefined: no transactions are kept */
  losses: Losses | undefined;
}

export class Unreachable {
  readonly #p: UnreachableParts;
  /** whom the others were last told of */
  readonly #told = new Endpoint();
  #toldUntil = 0;
  readonly #address = new Endpoint();

  constructor(parts: UnreachableParts) {
    this.#p = parts;
  }

  /** One came to this shard, for what was sent from a listener to that address. */
  came(listener: number, to: Endpoint): void {
    const { flows, listeners, losses } = this.#p;
    const slot = flows.find(listener, to, listeners[listener].address);
    if (slot < 0) {
      this.#nobodyAt(to);
      this.#tell(to);
      return;
    }
    const generation = flows.table.generation(slot);
    losses?.flow(slot, generation);
    flows.end(slot, generation, Cause.ICMP);
  }

  #tell(to: Endpoint): void {
    const { mesh, shards, counters } = this.#p;
    const now = this.#p.now();
    if (this.#told.equals(to) && now < this.#toldUntil) return;
    this.#told.copy(to);
    this.#toldUntil = now + TELL_AGAIN_MS;
    const { words } = mesh;
    for (let shard = 1; shard <= shards; shard++) {
      if (shard === mesh.self) continue;
      words[0] = to.a0;
      words[1] = to.a1;
      words[2] = to.a2;
      words[3] = to.a3;
      words[4] = (to.family << 16) | to.port;
      if (!mesh.send(shard, UNREACHABLE, 5)) counters.inc(Counter.ringFull);
    }
  }

  /** Another shard tells of one. */
  heard(ring: Ring): void {
    const to = this.#address;
    to.a0 = ring.word(0);
    to.a1 = ring.word(1);
    to.a2 = ring.word(2);
    to.a3 = ring.word(3);
    to.family = ring.word(4) >>> 16;
    to.port = ring.word(4) & 0xffff;
    this.#nobodyAt(to);
  }

  #nobodyAt(to: Endpoint): void {
    this.#p.upstream?.lost(to, TRANSPORT_UDP);
    this.#p.losses?.unreachable(to);
  }
}
