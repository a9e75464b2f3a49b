/** What a measurement's figures are made with: the histogram, the table of what is in flight, options, the picture. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CELLS, loadOf, nameOf, QUICK } from '../../bench/load/cells.ts';
import { comparison, median, rowOf } from '../../bench/load/comparison.ts';
import { Histogram } from '../../bench/load/histogram.ts';
import type { Result } from '../../bench/load/measure.ts';
import { type Load, OptionError, parse } from '../../bench/load/options.ts';
import { picture, roundUp } from '../../bench/load/picture.ts';
import { Timeline } from '../../bench/load/timeline.ts';
import { Transactions } from '../../bench/load/transactions.ts';

/** of every size, from one microsecond to half an hour */
const latency = fc.oneof(fc.integer({ min: 0, max: 100 }), fc.double({ min: 0, max: 2e9, noNaN: true }));

describe('a histogram of latencies', () => {
  const of = (values: number[]): Histogram => {
    const histogram = new Histogram();
    for (const us of values) histogram.record(us);
    return histogram;
  };

  it('gives each percentile as the sample of that rank, at most 1/32 above it', () => {
    fc.assert(
      fc.property(
        fc.array(latency, { minLength: 1, maxLength: 300 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (values, fraction) => {
          const sorted = values.map(Math.ceil).toSorted((a, b) => a - b);
          const exact = sorted[Math.max(1, Math.ceil(fraction * sorted.length)) - 1];
          const got = of(values).percentile(fraction);
          expect(got).toBeGreaterThanOrEqual(exact);
          expect(got).toBeLessThanOrEqual(exact * (1 + 1 / 32));
        },
      ),
    );
  });

  it('counts every sample once, in buckets that rise, and its greatest one exactly', () => {
    fc.assert(
      fc.property(fc.array(latency, { minLength: 1, maxLength: 300 }), (values) => {
        const histogram = of(values);
        const buckets = histogram.buckets();
        expect(buckets.reduce((sum, [, n]) => sum + n, 0)).toBe(values.length);
        expect(buckets.map(([top]) => top)).toEqual(buckets.map(([top]) => top).toSorted((a, b) => a - b));
        expect(histogram.max).toBe(Math.max(...values.map(Math.ceil)));
        expect(histogram.percentile(1)).toBe(histogram.max);
      }),
    );
  });

  it('joined out of parts is the one of all samples', () => {
    fc.assert(
      fc.property(fc.array(latency), fc.array(latency), (some, others) => {
        const joined = of(some);
        joined.add(of(others));
        const whole = of([...some, ...others]);
        expect(joined.buckets()).toEqual(whole.buckets());
        expect([joined.count, joined.max]).toEqual([whole.count, whole.max]);
      }),
    );
  });

  it('without samples is 0', () => {
    const empty = new Histogram();
    expect([empty.percentile(0.5), empty.max, empty.mean, empty.count]).toEqual([0, 0, 0, 0]);
  });
});

describe('transactions in flight', () => {
  it('end once each, on their own flow, whatever the order', () => {
    const commands = fc.array(fc.tuple(fc.boolean(), fc.nat(20), fc.nat(1000)), { maxLength: 200 });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 16 }), commands, (slots, all) => {
        const transactions = new Transactions(slots);
        const open = new Map<number, { flow: number; at: number }>();
        const ended: number[] = [];
        for (const [begins, flow, at] of all) {
          if (begins) {
            const number = transactions.begin(flow, at);
            if (open.size === transactions.slots) expect(number).toBe(-1);
            else open.set(number, { flow, at });
          } else {
            for (const number of ended) expect(transactions.end(number, flow)).toBe(-1);
            const [next] = open;
            if (!next) continue;
            const [number, { flow: of, at: begun }] = next;
            expect(transactions.end(number, of + 1)).toBe(-1);
            expect(transactions.end(number, of)).toBe(begun);
            open.delete(number);
            ended.push(number);
          }
          expect(transactions.inFlight).toBe(open.size);
        }
      }),
    );
  });

  it('that are too old end, and their flows are told', () => {
    const transactions = new Transactions(4);
    const kept = transactions.begin(7, 200);
    const old = transactions.begin(5, 100);
    const told: number[] = [];
    transactions.expire(150, (flow) => told.push(flow));
    expect(told).toEqual([5]);
    expect(transactions.end(old, 5)).toBe(-1);
    expect(transactions.end(kept, 7)).toBe(200);
  });
});

describe('options', () => {
  const parsed = (...args: string[]) => parse(args, {}, 20_000) as Load;

  it.each([
    [['--mode', 'flood'], '--mode flood: one of register'],
    [['--transport', 'sctp'], '--transport sctp: one of udp'],
    [['--flows', '0'], '--flows 0: a whole number of 1 to 4194304'],
    [['--flows', '20000', '--transport', 'tcp'], '--flows 20000: a whole number of 1 to 19900'],
    [['--rate', 'fast'], '--rate fast: a number of 0'],
    [['--target', 'example.net:5060', '--core-address', '127.0.0.1:5070'], 'an IPv4 address and a port'],
    [['--target', '127.0.0.1:5060'], '--target needs --core-address'],
    [['--flow', '3'], "'--flow'"],
  ])('%j are refused by name', (args, message) => {
    expect(() => parsed(...args)).toThrow(OptionError);
    expect(() => parsed(...args)).toThrow(message);
  });

  it('take the forwarding of the environment, and more flows over UDP than there are descriptors', () => {
    expect(parse([], { HOLDFAST_FORWARDING: 'stateless' }, 100)).toMatchObject({ forwarding: 'stateless' });
    expect(parsed('--flows', '1000000')).toMatchObject({ flows: 1_000_000, forwarding: 'stateful' });
  });
});

const zero = { begun: 0, answered: 0, failed: 0, lost: 0, closed: 0, unsent: 0, misrouted: 0, stray: 0 };

function result(us: number, timeline = new Timeline(1000)): Result {
  const histogram = timeline.total();
  return {
    server: 'A & B',
    load: parse([], {}, 20_000) as Load,
    transactions: histogram.count,
    seconds: 1,
    rate: histogram.count,
    tally: zero,
    errors: 0,
    alive: 1,
    latency: { p50: 1, p90: 1, p99: 1, p999: 1, max: 1, mean: 1 },
    cpu: { usPerTransaction: us, user: 0, system: 0, share: 1, threads: {} },
    held: undefined,
    memory: { before: 1, flows: 2, after: 2, perFlow: us * 10 },
    generator: 0.5,
    timeline: timeline.points(),
    histogram: histogram.buckets(),
    machine: { cpu: '', cpus: 2, platform: '', node: '', date: '' },
    loadBefore: [0, 0, 0],
  };
}

/** Throws where an element is not closed, or an attribute is no number where it must be one. */
function checkSvg(text: string): number {
  const open: string[] = [];
  let elements = 0;
  for (const [tag, closing, name, , empty] of text.matchAll(
    /<(\/?)([a-z]+)((?: [\w:-]+="[^"<>]*")*)(\/?)>/g,
  )) {
    elements++;
    if (closing) expect(open.pop(), tag).toBe(name);
    else if (!empty) open.push(name);
  }
  expect(open).toEqual([]);
  // what is no tag is text, and has no bare mark of one
  const rest = text.replace(/<\/?[a-z]+(?: [\w:-]+="[^"<>]*")*\/?>/g, '');
  expect(rest).not.toMatch(/[<>]|&(?!amp;|lt;|gt;|quot;)/);
  expect(text).not.toMatch(/NaN|Infinity|undefined/);
  return elements;
}

describe('the picture', () => {
  it('is well-formed for any course of a measurement, and for none', () => {
    const events = fc.array(fc.tuple(fc.integer({ min: 0, max: 1000 }), latency), { maxLength: 200 });
    fc.assert(
      fc.property(events, fc.string(), (all, title) => {
        const timeline = new Timeline(1000);
        timeline.begin(0);
        for (const [at, us] of all) timeline.record(at, us);
        expect(checkSvg(picture(result(12, timeline), title))).toBeGreaterThan(30);
      }),
    );
  });

  it('has scales that end on a round number above what they show', () => {
    fc.assert(
      fc.property(fc.double({ min: 0.01, max: 1e9, noNaN: true }), (n) => {
        const top = roundUp(n);
        expect(top).toBeGreaterThanOrEqual(n * 0.999999);
        expect(top).toBeLessThanOrEqual(n * 2.5 * 1.000001);
        expect(String(top)).toMatch(/^(0\.0*)?[125]0*$/);
      }),
    );
  });
});

describe('a comparison', () => {
  it('takes the median of the ratios of each round', () => {
    const [cell] = CELLS;
    const pairs = [
      [10, 20],
      [30, 40],
      [11, 44],
    ].map(([ours, theirs]) => ({ ours: result(ours), theirs: result(theirs) }));
    const row = rowOf(cell, pairs);
    expect(row).toMatchObject({ ours: 11, theirs: 40, ratio: 0.5, low: 0.25, high: 0.75, rounds: 3 });
    expect(comparison([row])).toContain('| udp | udp | stateless | 11.0 | 40.0 | 0.50 | 0.25 to 0.75 |');
    expect(median([1, 2, 3, 10])).toBe(2.5);
  });

  it('compares memory where flows are only held', () => {
    const idle = CELLS.find(({ mode, transport }) => mode === 'idle' && transport === 'ws')!;
    const row = rowOf(idle, [{ ours: result(0.5), theirs: result(7) }]);
    expect(comparison([row])).toContain('| ws | 5.0 | 70.0 | 0.07 |');
  });

  it('has names for all cells, and each once', () => {
    expect(new Set(CELLS.map(nameOf)).size).toBe(CELLS.length);
    for (const cell of CELLS)
      expect(loadOf(cell, QUICK, true).warmup).toBeLessThan(loadOf(cell, QUICK, false).warmup);
  });
});
