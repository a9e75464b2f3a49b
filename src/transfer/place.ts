import type { StoreConfig } from '../config/config.ts';
import type { RedisTarget } from '../config/redis-url.ts';
import type { Binding } from '../registrar/binding.ts';
import { LmdbBackend, LmdbReader, stateOf } from '../registrar/lmdb.ts';
import { RedisStore } from '../registrar/redis.ts';
import { RedisLink } from '../registrar/redis-link.ts';
import { incarnationAtWork } from '../registrar/redis-tenure.ts';
import { flowName } from '../registrar/redis-value.ts';
import { restore } from '../registrar/restore.ts';

/**
 * A store as an export or an import sees it, page by page, so that neither holds more than a page in memory.
 * Flows of bindings stand here with their names among nodes.
 *
 * An LMDB store that a server has open can be read: pages are of different moments, what changes meanwhile is
 * in the file or not, and no page keeps the server from reusing space. It cannot be written to: the server
 * keeps an index of flows in memory. A store in Redis is shared by nature.
 */
export type Page = [aor: string, bindings: Binding[]][];

export interface Source {
  /** addresses-of-record, about */
  size(): Promise<number>;
  /** live bindings; an address-of-record may come without any, in Redis also twice */
  pages(clock: () => number): AsyncGenerator<Page>;
  close(): Promise<void>;
}

export interface Put {
  put: number;
  /** bindings whose flow has closed, as the store knows */
  closed: number;
}

export interface Sink {
  /** All of a page, or it throws. What is there already stays. */
  restore(page: Page, now: number): Promise<Put>;
  /** which life of a node is at work on the store */
  atWork(node: number): Promise<number | undefined>;
  /** on disk when it resolves, as far as the store promises */
  close(): Promise<void>;
}

type Persistent = Exclude<StoreConfig, { kind: 'memory' }>;

export const nameOf = (store: Persistent): string =>
  store.kind === 'lmdb' ? `lmdb in ${store.dir}` : store.target.name;

export const openSource = (store: Persistent, node: number): Source | Promise<Source> =>
  store.kind === 'lmdb' ? new LmdbSource(store.dir, node) : openRedis(store.target, node);

export const openSink = (store: Persistent, node: number): Sink | Promise<Sink> =>
  store.kind === 'lmdb' ? new LmdbSink(store.dir, node) : openRedis(store.target, node);

/** entries of a page; what is restored in one transaction */
export const PAGE = 500;

class LmdbSource implements Source {
  readonly #reader: LmdbReader;
  readonly #node: number;

  constructor(dir: string, node: number) {
    const state = stateOf(dir);
    if (state === 'none') throw new Error(`there is no location store in ${dir}`);
    if (state === 'torn') throw new Error(`the files in ${dir} were left open by a machine that went down`);
    this.#reader = new LmdbReader({ dir, durability: 'process' });
    this.#node = node;
  }

  async size(): Promise<number> {
    return this.#reader.size;
  }

  async *pages(clock: () => number): AsyncGenerator<Page> {
    let after: string | undefined;
    for (;;) {
      this.#reader.turn();
      const chunk = this.#reader.scan(after, PAGE);
      yield chunk.map(([aor, bindings]) => [aor, this.#named(bindings, clock())]);
      if (chunk.length < PAGE) return;
      after = chunk[chunk.length - 1][0];
    }
  }

  #named(bindings: Binding[], now: number): Binding[] {
    return bindings
      .filter((binding) => binding.expiresAt > now)
      .map((b) => (b.flow === undefined ? b : { ...b, flow: flowName(this.#node, b.flow) }));
  }

  close(): Promise<void> {
    return this.#reader.close();
  }
}

class LmdbSink implements Sink {
  readonly #backend: LmdbBackend;
  readonly #node: number;

  constructor(dir: string, node: number) {
    this.#backend = new LmdbBackend({ dir, durability: 'process' });
    this.#node = node;
  }

  async restore(page: Page, now: number): Promise<Put> {
    const put = this.#backend.transaction(() =>
      page.reduce((sum, [aor, list]) => sum + restore(this.#backend, aor, list.map(this.#own), now), 0),
    );
    return { put, closed: 0 };
  }

  /** Only flows of this node are told of their end here. */
  readonly #own = ({ flow, ...binding }: Binding): Binding => {
    const [node, key] = flow?.split('/') ?? [];
    return Number(node) === this.#node && key !== undefined ? { ...binding, flow: key } : binding;
  };

  /** None: it was opened for writing. */
  async atWork(): Promise<undefined> {}

  close(): Promise<void> {
    return this.#backend.close();
  }
}

class RedisPlace implements Source, Sink {
  readonly #link: RedisLink;
  readonly #store: RedisStore;

  constructor(link: RedisLink, node: number) {
    this.#link = link;
    this.#store = new RedisStore({ link, node, namedFlows: true });
  }

  size(): Promise<number> {
    return this.#store.size();
  }

  pages(clock: () => number): AsyncGenerator<Page> {
    return this.#store.all(clock);
  }

  async restore(page: Page, now: number): Promise<Put> {
    const results = await Promise.all(page.map(([aor, list]) => this.#store.restore(aor, list, now)));
    return results.reduce((sum, r) => ({ put: sum.put + r.put, closed: sum.closed + r.closed }));
  }

  atWork(node: number): Promise<number | undefined> {
    return incarnationAtWork(this.#link, node);
  }

  close(): Promise<void> {
    return this.#link.close();
  }
}

/** Rejects if the first attempt to connect fails. */
async function openRedis(target: RedisTarget, node: number): Promise<RedisPlace> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onState = (up: boolean, why: string): void =>
    up ? resolve() : reject(new Error(`cannot reach ${target.name}: ${why}`));
  const link = new RedisLink({ target, onState });
  try {
    await promise;
    return new RedisPlace(link, node);
  } catch (error) {
    await link.close();
    throw error;
  }
}
