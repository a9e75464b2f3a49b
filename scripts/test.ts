/**
 * `npm test`: every test once with the raw-socket backend where it exists, then the wire tests again
 * with Node's own sockets. Arguments are handed to vitest (file filters) and then apply to both runs.
 *
 * Ends with one line over all runs, `N passed, N failed, N skipped`; exit code 1 if a test failed, if
 * a run broke off, or if nothing ran.
 */

import { rmSync } from 'node:fs';
import { close, hasFfi, readResults, reportOf, runVitest, type TestResult, wireTests } from './results.ts';

const filters = process.argv.slice(2);
const results: TestResult[] = [];
let whole = true;

async function run(name: 'ffi' | 'core', files: string[]): Promise<void> {
  console.log(`\nHOLDFAST_IO=${name}`);
  const ended = await runVitest(name, files, { HOLDFAST_IO: name });
  const got = readResults(name) ?? [];
  results.push(...got);
  // vitest may fail without a failed test: an error after the tests, or no report at all
  if (!ended && !got.some((r) => r.state === 'failed')) whole = false;
}

if (hasFfi()) {
  await run('ffi', filters);
  const again = wireTests().filter((f) => filters.length === 0 || filters.some((part) => f.includes(part)));
  if (again.length > 0) await run('core', again);
} else {
  rmSync(reportOf('ffi'), { force: true });
  await run('core', filters);
}

const good = close(results);
process.exitCode = good && whole ? 0 : 1;
