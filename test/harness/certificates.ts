/**
 * Certificates for TLS tests, made with the openssl program in a folder of their own: an authority, and
 * certificates of it for given names and addresses.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Issued {
  /** files */
  cert: string;
  key: string;
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

export class Authority {
  readonly folder = mkdtempSync(join(tmpdir(), 'holdfast-certificates-'));
  /** its own certificate, a file */
  readonly ca: string;
  /** the content of that file, for clients */
  readonly trusted: Buffer;
  #issued = 0;

  constructor(name = 'test authority') {
    this.ca = this.file('ca.pem');
    this.openssl(
      'req',
      '-x509',
      ...NEW_KEY,
      '-days',
      '30',
      '-subj',
      `/CN=${name}`,
      '-keyout',
      'ca.key',
      '-out',
      'ca.pem',
    );
    this.trusted = readFileSync(this.ca);
  }

  file(name: string): string {
    return join(this.folder, name);
  }

  openssl(...args: string[]): Buffer {
    return execFileSync('openssl', args, { cwd: this.folder, stdio: 'pipe' });
  }

  /** `names` as in subjectAltName: 'DNS:edge.test', 'IP:127.0.0.1', 'URI:sip:edge.test'; none: it has no such field. */
  issue(names: string[], { cn = 'test', days = '30' } = {}): Issued {
    const id = `issued${++this.#issued}`;
    this.openssl('req', ...NEW_KEY, '-subj', `/CN=${cn}`, '-keyout', `${id}.key`, '-out', `${id}.csr`);
    const extensions =
      names.length > 0 ? `subjectAltName=${names.join(',')}\n` : 'basicConstraints=CA:FALSE\n';
    writeFileSync(this.file(`${id}.ext`), extensions);
    const signed = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', days];
    this.openssl('x509', '-req', '-in', `${id}.csr`, ...signed, '-extfile', `${id}.ext`, '-out', `${id}.pem`);
    return { cert: this.file(`${id}.pem`), key: this.file(`${id}.key`) };
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export interface Certificates extends Issued {
  ca: string;
  trusted: Buffer;
  remove(): void;
}

/** An authority and one certificate of it. */
export function makeCertificates(names: string[]): Certificates {
  const authority = new Authority();
  const { ca, trusted } = authority;
  return { ca, trusted, ...authority.issue(names), remove: () => authority.remove() };
}
