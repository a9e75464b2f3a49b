/**
 * What main gives a shard at its start, and the messages between main and shards. All of it is plain
 * data or shared memory: a replacement gets the same, and finds its predecessor's flows there.
 */
import type { Config } from '../config/config.ts';
import type { PlainKeyring } from '../flow/keyring.ts';
import type { Serving } from '../net/serving.ts';
import type { ClockDescriptor } from '../shared/clock.ts';
import type { CountersDescriptor } from '../shared/counters.ts';
import type { FlowIndexDescriptor } from '../shared/flow-index.ts';
import type { FlowTableDescriptor } from '../shared/flow-table.ts';
import type { MeshDescriptor } from '../shared/mesh.ts';
import type { NonceTableDescriptor } from '../shared/nonce-table.ts';
import type { SslTableDescriptor } from '../shared/ssl-table.ts';

/** main -> shard: words slot, generation. The record is claimed for the shard and holds the descriptor. */
export const HANDOFF = 1;
/** shard -> shard: words slot, generation; payload: the bytes for that stream */
export const FLOW_WRITE = 2;
/** shard -> shard: a request could not be written; words: the status that says so; payload: its bytes */
export const FLOW_FAILED = 3;
/** shard -> shard: a response to the receiver's transaction; words: slot and generation that it came on; payload */
export const RESPONSE = 6;
/** main -> shard: end your loop and return */
export const STOP = 4;
/** main -> shard, tests only: throw, so that the supervisor can be watched */
export const FAIL = 5;

/** main -> shard: payload: the targets of the upstream from now on (net/targets.ts) */
export const UPSTREAM = 7;
/** shard -> main: word: a number for the question; payload: a destination (net/targets.ts) */
export const LOCATE = 9;
/** main -> shard: word: the question; payload: its targets */
export const LOCATED = 10;
/** shard -> shard: words: an address, its port | family << 16. ICMP says that nobody listens there */
export const UNREACHABLE = 8;

export interface ShardBoot {
  /** participant number in the mesh, owner number in the flow table: 1 to the number of shards */
  self: number;
  config: Config;
  backend: 'ffi' | 'core';
  clock: ClockDescriptor;
  mesh: MeshDescriptor;
  table: FlowTableDescriptor;
  index: FlowIndexDescriptor;
  counters: CountersDescriptor;
  /** the nonces that were spent; undefined: nobody is asked who he is */
  nonces: NonceTableDescriptor | undefined;
  keyring: PlainKeyring;
  /** of GRUUs; undefined without domains */
  gruuKey: Uint8Array | undefined;
  /** undefined: no listener is secured */
  serving: Serving | undefined;
  /** ffi: where OpenSSL keeps its connections */
  ssl: SslTableDescriptor | undefined;
  incarnation: number;
  /** the targets of the upstream at this shard's start (net/targets.ts) */
  upstream: Uint8Array;
  /** participant number of the store thread, 0 where there is none */
  store: number;
  /** eventfd of each participant (ffi), else empty */
  eventfds: number[];
  /** the shard's epoll descriptor (ffi) */
  epoll: number;
  /** by listener id: this shard's UDP socket (ffi), -1 for a stream listener */
  sockets: number[];
  /** a shard of this number ran before */
  replacement: boolean;
  /** how often it was replaced */
  life: number;
}

/** shard -> main, through the task's message port. */
export type ShardReport =
  | { kind: 'ready'; self: number; inherited: number }
  /** handshakes from now on use this generation of certificates */
  | { kind: 'serving'; generation: number };

/** main -> shard, through the same port: what to serve with from now on. */
export type ShardOrder = { kind: 'serve'; serving: Serving };
