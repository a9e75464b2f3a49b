import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ACCEPTED,
  CALLING,
  CLIENT,
  COMPLETED,
  CONFIRMED,
  endEvent,
  INVITE_CLIENT,
  INVITE_SERVER,
  ON_HUNDRED,
  ON_LINGER_END,
  ON_RETRANSMIT,
  ON_TIMEOUT,
  PROCEEDING,
  SERVER,
  sendEvent,
  TRYING,
} from '../../src/transaction/machine.ts';
import { RUNS_ON, restartsC, Timers } from '../../src/transaction/timers.ts';

describe('the values of the RFCs', () => {
  const timers = new Timers();

  it.each([
    ['B', INVITE_CLIENT, CALLING, 32_000, ON_TIMEOUT],
    ['D', INVITE_CLIENT, COMPLETED, 32_000, ON_LINGER_END],
    ['M', INVITE_CLIENT, ACCEPTED, 32_000, ON_LINGER_END],
    ['F', CLIENT, TRYING, 32_000, ON_TIMEOUT],
    ['K', CLIENT, COMPLETED, 5000, ON_LINGER_END],
    ['H', INVITE_SERVER, COMPLETED, 32_000, ON_TIMEOUT],
    ['I', INVITE_SERVER, CONFIRMED, 5000, ON_LINGER_END],
    ['L', INVITE_SERVER, ACCEPTED, 32_000, ON_LINGER_END],
    ['J', SERVER, COMPLETED, 32_000, ON_LINGER_END],
  ])('Timer %s [3261-17-01 3261-17-02 3261-17-03 3261-17-04]', (_, kind, state, ms, event) => {
    expect(timers.lasts(kind, state)).toBe(ms);
    expect(endEvent(kind, state)).toBe(event);
  });

  it('Timers A, E and G begin at T1 over UDP and do not run over TCP [3261-17-01 3261-17-02 3261-17-03]', () => {
    for (const [kind, state] of [
      [INVITE_CLIENT, CALLING],
      [CLIENT, TRYING],
      [INVITE_SERVER, COMPLETED],
    ]) {
      expect([timers.firstSend(kind, state, 0), timers.firstSend(kind, state, 1)]).toEqual([500, Infinity]);
      expect(sendEvent(kind, state)).toBe(ON_RETRANSMIT);
    }
  });

  it('Timers E and F go on through Proceeding, where E is T2 [3261-17-02]', () => {
    expect([timers.lasts(CLIENT, PROCEEDING), timers.firstSend(CLIENT, PROCEEDING, 0)]).toEqual([
      RUNS_ON,
      RUNS_ON,
    ]);
    expect(timers.nextSend(CLIENT, PROCEEDING, 1)).toBe(4000);
  });

  it('A doubles, E and G double up to T2 [3261-17-01 3261-17-02 3261-17-03]', () => {
    const series = (kind: number, state: number) =>
      [1, 2, 3, 4, 5, 6].map((n) => timers.nextSend(kind, state, n));
    expect(series(INVITE_CLIENT, CALLING)).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000]);
    expect(series(CLIENT, TRYING)).toEqual([1000, 2000, 4000, 4000, 4000, 4000]);
    expect(series(INVITE_SERVER, COMPLETED)).toEqual([1000, 2000, 4000, 4000, 4000, 4000]);
  });

  it('a 100 is due after 200 ms for an INVITE, after 3.5 s for others, over any transport [3261-17-03 4320-4.1-01]', () => {
    for (const reliable of [0, 1]) {
      expect(timers.firstSend(INVITE_SERVER, PROCEEDING, reliable)).toBe(200);
      expect(timers.firstSend(SERVER, TRYING, reliable)).toBe(3500);
    }
    expect([sendEvent(INVITE_SERVER, PROCEEDING), sendEvent(SERVER, TRYING)]).toEqual([
      ON_HUNDRED,
      ON_HUNDRED,
    ]);
  });

  it('Timer C is more than three minutes, and a 100 does not start it anew [3261-16.6-08]', () => {
    expect(timers.endOfC(1000)).toBeGreaterThan(1000 + 180_000);
    expect([100, 101, 180, 199, 200].map(restartsC)).toEqual([false, true, true, true, false]);
  });
});

describe('other values', () => {
  it('of T1 move all that hangs on it, but Timer D is at least 32 s [3261-17-01]', () => {
    const fast = new Timers({ t1: 100 });
    expect(fast.lasts(INVITE_CLIENT, CALLING)).toBe(6400);
    expect(fast.lasts(INVITE_CLIENT, COMPLETED)).toBe(32_000);
    expect(new Timers({ t1: 1000 }).lasts(INVITE_CLIENT, COMPLETED)).toBe(64_000);
    expect(fast.slowHundred).toBe(100 + 200 + 400 + 800 + 1600 + 3200);
  });

  it('leave the 100 to a non-INVITE where Timer E reaches T2 [4320-4.1-01]', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5000 }),
        fc.double({ min: 1.01, max: 64, noNaN: true }),
        (t1, factor) => {
          const t2 = t1 * factor;
          const timers = new Timers({ t1, t2 });
          let due = timers.firstSend(CLIENT, TRYING, 0);
          let interval = due;
          for (let n = 1; interval < t2; n++) {
            interval = timers.nextSend(CLIENT, TRYING, n);
            if (interval < t2) due += interval;
          }
          expect(timers.slowHundred).toBe(due);
        },
      ),
    );
  });

  it('that make no sense are refused', () => {
    for (const values of [{ t1: 0 }, { t1: 500, t2: 400 }, { t4: 0 }, { t1: Number.NaN }])
      expect(() => new Timers(values)).toThrow(RangeError);
  });
});
