/**
 * The network as the layers above see it: they send messages on flows and do not ask which. What leaves by a
 * WebSocket gets its frame here, and its Close frame where one of them closes it, so that no place that
 * sends can forget either. All else is the backend's own.
 */
import type { Arena } from '../net/arena.ts';
import type { Endpoint } from '../net/endpoint.ts';
import type { Net, NetHandler } from '../net/net.ts';
import type { Serving } from '../net/serving.ts';
import { isWebSocket } from '../shared/flow-record.ts';
import type { FlowTable } from '../shared/flow-table.ts';
import type { WebSockets } from './websockets.ts';

export class FramedNet implements Net {
  readonly name: 'ffi' | 'core';
  readonly arena: Arena;
  readonly ready: Promise<void>;
  readonly #net: Net;
  readonly #table: FlowTable;
  readonly #webSockets: WebSockets;

  constructor(net: Net, table: FlowTable, webSockets: WebSockets) {
    this.name = net.name;
    this.arena = net.arena;
    this.ready = net.ready;
    this.#net = net;
    this.#table = table;
    this.#webSockets = webSockets;
  }

  sendStream(slot: number, start: number, end: number): boolean {
    return isWebSocket(this.#table.transport(slot))
      ? this.#webSockets.send(slot, start, end)
      : this.#net.sendStream(slot, start, end);
  }

  close(slot: number, cause: number, drain: boolean): void {
    if (!isWebSocket(this.#table.transport(slot)) || !this.#webSockets.close(slot, cause))
      this.#net.close(slot, cause, drain);
  }

  sendDatagram(
    listener: number,
    to: Endpoint,
    local: Endpoint | undefined,
    start: number,
    end: number,
  ): void {
    this.#net.sendDatagram(listener, to, local, start, end);
  }

  isOpen(slot: number): boolean {
    return this.#net.isOpen(slot);
  }

  start(handler: NetHandler): void {
    this.#net.start(handler);
  }

  stop(): void {
    this.#net.stop();
  }

  wake(): void {
    this.#net.wake();
  }

  adopt(slot: number): void {
    this.#net.adopt(slot);
  }

  dial(slot: number, to: Endpoint, host?: string, from?: Endpoint): number {
    return this.#net.dial(slot, to, host, from);
  }

  serve(serving: Serving): void {
    this.#net.serve(serving);
  }

  identities(slot: number): readonly string[] | undefined {
    return this.#net.identities(slot);
  }

  flush(): void {
    this.#net.flush();
  }
}
