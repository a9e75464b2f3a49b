/**
 * TLS of the core backend: Node's TLSSocket over an accepted socket, or by `tls.connect`. What is accepted and
 * what is refused is as on the ffi backend; a client whose certificate is not believed hears of it by the end
 * of the connection, since Node looks at it only when the handshake is done.
 *
 * A ticket is good on every shard and its session carries the verdict on the client's certificate, which is
 * looked at again. Contexts are made once for each `Serving`.
 */
import type net from 'node:net';
import tls from 'node:tls';
import type { ClientIdentity, ServerIdentity, Serving } from './serving.ts';
import { identityFor } from './serving.ts';
import { sipIdentities, speaksFor } from './sipidentity.ts';

/** SSL_OP_NO_RENEGOTIATION */
const NO_RENEGOTIATION = 2 ** 30;

/** Node's own server asks the handle the same. */
interface Verifier {
  _handle: { verifyError(): (Error & { code?: string }) | null } | null;
}

export class CoreSecure {
  readonly #serving: Serving;
  readonly #contexts = new Map<ServerIdentity, tls.SecureContext>();
  #outgoing: tls.SecureContext | undefined;

  constructor(serving: Serving) {
    this.#serving = serving;
    for (const identity of serving.identities) this.#contexts.set(identity, contextOf(identity, serving));
  }

  /** A server's end over an accepted socket; undefined: there is no certificate. It emits `secure`. */
  accept(raw: net.Socket): tls.TLSSocket | undefined {
    const { identities, client } = this.#serving;
    if (identities.length === 0) return undefined;
    return new tls.TLSSocket(raw, {
      isServer: true,
      secureContext: this.#contexts.get(identities[0]),
      requestCert: client !== 'none',
      rejectUnauthorized: client === 'required', // who shows none is refused within the handshake
      SNICallback: (name, chosen) => chosen(null, this.#contexts.get(identityFor(this.#serving, name))),
    });
  }

  /** Why a client that is through the handshake is refused; '' if he is not. */
  refuses(socket: tls.TLSSocket): string {
    const { client } = this.#serving;
    if (client === 'none') return '';
    if (!socket.getPeerX509Certificate()) return client === 'required' ? 'no certificate' : '';
    return (socket as unknown as Verifier)._handle?.verifyError()?.message ?? '';
  }

  /** The client's domains; undefined: he has shown no certificate, or is not asked for one. */
  identitiesOf(socket: tls.TLSSocket): readonly string[] | undefined {
    const certificate = this.#serving.client === 'none' ? undefined : socket.getPeerX509Certificate();
    return certificate && sipIdentities(certificate);
  }

  /** A client's end; it emits `secureConnect`. */
  connect(address: net.TcpNetConnectOpts, host: string): tls.TLSSocket {
    this.#outgoing ??= outgoingOf(this.#serving.outgoing);
    return tls.connect({
      ...address,
      secureContext: this.#outgoing,
      servername: /[a-z]/i.test(host) && !host.includes(':') ? host : '',
      checkServerIdentity: () => undefined, // by RFC 5922, below
    });
  }

  /** Why the server that we have reached is not the one that we wanted; '' if it is. */
  static mistaken(socket: tls.TLSSocket, host: string): string {
    const certificate = socket.getPeerX509Certificate();
    return certificate && speaksFor(certificate, host) ? '' : `the certificate is not for ${host}`;
  }
}

function contextOf(identity: ServerIdentity, { ca, client, sessionContext }: Serving): tls.SecureContext {
  return tls.createSecureContext({
    cert: identity.cert,
    key: identity.key,
    ...(client !== 'none' && ca !== undefined && { ca }),
    minVersion: 'TLSv1.2',
    sessionIdContext: sessionContext,
    ticketKeys: Buffer.from(identity.ticketKeys),
    secureOptions: NO_RENEGOTIATION,
  });
}

function outgoingOf({ cert, key, ca }: ClientIdentity): tls.SecureContext {
  return tls.createSecureContext({ ca, cert, key, minVersion: 'TLSv1.2' });
}
