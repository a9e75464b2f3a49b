import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { rootCertificates } from 'node:tls';
import { afterAll, describe, expect, it } from 'vitest';
import { errorText, TICKET_KEYS, unavailable } from '../../src/native/openssl.ts';
import { clientContext, freeContext, type ServerParts, serverContext } from '../../src/native/sslcontext.ts';
import { tryContext } from '../../src/native/ssltrial.ts';
import { Authority } from '../harness/certificates.ts';

const authority = new Authority();
afterAll(() => authority.remove());

const text = (path: string) => readFileSync(path, 'latin1');
const issued = authority.issue(['DNS:edge.test']);
const parts = (changes: Partial<ServerParts> = {}): ServerParts => ({
  cert: text(issued.cert),
  key: text(issued.key),
  ca: undefined,
  client: 'none',
  sessionContext: randomBytes(32),
  ticketKeys: randomBytes(TICKET_KEYS),
  ...changes,
});

describe.skipIf(unavailable !== undefined)('a context of OpenSSL', () => {
  it.each(['none', 'optional', 'required'] as const)('works with itself, clients asked for: %s', (client) => {
    const context = serverContext(parts({ client, ca: authority.trusted.toString('latin1') }));
    for (let i = 0; i < 3; i++) tryContext(context);
    freeContext(context);
  });

  it('takes a chain behind the certificate, and texts longer than its scratch buffer', () => {
    const cert = text(issued.cert) + authority.trusted.toString('latin1').repeat(20);
    freeContext(serverContext(parts({ cert })));
    freeContext(clientContext(rootCertificates.join('\n'), undefined));
  });

  it.each([
    ['no certificate', { cert: 'none' }, /a certificate/],
    [
      'another key',
      { key: text(authority.issue(['DNS:x.test']).key) },
      /key of this certificate: key values mismatch/,
    ],
    ['no key', { key: 'none' }, /the private key/],
    [
      'an encrypted key, without asking for its pass phrase',
      { key: authority.openssl('ec', '-in', issued.key, '-aes128', '-passout', 'pass:x').toString() },
      /the private key/,
    ],
  ])('is not made of %s', (_what, changes, reason) => {
    expect(() => serverContext(parts(changes))).toThrow(reason);
    expect(errorText()).toBe(''); // nothing is left for the next caller
  });

  it('does not work without a certificate, and the trial says so', () => {
    const context = clientContext(authority.trusted.toString('latin1'), undefined);
    expect(() => tryContext(context)).toThrow(/handshake fails/);
    freeContext(context);
  });
});
