/**
 * The server under test as a child process: started with HOLDFAST_* settings on a loopback host of
 * its own, ready when it answers a keep-alive, its log kept line by line, its data directory removed
 * at the end. It is a black box: a test sees sockets, exit codes and log lines.
 *
 * `clocked: true` starts clocked.ts in place of the CLI: the same server on a clock that stands still
 * until `advance(ms)`. HOLDFAST_IO of the test run is handed on, so one suite covers both backends.
 * UNDER_TEST in the environment of the test run names another program to start with the same
 * settings: that is how the tests themselves were checked against an existing edge.
 */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Address, bracketed, TcpAgent, UdpAgent } from './agent.ts';
import { freePort, freshHost } from './ports.ts';
import { compiledShared } from './temporary.ts';

const CLI = new URL('../../src/cli.ts', import.meta.url);
const CLOCKED = new URL('./clocked.ts', import.meta.url);
const START_MS = 20_000;

export type LogLine = Record<string, unknown> & { msg?: string };

export interface HoldfastOptions {
  /** HOLDFAST_* names without the prefix: { UPSTREAM: 'sip:...', WORKERS: '1' } */
  settings?: Record<string, string | undefined>;
  /** true: the clock stands still until advance() */
  clocked?: boolean;
  host?: string;
  port?: number;
}

export class Holdfast {
  /** UDP and TCP listener, unless LISTEN was set */
  readonly host: string;
  readonly port: number;
  readonly address: Address;
  readonly logs: LogLine[] = [];
  /** output that was no JSON line */
  readonly output: string[] = [];
  private readonly env: NodeJS.ProcessEnv;
  private readonly clocked: boolean;
  private readonly data: string;
  private child: ChildProcess | undefined;
  private up = Promise.withResolvers<void>();
  private exit: Promise<{ code: number | null; signal: string | null }> | undefined;

  private constructor(host: string, port: number, data: string, options: HoldfastOptions) {
    this.host = host;
    this.port = port;
    this.address = { host, port };
    this.data = data;
    this.clocked = options.clocked ?? false;
    this.env = {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      HOLDFAST_LISTEN: `udp:${bracketed(host)}:${port},tcp:${bracketed(host)}:${port}`,
      HOLDFAST_DATA: data,
      HOLDFAST_ADMIN: 'off',
      HOLDFAST_WORKERS: '2',
      HOLDFAST_MAX_FLOWS: '4096',
      ...compiledShared(),
      ...(process.env.HOLDFAST_IO ? { HOLDFAST_IO: process.env.HOLDFAST_IO } : {}),
    };
    for (const [name, value] of Object.entries(options.settings ?? {})) this.env[`HOLDFAST_${name}`] = value;
  }

  static async start(options: HoldfastOptions = {}): Promise<Holdfast> {
    const host = options.host ?? freshHost();
    const port = options.port ?? (await freePort(host));
    const data = await mkdtemp(join(tmpdir(), 'holdfast-test-'));
    const server = new Holdfast(host, port, data, options);
    try {
      await server.launch();
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }

  /** Starts the process (again), on the same addresses and data directory. */
  async launch(): Promise<void> {
    const other = process.env.UNDER_TEST;
    const child = other
      ? spawn(other, { env: this.env, stdio: ['ignore', 'pipe', 'pipe'] })
      : fork(this.clocked ? CLOCKED : CLI, {
          env: this.env,
          execArgv: [],
          stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
        });
    this.child = child;
    // a test process that ends in mid-test takes its server along
    const orphaned = () => child.kill('SIGKILL');
    process.once('exit', orphaned);
    this.exit = new Promise((resolve) => child.once('exit', (code, signal) => resolve({ code, signal })));
    void this.exit.then(() => process.removeListener('exit', orphaned));
    this.up = Promise.withResolvers();
    let partial = '';
    const read = (chunk: Buffer) => {
      const lines = (partial + chunk.toString('utf8')).split('\n');
      partial = lines.pop() as string;
      for (const line of lines) this.keep(line);
    };
    child.stdout?.on('data', read);
    child.stderr?.on('data', (chunk: Buffer) => this.output.push(chunk.toString('utf8')));
    const ended = this.exit.then(({ code, signal }) => {
      throw new Error(`the server ended at start (code ${code}, signal ${signal}):\n${this.tail()}`);
    });
    ended.catch(() => {});
    await Promise.race([
      this.clocked ? this.report(child, 'ready') : other ? this.answers() : this.isUp(),
      ended,
    ]);
  }

  /** Moves the server's clock on; resolves when every thread has been told. */
  async advance(ms: number): Promise<void> {
    if (!this.clocked || !this.child) throw new Error('this server runs on the real clock');
    const done = this.report(this.child, 'advanced');
    this.child.send({ advance: ms });
    await done;
  }

  /** SIGTERM and the end of the process; the data directory goes too. */
  async stop(): Promise<void> {
    await this.kill('SIGTERM', 5_000);
    await rm(this.data, { recursive: true, force: true });
  }

  /** Sends a signal and waits for the end (SIGKILL after `patienceMs`). The data directory stays. */
  async kill(
    signal: NodeJS.Signals = 'SIGKILL',
    patienceMs = 10_000,
  ): Promise<{ code: number | null; signal: string | null }> {
    const { child, exit } = this;
    if (!child || !exit) throw new Error('not started');
    const late = setTimeout(() => child.kill('SIGKILL'), patienceMs);
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    const result = await exit;
    clearTimeout(late);
    return result;
  }

  get pid(): number {
    return this.child?.pid as number;
  }

  /** The first log line, old or new, that fits. */
  async logged(matcher: (line: LogLine) => boolean, timeoutMs = 8_000): Promise<LogLine> {
    const until = Date.now() + timeoutMs;
    for (;;) {
      const line = this.logs.find(matcher);
      if (line) return line;
      if (Date.now() > until) throw new Error(`no such log line; the last ones:\n${this.tail()}`);
      await new Promise((r) => setTimeout(r, 20));
    }
  }

  /** A UDP client or core on a host of its own that talks to this server. */
  udp(options: { host?: string; port?: number; name?: string } = {}): Promise<UdpAgent> {
    return UdpAgent.open({ host: options.host ?? freshHost(), peer: this.address, ...options });
  }

  /** A TCP connection to this server from a host of its own. */
  tcp(options: { localHost?: string; localPort?: number; name?: string } = {}): Promise<TcpAgent> {
    return TcpAgent.connect({ peer: this.address, localHost: options.localHost ?? freshHost(), ...options });
  }

  private keep(line: string): void {
    try {
      this.logs.push(JSON.parse(line) as LogLine);
    } catch {
      if (line) this.output.push(line);
      if (line.startsWith('Holdfast is up')) this.up.resolve();
    }
  }

  private tail(): string {
    return [...this.logs.slice(-8).map((l) => JSON.stringify(l)), ...this.output.slice(-8)].join('\n');
  }

  private async report(child: ChildProcess, word: string): Promise<void> {
    for (;;) {
      const [message] = (await once(child, 'message')) as [string];
      if (message === word) return;
    }
  }

  /** Ready when a keep-alive is answered. */
  /** All shards serve: until then the kernel may give a flow to another one than later. */
  private async isUp(): Promise<void> {
    let late: NodeJS.Timeout | undefined;
    const never = new Promise<never>((_, reject) => {
      late = setTimeout(
        () => reject(new Error(`the server is not up in ${START_MS} ms:\n${this.tail()}`)),
        START_MS,
      );
    });
    await Promise.race([this.up.promise, never]);
    clearTimeout(late);
  }

  /** What another program under test can tell. */
  private async answers(): Promise<void> {
    const until = Date.now() + START_MS;
    const host = this.host.includes(':') ? '::1' : freshHost();
    const probe = await UdpAgent.open({ host, peer: this.address, name: 'readiness probe' });
    const attempt = async () => {
      const waiting = probe.next(() => true, 100);
      probe.send(READINESS);
      await waiting;
    };
    try {
      for (;;) {
        if (
          await attempt().then(
            () => true,
            () => false,
          )
        )
          return;
        if (Date.now() > until)
          throw new Error(`the server did not answer in ${START_MS} ms:\n${this.tail()}`);
      }
    } finally {
      await probe.close();
    }
  }
}

const READINESS = Buffer.from('000100002112a4420102030405060708090a0b0c', 'hex');
