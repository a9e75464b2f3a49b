/**
 * What a shard asks of the network, and what the network tells it. Two backends stand behind this one
 * interface: `ffi` (raw descriptors, node:ffi, an epoll loop of the shard's own) and `core` (node:dgram
 * and node:net). The layers above know neither descriptors nor Node sockets: a datagram has a listener
 * and addresses, a stream is the slot of its flow record.
 *
 * Bytes are ranges of one arena. A range that is handed up is valid until the handler returns; a range
 * that is handed down lies in the arena's out region and is taken, or copied, by the next `flush`.
 */
import type { Arena } from './arena.ts';
import type { Endpoint } from './endpoint.ts';
import type { Serving } from './serving.ts';

/** A bound address. The same list, in the same order, on every shard: its index is the listener id. */
export interface Listener {
  id: number;
  /** transport code (shared/flow-record.ts) */
  transport: number;
  address: Endpoint;
  /** a wildcard listener has several local addresses: the one a datagram came to is told with it */
  wildcard: boolean;
  /** UDP: the one shard that reads it, from 1; 0: each has a socket of its own (core: always) */
  shard: number;
}

export interface NetHandler {
  /** Before anything that came in is told: the time to take it at. */
  tick(): void;
  datagram(listener: number, from: Endpoint, local: Endpoint, start: number, end: number): void;
  /**
   * Bytes of a stream, from the first that was not used up last time. Returns how many are used up now;
   * the rest is kept and given again with more behind it. The range is the handler's to write into: what it
   * leaves is kept as it then is.
   */
  bytes(slot: number, start: number, end: number): number;
  /** A stream that this shard now owns and reads: handed over by main, or accepted by the backend, and through its handshake. */
  opened(slot: number): void;
  /** A PROXY header begins an accepted stream: may its peer say who the client is? False closes the stream. */
  mayProxy(slot: number): boolean;
  /**
   * That header is over. The record has the client's address, if the peer told one (PROXIED); `local`: the
   * connection is the peer's own.
   */
  proxied(slot: number, local: boolean): void;
  /** A TLS handshake has failed, or was not done in its time. `closed` or `connected` follows. */
  unsecured(slot: number, reason: string): void;
  /** The end of an outgoing connection attempt, its handshake included; `error` 0 or an errno. The record stays claimed. */
  connected(slot: number, error: number): void;
  /**
   * Before `closed`: messages that the stream did not take, because its connection never came up or has
   * broken. Called while output is flushed; what it queues goes out with the same flush.
   */
  unsent(slot: number, start: number, end: number): void;
  /** The stream is gone, its descriptor closed. The flow record is the handler's to release; it may not have been opened. */
  closed(slot: number, cause: number): void;
  /** What a stream sent could not all be given to the kernel, or was at last: `waiting` bytes are kept. */
  backlog(slot: number, waiting: number): void;
  /** An ICMP error for something sent from this listener to this address. Only the ffi backend sees them. */
  unreachable(listener: number, to: Endpoint, errno: number): void;
  /** One turn of the loop after its I/O: rings and timers. Returns the time of the next timer, ms or Infinity. */
  turn(): number;
  /** About to wait for the network: false if there is work after all. `rest` is over at the next `turn`. */
  rest(): boolean;
}

export interface Net {
  readonly name: 'ffi' | 'core';
  readonly arena: Arena;
  start(handler: NetHandler): void;
  /** Settled when all listeners are bound; rejects with the first bind error. At once where main has bound them. */
  readonly ready: Promise<void>;
  /** Stops the loop, closes what this shard owns. */
  stop(): void;
  /** Makes the loop turn soon, from the outside of a handler call. */
  wake(): void;
  /** Queues a datagram. `local` chooses the source address on a wildcard listener. */
  sendDatagram(listener: number, to: Endpoint, local: Endpoint | undefined, start: number, end: number): void;
  /** Queues bytes on a stream. False if it is not open, or its write queue is at its bound (it is then closed). */
  sendStream(slot: number, start: number, end: number): boolean;
  /** The certificates for handshakes from now on. */
  serve(serving: Serving): void;
  /** The SIP domains in the certificate that the peer has shown (RFC 5922); undefined: none was shown, or asked for. */
  identities(slot: number): readonly string[] | undefined;
  /** Takes over a descriptor (ffi only): the record of `slot` holds it. */
  adopt(slot: number): void;
  /**
   * Starts to connect; `connected` tells the end of it. Bytes sent meanwhile are kept. Where the record's transport is
   * secured, `host` is whom the peer's certificate must name (the address, if it is left out). `from`: the address to
   * leave from, with port 0; else the kernel chooses.
   */
  dial(slot: number, to: Endpoint, host?: string, from?: Endpoint): number;
  /** Closes a stream after what is queued has gone out, or at once. `closed` follows, not from inside this call. */
  close(slot: number, cause: number, drain: boolean): void;
  isOpen(slot: number): boolean;
  /** Sends all that is queued. Called by the loop every turn, and by `Arena.reserve` when the region is full. */
  flush(): void;
}
