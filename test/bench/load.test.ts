/**
 * The load generator against a real server: each kind of work over each transport, for a fraction of a second. What is
 * looked at is that everything sent is accounted for, and that the figures of one result agree with each other.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { holdfast } from '../../bench/load/holdfast.ts';
import { measure, type Result } from '../../bench/load/measure.ts';
import { type Load, MODES, parse, TRANSPORTS, type Transport } from '../../bench/load/options.ts';
import type { Subject } from '../../bench/load/subject.ts';
import { selfTest } from '../../src/native/available.ts';
import { type Certificates, makeCertificates } from '../harness/certificates.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { freePort, freshHost } from '../harness/ports.ts';

const FLOWS = 30;
const never = new AbortController().signal;

function load(...words: string[]): Load {
  const brief = ['--flows', String(FLOWS), '--window', '8', '--duration', '0.15', '--warmup', '20'];
  const options = parse([...brief, '--timeout', '20', ...words], {}, 1000);
  if (options === 'help') throw new Error('no options');
  return options;
}

/** What must hold of any result without errors. */
function expectConsistent(result: Result): void {
  const { tally, transactions } = result;
  expect(tally).toMatchObject({ failed: 0, lost: 0, closed: 0, unsent: 0, misrouted: 0 });
  expect(result.errors).toBe(0);
  expect(tally.answered).toBe(tally.begun);
  expect(transactions).toBeGreaterThan(0);
  expect(transactions).toBeLessThanOrEqual(tally.answered);
  expect(result.cpu?.usPerTransaction).toBeGreaterThan(0);
  expect(result.memory?.before).toBeGreaterThan(0);
}

function expectTimed({ load, tally, transactions, histogram, latency, timeline, seconds }: Result): void {
  const timed = load.rate > 0 ? tally.answered : transactions;
  expect(histogram.reduce((sum, [, n]) => sum + n, 0)).toBe(timed);
  const { p50, p90, p99, p999, max } = latency;
  expect([p50, p90, p99, p999, max]).toEqual([p50, p90, p99, p999, max].toSorted((a, b) => a - b));
  expect(p50).toBeGreaterThan(0);
  expect(seconds).toBeGreaterThanOrEqual(0.15);
  const width = timeline[0].seconds;
  expect(Math.round(timeline.reduce((sum, { rate }) => sum + rate * width, 0))).toBe(transactions);
}

describe.skipIf(!selfTest().ok)('load on an edge', () => {
  const host = freshHost();
  const core = { host: freshHost(), port: 0 };
  const ports = new Map<Transport, number>();
  let certificates: Certificates;
  let server: Holdfast;

  beforeAll(async () => {
    certificates = makeCertificates([`IP:${host}`]);
    for (const transport of TRANSPORTS)
      ports.set(transport, transport === 'tcp' ? (ports.get('udp') as number) : await freePort(host));
    core.port = await freePort(core.host);
    const listen = [...ports].map(([transport, port]) => `${transport}:${host}:${port}`);
    server = await Holdfast.start({
      host,
      port: ports.get('udp') as number,
      settings: {
        LISTEN: listen.join(','),
        UPSTREAM: `sip:${core.host}:${core.port};transport=udp`,
        TLS_CERT: certificates.cert,
        TLS_KEY: certificates.key,
        MAX_FLOWS: '65536',
        LOG: 'warn',
      },
    });
  });
  afterAll(async () => {
    await server?.stop();
    certificates?.remove();
  });

  /** The one server, for each measurement anew. */
  const subject = (transport: Transport): Subject => ({
    name: 'Holdfast',
    address: { host, port: ports.get(transport) as number },
    ca: certificates.trusted.toString(),
    core,
    start: async () => ({ pid: server.pid, stop: async () => {} }),
  });

  for (const transport of TRANSPORTS)
    for (const mode of MODES)
      it(`${mode} over ${transport}: as many answers as requests, each over its own flow`, async () => {
        // a handshake each, and one at least must be done while it is measured
        const slow = mode === 'churn' && (transport === 'tls' || transport === 'wss');
        const work = load('--mode', mode, '--transport', transport, '--duration', slow ? '0.5' : '0.15');
        const result = await measure(work, subject(transport), never);
        expectConsistent(result);
        if (mode !== 'idle') expectTimed(result);
        expect(result.alive).toBe(mode === 'churn' ? 0 : FLOWS);
      });

  it('an open loop begins what is due and no more, and times it from when it was due', async () => {
    const work = load('--rate', '400', '--duration', '0.5');
    const result = await measure(work, subject('udp'), never);
    expectConsistent(result);
    expectTimed(result);
    // the first one is due at once
    expect(result.tally.begun).toBeGreaterThanOrEqual(200);
    expect(result.tally.begun).toBeLessThanOrEqual(1 + Math.ceil(result.seconds * 400));
  });

  for (const mode of ['register', 'downstream'])
    it(`${mode} with the core on TCP, on a server that is started for it`, async () => {
      const work = load('--mode', mode, '--core', 'tcp', '--transport', 'tcp', '--forwarding', 'stateless');
      const result = await measure(work, await holdfast(work, false), never);
      expectConsistent(result);
      expect(result.alive).toBe(FLOWS);
    });

  it('as a command: a table, the result as JSON, a picture; wrong options are told by their exit code', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-load-'));
    try {
      const json = join(folder, 'result.json');
      const svg = join(folder, 'result.svg');
      const words = ['--flows', '20', '--duration', '0.1', '--warmup', '0', '--json', json, '--svg', svg];
      const { stdout } = await command(words);
      expect(stdout).toMatch(/^Holdfast: register, udp, core udp, 20 flows, 64 in flight\n/);
      expect(stdout).toMatch(/\n {2}errors +0\n/);
      const result = JSON.parse(await readFile(json, 'utf8')) as Result;
      expectConsistent(result);
      expect(await readFile(svg, 'utf8')).toMatch(/^<svg [\s\S]+<\/svg>\n$/);
      await expect(command(['--mode', 'flood'])).rejects.toMatchObject({ code: 2 });
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

const COMMAND = fileURLToPath(new URL('../../bench/load/load.ts', import.meta.url));
const command = (words: string[]) => promisify(execFile)(process.execPath, [COMMAND, ...words]);
