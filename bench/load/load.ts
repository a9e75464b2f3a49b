/** `npm run bench:load`: options, one measurement, what came of it. See HELP in options.ts. */
import { readFileSync, writeFileSync } from 'node:fs';
import { selfTest } from '../../src/native/available.ts';
import { holdfast } from './holdfast.ts';
import { measure, type Progress, type Result } from './measure.ts';
import { HELP, OptionError, type Options, parse } from './options.ts';
import { picture } from './picture.ts';
import { canPin, pinGenerator } from './subject.ts';
import { table, titleOf } from './table.ts';
import { target } from './target.ts';

/** Descriptors that this process may have: node takes all that it can get. */
export function descriptors(): number {
  const limits = readFileSync('/proc/self/limits', 'utf8');
  return Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? 1024);
}

/** One line that changes on a terminal, one a second elsewhere. */
function shown(): Progress {
  const { stderr } = process;
  return (doing, done = 0) => {
    const text = `${doing}${done > 0 ? ` ${done.toLocaleString('en')}` : ''}`;
    stderr.write(stderr.isTTY ? `\r\x1b[K${text}` : `${text}\n`);
  };
}

async function run(options: Options): Promise<Result> {
  const interrupt = new AbortController();
  process.once('SIGINT', () => interrupt.abort(new Error('interrupted')));
  if (options.pin) pinGenerator();
  const subject = options.target ? target(options) : await holdfast(options, options.pin);
  const result = await measure(loadOf(options), subject, interrupt.signal, shown());
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  return result;
}

/** Without what is not the work's. */
function loadOf(options: Options): Result['load'] {
  const { mode, transport, core, flows, rate, window, duration, warmup, timeout, workers, forwarding } =
    options;
  return { mode, transport, core, flows, rate, window, duration, warmup, timeout, workers, forwarding };
}

function tell(result: Result, { json, svg }: Options): void {
  const text = `${JSON.stringify(result, undefined, 2)}\n`;
  if (json === '-') process.stdout.write(text);
  else {
    process.stdout.write(table(result));
    if (json !== undefined) writeFileSync(json, text);
  }
  if (svg !== undefined) writeFileSync(svg, picture(result, titleOf(result)));
}

async function main(): Promise<number> {
  const options = parse(process.argv.slice(2), process.env, descriptors());
  if (options === 'help') {
    process.stdout.write(HELP);
    return 0;
  }
  const native = selfTest();
  if (!native.ok) throw new Error(`the generator needs native sockets: ${native.reason}`);
  if (options.pin && !canPin()) throw new OptionError('--pin needs two cores and taskset');
  const result = await run(options);
  tell(result, options);
  return result.errors > 0 ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = error instanceof OptionError ? 2 : 1;
}
