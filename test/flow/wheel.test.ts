import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Wheel } from '../../src/flow/wheel.ts';

/** Advances and returns what fired. */
function advance(wheel: Wheel, now: number): number[] {
  const fired: number[] = [];
  wheel.advance(now, (id) => fired.push(id));
  return fired;
}

describe('a timer', () => {
  it('fires at its time, not before, and once', () => {
    const wheel = new Wheel(8, 10, 5000);
    wheel.schedule(3, 5100);
    expect(advance(wheel, 5099.9)).toEqual([]);
    expect(wheel.isScheduled(3)).toBe(true);
    expect(advance(wheel, 5100)).toEqual([3]);
    expect([wheel.isScheduled(3), wheel.size]).toEqual([false, 0]);
    expect(advance(wheel, 50_000)).toEqual([]);
  });

  it('between two ticks fires with the second', () => {
    const wheel = new Wheel(8, 10, 0);
    wheel.schedule(0, 101);
    expect(advance(wheel, 109)).toEqual([]);
    expect(advance(wheel, 110)).toEqual([0]);
  });

  it('in the past fires with the next tick', () => {
    const wheel = new Wheel(8, 10, 0);
    advance(wheel, 1000);
    wheel.schedule(0, 20);
    expect(advance(wheel, 1009)).toEqual([]);
    expect(advance(wheel, 1010)).toEqual([0]);
  });

  it('put off by every keep-alive fires after the last one only', () => {
    const wheel = new Wheel(8, 100, 0, 64);
    for (let t = 0; t <= 100_000; t += 700) {
      expect(advance(wheel, t)).toEqual([]);
      wheel.schedule(5, t + 12_000);
    }
    const last = 99_400 + 12_000;
    expect(advance(wheel, last - 1)).toEqual([]);
    expect(advance(wheel, last)).toEqual([5]);
  });

  it('brought forward fires at the earlier time only', () => {
    const wheel = new Wheel(8, 10, 0);
    wheel.schedule(1, 9000);
    wheel.schedule(1, 500);
    expect(advance(wheel, 500)).toEqual([1]);
    expect(advance(wheel, 20_000)).toEqual([]);
  });

  it('of many hours outlasts hundreds of revolutions', () => {
    const wheel = new Wheel(8, 10, 0, 32);
    const hours = 5 * 3_600_000;
    wheel.schedule(2, hours);
    for (let t = 0; t < hours; t += 199) expect(advance(wheel, t)).toEqual([]);
    expect(advance(wheel, hours)).toEqual([2]);
  });

  it('at Infinity is none', () => {
    const wheel = new Wheel(8, 10, 0);
    wheel.schedule(1, 100);
    wheel.schedule(1, Infinity);
    wheel.schedule(2, Infinity);
    expect([wheel.size, wheel.nextDeadline()]).toEqual([0, Infinity]);
    expect(advance(wheel, 1e6)).toEqual([]);
  });

  it('keeps its time when the tick number passes 2^31 and 2^32', () => {
    const wheel = new Wheel(4, 1, 0, 64);
    for (const wrap of [2 ** 31, 2 ** 32, 2 ** 33]) {
      for (let at = wrap - 300; at < wrap + 300; at += 50) {
        advance(wheel, at - 100);
        wheel.schedule(0, at);
        wheel.schedule(1, at + 5000);
        wheel.schedule(1, at + 1);
        expect(advance(wheel, at - 1)).toEqual([]);
        expect(advance(wheel, at)).toEqual([0]);
        expect(advance(wheel, at + 1)).toEqual([1]);
      }
    }
  });
});

describe('a timer put off beyond 2^31 ticks of the wheel', () => {
  it.each([2 ** 31, 2 ** 32])('is hung anew when its old place comes by, not fired (%i)', (wrap) => {
    const wheel = new Wheel(4, 1, 0, 64);
    advance(wheel, wrap - 50);
    wheel.schedule(0, wrap - 10);
    wheel.schedule(0, wrap + 10);
    expect(advance(wheel, wrap - 5)).toEqual([]);
    expect(advance(wheel, wrap + 9)).toEqual([]);
    expect(advance(wheel, wrap + 10)).toEqual([0]);
  });
});

describe('the clock', () => {
  it('jumps a month: everything due fires once, the rest stays', () => {
    const wheel = new Wheel(1000, 10, 0, 64);
    const month = 30 * 86_400_000;
    for (let id = 0; id < 1000; id++) wheel.schedule(id, id * 7919 * (id % 2 === 0 ? 1 : 1000));
    const due = Array.from({ length: 1000 }, (_, id) => id).filter(
      (id) => id * 7919 * (id % 2 === 0 ? 1 : 1000) <= month,
    );
    expect(due.length).toBeGreaterThan(500);
    expect(due.length).toBeLessThan(1000);
    expect(advance(wheel, month).sort((a, b) => a - b)).toEqual(due);
    expect(advance(wheel, month * 4)).toHaveLength(1000 - due.length);
  });

  it('runs backwards: nothing fires until it is back', () => {
    const wheel = new Wheel(8, 10, 0);
    advance(wheel, 10_000);
    wheel.schedule(0, 10_500);
    expect(advance(wheel, 3_000)).toEqual([]);
    expect(advance(wheel, 10_490)).toEqual([]);
    expect(advance(wheel, 10_500)).toEqual([0]);
  });
});

describe('while it fires', () => {
  it('a timer may set itself again, and comes at the new time', () => {
    const wheel = new Wheel(8, 10, 0, 32);
    const times: number[] = [];
    wheel.schedule(0, 10);
    for (let now = 0; now <= 2000; now += 10) {
      wheel.advance(now, (id) => {
        times.push(now);
        wheel.schedule(id, now + 320);
      });
    }
    expect(times).toEqual([10, 330, 650, 970, 1290, 1610, 1930]);
  });

  it('a timer that always sets itself into the past does not hold the turn', () => {
    const wheel = new Wheel(8, 10, 0, 32);
    let calls = 0;
    wheel.schedule(0, 0);
    wheel.advance(100_000, (id) => {
      calls++;
      wheel.schedule(id, 0);
    });
    expect(calls).toBe(1);
  });

  it('cancelled or put off by another of the same tick, a timer does not fire', () => {
    const wheel = new Wheel(8, 10, 0, 32);
    for (let id = 0; id < 8; id++) wheel.schedule(id, 50);
    const fired: number[] = [];
    wheel.advance(50, (id) => {
      fired.push(id);
      for (let other = 0; other < 8; other++) {
        if (other === id) continue;
        if (other % 2 === 0) wheel.cancel(other);
        else wheel.schedule(other, 5000);
      }
    });
    expect(fired).toHaveLength(1);
    const later = advance(wheel, 5000);
    expect(later.sort()).toEqual([1, 3, 5, 7].filter((id) => id !== fired[0]));
  });
});

describe('against a model', () => {
  type Step = { op: 'schedule' | 'cancel' | 'advance'; id: number; delay: number };
  const delay = fc.oneof(
    fc.integer({ min: -50, max: 400 }),
    fc.integer({ min: 0, max: 20_000 }),
    fc.double({ min: 0, max: 5e6, noNaN: true }),
  );
  const step: fc.Arbitrary<Step> = fc.record({
    op: fc.constantFrom('schedule', 'schedule', 'cancel', 'advance'),
    id: fc.nat(11),
    delay,
  });

  it('fires what is due, never early, at most one tick late, and announces it in time', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), fc.constantFrom(1, 10, 16), (steps, tick) => {
        const start = 777.25;
        const wheel = new Wheel(12, tick, start, 32);
        const due = new Map<number, number>();
        let now = start;
        for (const { op, id, delay: by } of steps) {
          if (op === 'schedule') {
            wheel.schedule(id, now + by);
            // what lies in the past counts from now
            due.set(id, Math.max(now + by, now));
          } else if (op === 'cancel') {
            wheel.cancel(id);
            due.delete(id);
          } else {
            now += Math.max(by, 0);
            for (const fired of advance(wheel, now)) {
              expect(due.get(fired), `${fired} at ${now}`).toBeLessThanOrEqual(now);
              due.delete(fired);
            }
            for (const at of due.values()) expect(at).toBeGreaterThan(now - tick);
          }
          expect(wheel.size).toBe(due.size);
          const first = Math.min(...due.values());
          expect(wheel.nextDeadline()).toBeLessThanOrEqual(first + tick);
          for (const timer of [0, 5, 11]) expect(wheel.isScheduled(timer)).toBe(due.has(timer));
        }
      }),
      { numRuns: 500 },
    );
  });

  it('sleeping until nextDeadline, turn by turn, meets every timer in time', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 100_000 }), { minLength: 1, maxLength: 30 }),
        (delays) => {
          const wheel = new Wheel(30, 10, 0, 32);
          delays.forEach((at, id) => {
            wheel.schedule(id, at / 2);
            wheel.schedule(id, at);
          });
          const left = new Set(delays.keys());
          let turns = 0;
          for (let now = wheel.nextDeadline(); now < Infinity; now = wheel.nextDeadline()) {
            expect(++turns).toBeLessThan(30 * (100_000 / 320 + 2));
            for (const id of advance(wheel, now)) {
              expect(now).toBeGreaterThanOrEqual(delays[id]);
              expect(now).toBeLessThanOrEqual(Math.max(delays[id], 1) + 10);
              left.delete(id);
            }
          }
          expect(left.size).toBe(0);
        },
      ),
    );
  });

  it('goes on with what waits when there is room for more ids, also from within a fire', () => {
    const wheel = new Wheel(2, 10, 0, 32);
    wheel.schedule(0, 100);
    wheel.schedule(1, 100);
    const fired: number[] = [];
    wheel.advance(110, (id) => {
      if (fired.length === 0) {
        wheel.grow(64);
        wheel.schedule(63, 5_000);
        wheel.schedule(40, 5_000);
      }
      fired.push(id);
    });
    expect([fired.sort(), wheel.size, wheel.capacity]).toEqual([[0, 1], 2, 64]);
    expect([wheel.isScheduled(40), wheel.isScheduled(41)]).toEqual([true, false]);
    expect([advance(wheel, 4_990), advance(wheel, 5_010).sort()]).toEqual([[], [40, 63]]);
  });

  it('serves a million ids', () => {
    const million = 1_000_000;
    const wheel = new Wheel(million, 10, 0);
    for (let id = 0; id < million; id++) wheel.schedule(id, 1000 + (id % 140_000));
    for (let id = 0; id < million; id += 2) wheel.cancel(id);
    expect(wheel.size).toBe(million / 2);
    let fired = 0;
    let early = 0;
    for (let now = 0; now <= 141_000; now += 50) {
      wheel.advance(now, (id) => {
        fired++;
        if (1000 + (id % 140_000) > now || 1000 + (id % 140_000) <= now - 60) early++;
      });
    }
    expect([fired, early, wheel.nextDeadline()]).toEqual([million / 2, 0, Infinity]);
  });
});

it('a number of buckets that is no power of two is refused', () => {
  expect(() => new Wheel(1, 10, 0, 100)).toThrow(RangeError);
  expect(() => new Wheel(1, 10, 0, 16)).toThrow(RangeError);
});
