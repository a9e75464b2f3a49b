/**
 * Who this device is over restarts (RFC 5626 4.1, 4.2.1): its instance-id, and the reg-id of each URI that it registers
 * an AOR through. Kept in one small file, written before it is first used, so that no registration goes out under an
 * id that a crash could lose. A URI that leaves the set keeps its number, in case it comes back.
 *
 * The URN is a UUID made once, or one that the caller has (4.1: only schemes that an RFC allows in +sip.instance). Its
 * text never changes, not in letter case either. A file that cannot be read is an error and not a new identity: a new
 * one would leave the old bindings behind.
 */
import { randomUUID } from 'node:crypto';
import { readIfThere, writeDurable } from '../flow/durable.ts';
import { UserAgentError } from './errors.ts';

const FILE = 'user-agent.json';
/** RFC 5626 and RFC 7254/7255. */
const SCHEMES =
  /^urn:(?:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|gsma:imei:[0-9a-z.;=-]+)$/i;

export interface Identity {
  instance: string;
  /** in the order of the URIs */
  regIds: number[];
}

interface Stored {
  instance: string;
  regIds: Record<string, Record<string, number>>;
}

export function isInstance(urn: string): boolean {
  return SCHEMES.test(urn); // UA-4.1-05
}

/** `given`: the caller's own URN, which replaces what is stored. */
export function loadIdentity(
  directory: string,
  aor: string,
  uris: readonly string[],
  given?: string,
): Identity {
  const before = readIfThere(directory, FILE);
  const stored = before === undefined ? { instance: '', regIds: {} } : parse(before, directory);
  if (given !== undefined) stored.instance = given;
  else if (stored.instance === '') stored.instance = `urn:uuid:${randomUUID()}`;
  stored.regIds[aor] ??= {};
  const regIds = assign(stored.regIds[aor], uris);
  const after = `${JSON.stringify(stored, undefined, 2)}\n`;
  if (after !== before) writeDurable(directory, FILE, after);
  return { instance: stored.instance, regIds };
}

/** Numbers for URIs that have none: the lowest that no other URI has. */
function assign(known: Record<string, number>, uris: readonly string[]): number[] {
  const used = new Set(Object.values(known));
  return uris.map((uri) => {
    if (known[uri] === undefined) {
      let id = 1;
      while (used.has(id)) id++;
      used.add(id);
      known[uri] = id;
    }
    return known[uri];
  });
}

function parse(text: string, directory: string): Stored {
  try {
    const { instance, regIds } = JSON.parse(text) as Stored;
    const numbers = Object.values(regIds).flatMap((map) => Object.values(map));
    if (isInstance(instance) && numbers.every((id) => Number.isInteger(id) && id > 0 && id < 2 ** 31))
      return { instance, regIds };
  } catch {}
  throw new UserAgentError('identity', `${directory}/${FILE} is damaged`);
}
