#!/usr/bin/env node
/**
 * The process entry: configuration from the environment, start, the lines that a person wants to see,
 * a clean stop on SIGTERM and SIGINT, new certificates on SIGHUP. Exit codes: 0 stopped, 1 failed, 2 wrong configuration.
 */
import process from 'node:process';
import {
  type Config,
  hasStore,
  isRegistrar,
  type ListenerConfig,
  type StoreConfig,
} from './config/config.ts';
import { ConfigError } from './config/error.ts';
import { load } from './config/load.ts';
import { keepCompiled } from './main/compiled.ts';
import type { Running } from './main/start.ts';
import { WS } from './wire/via.ts';

const USAGE = `usage: holdfast
or: holdfast passwd FILE USER@REALM [ALGORITHMS] (the password on standard input)
or: holdfast bindings export|import [--store lmdb:DIRECTORY|redis[s]://...] [FILE] (or standard output, input)
or: holdfast check EDGE-URI --aor SIP-URI [--password-file FILE] [--timeout SECONDS] [--ca FILE] [--rules ID,ID...]
                   [--slow] [--json]
or: holdfast ua --aor SIP-URI --proxy URI [--proxy URI] [--password-file FILE] [--data DIRECTORY] [--ca FILE]
                [--to SIP-URI --message TEXT]
`;

/** `holdfast passwd`: adds a user to a credentials file, or changes the password. */
async function setPassword(words: string[]): Promise<never> {
  const [file, address, algorithms] = words;
  if (words.length < 2 || words.length > 3) {
    process.stderr.write(USAGE);
    process.exit(2);
  }
  const { algorithmList, passwd } = await import('./auth/passwd.ts');
  try {
    const { user, realm, added } = await passwd(
      file,
      address,
      process.stdin,
      process.stderr,
      algorithms === undefined ? undefined : algorithmList(algorithms),
    );
    process.stdout.write(`${user}@${realm} ${added ? 'added to' : 'changed in'} ${file}\n`);
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    process.exit(1);
  }
  process.exit(0);
}

const IMPATIENT = ['SIGINT', 'SIGTERM'] as const;

/**
 * The first interrupt ends a command in order, the second one at once. SIGHUP is only ever a first one: the shell and the
 * kernel both tell that the terminal is gone. That whoever reads the output goes away is one too, and told again by each
 * line that follows. Standard error ends nothing: there is nowhere left to say so.
 */
function interrupted(): AbortSignal {
  const interrupt = new AbortController();
  const end = () => {
    for (const signal of IMPATIENT) process.off(signal, end);
    interrupt.abort();
  };
  for (const signal of [...IMPATIENT, 'SIGHUP']) process.on(signal, end);
  process.stdout.on('error', end);
  process.stderr.on('error', () => {});
  return interrupt.signal;
}

/** `holdfast bindings` */
async function moveBindings(words: string[]): Promise<never> {
  const { env, stdin, stdout, stderr } = process;
  // a server has no use for it, nor for a store's client in its main thread
  const { bindings } = await import('./transfer/command.ts');
  return exited(await bindings(words, { env, stdin, stdout, stderr, interrupt: interrupted() }));
}

/** `holdfast check` */
async function checkEdge(words: string[]): Promise<never> {
  const { stdout, stderr } = process;
  const [{ check }, { located }] = await Promise.all([
    import('./check/command.ts'),
    import('./main/located.ts'),
  ]);
  return exited(await check(words, { stdout, stderr, locate: located, interrupt: interrupted() }));
}

/** `holdfast ua` */
async function runPhone(words: string[]): Promise<never> {
  const { stdin, stdout, stderr } = process;
  const [{ phone }, { located }] = await Promise.all([
    import('./phone/command.ts'),
    import('./main/located.ts'),
  ]);
  return exited(
    await phone(words, {
      stdin,
      stdout,
      stderr,
      locate: located,
      interrupt: interrupted(),
      // so that the next one finds no listener any more, whichever way it comes
      sendInterrupt: () => process.kill(process.pid, 'SIGINT'),
    }),
  );
}

/** After what is still on its way into a pipe. */
function exited(code: number): Promise<never> {
  process.stdout.write('', () => process.exit(code));
  return new Promise(() => {});
}

async function run(): Promise<void> {
  let running: Running;
  // who has read enough of what a person wants to see must not end the service
  process.stdout.on('error', () => {});
  try {
    const { config, warnings } = load(process.env);
    if (warnings.length > 0) process.stderr.on('error', () => {});
    for (const warning of warnings) process.stderr.write(`warning: ${warning}\n`);
    keepCompiled(config.dataDir);
    const { start } = await import('./main/start.ts');
    running = await start(config);
  } catch (error) {
    if (error instanceof ConfigError) {
      process.stderr.write(`${error.message}\n`);
      process.exit(2);
    }
    process.stderr.write(`cannot start: ${(error as Error).message}\n`);
    process.exit(1);
  }

  let stopping = false;
  const stop = (signal: string): void => {
    if (stopping) process.exit(1); // asked twice
    stopping = true;
    process.stdout.write(`${signal}: stopping\n`);
    running.stop().then(
      () => process.exit(0),
      (error: Error) => {
        process.stderr.write(`stop failed: ${error.message}\n`);
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', () => stop('SIGTERM'));
  process.on('SIGINT', () => stop('SIGINT'));
  process.on('SIGHUP', () => running.reload());
  // last: whoever waits for it may signal at once
  process.stdout.write(banner(running));
}

function banner({ config, backend, backendReason, startedIn }: Running): string {
  const text = (l: ListenerConfig) =>
    `${l.scheme}:${l.host.includes(':') ? `[${l.host}]` : l.host}:${l.port}`;
  const listeners = config.listen.filter((l) => l.shard === 0).map(text);
  const core = config.listen.filter((l) => l.shard > 0).map(text);
  const lines = [
    `Holdfast is up (${Math.round(startedIn)} ms)`,
    `  listeners  ${listeners.join('  ')}`,
    ...(core.length > 0 ? [`  core       ${core.join('  ')}`] : []),
    `  shards     ${config.workers}`,
    `  backend    ${backend} (${backendReason})`,
    `  role       ${roles(config)}`,
  ];
  if (isRegistrar(config)) lines.push(`  store      ${storeText(config.store)}`);
  else if (hasStore(config)) lines.push(`  store      ${storeText(config.store)}, told of ended flows`);
  if (hasStore(config) && config.webhook) lines.push(`  events     to ${new URL(config.webhook.url).origin}`);
  if (isRegistrar(config)) lines.push(...invitation(config));
  return `${lines.join('\n')}\n`;
}

function storeText(store: StoreConfig): string {
  if (store.kind === 'lmdb') return `lmdb in ${store.dir}`;
  return store.kind === 'redis' ? store.target.name : 'memory (nothing survives a restart)';
}

function roles(config: Config): string {
  const parts =
    config.upstreams.length > 0 ? [`edge of ${config.upstreams.map(({ uri }) => uri).join(', ')}`] : ['edge'];
  if (isRegistrar(config)) parts.push(`registrar and authoritative proxy of ${config.domains.join(', ')}`);
  return parts.join(', ');
}

/** How to register a softphone, with the address of this very start. */
function invitation(config: Config): string[] {
  const first = config.listen.find((l) => l.transport < WS);
  const web = config.listen.find((l) => l.transport >= WS);
  const browser =
    web && `In a browser, with JsSIP or SIP.js: ${web.scheme}://${web.advertisedHost}:${web.advertisedPort}`;
  if (!first) return ['', ...(browser ? [browser, ''] : [])];
  const domain = config.domains.find((d) => d === first.host) ?? config.domains[0];
  const proxy = `${first.advertisedHost}:${first.advertisedPort}`;
  return [
    '',
    `Register a softphone: user alice, domain ${domain}, outbound proxy ${proxy} (${config.auth.kind === 'none' ? 'no password' : 'with its password'}); another as bob.`,
    `With baresip, in its accounts file: <sip:alice@${domain}>;outbound="sip:${proxy};lr";sipnat=outbound;regint=600${config.auth.kind === 'none' ? ';auth_pass=none' : ''}   then call sip:bob@${domain}`,
    ...(browser ? [browser] : []),
    '',
  ];
}

const [command, ...words] = process.argv.slice(2);
if (command === 'passwd') await setPassword(words);
else if (command === 'bindings') await moveBindings(words);
else if (command === 'check') await checkEdge(words);
else if (command === 'ua') await runPhone(words);
else if (command !== undefined) {
  process.stderr.write(USAGE);
  process.exit(2);
}
await run();
