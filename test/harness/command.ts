/** The command line as a process of its own: what it printed, and its exit code. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { compiledShared } from './temporary.ts';

const CLI = fileURLToPath(new URL('../../src/cli.ts', import.meta.url));
const PATIENCE_MS = 15_000;

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

export class Command {
  stdout = '';
  stderr = '';
  readonly ended: Promise<Ended>;
  /** It has printed something. */
  readonly begun: Promise<unknown>;
  readonly #child: ChildProcess;

  /** `paused`: nobody reads its output before `resume`. */
  constructor(words: string[], { cwd, paused = false }: { cwd?: string; paused?: boolean } = {}) {
    this.#child = spawn(process.execPath, [CLI, ...words], {
      env: { PATH: process.env.PATH, HOME: process.env.HOME, ...compiledShared() },
      ...(cwd === undefined ? {} : { cwd }),
    });
    this.begun = once(this.#child.stdout as Readable, 'readable');
    if (!paused) this.resume();
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.stderr += chunk.toString();
    });
    // a test process that ends in mid-test takes it along
    const orphaned = () => this.#child.kill('SIGKILL');
    process.once('exit', orphaned);
    this.ended = once(this.#child, 'close').then(([code]) => {
      process.off('exit', orphaned);
      return { code: code as number | null, stdout: this.stdout, stderr: this.stderr };
    });
  }

  resume(): void {
    this.#child.stdout?.on('data', (chunk: Buffer) => {
      this.stdout += chunk.toString();
    });
    this.#child.stdout?.resume();
  }

  /** On its standard input. */
  type(text: string): void {
    this.#child.stdin?.write(text);
  }

  /** Whoever reads its output goes away, as `head` does. */
  unread(): void {
    this.#child.stdout?.destroy();
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Its output has this, now or later; the first match. */
  async printed(pattern: RegExp): Promise<RegExpExecArray> {
    let over = false;
    void this.ended.then(() => {
      over = true;
    });
    for (const until = Date.now() + PATIENCE_MS; ; await new Promise((r) => setTimeout(r, 10))) {
      const match = pattern.exec(this.stdout);
      if (match) return match;
      if (over || Date.now() > until)
        throw new Error(`it did not print ${pattern}, but:\n${this.stdout}\n${this.stderr}`);
    }
  }

  async close(): Promise<void> {
    this.kill('SIGKILL');
    await this.ended;
  }
}

export const run = (words: string[], options: { cwd?: string } = {}): Promise<Ended> =>
  new Command(words, options).ended;
