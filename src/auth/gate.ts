/**
 * Who may: the decision about one request, from its header values and the secret of the user that it names. 401 as
 * registrar or UAS, 407 as proxy (3261 §22.1); never for ACK and CANCEL, which nobody could send again.
 *
 * The way of a request: `ask` reads the credentials and the nonce; without good ones there is a challenge, and no
 * look-up. Then the secret of the user is found, and `decide` checks the digest, spends the count of the nonce, and
 * last asks whether the address-of-record belongs to the user. `check` does all three. A wrong password and an
 * unknown user are one answer, and cost the same here (not in a credential service).
 *
 * Stale and replayed are challenged with `stale=true`, so that the client tries again by itself: a replay gains
 * nothing by that, and a retransmission whose transaction is gone looks the same. auth-int is not offered: it covers
 * bodies that elements on the way may change (SDP), and REGISTER has none. Without `qop` (RFC 2069, where allowed)
 * a nonce counts once.
 *
 * Reads no clock, sends nothing, and keeps nothing but what was spent.
 */
import { canonicalHost, equalUri, isSip, parseUri } from '../wire/uri.ts';
import { type Credentials, type Lookup, ownAor } from './credentials.ts';
import {
  ALGORITHMS,
  type Algorithm,
  challengeLines,
  digestLength,
  digestOf,
  type Presented,
  parseCredentials,
  proves,
} from './digest.ts';
import { NONCE_FORGED, NONCE_OK, NONCE_REPLAYED, NONCE_STALE, type Nonces } from './nonce.ts';

export type Role = 'registrar' | 'uas' | 'proxy';

export interface GateRequest {
  role: Role;
  method: string;
  /** the Request-URI as it came */
  uri: string;
  /** raw values of all Authorization headers, or as proxy of all Proxy-Authorization headers; one char an octet */
  credentials: readonly string[];
  /** the canonical AOR of To for a REGISTER, of From for others */
  aor: string;
  /** its host, canonical */
  host: string;
  /** deciseconds of the process */
  ds: number;
}

export interface GatePolicy {
  /** that may be used at all; their order is that of `ALGORITHMS` */
  algorithms: readonly Algorithm[];
  /** is this host (canonical) a domain of ours, or ourselves? */
  serves: (host: string) => boolean;
  /** for who does not name a domain of ours */
  realm: string;
  /** accept MD5 without qop, once a nonce (3261 §22.4 item 8) */
  withoutQop: boolean;
}

/** For the log. What the peer is told says less. */
export type Why =
  | 'none' // no credentials for our realm
  | 'malformed'
  | 'algorithm' // or qop: not one that was offered
  | 'forged'
  | 'stale'
  | 'replayed'
  | 'unknown-user'
  | 'wrong-response'
  | 'other-uri'
  | 'other-aor'
  | 'unavailable';

/** Every answer has its status, reason phrase and header lines without CRLF. */
export interface Answer {
  status: number;
  reason: string;
  headers: string[];
  why: Why;
  /** the user, where he has proved who he is: who has not may have typed a password there */
  user?: string;
}

export type Decision =
  | {
      kind: 'accept' /** undefined: the method is never challenged */;
      user: string | undefined;
      realm: string;
    }
  | ({ kind: 'challenge' | 'refuse' | 'unavailable' } & Answer);

/** A secret is wanted: of `user` in `realm`. */
export interface Question {
  kind: 'question';
  user: string;
  realm: string;
  algorithm: Algorithm;
  request: GateRequest;
  presented: Presented;
  serial: number;
}

/** One request has few: of the realms on its way, each in a few algorithms. */
const MOST_VALUES = 16;

export class Gate {
  readonly #nonces: Nonces;
  readonly #credentials: Credentials;
  readonly #policy: GatePolicy;

  /** Throws if the crypto library lacks an algorithm of the policy. */
  constructor(nonces: Nonces, credentials: Credentials, policy: GatePolicy) {
    for (const algorithm of policy.algorithms) digestOf(algorithm, '');
    this.#nonces = nonces;
    this.#credentials = credentials;
    this.#policy = policy;
  }

  /** `done` runs once, possibly before the call returns. */
  check(request: GateRequest, done: (decision: Decision) => void): void {
    const asked = this.ask(request);
    if (asked.kind !== 'question') {
      done(asked);
      return;
    }
    const { user, realm, algorithm } = asked;
    this.#credentials.find(user, realm, algorithm, (found) => done(this.decide(asked, found)));
  }

  ask(request: GateRequest): Question | Decision {
    const realm = this.#realm(request);
    if (request.method === 'ACK' || request.method === 'CANCEL')
      return { kind: 'accept', user: undefined, realm }; // 3261-22-02
    const presented = this.#choose(request, realm);
    if (presented === 'malformed') return refusal(400, 'Malformed Credentials', 'malformed');
    if (presented === undefined) return this.#challenge(request, realm, 'none');
    const algorithm = this.#usable(presented);
    if (!algorithm) return this.#challenge(request, realm, 'algorithm');
    switch (this.#nonces.check(presented.nonce, request.aor, request.ds)) {
      case NONCE_FORGED:
        return this.#challenge(request, realm, 'forged');
      case NONCE_STALE:
        return this.#challenge(request, realm, 'stale');
    }
    const user = utf8Of(presented.username);
    if (user === undefined) return refusal(400, 'Malformed Credentials', 'malformed');
    return { kind: 'question', user, realm, algorithm, request, presented, serial: this.#nonces.serial };
  }

  decide(question: Question, found: Lookup): Decision {
    const { request, presented, realm, algorithm, user } = question;
    if (found.status === 'unavailable') return unavailable(found.retryAfter);
    const known = found.status === 'found';
    const ha1 = known ? found.ha1 : '0'.repeat(digestLength(algorithm));
    if (!proves(presented, algorithm, ha1, request.method) || !known)
      return this.#challenge(request, realm, known ? 'wrong-response' : 'unknown-user');
    const spent = this.#nonces.spend(question.serial, presented.count);
    if (spent !== NONCE_OK)
      return this.#challenge(request, realm, spent === NONCE_REPLAYED ? 'replayed' : 'stale', user);
    if (!this.#uriFits(presented.uri, request.uri))
      return refusal(400, 'Digest URI Mismatch', 'other-uri', user);
    if (!this.#owns(request, user, realm, found.aors)) return refusal(403, 'Forbidden', 'other-aor', user);
    return { kind: 'accept', user, realm };
  }

  #realm({ host }: GateRequest): string {
    return this.#policy.serves(host) ? host : this.#policy.realm;
  }

  /** Of the values for our realm the one with the best algorithm; those for others are not our business (22.3). */
  #choose({ credentials }: GateRequest, realm: string): Presented | 'malformed' | undefined {
    let best: Presented | undefined;
    let malformed = credentials.length > MOST_VALUES;
    for (const value of credentials.slice(0, MOST_VALUES)) {
      const presented = parseCredentials(value);
      if (presented === 'malformed') malformed = true;
      else if (typeof presented === 'string' || presented.realm !== realm) continue;
      else if (!best || rank(presented) < rank(best)) best = presented;
    }
    return best ?? (malformed ? 'malformed' : undefined);
  }

  #usable({ algorithm, qop }: Presented): Algorithm | undefined {
    if (!algorithm || !this.#policy.algorithms.includes(algorithm)) return undefined;
    if (qop === 'auth') return algorithm;
    return qop === '' && algorithm === 'MD5' && this.#policy.withoutQop ? algorithm : undefined;
  }

  #challenge(request: GateRequest, realm: string, why: Why, user?: string): Decision {
    const asProxy = request.role === 'proxy';
    const offers = this.#credentials.algorithms(realm, request.aor);
    const both = this.#policy.algorithms.filter((algorithm) => offers.includes(algorithm));
    const offered = both.length > 0 ? both : this.#policy.algorithms;
    return {
      kind: 'challenge',
      status: asProxy ? 407 : 401,
      reason: asProxy ? 'Proxy Authentication Required' : 'Unauthorized',
      headers: challengeLines(
        asProxy ? 'Proxy-Authenticate' : 'WWW-Authenticate',
        realm,
        this.#nonces.issue(request.aor, request.ds),
        ALGORITHMS.filter((algorithm) => offered.includes(algorithm)),
        why === 'stale' || why === 'replayed',
      ),
      why,
      ...(user !== undefined && { user }),
    };
  }

  /**
   * 8760 §2.6 item 6: the URI that was signed may differ from the Request-URI, which proxies rewrite, as long as both
   * are in domains of ours. Towards anybody else they must be the same.
   */
  #uriFits(signed: string, requested: string): boolean {
    if (signed === requested) return true;
    const a = parseUri(signed);
    const b = parseUri(requested);
    if (!a || !b) return false;
    if (equalUri(a, b)) return true;
    return isSip(a) && isSip(b) && this.#servesHost(a.host) && this.#servesHost(b.host);
  }

  #servesHost(host: string): boolean {
    return this.#policy.serves(canonicalHost(host));
  }

  /** 3261 10.3 step 4; as proxy or UAS nobody calls in the name of another user of ours. */
  #owns({ role, aor, host }: GateRequest, user: string, realm: string, aors?: readonly string[]): boolean {
    if (role !== 'registrar' && !this.#policy.serves(host)) return true;
    return ownAor(user, realm) === aor || (aors?.includes(aor) ?? false);
  }
}

const rank = ({ algorithm }: Presented): number =>
  algorithm ? ALGORITHMS.indexOf(algorithm) : ALGORITHMS.length;

function refusal(status: 400 | 403, reason: string, why: Why, user?: string): Decision {
  return { kind: 'refuse', status, reason, headers: [], why, ...(user !== undefined && { user }) };
}

function unavailable(retryAfter: number): Decision {
  const headers = [`Retry-After: ${retryAfter}`];
  return { kind: 'unavailable', status: 503, reason: 'Service Unavailable', headers, why: 'unavailable' };
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The text that octets (one a char) stand for; undefined if they are not UTF-8. */
function utf8Of(octets: string): string | undefined {
  try {
    return UTF8.decode(Buffer.from(octets, 'latin1'));
  } catch {
    return undefined;
  }
}
