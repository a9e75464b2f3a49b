import { Endpoint } from '../net/endpoint.ts';

/**
 * SIP and SIPS URIs as text: parse, format, compare, and the canonical form of an address-of-record.
 *
 * For the registrar, the target set and configuration, where a string and an object per URI are
 * affordable; the packet path reads URIs in place through the lexer. Components keep the text they
 * came with (escapes included), so format(parse(x)) differs from x only in the case of the scheme and
 * in empty parameters (";;"). Nothing here throws: bad input is undefined.
 *
 * More is accepted in user and parameters than RFC 3261 25.1 lists ("#", "[", "|": phones send them
 * unescaped), but never a control character, blank, quote or angle bracket, a broken %-escape, or an
 * escape in the host (19.1.2): whatever was parsed can be written into a header as it stands.
 */
export type UriParam = [name: string, value: string | undefined];

export interface SipUri {
  scheme: 'sip' | 'sips';
  /** as written, escapes kept; never empty */
  user?: string;
  /** as written; may be empty ("sip:a:@b") */
  password?: string;
  /** as written; an IPv6 reference keeps its brackets */
  host: string;
  port?: number;
  /** in order, names as written */
  params: UriParam[];
  /** what follows "?", in order, as written */
  headers: UriParam[];
}

/** Any other scheme: what follows the colon is kept and not looked into. */
export interface OpaqueUri {
  scheme: string;
  opaque: string;
}

export type Uri = SipUri | OpaqueUri;

export const isSip = (uri: Uri): uri is SipUri => !('opaque' in uri);

// What may stand in a URI at all: visible ASCII without the delimiters of the headers around it.
const VISIBLE = /^[!#-;=?-~]+$/;
const BROKEN_ESCAPE = /%(?![0-9a-fA-F]{2})/;
const SCHEME = /^([a-zA-Z][a-zA-Z0-9+.-]*):(.+)$/;
const HOSTNAME =
  /^[a-zA-Z0-9_](?:[a-zA-Z0-9_-]*[a-zA-Z0-9_])?(?:\.[a-zA-Z0-9_](?:[a-zA-Z0-9_-]*[a-zA-Z0-9_])?)*\.?$/;
const HOSTPORT = /^(\[[0-9a-fA-F:.]+\]|[^:[\]]+)(?::(\d{1,5}))?$/;

export function parseUri(text: string): Uri | undefined {
  if (!VISIBLE.test(text)) return undefined;
  const parts = SCHEME.exec(text);
  if (!parts) return undefined;
  const scheme = parts[1].toLowerCase();
  if (scheme !== 'sip' && scheme !== 'sips') return { scheme, opaque: parts[2] };
  return parseSipRest(scheme, parts[2]);
}

/** Undefined also if the scheme is neither sip nor sips. */
export function parseSipUri(text: string): SipUri | undefined {
  const uri = parseUri(text);
  return uri && isSip(uri) ? uri : undefined;
}

function parseSipRest(scheme: 'sip' | 'sips', text: string): SipUri | undefined {
  if (BROKEN_ESCAPE.test(text)) return undefined;
  const uri: SipUri = { scheme, host: '', params: [], headers: [] };
  // ";" and "?" may stand in a user, "@" may not stand anywhere else: the first "@" ends the userinfo.
  const at = text.indexOf('@');
  if (at >= 0) {
    const userinfo = text.slice(0, at);
    const colon = userinfo.indexOf(':');
    uri.user = colon < 0 ? userinfo : userinfo.slice(0, colon);
    if (colon >= 0) uri.password = userinfo.slice(colon + 1);
    if (uri.user === '') return undefined; // 19.1.1
  }
  let rest = text.slice(at + 1);
  const question = rest.indexOf('?');
  if (question >= 0) {
    for (const header of rest.slice(question + 1).split('&')) {
      const param = splitParam(header);
      if (!param || param[1] === undefined) return undefined;
      uri.headers.push(param);
    }
    rest = rest.slice(0, question);
  }
  const [hostport, ...params] = rest.split(';');
  for (const text of params) {
    if (text === '') continue;
    const param = splitParam(text);
    if (!param) return undefined;
    uri.params.push(param);
  }
  const parts = HOSTPORT.exec(hostport);
  if (!parts) return undefined;
  uri.host = parts[1];
  if (uri.host.length > 255) return undefined; // RFC 1035 2.3.4
  if (uri.host.startsWith('[') ? Endpoint.parse(uri.host, 0)?.family !== 6 : !HOSTNAME.test(uri.host)) {
    return undefined;
  }
  if (parts[2] !== undefined) {
    uri.port = Number(parts[2]);
    if (uri.port < 1 || uri.port > 65535) return undefined;
  }
  return uri;
}

function splitParam(text: string): UriParam | undefined {
  const equals = text.indexOf('=');
  if (equals === 0 || text === '') return undefined;
  return equals < 0 ? [text, undefined] : [text.slice(0, equals), text.slice(equals + 1)];
}

export function formatUri(uri: Uri): string {
  if (!isSip(uri)) return `${uri.scheme}:${uri.opaque}`;
  let text = `${uri.scheme}:`;
  if (uri.user !== undefined) {
    text += uri.user;
    if (uri.password !== undefined) text += `:${uri.password}`;
    text += '@';
  }
  text += uri.host;
  if (uri.port !== undefined) text += `:${uri.port}`;
  for (const [name, value] of uri.params) text += value === undefined ? `;${name}` : `;${name}=${value}`;
  uri.headers.forEach(([name, value], i) => {
    text += `${i === 0 ? '?' : '&'}${name}=${value}`;
  });
  return text;
}

/** The first parameter of that name (lower case); '' if it has no value, undefined if it is absent. */
export function uriParam(uri: SipUri, name: string): string | undefined {
  for (const [key, value] of uri.params) if (key.toLowerCase() === name) return value ?? '';
  return undefined;
}

const escapeOf = (code: number) => `%${code.toString(16).toUpperCase().padStart(2, '0')}`;

/** Escapes become the character where `plain` allows it, else upper-case hex: equal texts get one form. */
function normalise(text: string, plain: RegExp): string {
  if (!text.includes('%')) return text;
  return text.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) => {
    const code = Number.parseInt(hex, 16);
    const char = String.fromCharCode(code);
    return plain.test(char) ? char : escapeOf(code);
  });
}

const UNRESERVED = /^[a-zA-Z0-9\-_.!~*'()]$/;
/** unreserved and user-unreserved: what RFC 3261 25.1 lets stand in a user without an escape */
const USER_PLAIN = /^[a-zA-Z0-9\-_.!~*'()&=+$,;?/]$/;

/** An escaped character equals the plain one unless it is reserved (19.1.4). */
const unescaped = (text: string) => normalise(text, UNRESERVED);
const folded = (text: string) => unescaped(text).toLowerCase();

/** Lower case, without a trailing dot, IPv6 as RFC 5952 writes it. */
export function canonicalHost(host: string): string {
  if (host.startsWith('[')) return `[${Endpoint.parse(host, 0)?.host ?? host.slice(1, -1).toLowerCase()}]`;
  const lower = host.toLowerCase();
  return lower.endsWith('.') ? lower.slice(0, -1) : lower;
}

// Present in one URI only, these never match; every other parameter is then ignored. The transport
// belongs to them: the text of 19.1.4 says so for components with a default value, and its examples do.
const NEVER_IGNORED = new Set(['user', 'ttl', 'method', 'maddr', 'transport']);

/** RFC 3261 19.1.4. Not transitive: ";x=1" and ";x=2" each equal the URI without x, not each other. */
export function equalUri(a: Uri, b: Uri): boolean {
  if (!isSip(a) || !isSip(b)) {
    return !isSip(a) && !isSip(b) && a.scheme === b.scheme && a.opaque === b.opaque;
  }
  return (
    a.scheme === b.scheme &&
    sameUserinfo(a.user, b.user) &&
    sameUserinfo(a.password, b.password) &&
    a.port === b.port &&
    canonicalHost(a.host) === canonicalHost(b.host) &&
    paramsMatch(a, b) &&
    paramsMatch(b, a) &&
    headerSet(a) === headerSet(b)
  );
}

function sameUserinfo(a: string | undefined, b: string | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return unescaped(a) === unescaped(b);
}

function paramsMatch(a: SipUri, b: SipUri): boolean {
  for (const [name, value] of a.params) {
    const key = folded(name);
    const other = b.params.find(([otherName]) => folded(otherName) === key);
    if (other ? folded(value ?? '') !== folded(other[1] ?? '') : NEVER_IGNORED.has(key)) return false;
  }
  return true;
}

/** Names fold; values stay as they are, because most header values are case-sensitive (section 20). */
function headerSet(uri: SipUri): string {
  return uri.headers
    .map(([name, value]) => `${folded(name)}=${unescaped(value ?? '')}`)
    .sort()
    .join('&');
}

/**
 * One text for URIs that are equal in every component: normalised, parameters and headers sorted.
 * URIs that are equal only because a parameter of one is ignored (;ob, ;x=1) get different texts:
 * use it as an index and `equalUri` for the decision.
 */
export function canonicalUri(uri: Uri): string {
  if (!isSip(uri)) return `${uri.scheme}:${uri.opaque}`;
  let text = `${uri.scheme}:`;
  if (uri.user !== undefined) {
    text += unescaped(uri.user);
    if (uri.password !== undefined) text += `:${unescaped(uri.password)}`;
    text += '@';
  }
  text += canonicalHost(uri.host);
  if (uri.port !== undefined) text += `:${uri.port}`;
  const params = uri.params.map(([name, value]) => `;${folded(name)}${value ? `=${folded(value)}` : ''}`);
  const headers = headerSet(uri);
  return text + params.sort().join('') + (headers === '' ? '' : `?${headers}`);
}

/**
 * The index of an address-of-record (RFC 3261 10.3 step 5): "sip:" user "@" host.
 *
 * Removed: all URI parameters (user=phone too), headers, the password, and the port, which Table 1
 * does not allow in To. sips folds into sip: it is the same user. The host is in lower case. Escapes
 * become the character they stand for; those that cannot stand in a user unescaped ("@", ":", "%",
 * blanks, controls, octets above 126) stay as upper-case escapes, which keeps the text a URI and the
 * mapping one to one. The user's case stays significant (19.1.4).
 */
export function canonicalAor(uri: SipUri): string {
  const host = canonicalHost(uri.host);
  return uri.user === undefined ? `sip:${host}` : `sip:${normalise(uri.user, USER_PLAIN)}@${host}`;
}
