/**
 * The key behind GRUUs: 32 octets that never change, because a public GRUU is meant to last as long as its
 * address-of-record (RFC 5627 5.3). With another key every GRUU in address books and dialogs is 404.
 *
 * It lives in `gruu.key` in the data directory, made at the first start and readable by the owner alone, or
 * comes by HOLDFAST_GRUU_KEY, which registrars of one store share: a device that one of them has
 * registered is called through another.
 */
import { randomBytes } from 'node:crypto';
import { readIfThere, writeDurable } from '../flow/durable.ts';
import { KeyFault } from '../flow/keyring.ts';

const FILE = 'gruu.key';
const OCTETS = 32;

/** The value of HOLDFAST_GRUU_KEY: hex, or base64 in either alphabet. */
export function parseGruuKey(text: string, variable = 'HOLDFAST_GRUU_KEY'): Uint8Array | KeyFault {
  const octets = octetsOf(text.trim());
  if (octets?.length === OCTETS) return octets;
  const found = octets ? `a key of ${octets.length} octets` : `${text.length} characters, not base64 or hex`;
  return new KeyFault('KEYS_MALFORMED', variable, found, `${OCTETS} octets as base64 or hex`);
}

function octetsOf(text: string): Uint8Array | undefined {
  if (/^[0-9a-fA-F]{64}$/.test(text)) return new Uint8Array(Buffer.from(text, 'hex'));
  if (!/^[A-Za-z0-9+/_-]+={0,2}$/.test(text)) return undefined;
  return new Uint8Array(Buffer.from(text, 'base64'));
}

/** The key of the data directory; made and stored there if it has none. */
export function loadGruuKey(
  dataDirectory: string,
  random: (octets: number) => Uint8Array = randomBytes,
): Uint8Array | KeyFault {
  const text = readIfThere(dataDirectory, FILE);
  if (text !== undefined) {
    const key = parseGruuKey(text, `HOLDFAST_DATA/${FILE}`);
    if (!(key instanceof KeyFault)) return key;
    const allowed =
      'the file as Holdfast wrote it; without it a new key is made and all GRUUs become invalid';
    return new KeyFault('KEYS_FILE_CORRUPT', key.variable, key.found, allowed);
  }
  const fresh = new Uint8Array(random(OCTETS)); // no view of a pool: it goes to the shards
  writeDurable(dataDirectory, FILE, `${Buffer.from(fresh).toString('base64')}\n`);
  return fresh;
}
