/** A lane to an endpoint that refuses, loses answers, is slow or full, on a clock that the test moves. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Answer, type Batch, Lane, type LaneLimits, retryAfterMs } from '../../src/main/lane.ts';

const LIMITS: LaneLimits = {
  batchEvents: 3,
  batchChars: 1_000,
  gather: 200,
  queueEvents: 8,
  queueChars: 10_000,
  firstPause: 500,
  longestPause: 4_000,
  longestRetryAfter: 30_000,
  patience: 60_000,
};

/** Timers and time of a test; `run` goes on until nothing is left to do, or to a time. */
class Times {
  now = 1_800_000_000_000;
  #timers: { at: number; run: () => void }[] = [];

  after = (ms: number, run: () => void): (() => void) => {
    const timer = { at: this.now + ms, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  };

  async run(until = Number.POSITIVE_INFINITY): Promise<void> {
    await settled();
    for (;;) {
      const [next] = this.#timers.toSorted((a, b) => a.at - b.at);
      if (!next || next.at > until) break;
      this.now = Math.max(this.now, next.at);
      this.#timers = this.#timers.filter((timer) => timer !== next);
      next.run();
      await settled();
    }
    if (until < Number.POSITIVE_INFINITY) this.now = until;
  }
}

const settled = async () => {
  for (let i = 0; i < 6; i++) await Promise.resolve();
};

interface Outcome extends Answer {
  takes: number;
  /** the endpoint has seen it, whatever it answered */
  seen: boolean;
}
const OK: Outcome = { status: 200, takes: 10, seen: true };

function rig(outcomes: Outcome[] = [], limits: Partial<LaneLimits> = {}, random = () => 0.5) {
  const times = new Times();
  const posted: { at: number; batch: Batch }[] = [];
  const seen: string[] = [];
  const dropped: string[] = [];
  const failures: string[] = [];
  let delivered = 0;
  let underWay = 0;
  let most = 0;
  const lane = new Lane({
    limits: { ...LIMITS, ...limits },
    now: () => times.now,
    after: times.after,
    random,
    post(batch) {
      posted.push({ at: times.now, batch });
      most = Math.max(most, ++underWay);
      const outcome = outcomes.shift() ?? OK;
      const { events } = JSON.parse(batch.body) as { events: string[] };
      expect(events).toHaveLength(batch.count);
      if (outcome.seen) for (const event of events) if (!seen.includes(event)) seen.push(event);
      return new Promise((resolve) => {
        times.after(outcome.takes, () => {
          underWay--;
          resolve(outcome);
        });
      });
    },
    delivered: (count) => {
      delivered += count;
    },
    failed: (why) => failures.push(why),
    dropped: (count, why) => dropped.push(...new Array<string>(count).fill(why)),
  });
  let pushed = 0;
  const push = (count = 1) => {
    for (let i = 0; i < count; i++) {
      const id = `e${pushed++}`;
      lane.push({ id, text: JSON.stringify(id) });
    }
  };
  return {
    lane,
    times,
    push,
    posted,
    seen,
    dropped,
    failures,
    delivered: () => delivered,
    pushed: () => pushed,
    most: () => most,
    waits: () => posted.slice(1).map(({ at }, i) => at - posted[i].at),
  };
}

describe('a lane', () => {
  it('sends events that come together in one request, and at once when there are enough', async () => {
    const { push, times, posted } = rig();
    const began = times.now;
    push(2);
    await times.run(began + 199);
    expect(posted).toEqual([]);
    await times.run();
    push(3);
    expect(posted.map(({ at, batch }) => [at - began, batch.count])).toEqual([
      [200, 2],
      [210, 3],
    ]);
  });

  it.each([0, 408, 425, 429, 500, 503])(
    'sends the same request again after %i, later and later',
    async (status) => {
      const { push, times, posted, failures, delivered, waits } = rig(
        new Array<Outcome>(6).fill({ status, takes: 0, seen: false }),
      );
      push(2);
      await times.run();
      // three quarters of a pause that doubles up to the longest
      expect(waits()).toEqual([375, 750, 1_500, 3_000, 3_000, 3_000]);
      expect(new Set(posted.map(({ batch }) => `${batch.id} ${batch.body}`)).size).toBe(1);
      expect(failures).toHaveLength(6);
      expect(delivered()).toBe(2);
    },
  );

  it('spreads its attempts by chance between half of a pause and all of it', async () => {
    for (const [chance, wait] of [
      [0, 250],
      [0.999, 500],
    ]) {
      const { push, times, waits } = rig([{ status: 500, takes: 0, seen: false }], {}, () => chance);
      push();
      await times.run();
      expect(Math.round(waits()[0])).toBe(wait);
    }
  });

  it.each([
    ['2', 2_000],
    ['0', 375],
    ['86400', 30_000],
    ['soon', 375],
    ['Fri, 15 Jan 2027 08:00:05 GMT', 4_800],
  ])('waits as Retry-After: %s says, within bounds', async (retryAfter, wait) => {
    const { push, times, waits } = rig([{ status: 429, retryAfter, takes: 0, seen: false }]);
    push();
    await times.run();
    expect(waits()).toEqual([wait]);
  });

  it.each([301, 400, 401, 404, 410, 413])('drops what is answered %i, and goes on', async (status) => {
    const { push, times, dropped, delivered, failures } = rig([{ status, takes: 0, seen: false }]);
    push(5);
    await times.run();
    expect(dropped).toEqual(new Array(3).fill(`status ${status}`));
    expect([delivered(), failures.length]).toEqual([2, 0]);
  });

  it('gives a request up that is refused for too long, and goes on with the next', async () => {
    const { push, times, dropped, delivered } = rig(
      new Array<Outcome>(24).fill({ status: 500, takes: 0, seen: false }),
    );
    push(5);
    await times.run();
    expect(dropped).toEqual(new Array(3).fill('gave up'));
    expect(delivered()).toBe(2);
  });

  it('drops the oldest when it is full, of events or of characters, not what is under way', async () => {
    for (const limits of [{ queueEvents: 4 }, { queueChars: 4 * '"e10"'.length - 3 }]) {
      const { push, times, seen, dropped, lane } = rig([{ status: 200, takes: 1_000, seen: true }], limits);
      push(3);
      push(7);
      expect(lane.size).toBe(3 + 4);
      await times.run();
      expect(seen).toEqual(['e0', 'e1', 'e2', 'e6', 'e7', 'e8', 'e9']);
      expect(dropped).toEqual(new Array(3).fill('queue-full'));
    }
  });

  it('at its close sends what waits without a pause, and ends at the first that fails', async () => {
    const good = rig([{ status: 503, takes: 0, seen: false }]);
    good.push(8);
    await good.times.run(good.times.now + 10);
    const began = good.times.now;
    let ended = false;
    void good.lane.close().then(() => {
      ended = true;
    });
    await good.times.run();
    expect([ended, good.delivered(), good.times.now - began]).toEqual([true, 8, 30]);

    const bad = rig(new Array<Outcome>(9).fill({ status: 503, takes: 0, seen: false }));
    bad.push(8);
    await bad.times.run(bad.times.now + 10);
    await Promise.all([bad.lane.close(), bad.times.run()]);
    bad.lane.abandon();
    expect(bad.posted).toHaveLength(2);
    bad.push();
    expect(bad.dropped).toEqual(new Array(9).fill('stopped'));
    expect(bad.lane.size).toBe(0);
    await rig().lane.close();
  });

  it('keeps the order, one request at a time, and loses only what it says it dropped, whatever the endpoint does', async () => {
    const outcome = fc.record({
      status: fc.constantFrom(200, 204, 200, 500, 429, 0, 404),
      retryAfter: fc.option(fc.constantFrom('1', '7', 'x'), { nil: undefined }),
      takes: fc.nat(3_000),
      seen: fc.boolean(),
    });
    const burst = fc.record({ count: fc.integer({ min: 1, max: 6 }), pause: fc.nat(4_000) });
    await fc.assert(
      fc.asyncProperty(
        fc.array(outcome, { maxLength: 30 }),
        fc.array(burst, { maxLength: 12 }),
        async (outcomes, bursts) => {
          const r = rig(outcomes.map((o) => (o.status >= 200 && o.status < 300 ? { ...o, seen: true } : o)));
          for (const { count, pause } of bursts) {
            r.push(count);
            expect(r.lane.size).toBeLessThanOrEqual(LIMITS.queueEvents + LIMITS.batchEvents);
            await r.times.run(r.times.now + pause);
          }
          await r.times.run();
          expect(r.lane.size).toBe(0);
          expect(r.most()).toBeLessThanOrEqual(1);
          expect(r.delivered() + r.dropped.length).toBe(r.pushed());
          expect(r.seen.length).toBeGreaterThanOrEqual(r.delivered());
          const order = r.seen.map((id) => Number(id.slice(1)));
          expect(order).toEqual(order.toSorted((a, b) => a - b));
          const bodies = new Map(r.posted.map(({ batch }) => [batch.id, batch.body]));
          for (const { batch } of r.posted) expect(bodies.get(batch.id)).toBe(batch.body);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('Retry-After', () => {
  it('is seconds or a date, and nothing else', () => {
    const now = Date.parse('2026-11-24T08:00:00Z');
    expect(
      ['120', 'Tue, 24 Nov 2026 08:00:30 GMT', 'Tue, 24 Nov 2026 07:00:00 GMT', '-1', ''].map((v) =>
        retryAfterMs(v, now),
      ),
    ).toEqual([120_000, 30_000, 0, 0, 0]);
    expect(retryAfterMs(undefined, now)).toBe(0);
  });
});
