/** The server of timed-entry.ts as a child process: what it has in use, and its clock moved on. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Address } from '../harness/agent.ts';
import { compiledShared } from '../harness/temporary.ts';
import type { Use } from './timed-entry.ts';

export type { Use };

const ENTRY = new URL('./timed-entry.ts', import.meta.url);
const HOOK = new URL('./in-use.ts', import.meta.url).href;

export class Timed {
  readonly address: Address;
  output = '';
  readonly #data: string;
  readonly #child: ChildProcess;

  private constructor(address: Address, data: string, settings: Record<string, string>) {
    this.address = address;
    this.#data = data;
    const { host, port } = address;
    const env: NodeJS.ProcessEnv = {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      ...compiledShared(),
      HOLDFAST_LISTEN: `udp:${host}:${port},tcp:${host}:${port}`,
      HOLDFAST_DATA: data,
      HOLDFAST_ADMIN: 'off',
      HOLDFAST_WORKERS: '2',
      HOLDFAST_MAX_FLOWS: '4096',
      HOLDFAST_LOG: 'warn',
      ...(process.env.HOLDFAST_IO ? { HOLDFAST_IO: process.env.HOLDFAST_IO } : {}),
    };
    for (const [name, value] of Object.entries(settings)) env[`HOLDFAST_${name}`] = value;
    this.#child = fork(ENTRY, {
      env,
      execArgv: ['--import', HOOK],
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.on('data', (chunk: Buffer) => {
        this.output += chunk.toString();
      });
  }

  static async start(settings: Record<string, string>, address: Address): Promise<Timed> {
    const data = await mkdtemp(join(tmpdir(), 'holdfast-timed-'));
    const server = new Timed(address, data, settings);
    const child = server.#child;
    const ended = once(child, 'exit').then(([code]) => {
      throw new Error(`the server ended (code ${code}):\n${server.output}`);
    });
    ended.catch(() => {});
    try {
      await Promise.race([once(child, 'message'), ended]);
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }

  /** What is in use, after the clock was moved on by so many milliseconds. */
  async use(advance = 0): Promise<Use> {
    const answer = once(this.#child, 'message');
    this.#child.send({ advance });
    return (await answer)[0] as Use;
  }

  /** Asks until both shards have said since that moment of the clock what they have in use, and it fits. */
  async useBecomes(since: number, fits: (use: Use) => boolean, patienceMs = 8_000): Promise<Use> {
    const until = Date.now() + patienceMs;
    for (;;) {
      const use = await this.use();
      const fresh = use.shards.length === 2 && use.shards.every(({ at }) => at > since);
      if (fresh && fits(use)) return use;
      if (Date.now() > until)
        throw new Error(`it stays ${JSON.stringify(use)}\n${this.output.slice(-2_000)}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exit = once(this.#child, 'exit');
      this.#child.kill('SIGTERM');
      const late = setTimeout(() => this.#child.kill('SIGKILL'), 5_000);
      await exit;
      clearTimeout(late);
    }
    await rm(this.#data, { recursive: true, force: true });
  }
}
