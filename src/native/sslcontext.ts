/**
 * Contexts (SSL_CTX) out of PEM texts. Main makes and frees them; shards only make connections of them.
 *
 * What every context is: TLS 1.2 at least, no renegotiation, no compression, no session cache (tickets are
 * the only sessions, so that they work on every shard), buffers given back while a connection is idle. A
 * peer that closes without close_notify counts as closed: SIP messages say their own length.
 *
 * OpenSSL never asks anybody for a pass phrase here: an encrypted key is an error. The texts go through one
 * scratch buffer that is wiped.
 */
import { NULL, Region } from './memory.ts';
import {
  CTRL_CHAIN_CERT,
  CTRL_MODE,
  CTRL_SET_MIN_PROTO_VERSION,
  CTRL_SET_READ_AHEAD,
  CTRL_SET_SESS_CACHE_MODE,
  CTRL_SET_TLSEXT_TICKET_KEYS,
  errorText,
  MODE_ACCEPT_MOVING_WRITE_BUFFER,
  MODE_ENABLE_PARTIAL_WRITE,
  MODE_NO_AUTO_CHAIN,
  MODE_RELEASE_BUFFERS,
  OP_CIPHER_SERVER_PREFERENCE,
  OP_IGNORE_UNEXPECTED_EOF,
  OP_NO_COMPRESSION,
  OP_NO_RENEGOTIATION,
  OP_PRIORITIZE_CHACHA,
  openssl,
  TICKET_KEYS,
  TLS1_2,
  VERIFY_FAIL_IF_NO_PEER_CERT,
  VERIFY_NONE,
  VERIFY_PEER,
} from './openssl.ts';

const MODES =
  MODE_ENABLE_PARTIAL_WRITE |
  MODE_ACCEPT_MOVING_WRITE_BUFFER |
  MODE_RELEASE_BUFFERS |
  // else it would look for the chain in the store, at every handshake
  MODE_NO_AUTO_CHAIN;
const OPTIONS =
  OP_IGNORE_UNEXPECTED_EOF |
  OP_NO_COMPRESSION |
  OP_NO_RENEGOTIATION |
  OP_CIPHER_SERVER_PREFERENCE |
  OP_PRIORITIZE_CHACHA;

/** One ticket a handshake: a phone has one connection at a time. */
const TICKETS = 1n;
const SCRATCH = 4096;
const scratch = Region.allocate(SCRATCH);
/** '' as a pass phrase: without one OpenSSL would ask at the terminal */
const EMPTY = Region.allocate(8).pointer;

export interface Own {
  /** PEM: the certificate, then the chain without the root */
  cert: string;
  key: string;
}

export interface ServerParts extends Own {
  /** PEM of the authorities that clients' certificates must come from */
  ca: string | undefined;
  client: 'none' | 'optional' | 'required';
  /** 32 octets: a session of another one is not resumed */
  sessionContext: Uint8Array;
  /** TICKET_KEYS octets */
  ticketKeys: Uint8Array;
}

/** An SSL_CTX*. Throws with what OpenSSL says. */
export function serverContext(parts: ServerParts): bigint {
  return make(openssl.TLS_server_method(), (context) => {
    present(context, parts);
    if (parts.client === 'none') openssl.SSL_CTX_set_verify(context, VERIFY_NONE, NULL);
    else {
      if (parts.ca !== undefined) trust(context, parts.ca, true);
      const mode = VERIFY_PEER | (parts.client === 'required' ? VERIFY_FAIL_IF_NO_PEER_CERT : 0);
      openssl.SSL_CTX_set_verify(context, mode, NULL);
    }
    scratch.bytes.set(parts.sessionContext);
    const length = parts.sessionContext.length;
    need(
      openssl.SSL_CTX_set_session_id_context(context, scratch.pointer, length) === 1,
      'the session context',
    );
    need(openssl.SSL_CTX_set_num_tickets(context, TICKETS) === 1, 'the number of tickets');
    scratch.bytes.set(parts.ticketKeys);
    const set = openssl.SSL_CTX_ctrl(
      context,
      CTRL_SET_TLSEXT_TICKET_KEYS,
      BigInt(TICKET_KEYS),
      scratch.pointer,
    );
    need(set === 1n, 'the ticket keys');
  });
}

/** For connections that we open. Only peers whose certificate comes from `ca` are spoken to. */
export function clientContext(ca: string, own: Own | undefined): bigint {
  return make(openssl.TLS_client_method(), (context) => {
    if (own) present(context, own);
    trust(context, ca, false);
    openssl.SSL_CTX_set_verify(context, VERIFY_PEER, NULL);
  });
}

/** Gives main's reference back; connections that were made with it keep theirs. */
export function freeContext(context: bigint): void {
  openssl.SSL_CTX_free(context);
}

function make(method: bigint, fill: (context: bigint) => void): bigint {
  openssl.ERR_clear_error();
  const context = openssl.SSL_CTX_new(method);
  need(context !== NULL, 'a context');
  try {
    openssl.SSL_CTX_ctrl(context, CTRL_MODE, MODES, NULL);
    openssl.SSL_CTX_set_options(context, OPTIONS);
    openssl.SSL_CTX_ctrl(context, CTRL_SET_MIN_PROTO_VERSION, BigInt(TLS1_2), NULL);
    openssl.SSL_CTX_ctrl(context, CTRL_SET_READ_AHEAD, 1n, NULL);
    openssl.SSL_CTX_ctrl(context, CTRL_SET_SESS_CACHE_MODE, 0n, NULL);
    fill(context);
  } catch (error) {
    openssl.SSL_CTX_free(context);
    throw error;
  } finally {
    scratch.bytes.fill(0);
    openssl.ERR_clear_error();
  }
  return context;
}

/** The certificate that we show. */
function present(context: bigint, { cert, key }: Own): void {
  const [leaf, ...chain] = certificates(cert);
  try {
    need(leaf !== undefined, 'a certificate');
    need(openssl.SSL_CTX_use_certificate(context, leaf) === 1, 'the certificate');
    for (const issuer of chain)
      need(openssl.SSL_CTX_ctrl(context, CTRL_CHAIN_CERT, 1n, issuer) === 1n, 'the certificate chain');
  } finally {
    for (const each of [leaf, ...chain]) if (each !== undefined) openssl.X509_free(each);
  }
  const pkey = withText(key, (bio) => openssl.PEM_read_bio_PrivateKey(bio, NULL, NULL, EMPTY));
  need(pkey !== NULL, 'the private key');
  const fits = openssl.SSL_CTX_use_PrivateKey(context, pkey) === 1;
  openssl.EVP_PKEY_free(pkey);
  need(fits && openssl.SSL_CTX_check_private_key(context) === 1, 'the key of this certificate');
}

function trust(context: bigint, ca: string, tell: boolean): void {
  const store = openssl.SSL_CTX_get_cert_store(context);
  const all = certificates(ca);
  try {
    for (const each of all) {
      need(openssl.X509_STORE_add_cert(store, each) === 1, 'an authority');
      if (tell) need(openssl.SSL_CTX_add_client_CA(context, each) === 1, 'an authority');
    }
  } finally {
    for (const each of all) openssl.X509_free(each);
  }
}

/** X509* of each certificate in the text; each is the caller's to free. */
function certificates(pem: string): bigint[] {
  return withText(pem, (bio) => {
    const all: bigint[] = [];
    for (;;) {
      const next = openssl.PEM_read_bio_X509(bio, NULL, NULL, EMPTY);
      if (next === NULL) break; // the end of the text shows as an error
      all.push(next);
    }
    openssl.ERR_clear_error();
    return all;
  });
}

function withText<T>(text: string, read: (bio: bigint) => T): T {
  const bio = openssl.BIO_new(openssl.BIO_s_mem());
  need(bio !== NULL, 'memory');
  try {
    const bytes = Buffer.from(text, 'latin1');
    for (let at = 0; at < bytes.length; at += SCRATCH) {
      const piece = bytes.subarray(at, at + SCRATCH);
      scratch.bytes.set(piece);
      need(openssl.BIO_write(bio, scratch.pointer, piece.length) === piece.length, 'memory');
    }
    return read(bio);
  } finally {
    openssl.BIO_free(bio);
  }
}

function need(holds: boolean, what: string): void {
  if (!holds) throw new Error(`OpenSSL does not take ${what}: ${errorText() || 'no reason given'}`);
}
