/**
 * One measurement: the server is started, the flows are opened and registered, it is warmed up, and then for the time
 * of the measurement the work is done while the server's processor time is read at both ends. What is still in flight
 * at the end is waited for, so that each transaction is accounted for, but not counted in the rate.
 */
import { loadavg } from 'node:os';
import { type Baseline, machine } from '../baseline.ts';
import { Generator, type Tally } from './generator.ts';
import type { Load } from './options.ts';
import type { Started, Subject } from './subject.ts';
import { type Point, Timeline } from './timeline.ts';
import { between, type Cpu, cpuOf, memoryOf } from './usage.ts';

export interface Latency {
  p50: number;
  p90: number;
  p99: number;
  p999: number;
  max: number;
  mean: number;
}

export interface CpuUse {
  /** microseconds of the server's threads, user and system, for each transaction (idle: for each flow opened) */
  usPerTransaction: number;
  /** seconds */
  user: number;
  system: number;
  /** of one core */
  share: number;
  /** share of one core by thread, largest first */
  threads: Record<string, number>;
}

export interface Memory {
  /** KiB, PSS: without flows, with all of them, after the load */
  before: number;
  flows: number;
  after: number;
  /** KiB that each flow added */
  perFlow: number;
}

export interface Result {
  server: string;
  load: Load;
  /** answered in the time of the measurement (idle: flows registered) */
  transactions: number;
  seconds: number;
  /** transactions a second */
  rate: number;
  tally: Tally;
  /** failed, lost, closed, unsent, misrouted */
  errors: number;
  /** flows that stood at the end */
  alive: number;
  /** microseconds */
  latency: Latency;
  cpu: CpuUse | undefined;
  memory: Memory | undefined;
  /** share of one core that the generator took: near 1 it was the limit, and not the server */
  generator: number;
  timeline: Point[];
  /** [at most this many microseconds, transactions] */
  histogram: Array<[number, number]>;
  machine: Baseline['machine'];
  /** load averages before the start, from 1 to 15 minutes */
  loadBefore: number[];
}

export const errorsOf = ({ failed, lost, closed, unsent, misrouted }: Tally): number =>
  failed + lost + closed + unsent + misrouted;

/** Told what is being done, with a count where there is one. */
export type Progress = (doing: string, done?: number) => void;

export async function measure(
  load: Load,
  subject: Subject,
  signal: AbortSignal,
  progress: Progress = () => {},
): Promise<Result> {
  const loadBefore = loadavg();
  const generator = new Generator(load, { server: subject.address, core: subject.core, ca: subject.ca });
  let started: Started | undefined;
  let doing = 'starting the server';
  const ticking = setInterval(() => progress(doing, generator.tally.answered), 1000);
  try {
    progress(doing);
    started = await subject.start(generator.core);
    const { pid } = started;
    const read = (): Reading => ({ cpu: pid ? cpuOf(pid) : undefined, pss: pid ? memoryOf(pid) : 0 });
    const empty = read();
    if (load.mode !== 'churn') {
      doing = 'opening flows';
      await generator.open(signal);
      doing = 'registering';
      await generator.registerAll(signal);
    }
    const full = read();
    const run = load.mode === 'idle' ? idle : work;
    doing = load.mode === 'idle' ? 'holding' : 'warming up';
    const part = await run(load, generator, signal, () => {
      doing = 'measuring';
      return pid ? cpuOf(pid) : undefined;
    });
    const idleCpu = empty.cpu && full.cpu && between(empty.cpu, full.cpu);
    const used = load.mode === 'idle' ? idleCpu : part.cpu;
    const histogram = part.timeline.total();
    const p = (fraction: number) => histogram.percentile(fraction);
    return {
      server: subject.name,
      load,
      transactions: part.transactions,
      seconds: part.seconds,
      rate: part.transactions / part.seconds,
      tally: part.tally,
      errors: errorsOf(part.tally),
      alive: generator.alive,
      latency: {
        p50: p(0.5),
        p90: p(0.9),
        p99: p(0.99),
        p999: p(0.999),
        max: histogram.max,
        mean: Math.round(histogram.mean * 10) / 10,
      },
      cpu: used && useOf(used, part.transactions, part.seconds),
      memory: pid ? memoryFrom(empty.pss, full.pss, memoryOf(pid), generator.alive) : undefined,
      generator: part.generator,
      timeline: part.timeline.points(),
      histogram: histogram.buckets(),
      machine: machine(),
      loadBefore,
    };
  } finally {
    clearInterval(ticking);
    generator.end();
    await started?.stop();
  }
}

interface Reading {
  cpu: Cpu | undefined;
  pss: number;
}

interface Part {
  transactions: number;
  seconds: number;
  tally: Tally;
  cpu: Cpu | undefined;
  generator: number;
  timeline: Timeline;
}

type Run = (
  load: Load,
  generator: Generator,
  signal: AbortSignal,
  cpu: () => Cpu | undefined,
) => Promise<Part>;

const work: Run = async (load, generator, signal, cpu) => {
  const { mode, duration, warmup, rate } = load;
  if (mode === 'idle') throw new Error('idle is no work');
  if (warmup > 0) {
    await generator.run({ work: mode, count: warmup, seconds: 600 }, signal);
    await generator.drain(signal);
  }
  const timeline = new Timeline(duration * 1000);
  const before = cpu();
  const own = process.threadCpuUsage();
  const ms = await generator.run(
    { work: mode, count: Number.POSITIVE_INFINITY, seconds: duration, rate, timeline },
    signal,
  );
  const after = cpu();
  const { user, system } = process.threadCpuUsage(own);
  const transactions = generator.tally.answered;
  await generator.drain(signal);
  return {
    transactions,
    seconds: ms / 1000,
    tally: generator.tally,
    cpu: before && after && between(before, after),
    generator: (user + system) / 1000 / ms,
    timeline,
  };
};

/** The transactions are the registrations that were done already. */
const idle: Run = async (load, generator, signal, cpu) => {
  const { tally } = generator;
  cpu();
  const own = process.threadCpuUsage();
  await generator.hold(load.duration, signal);
  const { user, system } = process.threadCpuUsage(own);
  return {
    transactions: tally.answered,
    seconds: load.duration,
    tally,
    cpu: undefined,
    generator: (user + system) / 1e6 / load.duration,
    timeline: new Timeline(load.duration * 1000),
  };
};

const useOf = (cpu: Cpu, transactions: number, seconds: number): CpuUse => ({
  usPerTransaction: (cpu.total * 1e6) / Math.max(1, transactions),
  user: cpu.user,
  system: cpu.system,
  share: cpu.total / seconds,
  threads: Object.fromEntries([...cpu.threads].map(([name, used]) => [name, used / seconds])),
});

const memoryFrom = (before: number, flows: number, after: number, alive: number): Memory => ({
  before,
  flows,
  after,
  perFlow: alive > 0 ? (flows - before) / alive : 0,
});
