/**
 * Events of the registrar as HTTP requests to an endpoint of the operator:
 *
 *   POST <HOLDFAST_EVENTS_URL>                 content-type: application/json
 *   {"events":[{"id":"...","type":"register","at":1800000000000,"aor":"sip:dora@example.net",...},...]}
 *     idempotency-key: "<id of the batch, the same when it is sent again>"
 *     authorization: Bearer ... or Basic ...   where there is a token, or credentials in the URL
 *     holdfast-signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "t.body">   where there is a secret
 *
 * Events of one address-of-record take one of a few lanes (lane.ts), so they arrive in their order; lanes are
 * independent. Each has one request under way. What waits is bounded in events and characters, so an endpoint that
 * is away costs memory up to that and never holds up the registrar. Nothing is on disk: what has not been
 * delivered when the process ends is lost, after a clean stop has tried for five seconds.
 */
import { createHmac } from 'node:crypto';
import { Pool } from 'undici';
import type { WebhookConfig } from '../config/config.ts';
import type { Logger } from '../observe/log.ts';
import type { BindingEvent } from '../registrar/events.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { type Answer, type Batch, Lane, type LaneLimits } from './lane.ts';

export interface WebhookOptions {
  config: WebhookConfig;
  log: Logger;
  counters: Counters;
  limits?: Partial<LaneLimits>;
  /** ms until a request is given up */
  deadline?: number;
  now?: () => number;
  after?: (ms: number, run: () => void) => () => void;
  random?: () => number;
}

const LANES = 4;
const DEADLINE_MS = 10_000;
const FLUSH_MS = 5_000;
/** from one line about dropped events to the next */
const QUIET_MS = 10_000;
/** An endpoint that is away costs four times 8 Mi characters; an hour, since a request may be all that is in the way. */
const LIMITS: LaneLimits = {
  batchEvents: 100,
  batchChars: 256 * 1024,
  gather: 200,
  queueEvents: 16_384,
  queueChars: 8 * 1024 * 1024,
  firstPause: 500,
  longestPause: 60_000,
  longestRetryAfter: 300_000,
  patience: 3_600_000,
};

export class Webhooks {
  readonly #types: ReadonlySet<string>;
  readonly #lanes: Lane[];
  /** lanes whose batch was refused last */
  readonly #failing = new Set<number>();
  readonly #client: Client;
  readonly #log: Logger;
  readonly #counters: Counters;
  readonly #after: (ms: number, run: () => void) => () => void;
  /** since the last line about it */
  #dropped = 0;
  /** calls off the time in which no line is written */
  #quiet: (() => void) | undefined;

  constructor(options: WebhookOptions) {
    const { config, log, counters, now = Date.now, after = later, random = Math.random } = options;
    this.#types = new Set(config.types);
    this.#log = log;
    this.#counters = counters;
    this.#after = after;
    this.#client = new Client(config, options.deadline ?? DEADLINE_MS, now);
    const post = (batch: Batch) => this.#client.post(batch);
    const limits = { ...LIMITS, ...options.limits };
    this.#lanes = Array.from({ length: LANES }, (_, lane) => {
      const delivered = (count: number) => {
        this.#counters.add(Counter.eventsDelivered, count);
        this.#works(lane);
      };
      const failed = (why: string) => this.#fails(lane, why);
      const dropped = (count: number, why: string) => this.#drop(count, why);
      return new Lane({ limits, post, now, after, random, delivered, failed, dropped });
    });
  }

  push(events: readonly BindingEvent[]): void {
    for (const event of events) {
      if (!this.#types.has(event.type)) continue;
      this.#lanes[laneOf(event.aor)].push({ id: event.id, text: JSON.stringify(event) });
    }
  }

  /** Events that are not settled. */
  get waiting(): number {
    return this.#lanes.reduce((sum, lane) => sum + lane.size, 0);
  }

  /** Tries to deliver what is left, for five seconds at most. */
  async close(): Promise<void> {
    let callOff = () => {};
    const late = new Promise<void>((resolve) => {
      callOff = this.#after(FLUSH_MS, resolve);
    });
    await Promise.race([Promise.all(this.#lanes.map((lane) => lane.close())), late]);
    callOff();
    this.#quiet?.();
    this.#quiet = () => {}; // one line for what all lanes drop
    for (const lane of this.#lanes) lane.abandon();
    this.#sayDropped('stopped');
    await this.#client.close();
  }

  #works(lane: number): void {
    if (this.#failing.delete(lane) && this.#failing.size === 0)
      this.#log.info({ event: 'webhook-back', url: this.#client.name });
  }

  #fails(lane: number, why: string): void {
    this.#counters.inc(Counter.webhookFailures);
    if (this.#failing.size === 0)
      this.#log.warn({ event: 'webhook-away', url: this.#client.name, error: why });
    this.#failing.add(lane);
  }

  #drop(count: number, why: string): void {
    this.#counters.add(Counter.eventsDropped, count);
    this.#dropped += count;
    if (this.#quiet) return;
    this.#sayDropped(why);
    this.#quiet = this.#after(QUIET_MS, () => {
      this.#quiet = undefined;
      this.#sayDropped(why);
    });
  }

  #sayDropped(why: string): void {
    if (this.#dropped > 0) this.#log.warn({ event: 'events-dropped', events: this.#dropped, why });
    this.#dropped = 0;
  }
}

/** FNV-1a: no secret in it, and who picks addresses for one lane slows down his own. */
function laneOf(aor: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < aor.length; i++) h = Math.imul(h ^ aor.charCodeAt(i), 0x01000193);
  return (h >>> 0) % LANES;
}

function later(ms: number, run: () => void): () => void {
  const timer = setTimeout(run, ms);
  return () => clearTimeout(timer);
}

/** The requests themselves. */
class Client {
  readonly #pool: Pool;
  readonly #path: string;
  readonly #headers: Record<string, string>;
  readonly #secret: string | undefined;
  readonly #deadline: number;
  readonly #now: () => number;
  /** for the log: without query, which may hold a token */
  readonly name: string;

  constructor({ url, authorization, secret }: WebhookConfig, deadline: number, now: () => number) {
    const { origin, pathname, search } = new URL(url);
    this.#pool = new Pool(origin, {
      connections: LANES,
      connect: { timeout: deadline },
      headersTimeout: deadline,
      bodyTimeout: deadline,
    });
    this.#path = pathname + search;
    this.#headers = { 'content-type': 'application/json', 'user-agent': 'holdfast' };
    if (authorization !== undefined) this.#headers.authorization = authorization;
    this.#secret = secret;
    this.#deadline = deadline;
    this.#now = now;
    this.name = origin + pathname;
  }

  async post({ id, body }: Batch): Promise<Answer> {
    const headers: Record<string, string> = { ...this.#headers, 'idempotency-key': `"${id}"` };
    if (this.#secret !== undefined)
      headers['holdfast-signature'] = signature(this.#secret, body, Math.floor(this.#now() / 1000));
    try {
      const response = await this.#pool.request({
        method: 'POST',
        path: this.#path,
        headers,
        body,
        signal: AbortSignal.timeout(this.#deadline),
      });
      await response.body.dump();
      const retryAfter = response.headers['retry-after'];
      return {
        status: response.statusCode,
        retryAfter: Array.isArray(retryAfter) ? retryAfter[0] : retryAfter,
      };
    } catch (error) {
      const { code, name } = error as NodeJS.ErrnoException;
      return { status: 0, why: code === undefined || typeof code === 'number' ? name : code };
    }
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }
}

/** Over the time too, so that a request cannot be used again long after. */
export function signature(secret: string, body: string, seconds: number): string {
  const mac = createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex');
  return `t=${seconds},v1=${mac}`;
}
