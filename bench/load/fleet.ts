/**
 * The load processes of bench:agents as their conductor sees them: started with their share, told what to do, their
 * counts added up; and what the kernel says a process costs. A load process that ends of itself is an error.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Order, Share, Word } from './agents-entry.ts';
import { type Counts, noCounts, sum } from './counts.ts';
import type { Step } from './history.ts';

const ENTRY = new URL('./agents-entry.ts', import.meta.url);
/** Below the limit of 20,000 descriptors that a process commonly has, with room for anything else. */
const MOST_SOCKETS = 7_000;
const TICKS_PER_SECOND = 100;

export const processesFor = (sockets: number, atLeast: number): number =>
  Math.max(atLeast, Math.ceil(sockets / MOST_SOCKETS));

/** KB: what the process has alone, and its part of what it shares. */
export function pssOf(pid: number): number {
  return Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1]);
}

/** Seconds of user and system time so far, all threads. */
export function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** ms of the clock that all processes of a machine have in common. */
export const monotonic = (): number => Number(process.hrtime.bigint()) / 1e6;

class LoadProcess {
  readonly pid: number;
  counts: Counts;
  readonly ready: Promise<void>;
  readonly #child: ChildProcess;
  #told: ((histories: Step[][][]) => void) | undefined;
  #ending = false;
  readonly #exit: Promise<void>;

  constructor(share: Share, failed: (error: Error) => void) {
    const child = fork(ENTRY, [JSON.stringify(share)], { execArgv: [] });
    const ready = Promise.withResolvers<void>();
    this.#child = child;
    this.pid = child.pid as number;
    this.ready = ready.promise;
    this.counts = noCounts(share.proxies.length);
    const orphaned = () => child.kill('SIGKILL');
    process.once('exit', orphaned);
    this.#exit = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        process.removeListener('exit', orphaned);
        if (!this.#ending) failed(new Error(`a load process ended (code ${code}, signal ${signal})`));
        resolve();
      });
    });
    child.on('message', (word: Word) => {
      if (word.word === 'ready') ready.resolve();
      else if (word.word === 'counts') this.counts = word.counts;
      else this.#told?.(word.histories);
    });
  }

  order(order: Order['order']): void {
    this.#child.send({ order });
  }

  histories(): Promise<Step[][][]> {
    return new Promise((resolve) => {
      this.#told = resolve;
      this.order('histories');
    });
  }

  end(): Promise<void> {
    this.#ending = true;
    if (this.#child.connected) this.order('end');
    return this.#exit;
  }
}

export class Fleet {
  /** rejects when a load process ends of itself, or by `breakOff` */
  readonly broken: Promise<never>;
  readonly breakOff: (error: Error) => void;
  readonly #processes: LoadProcess[];

  constructor(shares: readonly Share[]) {
    const broken = Promise.withResolvers<never>();
    this.broken = broken.promise;
    this.breakOff = broken.reject;
    this.broken.catch(() => {});
    this.#processes = shares.map((share) => new LoadProcess(share, broken.reject));
  }

  async ready(): Promise<void> {
    await Promise.race([this.broken, Promise.all(this.#processes.map(({ ready }) => ready))]);
  }

  start(): void {
    for (const one of this.#processes) one.order('start');
  }

  get pids(): number[] {
    return this.#processes.map(({ pid }) => pid);
  }

  get counts(): Counts {
    return this.#processes.map(({ counts }) => counts).reduce(sum);
  }

  /** Of all agents in the order of their numbers, by edge. */
  async histories(): Promise<Step[][][]> {
    const all = await Promise.race([this.broken, Promise.all(this.#processes.map((one) => one.histories()))]);
    return all.flat();
  }

  async end(): Promise<void> {
    await Promise.all(this.#processes.map((one) => one.end()));
  }
}
