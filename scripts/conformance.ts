/**
 * `npm run conformance`: what of the RFCs is shown by a passing test. Requirement ids stand in square
 * brackets at the end of test names; this joins them with test/conformance/requirements.json, so the
 * table cannot say more than the last run did.
 *
 *   --run        run the tests first (also done when there is no report yet)
 *   --markdown   write docs/conformance.md
 *   --open       list only what is not shown
 *
 * Exit code 1 if a test carries an id that no requirement has.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, type RunName, readResults, type TestResult } from './results.ts';

const RUNS: RunName[] = ['ffi', 'core', 'interop'];

interface Row {
  id: string;
  level: string;
  text: string;
  section: string;
  state: string;
  tests: TestResult[];
}

type Requirements = Record<string, Record<string, string>>;

function load(): Row[] {
  const file = join(ROOT, 'test/conformance/requirements.json');
  const sections = JSON.parse(readFileSync(file, 'utf8')) as Requirements;
  return Object.entries(sections).flatMap(([section, rows]) =>
    Object.entries(rows).map(([id, entry]) => {
      const at = entry.indexOf(': ');
      return { id, level: entry.slice(0, at), text: entry.slice(at + 2), section, state: '', tests: [] };
    }),
  );
}

const collect = (): TestResult[] => RUNS.flatMap((run) => readResults(run) ?? []);

/** The ids at the end of a test's title; other bracketed text is left alone. */
export function idsOf(title: string): string[] {
  const last = /\[([^[\]]+)\]\s*$/.exec(title)?.[1] ?? '';
  const words = last.split(/[\s,]+/).filter(Boolean);
  return words.every((w) => /^[A-Za-z0-9]+-[0-9A-Za-z.]+-[0-9A-Za-z]+$/.test(w)) ? words : [];
}

/** One word for the passing tests of a requirement; a failure anywhere outweighs them. */
function stateOf(tests: TestResult[]): string {
  if (tests.some((t) => t.state === 'failed')) return 'failing';
  const passed = tests.filter((t) => t.state === 'passed');
  if (passed.length === 0) return 'not yet';
  const runs = new Set(passed.filter((t) => t.wire).map((t) => t.run));
  if (runs.has('ffi') && runs.has('core')) return 'shown, both backends';
  if (runs.has('core')) return 'shown, core';
  if (runs.has('ffi')) return 'shown, ffi only';
  if (runs.has('interop')) return 'shown, interop';
  return 'shown, in memory';
}

const isShown = (row: Row) => row.state.startsWith('shown');

function summary(
  rows: Row[],
): [section: string, shown: number, failing: number, open: number, all: number][] {
  return [...new Set(rows.map((r) => r.section))].map((section) => {
    const mine = rows.filter((r) => r.section === section);
    const failing = mine.filter((r) => r.state === 'failing').length;
    const shown = mine.filter(isShown).length;
    return [section, shown, failing, mine.length - shown - failing, mine.length];
  });
}

function print(rows: Row[], onlyOpen: boolean): void {
  for (const row of rows) {
    if (onlyOpen && isShown(row)) continue;
    console.log(
      `${row.id.padEnd(18)} ${row.level.padEnd(10)} ${row.state.padEnd(21)} ${row.text.slice(0, 110)}`,
    );
  }
  console.log('');
  console.log(`${'Section'.padEnd(72)} shown failing not yet   all`);
  const cells = (numbers: number[]) =>
    numbers
      .map((n) => String(n).padStart(7))
      .join('')
      .slice(2);
  for (const [section, ...numbers] of summary(rows)) console.log(`${section.padEnd(72)}${cells(numbers)}`);
  const shown = rows.filter(isShown).length;
  console.log(`${shown} of ${rows.length} requirements shown by a passing test`);
}

function markdown(rows: Row[]): string {
  const cell = (text: string) => text.replaceAll('|', '\\|');
  const lines = [
    '# Conformance',
    '',
    'Made by `npm run conformance -- --markdown` from the names of the tests that passed; not written by hand.',
    'State: *both backends* and *ffi only* are black-box tests on real sockets, *in memory* are tests of one layer.',
    '',
    '| Section | shown | failing | not yet | all |',
    '|---|---:|---:|---:|---:|',
    ...summary(rows).map((s) => `| ${s.join(' | ')} |`),
  ];
  for (const section of new Set(rows.map((r) => r.section))) {
    lines.push(
      '',
      `## ${section}`,
      '',
      '| Id | Level | Requirement | State | Tests |',
      '|---|---|---|---|---|',
    );
    for (const row of rows.filter((r) => r.section === section)) {
      const files = [...new Set(row.tests.filter((t) => t.state === 'passed').map((t) => t.file))];
      const links = files
        .map((f) => `[${f.replace(/^test\//, '').replace(/\.test\.ts$/, '')}](../${f})`)
        .join(', ');
      lines.push(`| ${row.id} | ${row.level} | ${cell(row.text)} | ${row.state} | ${links} |`);
    }
  }
  return `${lines.join('\n')}\n`;
}

const options = new Set(process.argv.slice(2));
if (options.has('--run') || collect().length === 0)
  spawnSync(process.execPath, [join(ROOT, 'scripts/test.ts')], { cwd: ROOT, stdio: 'inherit' });

const rows = load();
const byId = new Map(rows.map((row) => [row.id, row]));
const unknown: string[] = [];
for (const test of collect())
  for (const id of idsOf(test.title)) {
    const row = byId.get(id);
    if (row) row.tests.push(test);
    else unknown.push(`${id} in ${test.file} > ${test.title}`);
  }
for (const row of rows) row.state = stateOf(row.tests);

print(rows, options.has('--open'));
if (options.has('--markdown')) {
  mkdirSync(join(ROOT, 'docs'), { recursive: true });
  writeFileSync(join(ROOT, 'docs/conformance.md'), markdown(rows));
}
for (const entry of new Set(unknown)) console.log(`unknown requirement id: ${entry}`);
process.exitCode = unknown.length > 0 ? 1 : 0;
