/**
 * The stream listeners of one shard on the core backend: a `net.Server` of its own per listener, among
 * which the kernel spreads the connections (SO_REUSEPORT). Nothing is handed between threads.
 *
 * `net.Server` has no `onread` for what it accepts, and its plain reads allocate per read. So the
 * handle of an accepted socket moves into a `net.Socket` that was given one (`handle` is what Node's
 * own server passes; the tests show that it holds on the Node that is pinned).
 *
 * Out of descriptors: libuv accepts and closes what waits, from one that it keeps in reserve, and tells
 * nobody (seen on 26.10). Only where it has no reserve an error comes: it is counted, the listener goes on.
 */
import net from 'node:net';
import { Cause } from '../shared/cause.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { isSecured } from '../shared/flow-record.ts';
import type { FlowTable } from '../shared/flow-table.ts';
import { Endpoint } from './endpoint.ts';
import type { Hosts } from './hosts.ts';
import type { Listener } from './net.ts';

const BACKLOG = 4_096;

/** Who serves what was accepted. */
export interface Adopter {
  /** Makes a socket on an accepted handle, with `onread` of its owner. */
  accepted(slot: number, handle: unknown): void;
  /** Takes the socket over; false: it is not served. */
  acceptedSecured(slot: number, socket: net.Socket): boolean;
}

export class CoreAcceptor {
  readonly #counters: Counters;
  readonly #hosts: Hosts;
  readonly #claim: (listener: number, remote: Endpoint) => number;
  readonly #adopter: Adopter;
  readonly #flows: FlowTable;
  readonly #servers: net.Server[] = [];
  readonly #remote = new Endpoint();
  #closed = false;

  constructor(
    counters: Counters,
    hosts: Hosts,
    claim: (listener: number, remote: Endpoint) => number,
    adopter: Adopter,
    flows: FlowTable,
  ) {
    this.#counters = counters;
    this.#hosts = hosts;
    this.#claim = claim;
    this.#adopter = adopter;
    this.#flows = flows;
  }

  /** Listens; port 0 becomes the port that was given. Rejects with the bind error. */
  open(listener: Listener, reusePort: boolean): Promise<void> {
    const { address } = listener;
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true });
    this.#servers.push(server);
    server.on('connection', (socket) => this.#accepted(listener, socket));
    const bound = new Promise<void>((resolve, reject) => {
      server.on('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'EMFILE' || error.code === 'ENFILE') this.#counters.inc(Counter.fdExhausted);
        reject(error);
      });
      server.once('listening', () => {
        // Closed while the bind was under way.
        if (this.#closed) server.close();
        else address.port = (server.address() as net.AddressInfo).port;
        resolve();
      });
    });
    server.listen({
      host: address.host,
      port: address.port,
      ipv6Only: address.family === 6,
      reusePort,
      exclusive: true,
      backlog: BACKLOG,
    });
    return bound;
  }

  #accepted(listener: Listener, accepted: net.Socket): void {
    const { remoteAddress, remotePort } = accepted;
    // Without an address the peer is gone already.
    if (
      !remoteAddress ||
      !remotePort ||
      this.#closed ||
      !this.#hosts.parse(remoteAddress, remotePort, this.#remote)
    ) {
      accepted.destroy();
      return;
    }
    const slot = this.#claim(listener.id, this.#remote);
    if (slot >= 0 && isSecured(listener.transport)) {
      if (this.#adopter.acceptedSecured(slot, accepted)) return;
      this.#flows.abandon(slot, Cause.TLS);
      accepted.resetAndDestroy();
      return;
    }
    if (slot >= 0) {
      const holder = accepted as unknown as { _handle: unknown };
      const handle = holder._handle;
      holder._handle = null;
      this.#adopter.accepted(slot, handle);
    }
    accepted.destroy();
  }

  close(): void {
    this.#closed = true;
    for (const server of this.#servers) server.close();
    this.#servers.length = 0;
  }
}
