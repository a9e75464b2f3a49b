/**
 * TLS on the raw streams of one shard: OpenSSL reads from and writes to the descriptor itself, and what comes
 * out of it goes the way that a TCP stream's bytes go. rawstreams.ts calls this where it calls recv and send.
 *
 * A stream owns an SSL* from the first octets of its peer on, and no buffer while it is idle. The pointer stands
 * in the SslTable, so that a replacement of this shard can go on with it. The certificate is chosen before the
 * SSL* is made, by the server name in octets that are peeked at; with one certificate nothing is peeked at.
 *
 * Output is copied into one record's worth of staging: what a turn has for a stream goes out as few records.
 * What OpenSSL has begun to write it wants to see again, as long and unchanged: the caller keeps it.
 */
import { X509Certificate } from 'node:crypto';
import { EAGAIN, EPIPE, EPROTO } from '../native/errno.ts';
import { result } from '../native/libc.ts';
import { NULL, Region } from '../native/memory.ts';
import {
  CTRL_SET_TLSEXT_HOSTNAME,
  ERROR_SYSCALL,
  ERROR_WANT_READ,
  ERROR_WANT_WRITE,
  ERROR_ZERO_RETURN,
  errorText,
  openssl,
  VERIFIED,
  verifyText,
} from '../native/openssl.ts';
import type { StreamIo } from '../native/stream.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import type { SslTable } from '../shared/ssl-table.ts';
import { type Arena, STREAM_READ } from './arena.ts';
import { ClientHello, HELLO_MORE, HELLO_NAME } from './clienthello.ts';
import { identityFor, type Serving } from './serving.ts';
import { sipIdentities, speaksFor } from './sipidentity.ts';

/** A record's payload at most. */
const RECORD = 16 * 1024;
const MAX_CERTIFICATE = 64 * 1024;
const NOT_READY = 'no certificate is loaded';

const {
  SSL_do_handshake,
  SSL_read,
  SSL_write,
  SSL_get_error,
  SSL_has_pending,
  SSL_shutdown,
  SSL_free,
  ERR_clear_error,
} = openssl;

/** The TLS side of one raw stream. */
export class Secured {
  /** SSL*, 0 until the peer has said something */
  ssl: bigint;
  /** of a connection that we open: whom it must reach; undefined: the peer came to us */
  readonly host: string | undefined;
  /** OpenSSL cannot read on before it has written something */
  blocked = false;
  /** the first octets have come in part */
  partial = false;
  /** the domains of the peer's certificate, where one was asked for and shown */
  identities: readonly string[] | undefined;

  constructor(ssl: bigint, host: string | undefined) {
    this.ssl = ssl;
    this.host = host;
  }
}

/** SNI has no numbers. */
const isName = (host: string): boolean => /[a-z]/i.test(host) && !host.includes(':');

export class SecureStreams {
  serving: Serving | undefined;
  /** after a handshake that failed: why */
  reason = '';
  readonly #table: SslTable;
  readonly #io: StreamIo;
  readonly #arena: Arena;
  readonly #counters: Counters;
  readonly #input: bigint;
  readonly #staging = Region.allocate(RECORD);
  readonly #output: bigint;
  readonly #hello = new ClientHello();
  #staged = 0;
  #wants = 0;

  constructor(table: SslTable, io: StreamIo, arena: Arena, counters: Counters) {
    this.#table = table;
    this.#io = io;
    this.#arena = arena;
    this.#counters = counters;
    this.#input = new Region(arena.mem).at(arena.stream);
    this.#output = this.#staging.pointer;
  }

  /** The state of a stream that begins, or that a predecessor of this shard has left; `host` for one of our own. */
  begin(slot: number, host: string | undefined): Secured {
    const secured = new Secured(this.#table.get(slot), host);
    if (secured.ssl !== NULL) this.#identify(secured);
    return secured;
  }

  // ---- the handshake

  /** A step of it: 0 when it is done, -EAGAIN, or another -errno and `reason`. */
  handshake(slot: number, fd: number, secured: Secured): number {
    if (secured.ssl === NULL) {
      const context = secured.host === undefined ? this.#accepting(fd, secured) : this.#outgoing();
      if (context === NULL) return secured.partial ? -EAGAIN : -EPROTO;
      if (!this.#make(slot, fd, secured, context)) return -EPROTO;
    }
    ERR_clear_error();
    const returned = SSL_do_handshake(secured.ssl);
    if (returned === 1) return this.#shaken(secured);
    switch (SSL_get_error(secured.ssl, returned)) {
      case ERROR_WANT_READ:
        secured.blocked = false;
        return -EAGAIN;
      case ERROR_WANT_WRITE:
        secured.blocked = true;
        return -EAGAIN;
      default:
        this.reason = this.#why(secured);
        return -EPROTO;
    }
  }

  /** The context for whom the peer wants to reach. 0: not known yet (`partial`), or `reason`. */
  #accepting(fd: number, secured: Secured): bigint {
    const { serving } = this;
    secured.partial = false;
    this.reason = NOT_READY;
    if (!serving || serving.identities.length === 0) return NULL;
    if (serving.identities.length === 1) return serving.identities[0].context;
    const { mem, stream } = this.#arena;
    const n = this.#io.peek(fd);
    this.reason = 'the peer has closed';
    if (n <= 0) {
      secured.partial = n === -EAGAIN;
      return NULL;
    }
    const found = this.#hello.read(mem, stream, stream + n);
    if (found === HELLO_MORE && n < STREAM_READ) {
      secured.partial = true;
      return NULL;
    }
    if (found !== HELLO_NAME) return serving.identities[0].context;
    const { nameStart, nameEnd } = this.#hello;
    const name = Buffer.from(mem.subarray(nameStart, nameEnd)).toString('latin1');
    return identityFor(serving, name).context;
  }

  #outgoing(): bigint {
    this.reason = NOT_READY;
    return this.serving?.outgoing.context ?? NULL;
  }

  #make(slot: number, fd: number, secured: Secured, context: bigint): boolean {
    const { host } = secured;
    const ssl = openssl.SSL_new(context);
    this.reason = 'no memory';
    if (ssl === NULL) return false;
    secured.ssl = ssl;
    this.#table.set(slot, ssl);
    if (openssl.SSL_set_fd(ssl, fd) !== 1) return false;
    if (host === undefined) openssl.SSL_set_accept_state(ssl);
    else {
      openssl.SSL_set_connect_state(ssl);
      if (isName(host) && host.length < RECORD) {
        const { bytes } = this.#staging;
        bytes[Buffer.from(bytes.buffer, bytes.byteOffset).write(host, 'latin1')] = 0;
        openssl.SSL_ctrl(ssl, CTRL_SET_TLSEXT_HOSTNAME, 0n, this.#output);
      }
    }
    return true;
  }

  #shaken(secured: Secured): number {
    secured.blocked = false;
    const certificate = this.#identify(secured);
    // RFC 5922 7.3: whom we have reached must be whom we wanted
    if (secured.host !== undefined && !(certificate && speaksFor(certificate, secured.host))) {
      this.reason = `the certificate is not for ${secured.host}`;
      return -EPROTO;
    }
    this.#counters.inc(Counter.tlsHandshakes);
    if (openssl.SSL_session_reused(secured.ssl) === 1) this.#counters.inc(Counter.tlsResumed);
    return 0;
  }

  #identify(secured: Secured): X509Certificate | undefined {
    if (secured.host === undefined && this.serving?.client === 'none') return undefined;
    const certificate = peerCertificate(secured.ssl);
    if (certificate) secured.identities = sipIdentities(certificate);
    return certificate;
  }

  #why(secured: Secured): string {
    const text = errorText() || 'the peer has closed';
    const verified = openssl.SSL_get_verify_result(secured.ssl);
    return verified === VERIFIED ? text : `${text}: ${verifyText(verified)}`;
  }

  // ---- input

  /** Bytes now in the arena's stream region, of one record at most; 0 is the peer's end; or -errno. */
  read(secured: Secured): number {
    ERR_clear_error();
    const n = SSL_read(secured.ssl, this.#input, STREAM_READ);
    if (n > 0) return n;
    const error = this.#failed(secured, n);
    secured.blocked = this.#wants === ERROR_WANT_WRITE;
    return error;
  }

  /** Has OpenSSL bytes that the descriptor will not show any more? */
  hasPending(secured: Secured): boolean {
    return SSL_has_pending(secured.ssl) !== 0;
  }

  // ---- output

  /** Starts a new record. */
  begins(): void {
    this.#staged = 0;
  }

  /** Adds of `[start, end)` what there is room for. Returns where it ended. */
  add(start: number, end: number): number {
    const upTo = Math.min(end, start + RECORD - this.#staged);
    this.#staging.bytes.set(this.#arena.mem.subarray(start, upTo), this.#staged);
    this.#staged += upTo - start;
    return upTo;
  }

  get staged(): number {
    return this.#staged;
  }

  /** Bytes taken from the front of what is staged, or -errno. */
  send(secured: Secured): number {
    ERR_clear_error();
    const n = SSL_write(secured.ssl, this.#output, this.#staged);
    return n > 0 ? n : this.#failed(secured, n) || -EPIPE;
  }

  /** -EAGAIN, 0 for the peer's end, or another -errno; `#wants` says more about the first. */
  #failed(secured: Secured, returned: number): number {
    const errno = result(-1); // first: nothing between the call and this has touched it
    this.#wants = SSL_get_error(secured.ssl, returned);
    switch (this.#wants) {
      case ERROR_WANT_READ:
      case ERROR_WANT_WRITE:
        return -EAGAIN;
      case ERROR_ZERO_RETURN:
        return 0;
      case ERROR_SYSCALL:
        return errno;
      default:
        return -EPROTO;
    }
  }

  // ---- the end

  /** Tells the peer that nothing follows (close_notify). Not after an error. */
  notify(secured: Secured): void {
    if (secured.ssl === NULL) return;
    ERR_clear_error();
    SSL_shutdown(secured.ssl);
  }

  free(slot: number, secured: Secured): void {
    if (secured.ssl === NULL) return;
    this.#table.set(slot, NULL);
    SSL_free(secured.ssl);
    secured.ssl = NULL;
  }
}

const der = Region.allocate(MAX_CERTIFICATE + 8);

/** Undefined also for one that is larger than any that is in use. */
function peerCertificate(ssl: bigint): X509Certificate | undefined {
  const certificate = openssl.SSL_get1_peer_certificate(ssl);
  if (certificate === NULL) return undefined;
  try {
    const length = openssl.i2d_X509(certificate, NULL);
    if (length <= 0 || length > MAX_CERTIFICATE) return undefined;
    der.view.setBigUint64(0, der.at(8), true); // OpenSSL writes there, and moves the pointer
    openssl.i2d_X509(certificate, der.pointer);
    return new X509Certificate(Buffer.from(der.bytes.subarray(8, 8 + length)));
  } catch {
    return undefined;
  } finally {
    openssl.X509_free(certificate);
  }
}
