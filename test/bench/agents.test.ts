/**
 * bench:agents as a whole, small: thirty agents in three processes, waits of a second or so. Its rules are shown one by
 * one in verdict.test.ts; here, that the processes play together and that the command says what it found.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';

const COMMAND = fileURLToPath(new URL('../../bench/load/agents.ts', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'holdfast-bench-agents-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Ended {
  code: number;
  lines: string[];
}

/** `--late` is generous: the machine of the tests is busy with others of them. */
function run(...args: string[]): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [COMMAND, '--late', '15', ...args], (_, stdout, stderr) =>
      resolve({ code: child.exitCode as number, lines: `${stdout}${stderr}`.trimEnd().split('\n') }),
    );
  });
}

it('loses an edge under thirty agents, has all of them back in their time, and says so', async () => {
  const json = join(folder, 'result.json');
  const { code, lines } = await run(
    ...[
      '--agents',
      '30',
      '--upstream',
      'tcp',
      '--base',
      '1',
      '--flow-timer',
      '1',
      '--sample',
      '10',
      '--json',
      json,
    ],
  );
  expect({ code, failed: lines.filter((line) => line.startsWith('FAILED')) }).toEqual({
    code: 0,
    failed: [],
  });
  const result = JSON.parse(readFileSync(json, 'utf8'));
  expect(result.options).toMatchObject({ agents: 30, processes: 3, transport: 'tcp', base: 1 });
  expect(result.registration.registrations).toBe(60);
  expect(result.hold.pings).toBeGreaterThanOrEqual(60);
  expect(result['reached in the outage']).toMatchObject({ agents: 10, reached: 10 });
  expect(result.recovery.flows).toBe(30);
  expect(result.recovery.failures).toBeGreaterThanOrEqual(30);
  expect(result.recovery.first).toBeGreaterThan(1000);
  expect(lines.at(-1)).toMatch(/^all of it holds/);
}, 60_000);

it('says what an argument may be, and starts nothing', async () => {
  expect(await run('--transport', 'tls')).toEqual({ code: 2, lines: ['--transport tls: tcp or udp'] });
  expect(await run('--agents', 'many')).toEqual({ code: 2, lines: ['--agents many: 1 to 100000'] });
});
