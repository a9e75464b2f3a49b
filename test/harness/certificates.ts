/**
 * Certificates for TLS tests, made with the openssl program in a folder of their own: one authority
 * and a server certificate for the given names and addresses.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Certificates {
  /** files */
  ca: string;
  cert: string;
  key: string;
  /** content of the authority's certificate, for clients */
  trusted: Buffer;
  remove(): void;
}

/** `names` as in subjectAltName: 'DNS:edge.test', 'IP:127.0.0.1', 'URI:sip:edge.test'. */
export function makeCertificates(names: string[]): Certificates {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-certificates-'));
  const file = (name: string) => join(folder, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl(
    'req',
    '-x509',
    ...newKey,
    '-days',
    '30',
    '-subj',
    '/CN=test authority',
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
  );
  openssl('req', ...newKey, '-subj', '/CN=test server', '-keyout', 'server.key', '-out', 'server.csr');
  writeFileSync(file('extensions'), `subjectAltName=${names.join(',')}\n`);
  openssl(
    ...[
      'x509',
      '-req',
      '-in',
      'server.csr',
      '-CA',
      'ca.pem',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-days',
      '30',
    ],
    ...['-extfile', 'extensions', '-out', 'server.pem'],
  );
  return {
    ca: file('ca.pem'),
    cert: file('server.pem'),
    key: file('server.key'),
    trusted: readFileSync(file('ca.pem')),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
