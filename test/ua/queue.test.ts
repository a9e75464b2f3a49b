/** What waits for a `for await`. */
import { describe, expect, it } from 'vitest';
import { Queue } from '../../src/ua/queue.ts';

describe('a queue', () => {
  it('gives each item once and in order, to whoever asks first', async () => {
    const queue = new Queue<number>(4);
    const [a, b] = [queue.items(), queue.items()];
    const first = a.next();
    const second = b.next();
    for (const n of [1, 2, 3]) queue.put(n);
    expect([(await first).value, (await second).value, (await b.next()).value]).toEqual([1, 2, 3]);
  });

  it('is bounded while nobody takes', () => {
    const queue = new Queue<number>(2);
    expect([1, 2, 3].map((n) => queue.put(n))).toEqual([true, true, false]);
  });

  it('gives what waits when it is closed, then ends, for all takers', async () => {
    const queue = new Queue<number>(4);
    const items = queue.items();
    queue.put(1);
    queue.close();
    expect(queue.put(2)).toBe(false);
    const seen: number[] = [];
    for await (const n of items) seen.push(n);
    expect(seen).toEqual([1]);
    expect(queue.takers).toBe(0);
    const late = queue.items();
    expect((await late.next()).done).toBe(true);
  });

  it('counts those who iterate, until they break off', async () => {
    const queue = new Queue<number>(4);
    queue.put(1);
    for await (const _ of queue.items()) {
      expect(queue.takers).toBe(1);
      break;
    }
    expect(queue.takers).toBe(0);
  });

  it('gives nothing to one that broke off while it waited', async () => {
    const queue = new Queue<number>(4);
    const gone = queue.items();
    const waiting = gone.next();
    await gone.return?.();
    const other = queue.items();
    queue.put(1);
    expect((await other.next()).value).toBe(1);
    expect((await waiting).done).toBe(true);
  });
});
