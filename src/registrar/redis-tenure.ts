import { incarnationOf, isStreamFlow } from './binding.ts';
import { RESTARTED } from './events.ts';
import { leaseKey, type RedisStore } from './redis.ts';
import type { RedisLink } from './redis-link.ts';
import { HOLD, HOLDER, RELEASE } from './redis-script.ts';

/**
 * A node's right to its number in a shared store, and what follows from it: the bindings of stream flows of
 * its earlier lives are retired, since those sockets are gone.
 *
 * The right is a lease that is renewed three times within its life. Two registrars with one number would
 * retire each other's bindings, so nobody retires anything before he has it: the second of the two never
 * gets it and says so; a node that starts again after kill -9 gets it when the lease of its earlier life
 * has run out. Registering needs no lease.
 */
export interface TenureOptions {
  link: RedisLink;
  store: RedisStore;
  node: number;
  incarnation: number;
  /** flow keys of an earlier life that live on in this one */
  adopted?: ReadonlySet<string>;
  onRetired?: (bindings: number) => void;
  /** another life of this node number is at work, or ended without a word a moment ago */
  onTaken?: () => void;
  /** milliseconds */
  lease?: number;
}

const LEASE_MS = 15_000;

export class Tenure {
  readonly #options: TenureOptions;
  readonly #lease: number;
  readonly #timer: NodeJS.Timeout;
  #busy = false;
  #told = false;
  #retired = false;

  constructor(options: TenureOptions) {
    this.#options = options;
    this.#lease = options.lease ?? LEASE_MS;
    this.#timer = setInterval(() => this.renew(), this.#lease / 3);
  }

  /** Also when Redis is back. What fails now is done at the next renewal. */
  async renew(): Promise<void> {
    const { link, node, incarnation, onTaken } = this.#options;
    if (this.#busy || !link.up) return;
    this.#busy = true;
    try {
      const held = await link.call(HOLD, [leaseKey(node)], [`${incarnation}`, `${this.#lease}`]);
      if (held === 1 && !this.#retired) await this.#retire();
      if (held !== 1 && !this.#told) {
        this.#told = true;
        onTaken?.();
      }
    } catch {
      // the next time
    } finally {
      this.#busy = false;
    }
  }

  async #retire(): Promise<void> {
    const { store, node, incarnation, adopted, onRetired } = this.#options;
    let gone = 0;
    for await (const names of store.flows()) {
      for (const name of names) {
        const flow = name.slice(`${node}/`.length);
        if (!isStreamFlow(flow) || incarnationOf(flow) === incarnation || adopted?.has(flow)) continue;
        gone += await store.closeFlow(name, RESTARTED);
      }
    }
    this.#retired = true;
    onRetired?.(gone);
  }

  /** The next life need not wait. */
  async end(): Promise<void> {
    clearInterval(this.#timer);
    const { link, node, incarnation } = this.#options;
    if (link.up) await link.call(RELEASE, [leaseKey(node)], [`${incarnation}`]).catch(() => {});
  }
}

/** Which life of a node is at work on the store; undefined if none is. */
export async function incarnationAtWork(link: RedisLink, node: number): Promise<number | undefined> {
  const holder = (await link.call(HOLDER, [leaseKey(node)])) as Buffer | null;
  return holder === null ? undefined : Number(holder.toString());
}
