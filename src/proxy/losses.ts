/**
 * What has ended under a shard's client transactions: flows, connections to next hops, addresses that ICMP
 * says nobody is at. Collected as it happens; then one pass over the records finds the transactions that
 * wait for any of it, at most once in SCAN_MS, because it reads all records.
 */
import { Endpoint } from '../net/endpoint.ts';
import { CALLING, INVITE_SERVER } from '../transaction/machine.ts';
import { type Legs, LISTENER, SLOT, SLOT_GENERATION, TO_CONNECTION, TO_FLOW } from './legs.ts';

const SCAN_MS = 20;
const MAX_UNREACHABLE = 64;

/** A client transaction of which one thing is sure: its request gets no response from where it went. */
export interface Failure {
  client: number;
  generation: number;
  /** 430 a flow, 500 a next hop */
  status: number;
}

export class Losses {
  readonly #legs: Legs;
  /** has the transaction another target to go to? */
  readonly #canMove: (client: number) => boolean;
  readonly #lostFlows = new Map<number, number>();
  readonly #unreachable: Endpoint[] = [];
  readonly #lostConnections: Endpoint[] = [];
  #nextScan = 0;

  constructor(legs: Legs, canMove: (client: number) => boolean) {
    this.#legs = legs;
    this.#canMove = canMove;
  }

  /** An ICMP error came for what went to this address (18.4). */
  unreachable(to: Endpoint): void {
    if (this.#unreachable.length < MAX_UNREACHABLE) this.#unreachable.push(new Endpoint().copy(to));
  }

  /** A connection of ours has ended. */
  connection(to: Endpoint): void {
    if (this.#lostConnections.length < MAX_UNREACHABLE) this.#lostConnections.push(new Endpoint().copy(to));
  }

  flow(slot: number, generation: number): void {
    this.#lostFlows.set(slot, generation);
  }

  /** When `collect` wants to be called, ms; Infinity while nothing is lost. */
  get due(): number {
    const any = this.#lostFlows.size > 0 || this.#unreachable.length > 0 || this.#lostConnections.length > 0;
    return any ? this.#nextScan : Number.POSITIVE_INFINITY;
  }

  /** Adds the transactions that wait for what was lost. */
  collect(nowMs: number, failures: Failure[]): void {
    const { table, highest } = this.#legs;
    this.#nextScan = nowMs + SCAN_MS;
    for (let client = 0; client <= highest; client++) {
      if (table.state(client) !== CALLING || table.kind(client) >= INVITE_SERVER) continue;
      const status = this.#status(client);
      if (status !== 0) failures.push({ client, generation: table.generation(client), status });
    }
    this.#lostFlows.clear();
    this.#unreachable.length = 0;
    this.#lostConnections.length = 0;
  }

  #status(client: number): number {
    const { table } = this.#legs;
    const head = table.word(client, LISTENER);
    if (head & TO_FLOW)
      return this.#lostFlows.get(table.word(client, SLOT)) === table.word(client, SLOT_GENERATION) ? 430 : 0;
    // a server may answer over a new connection (18.2.2): only who has a substitute does not wait for that
    if (head & TO_CONNECTION && !this.#canMove(client)) return 0;
    const lost = head & TO_CONNECTION ? this.#lostConnections : this.#unreachable;
    if (lost.length === 0) return 0;
    const to = this.#legs.targetOf(client);
    return lost.some((address) => address.equals(to)) ? 500 : 0;
  }
}
