/**
 * A queue of events on its way to one HTTP endpoint, a batch at a time.
 *
 * Events leave in the order in which they came: the next batch is made when the one before is settled. A batch is
 * made when there are so many events, or the first has waited for so long; it keeps its octets and its id however
 * often it is sent. 2xx settles it. 408, 425, 429, 5xx and no answer: it is sent again after a pause that doubles,
 * with jitter, or as Retry-After says, but not for ever. Anything else: the endpoint does not want it, it is
 * dropped. When the queue is full its oldest event is dropped; the batch in hand stays.
 *
 * So an event arrives once or more often, if it is not dropped; a receiver that knows the ids sees it once, and
 * the order holds for what it has not seen. Time, timers and randomness come in.
 */
import { hash } from 'node:crypto';

export interface Batch {
  /** the same each time it is sent */
  id: string;
  body: string;
  count: number;
}

/** `status` 0: no answer, for the reason in `why`. */
export interface Answer {
  status: number;
  why?: string;
  /** the header */
  retryAfter?: string | undefined;
}

export interface Pending {
  id: string;
  /** JSON */
  text: string;
}

export interface LaneLimits {
  /** events and characters of a batch */
  batchEvents: number;
  batchChars: number;
  /** milliseconds that an event may wait for others */
  gather: number;
  /** events and characters that wait */
  queueEvents: number;
  queueChars: number;
  /** milliseconds: first pause, longest pause, longest pause that Retry-After may ask for */
  firstPause: number;
  longestPause: number;
  longestRetryAfter: number;
  /** milliseconds after which a batch is dropped that is refused again and again */
  patience: number;
}

export interface LaneParts {
  limits: LaneLimits;
  /** never rejects */
  post: (batch: Batch) => Promise<Answer>;
  /** unix milliseconds */
  now: () => number;
  /** calls once after so many ms; the function that it returns calls it off */
  after: (ms: number, run: () => void) => () => void;
  /** [0, 1) */
  random: () => number;
  delivered: (count: number) => void;
  /** the batch was not taken, and will be sent again */
  failed: (why: string) => void;
  dropped: (count: number, why: string) => void;
}

export class Lane {
  readonly #p: LaneParts;
  #queue: Pending[] = [];
  #chars = 0;
  #batch: (Batch & { since: number; attempts: number }) | undefined;
  #callOff: (() => void) | undefined;
  /** the batch is under way */
  #asking = false;
  #closing: (() => void) | undefined;
  #closed = false;

  constructor(parts: LaneParts) {
    this.#p = parts;
  }

  /** Events that are not settled. */
  get size(): number {
    return this.#queue.length + (this.#batch?.count ?? 0);
  }

  push(event: Pending): void {
    const { limits, after, dropped } = this.#p;
    if (this.#closed) {
      dropped(1, 'stopped');
      return;
    }
    this.#queue.push(event);
    this.#chars += event.text.length;
    while (this.#queue.length > limits.queueEvents || this.#chars > limits.queueChars) {
      this.#chars -= this.#queue.shift()?.text.length ?? 0;
      dropped(1, 'queue-full');
    }
    if (this.#batch || this.#queue.length === 0) return;
    if (this.#queue.length >= limits.batchEvents || this.#chars >= limits.batchChars) this.#next();
    else this.#callOff ??= after(limits.gather, () => this.#next());
  }

  /** Sends what waits, once, without further pauses. Resolved when nothing is left or an attempt failed. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#closing = resolve;
      if (!this.#asking) this.#again();
    });
  }

  /** Drops what is left. */
  abandon(): void {
    this.#closed = true;
    this.#rest();
    const left = this.size;
    this.#queue = [];
    this.#batch = undefined;
    if (left > 0) this.#p.dropped(left, 'stopped');
  }

  #rest(): void {
    this.#callOff?.();
    this.#callOff = undefined;
  }

  #again(): void {
    this.#rest();
    if (this.#batch) void this.#send();
    else this.#next();
  }

  /** Makes a batch of what waits. */
  #next(): void {
    this.#rest();
    const { limits, now } = this.#p;
    if (this.#queue.length === 0) {
      this.#closing?.();
      return;
    }
    let count = 0;
    let chars = 0;
    for (const { text } of this.#queue) {
      if (count > 0 && (count >= limits.batchEvents || chars + text.length > limits.batchChars)) break;
      count++;
      chars += text.length;
    }
    const events = this.#queue.splice(0, count);
    this.#chars -= chars;
    const id = hash('sha1', events.map((event) => event.id).join('\n'), 'base64url');
    const body = `{"events":[${events.map(({ text }) => text).join(',')}]}`;
    this.#batch = { id, body, count, since: now(), attempts: 0 };
    void this.#send();
  }

  async #send(): Promise<void> {
    const batch = this.#batch;
    if (!batch) return;
    this.#asking = true;
    const answer = await this.#p.post(batch);
    this.#asking = false;
    if (this.#closed) return;
    batch.attempts++;
    const { status, why } = answer;
    if (status >= 200 && status < 300) this.#p.delivered(batch.count);
    else if (!isPassing(status)) this.#p.dropped(batch.count, `status ${status}`);
    else if (this.#p.now() - batch.since >= this.#p.limits.patience) this.#p.dropped(batch.count, 'gave up');
    else {
      this.#p.failed(status === 0 ? (why ?? 'no answer') : `status ${status}`);
      this.#pause(batch.attempts, answer);
      return;
    }
    this.#batch = undefined;
    this.#next();
  }

  #pause(attempts: number, { retryAfter }: Answer): void {
    if (this.#closing) {
      this.#closing();
      return;
    }
    const { limits, now, after, random } = this.#p;
    const longest = Math.min(limits.longestPause, limits.firstPause * 2 ** (attempts - 1));
    const asked = Math.min(limits.longestRetryAfter, retryAfterMs(retryAfter, now()));
    const pause = Math.max(longest / 2 + random() * (longest / 2), asked);
    this.#callOff = after(pause, () => this.#again());
  }
}

/** May the same request be good at another time? */
const isPassing = (status: number): boolean =>
  status === 0 || status === 408 || status === 425 || status === 429 || status >= 500;

/** RFC 9110 10.2.3: seconds, or a date. 0 for anything else. */
export function retryAfterMs(value: string | undefined, now: number): number {
  if (value === undefined) return 0;
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? 0 : Math.max(0, date - now);
}
