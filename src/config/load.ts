/**
 * Environment -> Config. Every variable is checked before anything is opened; the first wrong one ends
 * the start with its name, its value and what is allowed. A `HOLDFAST_` name that is not known is a
 * warning: most are misspelt.
 */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Endpoint } from '../net/endpoint.ts';
import { isSecured } from '../shared/flow-record.ts';
import {
  advertiseOf,
  coreListener,
  corePorts,
  HOST_PORT,
  listeners,
  MOST_LISTENERS,
  upstreamsOf,
} from './addresses.ts';
import {
  type Algorithm,
  type AuthConfig,
  type Config,
  hasStore,
  type Network,
  type StoreConfig,
  type TlsConfig,
} from './config.ts';
import { wrong } from './error.ts';
import { parseRedisUrl } from './redis-url.ts';
import { webhook } from './webhook.ts';

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

function dnsOf(value: string | undefined): string | undefined {
  if (value === undefined) return undefined;
  const [, host, port] = HOST_PORT.exec(value) ?? [];
  if (host === undefined || !Endpoint.parse(host, 0) || Number(port) < 1 || Number(port) > 65_535)
    throw wrong('DNS', value, 'the numeric address of a name server, HOST:PORT');
  return value;
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

const ALGORITHMS: readonly Algorithm[] = ['SHA-512-256', 'SHA-256', 'MD5'];

/** In the order of preference, whatever the order in the variable (RFC 8760 2.3). */
function algorithms(value: string | undefined): Algorithm[] {
  if (value === undefined) return [...ALGORITHMS];
  const wanted = value.split(',').map((name) => name.trim().toUpperCase());
  if (wanted.some((name) => !ALGORITHMS.includes(name as Algorithm)))
    throw wrong('AUTH_ALGORITHMS', value, `${ALGORITHMS.join(', ')}, or some of them`);
  return ALGORITHMS.filter((name) => wanted.includes(name));
}
