/**
 * The other side: answers to challenges, for a user agent. It takes the topmost challenge that it understands and
 * has an account for (8760 §2.4); unknown schemes, algorithms and qop values are passed over. A `Session` is one
 * nonce with its count, good for any number of requests until it is challenged anew.
 *
 * The caller sends the request again with the same Call-ID, From tag and To, and a CSeq one higher (3261 §22.2). He
 * says which sessions the refused request used: the same account is not tried twice, unless the nonce was stale.
 */
import { ALGORITHMS, type Algorithm, algorithmOf, ha1Of, responseOf } from './digest.ts';
import { parseAuthValue, quote } from './params.ts';

export interface Account {
  user: string;
  /** undefined: not for this realm */
  ha1(algorithm: Algorithm, realm: string): string | undefined;
}

/** For one realm, or whichever asks. Keeps the password in memory. */
export function passwordAccount(user: string, password: string, realm?: string): Account {
  return {
    user,
    ha1: (algorithm, asked) =>
      realm === undefined || realm === asked ? ha1Of(algorithm, user, asked, password) : undefined,
  };
}

export interface Challenge {
  /** as on the wire, one char an octet, escapes resolved */
  realm: string;
  nonce: string;
  algorithm: Algorithm;
  /** '' where the server is of RFC 2069 */
  qop: 'auth' | 'auth-int' | '';
  opaque: string | undefined;
  stale: boolean;
}

/** Undefined if it is malformed, or asks for something that is not known here. */
export function parseChallenge(value: string): Challenge | undefined {
  const params = parseAuthValue(value)?.params;
  const realm = params?.get('realm');
  const nonce = params?.get('nonce');
  if (!params || !realm?.quoted || !nonce?.quoted) return undefined;
  const algorithm = algorithmOf(params.get('algorithm')?.value);
  const qop = qopOf(params.get('qop')?.value);
  if (!algorithm || qop === undefined) return undefined;
  const stale = params.get('stale')?.value.toLowerCase() === 'true';
  return {
    realm: realm.value,
    nonce: nonce.value,
    algorithm,
    qop,
    opaque: params.get('opaque')?.value,
    stale,
  };
}

/** auth where it is offered: auth-int breaks where something on the way changes the body. */
function qopOf(offered: string | undefined): Challenge['qop'] | undefined {
  if (offered === undefined) return '';
  const values = offered.split(',').map((value) => value.trim().toLowerCase());
  if (values.includes('auth')) return 'auth';
  return values.includes('auth-int') ? 'auth-int' : undefined;
}

export class Session {
  readonly challenge: Challenge;
  readonly #user: string;
  readonly #ha1: string;
  #count = 0;

  constructor(challenge: Challenge, user: string, ha1: string) {
    this.challenge = challenge;
    this.#user = Buffer.from(user, 'utf8').toString('latin1');
    this.#ha1 = ha1;
  }

  /**
   * The value of Authorization or Proxy-Authorization for the next request, one char an octet. `uri`: the Request-URI;
   * `cnonce`: random, of token characters; `body`: one char an octet.
   */
  answer(method: string, uri: string, cnonce: string, body = ''): string {
    const { realm, nonce, algorithm, qop, opaque } = this.challenge;
    const nc = (++this.#count).toString(16).padStart(8, '0');
    const response = responseOf(algorithm, this.#ha1, { method, uri, nonce, qop, nc, cnonce, body });
    const counted = qop === '' ? '' : `, qop=${qop}, nc=${nc}, cnonce=${quote(cnonce)}`; // 8760-2.6-01
    return (
      `Digest username=${quote(this.#user)}, realm=${quote(realm)}, nonce=${quote(nonce)}, uri=${quote(uri)}, ` +
      `response="${response}", algorithm=${algorithm}${counted}` +
      (opaque === undefined ? '' : `, opaque=${quote(opaque)}`)
    );
  }
}

/**
 * A session for the topmost of the challenges (raw values of WWW-Authenticate or Proxy-Authenticate, in order) that
 * can be answered. Undefined: give the request up. `refused`: the sessions whose answers stood in the request.
 */
export function answerChallenge(
  values: readonly string[],
  account: Account,
  refused: readonly Session[] = [],
  supported: readonly Algorithm[] = ALGORITHMS,
): Session | undefined {
  for (const value of values) {
    const challenge = parseChallenge(value);
    if (!challenge || !supported.includes(challenge.algorithm)) continue;
    const again = refused.some((session) => session.challenge.realm === challenge.realm);
    if (again && !challenge.stale) continue; // 3261-22-04
    const realm = Buffer.from(challenge.realm, 'latin1').toString('utf8');
    const ha1 = account.ha1(challenge.algorithm, realm);
    if (ha1 !== undefined) return new Session(challenge, account.user, ha1);
  }
  return undefined;
}
