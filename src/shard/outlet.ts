/**
 * The way out of a shard: a datagram leaves by the socket that this shard has for the listener, whichever shard
 * owns the flow; a stream is written by its owner, so the bytes of another shard's flow go through the
 * ring, rewritten completely. The owner reports a flow that has ended by sending the bytes back.
 */

import type { Flows } from '../flow/flows.ts';
import { Endpoint } from '../net/endpoint.ts';
import type { Net } from '../net/net.ts';
import { BUSY, ENDED, type Outlet, SENT } from '../proxy/exchange.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { TRANSPORT_TCP, TRANSPORT_UDP } from '../shared/flow-record.ts';
import type { Mesh } from '../shared/mesh.ts';
import { FLOW_WRITE } from './boot.ts';
import type { Connections } from './connections.ts';

export class ShardOutlet implements Outlet {
  readonly #net: Net;
  readonly #flows: Flows;
  readonly #mesh: Mesh;
  readonly #counters: Counters;
  readonly #remote = new Endpoint();
  readonly #local = new Endpoint();
  connections!: Connections;

  constructor(net: Net, flows: Flows, mesh: Mesh, counters: Counters) {
    this.#net = net;
    this.#flows = flows;
    this.#mesh = mesh;
    this.#counters = counters;
  }

  toFlow(slot: number, generation: number, start: number, end: number): number {
    const { table } = this.#flows;
    if (!table.isLive(slot, generation)) return ENDED;
    this.#counters.inc(Counter.messagesOut);
    table.countOut(slot);
    if (table.transport(slot) === TRANSPORT_UDP) {
      const remote = this.#flows.remoteOf(slot, this.#remote);
      this.#net.sendDatagram(
        table.listener(slot),
        remote,
        this.#flows.localOf(slot, this.#local),
        start,
        end,
      );
      return SENT;
    }
    const owner = table.owner(slot);
    if (owner === this.#mesh.self) return this.#net.sendStream(slot, start, end) ? SENT : ENDED;
    const { words } = this.#mesh;
    words[0] = slot;
    words[1] = generation;
    if (this.#mesh.send(owner, FLOW_WRITE, 2, this.#net.arena.mem, start, end - start)) return SENT;
    this.#counters.inc(Counter.ringFull);
    return BUSY;
  }

  toDatagram(listener: number, to: Endpoint, local: Endpoint | undefined, start: number, end: number): void {
    this.#counters.inc(Counter.messagesOut);
    this.#net.sendDatagram(listener, to, local, start, end);
  }

  toConnection(to: Endpoint, start: number, end: number, transport = TRANSPORT_TCP, host = ''): boolean {
    this.#counters.inc(Counter.messagesOut);
    return this.connections.send(to, transport, host, start, end);
  }
}
