/**
 * The keys behind flow tokens and branches: a current one, with which everything new is made, and
 * a previous one, which is still believed. Each has an id of one octet that stands in the token, so
 * that a rotation invalidates nothing that is in use.
 *
 * The keys survive a restart (5626 leaves this open; EP-5.2-04): from `keys.json` in the data
 * directory, made at the first start and readable by the owner alone, or from HOLDFAST_KEYS where
 * a cluster shares them. No key is used as such: each purpose derives its own by HKDF-SHA-256.
 * Key material stands in private fields and in no message, so neither a log nor an inspector shows it.
 */
import { hkdfSync, randomBytes } from 'node:crypto';
import { readIfThere, writeDurable } from './durable.ts';

const FILE = 'keys.json';
const FRESH_OCTETS = 32;
/** Below 128 bits is guessable; above 64 octets HMAC-SHA-256 would hash the key first. */
const FEWEST_OCTETS = 16;
const MOST_OCTETS = 64;
const ALLOWED = `ID:BASE64[,ID:BASE64], the current key first, ids 0 to 255 and different, keys of ${FEWEST_OCTETS} to ${MOST_OCTETS} octets`;

export interface Key {
  /** 0 to 255 */
  id: number;
  octets: Uint8Array;
}

/** What crosses to a worker by postMessage. */
export interface PlainKeyring {
  current: Key;
  previous?: Key | undefined;
}

/** Why keys were refused, for the configuration's report. `found` describes the value's shape, never the value. */
export class KeyFault extends Error {
  readonly code: 'KEYS_MALFORMED' | 'KEYS_FILE_CORRUPT';
  /** the variable, or the file under HOLDFAST_DATA */
  readonly variable: string;
  readonly found: string;
  readonly allowed: string;

  constructor(code: KeyFault['code'], variable: string, found: string, allowed: string) {
    super(`${variable}: ${found}; allowed: ${allowed}`);
    this.code = code;
    this.variable = variable;
    this.found = found;
    this.allowed = allowed;
  }
}

export class Keyring {
  readonly #current: Key;
  readonly #previous: Key | undefined;

  constructor(plain: PlainKeyring) {
    this.#current = plain.current;
    this.#previous = plain.previous;
  }

  get currentId(): number {
    return this.#current.id;
  }

  /** -1 where there is none. */
  get previousId(): number {
    return this.#previous?.id ?? -1;
  }

  /** A key of its own for each purpose, from the current key. */
  derive(label: string, octets = 16): Uint8Array {
    return derive(this.#current, label, octets);
  }

  /** The same from the previous key, undefined where there is none. */
  derivePrevious(label: string, octets = 16): Uint8Array | undefined {
    return this.#previous && derive(this.#previous, label, octets);
  }

  /** A ring with a new current key, in which the present one is the previous. */
  rotate(random: (octets: number) => Uint8Array = randomBytes): Keyring {
    const id = (this.#current.id + 1) & 255;
    return new Keyring({ current: { id, octets: random(FRESH_OCTETS) }, previous: this.#current });
  }

  toPlain(): PlainKeyring {
    return { current: this.#current, previous: this.#previous };
  }
}

function derive(key: Key, label: string, octets: number): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', key.octets, '', `holdfast 1 ${label}`, octets));
}

/** The value of HOLDFAST_KEYS. */
export function parseKeys(text: string, variable = 'HOLDFAST_KEYS'): Keyring | KeyFault {
  const fault = (found: string) => new KeyFault('KEYS_MALFORMED', variable, found, ALLOWED);
  const entries = text.split(',');
  if (text.trim() === '') return fault('no key');
  if (entries.length > 2) return fault(`${entries.length} keys`);
  const keys: Key[] = [];
  for (const [i, entry] of entries.entries()) {
    const colon = entry.indexOf(':');
    if (colon < 0) return fault(`entry ${i + 1} has no ":"`);
    const id = keyId(entry.slice(0, colon).trim());
    if (id === undefined) return fault(`the id of entry ${i + 1} is not a number from 0 to 255`);
    const octets = keyOctets(entry.slice(colon + 1).trim());
    if (typeof octets === 'string') return fault(`the key of entry ${i + 1} ${octets}`);
    keys.push({ id, octets });
  }
  if (keys.length === 2 && keys[0].id === keys[1].id) return fault(`both keys have the id ${keys[0].id}`);
  return new Keyring({ current: keys[0], previous: keys[1] });
}

/** The ring of the data directory; made and stored there if it has none. */
export function loadKeyring(
  dataDirectory: string,
  random: (octets: number) => Uint8Array = randomBytes,
): Keyring | KeyFault {
  const stored = readKeyring(dataDirectory);
  if (stored !== undefined) return stored;
  const fresh = new Keyring({ current: { id: 1, octets: random(FRESH_OCTETS) } });
  storeKeyring(dataDirectory, fresh);
  return fresh;
}

/** The same, and undefined if it has none. */
export function readKeyring(dataDirectory: string): Keyring | KeyFault | undefined {
  const text = readIfThere(dataDirectory, FILE);
  return text === undefined ? undefined : parseFile(text);
}

/** On disk when it returns: only then may a rotated ring be used. */
export function storeKeyring(dataDirectory: string, keyring: Keyring): void {
  const { current, previous } = keyring.toPlain();
  const entry = (key: Key) => ({ id: key.id, key: Buffer.from(key.octets).toString('base64') });
  const file = { version: 1, current: entry(current), previous: previous && entry(previous) };
  writeDurable(dataDirectory, FILE, `${JSON.stringify(file, undefined, 2)}\n`);
}

function parseFile(text: string): Keyring | KeyFault {
  const fault = (found: string) =>
    new KeyFault(
      'KEYS_FILE_CORRUPT',
      `HOLDFAST_DATA/${FILE}`,
      found,
      'the file as Holdfast wrote it; without it a new key is made and all flow tokens in use become invalid',
    );
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch {
    return fault(`${text.length} characters that are not JSON`);
  }
  const ring = file as { version?: unknown; current?: unknown; previous?: unknown } | null;
  if (ring?.version !== 1) return fault('no "version": 1');
  const current = fileKey(ring.current);
  if (typeof current === 'string') return fault(`"current" ${current}`);
  if (ring.previous === undefined) return new Keyring({ current });
  const previous = fileKey(ring.previous);
  if (typeof previous === 'string') return fault(`"previous" ${previous}`);
  if (previous.id === current.id) return fault(`both keys have the id ${current.id}`);
  return new Keyring({ current, previous });
}

function fileKey(entry: unknown): Key | string {
  const { id, key } = (entry ?? {}) as { id?: unknown; key?: unknown };
  const number = keyId(String(id));
  if (number === undefined) return 'has no id from 0 to 255';
  const octets = typeof key === 'string' ? keyOctets(key) : 'has no key';
  return typeof octets === 'string' ? octets : { id: number, octets };
}

function keyId(text: string): number | undefined {
  return /^\d{1,3}$/.test(text) && Number(text) <= 255 ? Number(text) : undefined;
}

/** Either base64 alphabet, with or without padding; or what is wrong with it. */
function keyOctets(text: string): Uint8Array | string {
  if (!/^[A-Za-z0-9+/_-]*={0,2}$/.test(text)) return 'is not base64';
  const octets = new Uint8Array(Buffer.from(text, 'base64'));
  if (octets.length < FEWEST_OCTETS || octets.length > MOST_OCTETS) return `has ${octets.length} octets`;
  return octets;
}
