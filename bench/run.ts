/**
 * `npm run bench -- [--quick] [--save] [--against DIR [--turns N]] [word ...]`: measures the suites of this folder
 * and prints one table. Words choose suites whose path (`wire/lexer`) contains one of them. A suite whose name ends
 * in `-large` takes minutes and a gigabyte: it runs only where a word has `large` in it (`npm run bench -- lmdb-large`).
 *
 * The figure of a case is its fastest round: what disturbs a measurement only ever adds to it. `±` says
 * how far above that the median round lies, so it shows how disturbed the run was. `ratio` is the cost
 * in units of the calibration work, divided by the same of the stored baseline: below 1 is faster.
 *
 * --against: another checkout's suites are measured in turns with these, and are the baseline of this
 * run. That is how a change is judged on a machine that is busy with other things. The compiler does not
 * decide alike in every process, by some per cent: more turns (3 is the default) average that out.
 * Exit code 1 if a suite throws.
 */
import { fork } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type Figure, machine, ratio, readBaseline, saveBaseline } from './baseline.ts';
import type { Measured, Report } from './suite.ts';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const SUFFIX = '.bench.ts';
const LARGE = '-large';

const { values: options, positionals: words } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    save: { type: 'boolean', default: false },
    against: { type: 'string' },
    turns: { type: 'string', default: '3' },
  },
});
const rounds = options.quick ? 3 : 8;
const ms = options.quick ? 15 : 50;
const turns = options.against === undefined ? 1 : Number(options.turns);

const suites = readdirSync(HERE, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith(SUFFIX))
  .map((file) => file.slice(0, -SUFFIX.length))
  .filter((suite) => isChosen(suite))
  .sort();

function isChosen(suite: string): boolean {
  if (suite.endsWith(LARGE)) return words.some((word) => suite.includes(word) && word.includes('large'));
  return words.length === 0 || words.some((word) => suite.includes(word));
}

function measure(directory: string, suite: string): Promise<Report> {
  return new Promise((done, fail) => {
    const args = [join(directory, `${suite}${SUFFIX}`), String(rounds), String(ms)];
    const child = fork(join(HERE, 'measure.ts'), args, { stdio: 'inherit' });
    let report: Report | undefined;
    child.once('message', (message) => {
      report = message as Report;
    });
    child.once('error', fail);
    child.once('exit', (code, signal) => {
      if (code === 0 && report) done(report);
      else fail(new Error(`ended with ${signal ?? `exit code ${code}`}`));
    });
  });
}

/** The same suite measured several times is one with more rounds. */
function merge(reports: Report[]): Report {
  const [first, ...others] = reports;
  for (const { measured } of others) {
    first.measured.forEach((one, i) => {
      one.rounds.push(...measured[i].rounds);
      one.calibration.push(...measured[i].calibration);
    });
  }
  return first;
}

const figure = ({ rounds, calibration }: Measured): Figure => ({
  ns: Math.min(...rounds),
  calibration: Math.min(...calibration),
});

const spread = ({ rounds }: Measured): number => {
  const sorted = rounds.toSorted((a, b) => a - b);
  return (sorted[sorted.length >> 1] / sorted[0] - 1) * 100;
};

const quantity = (n: number): string => n.toLocaleString('en', { maximumSignificantDigits: 4 });

const line = (suite: string, name: string, ...columns: string[]): void =>
  console.log(`${suite.padEnd(20)} ${name.padEnd(54)}${columns.map((c) => c.padStart(13)).join('')}`);

const { cpu, cpus, node } = machine();
const stored = options.against === undefined ? readBaseline() : undefined;
console.log(`${cpu}, ${cpus} CPUs, Node ${node}: ${rounds} rounds of ${ms} ms; ns/op is the fastest round.`);
if (stored)
  console.log(`ratio: to ${stored.machine.cpu}, Node ${stored.machine.node}, ${stored.machine.date}`);
else console.log(options.against === undefined ? 'no baseline is stored' : `ratio: to ${options.against}`);
line('suite', 'case', 'ops/s', 'ns/op', '± %', 'ratio');

const figures: Record<string, Figure> = {};
let failed = 0;
for (const suite of suites) {
  try {
    const here: Report[] = [];
    const there: Report[] = [];
    for (let turn = 0; turn < turns; turn++) {
      if (options.against !== undefined)
        there.push(await measure(join(resolve(options.against), 'bench'), suite));
      here.push(await measure(HERE, suite));
    }
    const report = merge(here);
    if (report.skipped !== undefined) line(suite, `skipped: ${report.skipped}`);
    const before = there.length > 0 ? merge(there).measured : [];
    for (const one of report.measured) {
      const id = `${suite} ${one.name}`;
      const now = figure(one);
      const other = before.find(({ name }) => name === one.name);
      const base = other ? figure(other) : stored?.cases[id];
      figures[id] = now;
      const relative = base ? ratio(now, base).toFixed(2) : '-';
      line(suite, one.name, quantity(1e9 / now.ns), quantity(now.ns), spread(one).toFixed(1), relative);
    }
    for (const note of report.notes ?? []) line(suite, note);
  } catch (error) {
    failed++;
    line(suite, `FAILED: ${(error as Error).message}`);
  }
}
if (options.save && failed === 0) saveBaseline(figures);
process.exitCode = failed === 0 && suites.length > 0 ? 0 : 1;
