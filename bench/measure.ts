/**
 * Measures one suite in a process of its own, so that no suite sees the types that another one fed to
 * the code they share. Started by run.ts: `measure.ts FILE ROUNDS MS`, reports by process message.
 *
 * tinybench takes the samples. One sample is a batch of about 0.2 ms, since a clock read costs as much
 * as the shorter operations; a round's figure is the median of its batches. Every round measures the
 * calibration work too, next to the case.
 */
import { pathToFileURL } from 'node:url';
import { Bench, now } from 'tinybench';
import { calibrate } from './calibration.ts';
import type { Case, Measured, Prepare, Report } from './suite.ts';

const BATCH_MS = 0.2;
const CALIBRATION_MS = 4;
/** The optimising compiler works beside the code: on a busy machine it is this late. */
const WARM_UP_MS = 200;

/** Milliseconds of `times` calls. */
function timed(run: () => unknown, times: number): number {
  const start = now();
  for (let i = 0; i < times; i++) run();
  return now() - start;
}

/** Calls until the code is hot, and returns how many of them make a batch. */
function warmUp(run: () => unknown, ms: number): number {
  let times = 1;
  for (let spent = 0; spent < ms; ) {
    const took = timed(run, times);
    spent += took;
    times = Math.max(1, Math.min(times * 2, Math.round((times * BATCH_MS) / Math.max(took, 1e-4))));
  }
  return times;
}

/** Nanoseconds an operation: the median batch of one round. */
function round(run: () => unknown, times: number, ops: number, ms: number): number {
  const bench = new Bench({ time: ms, iterations: 8, warmup: false, throws: true });
  bench.add('round', () => {
    const took = timed(run, times);
    return { overriddenDuration: took / (times * ops), overriddenIterationCost: took };
  });
  bench.runSync();
  const { result } = bench.tasks[0];
  if (result.state !== 'completed') throw new Error(`a round ended as ${result.state}`);
  return result.latency.p50 * 1e6;
}

function measure({ name, run, ops = 1 }: Case, rounds: number, ms: number): Measured {
  const measured: Measured = { name, rounds: [], calibration: [] };
  const unit = warmUp(calibrate, CALIBRATION_MS);
  const times = warmUp(run, WARM_UP_MS);
  for (let i = 0; i < rounds; i++) {
    measured.calibration.push(round(calibrate, unit, 1, CALIBRATION_MS));
    measured.rounds.push(round(run, times, ops, ms));
  }
  return measured;
}

const [file, rounds, ms] = process.argv.slice(2);
const { default: prepare } = (await import(pathToFileURL(file).href)) as { default: Prepare };
const suite = await prepare();
const report: Report = { measured: [] };
if (typeof suite === 'string') report.skipped = suite;
else {
  for (const one of suite.cases) report.measured.push(measure(one, Number(rounds), Number(ms)));
  const fastest = report.measured.map(({ name, rounds }) => [name, Math.min(...rounds)] as const);
  if (suite.notes) report.notes = suite.notes(new Map(fastest));
  await suite.close?.();
}
process.send?.(report, () => process.disconnect?.());
