/**
 * Where the secrets of users come from, as the gate sees it. A secret is an HA1: the digest of user, realm and
 * password (RFC 7616 3.4.2). Who has it can register as that user in that realm, so it is handled as a password
 * is: it stands in no log line and no error, and no source shows what it holds.
 *
 * `unavailable` is not `unknown`: the caller answers 503 with Retry-After and lets nobody in.
 */
import { canonicalAor, parseSipUri } from '../wire/uri.ts';
import type { Algorithm } from './digest.ts';

export type Lookup =
  | {
      status: 'found';
      ha1: string /** canonical AORs of the user beside user@realm */;
      aors?: readonly string[];
    }
  /** no such user, or none that has an HA1 of this algorithm */
  | { status: 'unknown' }
  | { status: 'unavailable' /** seconds */; retryAfter: number };

export interface Credentials {
  /** `done` runs exactly once on the calling thread, possibly before the call returns. Texts as people write them. */
  find(user: string, realm: string, algorithm: Algorithm, done: (found: Lookup) => void): void;
  /**
   * Which algorithms there are to offer to who would be this canonical AOR: those of its user where he is known, else
   * those that every user of the realm has. A phone that knows MD5 alone may fail at the sight of another (it should
   * not: 8760 2.4), so its user's entry has MD5 alone.
   */
  algorithms(realm: string, aor: string): readonly Algorithm[];
  /** Does this canonical AOR belong to a user? Where nobody can say at once, there is no such method. */
  knows?(aor: string): boolean;
  close(): Promise<void>;
}

/**
 * The AOR that belongs to a user by his name alone: "dora" and "dora@example.net" own sip:dora@example.net in the
 * realm example.net. Canonical; undefined if the name cannot stand in a URI.
 */
export function ownAor(user: string, realm: string): string | undefined {
  const at = user.length - realm.length - 1;
  const local =
    at > 0 && user[at] === '@' && user.slice(at + 1).toLowerCase() === realm ? user.slice(0, at) : user;
  if (!local.isWellFormed()) return undefined;
  const uri = parseSipUri(`sip:${encodeURIComponent(local)}@${realm}`);
  return uri && canonicalAor(uri);
}
