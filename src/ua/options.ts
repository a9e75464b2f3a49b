/**
 * What a user agent is made from, checked and filled in before anything is opened: a wrong value throws with code
 * `option` and its name, so that no half-configured endpoint registers.
 */
import type { ConnectionOptions } from 'node:tls';
import { type Account, passwordAccount } from '../auth/client.ts';
import type { TimerValues } from '../transaction/timers.ts';
import { isOwnHeader } from '../wire/upgrade.ts';
import { formatUri, parseSipUri, type SipUri, uriParam } from '../wire/uri.ts';
import { TCP, TLS, TRANSPORTS, UDP, WS, WSS } from '../wire/via.ts';
import { BACKOFF, type BackoffTimes } from './backoff.ts';
import { type Clock, systemClock } from './clock.ts';
import { type Dial, dialTcp, dialUdp } from './connection.ts';
import { UserAgentError } from './errors.ts';
import { isInstance } from './identity.ts';
import { BATTERY, type Bounds, boundsUpTo, MAINS } from './keepalive.ts';
import { type Locate, numericOnly } from './locating.ts';
import { dialTls } from './tls.ts';
import { dialWebSocket } from './websocket.ts';

export interface UserAgentOptions {
  /** the address-of-record: `sip:dora@example.net` */
  aor: string;
  /** in From, and in To of a REGISTER */
  displayName?: string;
  /** with `user` (default: the user of the AOR); or an `account` of one's own */
  password?: string | undefined;
  user?: string;
  account?: Account;
  /** the outbound-proxy-set: one to four SIP URIs, in order of preference */
  proxies: readonly string[];
  /** where instance-id and reg-ids are kept; needed unless `instanceId` is given */
  dataDir?: string;
  /** a UUID URN of the device's own */
  instanceId?: string;
  /** Request-URI of REGISTER; default: the host of the AOR */
  registrar?: string;
  /** seconds to ask a registration for; default 3600 */
  expires?: number;
  /** flows to keep, where fewer than all proxies are wanted; two at least if there are two */
  flows?: number;
  /** decides how often a stream is pinged; default mains */
  power?: 'mains' | 'battery';
  /** upper bound in seconds of the interval between pings, in place of `power` */
  pingSeconds?: number;
  /** The first hop is known to answer keep-alives (CRLF, STUN), whatever it says itself. */
  nextHopAnswersKeepAlives?: boolean;
  /** Require: outbound. A registrar without it then refuses with 420 */
  requireOutbound?: boolean;
  /** after a 439 register without outbound; default true */
  fallback?: boolean;
  /** ask for GRUUs (RFC 5627); without one Contact is the flow's own address. Default true */
  gruu?: boolean;
  /** leave instance-id and public GRUU out of requests other than REGISTER */
  anonymous?: boolean;
  /** numeric address to send from */
  localAddress?: string;
  backoff?: Partial<BackoffTimes>;
  timers?: Partial<TimerValues>;
  /** Resolves a URI (RFC 3263). The package's own takes the system's name servers. */
  locate?: Locate;
  clock?: Clock;
  /** in [0, 1) */
  random?: () => number;
  /** for TLS and wss: an authority (`ca`), a client certificate (`cert`, `key`); Node's defaults else */
  tls?: ConnectionOptions;
  /** path of the HTTP request that opens a WebSocket; default `/` */
  webSocketPath?: string;
  /** further headers of it, by name: `Cookie`, `Authorization`, `Origin` (RFC 7118 7) */
  webSocketHeaders?: Readonly<Record<string, string>>;
  /** how flows are opened, by transport code, for other transports than UDP, TCP, TLS, ws and wss */
  dials?: Readonly<Record<number, Dial>>;
}

export interface Settings {
  aor: string;
  user: string;
  domain: string;
  displayName: string | undefined;
  account: Account | undefined;
  proxies: readonly string[];
  dataDir: string | undefined;
  instanceId: string | undefined;
  registrar: string;
  expires: number;
  flows: number;
  pings: Bounds;
  keepAlives: boolean;
  require: boolean;
  fallback: boolean;
  gruu: boolean;
  anonymous: boolean;
  localAddress: string | undefined;
  backoff: BackoffTimes;
  timers: Partial<TimerValues>;
  locate: Locate;
  clock: Clock;
  random: () => number;
  dials: Readonly<Record<number, Dial>>;
}

/** RFC 5626 4.2.1 asks for two, and for four if possible. */
export const MOST_PROXIES = 4;
const MOST_EXPIRES = 2 ** 31 - 1;

export function checkOptions(options: UserAgentOptions): Settings {
  const aor = parseSipUri(options.aor ?? '');
  if (!aor?.user || aor.params.length > 0 || aor.headers.length > 0)
    fail('aor', options.aor, 'sip:USER@DOMAIN');
  const { proxies, instanceId, dataDir, password } = options;
  if (!Array.isArray(proxies) || proxies.length < 1 || proxies.length > MOST_PROXIES)
    fail('proxies', proxies, `one to ${MOST_PROXIES} URIs`);
  for (const uri of proxies) if (!parseSipUri(uri)) fail('proxies', uri, 'SIP URIs');
  if (new Set(proxies).size < proxies.length) fail('proxies', proxies, 'URIs that differ');
  if (instanceId !== undefined && !isInstance(instanceId))
    fail('instanceId', instanceId, 'a UUID or IMEI URN');
  if (instanceId === undefined && dataDir === undefined) fail('dataDir', dataDir, 'a directory');
  const registrar = options.registrar ?? `${aor.scheme}:${aor.host}`;
  if (!parseSipUri(registrar)) fail('registrar', registrar, 'a SIP URI');
  const expires = number('expires', options.expires ?? 3600, 1, MOST_EXPIRES);
  const account =
    options.account ??
    (password === undefined ? undefined : passwordAccount(options.user ?? aor.user, password));
  const { power = 'mains', pingSeconds, displayName, webSocketPath: path = '/' } = options;
  if (!/^\/[!-~]*$/.test(path)) fail('webSocketPath', path, 'a path from / on');
  if (power !== 'mains' && power !== 'battery') fail('power', power, 'mains or battery');
  if (displayName !== undefined && /[\r\n\0]/.test(displayName)) fail('displayName', displayName, 'one line');
  const headers = Object.entries(options.webSocketHeaders ?? {});
  for (const [name, value] of headers)
    if (!isOwnHeader(name, value))
      fail('webSocketHeaders', name, "HTTP headers that are not the handshake's");
  const backoff = { ...BACKOFF, ...options.backoff };
  for (const [name, value] of Object.entries(backoff)) number(`backoff.${name}`, value, 0.001, MOST_EXPIRES);
  return {
    aor: formatUri(aor),
    user: aor.user,
    domain: aor.host,
    displayName,
    account,
    proxies,
    dataDir,
    instanceId,
    registrar,
    expires,
    flows: number('flows', options.flows ?? MOST_PROXIES, 1, MOST_PROXIES),
    pings:
      pingSeconds === undefined
        ? power === 'mains'
          ? MAINS
          : BATTERY
        : boundsUpTo(number('pingSeconds', pingSeconds, 1, 86_400)),
    keepAlives: options.nextHopAnswersKeepAlives ?? false,
    require: options.requireOutbound ?? false,
    fallback: options.fallback ?? true,
    gruu: options.gruu ?? true,
    anonymous: options.anonymous ?? false,
    localAddress: options.localAddress,
    backoff,
    timers: options.timers ?? {},
    locate: options.locate ?? numericOnly,
    clock: options.clock ?? systemClock,
    random: options.random ?? Math.random,
    dials: {
      [UDP]: dialUdp,
      [TCP]: dialTcp,
      [TLS]: dialTls(options.tls),
      [WS]: dialWebSocket(false, { path, headers, account }),
      [WSS]: dialWebSocket(true, { path, headers, account, tls: options.tls }),
      ...options.dials,
    },
  };
}

function fail(name: string, value: unknown, allowed: string): never {
  throw new UserAgentError('option', `${name} is ${JSON.stringify(value)}; allowed: ${allowed}`);
}

function number(name: string, value: unknown, least: number, most: number): number {
  if (typeof value !== 'number' || !(value >= least && value <= most))
    fail(name, value, `${least} to ${most}`);
  return value;
}

/** The URI with `lr`, as it stands in Route (UA-4.2.1-07); `wss` is a name for Via alone (7118 5.2). */
export function routeOf(uri: string): string {
  const parsed = parseSipUri(uri) as SipUri;
  const named = uriParam(parsed, 'transport')?.toUpperCase() === TRANSPORTS[WSS];
  const route = named ? uri.replace(/;transport=wss\b/i, ';transport=ws') : uri;
  return uriParam(parsed, 'lr') === undefined ? `${route};lr` : route;
}
