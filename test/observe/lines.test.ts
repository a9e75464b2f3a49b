/** Log lines into a real pipe: read, not read, and read again; and into what else standard output can be. */
import { type ChildProcessByStdio, execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Lines } from '../../src/observe/lines.ts';

const WRITER = fileURLToPath(new URL('./writer.ts', import.meta.url));
/** what makes a terminal, of util-linux */
const HAS_SCRIPT = spawnSync('script', ['--version']).status === 0;

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

describe('standard output that nobody reads', () => {
  const COUNT = 3_000; // more than any of them holds
  const PATIENCE_MS = 8_000;
  const command = `"${process.execPath}" "${WRITER}" ${COUNT} "$DONE"`;
  let done: string;
  beforeEach(() => {
    done = join(folder, 'done');
  });

  function start(words: readonly string[]): ChildProcessByStdio<Writable, Readable, null> {
    const env = { ...process.env, DONE: done, SHELL: '/bin/sh' };
    return spawn(words[0], words.slice(1), { env, stdio: ['pipe', 'pipe', 'inherit'], detached: true });
  }

  async function written(): Promise<boolean> {
    for (const until = Date.now() + PATIENCE_MS; Date.now() < until; await setTimeout(10))
      if (existsSync(done)) return true;
    return false;
  }

  it.for<[string, boolean, string[]]>([
    ['a pipe', true, ['sh', '-c', `${command} | sleep 60`]],
    ['a terminal', HAS_SCRIPT, ['script', '-qec', command, '/dev/null']],
  ])('does not hold up who writes to %s', async ([_what, isThere, words], { skip }) => {
    if (!isThere) skip();
    const writer = start(words);
    try {
      expect(await written()).toBe(true);
    } finally {
      process.kill(-(writer.pid as number), 'SIGKILL');
    }
  });

  it('does not hold up who writes to a socket, and has whole lines for who reads again', async () => {
    // what Node calls a pipe is a pair of sockets
    const writer = start([process.execPath, WRITER, String(COUNT), done]);
    try {
      expect(readlinkSync(`/proc/${writer.pid}/fd/1`)).toMatch(/^socket:/);
      expect(await written()).toBe(true);
      let text = '';
      writer.stdin.end();
      for await (const chunk of writer.stdout) text += chunk;
      const told = numbers(text.slice(0, text.lastIndexOf('\n')));
      const seen = told.slice(0, told.findLastIndex((n) => n > 0) + 1);
      const whole = seen.filter((n) => n > 0);
      const lost = seen.filter((n) => n < 0).reduce((sum, n) => sum - n, 0);
      expect(whole).toEqual([...whole].sort((a, b) => a - b));
      expect(whole.length).toBeGreaterThan(10);
      expect(whole.length).toBeLessThan(COUNT);
      expect(whole.length + lost).toBe(whole.at(-1)); // of those behind it nothing is told yet
    } finally {
      writer.kill('SIGKILL');
    }
  });
});

it('a file as standard output is written to behind what is there, and loses nothing', () => {
  const name = join(folder, 'log');
  const file = openSync(name, 'w');
  writeSync(file, '{"n":0}\n');
  execFileSync(process.execPath, [WRITER, '500', join(folder, 'done')], {
    stdio: ['ignore', file, 'inherit'],
  });
  closeSync(file);
  expect(numbers(readFileSync(name, 'latin1'))).toEqual(Array.from({ length: 501 }, (_, n) => n));
});
