/**
 * The server under load as a child process of observed.ts: what the black box of harness/holdfast.ts
 * does, and beside it the records and counters that the entry reports, the descriptors that /proc counts,
 * and the memory that it holds.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Address } from '../harness/agent.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { compiledShared } from '../harness/temporary.ts';
import type { Ask, Ending, FlowView, State } from './observed.ts';

export type { FlowView, State };

const ENTRY = fileURLToPath(new URL('./observed.ts', import.meta.url));

const LEAN = ['--max-semi-space-size=1', '--optimize-for-size'];

export const IO = process.env.HOLDFAST_IO ?? 'ffi';

export interface WatchedOptions {
  /** HOLDFAST_* names without the prefix */
  settings?: Record<string, string>;
  /** the most descriptors that the process may have open */
  descriptors?: number;
  /** a garbage collector that keeps little for later: what the process then holds is what it needs */
  lean?: boolean;
  /** the clock stands still until `advance` */
  clocked?: boolean;
}

export class Watched {
  readonly address: Address;
  readonly output: string[] = [];
  readonly #data: string;
  readonly #options: WatchedOptions;
  #child!: ChildProcess;
  #id = 0;
  readonly #waiting = new Map<number, (answer: unknown) => void>();

  private constructor(address: Address, data: string, options: WatchedOptions) {
    this.address = address;
    this.#data = data;
    this.#options = options;
  }

  static async start(options: WatchedOptions = {}): Promise<Watched> {
    const host = freshHost();
    const data = mkdtempSync(join(tmpdir(), 'holdfast-load-'));
    const server = new Watched({ host, port: await freePort(host) }, data, options);
    await server.launch();
    return server;
  }

  /** Starts the process (again), on the same addresses and data directory. */
  async launch(settings: Record<string, string> = {}): Promise<void> {
    const { host, port } = this.address;
    const env: NodeJS.ProcessEnv = {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      ...compiledShared(),
      HOLDFAST_LISTEN: `udp:${host}:${port},tcp:${host}:${port}`,
      HOLDFAST_DATA: this.#data,
      HOLDFAST_ADMIN: 'off',
      HOLDFAST_WORKERS: '2',
      HOLDFAST_MAX_FLOWS: '8192',
      HOLDFAST_LOG: 'warn',
      HOLDFAST_IO: IO,
      ...(this.#options.clocked ? { OBSERVED_CLOCK: '1' } : {}),
    };
    for (const [name, value] of Object.entries({ ...this.#options.settings, ...settings }))
      env[`HOLDFAST_${name}`] = value;
    const stdio = ['ignore', 'pipe', 'pipe', 'ipc'] as const;
    const { descriptors, lean } = this.#options;
    const command = [...(lean ? LEAN : []), ENTRY];
    // exec keeps the process number: /proc and signals are the server's own
    this.#child =
      descriptors === undefined
        ? spawn(process.execPath, command, { env, stdio: [...stdio] })
        : spawn('sh', ['-c', `ulimit -n ${descriptors}; exec "$0" "$@"`, process.execPath, ...command], {
            env,
            stdio: [...stdio],
          });
    const child = this.#child;
    child.stdout?.on('data', (chunk: Buffer) => this.output.push(chunk.toString()));
    child.stderr?.on('data', (chunk: Buffer) => this.output.push(chunk.toString()));
    child.on('message', (message: 'ready' | { id: number; answer: unknown }) => {
      if (message === 'ready') return;
      this.#waiting.get(message.id)?.(message.answer);
      this.#waiting.delete(message.id);
    });
    const ended = once(child, 'exit').then(([code, signal]) => {
      throw new Error(
        `the server ended (code ${code}, signal ${signal}):\n${this.output.slice(-8).join('')}`,
      );
    });
    ended.catch(() => {});
    await Promise.race([once(child, 'message'), ended]);
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  get alive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  state(): Promise<State> {
    return this.#ask('state') as Promise<State>;
  }

  flows(): Promise<FlowView[]> {
    return this.#ask('flows') as Promise<FlowView[]>;
  }

  /** Why the connection from this host:port ended; waits until it has. */
  async causeOf(peer: string, patienceMs = 10_000): Promise<string> {
    const until = Date.now() + patienceMs;
    for (;;) {
      const list = (await this.#ask('ended')) as Ending[];
      const ending = list.find((e) => e.peer === peer);
      if (ending) return ending.cause;
      if (Date.now() > until) throw new Error(`the connection from ${peer} has not ended`);
      await pause(20);
    }
  }

  /** Why connections ended, by host:port, as far as their records have not been taken again. */
  async causes(): Promise<Map<string, string>> {
    const list = (await this.#ask('ended')) as Ending[];
    return new Map(list.map(({ peer, cause }) => [peer, cause]));
  }

  /** Lets a shard die of an exception, and waits until its replacement serves. */
  async failShard(shard: number): Promise<void> {
    const before = this.#replaced();
    await this.#ask('fail', { shard });
    const until = Date.now() + 15_000;
    while (this.#replaced() === before) {
      if (Date.now() > until)
        throw new Error(`shard ${shard} was not replaced:\n${this.output.slice(-8).join('')}`);
      await pause(5);
    }
  }

  #replaced(): number {
    return this.output.join('').split('"event":"shard-replaced"').length;
  }

  /** Moves the server's clock on, in steps, so that no timer of one step hides behind another. */
  async advance(seconds: number, step = 1): Promise<void> {
    for (let left = seconds; left > 0; left -= step)
      await this.#ask('advance', { ms: Math.min(left, step) * 1000 });
  }

  #ask(ask: Ask['ask'], what: { shard?: number; ms?: number } = {}): Promise<unknown> {
    const id = ++this.#id;
    this.#child.send({ id, ask, ...what });
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`no answer to ${ask} in 10 s`)), 10_000);
      this.#waiting.set(id, (answer) => {
        clearTimeout(late);
        resolve(answer);
      });
    });
  }

  /** Asks for the state until it fits. */
  async stateBecomes(fits: (state: State) => boolean, patienceMs = 10_000): Promise<State> {
    const until = Date.now() + patienceMs;
    for (;;) {
      const state = await this.state();
      if (fits(state)) return state;
      if (Date.now() > until) throw new Error(`the state stays ${JSON.stringify(state)}`);
      await pause(20);
    }
  }

  /** Open descriptors of the process. */
  descriptors(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }

  /** Asks until the number of open descriptors is this one; returns the last that was seen. */
  async descriptorsBecome(wanted: number, patienceMs = 10_000): Promise<number> {
    const until = Date.now() + patienceMs;
    for (;;) {
      const now = this.descriptors();
      if (now === wanted || Date.now() > until) return now;
      await pause(20);
    }
  }

  /** MiB that the process holds: the least of several looks, since a garbage collector takes its time. */
  async memory(looks = 5): Promise<number> {
    let least = Number.POSITIVE_INFINITY;
    for (let i = 0; i < looks; i++) {
      if (i > 0) await pause(100);
      const status = readFileSync(`/proc/${this.pid}/status`, 'latin1');
      least = Math.min(least, Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024);
    }
    return least;
  }

  /** Sends a signal and waits for the end; the data directory stays. */
  async kill(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#child;
    const exit = once(child, 'exit');
    if (!this.alive) return child.exitCode;
    const late = setTimeout(() => child.kill('SIGKILL'), 10_000);
    child.kill(signal);
    const [code] = (await exit) as [number | null];
    clearTimeout(late);
    return code;
  }

  async stop(): Promise<void> {
    await this.kill('SIGTERM');
    if (existsSync(this.#data)) rmSync(this.#data, { recursive: true, force: true });
  }
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
