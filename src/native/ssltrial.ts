/**
 * Whether a server context works, shown by a handshake with itself in memory and four octets over it: the
 * signatures and constants of openssl.ts, the certificate and its key. Who the client is is not asked here.
 * Costs about a millisecond.
 */
import { NULL, Region } from './memory.ts';
import { errorText, openssl, VERIFY_NONE } from './openssl.ts';

/** A handshake takes two or three turns. */
const TURNS = 8;
const area = Region.allocate(64);
const words = new BigUint64Array(area.bytes.buffer, area.bytes.byteOffset, 8);

/** Throws with the reason. */
export function tryContext(context: bigint): void {
  openssl.ERR_clear_error();
  const plain = openssl.SSL_CTX_new(openssl.TLS_client_method());
  check(plain !== NULL, 'no client context');
  openssl.SSL_CTX_set_verify(plain, VERIFY_NONE, NULL);
  const server = openssl.SSL_new(context);
  const client = openssl.SSL_new(plain);
  try {
    check(openssl.BIO_new_bio_pair(area.pointer, 0n, area.at(8), 0n) === 1, 'no pair of buffers');
    const [near, far] = words;
    openssl.SSL_set_bio(server, near, near);
    openssl.SSL_set_bio(client, far, far);
    openssl.SSL_set_verify(server, VERIFY_NONE, NULL);
    openssl.SSL_set_accept_state(server);
    openssl.SSL_set_connect_state(client);
    let done = false;
    for (let i = 0; i < TURNS && !done; i++) {
      const ends = [openssl.SSL_do_handshake(client), openssl.SSL_do_handshake(server)];
      done = ends.every((end) => end === 1);
    }
    check(done, 'the trial handshake fails');
    area.bytes.set([1, 2, 3, 4], 32);
    check(openssl.SSL_write(client, area.at(32), 4) === 4, 'the trial write fails');
    check(openssl.SSL_read(server, area.at(40), 8) === 4, 'the trial read fails');
    check(area.bytes[43] === 4, 'octets arrive changed');
  } finally {
    openssl.SSL_free(server);
    openssl.SSL_free(client);
    openssl.SSL_CTX_free(plain);
    openssl.ERR_clear_error();
  }
}

function check(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(`${otherwise}${errorText() && `: ${errorText()}`}`);
}
