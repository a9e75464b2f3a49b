/**
 * Credentials from an HTTP service of the operator. One look-up is one request:
 *
 *   POST <the configured URL>         content-type: application/json; with user:password in the URL also
 *   {"user":"dora","realm":"example.net","algorithm":"SHA-256"}               authorization: Basic ...
 *
 *   200 {"ha1":"<64 hex digits, 32 for MD5>","aors":["sip:100@example.net"],"ttl":60}
 *   404 no such user, or no HA1 of this algorithm
 *
 * `aors` (what the user may register beside user@realm) and `ttl` (seconds that the answer may be kept, at most the
 * configured time) may be left out. Whatever else comes counts as a failure: other statuses, redirects too, a body
 * above 64 KiB or one that is not as above, no complete answer within the deadline.
 *
 * A failure is `unavailable`, never `unknown`. After some in a row the service is left alone for a pause
 * (breaker.ts), and whoever is not in the cache is unavailable at once. Known users are kept for a minute, unknown
 * ones for some seconds, as long as a new user may have to wait. Look-ups of one key at one time are one request;
 * so many requests at once and no more, the others wait within their deadline. A changed password is in force when
 * the answer before it has run out.
 */
import { Pool } from 'undici';
import type { Logger } from '../observe/log.ts';
import { Breaker } from './breaker.ts';
import { AnswerCache } from './cache.ts';
import type { Credentials, Lookup } from './credentials.ts';
import { ALGORITHMS, type Algorithm, isDigest } from './digest.ts';
import { canonicalAors } from './lines.ts';

export interface ServiceOptions {
  url: string;
  log: Logger;
  /** milliseconds, monotonic */
  now: () => number;
  /** ms until a look-up is given up, waiting included */
  deadline?: number;
  /** requests at one time */
  concurrency?: number;
  /** look-ups that wait for their turn */
  waiting?: number;
  /** ms that an answer is kept, that a 404 is kept, and how many answers */
  ttl?: number;
  negativeTtl?: number;
  cached?: number;
  /** failures in a row that begin a pause, ms of the first pause, of the longest */
  failures?: number;
  firstPause?: number;
  longestPause?: number;
}

interface Query {
  key: string;
  user: string;
  realm: string;
  algorithm: Algorithm;
  /** on the caller's clock */
  deadline: number;
  waiters: ((found: Lookup) => void)[];
}

interface Answer {
  found: Lookup;
  ttl: number;
}

const MAX_BODY = 64 * 1024;
const UNKNOWN: Lookup = { status: 'unknown' };

export class ServiceCredentials implements Credentials {
  readonly #pool: Pool;
  readonly #path: string;
  readonly #headers: Record<string, string>;
  /** for the log: without user, password and query */
  readonly #name: string;
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #deadline: number;
  readonly #concurrency: number;
  readonly #waiting: number;
  readonly #ttl: number;
  readonly #negativeTtl: number;
  readonly #cache: AnswerCache;
  readonly #breaker: Breaker;
  /** by key: asked, or waiting to be */
  readonly #queries = new Map<string, Query>();
  readonly #queue: Query[] = [];
  #inFlight = 0;
  #closed = false;

  constructor(options: ServiceOptions) {
    const { url, log, now, deadline = 2_000, concurrency = 16, waiting = 1_024 } = options;
    const { origin, pathname, search, username, password } = new URL(url);
    this.#pool = new Pool(origin, {
      connections: concurrency,
      connect: { timeout: deadline },
      headersTimeout: deadline,
      bodyTimeout: deadline,
    });
    this.#path = pathname + search;
    this.#headers = { 'content-type': 'application/json', accept: 'application/json' };
    if (username !== '') {
      const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
      this.#headers.authorization = `Basic ${Buffer.from(pair, 'utf8').toString('base64')}`;
    }
    this.#name = origin + pathname;
    this.#log = log;
    this.#now = now;
    this.#deadline = deadline;
    this.#concurrency = concurrency;
    this.#waiting = waiting;
    this.#ttl = options.ttl ?? 60_000;
    this.#negativeTtl = options.negativeTtl ?? 5_000;
    this.#cache = new AnswerCache(options.cached ?? 65_536);
    this.#breaker = new Breaker(
      options.failures ?? 5,
      options.firstPause ?? 1_000,
      options.longestPause ?? 30_000,
    );
  }

  algorithms(): readonly Algorithm[] {
    return ALGORITHMS;
  }

  find(user: string, realm: string, algorithm: Algorithm, done: (found: Lookup) => void): void {
    const key = `${user}\0${realm}\0${algorithm}`;
    const now = this.#now();
    const kept = this.#cache.get(key, now);
    if (kept) {
      done(kept);
      return;
    }
    const asked = this.#queries.get(key);
    if (asked) {
      asked.waiters.push(done);
      return;
    }
    const full = this.#inFlight >= this.#concurrency && this.#queue.length >= this.#waiting;
    if (this.#closed || full || !this.#breaker.admits(now)) {
      done(this.#unavailable(now));
      return;
    }
    const query = { key, user, realm, algorithm, deadline: now + this.#deadline, waiters: [done] };
    this.#queries.set(key, query);
    if (this.#inFlight < this.#concurrency) void this.#run(query);
    else this.#queue.push(query);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#refuseQueue(this.#now());
    await this.#pool.destroy();
  }

  async #run(query: Query): Promise<void> {
    this.#inFlight++;
    const result = await this.#ask(query);
    this.#inFlight--;
    const now = this.#now();
    if (typeof result === 'string') this.#failed(query, result, now);
    else {
      if (this.#breaker.succeeded())
        this.#log.info({ event: 'credential-service-back', service: this.#name });
      this.#cache.put(query.key, result.found, now + result.ttl);
      this.#settle(query, result.found);
    }
    this.#next();
  }

  #next(): void {
    while (this.#inFlight < this.#concurrency) {
      const query = this.#queue.shift();
      if (!query) return;
      const now = this.#now();
      if (now < query.deadline) void this.#run(query);
      else this.#failed(query, 'no turn within the deadline', now);
    }
  }

  #failed(query: Query, reason: string, now: number): void {
    const paused = !this.#closed && this.#breaker.failed(now);
    if (paused) {
      const pause = this.#breaker.wait(now);
      this.#log.warn({ event: 'credential-service-down', service: this.#name, reason, pause });
    }
    this.#settle(query, this.#unavailable(now));
    if (paused) this.#refuseQueue(now);
  }

  #refuseQueue(now: number): void {
    for (const query of this.#queue.splice(0)) this.#settle(query, this.#unavailable(now));
  }

  #settle(query: Query, found: Lookup): void {
    this.#queries.delete(query.key);
    for (const done of query.waiters) done(found);
  }

  #unavailable(now: number): Lookup {
    return { status: 'unavailable', retryAfter: Math.max(1, Math.ceil(this.#breaker.wait(now) / 1000)) };
  }

  /** A text says what failed; it holds nothing of the answer. */
  async #ask({ user, realm, algorithm, deadline }: Query): Promise<Answer | string> {
    try {
      const { statusCode, body } = await this.#pool.request({
        method: 'POST',
        path: this.#path,
        headers: this.#headers,
        body: JSON.stringify({ user, realm, algorithm }),
        signal: AbortSignal.timeout(Math.max(1, Math.ceil(deadline - this.#now()))),
      });
      let length = 0;
      const chunks: Buffer[] = [];
      for await (const chunk of body as AsyncIterable<Buffer>) {
        length += chunk.length;
        if (length > MAX_BODY) return 'answer too long';
        chunks.push(chunk);
      }
      if (statusCode === 404) return { found: UNKNOWN, ttl: this.#negativeTtl };
      if (statusCode !== 200) return `status ${statusCode}`;
      return this.#read(Buffer.concat(chunks).toString('utf8'), algorithm) ?? 'answer malformed';
    } catch (error) {
      const { code, name } = error as NodeJS.ErrnoException;
      return code === undefined || typeof code === 'number' ? name : code;
    }
  }

  #read(text: string, algorithm: Algorithm): Answer | undefined {
    let fields: { ha1?: unknown; aors?: unknown; ttl?: unknown } | null;
    try {
      fields = JSON.parse(text);
    } catch {
      return undefined;
    }
    const { ha1, aors = [], ttl } = fields ?? {};
    if (typeof ha1 !== 'string' || !isDigest(algorithm, ha1)) return undefined;
    const canonical = canonicalAors(aors);
    if (!canonical || (ttl !== undefined && !(typeof ttl === 'number' && ttl >= 0))) return undefined;
    return {
      found: { status: 'found', ha1, aors: canonical },
      ttl: ttl === undefined ? this.#ttl : Math.min(ttl * 1000, this.#ttl),
    };
  }
}
