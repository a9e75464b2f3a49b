/** Which next hops are asked last, and for how long. */
import { describe, expect, it } from 'vitest';
import { Silent } from '../../src/proxy/silent.ts';

const id = (place: string) => place;

describe('a next hop that gave no answer', () => {
  it('is asked last for a minute, the others in their order', () => {
    const silent = new Silent();
    silent.note('b', 1_000);
    expect(silent.demote(['a', 'b', 'c'], id, 60_999)).toEqual(['a', 'c', 'b']);
    expect(silent.demote(['a', 'b', 'c'], id, 61_000)).toEqual(['a', 'b', 'c']);
    expect(silent.isEmpty).toBe(true);
  });

  it('is as good as any once it answers', () => {
    const silent = new Silent();
    silent.note('b', 0);
    silent.heard('b');
    expect(silent.demote(['a', 'b', 'c'], id, 1)).toEqual(['a', 'b', 'c']);
  });

  it('keeps its place among others that are silent too', () => {
    const silent = new Silent();
    for (const hop of ['c', 'a', 'b']) silent.note(hop, 0);
    expect(silent.demote(['a', 'b', 'c'], id, 1)).toEqual(['a', 'b', 'c']);
  });

  it('is forgotten when more than 1024 were noted after it; one that is noted again is the youngest', () => {
    const silent = new Silent();
    silent.note('first', 0);
    silent.note('again', 0);
    for (let i = 0; i < 1_000; i++) silent.note(`h${i}`, 0);
    silent.note('again', 0);
    for (let i = 0; i < 1_023; i++) silent.note(`g${i}`, 0);
    expect(silent.has('first', 1)).toBe(false);
    expect(silent.has('again', 1)).toBe(true);
    silent.note('one more', 0);
    expect(silent.has('again', 1)).toBe(false);
  });
});
