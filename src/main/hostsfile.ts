/**
 * The system's hosts file as a source of answers. A name that stands there is a decision of the operator: its addresses
 * come from there, NAPTR and SRV of it do not exist, and no name server hears of it. `localhost` and what ends in
 * `.localhost` are the loopback addresses without any file (RFC 6761 6.3).
 *
 * Read once, at start. Lines that are none are passed over.
 */
import { readFileSync } from 'node:fs';
import { Endpoint } from '../net/endpoint.ts';
import { type Answer, canonical, type DnsRecord, type RecordType } from '../net/locate.ts';

const TTL_MS = 3_600_000;
const LOOPBACK = ['127.0.0.1', '::1'];

export class HostsFile {
  readonly #addresses = new Map<string, string[]>();

  static read(path = '/etc/hosts'): HostsFile {
    try {
      return new HostsFile(readFileSync(path, 'utf8'));
    } catch {
      return new HostsFile('');
    }
  }

  constructor(text: string) {
    for (const line of text.split('\n')) {
      const [address, ...names] = line
        .replace(/#.*/, '')
        .split(/\s+/)
        .filter((word) => word !== '');
      if (address === undefined || !Endpoint.parse(address, 0)) continue;
      for (const name of names.map(canonical)) {
        const known = this.#addresses.get(name);
        if (known) known.push(address);
        else this.#addresses.set(name, [address]);
      }
    }
  }

  /** Undefined: the name is not of this file. */
  answer(name: string, type: RecordType): Answer | undefined {
    const host = type === 'SRV' ? name.replace(/^_[^.]+\._[^.]+\./, '') : name;
    const isLocal = host === 'localhost' || host.endsWith('.localhost');
    const addresses = this.#addresses.get(host) ?? (isLocal ? LOOPBACK : undefined);
    if (!addresses) return undefined;
    const family = type === 'A' ? 4 : type === 'AAAA' ? 6 : 0;
    const records = addresses
      .filter((address) => Endpoint.parse(address, 0)?.family === family)
      .map((data): DnsRecord => ({ type: type as 'A' | 'AAAA', name, data }));
    return { status: records.length > 0 ? 'found' : 'absent', records, ttl: TTL_MS };
  }
}
