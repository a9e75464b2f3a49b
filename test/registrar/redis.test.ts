import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { parseRedisUrl } from '../../src/config/redis-url.ts';
import { bindingKey, flowKeys, leaseKey } from '../../src/registrar/redis.ts';
import { Tenure } from '../../src/registrar/redis-tenure.ts';
import { flowOf } from '../../src/registrar/redis-value.ts';
import type { UpdateOp } from '../../src/registrar/store.ts';
import { makeCertificates } from '../harness/certificates.ts';
import { freePort, hasRedis, RedisServer, type Registrar, registrar, until } from './redis-server.ts';
import { DORA, EVE, flowContact, START, update } from './requests.ts';

const TOKEN = 'AQEAAWUAAAAAAAABAAAAAQAAAAAAAAAAAAAAAA';
const EDGE_PATH = [`<sip:${TOKEN}@edge.example;lr;ob>`];

describe.skipIf(!hasRedis)('registrars that share a Redis', () => {
  let server: RedisServer;
  let a: Registrar;
  let b: Registrar;
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server.dispose());
  beforeEach(async () => {
    server.command('FLUSHALL');
    [a, b] = await Promise.all([registrar(server.url, { node: 1 }), registrar(server.url, { node: 2 })]);
  });
  afterEach(() => Promise.all([a.close(), b.close()]));

  const register = (at: Registrar, changes: Partial<UpdateOp> = {}) =>
    at.store.handle(update({ now: Date.now(), ...changes }));
  const lookup = async (at: Registrar, aor = DORA) =>
    (await at.store.handle({ kind: 'lookup', aor, now: Date.now() })).bindings;
  const flowClosed = async (at: Registrar, flow: string) =>
    (await at.store.handle({ kind: 'flow-closed', flow })).count;

  it('obey a tombstone that another wrote, until it is forgotten [AP-7-07]', async () => {
    await register(a, { path: EDGE_PATH });
    await register(b, { path: EDGE_PATH, aor: EVE });
    expect(await flowClosed(b, TOKEN)).toBe(2);
    expect([await lookup(a), await lookup(a, EVE)]).toEqual([[], []]);
    expect((await register(a, { path: EDGE_PATH, cseq: 2 })).status).toBe('flow-closed');
    expect((await register(a, { path: EDGE_PATH, cseq: 3, aor: 'sip:new@h' })).status).toBe('flow-closed');
    expect((await register(a, { path: ['<sip:edge;lr>'], cseq: 4 })).status).toBe('ok');
    const [tomb] = flowKeys(TOKEN);
    expect(Number(server.command('PTTL', tomb))).toBeGreaterThan(200_000);
  });

  it('do not retire what has moved to a flow of another node', async () => {
    await register(a, { flow: '5.1.7.s' });
    await register(b, { flow: '5.1.7.s', cseq: 2 });
    expect(await flowClosed(a, '5.1.7.s')).toBe(0);
    expect((await lookup(b)).map(({ flow }) => flow)).toEqual(['5.1.7.s']);
    expect((await lookup(a)).map(({ flow }) => flow)).toEqual([undefined]);
    expect(await flowClosed(b, '5.1.7.s')).toBe(1);
  });

  it('refuse a write that was held up for longer than tombstones are kept', async () => {
    const c = await registrar(server.url, { node: 3, tombstone: 200 });
    const call = c.link.call.bind(c.link);
    let isHeld = true;
    c.link.call = async (script, keys, args) => {
      if (isHeld && keys[0] === bindingKey(DORA)) {
        isHeld = false;
        await flowClosed(c, TOKEN);
        await until(() => server.command('KEYS', '*') === '');
      }
      return call(script, keys, args);
    };
    expect((await register(c, { path: EDGE_PATH })).status).toBe('busy');
    expect(await lookup(a)).toEqual([]);
    await c.close();
  });

  it('count time by the server: a registrar whose clock is wrong grants what it promised', async () => {
    const stored = await register(a, { now: START, contacts: [flowContact(1, { expires: 60 })] });
    expect(stored.bindings[0].expiresAt).toBe(START + 60_000);
    const [seen] = await lookup(b);
    const left = seen.expiresAt - Date.now();
    expect(left > 50_000 && left <= 60_001).toBe(true);
    expect((await register(b, { now: 0, callId: 'x' })).bindings).toHaveLength(1);
  });

  it('leave nothing behind: the TTL is that of the last binding, and an empty address has no key', async () => {
    await register(a, { contacts: [flowContact(1, { expires: 60 }), flowContact(2, { expires: 600 })] });
    const ttl = () => Number(server.command('PTTL', bindingKey(DORA)));
    expect(ttl() > 590_000 && ttl() <= 600_000).toBe(true);
    await register(a, { cseq: 2, contacts: [flowContact(2, { expires: 0 })] });
    expect(ttl() > 50_000 && ttl() <= 60_000).toBe(true);
    await register(a, { cseq: 3, clear: true, contacts: [] });
    expect(server.command('KEYS', '*')).toBe('');
    await register(a, { contacts: [flowContact(1, { expires: 1 })], path: EDGE_PATH });
    await until(() => server.command('EXISTS', bindingKey(DORA)) === '0');
    expect(await lookup(a)).toEqual([]);
  });

  it('leave a value of another version alone, and do not shorten its life', async () => {
    await register(a);
    server.command('HSET', bindingKey(DORA), 'b:other', 'v2 value');
    await register(b, { cseq: 2, contacts: [flowContact(1, { expires: 60 })] });
    expect((await lookup(a)).map(({ cseq }) => cseq)).toEqual([2]);
    expect(server.command('HGET', bindingKey(DORA), 'b:other')).toBe('v2 value');
    expect(Number(server.command('PTTL', bindingKey(DORA)))).toBeGreaterThan(600_000);
  });

  it('answer an error, and go on, where a key is of another kind', async () => {
    server.command('SET', bindingKey(DORA), 'x');
    expect((await register(a)).status).toBe('error');
    expect((await register(a, { aor: EVE })).status).toBe('ok');
    expect(a.states).toEqual(['up']);
  });

  it('work on when the scripts are gone from the server', async () => {
    server.command('SCRIPT', 'FLUSH');
    expect((await register(a)).status).toBe('ok');
    expect(await lookup(b)).toHaveLength(1);
  });

  it('speak TLS where the URL says so, and not to a server that they do not trust', async () => {
    const certificates = makeCertificates(['IP:127.0.0.1']);
    const port = await freePort();
    const { ca, cert, key } = certificates;
    const files = ['--tls-cert-file', cert, '--tls-key-file', key, '--tls-ca-cert-file', ca];
    const tls = await RedisServer.start('--tls-port', `${port}`, '--tls-auth-clients', 'no', ...files);
    const authorities = getCACertificates();
    try {
      const stranger = await registrar(`rediss://127.0.0.1:${port}`);
      expect(stranger.states).toEqual([expect.stringMatching(/^down: .*certificate/)]);
      await stranger.close();
      setDefaultCACertificates([...authorities, certificates.trusted.toString()]);
      const known = await registrar(`rediss://127.0.0.1:${port}`);
      expect((await register(known)).status).toBe('ok');
      await known.close();
    } finally {
      setDefaultCACertificates(authorities);
      await tls.dispose();
      certificates.remove();
    }
  });

  it('are busy above the limit of calls under way, and only then', async () => {
    const c = await registrar(server.url, { maxPending: 10 });
    const results = await Promise.all(
      Array.from({ length: 30 }, (_, i) => register(c, { aor: `sip:u${i}@h` })),
    );
    expect(results.filter(({ status }) => status === 'ok')).toHaveLength(10);
    expect(results.filter(({ status }) => status === 'busy')).toHaveLength(20);
    expect((await register(c)).status).toBe('ok');
    await c.close();
  });

  it('move bindings: what one store gives out another takes, once', async () => {
    for (let i = 0; i < 200; i++)
      await register(a, {
        aor: `sip:u${i}@h`,
        contacts: [flowContact(1), flowContact(2)],
        flow: `${i}.1.7.d`,
      });
    const now = Date.now();
    const pages: [string, Awaited<ReturnType<typeof lookup>>][] = [];
    for await (const page of a.store.all(() => now)) pages.push(...page);
    expect(pages).toHaveLength(200);
    server.command('FLUSHALL');
    await register(b, { aor: 'sip:u0@h', callId: 'newer' });
    let put = 0;
    for (const [aor, bindings] of pages) put += (await a.store.restore(aor, bindings, now)).put;
    expect(put).toBe(399);
    expect((await lookup(b, 'sip:u0@h')).map(({ callId }) => callId).sort()).toEqual(['a', 'newer']);
    const [first] = (await lookup(a, 'sip:u9@h')).filter(({ regId }) => regId === 1);
    expect(first).toMatchObject({ cseq: 1, flow: '9.1.7.d', contact: 'sip:d@192.0.2.1' });
    // temporary GRUUs stay good where the device was not here, and die where it was
    const epochs = async (aor: string) => (await lookup(a, aor)).map(({ epoch }) => epoch);
    const exported = new Map(pages.map(([aor, bindings]) => [aor, bindings[0].epoch]));
    expect(await epochs('sip:u9@h')).toEqual([exported.get('sip:u9@h'), exported.get('sip:u9@h')]);
    const [here, ...others] = await epochs('sip:u0@h');
    expect(here).not.toBe(exported.get('sip:u0@h'));
    expect(others).toEqual([here]);
    expect(await flowClosed(a, '9.1.7.d')).toBe(2);
  });

  describe('and the lives of a node', () => {
    const tenures: Tenure[] = [];
    afterEach(async () => {
      for (const tenure of tenures.splice(0)) await tenure.end();
    });
    const live = (at: Registrar, node: number, incarnation: number, adopted: string[] = []) => {
      const said: (string | number)[] = [];
      const tenure = new Tenure({
        ...at,
        node,
        incarnation,
        lease: 60_000,
        adopted: new Set(adopted),
        onRetired: (n) => said.push(n),
        onTaken: () => said.push('taken'),
      });
      tenures.push(tenure);
      return { tenure, said };
    };

    it('retire stream flows of an earlier one, and nobody else’s', async () => {
      const flows = ['1.1.6.s', '2.1.6.d', '3.1.7.s', '4.1.6.s'];
      for (const [i, flow] of flows.entries()) await register(a, { flow, aor: `sip:u${i}@h` });
      await register(b, { flow: '1.1.6.s', aor: EVE });
      await register(b, { path: EDGE_PATH });
      const { tenure, said } = live(a, 1, 7, ['4.1.6.s']);
      await tenure.renew();
      expect(said).toEqual([1]);
      expect(await Promise.all(flows.map(async (_, i) => (await lookup(a, `sip:u${i}@h`)).length))).toEqual([
        0, 1, 1, 1,
      ]);
      expect((await lookup(a, EVE)).length + (await lookup(a)).length).toBe(2);
    });

    it('do not retire each other’s bindings when two registrars have one number by mistake', async () => {
      const first = live(a, 1, 6);
      await first.tenure.renew();
      await register(a, { flow: '1.1.6.s' });
      const other = await registrar(server.url, { node: 1 });
      const second = live(other, 1, 7);
      await second.tenure.renew();
      await second.tenure.renew();
      expect([first.said, second.said]).toEqual([[0], ['taken']]);
      expect(await lookup(a)).toHaveLength(1);
      await first.tenure.end();
      await second.tenure.renew();
      expect(second.said).toEqual(['taken', 1]);
      expect(server.command('GET', leaseKey(1))).toBe('7');
      await other.close();
    });
  });
});

describe('the flow that a registration stands and falls with', () => {
  it.each([
    ['its own flow, whatever the Path', '1.2.3.s', EDGE_PATH, '7/1.2.3.s'],
    [
      'the flow of the edge that added the last Path value',
      undefined,
      ['<sip:x@proxy;lr>', ...EDGE_PATH],
      TOKEN,
    ],
    ['none, if the first hop does not keep one', undefined, [...EDGE_PATH, '<sip:proxy;lr>'], ''],
    ['none, without a Path', undefined, [], ''],
    ['none, if the user is no token', undefined, ['<sip:alice@proxy;lr;ob>'], ''],
  ])('is %s', (_, flow, path, name) => {
    expect(flowOf(7, flow, path)).toBe(name);
  });
});

describe('the URL of a Redis', () => {
  it('says where it is, over what, and with which credentials', () => {
    expect(parseRedisUrl('redis://h')).toEqual({
      tls: false,
      places: [{ host: 'h', port: 6379 }],
      db: 0,
      name: 'redis://h:6379/0',
    });
    expect(parseRedisUrl('rediss://:p%40ss@[::1]:7000/3')).toEqual({
      tls: true,
      password: 'p@ss',
      places: [{ host: '::1', port: 7000 }],
      db: 3,
      name: 'rediss://[::1]:7000/3',
    });
    expect(parseRedisUrl('redis://u:p@a:1,b:2')).toMatchObject({
      username: 'u',
      password: 'p',
      places: [
        { host: 'a', port: 1 },
        { host: 'b', port: 2 },
      ],
      name: 'redis://a:1,b:2/0',
    });
  });

  it.each([
    'redis:',
    'redis://',
    'http://h',
    'redis://h:0',
    'redis://h:65536',
    'redis://h/x',
    'redis://p@h',
    'redis://:%@h',
    'redis://a,b/1',
    'redis://a,,b',
    'redis://h/1?x=1',
  ])('is not %s', (url) => {
    expect(parseRedisUrl(url)).toBeUndefined();
  });
});
