import { describe, expect, it } from 'vitest';
import { entryMatches, entrySlot, ProvisionalQueue } from '../../src/shared/provisional-queue.ts';
import { dies } from './steps.ts';

const PLACES = 16;

/** A queue for eight slots whose positions stand at `start`. */
function queue(start = 0) {
  const words = new Int32Array(new SharedArrayBuffer(ProvisionalQueue.words(8) * 4));
  words[0] = start;
  words[16] = start;
  return new ProvisionalQueue(words);
}

function take(of: ProvisionalQueue): number {
  const entry = of.oldest();
  if (entry === 0) return -1;
  of.drop(entry);
  return entrySlot(entry);
}

describe('queue of provisional flows', () => {
  it.each([0, 0x7ffffffa, -6])('gives them back oldest first, from position %i', (start) => {
    const of = queue(start);
    for (let slot = 0; slot < PLACES; slot++) of.push(slot, slot);
    expect(Array.from({ length: PLACES + 1 }, () => take(of))).toEqual([...Array(PLACES).keys(), -1]);
    of.push(5, 1);
    expect([take(of), take(of)]).toEqual([5, -1]);
  });

  it.each([0, 0x7ffffffa, -6])('has the youngest ones after it was lapped, from position %i', (start) => {
    const of = queue(start);
    for (let slot = 0; slot < 3 * PLACES + 5; slot++) of.push(slot, 1);
    expect(take(of)).toBe(2 * PLACES + 5);
    expect(take(of)).toBe(2 * PLACES + 6);
  });

  it('steps over the place of a thread that died before it wrote there', () => {
    const of = queue();
    of.push(1, 1);
    expect(dies(2, () => of.push(2, 1))).toBe(true);
    of.push(3, 1);
    expect([take(of), take(of), take(of)]).toEqual([1, 3, -1]);
  });

  it('drops an entry for one of two threads only', () => {
    const of = queue();
    of.push(1, 1);
    of.push(2, 1);
    const seen = of.oldest();
    of.drop(seen);
    of.drop(seen);
    expect(take(of)).toBe(2);
  });

  it('names the largest slot, and a generation by its low eight bits', () => {
    const of = queue();
    of.push(0xfffffd, 0x1234ff);
    const entry = of.oldest();
    expect([entrySlot(entry), entryMatches(entry, 0xff), entryMatches(entry, 0xfe)]).toEqual([
      0xfffffd,
      true,
      false,
    ]);
  });
});
