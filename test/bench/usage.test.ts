/** Processor time between two readings, where threads and processes come and go. */
import { expect, it } from 'vitest';
import { between, type Reading } from '../../bench/load/usage.ts';

const reading = (
  processes: [number, [number, number]][],
  threads: [number, [string, number]][],
): Reading => ({
  processes: new Map(processes),
  threads: new Map(threads),
});

it('leaves out what has ended, with its past, and counts what has begun from its start', () => {
  const before = reading(
    [
      [1, [10, 5]],
      [2, [100, 50]],
    ],
    [
      [1, ['main', 4]],
      [3, ['pool', 11]],
      [2, ['child', 150]],
    ],
  );
  const after = reading(
    [
      [1, [12, 6]],
      [4, [0.5, 0]],
    ],
    [
      [1, ['renamed', 5]],
      [4, ['worker', 0.5]],
    ],
  );
  const { threads, ...sums } = between(before, after);
  expect(sums).toEqual({ total: 1.5, user: 2.5, system: 1 });
  expect([...threads]).toEqual([
    ['renamed (1)', 1],
    ['worker (4)', 0.5],
  ]);
});

it('is user and system time where the kernel counts no threads', () => {
  const { total } = between(
    reading([[1, [1, 1]]], [[1, ['main', 0]]]),
    reading([[1, [3, 2]]], [[1, ['main', 0]]]),
  );
  expect(total).toBe(3);
});
