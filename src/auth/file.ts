/**
 * Credentials from a file (format: lines.ts), read whole and kept in memory, about 600 octets a user and thread:
 * for some ten thousand users, not for millions (there is service.ts).
 *
 * `check` looks whether the file is another one than was read, and reads it again. The new content takes the place
 * of the old all at once. A file that is broken, gone or changed while it was read changes nothing: it is logged
 * once, and the users are those of the last good one. At the start a broken file is an error.
 *
 * Whoever can read the file can register as anybody in it (RFC 7616 5.2): a mode that lets others read it is logged.
 */
import { readFileSync, type Stats, statSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import type { Logger } from '../observe/log.ts';
import { type Credentials, type Lookup, ownAor } from './credentials.ts';
import { ALGORITHMS, type Algorithm } from './digest.ts';
import { CredentialsFault, parseUsers, type Users, userKey } from './lines.ts';

const UNKNOWN: Lookup = { status: 'unknown' };
const WATCH_MS = 2_000;

export class FileCredentials implements Credentials {
  readonly #path: string;
  readonly #log: Logger;
  #users: Users;
  #offers: Map<string, readonly Algorithm[]>;
  #aors: ReadonlyMap<string, ReadonlySet<Algorithm>>;
  /** of the file that was looked at last, good or not */
  #seen: string;
  #checking: Promise<boolean> | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** Throws if the file cannot be read (`code`) or is broken (CredentialsFault). */
  static open(path: string, log: Logger): FileCredentials {
    const stats = statSync(path);
    return new FileCredentials(path, log, stats, parseUsers(readFileSync(path, 'utf8')));
  }

  private constructor(path: string, log: Logger, stats: Stats, users: Users) {
    this.#path = path;
    this.#log = log;
    this.#users = users;
    this.#offers = offersOf(users);
    this.#aors = aorsOf(users);
    this.#seen = signature(stats);
    this.#warnOfReaders(stats);
  }

  /** Users in the file that is in force. */
  get size(): number {
    return this.#users.size;
  }

  find(user: string, realm: string, algorithm: Algorithm, done: (found: Lookup) => void): void {
    const entry = this.#users.get(userKey(user, realm));
    const ha1 = entry?.ha1s.get(algorithm);
    if (!entry || ha1 === undefined) done(UNKNOWN);
    else done({ status: 'found', ha1, aors: entry.aors });
  }

  algorithms(realm: string, aor: string): readonly Algorithm[] {
    const own = this.#aors.get(aor);
    return own ? ALGORITHMS.filter((a) => own.has(a)) : (this.#offers.get(realm) ?? ALGORITHMS);
  }

  knows(aor: string): boolean {
    return this.#aors.has(aor);
  }

  /** Looks for changes now and then, without keeping the process alive. */
  watch(everyMs = WATCH_MS): this {
    this.#timer ??= setInterval(() => void this.check(), everyMs).unref();
    return this;
  }

  /** True if other users are in force afterwards. Never rejects; a call while one runs is the same call. */
  check(): Promise<boolean> {
    this.#checking ??= this.#reload().finally(() => {
      this.#checking = undefined;
    });
    return this.#checking;
  }

  async #reload(): Promise<boolean> {
    let seen = '';
    try {
      const before = await stat(this.#path);
      seen = signature(before);
      if (seen === this.#seen) return false;
      const text = await readFile(this.#path, 'utf8');
      const after = signature(await stat(this.#path));
      if (after !== seen) return false; // somebody is writing: the next look decides
      const users = parseUsers(text);
      this.#users = users;
      this.#offers = offersOf(users);
      this.#aors = aorsOf(users);
      this.#seen = seen;
      this.#warnOfReaders(before);
      this.#log.info({ event: 'credentials-read', file: this.#path, users: users.size });
      return true;
    } catch (error) {
      const reason =
        error instanceof CredentialsFault ? error.message : (error as NodeJS.ErrnoException).code;
      // a file that is gone, too, is told of once
      const fault = seen || `${reason}`;
      if (this.#seen !== fault) {
        this.#seen = fault;
        this.#log.error({ event: 'credentials-refused', file: this.#path, reason, kept: this.#users.size });
      }
      return false;
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#checking;
  }

  #warnOfReaders(stats: Stats): void {
    if ((stats.mode & 0o077) === 0) return;
    const mode = (stats.mode & 0o777).toString(8);
    this.#log.warn({ event: 'credentials-readable', file: this.#path, mode });
  }
}

function signature({ ino, size, mtimeMs, ctimeMs }: Stats): string {
  return `${ino} ${size} ${mtimeMs} ${ctimeMs}`;
}

/** By canonical AOR: what those have who own it. */
function aorsOf(users: Users): ReadonlyMap<string, ReadonlySet<Algorithm>> {
  const all = new Map<string, ReadonlySet<Algorithm>>();
  for (const { user, realm, ha1s, aors } of users.values()) {
    const theirs = new Set(ha1s.keys());
    const own = ownAor(user, realm);
    for (const aor of own === undefined ? aors : [own, ...aors])
      all.set(aor, all.get(aor)?.union(theirs) ?? theirs);
  }
  return all;
}

/** By realm: what all its users have; where that is nothing, what any of them has. */
function offersOf(users: Users): Map<string, readonly Algorithm[]> {
  const all = new Map<string, Set<Algorithm>>();
  const any = new Map<string, Set<Algorithm>>();
  for (const { realm, ha1s } of users.values()) {
    const theirs = new Set(ha1s.keys());
    all.set(realm, all.get(realm)?.intersection(theirs) ?? theirs);
    any.set(realm, any.get(realm)?.union(theirs) ?? theirs);
  }
  const offers = new Map<string, readonly Algorithm[]>();
  for (const [realm, common] of all) {
    const offered = common.size > 0 ? common : any.get(realm);
    offers.set(
      realm,
      ALGORITHMS.filter((algorithm) => offered?.has(algorithm)),
    );
  }
  return offers;
}
