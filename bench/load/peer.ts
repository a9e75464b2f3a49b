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
import { comparison, type Pair, remark, rowOf } from './comparison.ts';
import { holdfast } from './holdfast.ts';
import { kamailio, missing } from './kamailio.ts';
import { measure } from './measure.ts';
import { canPin, pinGenerator } from './subject.ts';

const HELP = `npm run bench:peer -- [options] [word ...]

Holdfast and Kamailio (kamailio, kamailio-outbound-modules; for tls and ws kamailio-tls-modules and
kamailio-websocket-modules) as an edge, one worker each, on the same work in turns. Words choose the cells whose name has
all of them: "register tls", "core-tcp stateful".

  --quick          one round of 1 s a cell, in place of 3 of 2 s
  --rounds N
  --duration S     of a measurement
  --json FILE      every single result, - for standard output
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
  const cells = CELLS.filter((cell) => positionals.every((word) => nameOf(cell).includes(word)));
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
  const interrupt = new AbortController();
  process.once('SIGINT', () => interrupt.abort(new Error('interrupted')));
  const pinned = canPin();
  if (pinned) pinGenerator();
  const measured = new Map<Cell, Pair[]>(possible(cells).map((cell) => [cell, []]));
  let failed = 0;
  const before = loadavg();
  for (let round = 1; round <= pace.rounds; round++)
    for (const [cell, pairs] of measured) {
      try {
        const both = await pair(cell, pace, pinned, interrupt.signal);
        pairs.push(both);
        process.stderr.write(`${round} of ${pace.rounds}: ${remark(cell, both)}\n`);
      } catch (error) {
        if (interrupt.signal.aborted) throw error;
        failed++;
        process.stderr.write(
          `${round} of ${pace.rounds}: ${nameOf(cell)} failed: ${(error as Error).message}\n`,
        );
      }
    }
  const rows = [...measured]
    .filter(([, pairs]) => pairs.length > 0)
    .map(([cell, pairs]) => rowOf(cell, pairs));
  const { cpu, cpus, node, date } = machine();
  const all = {
    machine: machine(),
    pace,
    pinned,
    loadBefore: before,
    rows,
    results: [...measured.values()].flat(),
  };
  if (json !== undefined && json !== '-') writeFileSync(json, `${JSON.stringify(all, undefined, 2)}\n`);
  if (json === '-') process.stdout.write(`${JSON.stringify(all, undefined, 2)}\n`);
  else {
    process.stdout.write(`${comparison(rows)}\n`);
    process.stdout.write(
      `${cpu}, ${cpus} cores, Node ${node}, ${date}; ${pace.rounds} rounds of ${pace.duration} s${pinned ? ', pinned' : ''}; load average before ${before.map((n) => n.toFixed(2)).join(' ')}\n`,
    );
  }
  return failed > 0 || rows.some(({ errors }) => errors > 0) ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
}
