/**
 * `npm run bench:peer`: the same work on Kamailio and on Holdfast, in turns, side by side on this machine. Rounds go over
 * all cells, so that a slow spell does not fall on one. Ends with 0 where Kamailio is not installed.
 */
import { writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { selfTest } from '../../src/native/available.ts';
import { machine } from '../baseline.ts';
import { CELLS, type Cell, loadOf, nameOf, type Pace, QUICK, THOROUGH } from './cells.ts';
import { comparison, type Pair, type Row, remark, rowOf } from './comparison.ts';
import { holdfast } from './holdfast.ts';
import { kamailio, missing } from './kamailio.ts';
import { measure, type Result } from './measure.ts';
import { canPin, pinGenerator } from './subject.ts';

const HELP = `npm run bench:peer -- [options] [word ...]

Holdfast and Kamailio (kamailio, kamailio-outbound-modules; for tls and ws kamailio-tls-modules and
kamailio-websocket-modules) as an edge, one worker each, on the same work in turns. Words choose cells: those whose name has
all of them (register tls; core-tcp stateful).

  --quick          one round of 1 s a cell, in place of 3 of 2 s
  --rounds N
  --duration S     of a measurement
  --json FILE      every result, - for standard output
  --list           the cells' names, and nothing else

With two cores or more and taskset the server has the first core and the generator the last one.
`;

function asked() {
  const text = { type: 'string' } as const;
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      quick: { type: 'boolean', default: false },
      rounds: text,
      duration: text,
      json: text,
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const usual = values.quick ? QUICK : THOROUGH;
  const pace: Pace = {
    ...usual,
    rounds: positive('rounds', values.rounds) ?? usual.rounds,
    duration: positive('duration', values.duration) ?? usual.duration,
  };
  const cells = CELLS.filter((cell) => positionals.every((word) => nameOf(cell).split(' ').includes(word)));
  return { ...values, pace, cells };
}

function positive(name: string, value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const n = Number(value);
  if (!(n > 0)) throw new Error(`--${name} ${value}: a number above 0`);
  return n;
}

/** What can be measured here; what cannot is said. */
function possible(cells: Cell[]): Cell[] {
  const reasons = new Set<string>();
  const left = cells.filter(({ transport }) => {
    const reason = missing(transport);
    if (reason) reasons.add(`not measured over ${transport}: ${reason}`);
    return !reason;
  });
  for (const reason of reasons) process.stderr.write(`${reason}\n`);
  return left;
}

async function pair(cell: Cell, pace: Pace, pinned: boolean, signal: AbortSignal): Promise<Pair> {
  const our = loadOf(cell, pace, false);
  const ours = await measure(our, await holdfast(our, pinned), signal);
  const their = loadOf(cell, pace, true);
  const theirs = await measure(their, await kamailio(their, pinned), signal);
  return { ours, theirs };
}

type Measured = Map<Cell, Pair[]>;

/** Returns how many pairs could not be measured; why is said. */
async function measureAll(measured: Measured, pace: Pace, pinned: boolean): Promise<number> {
  const interrupt = new AbortController();
  process.once('SIGINT', () => interrupt.abort(new Error('interrupted')));
  let failed = 0;
  for (let round = 1; round <= pace.rounds; round++)
    for (const [cell, pairs] of measured) {
      const head = `${round} of ${pace.rounds}:`;
      try {
        const both = await pair(cell, pace, pinned, interrupt.signal);
        pairs.push(both);
        process.stderr.write(`${head} ${remark(cell, both)}\n`);
      } catch (error) {
        if (interrupt.signal.aborted) throw error;
        failed++;
        process.stderr.write(`${head} ${nameOf(cell)} failed: ${(error as Error).message}\n`);
      }
    }
  return failed;
}

/** A result without its pictures. */
const figuresOf = ({ timeline: _, histogram: __, ...figures }: Result): object => figures;

function tell(measured: Measured, rows: Row[], json: string | undefined, circumstances: Circumstances): void {
  const results = [...measured.values()].flat().map(({ ours, theirs }) => [ours, theirs].map(figuresOf));
  const text = `${JSON.stringify({ ...circumstances, rows, results }, undefined, 2)}\n`;
  if (json === '-') {
    process.stdout.write(text);
    return;
  }
  if (json !== undefined) writeFileSync(json, text);
  const { machine, pace, pinned, loadBefore } = circumstances;
  const place = `${machine.cpu}, ${machine.cpus} cores, Node ${machine.node}, ${machine.date}`;
  const rounds = `${pace.rounds} round(s) of ${pace.duration} s${pinned ? ', pinned' : ''}`;
  const busy = loadBefore.map((n) => n.toFixed(2)).join(' ');
  process.stdout.write(`${comparison(rows)}\n${place}; ${rounds}; load average before ${busy}\n`);
}

interface Circumstances {
  machine: ReturnType<typeof machine>;
  pace: Pace;
  pinned: boolean;
  loadBefore: number[];
}

async function main(): Promise<number> {
  const { pace, cells, json, help, list } = asked();
  if (help || list) {
    process.stdout.write(help ? HELP : `${cells.map(nameOf).join('\n')}\n`);
    return 0;
  }
  const none = missing('udp');
  if (none) {
    process.stdout.write(`nothing to compare with: ${none}\n`);
    return 0;
  }
  const native = selfTest();
  if (!native.ok) throw new Error(`the generator needs native sockets: ${native.reason}`);
  const pinned = canPin();
  if (pinned) pinGenerator();
  const circumstances = { machine: machine(), pace, pinned, loadBefore: loadavg() };
  const measured: Measured = new Map(possible(cells).map((cell) => [cell, []]));
  const failed = await measureAll(measured, pace, pinned);
  const rows = [...measured]
    .filter(([, pairs]) => pairs.length > 0)
    .map(([cell, pairs]) => rowOf(cell, pairs));
  tell(measured, rows, json, circumstances);
  return failed > 0 || rows.some(({ errors }) => errors > 0) ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
}
