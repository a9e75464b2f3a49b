import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FRESH, MAX_NC, MAX_SLOTS, NonceTable, PASSED, SPENT } from '../../src/shared/nonce-table.ts';
import type { SpendTask } from './nonce-threads.ts';
import { atStep, dies } from './steps.ts';

const tableOf = (slots: number) => new NonceTable(NonceTable.allocate(slots));

/** Hands out serials until this one is next. */
function until(table: NonceTable, serial: number): number {
  while (table.next() !== serial - 1);
  return table.next();
}

describe('nonce table', () => {
  it('takes each count once [7616-x-01]', () => {
    const table = tableOf(4);
    const serial = table.next();
    for (let nc = 1; nc <= 200; nc++)
      expect([table.spend(serial, nc), table.spend(serial, nc)]).toEqual([FRESH, SPENT]);
  });

  it('takes counts in any order within 64 of the highest, each once [7616-x-01]', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 64 }), { minLength: 1, maxLength: 200 }), (backs) => {
        const table = tableOf(4);
        const serial = table.next();
        const used = new Set<number>();
        let highest = 1;
        for (const back of backs) {
          // three steps on, or back to one that may be used already
          const nc = back > 48 ? highest + back - 48 : highest - back;
          if (nc < 1) continue;
          expect(table.spend(serial, nc)).toBe(used.has(nc) ? SPENT : FRESH);
          used.add(nc);
          highest = Math.max(highest, nc);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('never takes a count twice, whatever is asked in between', () => {
    const asked = fc.tuple(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 400 }));
    fc.assert(
      fc.property(fc.array(asked, { maxLength: 400 }), (questions) => {
        const table = tableOf(4);
        for (let i = 0; i <= 40; i++) table.next();
        const used = new Set<string>();
        for (const [serial, nc] of questions) {
          const name = `${serial} ${nc}`;
          const verdict = table.spend(serial, nc);
          if (used.has(name)) expect(verdict).not.toBe(FRESH);
          if (verdict === SPENT) expect(used).toContain(name);
          if (verdict === FRESH) used.add(name);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('does not know a count any more that lies far behind [7616-x-01]', () => {
    const table = tableOf(4);
    const serial = table.next();
    expect(table.spend(serial, 5)).toBe(FRESH);
    expect(table.spend(serial, 90)).toBe(FRESH);
    expect(table.spend(serial, 5)).toBe(SPENT);
    expect(table.spend(serial, 72)).toBe(FRESH);
    expect([table.spend(serial, 5), table.spend(serial, 6)]).toEqual([PASSED, PASSED]);
  });

  it('has a highest count', () => {
    const table = tableOf(4);
    const serial = table.next();
    expect([table.spend(serial, MAX_NC), table.spend(serial, MAX_NC)]).toEqual([FRESH, SPENT]);
    for (const nc of [MAX_NC + 1, 0xffffffff, -1]) expect(table.spend(serial, nc)).toBe(PASSED);
  });

  it('gives a slot to the later of two nonces when it is used, and not before', () => {
    const table = tableOf(4);
    const first = table.next();
    expect(table.spend(first, 1)).toBe(FRESH);
    // a flood of challenges that nobody answers
    const later = until(table, 4 * 1000);
    expect(later & 3).toBe(first & 3);
    expect([table.spend(first, 1), table.spend(first, 2)]).toEqual([SPENT, FRESH]);
    expect(table.spend(later, 1)).toBe(FRESH);
    expect([table.spend(first, 1), table.spend(first, 2), table.spend(first, 3)]).toEqual([
      PASSED,
      PASSED,
      PASSED,
    ]);
    expect(table.spend(later, 1)).toBe(SPENT);
  });

  it('does not look up a nonce so old that its round could be taken for another', () => {
    const table = tableOf(1);
    const first = table.next();
    expect(table.spend(first, 1)).toBe(FRESH);
    until(table, 1023);
    expect(table.spend(first, 2)).toBe(FRESH);
    table.next();
    expect([table.spend(first, 1), table.spend(first, 3)]).toEqual([PASSED, PASSED]);
  });

  it('takes new nonces after any number of rounds, of slots old and new', () => {
    for (const used of [true, false]) {
      const table = tableOf(1);
      for (let serial = 0; serial < 20_000; serial++) {
        expect(table.next()).toBe(serial);
        if (used || serial % 997 === 0) {
          expect(table.spend(serial, 1)).toBe(FRESH);
          expect(table.spend(serial, 1)).toBe(SPENT);
        }
      }
    }
  });

  it('goes on when the serials have used up 32 bits', () => {
    const descriptor = NonceTable.allocate(MAX_SLOTS);
    new Int32Array(descriptor.buffer)[0] = -2;
    const table = new NonceTable(descriptor);
    const serials = Array.from({ length: 4 }, () => table.next());
    expect(serials).toEqual([-2, -1, 0, 1]);
    for (const serial of serials)
      expect([table.spend(serial, 1), table.spend(serial, 1)]).toEqual([FRESH, SPENT]);
  });

  it('answers for serials that were never given out', () => {
    const table = tableOf(4);
    table.next();
    for (const serial of [8, -2147483648, 2147483647]) expect(table.spend(serial, 1)).toBe(PASSED);
  });

  it('refuses sizes that it cannot number', () => {
    for (const slots of [0, -1, 1.5, MAX_SLOTS + 1])
      expect(() => NonceTable.allocate(slots)).toThrow(RangeError);
    expect(tableOf(5).slots).toBe(8);
  });
});

describe('a thread between the steps of another', () => {
  it('takes the same count once, wherever it comes in', () => {
    for (let step = 0; ; step++) {
      const table = tableOf(2);
      const serial = table.next();
      const verdicts: number[] = [];
      const places = atStep(
        step,
        () => verdicts.push(table.spend(serial, 9)),
        () => verdicts.push(table.spend(serial, 9)),
      );
      if (verdicts.length === 1) {
        expect(places).toBe(step);
        expect(places).toBeGreaterThan(5);
        return;
      }
      expect(verdicts.sort(), `at step ${step}`).toEqual([FRESH, SPENT]);
    }
  });

  it('can hand the slot on while an earlier nonce is spent: neither count is taken twice', () => {
    for (let step = 0; ; step++) {
      const table = tableOf(1);
      const [early, late] = [table.next(), table.next()];
      let between = -1;
      const places = atStep(
        step,
        () => {
          between = table.spend(late, 1);
        },
        () => table.spend(early, 1),
      );
      if (between < 0) {
        expect(places).toBe(step);
        return;
      }
      expect(between).toBe(FRESH);
      expect([table.spend(early, 1), table.spend(late, 1)], `at step ${step}`).toEqual([PASSED, SPENT]);
    }
  });

  it('leaves whole words behind when it dies', () => {
    for (let step = 0; ; step++) {
      const table = tableOf(2);
      const serial = table.next();
      table.spend(serial, 1);
      if (!dies(step, () => table.spend(serial, 2))) return;
      const after = table.spend(serial, 2);
      expect([FRESH, SPENT]).toContain(after);
      expect([table.spend(serial, 1), table.spend(serial, 2), table.spend(serial, 3)]).toEqual([
        SPENT,
        SPENT,
        FRESH,
      ]);
    }
  });
});

describe('real threads', () => {
  it('take every count of every nonce exactly once between them [7616-x-01]', async () => {
    const threads = 2;
    const serials = 2_000;
    const counts = 40;
    const descriptor = NonceTable.allocate(serials);
    const table = new NonceTable(descriptor);
    for (let i = 0; i < serials; i++) table.next();
    const firsts = new SharedArrayBuffer(serials * counts * 4);
    const gate = new SharedArrayBuffer(4);
    const task: SpendTask = { table: descriptor, gate, threads, serials, counts, firsts };
    const known = await Promise.all(
      Array.from({ length: threads }, () => {
        const worker = new Worker(new URL('./nonce-threads.ts', import.meta.url), { workerData: task });
        return new Promise<number>((resolve, reject) => {
          worker.once('message', resolve);
          worker.once('error', reject);
        });
      }),
    );
    const books = new Int32Array(firsts);
    expect(books.filter((n) => n !== 1).length).toBe(0);
    // both were at it, and nothing was forgotten
    expect(known).toEqual([serials * counts, serials * counts]);
  });
});
