/**
 * PROXY headers in front of a TLS handshake, on the core backend: the first octets of an accepted socket are read
 * here, a header is taken off, and the rest put back for TLS. It is bounded as handshakes are: each socket
 * has HANDSHAKE_MS for it, and there are at most MAX_HANDSHAKES. One that does not come through is closed, and its
 * record given up.
 */
import type { Socket } from 'node:net';
import { Cause } from '../shared/cause.ts';
import type { FlowTable } from '../shared/flow-table.ts';
import type { Arena } from './arena.ts';
import { HANDSHAKE_MS, MAX_HANDSHAKES } from './handshakes.ts';
import type { NetHandler } from './net.ts';
import { MAX_HEADER } from './proxyheader.ts';
import { type Proxying, REFUSED, WAIT } from './proxying.ts';

export class CoreFronts {
  readonly #arena: Arena;
  readonly #flows: FlowTable;
  readonly #proxying: Proxying;
  readonly #sockets = new Set<Socket>();

  constructor(arena: Arena, flows: FlowTable, proxying: Proxying) {
    this.#arena = arena;
    this.#flows = flows;
    this.#proxying = proxying;
  }

  get isFull(): boolean {
    return this.#sockets.size >= MAX_HANDSHAKES;
  }

  /** Reads the front of the socket under the claimed record, and then calls `begins`: what follows is TLS. */
  read(slot: number, raw: Socket, handler: NetHandler, begins: () => void): void {
    const { mem, stream: region } = this.#arena;
    let held: Buffer = Buffer.alloc(0);
    const done = (cause: number): void => {
      this.#sockets.delete(raw);
      raw.setTimeout(0);
      raw.off('timeout', late).off('error', broken).off('end', ended).off('data', look);
      if (cause === Cause.NONE) return;
      raw.on('error', () => {});
      raw.destroy();
      this.#flows.abandon(slot, cause);
    };
    const late = () => done(Cause.TLS);
    const broken = () => done(Cause.RESET);
    const ended = () => done(Cause.PEER_CLOSED);
    const look = (chunk: Buffer): void => {
      held = Buffer.concat([held, chunk]);
      const length = Math.min(held.length, MAX_HEADER);
      mem.set(held.subarray(0, length), region);
      const taken = this.#proxying.examine(slot, region, region + length, 0, handler);
      if (taken === WAIT) return;
      raw.pause();
      done(taken === REFUSED ? this.#proxying.cause : Cause.NONE);
      if (taken < 0) return;
      if (taken < held.length) raw.unshift(held.subarray(taken));
      begins();
    };
    this.#sockets.add(raw);
    raw.setTimeout(HANDSHAKE_MS);
    raw.on('timeout', late).on('error', broken).on('end', ended).on('data', look);
    raw.resume();
  }

  /** The end of the shard. */
  destroyAll(): void {
    for (const raw of this.#sockets) raw.destroy();
    this.#sockets.clear();
  }
}
