/**
 * Where a Redis or Valkey is: `redis://[[USER]:PASSWORD@]HOST[:PORT][,HOST:PORT...][/DB]`, `rediss://` over TLS.
 *
 * Several places are seeds of one cluster: any of them tells of all others, so that a start does not depend
 * on one. Whether a server is a cluster at all is asked of the server, not said here. Credentials are
 * percent-encoded, and never leave this structure: whoever writes a target somewhere writes its `name`.
 */
export interface RedisTarget {
  tls: boolean;
  username?: string;
  password?: string;
  places: { host: string; port: number }[];
  db: number;
  /** for people: scheme, places and database without credentials */
  name: string;
}

const FORM = /^(rediss?):\/\/(?:([^@/]*)@)?([^@/]+)(?:\/(\d{1,5})?)?$/;
const PLACE = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+)(?::(\d{1,5}))?$/;
const DEFAULT_PORT = 6379;

/** Undefined if it is not such a URL. A cluster has database 0 only. */
export function parseRedisUrl(url: string): RedisTarget | undefined {
  const [, scheme, credentials, list, db] = FORM.exec(url) ?? [];
  if (scheme === undefined) return undefined;
  const places: RedisTarget['places'] = [];
  for (const text of list.split(',')) {
    const [, host, portText] = PLACE.exec(text) ?? [];
    const port = Number(portText ?? DEFAULT_PORT);
    if (host === undefined || port < 1 || port > 65_535) return undefined;
    places.push({ host: host.replace(/^\[|\]$/g, ''), port });
  }
  const target: RedisTarget = {
    tls: scheme === 'rediss',
    places,
    db: Number(db ?? 0),
    name: `${scheme}://${places.map(placeText).join(',')}/${Number(db ?? 0)}`,
  };
  if (places.length > 1 && target.db !== 0) return undefined;
  if (credentials !== undefined && !addCredentials(target, credentials)) return undefined;
  return target;
}

const placeText = ({ host, port }: { host: string; port: number }) =>
  host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;

/** `PASSWORD` alone is no form: it would be taken for a user. */
function addCredentials(target: RedisTarget, credentials: string): boolean {
  const colon = credentials.indexOf(':');
  if (colon < 0) return false;
  try {
    const username = decodeURIComponent(credentials.slice(0, colon));
    if (username !== '') target.username = username;
    target.password = decodeURIComponent(credentials.slice(colon + 1));
    return true;
  } catch {
    return false;
  }
}
