/** What counts as a failure and what as a success, and whose counter it moves: RFC 5626 4.5. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { upperBound } from '../../src/ua/backoff.ts';
import { FlowSet } from '../../src/ua/flowset.ts';

const URIS = ['sip:a.test', 'sip:b.test', 'sip:c.test', 'sip:d.test'];
const setOf = (n: number, random = () => 0, most?: number) =>
  new FlowSet(
    URIS.slice(0, n).map((uri, i) => ({ uri, regId: i + 1 })),
    { random, ...(most === undefined ? {} : { most }) },
  );

describe('the outbound-proxy-set', () => {
  it('is tried whole and at once at boot; refused, again 30 to 60 s after that [UA-4.5-09 UA-4.2.1-03]', () => {
    for (const [chance, wait] of [
      [0, 30_000],
      [0.999999, 60_000],
    ]) {
      const set = setOf(2, () => chance);
      const [a, b] = set.due(0);
      expect([a.regId, b.regId]).toEqual([1, 2]);
      expect(set.nextDue()).toBe(Infinity);
      expect(set.attemptFailed(a, 1_000)).toBeCloseTo(1_000 + wait, -2);
      expect(set.attemptFailed(b, 2_000)).toBeCloseTo(2_000 + wait, -2);
      expect(set.due(30_000)).toEqual([]);
    }
  });

  it('waits 90 to 180 s for one while another is up, 30 to 60 s when none is [UA-4.5-04]', () => {
    const set = setOf(2);
    const [a, b] = set.due(0);
    set.registered(b, false, 0);
    expect(set.attemptFailed(a, 0)).toBe(90_000);
    const alone = setOf(2);
    const [c] = alone.due(0);
    expect(alone.attemptFailed(c, 0)).toBe(30_000);
  });

  it('counts each URI by itself', () => {
    const set = setOf(2);
    const [a, b] = set.due(0);
    for (let n = 0; n < 4; n++) set.attemptFailed(a, 0);
    set.attemptFailed(b, 0);
    expect([a.failures, b.failures]).toEqual([4, 1]);
    expect(b.dueAt).toBe(30_000);
  });

  it('tries at once after the loss of a flow that was a success, then with the delay [UA-4.5-02]', () => {
    const set = setOf(1);
    const [a] = set.due(0);
    set.registered(a, true, 0);
    set.heard(a);
    expect(set.lost(a, 5_000)).toBe(5_000);
    expect(set.due(5_000)).toEqual([a]);
    expect(set.attemptFailed(a, 5_100)).toBe(35_100);
  });

  it('clears the counter with the first answered keep-alive, not with the 2xx [UA-4.5-03]', () => {
    const set = setOf(1);
    const [a] = set.due(0);
    const waits: number[] = [];
    for (let n = 0; n < 5; n++) {
      set.registered(a, true, 0);
      waits.push(set.lost(a, 0));
    }
    expect(waits).toEqual([30_000, 60_000, 120_000, 240_000, 480_000]);
    set.registered(a, true, 0);
    set.heard(a);
    expect(a.failures).toBe(0);
  });

  it('takes a flow without keep-alives for a success after 30 s, and not by its 2xx', () => {
    const set = setOf(1);
    const [a] = set.due(0);
    const waits: number[] = [];
    for (const lasted of [0, 29_999, 30_000, 90_000]) {
      set.registered(a, false, 1_000);
      waits.push(set.lost(a, 1_000 + lasted) - 1_000 - lasted);
    }
    expect(waits).toEqual([30_000, 60_000, 0, 0]);
    expect(a.failures).toBe(0);
  });

  it('counts those 30 s from the first 2xx of the flow, whatever ends it', () => {
    const set = setOf(1);
    const [a] = set.due(0);
    set.attemptFailed(a, 0);
    set.registered(a, false, 0);
    set.registered(a, false, 20_000);
    expect(set.attemptFailed(a, 30_000) - 30_000).toBe(30_000); // the first failure in a row
    set.registered(a, false, 60_000);
    expect(set.lost(a, 60_001) - 60_001).toBe(60_000);
  });

  it('obeys Retry-After of a first 503, 0 too; later ones only lengthen the wait [UA-4.2.1-18 UA-4.5-08]', () => {
    const first = setOf(1);
    expect(first.attemptFailed(first.due(0)[0], 0, { retryAfter: 7_000 })).toBe(7_000);
    const zero = setOf(1);
    const [a] = zero.due(0);
    expect(zero.attemptFailed(a, 50, { retryAfter: 0 })).toBe(50);
    expect(zero.attemptFailed(a, 60, { retryAfter: 0 })).toBe(60_060);
    const long = setOf(1);
    const [b] = long.due(0);
    long.attemptFailed(b, 0);
    expect(long.attemptFailed(b, 0, { retryAfter: 100_000 })).toBe(100_000);
  });

  it('does not take a 439 for an outage of the others, and tries that URI again [UA-4.2.1-22]', () => {
    const set = setOf(2);
    const [a, b] = set.due(0);
    expect(set.attemptFailed(a, 0, { outage: false })).toBe(30_000);
    expect(set.attemptFailed(b, 0)).toBe(90_000);
  });

  it('keeps two flows at least, whatever the limit [UA-4.2.1-04]', () => {
    expect(setOf(3, () => 0, 1).due(0)).toHaveLength(2);
    expect(setOf(4, () => 0, 3).due(0)).toHaveLength(3);
    expect(setOf(1, () => 0, 1).due(0)).toHaveLength(1);
  });

  it('keeps within the bounds of the RFC whatever happens in whatever order', () => {
    const step = fc.tuple(
      fc.integer({ min: 0, max: 3 }),
      fc.constantFrom('registered', 'heard', 'failed', 'lost'),
      fc.double({ min: 0, max: 0.999999, noNaN: true }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        let chance = 0;
        const set = setOf(4, () => chance);
        set.due(0);
        let now = 0;
        for (const [i, what, at] of steps) {
          const member = set.members[i];
          const before = member.failures;
          const others = set.members.some((other) => other !== member && other.up);
          chance = at;
          now += 1_000;
          if (what === 'registered') set.registered(member, true, now);
          else if (what === 'heard') set.heard(member);
          else if (what === 'lost' && member.up && member.proven) expect(set.lost(member, now)).toBe(now);
          else {
            const wait = (what === 'lost' ? set.lost(member, now) : set.attemptFailed(member, now)) - now;
            const bound = upperBound(before + 1, others);
            expect(member.failures).toBe(before + 1);
            expect(wait).toBeGreaterThanOrEqual(bound / 2);
            expect(wait).toBeLessThanOrEqual(bound);
          }
        }
      }),
    );
  });
});
