import { type Binding, byPreference } from './binding.ts';
import { Deadlines } from './deadlines.ts';
import { type BindingEvent, changes, type End, earliest, FLOW_FAILED, UNREGISTERED } from './events.ts';
import { answer, flowLost } from './location.ts';
import { type RedisLink, Unavailable } from './redis-link.ts';
import {
  CLAIM,
  CLOSE,
  COUNT,
  EXPIRE,
  FORGET,
  LOOKUP,
  REMOVE,
  RESTORE,
  RETIRE,
  type Script,
  UPDATE,
} from './redis-script.ts';
import { contactArguments, decodeValue, flowName, flowOf, restoreArguments } from './redis-value.ts';
import type { StoreOp, StoreResult, StoreStatus, UpdateOp } from './store.ts';

/**
 * The location store that many registrars share, in Redis or Valkey: the operations of store.ts, each
 * answered when the server has done it.
 *
 * Of registrars that write to one AOR at once, the server's order decides, and within it (Call-ID, CSeq):
 * an UPDATE is one script. A flow that closes is more than one step, because its AORs live in other slots:
 *
 *   a write over a flow:  CLAIM, at the flow: closed? else note the AOR.  Then UPDATE, at the AOR.
 *   the flow closes:      CLOSE, at the flow: tombstone, which AORs?      Then RETIRE, at each of them.
 *
 * RETIRE leaves a tombstone at the AOR too. So whichever order the four come in, a binding of a closed flow
 * is refused by CLAIM, or refused by the AOR's tombstone, or removed. Both tombstones are remembered for
 * five minutes; a write that comes later than half of that after its claim is refused as 'busy'. If a registrar dies
 * between CLOSE and RETIRE, its next life repeats it (redis-tenure.ts), else the bindings are found dead by 430.
 *
 * Cost: one round trip, two with a flow of its own. An AOR's operations keep their order.
 * What cannot be done now is 'busy' if somebody waits for it; news of closed flows and bindings to remove is
 * kept until Redis is back, up to a limit, then the oldest is dropped and counted.
 *
 * Events, where somebody watches: the script that makes a change answers with the bindings before and after, so
 * whoever called it, and nobody else, tells of it; an answer that is lost is not told. Nothing happens in Redis
 * when a binding's time is over. So each registrar keeps a deadline for every address that it has written, and
 * at its start for all that there are; the first that comes to look takes the expired binding out and tells it.
 * What has expired stays in Redis for ten minutes more, for that.
 *
 * Durable as the server is: its appendonly, appendfsync and replication say what a 200 is worth.
 */
export interface RedisStoreOptions {
  link: RedisLink;
  /** number of this node, which no other registrar of the store has */
  node: number;
  /** milliseconds that a closed flow is remembered */
  tombstone?: number;
  /** bindings that are read show the flows of all nodes, by their names in the store: for an export */
  namedFlows?: boolean;
  /** gets what happens to bindings, by this registrar, in the order in which Redis did it for each address */
  watch?: ((events: readonly BindingEvent[]) => void) | undefined;
  /** 'caller': the time of the requests counts instead of the server's, for tests */
  clock?: 'server' | 'caller';
}

const PREFIX = 'hf:';
export const bindingKey = (aor: string): string => `${PREFIX}b:{${aor}}`;
export const flowKeys = (flow: string): [tombstone: string, aors: string] => [
  `${PREFIX}t:{${flow}}`,
  `${PREFIX}f:{${flow}}`,
];
export const leaseKey = (node: number): string => `${PREFIX}n:{${node}}`;
/** between the braces */
export const tagOf = (key: string): string => key.slice(key.indexOf('{') + 1, -1);

const TOMBSTONE_MS = 300_000;
const MAX_NEWS = 65_536;
/** scripts of one walk or one closed flow that are under way at a time */
const ABREAST = 64;
const LISTS = 16;
/** milliseconds that an expired binding waits for somebody to tell of it */
const LINGER_MS = 600_000;
/** addresses that are followed to their end; of others an expiry is told when they are written again */
const MAX_FOLLOWED = 1_000_000;
/** addresses in one look at what has expired; how long after a failed one */
const EXPIRE_AORS = 4_096;
const EXPIRE_AGAIN_MS = 5_000;
/** milliseconds that a count is good for: it looks at every AOR */
const COUNT_FRESH = 10_000;

type News =
  | { kind: 'flow-closed'; flow: string; cause?: number | undefined }
  | { kind: 'remove'; aor: string; key: string; order: string };

/** A list that has been given up to `after`. */
interface Page {
  pages: AsyncGenerator<string[]>;
  rest: string[];
}

export class RedisStore {
  readonly #link: RedisLink;
  readonly #node: number;
  readonly #tombstone: number;
  readonly #namedFlows: boolean;
  readonly #callersClock: boolean;
  #callersNow = 0;
  /** the last claim under way for an AOR: what comes later waits for it */
  readonly #claiming = new Map<string, Promise<unknown>>();
  readonly #news = new Map<string, News>();
  #telling = false;
  readonly #lists = new Map<string, Page>();
  #count: { at: number; value: Promise<number> } | undefined;
  readonly #watch: ((events: readonly BindingEvent[]) => void) | undefined;
  /** argument of the scripts: nothing if nobody watches */
  readonly #linger: string;
  readonly #deadlines = new Deadlines(MAX_FOLLOWED);
  #followed = false;
  #expiring = false;
  /** news that was dropped because Redis was away for too long */
  dropped = 0;
  /** values of another version, or damaged ones, that were met */
  unreadable = 0;

  constructor({ link, node, tombstone, namedFlows, clock, watch }: RedisStoreOptions) {
    this.#link = link;
    this.#node = node;
    this.#tombstone = tombstone ?? TOMBSTONE_MS;
    this.#namedFlows = namedFlows ?? false;
    this.#callersClock = clock === 'caller';
    this.#watch = watch;
    this.#linger = watch ? `${LINGER_MS}` : '';
  }

  /** Never rejects. */
  async handle(op: StoreOp): Promise<StoreResult> {
    try {
      switch (op.kind) {
        case 'update':
          return await this.#update(op);
        case 'lookup':
          return await this.#inOrder(op.aor, () => this.#lookup(op.aor, op.now));
        case 'remove': {
          const order = op.ifOrder === undefined ? '' : `${op.ifOrder}`;
          return await this.#tell({ kind: 'remove', aor: op.aor, key: op.key, order });
        }
        case 'flow-closed':
          return await this.#tell({ ...op, flow: flowName(this.#node, op.flow) });
        case 'list':
          return await this.#list(op.after, op.limit);
      }
    } catch (error) {
      return answer(error instanceof Unavailable ? 'busy' : 'error');
    }
  }

  async #update(op: UpdateOp): Promise<StoreResult> {
    const life = op.contacts.reduce((most, contact) => Math.max(most, contact.expires), 0) * 1000;
    const flow = life > 0 ? flowOf(this.#node, op.flow, op.path) : '';
    if (flow === '') return this.#inOrder(op.aor, () => this.#write(op, '', 0));
    const work = this.#inOrder(op.aor, async () => {
      const args = [this.#now(op.now), op.aor, `${life + this.#tombstone}`];
      const claimed = (await this.#link.call(CLAIM, flowKeys(flow), args)) as number;
      return claimed === 0 ? answer('flow-closed') : this.#write(op, flow, claimed);
    });
    this.#claiming.set(op.aor, work);
    try {
      return await work;
    } finally {
      if (this.#claiming.get(op.aor) === work) this.#claiming.delete(op.aor);
    }
  }

  /** One connection keeps the order of what is sent; an operation of two steps has to be waited for. */
  #inOrder<T>(aor: string, work: () => Promise<T>): Promise<T> {
    const before = this.#claiming.get(aor);
    return before ? before.then(work, work) : work();
  }

  async #write(op: UpdateOp, flow: string, claimed: number): Promise<StoreResult> {
    const args: (string | Buffer)[] = [
      this.#now(op.now),
      op.callId,
      `${op.cseq}`,
      op.clear ? '1' : '0',
      `${op.maxContacts}`,
      flow,
      flow === '' ? '' : `${claimed}`,
      `${this.#tombstone / 2}`,
      this.#linger,
    ];
    for (const contact of op.contacts) args.push(...contactArguments(this.#node, op, flow, contact));
    const reply = (await this.#link.call(UPDATE, [bindingKey(op.aor)], args)) as unknown[];
    const before = Array.isArray(reply.at(-1)) ? (reply.pop() as Buffer[]) : undefined;
    const result = this.#read(reply, op.now);
    if (before) {
      const [, now, ...after] = reply as [Buffer, number, ...Buffer[]];
      this.#changed(op.aor, before, after, now, UNREGISTERED);
    }
    if (this.#watch && result.status === 'ok') this.#deadlines.set(op.aor, earliest(result.bindings));
    return result;
  }

  async #lookup(aor: string, now: number): Promise<StoreResult> {
    return this.#read(await this.#link.call(LOOKUP, [bindingKey(aor)], [this.#now(now)]), now);
  }

  #now(now: number): string {
    if (!this.#callersClock) return '';
    this.#callersNow = now;
    return `${now}`;
  }

  #read(reply: unknown, now: number): StoreResult {
    const [status, serverNow, ...values] = reply as [Buffer, number, ...Buffer[]];
    const bindings = this.#decode(values, now - serverNow);
    return answer(status.toString() as StoreStatus, bindings.sort(byPreference));
  }

  #decode(values: readonly Buffer[], shift: number): Binding[] {
    const bindings: Binding[] = [];
    for (const value of values) {
      const binding = decodeValue(value, this.#namedFlows ? undefined : this.#node, shift);
      if (binding) bindings.push(binding);
      else this.unreadable++;
    }
    return bindings;
  }

  // ---- events

  /** The time of an event is the server's, so that events of several registrars compare. */
  #changed(aor: string, before: Buffer[], after: Buffer[], now: number, end: End): void {
    const events = changes(this.#node, aor, this.#decode(before, 0), this.#decode(after, 0), now, end);
    if (events.length > 0) this.#watch?.(events);
  }

  /** What a script counted; it is told what changed. */
  #counted(aor: string, reply: unknown, end: End): number {
    if (!Array.isArray(reply)) return reply as number;
    const [count, now, before, after] = reply as [number, number, Buffer[], Buffer[]];
    this.#changed(aor, before, after, now, end);
    return count;
  }

  /** From time to time: tells what has expired. `now`: of the clock of the requests. */
  async expire(now: number): Promise<void> {
    if (this.#expiring || !this.#link.up) return;
    this.#expiring = true;
    try {
      await abreast(this.#deadlines.due(now, EXPIRE_AORS), (aor) => this.#expire(aor, now));
    } finally {
      this.#expiring = false;
    }
  }

  /** Never rejects. */
  async #expire(aor: string, now: number): Promise<void> {
    try {
      await this.#inOrder(aor, async () => {
        const args = [this.#now(now), this.#linger];
        const reply = await this.#link.call(EXPIRE, [bindingKey(aor)], args);
        this.#counted(aor, reply, UNREGISTERED);
        const [, serverNow, , after] = reply as [number, number, Buffer[], Buffer[]];
        this.#deadlines.set(aor, earliest(this.#decode(after, now - serverNow)));
      });
    } catch (error) {
      if (error instanceof Unavailable) this.#deadlines.set(aor, now + EXPIRE_AGAIN_MS);
    }
  }

  /** Once a life: looks at every address, so that what others wrote, or an earlier life, is followed too. */
  async follow(now: number): Promise<void> {
    if (!this.#watch || this.#followed) return;
    this.#followed = true;
    try {
      for await (const keys of this.#link.scan(`${PREFIX}b:*`))
        await abreast(keys.map(tagOf), (aor) => this.#expire(aor, now));
    } catch {
      this.#followed = false; // when Redis is back
    }
  }

  // ---- news

  /** Does it now, or keeps it: 'busy' then means that it is going to be done. */
  async #tell(news: News): Promise<StoreResult> {
    const id = news.kind === 'remove' ? `${news.aor} ${news.key}` : news.flow;
    this.#news.delete(id);
    this.#news.set(id, news);
    if (this.#news.size > MAX_NEWS) {
      for (const oldest of this.#news.keys()) {
        this.#news.delete(oldest);
        break;
      }
      this.dropped++;
    }
    return answer('ok', [], await this.#deliver(id, news));
  }

  async #deliver(id: string, news: News): Promise<number> {
    try {
      const count = await (news.kind === 'remove'
        ? this.#remove(news)
        : this.closeFlow(news.flow, flowLost(news.cause)));
      this.#forget(id, news);
      return count;
    } catch (error) {
      if (!(error instanceof Unavailable)) this.#forget(id, news); // it would fail again
      throw error;
    }
  }

  #forget(id: string, news: News): void {
    if (this.#news.get(id) === news) this.#news.delete(id);
  }

  /** Delivers what could not be delivered; from time to time, and when Redis is back. */
  async retell(): Promise<void> {
    if (this.#telling || this.#news.size === 0 || !this.#link.up) return;
    this.#telling = true;
    try {
      await abreast([...this.#news], ([id, news]) => this.#deliver(id, news));
    } catch {
      // the next time
    } finally {
      this.#telling = false;
    }
  }

  /** News that waits for Redis. */
  get waiting(): number {
    return this.#news.size;
  }

  async #remove({ aor, key, order }: News & { kind: 'remove' }): Promise<number> {
    const args = [this.#now(this.#callersNow), key, order, this.#linger];
    return this.#inOrder(aor, async () =>
      this.#counted(aor, await this.#link.call(REMOVE, [bindingKey(aor)], args), FLOW_FAILED),
    );
  }

  /** `flow`: its name in the store; `end`: for who watches. How many bindings went; it may be repeated. */
  async closeFlow(flow: string, end: End): Promise<number> {
    const [tomb, set] = flowKeys(flow);
    const aors = (await this.#link.call(CLOSE, [tomb, set], [`${this.#tombstone}`])) as Buffer[];
    const args = [this.#now(this.#callersNow), flow, `${this.#tombstone}`, this.#linger];
    const retired = await abreast(aors.map(String), async (aor) =>
      this.#counted(aor, await this.#link.call(RETIRE, [bindingKey(aor)], args), end),
    );
    if (aors.length > 0) await this.#link.call(FORGET, [set]);
    return retired.reduce((sum, n) => sum + n, 0);
  }

  async #number(script: Script, aor: string, args: (string | Buffer)[]): Promise<number> {
    return (await this.#link.call(script, [bindingKey(aor)], args)) as number;
  }

  // ---- all of them

  /** In no order; an AOR may come twice. Goes on where the last list ended, for the last few callers. */
  async #list(after: string | undefined, limit: number): Promise<StoreResult> {
    const known = after === undefined ? undefined : this.#lists.get(after);
    if (known && after !== undefined) this.#lists.delete(after);
    const page = known ?? { pages: this.#link.scan(`${PREFIX}b:*`), rest: [] };
    let skipping = known ? undefined : after;
    while (skipping !== undefined || page.rest.length < limit) {
      const next = await page.pages.next();
      if (next.done) break;
      const aors = next.value.map(tagOf);
      const at = skipping === undefined ? -1 : aors.indexOf(skipping);
      if (at >= 0) skipping = undefined;
      if (skipping === undefined) page.rest.push(...aors.slice(at + 1));
    }
    const aors = page.rest.splice(0, limit);
    const last = aors.at(-1);
    if (last !== undefined) this.#lists.set(last, page);
    for (const oldest of this.#lists.keys()) if (this.#lists.size > LISTS) this.#lists.delete(oldest);
    return { ...answer('ok', [], await this.count()), aors };
  }

  /** Unexpired bindings in all, as of a few seconds ago. */
  count(): Promise<number> {
    const at = performance.now();
    if (this.#count && at - this.#count.at < COUNT_FRESH) return this.#count.value;
    const value = this.#countAll();
    this.#count = { at, value };
    value.catch(() => {
      this.#count = undefined;
    });
    return value;
  }

  async #countAll(): Promise<number> {
    let count = 0;
    for await (const keys of this.#link.scan(`${PREFIX}b:*`)) {
      const args = [this.#now(this.#callersNow)];
      for (const n of await abreast(keys, (key) => this.#number(COUNT, tagOf(key), args))) count += n;
    }
    return count;
  }

  /** Every AOR with its unexpired bindings, for an export. `clock`: what their times are told in. */
  async *all(clock: () => number): AsyncGenerator<[aor: string, bindings: Binding[]][]> {
    for await (const keys of this.#link.scan(`${PREFIX}b:*`)) {
      yield await abreast(keys.map(tagOf), async (aor) => [aor, (await this.#lookup(aor, clock())).bindings]);
    }
  }

  /** Names of the flows of this node that bindings were stored for. */
  async *flows(): AsyncGenerator<string[]> {
    for await (const keys of this.#link.scan(`${PREFIX}f:{${this.#node}/*`)) yield keys.map(tagOf);
  }

  /** Addresses-of-record, perhaps some with expired bindings only. It looks at every key of the server. */
  async size(): Promise<number> {
    let size = 0;
    for await (const keys of this.#link.scan(`${PREFIX}b:*`)) size += keys.length;
    return size;
  }

  /** For an import: puts the bindings that the store does not have, and whose flow has not closed. */
  async restore(
    aor: string,
    bindings: readonly Binding[],
    now: number,
  ): Promise<{ put: number; closed: number }> {
    const good: Binding[] = [];
    for (const binding of bindings) {
      const flow = flowOf(this.#node, binding.flow, binding.path);
      const life = `${binding.expiresAt - now + this.#tombstone}`;
      const claims = flow !== '' && binding.expiresAt > now;
      if (!claims || (await this.#link.call(CLAIM, flowKeys(flow), [this.#now(now), aor, life])) !== 0)
        good.push(binding);
    }
    const args = good.flatMap((binding) => restoreArguments(this.#node, binding, now));
    const put = await this.#number(RESTORE, aor, [this.#now(now), ...args]);
    return { put, closed: bindings.length - good.length };
  }
}

/** `work` for each, a bounded number at a time; the results in their order. Rejects with the first failure. */
async function abreast<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let i = 0; i < items.length; i += ABREAST) {
    results.push(...(await Promise.all(items.slice(i, i + ABREAST).map(work))));
  }
  return results;
}
