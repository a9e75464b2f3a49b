/**
 * Flows over TLS: a stream like another, in the caller's thread. The peer's certificate has to be good for the host of
 * the proxy's URI (RFC 5922 7), not for a name that DNS gave in its place, and every URI has its own connection: so no
 * request goes over a flow whose certificate was never matched with its next hop (RFC 5626 4.3).
 *
 * Matched are DNS names and IP addresses of subjectAltName, by Node's rules; a `sip:` URI in it is not looked at.
 */

import { isIP } from 'node:net';
import { type ConnectionOptions, connect } from 'node:tls';
import { TLS } from '../wire/via.ts';
import { type Dial, overStream } from './connection.ts';

/** `options`: an authority, a client certificate; by default Node's own. Verification cannot be turned off here. */
export function dialTls(options: ConnectionOptions = {}): Dial {
  return ({ address }, handler, { localAddress, domain }) => {
    const host = domain.replace(/^\[|\]$/g, '');
    const socket = connect({
      ...options,
      host: address.host,
      port: address.port,
      rejectUnauthorized: true,
      // a numeric host is no server name (RFC 6066 3), but the certificate is still checked for it
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ...(localAddress === undefined ? {} : { localAddress }),
    });
    socket.setNoDelay(true);
    const connection = overStream(TLS, socket, handler);
    socket.once('secureConnect', () => connection.opened(socket.localAddress ?? '', socket.localPort ?? 0));
    return connection;
  };
}
