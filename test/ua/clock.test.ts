/** The user agent's own times: one alarm of the outside for all of them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Agenda, systemClock, type Timer } from '../../src/ua/clock.ts';
import { StillClock } from '../harness/phone.ts';

describe('the agenda', () => {
  it('runs each timer once, never early and at most a tick late', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 200_000 }), { maxLength: 20 }), async (times) => {
        const clock = new StillClock();
        const agenda = new Agenda(clock);
        const start = clock.now();
        const ran: number[][] = times.map(() => []);
        for (const [i, at] of times.entries()) agenda.timer((now) => ran[i].push(now))?.set(start + at);
        await clock.advance(201_000);
        for (const [i, at] of times.entries()) {
          expect(ran[i]).toHaveLength(1);
          expect(ran[i][0] - start).toBeGreaterThanOrEqual(at);
          expect(ran[i][0] - start).toBeLessThanOrEqual(at + 10);
        }
      }),
      { numRuns: 20 },
    );
  });

  it('lets a timer drop itself and others while it runs, and their places be used again', async () => {
    const clock = new StillClock();
    const agenda = new Agenda(clock);
    const ran: string[] = [];
    const other = agenda.timer(() => ran.push('other'));
    const self: Timer | undefined = agenda.timer(() => {
      ran.push('self');
      self?.drop();
      self?.drop();
      other?.drop();
      agenda.timer(() => ran.push('new'))?.set(agenda.now() + 100);
      other?.set(agenda.now());
    });
    self?.set(clock.now() + 50);
    other?.set(clock.now() + 60);
    await clock.advance(500);
    expect(ran).toEqual(['self', 'new']);
  });

  it('has an end to its places, and does nothing when it was stopped', async () => {
    const clock = new StillClock();
    const agenda = new Agenda(clock);
    let ran = 0;
    const timers = Array.from({ length: 4096 }, () => agenda.timer(() => ran++));
    expect(agenda.timer(() => {})).toBeUndefined();
    for (const timer of timers) timer?.set(clock.now() + 1);
    agenda.stop();
    await clock.advance(100);
    expect(ran).toBe(0);
  });

  it('asks the other times it was joined with', async () => {
    const clock = new StillClock();
    const agenda = new Agenda(clock);
    const seen: number[] = [];
    let next = clock.now() + 500;
    agenda.join({
      advance: (now) => {
        seen.push(now);
        next = Infinity;
      },
      nextDeadline: () => next,
    });
    agenda.arm();
    await clock.advance(1000);
    expect(seen).toEqual([1500]);
  });

  it('runs on the clock of the system', async () => {
    const agenda = new Agenda(systemClock);
    const due = systemClock.now() + 20;
    const ran = await new Promise<number>((resolve) => agenda.timer(resolve)?.set(due));
    expect(ran).toBeGreaterThanOrEqual(due);
    agenda.stop();
  });
});
