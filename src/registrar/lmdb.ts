import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { open, type RootDatabase } from 'lmdb';
import { type Binding, decodeBindings, encodeBindings } from './binding.ts';
import { assertUnused, leaveStore, takeStore } from './lmdb-writer.ts';
import type { Backend } from './store.ts';

/**
 * Bindings in LMDB: one key per AOR. One thread of one process opens it for writing (lmdb-writer.ts); others
 * read the memory map in their own thread, or process, without a lock or a message.
 *
 * Durability `process` (default): a commit is in the page cache when `transaction` returns, so it outlives
 * the death of the process (kill -9), not that of the machine. Pages reach the disk in any order in this
 * mode, so after an unclean reboot (the boot id changed and nobody closed the environment) the files are
 * set aside and the store starts empty: clients register again. Durability `power`: each commit is flushed before it returns
 * (0.5-3 ms and up, once a batch), and the files are good after any end. Where the system has no boot id,
 * `process` is `power`.
 *
 * A reader sees the commits up to its last `turn`; each costs about 2 µs at the next read.
 */
export type Durability = 'process' | 'power';

export interface LmdbOptions {
  dir: string;
  durability: Durability;
  /** most bytes of the memory map: address space, not memory or disk */
  mapSize?: number;
}

const DEFAULT_MAP_SIZE = 16 * 2 ** 30;
const READERS = 512;

// lmdb's TransactionFlags as numbers: a const enum cannot be imported by stripped types.
const SYNCHRONOUS_COMMIT = 2;
const NO_SYNC_FLUSH = 0x10000;

function openEnvironment(options: LmdbOptions, readOnly: boolean): RootDatabase<Buffer, string> {
  return open<Buffer, string>({
    path: join(options.dir, 'location'),
    encoding: 'binary',
    keyEncoding: 'ordered-binary',
    noSubdir: false,
    cache: false,
    readOnly,
    mapSize: options.mapSize ?? DEFAULT_MAP_SIZE,
    maxReaders: READERS,
    overlappingSync: false,
    eventTurnBatching: false,
  });
}

export class LmdbBackend implements Backend {
  readonly #db: RootDatabase<Buffer, string>;
  readonly #flags: number;
  readonly #dir: string;
  readonly #statePath: string;
  /** where files of unknown integrity were put at this start */
  readonly setAside: string | undefined;
  /** values of another format version or damaged ones that were met; each counts as no binding */
  unreadable = 0;

  /** `bootId`: of the running system, '' if there is none. Throws if the directory cannot be used, or is in use. */
  constructor(options: LmdbOptions, bootId = systemBootId()) {
    const durability = bootId === '' ? 'power' : options.durability;
    this.#flags = durability === 'power' ? SYNCHRONOUS_COMMIT : SYNCHRONOUS_COMMIT | NO_SYNC_FLUSH;
    this.#statePath = join(options.dir, 'location.state');
    this.#dir = options.dir;
    mkdirSync(options.dir, { recursive: true });
    assertUnused(options.dir, bootId);
    this.setAside = setAsideIfTorn(options.dir, bootId);
    writeFileSync(this.#statePath, durability === 'power' ? 'clean' : bootId, { flush: true });
    this.#db = openEnvironment(options, false);
    this.#db.transactionSync(() => takeStore(options.dir, bootId), this.#flags);
  }

  get(aor: string): Binding[] | undefined {
    const bytes = this.#db.getBinaryFast(aor);
    return bytes && this.#decode(bytes);
  }

  #decode(bytes: Uint8Array): Binding[] | undefined {
    const bindings = decodeBindings(bytes);
    if (!bindings) this.unreadable++;
    return bindings;
  }

  put(aor: string, bindings: Binding[]): void {
    if (bindings.length === 0) this.#db.removeSync(aor);
    else this.#db.putSync(aor, encodeBindings(bindings));
  }

  scan(after: string | undefined, limit: number): [string, Binding[]][] {
    return scan(this.#db, after, limit, (value) => this.#decode(value));
  }

  transaction<T>(work: () => T): T {
    return this.#db.transactionSync(work, this.#flags);
  }

  /** Resolved when everything is on disk; the next start then trusts the files whatever happened between. */
  async close(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      nativeSync(this.#db, (error) => (error ? reject(error) : resolve()));
    });
    writeFileSync(this.#statePath, 'clean', { flush: true });
    await this.#db.close();
    leaveStore(this.#dir);
  }
}

/** A shard's view, or an export's: somebody must have opened the environment for writing before. */
export class LmdbReader {
  readonly #db: RootDatabase<Buffer, string>;

  constructor(options: LmdbOptions) {
    this.#db = openEnvironment(options, true);
  }

  get(aor: string): Binding[] | undefined {
    const bytes = this.#db.getBinaryFast(aor);
    return bytes && decodeBindings(bytes);
  }

  /** As `Backend.scan`. */
  scan(after: string | undefined, limit: number): [string, Binding[]][] {
    return scan(this.#db, after, limit, (value) => decodeBindings(value));
  }

  /** Addresses-of-record. */
  get size(): number {
    return (this.#db.getStats() as { entryCount: number }).entryCount;
  }

  /** Once a loop turn: the next read sees what was committed until then. */
  turn(): void {
    this.#db.resetReadTxn();
  }

  async close(): Promise<void> {
    await this.#db.close();
  }
}

function scan(
  db: RootDatabase<Buffer, string>,
  after: string | undefined,
  limit: number,
  decode: (value: Uint8Array) => Binding[] | undefined,
): [string, Binding[]][] {
  const range = after === undefined ? { limit } : { start: after, exclusiveStart: true, limit };
  const entries: [string, Binding[]][] = [];
  for (const { key, value } of db.getRange(range)) entries.push([key, decode(value) ?? []]);
  return entries;
}

/** Is there a store, and can its files be trusted? */
export function stateOf(dir: string, bootId = systemBootId()): 'none' | 'good' | 'torn' {
  if (!existsSync(join(dir, 'location'))) return 'none';
  const statePath = join(dir, 'location.state');
  const state = existsSync(statePath) ? readFileSync(statePath, 'utf8') : 'clean';
  return state === 'clean' || state === bootId ? 'good' : 'torn';
}

function setAsideIfTorn(dir: string, bootId: string): string | undefined {
  if (stateOf(dir, bootId) !== 'torn') return undefined;
  const path = join(dir, 'location');
  let aside = `${path}.unclean`;
  for (let n = 1; existsSync(aside); n++) aside = `${path}.unclean-${n}`;
  renameSync(path, aside);
  return aside;
}

export function systemBootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  } catch {
    return '';
  }
}

/** lmdb's store has `sync`, its type does not. */
function nativeSync(db: RootDatabase<Buffer, string>, done: (error?: Error | null) => void): void {
  (db as unknown as { sync(done: (error?: Error | null) => void): void }).sync(done);
}
