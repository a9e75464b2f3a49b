/** How the process begins and ends: exit codes, and what it says. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { freePort, freshHost } from '../harness/ports.ts';
import { compiledShared } from '../harness/temporary.ts';
import { registerOn, TcpWire, UdpWire } from './crowd.ts';
import { IO } from './watched.ts';

const CLI = fileURLToPath(new URL('../../src/cli.ts', import.meta.url));
const PATIENCE_MS = 3_000;

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

const data = mkdtempSync(join(tmpdir(), 'holdfast-signals-'));
let child: ChildProcess | undefined;

afterEach(() => {
  child?.kill('SIGKILL');
  rmSync(data, { recursive: true, force: true });
});

/** Starts the CLI; `up` resolves with the banner, `ended` with everything. */
function run(settings: Record<string, string>): { up: Promise<void>; ended: Promise<Ended> } {
  const env: NodeJS.ProcessEnv = {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    ...compiledShared(),
    HOLDFAST_DATA: data,
    HOLDFAST_IO: IO,
  };
  for (const [name, value] of Object.entries(settings)) env[`HOLDFAST_${name}`] = value;
  const process_ = spawn(process.execPath, [CLI], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  child = process_;
  let stdout = '';
  let stderr = '';
  const up = new Promise<void>((resolve) =>
    process_.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString();
      if (stdout.includes('Holdfast is up')) resolve();
    }),
  );
  process_.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const ended = once(process_, 'close').then(([code]) => ({ code: code as number | null, stdout, stderr }));
  return { up, ended };
}

/** Signals; a process that does not end in time is killed, and has no exit code then. */
async function end(ended: Promise<Ended>, ...signals: NodeJS.Signals[]): Promise<Ended> {
  const late = setTimeout(() => child?.kill('SIGKILL'), PATIENCE_MS);
  for (const signal of signals) child?.kill(signal);
  const result = await ended;
  clearTimeout(late);
  return result;
}

describe.each(['SIGTERM', 'SIGINT'] as const)('on %s', (signal) => {
  it('the process ends with code 0 in time, in silence, and its connections end in order', async () => {
    const host = freshHost();
    const port = await freePort(host);
    const { up, ended } = run({ LISTEN: `udp:${host}:${port},tcp:${host}:${port}`, DOMAINS: 'example.test' });
    await up;
    const phones = [
      await TcpWire.open({ host, port }),
      await TcpWire.open({ host, port }),
      await UdpWire.open({ host, port }),
    ];
    for (const [i, phone] of phones.entries()) await registerOn(phone, i);
    const half = await TcpWire.open({ host, port });
    half.send('REGISTER sip:example.test SIP/2.0\r\nVia: SIP'); // in the middle of a message
    const { code, stdout, stderr } = await end(ended, signal);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain(`${signal}: stopping`);
    expect(stdout).not.toMatch(/"level":[56]0/);
    await Promise.all([half, ...phones].map((phone) => phone instanceof TcpWire && phone.gone));
    phones[2].close();
    // the port is free at once, and the store was left whole
    const again = run({ LISTEN: `udp:${host}:${port},tcp:${host}:${port}`, DOMAINS: 'example.test' });
    await again.up;
    expect((await end(again.ended, signal)).code).toBe(0);
  });
});

/** It has set its own handlers. SIGHUP's is the last, and Node has none for it as it has for SIGTERM. */
const handlesSignals = (pid?: number): boolean => {
  const [, caught] = /^SigCgt:\s*(\w+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? [];
  return (Number.parseInt(caught.slice(-4), 16) & (1 << (constants.signals.SIGHUP - 1))) !== 0;
};

it('nobody reads its output, before it is up or after: it serves, and ends in order', async () => {
  const host = freshHost();
  const port = await freePort(host);
  const { ended } = run({ LISTEN: `tcp:${host}:${port}`, DOMAINS: 'example.test' });
  child?.stdout?.destroy();
  let phone: TcpWire | undefined;
  while (!phone && child?.exitCode === null)
    phone = await TcpWire.open({ host, port }).catch(() => wait(20, undefined));
  if (phone) await registerOn(phone, 0);
  while (child?.exitCode === null && !handlesSignals(child.pid)) await wait(20); // it is up, and cannot say so
  expect(await end(ended, 'SIGTERM')).toMatchObject({ code: 0, stderr: '' });
});

it('asked twice, it ends at once with code 1', async () => {
  const host = freshHost();
  const port = await freePort(host);
  const { up, ended } = run({ LISTEN: `udp:${host}:${port}`, UPSTREAM: 'sip:127.0.0.1:5999' });
  await up;
  const late = setTimeout(() => child?.kill('SIGKILL'), PATIENCE_MS);
  child?.kill('SIGTERM');
  while (child?.kill('SIGTERM') && child.exitCode === null) await new Promise((r) => setTimeout(r, 1));
  const { code } = await ended;
  clearTimeout(late);
  expect([0, 1]).toContain(code); // 0: it was through before the second one came
});

describe('a wrong configuration ends the start with code 2 and one line that names it', () => {
  it.each<[string, Record<string, string>]>([
    ['LISTEN', { LISTEN: 'udp:127.0.0.1' }],
    ['LISTEN', { LISTEN: 'carrier-pigeon:127.0.0.1:5060' }],
    ['LISTEN', { LISTEN: 'udp:0.0.0.0:5060' }],
    ['WORKERS', { WORKERS: 'many' }],
    ['WORKERS', { WORKERS: '0' }],
    ['MAX_FLOWS', { MAX_FLOWS: '15' }],
    ['UPSTREAM', { UPSTREAM: 'http://core' }],
    ['DOMAINS', { DOMAINS: 'exa mple' }],
    ['STORE', { STORE: 'postgres://x' }],
    ['KEYS', { KEYS: '1:short' }],
    ['FLOW_TIMER', { FLOW_TIMER: '-5' }],
    ['TRUSTED', { TRUSTED: '10.0.0.0/99' }],
    ['IO', { IO: 'magic' }],
  ])('HOLDFAST_%s: %j', async (name, settings) => {
    const { code, stdout, stderr } = await run(settings).ended;
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(new RegExp(`^[^\\n]*HOLDFAST_${name}[^\\n]*allowed[^\\n]*\\n$`));
  });
});

it('an address that is taken ends the start with code 1 and one line', async () => {
  const host = freshHost();
  const other = createServer();
  other.listen({ host, port: 0, exclusive: true });
  await once(other, 'listening');
  const { port } = other.address() as { port: number };
  const { code, stdout, stderr } = await run({
    LISTEN: `tcp:${host}:${port}`,
    UPSTREAM: 'sip:127.0.0.1:5999;transport=tcp',
  }).ended;
  other.close();
  expect(code).toBe(1);
  expect(stdout).not.toContain('Holdfast is up');
  expect(stderr).toMatch(/^cannot start: [^\n]*EADDRINUSE[^\n]*\n$/);
});

it('an unknown HOLDFAST_ name is a warning, and the start goes on', async () => {
  const host = freshHost();
  const port = await freePort(host);
  const { up, ended } = run({ LISTEN: `udp:${host}:${port}`, DOMIANS: 'example.test' });
  await up;
  const { code, stderr } = await end(ended, 'SIGTERM');
  expect(code).toBe(0);
  expect(stderr).toBe('warning: HOLDFAST_DOMIANS is not a variable that Holdfast knows\n');
});
