import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { UpdateOp } from '../../src/registrar/store.ts';
import { hasRedis, RedisServer, type Registrar, registrar, until } from './redis-server.ts';
import { flowContact, update } from './requests.ts';

const TOKEN = 'AQEAAWUAAAAAAAABAAAAAQAAAAAAAAAAAAAAAA';
const AORS = Array.from({ length: 60 }, (_, i) => `sip:u${i}@h`);

describe.skipIf(!hasRedis)('a cluster of three as location store', () => {
  let servers: RedisServer[];
  let a: Registrar;
  beforeAll(async () => {
    const options = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '2000', '--appendonly', 'yes'];
    servers = await Promise.all([0, 1, 2].map(() => RedisServer.start(...options)));
    const places = servers.map(({ port }) => `127.0.0.1:${port}`);
    execFileSync('redis-cli', ['--cluster', 'create', ...places, '--cluster-yes'], { stdio: 'ignore' });
    await until(() => servers.every((server) => /cluster_state:ok/.test(server.command('CLUSTER', 'INFO'))));
    // The first seed is not there: any of them is enough
    a = await registrar(`redis://127.0.0.1:1,${places.join(',')}`);
    // a new cluster may say that it is well a moment before all of it is
    const found = () =>
      Promise.all(AORS.map((aor) => a.store.handle({ kind: 'lookup', aor, now: Date.now() })));
    await until(async () => (await found()).every(({ status }) => status === 'ok'));
  });
  afterAll(async () => {
    await a?.close();
    for (const server of servers) await server.dispose();
  });

  const register = (changes: Partial<UpdateOp>) => a.store.handle(update({ now: Date.now(), ...changes }));
  const lookup = async (aor: string) =>
    (await a.store.handle({ kind: 'lookup', aor, now: Date.now() })).bindings;
  const path = [`<sip:${TOKEN}@edge;lr;ob>`];

  it('spreads the addresses over all masters, and finds each again', async () => {
    const results = await Promise.all(AORS.map((aor) => register({ aor, path })));
    expect(results.every(({ status }) => status === 'ok')).toBe(true);
    for (const server of servers) expect(Number(server.command('DBSIZE'))).toBeGreaterThan(3);
    for (const aor of AORS) expect(await lookup(aor)).toHaveLength(1);
    const { aors, count } = await a.store.handle({ kind: 'list', limit: 1_000 });
    expect([aors?.toSorted(), count]).toEqual([AORS.toSorted(), 60]);
  });

  it('retires the bindings of a flow on all masters, and keeps it closed on all [AP-7-07]', async () => {
    await register({ aor: AORS[0], contacts: [flowContact(2)], callId: 'b' });
    expect((await a.store.handle({ kind: 'flow-closed', flow: TOKEN })).count).toBe(60);
    expect(await lookup(AORS[1])).toEqual([]);
    expect((await lookup(AORS[0])).map(({ regId }) => regId)).toEqual([2]);
    const again = await Promise.all(AORS.map((aor) => register({ aor, path, cseq: 2 })));
    expect(again.every(({ status }) => status === 'flow-closed')).toBe(true);
  });

  it('follows an address whose slot moves to another master', async () => {
    const aor = 'sip:moving@h';
    await register({ aor });
    const slot = servers[0].command('CLUSTER', 'KEYSLOT', `hf:b:{${aor}}`);
    const ids = servers.map((server) => server.command('CLUSTER', 'MYID'));
    const from = servers.findIndex((server) => server.command('CLUSTER', 'COUNTKEYSINSLOT', slot) !== '0');
    const to = (from + 1) % 3;
    servers[to].command('CLUSTER', 'SETSLOT', slot, 'IMPORTING', ids[from]);
    servers[from].command('CLUSTER', 'SETSLOT', slot, 'MIGRATING', ids[to]);
    expect((await register({ aor, cseq: 2 })).status).toBe('ok');
    servers[from].command('MIGRATE', '127.0.0.1', `${servers[to].port}`, `hf:b:{${aor}}`, '0', '5000');
    expect((await register({ aor, cseq: 3 })).status).toBe('ok'); // ASK
    for (const i of [to, from]) servers[i].command('CLUSTER', 'SETSLOT', slot, 'NODE', ids[to]);
    expect((await register({ aor, cseq: 4 })).status).toBe('ok'); // MOVED
    expect((await lookup(aor)).map(({ cseq }) => cseq)).toEqual([4]);
  });

  it('is busy while a master is away, and serves again by itself with all it had', async () => {
    await Promise.all(AORS.map((aor) => register({ aor, cseq: 5, callId: 'c' })));
    await servers[1].end('SIGKILL');
    await until(async () => (await register({ aor: AORS[0], cseq: 6, callId: 'c' })).status === 'busy');
    await servers[1].start();
    await until(() => a.link.up);
    const statuses = async () =>
      (await Promise.all(AORS.map((aor) => register({ aor, cseq: 7, callId: 'c' })))).map((r) => r.status);
    await until(async () => (await statuses()).every((status) => status === 'ok'));
    for (const aor of AORS) expect((await lookup(aor)).map(({ cseq }) => cseq)).toContain(7);
  });
});
