/**
 * What a shard serves TLS with: the certificates, which of them a client's server name asks for, and what is
 * asked of clients. Main makes a new one when files change (main/certificates.ts); it is plain data, so that it
 * can be posted. Connections that stand keep what they were made with.
 */

export interface ServerIdentity {
  /** subjectAltName's DNS names, lower case; "*.example.com" is one too */
  names: readonly string[];
  /** SHA-256, as openssl shows it */
  fingerprint: string;
  /** ISO 8601 */
  until: string;
  /** ffi: SSL_CTX*, main's to free */
  context: bigint;
  /** core: PEM */
  cert: string;
  key: string;
  /** core: 48 octets, the same on every shard */
  ticketKeys: Uint8Array;
}

/** What we open connections with. */
export interface ClientIdentity {
  context: bigint;
  cert: string | undefined;
  key: string | undefined;
  ca: string;
}

export interface Serving {
  /** rises with each */
  generation: number;
  /** what is asked of clients; their certificates come from `ca` */
  client: 'none' | 'optional' | 'required';
  ca: string | undefined;
  /** 32 octets: a session of another one is not resumed */
  sessionContext: string;
  /** the first is for clients that name no server, or one that we have no certificate for */
  identities: readonly ServerIdentity[];
  outgoing: ClientIdentity;
}

/** The certificate for a server name: by the whole name, else by a wildcard for its first label. */
export function identityFor({ identities }: Serving, name: string): ServerIdentity {
  const wanted = name.toLowerCase();
  const wild = `*${wanted.slice(wanted.indexOf('.'))}`;
  return (
    identities.find(({ names }) => names.includes(wanted)) ??
    identities.find(({ names }) => names.includes(wild)) ??
    identities[0]
  );
}
