/**
 * Another SIP program as a child process of a test: found on the PATH, started in a folder of its
 * own, its output kept for the failure message, ended by its process id and its folder removed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

/** Its full name, undefined if it is not installed. */
export function find(program: string): string | undefined {
  for (const folder of [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin']) {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return join(folder, program);
    } catch {}
  }
  return undefined;
}

export const folderFor = (name: string): Promise<string> => mkdtemp(join(tmpdir(), `holdfast-${name}-`));

export class Program {
  readonly name: string;
  readonly folder: string;
  output = '';
  readonly ended: Promise<number | null>;
  private readonly child: ChildProcess;

  constructor(name: string, folder: string, args: string[]) {
    const file = find(name);
    if (!file) throw new Error(`${name} is not installed`);
    this.name = name;
    this.folder = folder;
    // a process group of its own, so that its children end with it
    this.child = spawn(file, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    for (const stream of [this.child.stdout, this.child.stderr])
      stream?.on('data', (chunk: Buffer) => {
        this.output = (this.output + chunk.toString('latin1')).slice(-100_000);
      });
    // a test that was cut off does not get to its end
    const abandoned = () => this.signal('SIGTERM');
    process.once('exit', abandoned);
    // what outlived it would hold the pipes open, and with them 'close'
    this.child.once('exit', () => this.signal('SIGKILL'));
    this.ended = new Promise((resolve) =>
      this.child.once('close', (code) => {
        process.off('exit', abandoned);
        resolve(code);
      }),
    );
  }

  get pid(): number {
    return this.child.pid as number;
  }

  /** To the process and to all that it has started. */
  signal(signal: NodeJS.Signals): void {
    try {
      process.kill(-this.pid, signal);
    } catch {} // gone already
  }

  async stop(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill('SIGTERM');
      const late = setTimeout(() => this.signal('SIGKILL'), 3_000);
      await this.ended;
      clearTimeout(late);
    }
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** Tries again every 50 ms until it does not fail; the last failure is thrown. */
export async function eventually<T>(attempt: () => Promise<T>, timeoutMs = 10_000): Promise<T> {
  const until = Date.now() + timeoutMs;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > until) throw error;
      await new Promise((r) => setTimeout(r, 50));
    }
  }
}
