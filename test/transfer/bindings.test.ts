/**
 * `holdfast bindings` as it is run: a child process between files, LMDB directories, a Redis of the test's own
 * and a running server.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Binding } from '../../src/registrar/binding.ts';
import { LmdbBackend, LmdbReader } from '../../src/registrar/lmdb.ts';
import { leaseKey } from '../../src/registrar/redis.ts';
import { formatAor, formatEnd, formatHeader } from '../../src/transfer/format.ts';
import type { Agent } from '../harness/agent.ts';
import { Command } from '../harness/command.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { isFinal, isRequest } from '../harness/inbox.ts';
import { bound, call, DOMAIN, Registrar, register, statusOf } from '../harness/registrar.ts';
import { temporaryDirectory } from '../registrar/backends.ts';
import { hasRedis, RedisServer, until } from '../registrar/redis-server.ts';
import { arbitraryBinding } from './arbitrary.ts';

const CLI = fileURLToPath(new URL('../../src/cli.ts', import.meta.url));
const KEYS = `1:${Buffer.alloc(32, 'k').toString('base64')}`;
const HOUR = 3_600_000;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

let dir: string;
let child: ChildProcess | undefined;
beforeEach(() => {
  dir = temporaryDirectory();
});
afterEach(() => {
  child?.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

function start(words: string[], env: Record<string, string> = {}): Promise<Ended> {
  const run = spawn(process.execPath, [CLI, 'bindings', ...words], {
    cwd: dir,
    env: { PATH: process.env.PATH, HOLDFAST_DATA: dir, HOLDFAST_KEYS: KEYS, ...env },
  });
  child = run;
  let stdout = '';
  let stderr = '';
  run.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  run.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  return once(run, 'close').then(([code]) => ({ code: code as number | null, stdout, stderr }));
}

function bindings(words: string[], input = '', env: Record<string, string> = {}): Promise<Ended> {
  const ended = start(words, env);
  child?.stdin?.end(input);
  return ended;
}

const lmdb = (name: string) => `lmdb:${join(dir, name)}`;

async function fill(name: string, entries: Iterable<[string, Binding[]]>): Promise<void> {
  const backend = new LmdbBackend({ dir: join(dir, name), durability: 'process' });
  backend.transaction(() => {
    for (const [aor, list] of entries) backend.put(aor, list);
  });
  await backend.close();
}

async function content(name: string): Promise<Map<string, Binding[]>> {
  const reader = new LmdbReader({ dir: join(dir, name), durability: 'process' });
  const all = new Map(reader.scan(undefined, 100_000));
  await reader.close();
  return all;
}

const binding = (n: number, changes: Partial<Binding> = {}): Binding => ({
  key: `c:sip:u${n}@192.0.2.1`,
  contact: `sip:u${n}@192.0.2.1`,
  params: [],
  regId: 0,
  q: 1000,
  path: [],
  callId: `c${n}`,
  cseq: 1,
  expiresAt: Date.now() + HOUR,
  updatedAt: 1,
  order: n,
  ...changes,
});

const file = (entries: [string, Binding[]][], tail = true): string => {
  const header = formatHeader({ time: 'now', node: 1, from: 'a test' });
  const body = entries.map(([aor, list]) => formatAor(aor, list)).join('');
  return header + body + (tail ? formatEnd(entries.length, entries.flatMap(([, list]) => list).length) : '');
};

/** Bindings that no flow of this node's keeps from being moved, of many kinds. */
const variety = (): [string, Binding[]][] => {
  const later = fc.nat({ max: HOUR }).map((ms) => Date.now() + HOUR + ms);
  const movable = arbitraryBinding(later)
    // as another node's datagram flow is: by its Path alone
    .map(({ flow: _, ...rest }) => rest as Binding);
  const lists = fc.uniqueArray(movable, { minLength: 1, maxLength: 4, selector: ({ key }) => key });
  return fc
    .sample(lists, { numRuns: 300, seed: 1 })
    .map((list, i) => [`sip:u${i}@example.net`, list.map((b, n) => ({ ...b, order: 1_000 * i + n }))]);
};

describe('wrong usage ends with code 2 and says what is right', () => {
  it.each([
    [[], 'usage:'],
    [['exprot'], 'usage:'],
    [['export', 'a', 'b'], 'usage:'],
    [['export', '--stoer', 'lmdb:x'], 'usage:'],
    [['export', '--store'], 'usage:'],
    [['export', '--store', 'postgres://x'], '--store postgres://x: allowed is'],
    [['export', '--store', 'memory:'], 'memory: there is nothing to move'],
    [['import', '--store', 'memory:'], 'memory: there is nothing to move'],
  ])('%j', async (words, text) => {
    const { code, stdout, stderr } = await bindings(words);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(text);
  });

  it('and so do settings of the server that are wrong', async () => {
    expect(await bindings(['export'], '', { HOLDFAST_NODE: 'x' })).toMatchObject({ code: 2 });
    const keys = await bindings(['import'], file([]), { HOLDFAST_KEYS: '1:short' });
    expect(keys).toMatchObject({ code: 2, stderr: expect.stringContaining('HOLDFAST_KEYS') });
  });
});

describe('what cannot be done ends with code 1 and one line that says why', () => {
  it.each([
    ['a store that is not there', ['export'], 'there is no location store in'],
    [
      'a Redis that is not there',
      ['export', '--store', 'redis://127.0.0.1:1'],
      'cannot reach redis://127.0.0.1:1',
    ],
    ['a file that is not there', ['import', 'none.jsonl'], 'ENOENT'],
    ['a file of another kind', ['import'], 'this is no file of'],
  ])('%s', async (_, words, text) => {
    const { code, stderr } = await bindings(words, '{"a":1}\n');
    expect(code).toBe(1);
    expect(stderr).toContain(text);
    expect(existsSync(join(dir, 'location'))).toBe(false);
  });

  it('and a directory that cannot be written to', async () => {
    await fill('a', [['sip:a@h', [binding(1)]]]);
    const { code, stderr } = await bindings(['export', '--store', lmdb('a'), 'none/file']);
    expect(code).toBe(1);
    expect(stderr).toContain('ENOENT');
  });
});

describe('from LMDB to LMDB', () => {
  it('every field of every binding arrives, by a file or by a pipe', async () => {
    const all = variety();
    await fill('location', all);
    const exported = await bindings(['export', 'b.jsonl']);
    expect(exported).toMatchObject({ code: 0, stdout: '' });
    expect(exported.stderr).toContain('of 300 addresses-of-record from lmdb in');
    expect(statSync(join(dir, 'b.jsonl')).mode & 0o777).toBe(0o600);
    expect((await bindings(['export', '-'])).stdout.split('\n').slice(1)).toEqual(
      readFileSync(join(dir, 'b.jsonl'), 'utf8').split('\n').slice(1),
    );
    expect(await bindings(['import', '--store', lmdb('two'), 'b.jsonl'])).toMatchObject({ code: 0 });
    expect(await content('two')).toEqual(new Map(all));
  });

  it('what is there stays, and a second import changes nothing', async () => {
    const here = binding(1, { contact: 'sip:u1@192.0.2.1;ob', key: 'c:sip:u1@192.0.2.1;ob', callId: 'here' });
    await fill('location', [['sip:a@h', [here]]]);
    const text = file([
      ['sip:a@h', [binding(1), binding(2)]],
      ['sip:b@h', [binding(3)]],
    ]);
    const first = await bindings(['import'], text);
    expect(first.code).toBe(0);
    expect(first.stderr).toContain('imported 2 bindings of 2 addresses-of-record');
    expect(first.stderr).toContain('skipped: 1 already there');
    expect((await bindings(['import'], text)).stderr).toContain('skipped: 3 already there');
    const all = await content('location');
    expect(all.get('sip:a@h')?.map(({ callId }) => callId)).toEqual(['here', 'c2']);
    expect(all.size).toBe(2);
  });

  it('what has expired is left out, on either side', async () => {
    await fill('location', [
      ['sip:a@h', [binding(1, { expiresAt: Date.now() - 1 }), binding(2)]],
      ['sip:b@h', [binding(3, { expiresAt: Date.now() - 1 })]],
    ]);
    const { stdout } = await bindings(['export']);
    expect(stdout).not.toContain('u1@');
    expect(stdout).not.toContain('sip:b@h');
    const text = file([['sip:a@h', [binding(1, { expiresAt: Date.now() - 1 }), binding(2)]]]);
    const { code, stderr } = await bindings(['import', '--store', lmdb('two')], text);
    expect(code).toBe(0);
    expect(stderr).toContain('skipped: 1 expired');
    expect((await content('two')).get('sip:a@h')).toHaveLength(1);
  });

  it('lines that are wrong are told by number and passed over, and the code is 1', async () => {
    const [header, ...rest] = file([
      ['sip:a@h', [binding(1)]],
      ['sip:b@h', [binding(2)]],
    ]).split('\n');
    const text = [
      header,
      '{"aor":',
      rest[0],
      `"${'x'.repeat(2 ** 20)}"`,
      '{"aor":"sip:c@h","bindings":[{}]}',
      ...rest.slice(1),
    ];
    const { code, stderr } = await bindings(['import'], text.join('\n'));
    expect(code).toBe(1);
    for (const line of [
      'line 2: not a JSON object',
      'line 4: too long',
      'line 5: bindings[0].contact: missing',
    ])
      expect(stderr).toContain(line);
    expect(stderr).toContain('imported 2 bindings of 2 addresses-of-record');
    expect(stderr).toContain('3 malformed lines');
    expect((await content('location')).size).toBe(2);
  });

  it.each([
    ['has no end', file([['sip:a@h', [binding(1)]]], false), 'the file has no end'],
    [
      'lacks a line',
      file([['sip:a@h', [binding(1)]]], false) + formatEnd(2, 2),
      'the file should have 2 bindings',
    ],
  ])('a file that %s is imported as far as it goes, and the code is 1', async (_, text, why) => {
    const { code, stderr } = await bindings(['import'], text);
    expect(code).toBe(1);
    expect(stderr).toContain(why);
    expect(stderr).toContain('imported 1 bindings');
  });

  it.each(SIGNALS)(
    '%s ends an import in order: what was done is told, and the code is 130',
    async (signal) => {
      const many = Array.from({ length: 900 }, (_, n): [string, Binding[]] => [`sip:u${n}@h`, [binding(n)]]);
      const ended = start(['import']);
      child?.stdin?.write(file(many, false));
      await until(
        async () =>
          existsSync(join(dir, 'location', 'location.writer')) && (await content('location')).size > 0,
      );
      child?.kill(signal);
      const { code, stderr } = await ended;
      expect(code).toBe(130);
      expect(stderr).toMatch(/^interrupted\nimported 500 bindings of \d+ addresses-of-record/);
      expect((await content('location')).size).toBe(500);
      // nothing is left of the writer
      expect(await bindings(['import'], file(many))).toMatchObject({ code: 0 });
    },
  );
});

describe.skipIf(!hasRedis)('with Redis in between', () => {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await RedisServer.start();
  });
  afterAll(() => redis?.dispose());
  beforeEach(() => {
    redis.command('FLUSHALL');
  });

  it('LMDB, file, Redis, file, LMDB: the same bindings, in the same order of preference', async () => {
    const all = variety();
    await fill('location', all);
    expect((await bindings(['export', 'a'])).code).toBe(0);
    const put = await bindings(['import', '--store', redis.url, 'a']);
    expect(put).toMatchObject({ code: 0, stderr: expect.stringContaining('skipped: nothing') });
    expect((await bindings(['export', '--store', redis.url, 'b'])).code).toBe(0);
    expect((await bindings(['import', '--store', lmdb('two'), 'b'])).code).toBe(0);
    const two = await content('two');
    expect(two.size).toBe(all.length);
    // Redis gives orders and update times of its own, and tells times by a clock that is read a moment later
    const same = ({ order: _, updatedAt: __, expiresAt: ___, ...rest }: Binding) => rest;
    for (const [aor, list] of all) {
      const arrived = two.get(aor) ?? [];
      expect(arrived.map(same)).toEqual(list.map(same));
      for (const [i, { expiresAt }] of arrived.entries())
        expect(Math.abs(expiresAt - list[i].expiresAt)).toBeLessThan(10_000);
    }
  });

  it('a stream flow stays if its process is at work on the store, and a datagram flow of another node too', async () => {
    redis.command('SET', leaseKey(3), '77');
    const flows = ['3/1.1.77.s', '3/1.1.76.s', '4/1.1.77.s', '4/1.1.77.d', '1/1.1.77.d'];
    const text = file(flows.map((flow, n) => [`sip:u${n}@h`, [binding(n, { flow })]]));
    const { code, stderr } = await bindings(['import', '--store', redis.url], text);
    expect(code).toBe(0);
    // node 1 is this one, and its Path has no token by its keys
    expect(stderr).toContain('imported 2 bindings of 5 addresses-of-record');
    expect(stderr).toContain('skipped: 3 whose flow has ended');
    const { stdout } = await bindings(['export', '--store', redis.url]);
    expect([...stdout.matchAll(/"flow":"([^"]*)"/g)].map(([, flow]) => flow).sort()).toEqual([
      flows[0],
      flows[3],
    ]);
  });

  it('a flow that has closed meanwhile, as the store knows, stays closed', async () => {
    redis.command('SET', leaseKey(3), '77');
    redis.command('SET', 'hf:t:{3/1.1.77.s}', '1');
    const text = file([['sip:a@h', [binding(1, { flow: '3/1.1.77.s' }), binding(2)]]]);
    const { stderr } = await bindings(['import', '--store', redis.url], text);
    expect(stderr).toContain('imported 1 bindings of 1 addresses-of-record');
    expect(stderr).toContain('skipped: 1 whose flow has ended');
  });
});

describe('an interruption', () => {
  const many = Array.from({ length: 900 }, (_, n): [string, Binding[]] => [`sip:u${n}@h`, [binding(n)]]);

  it('of an export by its reader, who goes away: not a word, and the code is 130', async () => {
    await fill('location', many);
    const ended = start(['export']);
    child?.stdout?.destroy();
    expect(await ended).toMatchObject({ code: 130, stderr: '' });
  });

  it('of an export by whoever reads what it says of itself: there is none, the file is whole', async () => {
    await fill('location', many);
    const ended = start(['export', 'b.jsonl']);
    child?.stderr?.destroy();
    expect((await ended).code).toBe(0);
    expect(readFileSync(join(dir, 'b.jsonl'), 'utf8')).toContain(formatEnd(900, 900));
  });

  it.each(SIGNALS)('of an export by %s: whole lines, how far it came, and code 130', async (signal) => {
    const crowd = Array.from({ length: 9_000 }, (_, n): [string, Binding[]] => [`sip:u${n}@h`, [binding(n)]]);
    await fill('location', crowd);
    const command = new Command(['bindings', 'export', '--store', lmdb('location')], { paused: true });
    await command.begun;
    command.kill(signal);
    command.resume();
    const { code, stdout, stderr } = await command.ended;
    expect(code).toBe(130);
    expect(stderr).toMatch(/^interrupted: exported [\d,]+ bindings of/);
    expect(stdout).toMatch(/\n$/);
    const lines = stdout.split('\n').slice(1, -1);
    expect(lines.length).toBeLessThan(9_000);
    for (const line of lines) expect(JSON.parse(line)).toHaveProperty('bindings');
  });

  it.skipIf(!hasRedis)(
    'of an import by Redis, which goes away: what was done is told, and it can be repeated',
    async () => {
      const redis = await RedisServer.start('--appendonly', 'yes');
      try {
        const text = file(many);
        const ended = start(['import', '--store', redis.url]);
        child?.stdin?.write(text.slice(0, -1_000));
        await until(() => redis.command('DBSIZE') === '500');
        await redis.end();
        child?.stdin?.end(text.slice(-1_000));
        const { code, stderr } = await ended;
        expect(code).toBe(1);
        expect(stderr).toMatch(/^failed: .*\nimported 500 bindings of \d+ addresses-of-record/);
        await redis.start();
        const again = await bindings(['import', '--store', redis.url], text);
        expect(again.code).toBe(0);
        expect(again.stderr).toContain('imported 400 bindings of 900 addresses-of-record');
      } finally {
        await redis.dispose();
      }
    },
  );
});

describe('of a server', () => {
  let registrar: Registrar;
  let phone: Agent;
  afterEach(() => registrar?.close());

  it('that runs: an export has its bindings, an import into it is refused; after kill -9 it may be done', async () => {
    registrar = await Registrar.start('lmdb', { settings: { STORE: lmdb('location'), KEYS } });
    phone = await registrar.client();
    const { aor } = await register(phone);
    expect((await bindings(['export', 'b.jsonl'])).code).toBe(0);
    expect(readFileSync(join(dir, 'b.jsonl'), 'utf8')).toContain(aor);
    const refused = await bindings(['import', 'b.jsonl']);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toBe(
      `failed: the location store in ${join(dir, 'location')} is in use by process ${registrar.server.pid}\n`,
    );
    expect(await bound(phone, aor)).toHaveLength(1);
    await registrar.server.kill('SIGKILL');
    const { code, stderr } = await bindings(['import', 'b.jsonl']);
    expect(code).toBe(0);
    expect(stderr).toContain('skipped: 1 already there');
  });

  it('that is started in the middle of an import: the start is refused with one line, as of two servers', async () => {
    const importing = start(['import']);
    child?.stdin?.write(file([], false));
    await until(() => existsSync(join(dir, 'location', 'location.writer')));
    const settings = { DOMAINS: DOMAIN, STORE: lmdb('location'), KEYS };
    await expect(Holdfast.start({ settings })).rejects.toThrow(
      new RegExp(`code 1, .*\\ncannot start: the location store in .* is in use by process ${child?.pid}\\n`),
    );
    child?.stdin?.end(formatEnd(0, 0));
    expect((await importing).code).toBe(0);
    registrar = await Registrar.start('lmdb', { settings });
    await expect(Holdfast.start({ settings })).rejects.toThrow(`in use by process ${registrar.server.pid}`);
  });

  it.skipIf(!hasRedis)(
    'that moves to Redis: phones on UDP are reached over their flows of before, connections are forgotten [EP-5.2-04 AP-7-07]',
    async () => {
      registrar = await Registrar.start('lmdb', { settings: { STORE: lmdb('location'), KEYS } });
      const redis = await RedisServer.start();
      phone = await registrar.client();
      const udp = await register(phone);
      const tcp = await register(await registrar.connection());
      const { host, port } = registrar.server;
      await registrar.server.kill('SIGTERM');
      await bindings(['export', 'b.jsonl']);
      const foreign = await bindings(['import', '--store', redis.url, 'b.jsonl'], '', {
        HOLDFAST_KEYS: `2:${Buffer.alloc(32, 'x').toString('base64')}`,
      });
      expect(foreign.stderr).toContain('skipped: 2 whose flow has ended');
      const { stderr } = await bindings(['import', '--store', redis.url, 'b.jsonl']);
      expect(stderr).toContain('imported 1 bindings of 2 addresses-of-record');
      const settings = { DOMAINS: DOMAIN, STORE: redis.url, KEYS };
      const server = await Holdfast.start({ host, port, settings });
      try {
        const caller = await server.udp();
        const callId = call(caller, udp.aor);
        phone.reply(await phone.next(isRequest('MESSAGE', callId)), 200, 'OK');
        expect((await caller.next(isFinal(callId))).message.status).toBe(200);
        expect(await statusOf(caller, tcp.aor)).toBe(480);
        await caller.close();
      } finally {
        await server.stop();
        await redis.dispose();
      }
    },
  );
});
