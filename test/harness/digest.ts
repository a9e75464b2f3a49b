/**
 * What a phone does with a challenge (RFC 3261 22, RFC 8760), computed by node:crypto and not by the code under
 * test; and the lines of a credential file.
 */
import { createHash } from 'node:crypto';
import type { SipMessage } from './sip.ts';

const HASHES = { 'SHA-512-256': 'sha512-256', 'SHA-256': 'sha256', MD5: 'md5' } as const;
export type Algorithm = keyof typeof HASHES;
export const ALGORITHMS = Object.keys(HASHES) as Algorithm[];

const hex = (algorithm: Algorithm, text: string) => createHash(HASHES[algorithm]).update(text).digest('hex');

export const ha1 = (algorithm: Algorithm, user: string, realm: string, password: string): string =>
  hex(algorithm, `${user}:${realm}:${password}`);

/** A line of a credential file. */
export const userLine = (
  user: string,
  realm: string,
  password: string,
  algorithms: readonly Algorithm[] = ALGORITHMS,
): string =>
  JSON.stringify({
    user,
    realm,
    ...Object.fromEntries(algorithms.map((a) => [a, ha1(a, user, realm, password)])),
  });

/** The challenges of a 401 or 407, as they stand. */
export const challenges = (message: SipMessage): string[] =>
  message.fields(message.status === 407 ? 'Proxy-Authenticate' : 'WWW-Authenticate');

export const parameter = (value: string, name: string): string | undefined =>
  new RegExp(`[ ,]${name}=(?:"([^"]*)"|([^ ,]*))`)
    .exec(value)
    ?.slice(1)
    .find((v) => v !== undefined);

export interface Proof {
  user: string;
  password: string;
  method?: string;
  /** as in the Request-URI; without: the realm itself */
  uri?: string;
  algorithm?: Algorithm;
  nc?: number;
  nonce?: string;
}

/** The credentials that answer a 401 or 407. */
export function proof(challenged: SipMessage, options: Proof): string {
  const { user, password, method = 'REGISTER', algorithm = 'SHA-256', nc = 1, nonce } = options;
  const challenge = challenges(challenged).find((value) => parameter(value, 'algorithm') === algorithm);
  if (!challenge) throw new Error(`no challenge for ${algorithm}`);
  const realm = parameter(challenge, 'realm') ?? '';
  const given = nonce ?? parameter(challenge, 'nonce') ?? '';
  const uri = options.uri ?? `sip:${realm}`;
  const count = nc.toString(16).padStart(8, '0');
  const a2 = hex(algorithm, `${method}:${uri}`);
  const response = hex(algorithm, `${ha1(algorithm, user, realm, password)}:${given}:${count}:cn:auth:${a2}`);
  return (
    `Digest username="${user}", realm="${realm}", nonce="${given}", uri="${uri}", response="${response}", ` +
    `algorithm=${algorithm}, qop=auth, nc=${count}, cnonce="cn"`
  );
}
