/** A redis-server of the test's own on loopback: started, stopped, killed, started again with its files. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { RedisTarget } from '../../src/config/redis-url.ts';
import { parseRedisUrl } from '../../src/config/redis-url.ts';
import type { BindingEvent } from '../../src/registrar/events.ts';
import { RedisStore } from '../../src/registrar/redis.ts';
import { RedisLink } from '../../src/registrar/redis-link.ts';
import { temporaryDirectory } from './backends.ts';

export const hasRedis = spawnSync('redis-server', ['--version']).status === 0;
if (!hasRedis) console.warn('redis-server is not installed: tests of the shared store are skipped');

export class RedisServer {
  readonly port: number;
  readonly #dir = temporaryDirectory();
  readonly #options: string[];
  #process: ChildProcess | undefined;

  private constructor(port: number, options: string[]) {
    this.port = port;
    this.#options = options;
  }

  /** Without options nothing is written to disk. */
  static async start(...options: string[]): Promise<RedisServer> {
    const server = new RedisServer(await freePort(), options);
    await server.start();
    return server;
  }

  async start(): Promise<void> {
    const own = ['--port', `${this.port}`, '--bind', '127.0.0.1', '--dir', this.#dir, '--save', ''];
    const child = spawn('redis-server', [...own, '--loglevel', 'warning', ...this.#options], {
      stdio: 'ignore',
    });
    this.#process = child;
    // a test process that ends in mid-test takes its server along
    const orphaned = () => child.kill('SIGKILL');
    process.once('exit', orphaned);
    child.once('exit', () => process.removeListener('exit', orphaned));
    while (!(await answers(this.port))) {
      if (child.exitCode !== null) throw new Error(`redis-server ended with ${child.exitCode}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async end(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGCONT');
    child.kill(signal);
    await once(child, 'exit');
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#process?.kill(signal);
  }

  async dispose(): Promise<void> {
    await this.end('SIGKILL');
    rmSync(this.#dir, { recursive: true, force: true });
  }

  command(...args: string[]): string {
    return execFileSync('redis-cli', ['-p', `${this.port}`, ...args], { encoding: 'utf8' }).trim();
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port < 55_000 ? port : freePort(); // a cluster's bus is at port + 10,000
}

/** +PONG, or an error that is not LOADING: it is there. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
    socket.on('data', (data) => {
      socket.destroy();
      resolve(!data.toString().startsWith('-LOADING'));
    });
    socket.on('error', () => resolve(false));
    socket.on('close', () => resolve(false));
  });
}

/** One registrar's side of a store. */
export interface Registrar {
  link: RedisLink;
  store: RedisStore;
  states: string[];
  close(): Promise<void>;
}

export interface RegistrarOptions {
  node?: number;
  clock?: 'server' | 'caller';
  tombstone?: number;
  deadline?: number;
  maxPending?: number;
  watch?: (events: readonly BindingEvent[]) => void;
}

export async function registrar(url: string, options: RegistrarOptions = {}): Promise<Registrar> {
  const { node = 1, clock, tombstone, deadline, maxPending, watch } = options;
  const states: string[] = [];
  let first!: () => void;
  const known = new Promise<void>((resolve) => {
    first = resolve;
  });
  const link = new RedisLink({
    target: parseRedisUrl(url) as RedisTarget,
    ...(deadline !== undefined && { deadline }),
    ...(maxPending !== undefined && { maxPending }),
    onState(up, why) {
      states.push(up ? 'up' : `down: ${why}`);
      if (up) void store.retell();
      first();
    },
  });
  const store = new RedisStore({
    link,
    node,
    watch,
    ...(clock !== undefined && { clock }),
    ...(tombstone !== undefined && { tombstone }),
  });
  await known;
  return { link, store, states, close: () => link.close() };
}

export const until = async (holds: () => boolean | Promise<boolean>): Promise<void> => {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 10));
};
