/**
 * TLS of the generator's clients: OpenSSL reads from and writes to their descriptors, as in the server
 * (src/net/securestream.ts). Full handshakes always: no session is kept, as with a phone that was switched on.
 */
import { EAGAIN, EPROTO } from '../../src/native/errno.ts';
import { NULL, Region } from '../../src/native/memory.ts';
import {
  ERROR_WANT_READ,
  ERROR_WANT_WRITE,
  ERROR_ZERO_RETURN,
  openssl,
  unavailable,
  VERIFY_NONE,
} from '../../src/native/openssl.ts';
import { clientContext, freeContext } from '../../src/native/sslcontext.ts';
import { type Desk, STREAM_READ } from './desk.ts';

const { ERR_clear_error, SSL_do_handshake, SSL_free, SSL_get_error, SSL_read, SSL_write } = openssl;

export class Sealed {
  readonly #context: bigint;
  readonly #checks: boolean;
  readonly #connections = new Map<number, bigint>();
  readonly #memory: Region;
  readonly #input: bigint;
  /** pointers to where output has begun so far: three places at most */
  readonly #outputs = new Map<number, bigint>();

  /** `ca`: PEM; without it the server's certificate is not checked. */
  constructor(desk: Desk, ca: string | undefined) {
    if (unavailable !== undefined) throw new Error(unavailable);
    this.#context = clientContext(ca ?? '', undefined);
    this.#checks = ca !== undefined;
    this.#memory = new Region(desk.memory);
    this.#input = this.#memory.at(desk.stream);
  }

  open(flow: number, fd: number): void {
    const ssl = openssl.SSL_new(this.#context);
    if (!this.#checks) openssl.SSL_set_verify(ssl, VERIFY_NONE, NULL);
    openssl.SSL_set_fd(ssl, fd);
    openssl.SSL_set_connect_state(ssl);
    this.#connections.set(flow, ssl);
  }

  /** 1 when it is done, -EAGAIN, or another -errno. */
  shake(flow: number): number {
    const ssl = this.#of(flow);
    ERR_clear_error();
    const n = SSL_do_handshake(ssl);
    return n === 1 ? 1 : this.#failed(ssl, n) || -EPROTO;
  }

  /** As StreamIo.recv. */
  read(flow: number): number {
    const ssl = this.#of(flow);
    ERR_clear_error();
    const n = SSL_read(ssl, this.#input, STREAM_READ);
    return n > 0 ? n : this.#failed(ssl, n);
  }

  write(flow: number, at: number, length: number): number {
    const ssl = this.#of(flow);
    let pointer = this.#outputs.get(at);
    if (pointer === undefined) {
      pointer = this.#memory.at(at);
      this.#outputs.set(at, pointer);
    }
    ERR_clear_error();
    const n = SSL_write(ssl, pointer, length);
    return n > 0 ? n : this.#failed(ssl, n);
  }

  /** `politely`: with close_notify. */
  close(flow: number, politely: boolean): void {
    const ssl = this.#connections.get(flow);
    if (ssl === undefined) return;
    ERR_clear_error();
    if (politely) openssl.SSL_shutdown(ssl);
    SSL_free(ssl);
    this.#connections.delete(flow);
  }

  end(): void {
    for (const ssl of this.#connections.values()) SSL_free(ssl);
    this.#connections.clear();
    freeContext(this.#context);
  }

  #of(flow: number): bigint {
    return this.#connections.get(flow) as bigint;
  }

  /** -EAGAIN, 0 for the peer's end, or -EPROTO. */
  #failed(ssl: bigint, returned: number): number {
    const error = SSL_get_error(ssl, returned);
    if (error === ERROR_WANT_READ || error === ERROR_WANT_WRITE) return -EAGAIN;
    return error === ERROR_ZERO_RETURN ? 0 : -EPROTO;
  }
}
