import { describe, expect, it } from 'vitest';
import { COUNTER_NAMES, Counter, Counters } from '../../src/shared/counters.ts';

describe('counters', () => {
  it('have ids that are dense and in the order of their names', () => {
    expect(COUNTER_NAMES.map((name) => Counter[name])).toEqual(COUNTER_NAMES.map((_, i) => i));
  });

  it('sum over the participants, each of which counts only in its own row', () => {
    const descriptor = Counters.allocate(3);
    const [a, b, c] = [0, 1, 2].map((self) => new Counters(descriptor, self));
    const last = Counter[COUNTER_NAMES[COUNTER_NAMES.length - 1]];
    a.inc(0);
    b.inc(0);
    b.add(0, 2 ** 40);
    c.add(last, 5);
    expect([a.sum(0), a.of(0, 0), a.of(1, 0), a.of(2, 0)]).toEqual([2 ** 40 + 2, 1, 2 ** 40 + 1, 0]);
    const snapshot = b.snapshot();
    expect(Object.keys(snapshot)).toEqual(COUNTER_NAMES);
    expect(snapshot[COUNTER_NAMES[last]]).toBe(5);
    expect(Object.values(snapshot).reduce((x, y) => x + y)).toBe(2 ** 40 + 7);
  });

  it('go on where the row stands when a shard is replaced', () => {
    const descriptor = Counters.allocate(2);
    new Counters(descriptor, 1).add(Counter.pings, 3);
    const replacement = new Counters(descriptor, 1);
    replacement.inc(Counter.pings);
    expect(replacement.sum(Counter.pings)).toBe(4);
  });
});
