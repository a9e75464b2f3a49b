/**
 * Digest access authentication as arithmetic: HA1, response and the comparison, for MD5, SHA-256 and SHA-512/256
 * (RFC 7616, RFC 8760), and the credentials that a request presents. `-sess` variants and hashed user names are
 * never offered here, so they are not understood.
 *
 * Texts from the wire are one char an octet and are hashed as they came; names and passwords from people are
 * hashed as UTF-8. A secret is an HA1, never a password, and stands in no error and no log line.
 * Costs two short hashes a request, three where the password is at hand.
 */
import { hash, timingSafeEqual } from 'node:crypto';
import { parseNc } from './nonce.ts';
import { type AuthParam, parseAuthValue, quote } from './params.ts';

export type Algorithm = 'SHA-512-256' | 'SHA-256' | 'MD5';

/** In the order of preference. */
export const ALGORITHMS: readonly Algorithm[] = ['SHA-512-256', 'SHA-256', 'MD5'];

const HASHES: Record<Algorithm, string> = { 'SHA-512-256': 'sha512-256', 'SHA-256': 'sha256', MD5: 'md5' };

/** The value of the algorithm parameter, any letter case; none at all is MD5 (RFC 7616 3.3). */
export function algorithmOf(text: string | undefined): Algorithm | undefined {
  if (text === undefined) return 'MD5';
  const name = text.toUpperCase();
  return ALGORITHMS.find((algorithm) => algorithm === name);
}

/** Hex digits of a digest (8760 §2.2). */
export const digestLength = (algorithm: Algorithm): number => (algorithm === 'MD5' ? 32 : 64);

export function isDigest(algorithm: Algorithm, text: string): boolean {
  return text.length === digestLength(algorithm) && /^[0-9a-f]+$/.test(text);
}

/** Of octets, one a char. Throws where the crypto library has no such algorithm (MD5 under FIPS). */
export function digestOf(algorithm: Algorithm, octets: string): string {
  return hash(HASHES[algorithm], Buffer.from(octets, 'latin1'), 'hex');
}

/** What takes the place of the password wherever it is stored (RFC 7616 3.4.2). Texts as people write them. */
export function ha1Of(algorithm: Algorithm, user: string, realm: string, password: string): string {
  return hash(HASHES[algorithm], `${user}:${realm}:${password}`, 'hex');
}

/** All that a response covers. Texts as on the wire. */
export interface Covered {
  method: string;
  uri: string;
  nonce: string;
  /** '': the form of RFC 2069, without nc and cnonce */
  qop: string;
  nc: string;
  cnonce: string;
  /** with qop auth-int: the body, one char an octet, '' where there is none (8760 §2.6) */
  body?: string;
}

/** RFC 7616 3.4.1. */
export function responseOf(algorithm: Algorithm, ha1: string, covered: Covered): string {
  const { method, uri, nonce, qop, nc, cnonce, body = '' } = covered;
  const a2 = `${method}:${uri}${qop === 'auth-int' ? `:${digestOf(algorithm, body)}` : ''}`;
  const count = qop === '' ? '' : `${nc}:${cnonce}:${qop}:`;
  return digestOf(algorithm, `${ha1}:${nonce}:${count}${digestOf(algorithm, a2)}`);
}

/** Takes as long whatever the texts are, if they have one length. */
export function sameDigest(a: string, b: string): boolean {
  const left = Buffer.from(a, 'latin1');
  const right = Buffer.from(b, 'latin1');
  return left.length === right.length && timingSafeEqual(left, right);
}

/** What an Authorization or Proxy-Authorization value claims, and its proof. Texts one char an octet. */
export interface Presented {
  username: string;
  realm: string;
  nonce: string;
  uri: string;
  response: string;
  /** undefined: none that is known here */
  algorithm: Algorithm | undefined;
  /** '' where it is absent (RFC 2069) */
  qop: string;
  nc: string;
  /** the number in `nc`; 0 where it is absent */
  count: number;
  cnonce: string;
}

/**
 * 'other-scheme': not Digest, so not for us. 'unanswered': an empty nonce, from a client that says who it is before
 * it is asked (8760 §2.7). 'malformed': Digest, or nothing that can be read at all.
 */
export function parseCredentials(value: string): Presented | 'other-scheme' | 'unanswered' | 'malformed' {
  const auth = parseAuthValue(value);
  if (!auth) return 'malformed';
  const { params } = auth;
  if (!params) return 'other-scheme';
  const username = quoted(params.get('username'));
  const realm = quoted(params.get('realm'));
  const nonce = quoted(params.get('nonce'));
  const uri = quoted(params.get('uri')); // 3261-22-03
  const response = quoted(params.get('response'));
  if (!username || realm === undefined || nonce === undefined || !uri || response === undefined)
    return 'malformed';
  if (params.has('username*')) return 'malformed'; // RFC 7616 3.4: both are an error
  if (nonce === '') return 'unanswered';
  const algorithm = algorithmOf(params.get('algorithm')?.value);
  if (algorithm && !isDigest(algorithm, response)) return 'malformed';
  const presented = {
    username,
    realm,
    nonce,
    uri,
    response,
    algorithm,
    qop: '',
    nc: '',
    count: 0,
    cnonce: '',
  };
  const qop = params.get('qop');
  if (!qop) return presented;
  const nc = params.get('nc')?.value ?? '';
  const count = parseNc(nc);
  const cnonce = quoted(params.get('cnonce'));
  if (count < 0 || !cnonce) return 'malformed';
  return { ...presented, qop: qop.value, nc, count, cnonce };
}

const quoted = (param: AuthParam | undefined) => (param?.quoted ? param.value : undefined);

/** Is it the proof of whoever has this HA1, for this method? */
export function proves(presented: Presented, algorithm: Algorithm, ha1: string, method: string): boolean {
  return sameDigest(presented.response, responseOf(algorithm, ha1, { ...presented, method }));
}

/**
 * The challenge lines of one response (without CRLF), the most preferred algorithm first (8760 §2.3); all share the
 * nonce. `qop` always (8760 §2.6), quoted; `algorithm` and `stale` never quoted (RFC 7616 3.3).
 */
export function challengeLines(
  header: 'WWW-Authenticate' | 'Proxy-Authenticate',
  realm: string,
  nonce: string,
  algorithms: readonly Algorithm[],
  stale: boolean,
): string[] {
  const tail = stale ? ', stale=true' : '';
  return algorithms.map(
    (algorithm) =>
      `${header}: Digest realm=${quote(realm)}, nonce="${nonce}", algorithm=${algorithm}, qop="auth"${tail}`,
  );
}
