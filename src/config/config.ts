/**
 * The checked configuration: what the environment said, typed, with every default filled in. It is
 * plain data, so that main can post it to the shards as it is.
 */

import type { RedisTarget } from './redis-url.ts';

/** Transport codes as in flow records and tokens (wire/via.ts). */
export interface ListenerConfig {
  transport: number;
  /** "udp", "tcp", "tls", "ws", "wss" */
  scheme: string;
  /** numeric, without brackets */
  host: string;
  port: number;
  /** what stands in Via, Path and Record-Route: a host (IPv6 in brackets) and a port */
  advertisedHost: string;
  advertisedPort: number;
  /** the one shard that reads it, from 1; 0: each has a socket of its own */
  shard: number;
}

export interface UpstreamConfig {
  /** as configured */
  uri: string;
  /** sips: nothing but TLS */
  secured: boolean;
  host: string;
  /** 0: not given */
  port: number;
  /** 0: NAPTR and SRV decide */
  transport: number;
  /** the URI names the transport, so that the size of a request does not change it */
  named: boolean;
}

/** A network: the address as in `Endpoint` (IPv4 mapped) and how many of the 128 bits count. */
export interface Network {
  host: string;
  bits: number;
}

export type StoreConfig =
  | { kind: 'memory' }
  | { kind: 'lmdb'; dir: string }
  | { kind: 'redis'; target: RedisTarget };

/** Files, PEM: pairs by position, the first for clients that name no server. */
export interface TlsConfig {
  certs: string[];
  keys: string[];
  /** authorities of clients' certificates, and of the servers that we connect to */
  ca: string | undefined;
  client: 'none' | 'optional' | 'required';
}

export type AuthConfig = { kind: 'none' } | { kind: 'file'; path: string } | { kind: 'service'; url: string };

/** What happens to a binding (registrar/events.ts). */
export const EVENT_TYPES = ['register', 'refresh', 'unregister', 'expire', 'flow-lost'] as const;
export type EventType = (typeof EVENT_TYPES)[number];

/** What this shard writes into Path and the core-facing Record-Route: an index into `listen`. */
export function coreListenerOf({ listen, coreListener }: Config, shard: number): number {
  const own = listen.findIndex((l) => l.shard === shard);
  return own < 0 ? coreListener : own;
}

/** Where events of bindings are posted to. */
export interface WebhookConfig {
  /** without credentials */
  url: string;
  /** value of the Authorization header */
  authorization?: string;
  /** key of the signature over each request */
  secret?: string;
  types: EventType[];
}

/** RFC 8760 */
export type Algorithm = 'SHA-512-256' | 'SHA-256' | 'MD5';

export interface Config {
  workers: number;
  listen: ListenerConfig[];
  /** index into `listen`: the listener that faces the core, where it fits the transport and family of the next hop, of a shard that has none of its own */
  coreListener: number;
  /** index into `listen`: the listener whose address stands in Path; undefined: the one that each REGISTER leaves by */
  pathListener: number | undefined;
  /** undefined: no listener is secured */
  tls: TlsConfig | undefined;
  domains: string[];
  /** in order of preference: a later one gets what the earlier ones cannot take */
  upstreams: UpstreamConfig[];
  /** the name server to ask, HOST:PORT; undefined: the system's */
  dns: string | undefined;
  /** seconds between two OPTIONS to an upstream target; 0: none */
  probe: number;
  trusted: Network[];
  /** domains whose certificate makes a TLS peer a trusted one; lower case */
  trustedDomains: string[];
  store: StoreConfig;
  auth: AuthConfig;
  /** digest algorithms that may be used, most preferred first */
  algorithms: Algorithm[];
  /** who calls in the name of a user of ours, or out of our domains, must prove who he is */
  authCalls: boolean;
  webhook: WebhookConfig | undefined;
  /** answer a REGISTER only after the store's flush */
  storeSync: 'process' | 'power';
  dataDir: string;
  /** the text of HOLDFAST_KEYS; undefined: keys live in the data directory */
  keys: string | undefined;
  /** the text of HOLDFAST_GRUU_KEY; undefined: the key lives in the data directory */
  gruuKey: string | undefined;
  /** 0 to 65535: which node of a cluster made a token */
  node: number;
  /** seconds */
  flowTimer: number;
  flowGrace: number;
  idle: number;
  /** milliseconds, RFC 3261 table 4 */
  t1: number;
  t2: number;
  t4: number;
  forwarding: 'stateful' | 'stateless';
  /** seconds; how long a flow may be silent after a request was written to it */
  flowAnswer: number;
  /** transaction records of one shard */
  maxTransactions: number;
  path: 'always' | 'strict';
  /** add a Path (without `ob`) also where this edge is not the first hop */
  pathInner: boolean;
  rport: 'asked' | 'always';
  maxFlows: number;
  /** whose pages may open a WebSocket, as in Origin; `*`: all */
  webOrigins: string[];
  io: 'auto' | 'ffi' | 'core';
  /** refuse who registers without instance-id and reg-id (5626 §6) */
  outboundOnly: boolean;
  minExpires: number;
  maxExpires: number;
  logLevel: string;
}

/** Does this process hold registrations, that is: has it domains to serve? */
export const isRegistrar = (config: Config): boolean => config.domains.length > 0;

/** Has it a location store? A pure edge tells a shared one which flows have ended. */
export const hasStore = (config: Config): boolean => isRegistrar(config) || config.store.kind === 'redis';
