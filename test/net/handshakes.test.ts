import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Handshakes, MAX_HANDSHAKES } from '../../src/net/handshakes.ts';

it('ends exactly those that were not done in ten seconds, in their order', () => {
  const step = fc.record({ after: fc.nat(4_000), ends: fc.option(fc.nat(30)) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const handshakes = new Handshakes<number>();
      const open = new Map<number, number>();
      let now = 1_000;
      for (const [i, { after, ends }] of steps.entries()) {
        now += after;
        const late: number[] = [];
        const next = handshakes.expire(now, (stream) => late.push(stream));
        const due = [...open].filter(([, until]) => until <= now).map(([stream]) => stream);
        expect(late).toEqual(due);
        for (const stream of due) open.delete(stream);
        expect(next).toBe(Math.min(...open.values()));
        handshakes.begin(i, now);
        open.set(i, now + 10_000);
        if (ends === null) continue;
        handshakes.end(ends);
        open.delete(ends);
      }
    }),
  );
});

it('is full at its limit, and not below', () => {
  const handshakes = new Handshakes<number>();
  for (let i = 0; i < MAX_HANDSHAKES; i++) {
    expect(handshakes.isFull).toBe(false);
    handshakes.begin(i, 0);
  }
  expect(handshakes.isFull).toBe(true);
  handshakes.end(7);
  expect(handshakes.isFull).toBe(false);
});
