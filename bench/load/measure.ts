/**
 * One measurement: the server is started, the flows are opened and registered, it is warmed up, and then for the time
 * of the measurement the work is done while the server's processor time is read at both ends. What is still in flight
 * at the end is waited for, so that each transaction is accounted for, but not counted in the rate. In an open loop it is
 * in the latencies: a server that stands still at the end is charged as for any other stall.
 */
import { loadavg } from 'node:os';
import { type Baseline, machine } from '../baseline.ts';
import { Generator, type Work } from './generator.ts';
import type { Load } from './options.ts';
import type { Started, Subject } from './subject.ts';
import { errorsOf, type Tally } from './tally.ts';
import { type Point, Timeline } from './timeline.ts';
import { type Cpu, memoryOf, type Span, spanning } from './usage.ts';

/** Of a warm-up: a server that answers nothing would make it endless. */
const LONGEST_S = 600;

export interface Latency {
  p50: number;
  p90: number;
  p99: number;
  p999: number;
  max: number;
  mean: number;
}

export interface CpuUse {
  /** microseconds of the server's threads, user and system, for each transaction */
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
  /** answered in the time of the measurement; idle: flows that were opened and registered, in their time */
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
  /** idle: share of one core while the flows were held */
  held: number | undefined;
  memory: Memory | undefined;
  /** share of one core that the generator took: near 1 it was the limit, and not the server */
  generator: number;
  timeline: Point[];
  /** [at most this many microseconds, transactions]; open loop: those in flight at the end too, as in `latency` */
  histogram: Array<[number, number]>;
  machine: Baseline['machine'];
  /** load averages before the start, from 1 to 15 minutes */
  loadBefore: number[];
}

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
    const pss = (): number => (pid === undefined ? 0 : memoryOf(pid));
    const empty = pss();
    const opened = spanning(pid);
    if (load.mode !== 'churn') {
      doing = 'opening and registering flows';
      await generator.setUp(signal);
    }
    const setUp = { ...opened(), tally: generator.tally, transactions: load.flows };
    const full = pss();
    const standing = generator.alive;
    let part: Part = { ...setUp, timeline: new Timeline(load.duration * 1000) };
    let held: number | undefined;
    if (load.mode === 'idle') {
      doing = 'holding';
      const holding = spanning(pid);
      await generator.hold(load.duration, signal);
      const { cpu, seconds } = holding();
      held = cpu && cpu.total / seconds;
      part.tally.closed += load.flows - generator.alive;
    } else {
      doing = 'warming up';
      await warmUp(load.mode, load, generator, signal);
      doing = 'measuring';
      part = await underLoad(load.mode, load, generator, pid, signal);
    }
    return {
      server: subject.name,
      load,
      ...figuresOf(part),
      held,
      alive: generator.alive,
      memory: pid === undefined ? undefined : memoryFrom(empty, full, pss(), standing),
      machine: machine(),
      loadBefore,
    };
  } finally {
    clearInterval(ticking);
    generator.end();
    await started?.stop();
  }
}

interface Part extends Span {
  transactions: number;
  tally: Tally;
  timeline: Timeline;
}

async function warmUp(
  work: Work,
  { warmup }: Load,
  generator: Generator,
  signal: AbortSignal,
): Promise<void> {
  if (warmup === 0) return;
  await generator.run({ work, count: warmup, seconds: LONGEST_S }, signal);
  await generator.drain(signal);
}

async function underLoad(
  work: Work,
  { duration, rate }: Load,
  generator: Generator,
  pid: number | undefined,
  signal: AbortSignal,
): Promise<Part> {
  const timeline = new Timeline(duration * 1000);
  const ended = spanning(pid);
  await generator.run({ work, count: Number.POSITIVE_INFINITY, seconds: duration, rate, timeline }, signal);
  const span = ended();
  const transactions = generator.tally.answered;
  await generator.drain(signal);
  return { ...span, transactions, tally: generator.tally, timeline };
}

function figuresOf({ transactions, seconds, tally, cpu, generator, timeline }: Part) {
  const histogram = timeline.total();
  const [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map((fraction) => histogram.percentile(fraction));
  return {
    transactions,
    seconds,
    rate: transactions / seconds,
    tally,
    errors: errorsOf(tally),
    latency: { p50, p90, p99, p999, max: histogram.max, mean: Math.round(histogram.mean * 10) / 10 },
    cpu: cpu && useOf(cpu, transactions, seconds),
    generator,
    timeline: timeline.points(),
    histogram: histogram.buckets(),
  };
}

const useOf = (cpu: Cpu, transactions: number, seconds: number): CpuUse => ({
  usPerTransaction: (cpu.total * 1e6) / Math.max(1, transactions),
  user: cpu.user,
  system: cpu.system,
  share: cpu.total / seconds,
  threads: Object.fromEntries([...cpu.threads].map(([name, used]) => [name, used / seconds])),
});

/** `standing`: flows, when the second reading was taken. */
const memoryFrom = (before: number, flows: number, after: number, standing: number): Memory => ({
  before,
  flows,
  after,
  perFlow: standing > 0 ? (flows - before) / standing : 0,
});
