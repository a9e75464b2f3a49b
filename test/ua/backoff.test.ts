/** The waits of RFC 5626 4.5 against the table of its Appendix A. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { refreshDelay, retryDelay, upperBound } from '../../src/ua/backoff.ts';

describe('the wait before the next registration through a URI', () => {
  it('has the upper bounds of Appendix A, with the whole set down and with one flow up [UA-4.5-04 UA-4.5-05]', () => {
    const table = (someUp: boolean) => [0, 1, 2, 3, 4, 5, 6].map((n) => upperBound(n, someUp) / 1000);
    expect(table(false)).toEqual([0, 60, 120, 240, 480, 960, 1800]);
    expect(table(true)).toEqual([0, 180, 360, 720, 1440, 1800, 1800]);
  });

  it('is uniform between half the bound and the bound [UA-4.5-07]', () => {
    expect(retryDelay(1, false, () => 0)).toBe(30_000);
    expect(retryDelay(1, true, () => 0)).toBe(90_000);
    let state = 1;
    const random = () => {
      state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
      return state / 0x80000000;
    };
    const delays = Array.from({ length: 4000 }, () => retryDelay(3, false, random) / 1000);
    expect(Math.min(...delays)).toBeGreaterThanOrEqual(120);
    expect(Math.max(...delays)).toBeLessThanOrEqual(240);
    for (let tenth = 0; tenth < 10; tenth++) {
      const inTenth = delays.filter((d) => d >= 120 + 12 * tenth && d < 132 + 12 * tenth).length;
      expect(inTenth).toBeGreaterThan(300);
      expect(inTenth).toBeLessThan(500);
    }
  });

  it('goes on for ever at the cap, 15 to 30 minutes apart [UA-4.5-10]', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 6, max: 5000 }),
        fc.boolean(),
        fc.double({ min: 0, max: 0.999999, noNaN: true }),
        (failures, someUp, chance) => {
          const delay = retryDelay(failures, someUp, () => chance);
          expect(delay).toBeGreaterThanOrEqual(900_000);
          expect(delay).toBeLessThanOrEqual(1_800_000);
        },
      ),
    );
  });

  it('scales with the three times that are set [UA-4.5-06]', () => {
    const times = { allDown: 1, someUp: 3, most: 8 };
    expect([1, 2, 3, 4].map((n) => upperBound(n, false, times) / 1000)).toEqual([2, 4, 8, 8]);
    expect([1, 2].map((n) => upperBound(n, true, times) / 1000)).toEqual([6, 8]);
  });
});

describe('the wait after a refused refresh', () => {
  it('leaves room for another try before the binding ends, until there is none', () => {
    expect(refreshDelay(360_000, () => 0)).toBe(90_000);
    expect(refreshDelay(360_000, () => 0.999999)).toBeCloseTo(180_000, 0);
    expect(refreshDelay(4_000, () => 0)).toBe(1_000);
    for (const left of [3_999, 0, -1, Number.NEGATIVE_INFINITY])
      expect(refreshDelay(left, () => 0)).toBeUndefined();
  });
});
