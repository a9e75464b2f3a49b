/** What bench:agents calls a breach of RFC 5626 4.4 and 4.5: each rule, by made-up times that keep and that break it. */
import { describe, expect, it } from 'vitest';
import { busiestSecond, evenDistance, histogram, quantile, uneven } from '../../bench/load/figures.ts';
import { keepAlivesOf, recoveryOf, type Step } from '../../bench/load/history.ts';
import { judgeHold, judgeOthers, judgeRecovery } from '../../bench/load/verdict.ts';

const KILLED = 100_000;
const RULES = { base: 30, most: 1800, late: 1000 };

/** Pairs of a word and a time. */
const steps = (...list: [Step['what'], number][]): Step[] => list.map(([what, at]) => ({ what, at }));

/** Registered, proven or not, lost at the kill; then failures with these waits in seconds before each new attempt. */
function flow(waits: number[], { proven = true, back = true } = {}): Step[] {
  const history = steps(['attempt', 0], ['registered', 5]);
  if (proven) history.push(...steps(['ping', 20_000], ['pong', 20_001]));
  history.push({ what: 'lost', at: KILLED });
  let at = KILLED + 1;
  if (proven) history.push(...steps(['attempt', at], ['failed', at + 1]));
  at = history[history.length - 1].at;
  waits.forEach((wait, i) => {
    at += wait * 1000;
    history.push({ what: 'attempt', at });
    if (i < waits.length - 1 || !back) history.push({ what: 'failed', at });
    else history.push({ what: 'registered', at: at + 3 });
  });
  return history;
}

/** `count` flows whose waits after one failure lie evenly in the window of 4.5. */
const evenFlows = (count: number): Step[][] =>
  Array.from({ length: count }, (_, i) => flow([30 + (30 * (i + 0.5)) / count]));

const verdictOf = (flows: Step[][], rules = RULES) => judgeRecovery(flows, KILLED, rules).failed;

describe('attempts after an edge has gone', () => {
  it('hold where the waits lie evenly between half of W and W', () => {
    const { failed, figures } = judgeRecovery(evenFlows(300), KILLED, RULES);
    expect(failed).toEqual([]);
    expect([figures.flows, figures.failures, figures.atOnceMost]).toEqual([300, 300, 1]);
    expect(figures.first).toBeGreaterThan(30_000);
    expect(figures.last).toBeLessThan(60_010);
    expect(figures.busiestSecond).toBeGreaterThanOrEqual(10);
    expect(figures.busiestSecond).toBeLessThanOrEqual(11);
  });

  it.each<[string, number[], object, number, number]>([
    ['after one failure', [29.9], {}, 1, 0],
    ['after one failure', [61.1], {}, 0, 1],
    ['after one failure, in its window', [30], {}, 0, 0],
    ['after two failures', [45, 59.9], {}, 1, 0],
    ['after two failures', [45, 121.1], {}, 0, 1],
    ['after two failures, in its window', [45, 119], {}, 0, 0],
    ['after a flow that had not proved itself', [0.5], { proven: false }, 1, 0],
    ['after a flow that had not proved itself, in its window', [31], { proven: false }, 0, 0],
  ])('%s, with waits of %j s, are told by their bounds', (_, waits, options, early, late) => {
    const got = recoveryOf(flow(waits, options), KILLED, RULES);
    expect([got.early.length, got.late.length]).toEqual([early, late]);
  });

  it('have no longer window than max-time', () => {
    const rules = { base: 30, most: 100, late: 1000 };
    expect(recoveryOf(flow([45, 101]), KILLED, rules).late).toEqual([]);
    expect(recoveryOf(flow([45, 102]), KILLED, rules).late).toEqual([2000]);
    expect(recoveryOf(flow([45, 49]), KILLED, rules).early).toEqual([1000]);
  });

  it('begin anew with their counter when the flow has proved itself', () => {
    const twice = [...flow([45]), ...steps(['ping', 160_000], ['pong', 160_001], ['lost', 170_000])];
    const got = recoveryOf([...twice, ...steps(['attempt', 170_002])], KILLED, RULES);
    expect(got.atOnce).toEqual([1, 2]);
    expect(got.early).toEqual([]);
    const unproven = [...flow([45]), ...steps(['lost', 170_000], ['attempt', 170_002])];
    expect(recoveryOf(unproven, KILLED, RULES).early).toHaveLength(1);
  });

  it('are each told: too early, too late, without reason, and those that never come', () => {
    const flows = evenFlows(20);
    flows[0] = flow([10]);
    flows[1] = flow([70]);
    flows[2] = [...flow([40]), { what: 'attempt', at: KILLED + 90_000 }];
    flows[3] = flow([40], { back: false });
    flows[4] = steps(['attempt', 0], ['registered', 5]);
    expect(verdictOf(flows)).toEqual([
      '1 flows over the killed edge were never given up',
      '1 flows did not come back',
      '1 attempts that nothing called for',
      '1 attempts before half of W, the worst by 20000 ms',
      '1 attempts after W, the worst by 10000 ms',
    ]);
  });

  it('that all come at one time, or in one half of the window, are no spread', () => {
    const herd = Array.from({ length: 300 }, () => flow([45]));
    expect(verdictOf(herd)).toEqual([
      expect.stringMatching(/^waits are not spread over 50 to 100 % of W/),
      '300 registrations in one second, an even spread has 10',
    ]);
    const half = Array.from({ length: 300 }, (_, i) => flow([30 + (15 * i) / 300]));
    expect(verdictOf(half)).toEqual([expect.stringMatching(/^waits are not spread/)]);
  });

  it('of the other edge are none', () => {
    const kept = steps(['attempt', 0], ['registered', 5], ['ping', 17_000], ['pong', 17_001]);
    expect(judgeOthers([kept, kept], KILLED)).toEqual([]);
    expect(judgeOthers([kept, [...kept, { what: 'lost', at: KILLED + 1 }]], KILLED)).toEqual([
      '1 flows over the other edge were lost',
    ]);
  });
});

describe('keep-alives', () => {
  const UNTIL = 60_000;
  const HOLD = { flowTimer: 20, late: 1000 };
  /** pinged after each of these seconds, and answered */
  const pinged = (intervals: number[], answered = true): Step[] => {
    let at = 10;
    const history = steps(['attempt', 0], ['registered', at]);
    for (const interval of intervals) {
      at += interval * 1000;
      history.push({ what: 'ping', at });
      if (answered) history.push({ what: 'pong', at: at + 2 });
    }
    return history;
  };

  it('hold between 80 and 100 per cent of Flow-Timer, each answered', () => {
    const flows = Array.from({ length: 200 }, (_, i) => pinged([16 + (4 * i) / 200]));
    const { failed, figures } = judgeHold(flows, UNTIL, HOLD);
    expect(failed).toEqual([]);
    expect([figures.pings, figures.answered, figures.tripMedian]).toEqual([200, 200, 2]);
    expect(figures.intervals[100]).toBeCloseTo(18);
  });

  it('are each told: before 80 per cent, after Flow-Timer, without an answer, never, and on a flow that was lost', () => {
    const flows = [
      pinged([15.9]),
      pinged([18, 21.1]),
      pinged([17], false),
      pinged([]),
      [...pinged([18]), ...steps(['lost', 30_000])],
    ];
    expect(judgeHold(flows, UNTIL, HOLD).failed).toEqual([
      '1 flows were lost while both edges ran',
      '1 flows sent no keep-alive',
      '1 flows had no answer to a keep-alive',
      '1 keep-alives before 80 % of Flow-Timer, the worst by 100 ms',
      '1 keep-alives after Flow-Timer, the worst by 1100 ms',
    ]);
  });

  it('of one interval for all are no spread', () => {
    const flows = Array.from({ length: 200 }, () => pinged([18]));
    expect(judgeHold(flows, UNTIL, HOLD).failed).toEqual([
      expect.stringMatching(/^intervals of keep-alives are not spread/),
    ]);
  });

  it('that are sent again, as STUN does, count once', () => {
    const again = steps(['registered', 0], ['ping', 17_000], ['ping', 17_500], ['pong', 17_510]);
    const { pings, intervals, trips } = keepAlivesOf(again, 20, 1000);
    expect([pings, intervals, trips]).toEqual([1, [0.85], [510]]);
  });
});

describe('figures', () => {
  it('measure the distance from an even spread', () => {
    expect(evenDistance([0.5])).toBe(0.5);
    expect(evenDistance([0.125, 0.375, 0.625, 0.875])).toBe(0.125);
    expect(evenDistance([0, 0, 0, 0])).toBe(1);
    expect(uneven(Array(99).fill(0), 30_000)).toBeUndefined();
    expect(uneven(Array(100).fill(0), 30_000)).toMatch(/^1\.000 from an even spread/);
  });

  it('find the busiest second wherever it begins', () => {
    expect(busiestSecond([])).toBe(0);
    expect(busiestSecond([3500, 0, 900, 1100, 1899, 1900])).toBe(3);
    expect(busiestSecond([0, 1000])).toBe(1);
  });

  it('give quantiles, and a histogram that counts each value once', () => {
    expect([quantile([5, 1, 3], 0.5), quantile([5, 1, 3], 1), quantile([], 0.5)]).toEqual([3, 5, Number.NaN]);
    expect(histogram([1000, 1100, 2900, 5000], 4)).toEqual([
      `1 s 2 ${'#'.repeat(50)}`,
      `2 s 1 ${'#'.repeat(25)}`,
      '3 s 0',
      '4 s 0',
      `5 s 1 ${'#'.repeat(25)}`,
    ]);
    expect(histogram([], 4)).toEqual(['(none)']);
    const many = Array.from({ length: 1000 }, (_, i) => 30_000 + 30 * i);
    const counted = histogram(many).map((line) => Number(line.split(/\s+/).filter(Boolean)[2]));
    expect(counted.reduce((a, b) => a + b)).toBe(1000);
  });
});
