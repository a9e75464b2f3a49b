/**
 * The functions of OpenSSL that Holdfast calls, out of the copy that the node binary has and exports, and
 * the constants that C has as macros. Calls on the way of a message have three arguments at most (libc.ts
 * says why). No callback is registered: one that throws would abort the process.
 *
 * A context (SSL_CTX) is made by main and read by all shards; OpenSSL counts its references, so a
 * connection keeps the one that it was made with. A connection (SSL) is used by one thread at a time, but
 * belongs to none: it can be taken over. The error queue is a thread's.
 *
 * Where node:ffi or a symbol is missing the module still loads; `unavailable` then has the reason.
 */
import { type Ffi, loadFfi } from './ffi.ts';
import { Region } from './memory.ts';

const signatures = {
  TLS_server_method: { return: 'pointer', arguments: [] },
  TLS_client_method: { return: 'pointer', arguments: [] },
  SSL_CTX_new: { return: 'pointer', arguments: ['pointer'] },
  SSL_CTX_free: { return: 'void', arguments: ['pointer'] },
  SSL_CTX_ctrl: { return: 'i64', arguments: ['pointer', 'i32', 'i64', 'pointer'] },
  SSL_CTX_set_options: { return: 'u64', arguments: ['pointer', 'u64'] },
  SSL_CTX_set_verify: { return: 'void', arguments: ['pointer', 'i32', 'pointer'] },
  SSL_CTX_set_num_tickets: { return: 'i32', arguments: ['pointer', 'u64'] },
  SSL_CTX_set_session_id_context: { return: 'i32', arguments: ['pointer', 'pointer', 'u32'] },
  SSL_CTX_use_certificate: { return: 'i32', arguments: ['pointer', 'pointer'] },
  SSL_CTX_use_PrivateKey: { return: 'i32', arguments: ['pointer', 'pointer'] },
  SSL_CTX_check_private_key: { return: 'i32', arguments: ['pointer'] },
  SSL_CTX_get_cert_store: { return: 'pointer', arguments: ['pointer'] },
  SSL_CTX_add_client_CA: { return: 'i32', arguments: ['pointer', 'pointer'] },
  X509_STORE_add_cert: { return: 'i32', arguments: ['pointer', 'pointer'] },
  X509_free: { return: 'void', arguments: ['pointer'] },
  i2d_X509: { return: 'i32', arguments: ['pointer', 'pointer'] },
  EVP_PKEY_free: { return: 'void', arguments: ['pointer'] },
  PEM_read_bio_X509: { return: 'pointer', arguments: ['pointer', 'pointer', 'pointer', 'pointer'] },
  PEM_read_bio_PrivateKey: { return: 'pointer', arguments: ['pointer', 'pointer', 'pointer', 'pointer'] },
  BIO_s_mem: { return: 'pointer', arguments: [] },
  BIO_new: { return: 'pointer', arguments: ['pointer'] },
  BIO_write: { return: 'i32', arguments: ['pointer', 'pointer', 'i32'] },
  BIO_free: { return: 'i32', arguments: ['pointer'] },
  BIO_new_bio_pair: { return: 'i32', arguments: ['pointer', 'u64', 'pointer', 'u64'] },
  SSL_new: { return: 'pointer', arguments: ['pointer'] },
  SSL_free: { return: 'void', arguments: ['pointer'] },
  SSL_ctrl: { return: 'i64', arguments: ['pointer', 'i32', 'i64', 'pointer'] },
  SSL_set_fd: { return: 'i32', arguments: ['pointer', 'i32'] },
  SSL_set_bio: { return: 'void', arguments: ['pointer', 'pointer', 'pointer'] },
  SSL_set_verify: { return: 'void', arguments: ['pointer', 'i32', 'pointer'] },
  SSL_set_accept_state: { return: 'void', arguments: ['pointer'] },
  SSL_set_connect_state: { return: 'void', arguments: ['pointer'] },
  SSL_do_handshake: { return: 'i32', arguments: ['pointer'] },
  SSL_read: { return: 'i32', arguments: ['pointer', 'pointer', 'i32'] },
  SSL_write: { return: 'i32', arguments: ['pointer', 'pointer', 'i32'] },
  SSL_has_pending: { return: 'i32', arguments: ['pointer'] },
  SSL_get_error: { return: 'i32', arguments: ['pointer', 'i32'] },
  SSL_shutdown: { return: 'i32', arguments: ['pointer'] },
  SSL_version: { return: 'i32', arguments: ['pointer'] },
  SSL_session_reused: { return: 'i32', arguments: ['pointer'] },
  SSL_get1_peer_certificate: { return: 'pointer', arguments: ['pointer'] },
  SSL_get_verify_result: { return: 'i64', arguments: ['pointer'] },
  ERR_clear_error: { return: 'void', arguments: [] },
  ERR_peek_error: { return: 'u64', arguments: [] },
  X509_verify_cert_error_string: { return: 'pointer', arguments: ['i64'] },
  ERR_error_string_n: { return: 'void', arguments: ['u64', 'pointer', 'u64'] },
} as const;

type CType = 'void' | 'i32' | 'u32' | 'i64' | 'u64' | 'pointer';
type Value<T extends CType> = T extends 'void' ? undefined : T extends 'i32' | 'u32' ? number : bigint;
type Values<A extends readonly CType[]> = { -readonly [K in keyof A]: Value<A[K]> };
type Signatures = typeof signatures;

export type OpenSsl = {
  readonly [F in keyof Signatures]: (
    ...args: Values<Signatures[F]['arguments']>
  ) => Value<Signatures[F]['return']>;
};

const ffi = loadFfi();
const bound = typeof ffi === 'string' ? ffi : bind(ffi);

function bind(module: Ffi): OpenSsl | string {
  try {
    return module.dlopen(null, signatures).functions as unknown as OpenSsl;
  } catch (error) {
    return `OpenSSL cannot be bound: ${(error as Error).message}`;
  }
}

/** Why there is no TLS by native calls in this process, or undefined if there is. */
export const unavailable: string | undefined = typeof bound === 'string' ? bound : undefined;

export const openssl: OpenSsl = typeof bound === 'string' ? absent(bound) : bound;

function absent(reason: string): OpenSsl {
  const refuse = () => {
    throw new Error(`native TLS is not available: ${reason}`);
  };
  return Object.fromEntries(Object.keys(signatures).map((name) => [name, refuse])) as unknown as OpenSsl;
}

/** Why a certificate is not believed, for a code of SSL_get_verify_result. */
export function verifyText(code: bigint): string {
  return typeof ffi === 'string' ? '' : (ffi.toString(openssl.X509_verify_cert_error_string(code)) ?? '');
}

/** Commands of SSL_CTX_ctrl and SSL_ctrl */
export const CTRL_MODE = 33;
export const CTRL_SET_READ_AHEAD = 41;
export const CTRL_SET_SESS_CACHE_MODE = 44;
export const CTRL_SET_TLSEXT_HOSTNAME = 55;
export const CTRL_SET_TLSEXT_TICKET_KEYS = 59;
export const CTRL_CHAIN_CERT = 89;
export const CTRL_SET_MIN_PROTO_VERSION = 123;

export const MODE_ENABLE_PARTIAL_WRITE = 0x1n;
export const MODE_ACCEPT_MOVING_WRITE_BUFFER = 0x2n;
export const MODE_NO_AUTO_CHAIN = 0x8n;
export const MODE_RELEASE_BUFFERS = 0x10n;

export const OP_IGNORE_UNEXPECTED_EOF = 1n << 7n;
export const OP_NO_COMPRESSION = 1n << 17n;
export const OP_PRIORITIZE_CHACHA = 1n << 21n;
export const OP_CIPHER_SERVER_PREFERENCE = 1n << 22n;
export const OP_NO_RENEGOTIATION = 1n << 30n;

export const VERIFY_NONE = 0;
export const VERIFY_PEER = 1;
export const VERIFY_FAIL_IF_NO_PEER_CERT = 2;

export const ERROR_SSL = 1;
export const ERROR_WANT_READ = 2;
export const ERROR_WANT_WRITE = 3;
export const ERROR_SYSCALL = 5;
export const ERROR_ZERO_RETURN = 6;

/** X509_V_OK */
export const VERIFIED = 0n;

export const TLS1_2 = 0x0303;
/** SSL_CTRL_SET_TLSEXT_TICKET_KEYS: a name of 16 octets and two keys of 32 */
export const TICKET_KEYS = 80;

const TEXT = 256;
const text = Region.allocate(TEXT);

/** What stands in this thread's error queue, e.g. "peer did not return a certificate"; '' if nothing does. */
export function errorText(): string {
  const code = openssl.ERR_peek_error();
  if (code === 0n) return '';
  openssl.ERR_error_string_n(code, text.pointer, BigInt(TEXT));
  const end = text.bytes.indexOf(0);
  // error:0A0000C7:SSL routines::peer did not return a certificate
  return Buffer.from(text.bytes.subarray(0, end)).toString('latin1').split(':').slice(4).join(':');
}
