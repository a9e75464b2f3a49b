/** Log lines into a real pipe: read, not read, and read again. */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Lines } from '../../src/observe/lines.ts';

let folder: string;
let pipe: number;
let lines: Lines;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-lines-'));
  const name = join(folder, 'pipe');
  execFileSync('mkfifo', [name]);
  pipe = openSync(name, constants.O_RDWR | constants.O_NONBLOCK);
  lines = new Lines(pipe);
});
afterEach(() => {
  closeSync(pipe);
  rmSync(folder, { recursive: true });
});

function read(most = 1 << 20): string {
  const into = Buffer.alloc(most);
  try {
    return into.toString('latin1', 0, readSync(pipe, into, 0, most, null));
  } catch {
    return '';
  }
}

function all(): string {
  let text = '';
  for (let more = read(); more !== ''; more = read()) text += more;
  return text;
}

const numbers = (text: string): number[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as { n?: number; lost?: number })
    .map(({ n, lost }) => n ?? -(lost as number));

describe.each([100, 6_000])('lines of %i octets', (length) => {
  const line = (n: number) => `${JSON.stringify({ n, text: 'x'.repeat(length) })}\n`;

  it('go out one by one while somebody reads', () => {
    for (let n = 1; n <= 50; n++) {
      lines.write(line(n));
      expect(numbers(all())).toEqual([n]);
    }
  });

  it('are lost and counted while nobody reads, never cut, and do not wait', () => {
    const written = 3_000;
    for (let n = 1; n <= written; n++) lines.write(line(n));
    const kept = read(length * 4); // some room again
    lines.write(line(written + 1));
    const then = all();
    lines.write(line(written + 2));
    const seen = numbers(kept + then + all());
    const whole = seen.filter((n) => n > 0);
    const lost = seen.filter((n) => n < 0).reduce((sum, n) => sum - n, 0);
    expect(whole.at(-1)).toBe(written + 2);
    expect(whole).toEqual([...whole].sort((a, b) => a - b));
    expect(whole.length + lost).toBe(written + 2);
    expect(lost).toBeGreaterThan(0);
  });
});
