/**
 * Runs vitest with one I/O backend and reads what it wrote: the one place that knows vitest's command
 * line and the shape of its JSON report. Reports stay in `.conformance/`, one file a run, and the
 * conformance table is made from them.
 *
 * A wire test is a test file that starts the server: it imports, directly or through others, a file that
 * does. Only those depend on the backend, so only those run twice.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('..', import.meta.url));
export const REPORTS = join(ROOT, '.conformance');

export type RunName = 'ffi' | 'core' | 'interop';
export type State = 'passed' | 'failed' | 'skipped';

export interface TestResult {
  run: RunName;
  file: string;
  title: string;
  state: State;
  /** the test starts the server on real sockets */
  wire: boolean;
}

export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** Raw sockets through node:ffi exist on Linux with a Node that has the module. */
export function hasFfi(): boolean {
  if (process.platform !== 'linux') return false;
  return createRequire(import.meta.url)('node:module').isBuiltin('node:ffi');
}

/** The files that start the server, or a user agent on real sockets; whoever imports one, directly or through others, tests on the wire. */
const STARTERS = [
  'test/harness/holdfast.ts',
  'test/network/watched.ts',
  'test/harness/phone.ts',
  // starts a command that does
  'test/bench/agents.test.ts',
].map((f) => join(ROOT, f));

function starts(file: string, seen = new Set<string>()): boolean {
  if (STARTERS.includes(file)) return true;
  if (seen.has(file)) return false;
  seen.add(file);
  const imports = readFileSync(file, 'utf8').matchAll(/from '(\.[^']+\.ts)'/g);
  return [...imports].some(([, path]) => {
    const target = join(dirname(file), path);
    return target.startsWith(join(ROOT, 'test')) && starts(target, seen);
  });
}

/** Test files (relative to the root) that start the server. */
export function wireTests(): string[] {
  const files = readdirSync(join(ROOT, 'test'), { recursive: true, encoding: 'utf8' });
  return files
    .filter((f) => f.endsWith('.test.ts') && !f.startsWith('interop') && starts(join(ROOT, 'test', f)))
    .map((f) => join('test', f))
    .sort();
}

export const reportOf = (run: RunName) => join(REPORTS, `${run}.json`);

/** Runs vitest and waits; true if it ended well. Its report replaces the one of the last such run. */
export async function runVitest(run: RunName, args: string[], env: NodeJS.ProcessEnv = {}): Promise<boolean> {
  mkdirSync(REPORTS, { recursive: true });
  rmSync(reportOf(run), { force: true });
  const child = spawn(
    process.execPath,
    [
      join(ROOT, 'node_modules/vitest/vitest.mjs'),
      'run',
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${reportOf(run)}`,
      ...args,
    ],
    { cwd: ROOT, stdio: 'inherit', env: { ...process.env, ...env } },
  );
  const code = await new Promise<number | null>((resolve) => child.once('exit', resolve));
  return code === 0;
}

interface Report {
  testResults: {
    name: string;
    status: string;
    assertionResults: { fullName: string; title: string; status: string }[];
  }[];
}

/** The tests of the last run of that name; undefined if there was none. */
export function readResults(run: RunName): TestResult[] | undefined {
  if (!existsSync(reportOf(run))) return undefined;
  const report = JSON.parse(readFileSync(reportOf(run), 'utf8')) as Report;
  const results: TestResult[] = [];
  for (const suite of report.testResults) {
    const file = relative(ROOT, suite.name);
    const wire = run === 'interop' || (existsSync(suite.name) && starts(suite.name));
    for (const test of suite.assertionResults)
      results.push({ run, file, title: test.fullName.trim(), state: stateOf(test.status), wire });
    // a file that does not load, or whose set-up fails, has no failed test to show for it
    if (suite.status === 'failed' && !suite.assertionResults.some((t) => t.status === 'failed'))
      results.push({ run, file, title: '(the file itself)', state: 'failed', wire });
  }
  return results;
}

const stateOf = (status: string): State =>
  status === 'passed' ? 'passed' : status === 'failed' ? 'failed' : 'skipped';

export function count(results: TestResult[]): Counts {
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  for (const { state } of results) counts[state]++;
  return counts;
}

/** Prints the closing line; false if a test failed or none ran. */
export function close(results: TestResult[]): boolean {
  const { passed, failed, skipped } = count(results);
  for (const { run, file, title, state } of results)
    if (state === 'failed') console.log(`failed (${run}): ${file} > ${title}`);
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  return failed === 0 && passed > 0;
}
