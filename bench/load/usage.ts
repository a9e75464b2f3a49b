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

/** What each process and thread had used, of all time, in seconds. */
export interface Reading {
  /** [user, system] by process id */
  processes: Map<number, [number, number]>;
  /** [name, seconds] by thread id: the name may change */
  threads: Map<number, [string, number]>;
}

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

export function readingOf(pid: number): Reading {
  const reading: Reading = { processes: new Map(), threads: new Map() };
  for (const process of tree(pid)) {
    const stat = statOf(`/proc/${process}/stat`);
    if (stat.length < 13) continue; // it has ended
    reading.processes.set(process, [Number(stat[11]) * TICK_SECONDS, Number(stat[12]) * TICK_SECONDS]);
    for (const thread of list(`/proc/${process}/task`)) {
      const seconds = Number(text(`/proc/${process}/task/${thread}/schedstat`).split(' ')[0]) * NANO;
      const name = text(`/proc/${process}/task/${thread}/comm`).trim();
      reading.threads.set(Number(thread), [name, seconds]);
    }
  }
  return reading;
}

/** What was used between two readings. A thread or process that has ended in between is not in it. */
export function between(before: Reading, after: Reading): Cpu {
  const cpu: Cpu = { total: 0, user: 0, system: 0, threads: new Map() };
  for (const [pid, [user, system]] of after.processes) {
    const [userBefore, systemBefore] = before.processes.get(pid) ?? [0, 0];
    cpu.user += user - userBefore;
    cpu.system += system - systemBefore;
  }
  const threads = new Map<string, number>();
  for (const [id, [name, seconds]] of after.threads) {
    const used = seconds - (before.threads.get(id)?.[1] ?? 0);
    if (!(used > 0)) continue;
    threads.set(`${name} (${id})`, used);
    cpu.total += used;
  }
  // a kernel without schedstat
  if (cpu.total === 0) cpu.total = cpu.user + cpu.system;
  cpu.threads = new Map([...threads].sort(([, a], [, b]) => b - a));
  return cpu;
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
  const before = pid === undefined ? undefined : readingOf(pid);
  const own = process.threadCpuUsage();
  const begun = performance.now();
  return () => {
    const seconds = (performance.now() - begun) / 1000;
    const { user, system } = process.threadCpuUsage(own);
    const cpu = before && pid !== undefined ? between(before, readingOf(pid)) : undefined;
    return { seconds, cpu, generator: (user + system) / 1e6 / seconds };
  };
}
