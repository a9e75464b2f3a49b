/**
 * Flows over TLS: a stream like another, in the caller's thread. The peer's certificate has to be good for the host of
 * the proxy's URI (RFC 5922 7), not for a name that DNS gave in its place, and every URI has its own connection: so no
 * request goes over a flow whose certificate was never matched with its next hop (RFC 5626 4.3).
 *
 * Matched as the server matches its peers (net/sipidentity.ts): `sip:` URIs of subjectAltName, else its DNS names, else
 * addresses. A wildcard is no SIP domain. Over wss other rules hold, so who matches is an argument of `connectTls`.
 */

import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { type ConnectionOptions, connect, type PeerCertificate, type TLSSocket } from 'node:tls';
import { speaksFor } from '../net/sipidentity.ts';
import type { Target } from '../net/targets.ts';
import { TLS } from '../wire/via.ts';
import { type Dial, type DialOptions, overStream } from './connection.ts';

/** Is this the certificate of the host? If not, why. */
export type CheckIdentity = (host: string, certificate: PeerCertificate) => Error | undefined;

const checkSipIdentity: CheckIdentity = (host, { raw }) =>
  speaksFor(new X509Certificate(raw), host)
    ? undefined
    : new Error(`the certificate does not speak for ${host}`);

/** Verification cannot be turned off by `tls`. */
export function connectTls(
  { address }: Target,
  { domain, localAddress }: DialOptions,
  tls: ConnectionOptions = {},
  check: CheckIdentity = checkSipIdentity,
): TLSSocket {
  const host = domain.replace(/^\[|\]$/g, '');
  const socket = connect({
    ...tls,
    host: address.host,
    port: address.port,
    rejectUnauthorized: true,
    checkServerIdentity: (_, certificate) => check(host, certificate),
    // a numeric host is no server name (RFC 6066 3), but the certificate is still checked for it
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ...(localAddress === undefined ? {} : { localAddress }),
  });
  socket.setNoDelay(true);
  return socket;
}

/** `options`: an authority, a client certificate; by default Node's own. */
export function dialTls(tls?: ConnectionOptions): Dial {
  return (target, handler, options) => {
    const socket = connectTls(target, options, tls);
    const connection = overStream(TLS, socket, handler);
    socket.once('secureConnect', () => connection.opened(socket.localAddress ?? '', socket.localPort ?? 0));
    return connection;
  };
}
