/**
 * One shard at work: the order of its turn (network, rings, timers, output), and what it does when the network
 * tells it of something. What it is made of stands in assembly.ts; bytes that come in go to inbound.ts, messages of
 * other threads to mail.ts.
 */
import { Endpoint } from '../net/endpoint.ts';
import type { NetHandler } from '../net/net.ts';
import type { StoreClient } from '../registrar/client.ts';
import { Cause } from '../shared/cause.ts';
import { type Clock, deciseconds } from '../shared/clock.ts';
import { isWebSocket, OUTBOUND_DIALED, REGISTERED } from '../shared/flow-record.ts';
import { CLAIMED, type FlowTable } from '../shared/flow-table.ts';
import type { Mesh } from '../shared/mesh.ts';
import { Framer, MESSAGE } from '../wire/framer.ts';
import { Assembly, type ShardParts } from './assembly.ts';
import type { Inbound } from './inbound.ts';

/** Ring messages handled in one turn before the network has its turn again. */
const RING_BUDGET = 1_024;

export class Shard implements NetHandler {
  readonly #table: FlowTable;
  readonly #clock: Clock;
  readonly #mesh: Mesh;
  readonly #store: StoreClient | undefined;
  readonly #rooms: Assembly;
  /** of the rooms: every message comes by here */
  readonly #inbound: Inbound;
  readonly #address = new Endpoint();
  #resting = false;

  constructor(parts: ShardParts) {
    this.#table = parts.table;
    this.#clock = parts.clock;
    this.#mesh = parts.mesh;
    this.#store = parts.store;
    this.#rooms = new Assembly(parts);
    this.#inbound = this.#rooms.inbound;
    this.#rooms.flows.ended = this.#flowEnded;
  }

  /** Takes over what a predecessor of this shard left. Returns how many flows. */
  inherit(): number {
    const { flows, net, connections } = this.#rooms;
    return flows.inherit((slot) => {
      this.#inbound.begin(slot);
      net.adopt(slot);
      if (this.#table.has(slot, OUTBOUND_DIALED))
        connections.inherit(slot, flows.remoteOf(slot, this.#address));
    });
  }

  // ---- network

  tick(): void {
    const now = this.#clock.now();
    this.#inbound.ds = deciseconds(now);
    this.#store?.tick(now);
  }

  datagram(listener: number, from: Endpoint, local: Endpoint, start: number, end: number): void {
    this.#inbound.datagram(listener, from, local, start, end);
  }

  bytes(slot: number, start: number, end: number): number {
    return this.#inbound.bytes(slot, start, end);
  }

  opened(slot: number): void {
    this.#rooms.balancers.opened(slot);
    this.#rooms.flows.openStream(slot, deciseconds(this.#clock.now()));
    this.#inbound.begin(slot);
  }

  mayProxy(slot: number): boolean {
    return this.#rooms.balancers.mayTell(slot, this.#inbound.ds);
  }

  proxied(slot: number, local: boolean): void {
    this.#rooms.balancers.told(slot, local);
  }

  unsecured(slot: number, reason: string): void {
    this.#rooms.notes.unsecured(slot, reason);
  }

  connected(slot: number, error: number): void {
    const { upstream, flows, connections } = this.#rooms;
    if (error !== 0) upstream?.lost(flows.remoteOf(slot, this.#address), this.#table.transport(slot));
    if (connections.connected(slot, error, deciseconds(this.#clock.now()))) this.#inbound.begin(slot);
  }

  unsent(slot: number, start: number, end: number): void {
    if (isWebSocket(this.#table.transport(slot)))
      this.#rooms.webSockets.unsent(slot, start, end, this.#messagesUnsent);
    else this.#messagesUnsent(slot, start, end);
  }

  readonly #messagesUnsent = (slot: number, start: number, end: number): void => {
    const { net, flows, aliases, undelivered, waysBack } = this.#rooms;
    const dialled = this.#table.has(slot, OUTBOUND_DIALED);
    const { mem } = net.arena;
    const framer = new Framer();
    for (let p = start; framer.next(mem, p, end) === MESSAGE; p = framer.frameEnd) {
      const { frameStart, frameEnd } = framer;
      // 16.9: a client's flow that is lost while sending counts as 430
      if (!dialled && !aliases.has(slot)) undelivered.undelivered(frameStart, frameEnd, 430, 'Flow Failed');
      else if (isResponse(mem, frameStart) && dialled)
        waysBack.failed(flows.remoteOf(slot, this.#address), frameStart, frameEnd);
      else undelivered.undelivered(frameStart, frameEnd, 500, 'Next Hop Unreachable');
    }
  };

  /** Before the network is stopped: what clients are told of it. */
  farewell(): void {
    this.#rooms.webSockets.farewell();
  }

  closed(slot: number, cause: number): void {
    if (this.#table.state(slot) === CLAIMED && !this.#table.has(slot, OUTBOUND_DIALED)) {
      this.#table.abandon(slot, cause); // it did not come through its handshake
      return;
    }
    const { flows, aliases, connections, transactions, notes } = this.#rooms;
    this.#inbound.end(slot);
    const reached = this.#table.has(slot, OUTBOUND_DIALED)
      ? flows.remoteOf(slot, this.#address)
      : aliases.ended(slot);
    if (reached) transactions?.losses.connection(reached);
    transactions?.losses.flow(slot, this.#table.generation(slot));
    if (cause === Cause.PROXY_UNTRUSTED || cause === Cause.PROXY_MALFORMED) notes.proxyRefused(slot, cause);
    if (!connections.closed(slot, cause)) flows.end(slot, this.#table.generation(slot), cause);
  }

  backlog(): void {}

  unreachable(listener: number, to: Endpoint): void {
    this.#rooms.unreachable.came(listener, to);
  }

  // ---- the turn

  turn(): number {
    if (this.#resting) {
      this.#resting = false;
      this.#mesh.bell.awake();
    }
    const now = this.#clock.now();
    this.#inbound.ds = deciseconds(now);
    const { mail, flows, transactions, probes, waysBack, locations } = this.#rooms;
    this.#mesh.receive(mail.receive, RING_BUDGET);
    let next = flows.advance(now);
    if (transactions) next = Math.min(next, transactions.turn(now));
    if (probes) next = Math.min(next, probes.turn(now));
    waysBack.turn();
    next = Math.min(next, locations.turn(now));
    if (!this.#store) return next;
    this.#store.turn(now);
    return this.#store.waiting > 0 ? Math.min(next, now + 100) : next;
  }

  rest(): boolean {
    this.#mesh.bell.prepareSleep();
    this.#resting = true;
    return this.#mesh.isQuiet();
  }

  // ---- log and store

  readonly #flowEnded = (slot: number, generation: number, cause: number): void => {
    const { home, flows, notes } = this.#rooms;
    if (!this.#table.has(slot, REGISTERED)) return;
    if (home) home.flowEnded(slot, generation, cause);
    else this.#store?.flowClosed(flows.tokenText(slot), cause); // what registrars know the flow by
    notes.flowEnded(slot, generation, cause);
  };
}

/** A status line, of the messages that we send. */
const isResponse = (buf: Uint8Array, start: number): boolean =>
  buf[start] === 0x53 && buf[start + 3] === 0x2f;
