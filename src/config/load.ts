/**
 * Environment -> Config. Every variable is checked before anything is opened; the first wrong one ends
 * the start with its name, its value and what is allowed. A `HOLDFAST_` name that is not known is a
 * warning: most are misspelt.
 */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Endpoint } from '../net/endpoint.ts';
import { isSecured } from '../shared/flow-record.ts';
import { TCP, TLS, UDP, WS, WSS } from '../wire/via.ts';
import {
  type Algorithm,
  type AuthConfig,
  type Config,
  EVENT_TYPES,
  type EventType,
  hasStore,
  type ListenerConfig,
  type Network,
  type StoreConfig,
  type TlsConfig,
  type UpstreamConfig,
  type WebhookConfig,
} from './config.ts';
import { parseRedisUrl } from './redis-url.ts';

/** One wrong variable: the text names it, its value and what is allowed. */
export class ConfigError extends Error {
  override name = 'ConfigError';
  readonly code = 'HOLDFAST_CONFIG';
}

type Env = Record<string, string | undefined>;

const KNOWN = [
  'WORKERS',
  'LISTEN',
  'ADVERTISE',
  'CORE_LISTEN',
  'CORE_PORTS',
  'TLS_CERT',
  'TLS_KEY',
  'TLS_CA',
  'TLS_CLIENT',
  'TRUSTED_DOMAINS',
  'DOMAINS',
  'UPSTREAM',
  'DNS',
  'PROBE_S',
  'TRUSTED',
  'STORE',
  'STORE_SYNC',
  'AUTH',
  'AUTH_ALGORITHMS',
  'AUTH_CALLS',
  'T1_MS',
  'T2_MS',
  'T4_MS',
  'OUTBOUND_ONLY',
  'DATA',
  'KEYS',
  'GRUU_KEY',
  'NODE',
  'FLOW_TIMER',
  'FLOW_GRACE',
  'IDLE_S',
  'FORWARDING',
  'FLOW_ANSWER_S',
  'MAX_TRANSACTIONS',
  'PATH',
  'PATH_INNER',
  'RPORT',
  'MAX_FLOWS',
  'WS_ORIGINS',
  'IO',
  'ADMIN',
  'MIN_EXPIRES',
  'MAX_EXPIRES',
  'EVENTS',
  'EVENTS_URL',
  'EVENTS_TOKEN',
  'EVENTS_SECRET',
  'LOG',
];

const DEFAULT_LISTEN = 'udp:127.0.0.1:5060,tcp:127.0.0.1:5060,ws:127.0.0.1:8080';
const DEFAULT_DOMAINS = 'localhost,127.0.0.1';

export interface Loaded {
  config: Config;
  warnings: string[];
}

export function loadConfig(env: Env): Config {
  return load(env).config;
}

/** What a command needs that works on a store beside the server. */
export type StoreSetting = Pick<Config, 'store' | 'dataDir' | 'keys' | 'node'>;

/** Only what concerns the store: other variables may be wrong, or another host's. `value`: in place of HOLDFAST_STORE. */
export function loadStore(env: Env, value?: string): StoreSetting {
  const { text, number } = reader(env);
  const dataDir = text('DATA') ?? './data';
  return {
    store: store(value ?? text('STORE'), dataDir),
    dataDir,
    keys: text('KEYS'),
    node: number('NODE', 1, 0, 65_535),
  };
}

function reader(env: Env) {
  const text = (name: string): string | undefined => {
    const value = env[`HOLDFAST_${name}`]?.trim();
    return value === '' ? undefined : value;
  };
  const number = (name: string, fallback: number, min: number, max: number): number => {
    const value = text(name);
    if (value === undefined) return fallback;
    if (!/^\d{1,10}$/.test(value) || Number(value) < min || Number(value) > max)
      throw wrong(name, value, `a whole number from ${min} to ${max}`);
    return Number(value);
  };
  const choice = <T extends string>(name: string, fallback: T, allowed: readonly T[], note = ''): T => {
    const value = text(name);
    if (value === undefined) return fallback;
    if (!allowed.includes(value as T)) throw wrong(name, value, `${allowed.join(' or ')}${note}`);
    return value as T;
  };
  return { text, number, choice };
}

export function load(env: Env): Loaded {
  const warnings = Object.keys(env)
    .filter((name) => name.startsWith('HOLDFAST_') && !KNOWN.includes(name.slice(9)))
    .map((name) => `${name} is not a variable that Holdfast knows`);
  const { text, number, choice } = reader(env);
  const dataDir = text('DATA') ?? './data';
  const listen = listeners(text('LISTEN') ?? DEFAULT_LISTEN, advertiseOf(text('ADVERTISE')));
  const upstreams = upstreamsOf(text('UPSTREAM'));
  const facing = coreListener(text('CORE_LISTEN'), listen, upstreams);
  const domainText = env.HOLDFAST_DOMAINS ?? (upstreams.length > 0 ? '' : DEFAULT_DOMAINS);
  const domains = domainText
    .split(',')
    .map((d) => d.trim().toLowerCase())
    .filter((d) => d !== '');
  for (const domain of domains) {
    if (!/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$|^\[[0-9a-f:.]+\]$/.test(domain))
      throw wrong('DOMAINS', domainText, 'host names or addresses, separated by commas');
  }
  if (domains.length === 0 && upstreams.length === 0)
    throw wrong(
      'DOMAINS',
      domainText,
      'at least one domain, or HOLDFAST_UPSTREAM for an edge without a registrar',
    );

  const auth = credentials(text('AUTH'));
  const open = listen.find((l) => !new Endpoint().parse(l.host, l.port)?.isLoopback);
  if (domains.length > 0 && open && auth.kind === 'none')
    throw wrong(
      'AUTH',
      text('AUTH') ?? 'none',
      `file:PATH or http(s)://HOST/..., and none only where all listeners of a registrar are on loopback, which ${open.scheme}:${open.host}:${open.port} is not`,
    );
  choice('ADMIN', 'off', ['off'] as const, ' (the admin interface is not built yet)');

  const config: Config = {
    workers: number('WORKERS', availableParallelism(), 1, 64),
    listen,
    tls: listen.some((l) => isSecured(l.transport))
      ? tls(
          text('TLS_CERT'),
          text('TLS_KEY'),
          text('TLS_CA'),
          choice('TLS_CLIENT', 'none', ['none', 'optional', 'required'] as const),
        )
      : undefined,
    coreListener: facing,
    pathListener: text('CORE_LISTEN') === undefined ? undefined : facing,
    domains,
    upstreams,
    dns: dnsOf(text('DNS')),
    probe: number('PROBE_S', 0, 0, 3_600),
    trusted: networks(text('TRUSTED')),
    trustedDomains: trustedDomains(text('TRUSTED_DOMAINS'), text('TLS_CLIENT')),
    store: store(text('STORE'), dataDir),
    auth,
    algorithms: algorithms(text('AUTH_ALGORITHMS')),
    outboundOnly: choice('OUTBOUND_ONLY', 'off', ['on', 'off'] as const) === 'on',
    authCalls: choice('AUTH_CALLS', 'on', ['on', 'off'] as const) === 'on',
    webhook: webhook(text('EVENTS_URL'), text('EVENTS_TOKEN'), text('EVENTS_SECRET'), text('EVENTS')),
    storeSync: choice('STORE_SYNC', 'process', ['process', 'power'] as const),
    dataDir,
    keys: text('KEYS'),
    gruuKey: text('GRUU_KEY'),
    node: number('NODE', 1, 0, 65_535),
    flowTimer: number('FLOW_TIMER', 120, 1, 86_400),
    flowGrace: number('FLOW_GRACE', 20, 1, 3_600),
    idle: number('IDLE_S', 3_600, 60, 604_800),
    t1: number('T1_MS', 500, 10, 5_000),
    t2: number('T2_MS', 4_000, 10, 60_000),
    t4: number('T4_MS', 5_000, 10, 60_000),
    forwarding: choice('FORWARDING', 'stateful', ['stateful', 'stateless'] as const),
    flowAnswer: number('FLOW_ANSWER_S', 4, 1, 30),
    maxTransactions: number('MAX_TRANSACTIONS', 65_536, 64, 1_048_576),
    path: choice('PATH', 'always', ['always', 'strict'] as const),
    pathInner: choice('PATH_INNER', 'off', ['on', 'off'] as const) === 'on',
    rport: choice('RPORT', 'asked', ['asked', 'always'] as const),
    webOrigins: origins(text('WS_ORIGINS')),
    maxFlows: number('MAX_FLOWS', 65_536, 16, 4_194_304),
    io: choice('IO', 'auto', ['auto', 'ffi', 'core'] as const),
    minExpires: number('MIN_EXPIRES', 60, 1, 3_600),
    maxExpires: number('MAX_EXPIRES', 7_200, 60, 604_800),
    logLevel: choice('LOG', 'info', ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const),
  };
  config.listen.push(...corePorts(text('CORE_PORTS'), config));
  if (config.listen.length > MOST_LISTENERS)
    throw wrong('LISTEN', `${config.listen.length} listeners`, `${MOST_LISTENERS}, with HOLDFAST_CORE_PORTS`);
  if (config.webhook && !hasStore(config))
    warnings.push('HOLDFAST_EVENTS_URL: there is no location store here, and so no events');
  if (config.minExpires > config.maxExpires)
    throw wrong(
      'MIN_EXPIRES',
      `${config.minExpires}`,
      `no more than HOLDFAST_MAX_EXPIRES, ${config.maxExpires}`,
    );
  if (config.t2 < config.t1)
    throw wrong('T2_MS', `${config.t2}`, `no less than HOLDFAST_T1_MS, ${config.t1}`);
  if (config.store.kind === 'redis' && domains.length > 0 && config.gruuKey === undefined)
    warnings.push(
      'HOLDFAST_GRUU_KEY is not set: other registrars of this store will not know the GRUUs of this one',
    );
  return { config, warnings };
}

function wrong(name: string, value: string, allowed: string): ConfigError {
  return new ConfigError(`HOLDFAST_${name}=${value}: allowed is ${allowed}`);
}

/** A branch has an octet for the one that a request came by. */
const MOST_LISTENERS = 255;

const SCHEMES: Record<string, number> = { udp: UDP, tcp: TCP, tls: TLS, ws: WS, wss: WSS };

const LISTEN_FORM =
  'udp:HOST:PORT[/ADVERTISED-HOST[:PORT]] or tcp:..., tls:..., ws:..., wss:..., separated by commas, IPv6 hosts in brackets';
const HOST_PORT = /^(\[[0-9a-fA-F:.]+\]|[^:[\]/]+):(\d{1,5})$/;

function listeners(value: string, advertise: string | undefined): ListenerConfig[] {
  const list = value.split(',').map((item) => listener(item, value, advertise));
  const bound = list
    .filter((l) => l.port !== 0)
    .map((l) => `${l.transport === UDP ? 'datagrams' : 'streams'} ${l.host} ${l.port}`);
  // SO_REUSEPORT would let a second one bind and take half of the traffic
  if (new Set(bound).size < bound.length) throw wrong('LISTEN', value, 'each address once');
  return list;
}

function listener(item: string, value: string, advertise: string | undefined): ListenerConfig {
  const fail = (allowed: string) => wrong('LISTEN', value, allowed);
  const [, scheme, address, advertised] = /^\s*(\w+):([^/]+)(?:\/(\S+))?\s*$/.exec(item) ?? [];
  const transport = SCHEMES[scheme] ?? 0;
  if (transport === 0) throw fail(LISTEN_FORM);
  const [, host, portText] = HOST_PORT.exec(address) ?? [];
  const port = Number(portText);
  const endpoint = host === undefined ? undefined : Endpoint.parse(host, port);
  if (!endpoint || port > 65_535) throw fail(`${LISTEN_FORM}; the host of a listener is numeric`);
  const own = endpoint.family === 6 ? `[${endpoint.host}]` : endpoint.host;
  // The common default is for the listeners that it fits: a name for all, an address for those of its family.
  let advertisedHost = (advertise !== undefined && fits(advertise, endpoint) && advertise) || own;
  let advertisedPort = port;
  if (advertised !== undefined) {
    const [, h, p] = HOST_PORT.exec(advertised) ?? [undefined, advertised, undefined];
    if (!isAdvertisable(h) || !fits(h, endpoint) || Number(p ?? 1) < 1 || Number(p ?? 1) > 65_535)
      throw fail(`${LISTEN_FORM}; an advertised address is of the listener's family and no wildcard`);
    advertisedHost = h;
    if (p !== undefined) advertisedPort = Number(p);
  }
  if (endpoint.isWildcard && advertisedHost === own)
    throw fail('a wildcard address only with HOLDFAST_ADVERTISE or its own /ADVERTISED-HOST');
  return { transport, scheme, host: endpoint.host, port, advertisedHost, advertisedPort, shard: 0 };
}

function tls(
  cert: string | undefined,
  key: string | undefined,
  ca: string | undefined,
  client: TlsConfig['client'],
): TlsConfig {
  const files = (value: string | undefined) => value?.split(',').map((file) => file.trim()) ?? [];
  const certs = files(cert);
  const keys = files(key);
  if (certs.length === 0 || certs.includes(''))
    throw wrong(
      'TLS_CERT',
      cert ?? '',
      'PEM files with the certificates of tls listeners, separated by commas',
    );
  if (keys.length !== certs.length || keys.includes(''))
    throw wrong('TLS_KEY', key ?? '', 'PEM files with the keys, one for each of HOLDFAST_TLS_CERT');
  if (client !== 'none' && ca === undefined)
    throw wrong('TLS_CA', '', "a PEM file with the authorities of clients' certificates");
  return { certs, keys, ca, client };
}

function advertiseOf(value: string | undefined): string | undefined {
  if (value === undefined || isAdvertisable(value)) return value;
  throw wrong('ADVERTISE', value, 'a host name or an address other than 0.0.0.0 and [::], without a port');
}

/** A host as it may stand in Via: a name, or an address that is one. IPv6 has its brackets. */
function isAdvertisable(host: string): boolean {
  const endpoint = Endpoint.parse(host, 0);
  if (endpoint) return !endpoint.isWildcard && host.startsWith('[') === (endpoint.family === 6);
  return /^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?\.?$/.test(host);
}

const fits = (host: string, listener: Endpoint): boolean =>
  (Endpoint.parse(host, 0)?.family ?? listener.family) === listener.family;

function upstreamsOf(value: string | undefined): UpstreamConfig[] {
  if (value === undefined) return [];
  return value.split(',').map((item) => upstreamOf(item.trim(), value));
}

function upstreamOf(uri: string, value: string): UpstreamConfig {
  const form =
    'a SIP URI, or several separated by commas: sip:HOST[:PORT][;transport=udp|tcp|tls] or sips:HOST[:PORT]';
  const [, scheme, host, port, params] =
    /^(sips?):(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?((?:;[^;]+)*)$/i.exec(uri) ?? [];
  const isAddress = host !== undefined && (!host.startsWith('[') || Endpoint.parse(host, 0) !== undefined);
  if (!isAddress || Number(port ?? 1) < 1 || Number(port ?? 1) > 65_535) throw wrong('UPSTREAM', value, form);
  const named = /;transport=([^;]*)/i.exec(params)?.[1].toLowerCase();
  const secured = scheme.toLowerCase() === 'sips';
  const allowed = secured ? ['tcp', 'tls'] : ['udp', 'tcp', 'tls'];
  if (named !== undefined && !allowed.includes(named)) throw wrong('UPSTREAM', value, form);
  // 3263 4.1: a numeric host or a port leaves nothing to ask about
  const decided = port !== undefined || Endpoint.parse(host, 0) !== undefined;
  const transport = secured
    ? named !== undefined || decided
      ? TLS
      : 0
    : named !== undefined
      ? SCHEMES[named]
      : decided
        ? UDP
        : 0;
  return { uri, secured, host, port: Number(port ?? 0), transport, named: named !== undefined };
}

function dnsOf(value: string | undefined): string | undefined {
  if (value === undefined) return undefined;
  const [, host, port] = HOST_PORT.exec(value) ?? [];
  if (host === undefined || !Endpoint.parse(host, 0) || Number(port) < 1 || Number(port) > 65_535)
    throw wrong('DNS', value, 'the numeric address of a name server, HOST:PORT');
  return value;
}

/** Can this listener reach what the upstream may resolve to? A name tells no family, without transport no transport. */
function faces(l: ListenerConfig, { host, secured, transport }: UpstreamConfig): boolean {
  const family = Endpoint.parse(host, 0)?.family;
  return (
    l.transport < WS && // those connections are opened by clients alone
    (secured ? l.transport === TLS : transport === 0 || l.transport === transport) &&
    (family === undefined || (l.host.includes(':') ? 6 : 4) === family)
  );
}

function coreListener(
  value: string | undefined,
  listen: ListenerConfig[],
  upstreams: UpstreamConfig[],
): number {
  for (const upstream of upstreams)
    if (!listen.some((l) => faces(l, upstream)))
      throw wrong(
        'LISTEN',
        listen.map((l) => l.scheme).join(','),
        `at least one listener of the upstream's transport and address family`,
      );
  if (value !== undefined) {
    const index = listen.findIndex(
      (l) => `${l.scheme}:${l.host.includes(':') ? `[${l.host}]` : l.host}:${l.port}` === value.split('/')[0],
    );
    if (index < 0 || (upstreams.length > 0 && listen[index].transport >= WS))
      throw wrong(
        'CORE_LISTEN',
        value,
        'one of the listeners of HOLDFAST_LISTEN, as it stands there, and none of ws',
      );
    return index;
  }
  const [first] = upstreams;
  if (!first)
    return Math.max(
      0,
      listen.findIndex((l) => l.transport < WS),
    );
  const likely = listen.findIndex((l) => faces(l, { ...first, transport: first.transport || UDP }));
  return likely >= 0 ? likely : listen.findIndex((l) => faces(l, first));
}

/** A listener for each shard beside the one that faces the core: same host, a port of its own. */
function corePorts(value: string | undefined, { listen, coreListener, workers }: Config): ListenerConfig[] {
  if (value === undefined) return [];
  const [, first, last] = (/^(\d{1,5})-(\d{1,5})$/.exec(value) ?? []).map(Number);
  const core = listen[coreListener];
  if (!(first >= 1 && last >= first && last <= 65_535))
    throw wrong('CORE_PORTS', value, 'UDP ports as FIRST-LAST');
  if (core.transport !== UDP)
    throw wrong('CORE_PORTS', value, 'nothing where the listener that faces the core is not a udp one');
  if (last - first + 1 < workers)
    throw wrong('CORE_PORTS', value, `a port for each of ${workers} workers at least`);
  const ports = Array.from({ length: workers }, (_, i) => first + i);
  if (listen.some((l) => l.transport === UDP && l.host === core.host && ports.includes(l.port)))
    throw wrong('CORE_PORTS', value, 'ports that no listener of HOLDFAST_LISTEN has');
  return ports.map((port, i) => ({ ...core, port, advertisedPort: port, shard: i + 1 }));
}

function origins(value: string | undefined): string[] {
  if (value === undefined) return ['*'];
  const list = value.split(',').map((item) => item.trim());
  if (list.some((origin) => origin !== '*' && !/^[a-z][a-z0-9+.-]*:\/\/[^\s/,]+$/i.test(origin)))
    throw wrong('WS_ORIGINS', value, 'origins as SCHEME://HOST[:PORT], separated by commas, or *');
  return list;
}

function networks(value: string | undefined): Network[] {
  if (value === undefined) return [];
  return value.split(',').map((item) => {
    const [host, bitsText, ...more] = item.trim().split('/');
    const endpoint = Endpoint.parse(host, 0);
    const most = endpoint?.family === 6 ? 128 : 32;
    const bits = bitsText === undefined ? most : Number(bitsText);
    if (!endpoint || more.length > 0 || !/^\d{1,3}$/.test(bitsText ?? `${most}`) || bits > most)
      throw wrong('TRUSTED', value, 'networks as ADDRESS[/BITS], separated by commas');
    return { host: endpoint.host, bits: endpoint.family === 6 ? bits : bits + 96 };
  });
}

function trustedDomains(value: string | undefined, client: string | undefined): string[] {
  if (value === undefined) return [];
  const names = value.split(',').map((name) => name.trim().toLowerCase());
  if (!names.every((name) => /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(name)))
    throw wrong('TRUSTED_DOMAINS', value, 'host names, separated by commas');
  if (client === undefined || client === 'none')
    throw wrong(
      'TRUSTED_DOMAINS',
      value,
      'nothing while HOLDFAST_TLS_CLIENT is none: no certificate is asked for',
    );
  return names;
}

function store(value: string | undefined, dataDir: string): StoreConfig {
  if (value === undefined) return { kind: 'lmdb', dir: join(dataDir, 'location') };
  if (value === 'memory:') return { kind: 'memory' };
  if (value.startsWith('lmdb:') && value.length > 5) return { kind: 'lmdb', dir: value.slice(5) };
  const target = parseRedisUrl(value);
  if (target) return { kind: 'redis', target };
  const shown = value.replace(/\/\/.*@/, '//...@'); // what stands there may be a password
  throw wrong(
    'STORE',
    shown,
    'memory: or lmdb:DIRECTORY or redis[s]://[[USER]:PASSWORD@]HOST[:PORT][,HOST:PORT...][/DB]',
  );
}

function credentials(value: string | undefined): AuthConfig {
  if (value === undefined || value === 'none') return { kind: 'none' };
  if (value.startsWith('file:') && value.length > 5) return { kind: 'file', path: value.slice(5) };
  if (/^https?:\/\/[^/\s]+/.test(value) && URL.canParse(value)) return { kind: 'service', url: value };
  throw wrong('AUTH', value, 'none, file:PATH, http://HOST/... or https://HOST/...');
}

/** No value of these may stand in an error as it is: any of them may hold a secret. */
function webhook(
  value: string | undefined,
  token: string | undefined,
  secret: string | undefined,
  types: string | undefined,
): WebhookConfig | undefined {
  const wanted = eventTypes(types);
  if (token !== undefined && !/^[\x21-\x7e]+$/.test(token))
    throw wrong('EVENTS_TOKEN', '...', 'visible ASCII characters without blanks');
  if (value === undefined) {
    if (token !== undefined || secret !== undefined)
      throw wrong('EVENTS_URL', '', 'http(s)://HOST/... where HOLDFAST_EVENTS_TOKEN or _SECRET is set');
    return undefined;
  }
  const shown = value.replace(/\/\/.*@/, '//...@').replace(/[?#].*/, '...');
  const allowed = 'http://[USER:PASSWORD@]HOST/... or https://..., without a fragment';
  if (!/^https?:\/\/[^/\s]+/.test(value) || !URL.canParse(value)) throw wrong('EVENTS_URL', shown, allowed);
  const url = new URL(value);
  const { username, password, hash } = url;
  if (hash !== '') throw wrong('EVENTS_URL', shown, allowed);
  const inUrl = username !== '' || password !== '';
  if (inUrl && token !== undefined)
    throw wrong('EVENTS_TOKEN', '...', 'credentials in HOLDFAST_EVENTS_URL or a token, not both');
  url.username = '';
  url.password = '';
  const config: WebhookConfig = { url: url.href, types: wanted };
  if (token !== undefined) config.authorization = `Bearer ${token}`;
  else if (inUrl) {
    const pair = basicPair(username, password);
    if (pair === undefined) throw wrong('EVENTS_URL', shown, allowed);
    config.authorization = `Basic ${Buffer.from(pair, 'utf8').toString('base64')}`;
  }
  if (secret !== undefined) config.secret = secret;
  return config;
}

function basicPair(username: string, password: string): string | undefined {
  try {
    return `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  } catch {
    return undefined;
  }
}

function eventTypes(value: string | undefined): EventType[] {
  if (value === undefined) return [...EVENT_TYPES];
  const wanted = value.split(',').map((name) => name.trim());
  if (wanted.some((name) => !EVENT_TYPES.includes(name as EventType)))
    throw wrong('EVENTS', value, `${EVENT_TYPES.join(', ')}, or some of them`);
  return EVENT_TYPES.filter((name) => wanted.includes(name));
}

const ALGORITHMS: readonly Algorithm[] = ['SHA-512-256', 'SHA-256', 'MD5'];

/** In the order of preference, whatever the order in the variable (RFC 8760 2.3). */
function algorithms(value: string | undefined): Algorithm[] {
  if (value === undefined) return [...ALGORITHMS];
  const wanted = value.split(',').map((name) => name.trim().toUpperCase());
  if (wanted.some((name) => !ALGORITHMS.includes(name as Algorithm)))
    throw wrong('AUTH_ALGORITHMS', value, `${ALGORITHMS.join(', ')}, or some of them`);
  return ALGORITHMS.filter((name) => wanted.includes(name));
}
