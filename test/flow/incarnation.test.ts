import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { nextIncarnation, takeIncarnation } from '../../src/flow/incarnation.ts';

const NOW = 1_800_000_000_500;
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'holdfast-incarnation-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

describe('the incarnation', () => {
  it('of the first life is the unix time in seconds', () => {
    expect(takeIncarnation(directory, NOW)).toEqual({
      value: 1_800_000_000,
      previous: 0,
      wasCorrupt: false,
    });
  });

  it('is on disk when it is returned, in a directory that was made for it, with nothing left beside', () => {
    const deeper = join(directory, 'a', 'b');
    const { value } = takeIncarnation(deeper, NOW);
    expect(readFileSync(join(deeper, 'incarnation'), 'utf8')).toBe(`${value}\n`);
    expect(readdirSync(deeper)).toEqual(['incarnation']);
    expect(statSync(join(deeper, 'incarnation')).mode & 0o777).toBe(0o600);
  });

  it('rises when the restart comes within the second, and when the clock went back a year [EP-5.2-05]', () => {
    const first = takeIncarnation(directory, NOW).value;
    const second = takeIncarnation(directory, NOW).value;
    const third = takeIncarnation(directory, NOW - 365 * 86_400_000);
    expect([second, third.value]).toEqual([first + 1, first + 2]);
    expect(third.previous).toBe(second);
  });

  it('never comes twice, whatever the clock does between the lives [EP-5.2-05]', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 4_000_000_000_000 }), { maxLength: 50 }), (clocks) => {
        let last = 0;
        for (const nowMs of clocks) {
          const next = nextIncarnation(last, nowMs)!;
          expect(next).toBeGreaterThan(last);
          expect(next).toBeGreaterThanOrEqual(Math.floor(nowMs / 1000));
          last = next;
        }
      }),
    );
  });

  it('goes by the clock where the file is corrupt, and says so', () => {
    for (const text of ['', 'twelve', '12 34', '0', '4294967296', '99999999999', '-5', '12\n12']) {
      writeFileSync(join(directory, 'incarnation'), text);
      utimesSync(join(directory, 'incarnation'), 1_000, 1_000);
      expect(takeIncarnation(directory, NOW)).toEqual({
        value: 1_800_000_000,
        previous: 0,
        wasCorrupt: true,
      });
      expect(takeIncarnation(directory, NOW).wasCorrupt).toBe(false);
    }
  });

  it('exceeds the time of a corrupt file even when the clock went back', () => {
    writeFileSync(join(directory, 'incarnation'), '???');
    utimesSync(join(directory, 'incarnation'), 1_900_000_000, 1_900_000_000);
    expect(takeIncarnation(directory, NOW).value).toBe(1_900_000_001);
  });

  it('does not wrap: the last of the 32 bits stops the start', () => {
    expect(nextIncarnation(0xffff_fffe, 0)).toBe(0xffff_ffff);
    expect(nextIncarnation(0xffff_ffff, 0)).toBeUndefined();
    writeFileSync(join(directory, 'incarnation'), '4294967295\n');
    expect(() => takeIncarnation(directory, NOW)).toThrow(/4294967295/);
    expect(readFileSync(join(directory, 'incarnation'), 'utf8')).toBe('4294967295\n');
  });

  it('is taken although a half-written file of a killed life lies beside', () => {
    takeIncarnation(directory, NOW);
    writeFileSync(join(directory, 'incarnation.new'), '18');
    expect(takeIncarnation(directory, NOW).value).toBe(1_800_000_001);
    expect(readdirSync(directory)).toEqual(['incarnation']);
  });
});
