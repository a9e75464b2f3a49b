/**
 * What a server costs, read from /proc while it runs: the process and all below it, so that one that forks is read
 * whole. Processor time is what the scheduler has counted for each thread (schedstat, nanoseconds); the ticks of
 * `stat` (10 ms) say how it divides into user and system. Memory is PSS: a page that several share counts once.
 *
 * Kernel memory (socket buffers) is nobody's here, and what the kernel does in interrupts is charged to whom it met.
 */
import { readdirSync, readFileSync } from 'node:fs';

const TICK_SECONDS = 0.01;
const NANO = 1e-9;

export interface Cpu {
  /** seconds */
  total: number;
  user: number;
  system: number;
  /** seconds by "name (thread id)" */
  threads: Map<string, number>;
}

function text(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // it has ended
  }
}

function list(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

/** Fields of a stat file behind the name, which may have spaces: [0] is the state. */
const statOf = (path: string): string[] => {
  const all = text(path);
  return all.slice(all.lastIndexOf(')') + 2).split(' ');
};

function tree(pid: number): number[] {
  const parents = list('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => ({ pid: Number(name), parent: Number(statOf(`/proc/${name}/stat`)[1]) }));
  const all = [pid];
  for (const each of all) for (const { pid, parent } of parents) if (parent === each) all.push(pid);
  return all;
}

export function cpuOf(pid: number): Cpu {
  const cpu: Cpu = { total: 0, user: 0, system: 0, threads: new Map() };
  for (const process of tree(pid)) {
    const stat = statOf(`/proc/${process}/stat`);
    cpu.user += Number(stat[11] ?? 0) * TICK_SECONDS;
    cpu.system += Number(stat[12] ?? 0) * TICK_SECONDS;
    for (const thread of list(`/proc/${process}/task`)) {
      const seconds = Number(text(`/proc/${process}/task/${thread}/schedstat`).split(' ')[0]) * NANO;
      cpu.total += seconds;
      cpu.threads.set(`${text(`/proc/${process}/task/${thread}/comm`).trim()} (${thread})`, seconds);
    }
  }
  // a kernel without schedstat
  if (cpu.total === 0) cpu.total = cpu.user + cpu.system;
  return cpu;
}

/** What was used between two readings. A thread that has ended in between is not in it. */
export function between(before: Cpu, after: Cpu): Cpu {
  const threads = new Map<string, number>();
  for (const [name, seconds] of after.threads) {
    const used = seconds - (before.threads.get(name) ?? 0);
    if (used > 0) threads.set(name, used);
  }
  return {
    total: after.total - before.total,
    user: after.user - before.user,
    system: after.system - before.system,
    threads: new Map([...threads].sort(([, a], [, b]) => b - a)),
  };
}

/** KiB */
export function memoryOf(pid: number): number {
  let all = 0;
  for (const process of tree(pid))
    all += Number(/^Pss: +(\d+)/m.exec(text(`/proc/${process}/smaps_rollup`))?.[1] ?? 0);
  return all;
}

/** A stretch of time, and what it took. */
export interface Span {
  seconds: number;
  /** of the server; undefined where its process is not known */
  cpu: Cpu | undefined;
  /** share of one core that this thread took, the generator */
  generator: number;
}

/** Begins one; the function that it returns ends it. */
export function spanning(pid: number | undefined): () => Span {
  const before = pid === undefined ? undefined : cpuOf(pid);
  const own = process.threadCpuUsage();
  const begun = performance.now();
  return () => {
    const seconds = (performance.now() - begun) / 1000;
    const { user, system } = process.threadCpuUsage(own);
    const cpu = before && pid !== undefined ? between(before, cpuOf(pid)) : undefined;
    return { seconds, cpu, generator: (user + system) / 1e6 / seconds };
  };
}
