/**
 * The credential file, line by line. A line is JSON, or what `htdigest` writes:
 *
 *   {"user":"dora","realm":"example.net","SHA-512-256":"<64 hex>","SHA-256":"<64 hex>","MD5":"<32 hex>","aors":["sip:100@example.net"]}
 *   dora:example.net:<32 hex>
 *   dora:example.net:SHA-256=<64 hex>,MD5=<32 hex>
 *
 * Any of the three digests may be missing. `aors` are addresses-of-record that the user may register and call from
 * beside user@realm. Several lines of one user add up; a digest that is there twice is a mistake. Empty lines and
 * lines that begin with "#" are skipped. Hex is lower case; a user's name has no ":" in it (RFC 7616 4).
 *
 * A fault names the line's number and what is wrong, never what stands there.
 */
import { canonicalAor, parseSipUri } from '../wire/uri.ts';
import { ALGORITHMS, type Algorithm, isDigest } from './digest.ts';

export interface Entry {
  user: string;
  realm: string;
  ha1s: Map<Algorithm, string>;
  /** canonical */
  aors: string[];
}

export type Users = Map<string, Entry>;

export class CredentialsFault extends Error {
  /** from 1 on; 0: the whole file */
  readonly line: number;

  constructor(line: number, what: string) {
    super(line > 0 ? `line ${line}: ${what}` : what);
    this.line = line;
  }
}

export const userKey = (user: string, realm: string): string => `${user}\0${realm}`;

/** Undefined for an empty line or a comment; a text says what is wrong. */
export function parseLine(line: string): Entry | string | undefined {
  const text = line.trim();
  if (text === '' || text.startsWith('#')) return undefined;
  const entry = text.startsWith('{') ? fromJson(text) : fromColons(text);
  if (typeof entry === 'string') return entry;
  if (entry.user === '' || entry.user.includes(':') || entry.user.includes('\0'))
    return 'user is empty or has ":" in it';
  if (entry.realm === '' || /["\\\0]/.test(entry.realm)) return 'realm is empty or has quotes in it';
  return entry.ha1s.size > 0 ? entry : 'no digest';
}

function fromJson(text: string): Entry | string {
  let fields: Record<string, unknown>;
  try {
    fields = JSON.parse(text);
  } catch {
    return 'not JSON';
  }
  const { user, realm, aors = [] } = fields;
  if (typeof user !== 'string' || typeof realm !== 'string') return '"user" and "realm" must be texts';
  const entry: Entry = { user, realm, ha1s: new Map(), aors: [] };
  for (const algorithm of ALGORITHMS) {
    const digest = fields[algorithm];
    if (digest === undefined) continue;
    if (typeof digest !== 'string' || !isDigest(algorithm, digest)) return `"${algorithm}" is no such digest`;
    entry.ha1s.set(algorithm, digest);
  }
  const canonical = canonicalAors(aors);
  if (!canonical) return '"aors" is no list of SIP URIs';
  entry.aors = canonical;
  return entry;
}

/** A list of SIP URIs as canonical AORs; undefined for anything else. */
export function canonicalAors(aors: unknown): string[] | undefined {
  if (!Array.isArray(aors)) return undefined;
  const uris = aors.map((aor) => (typeof aor === 'string' ? parseSipUri(aor) : undefined));
  return uris.every((uri) => uri !== undefined) ? uris.map(canonicalAor) : undefined;
}

function fromColons(text: string): Entry | string {
  const first = text.indexOf(':');
  const last = text.lastIndexOf(':'); // a realm that is an IPv6 address has colons too
  if (first < 0 || last === first) return 'not USER:REALM:DIGEST';
  const entry: Entry = {
    user: text.slice(0, first),
    realm: text.slice(first + 1, last),
    ha1s: new Map(),
    aors: [],
  };
  for (const part of text.slice(last + 1).split(',')) {
    const equals = part.indexOf('=');
    const name = equals < 0 ? 'MD5' : part.slice(0, equals);
    const algorithm = ALGORITHMS.find((known) => known === name);
    if (!algorithm) return `a digest's algorithm is none of ${ALGORITHMS.join(', ')}`;
    const digest = part.slice(equals + 1);
    if (!isDigest(algorithm, digest)) return `the ${algorithm} digest is no such digest`;
    if (entry.ha1s.has(algorithm)) return `two ${algorithm} digests`;
    entry.ha1s.set(algorithm, digest);
  }
  return entry;
}

/** A line of the JSON form, without its end. */
export function formatLine({ user, realm, ha1s, aors }: Entry): string {
  return JSON.stringify({ user, realm, ...Object.fromEntries(ha1s), ...(aors.length > 0 && { aors }) });
}

/** Throws a CredentialsFault. */
export function parseUsers(text: string): Users {
  const users: Users = new Map();
  let number = 0;
  for (const line of text.split('\n')) {
    number++;
    const entry = parseLine(line);
    if (entry === undefined) continue;
    if (typeof entry === 'string') throw new CredentialsFault(number, entry);
    const key = userKey(entry.user, entry.realm);
    const known = users.get(key);
    if (!known) {
      users.set(key, entry);
      continue;
    }
    for (const [algorithm, digest] of entry.ha1s) {
      if (known.ha1s.has(algorithm))
        throw new CredentialsFault(number, `a second ${algorithm} digest of one user`);
      known.ha1s.set(algorithm, digest);
    }
    known.aors.push(...entry.aors);
  }
  return users;
}
