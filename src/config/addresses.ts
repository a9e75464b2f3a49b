/**
 * The addresses of this server and of what lies behind it: HOLDFAST_LISTEN and _ADVERTISE, HOLDFAST_UPSTREAM, and which
 * listener faces it (HOLDFAST_CORE_LISTEN, _CORE_PORTS). Each upstream has a listener by which it can be reached, no
 * address is bound twice, and none is advertised that nobody could send to.
 */
import { Endpoint } from '../net/endpoint.ts';
import { TCP, TLS, UDP, WS, WSS } from '../wire/via.ts';
import type { Config, ListenerConfig, UpstreamConfig } from './config.ts';
import { wrong } from './error.ts';

/** A branch has an octet for the one that a request came by. */
export const MOST_LISTENERS = 255;

const SCHEMES: Record<string, number> = { udp: UDP, tcp: TCP, tls: TLS, ws: WS, wss: WSS };

const LISTEN_FORM =
  'udp:HOST:PORT[/ADVERTISED-HOST[:PORT]] or tcp:..., tls:..., ws:..., wss:..., separated by commas, IPv6 hosts in brackets';
/** An address with its port; the host of a variable may be a name. */
export const HOST_PORT = /^(\[[0-9a-fA-F:.]+\]|[^:[\]/]+):(\d{1,5})$/;

export function listeners(value: string, advertise: string | undefined): ListenerConfig[] {
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

export function advertiseOf(value: string | undefined): string | undefined {
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

export function upstreamsOf(value: string | undefined): UpstreamConfig[] {
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

/** Can this listener reach what the upstream may resolve to? A name tells no family, without transport no transport. */
function faces(l: ListenerConfig, { host, secured, transport }: UpstreamConfig): boolean {
  const family = Endpoint.parse(host, 0)?.family;
  return (
    l.transport < WS && // those connections are opened by clients alone
    (secured ? l.transport === TLS : transport === 0 || l.transport === transport) &&
    (family === undefined || (l.host.includes(':') ? 6 : 4) === family)
  );
}

export function coreListener(
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
export function corePorts(
  value: string | undefined,
  { listen, coreListener, workers }: Config,
): ListenerConfig[] {
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
