/**
 * The handler that the network calls: the shard, and what is still done when the shard throws. Messages
 * that were queued in that turn are whole and leave before the thread ends, so that an exception in one
 * message does not take the answers to others along (a lost pong would cost a client its flow). The
 * stream whose bytes were in the shard's hands has lost its place in them: it is marked as unfinished,
 * and the supervisor closes it.
 *
 * What waits in the shard's rings, and requests that wait for the store, are lost with it.
 */
import type { Endpoint } from '../net/endpoint.ts';
import type { Net, NetHandler } from '../net/net.ts';
import { PARTIAL_IN } from '../shared/flow-record.ts';
import type { FlowTable } from '../shared/flow-table.ts';

const NO_STREAM = -1;

export class LastWords implements NetHandler {
  readonly #shard: NetHandler;
  readonly #net: Net;
  readonly #table: FlowTable;

  constructor(shard: NetHandler, net: Net, table: FlowTable) {
    this.#shard = shard;
    this.#net = net;
    this.#table = table;
  }

  #say(slot: number, error: unknown): never {
    if (slot !== NO_STREAM) this.#table.raise(slot, PARTIAL_IN);
    try {
      this.#net.flush();
    } catch {
      // the first error is the one to report
    }
    throw error;
  }

  datagram(listener: number, from: Endpoint, local: Endpoint, start: number, end: number): void {
    try {
      this.#shard.datagram(listener, from, local, start, end);
    } catch (error) {
      this.#say(NO_STREAM, error);
    }
  }

  bytes(slot: number, start: number, end: number): number {
    try {
      return this.#shard.bytes(slot, start, end);
    } catch (error) {
      return this.#say(slot, error);
    }
  }

  turn(): number {
    try {
      return this.#shard.turn();
    } catch (error) {
      return this.#say(NO_STREAM, error);
    }
  }

  tick(): void {
    this.#shard.tick();
  }

  opened(slot: number): void {
    this.#shard.opened(slot);
  }

  mayProxy(slot: number): boolean {
    return this.#shard.mayProxy(slot);
  }

  proxied(slot: number, local: boolean): void {
    this.#shard.proxied(slot, local);
  }

  unsecured(slot: number, reason: string): void {
    this.#shard.unsecured(slot, reason);
  }

  connected(slot: number, error: number): void {
    this.#shard.connected(slot, error);
  }

  unsent(slot: number, start: number, end: number): void {
    this.#shard.unsent(slot, start, end);
  }

  closed(slot: number, cause: number): void {
    this.#shard.closed(slot, cause);
  }

  backlog(slot: number, waiting: number): void {
    this.#shard.backlog(slot, waiting);
  }

  unreachable(listener: number, to: Endpoint, errno: number): void {
    this.#shard.unreachable(listener, to, errno);
  }

  rest(): boolean {
    return this.#shard.rest();
  }
}
