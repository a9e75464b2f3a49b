import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Agent, UdpAgent } from '../harness/agent.ts';
import { newInstance } from '../harness/flows.ts';
import { learn } from '../harness/gruus.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { isFinal, isRequest } from '../harness/inbox.ts';
import { freshHost } from '../harness/ports.ts';
import { bound, boundBecomes, call, Registrar, register, statusOf } from '../harness/registrar.ts';
import { unique } from '../harness/sip.ts';
import { hasRedis, RedisServer } from './redis-server.ts';

describe.skipIf(!hasRedis)('two nodes that share a Redis', () => {
  let redis: RedisServer;
  let one: Registrar;
  let two: Registrar;
  const settings = (node: string) => ({
    STORE: redis.url,
    NODE: node,
    MIN_EXPIRES: '1',
    GRUU_KEY: Buffer.alloc(32, 5).toString('base64'),
  });
  beforeAll(async () => {
    redis = await RedisServer.start('--appendonly', 'yes', '--appendfsync', 'always');
    one = await Registrar.start('memory', { settings: settings('1') });
    two = await Registrar.start('memory', { settings: settings('2') });
  });
  afterAll(async () => {
    await one?.close();
    await two?.close();
    await redis?.dispose();
  });

  const reaches = async (caller: Agent, phone: Agent, aor: string): Promise<void> => {
    const callId = call(caller, aor);
    const request = await phone.next(isRequest('MESSAGE', callId));
    phone.reply(request, 200, 'OK');
    expect((await caller.next(isFinal(callId))).message.status).toBe(200);
  };

  it.each(['UDP', 'TCP'] as const)(
    'reach through the one whom the other has registered, over its %s flow',
    async (transport) => {
      const phone = await one.client(transport);
      const { aor, answer } = await register(phone);
      expect(answer.status).toBe(200);
      const caller = await two.client();
      expect(await bound(caller, aor)).toHaveLength(1);
      await reaches(caller, phone, aor);
    },
  );

  it('know the GRUUs that the other has given, and when a temporary one ends [5627-5.1-02 5627-5.1-03]', async () => {
    const [phone, elsewhere] = [await one.client(), await two.client()];
    const again = { user: unique('u'), instance: newInstance() };
    const { gruus } = await learn(phone, { ...again, regId: 1 });
    const caller = await two.client();
    await reaches(caller, phone, gruus.public);
    await reaches(caller, phone, gruus.temporary);
    const other = await learn(elsewhere, { ...again, regId: 2 });
    expect(other.gruus.public).toBe(gruus.public);
    await reaches(await one.client(), elsewhere, gruus.temporary);
    await learn(elsewhere, { ...again, regId: 2 }); // with another Call-ID
    expect(await statusOf(caller, gruus.temporary)).toBe(404);
    await reaches(caller, elsewhere, gruus.public);
  });

  it('forget a phone at both when its connection to one ends [AP-7-07]', async () => {
    const phone = await one.connection();
    const { aor } = await register(phone);
    const caller = await two.client();
    expect(await bound(caller, aor)).toHaveLength(1);
    await phone.close();
    await boundBecomes(caller, aor, (contacts) => contacts.length === 0);
  });

  it('answer 503 with Retry-After while Redis is away, and go on by themselves', async () => {
    const phone = await one.client();
    const again = { user: unique('u'), instance: newInstance() };
    const { aor } = await register(phone, again);
    await redis.end();
    const refused = await register(phone, again);
    expect([refused.answer.status, refused.answer.header('Retry-After')]).toEqual([503, '5']);
    const caller = await two.client();
    expect((await caller.next(isFinal(call(caller, aor)))).message.status).toBe(503);
    await redis.start();
    await expect
      .poll(async () => (await register(phone, again)).answer.status, { timeout: 10_000 })
      .toBe(200);
    await expect.poll(async () => (await bound(caller, aor)).length, { timeout: 10_000 }).toBe(1);
    for (const { server } of [one, two])
      expect(
        server.logs.filter(({ event }) => event === 'store-away' || event === 'store-back'),
      ).toHaveLength(2);
  });

  it('keep what was answered by 200 when one is killed, and retire its streams when it is back', async () => {
    const [udp, tcp] = [await one.client(), await one.connection()];
    const [a, b] = [await register(udp), await register(tcp)];
    await one.server.kill('SIGKILL');
    const caller = await two.client();
    expect([(await bound(caller, a.aor)).length, (await bound(caller, b.aor)).length]).toEqual([1, 1]);
    // The lease of a life that ended without a word runs out by itself; a test does not wait for that.
    redis.command('DEL', 'hf:n:{1}');
    await one.server.launch();
    await boundBecomes(caller, b.aor, (contacts) => contacts.length === 0);
    expect(await bound(caller, a.aor)).toHaveLength(1);
    await reaches(caller, udp, a.aor);
  });
});

describe.skipIf(!hasRedis)('two edges and two registrars that share a Redis', () => {
  let redis: RedisServer;
  const registrars: Registrar[] = [];
  const edges: Holdfast[] = [];
  const agents: Agent[] = [];
  beforeAll(async () => {
    redis = await RedisServer.start();
    const hosts = [freshHost(), freshHost()];
    const trusted = { TRUSTED: hosts.map((host) => `${host}/32`).join(',') };
    for (const [i, host] of hosts.entries()) {
      const registrar = await Registrar.start('memory', {
        settings: { STORE: redis.url, NODE: `${i + 1}`, ...trusted },
      });
      registrars.push(registrar);
      const { address } = registrar.server;
      const upstream = `sip:${address.host}:${address.port};transport=udp`;
      const settings = { UPSTREAM: upstream, STORE: redis.url, NODE: `${i + 11}` };
      edges.push(await Holdfast.start({ host, settings }));
    }
  });
  afterAll(async () => {
    for (const agent of agents) await agent.close();
    for (const edge of edges) await edge.stop();
    for (const registrar of registrars) await registrar.close();
    await redis?.dispose();
  });

  const device = async (transport: 'UDP' | 'TCP') => {
    const phone = transport === 'UDP' ? await edges[0].udp() : await edges[0].tcp();
    agents.push(phone);
    const { aor, answer } = await register(phone);
    expect(answer.status).toBe(200);
    return { phone, aor };
  };

  it.each(['UDP', 'TCP'] as const)(
    'reach through the other registrar who has registered through the other edge over %s',
    async (transport) => {
      const { phone, aor } = await device(transport);
      const caller = await edges[1].udp();
      agents.push(caller);
      const callId = call(caller, aor);
      const request = await phone.next(isRequest('MESSAGE', callId));
      phone.reply(request, 200, 'OK');
      expect((await caller.next(isFinal(callId))).message.status).toBe(200);
    },
  );

  it('forget a device at both registrars when its connection to an edge ends [AP-7-07]', async () => {
    const { phone, aor } = await device('TCP');
    const askers = await Promise.all(registrars.map((registrar) => registrar.client()));
    for (const asker of askers) expect(await bound(asker, aor)).toHaveLength(1);
    await phone.close();
    for (const asker of askers) await boundBecomes(asker, aor, (contacts) => contacts.length === 0);
  });

  it('refuse a registration that comes late, over a flow that has ended at its edge', async () => {
    const phone = await edges[0].tcp();
    const { aor, answer } = await register(phone);
    const [path] = answer.fields('Path');
    await phone.close();
    const asker = await registrars[1].client();
    await boundBecomes(asker, aor, (contacts) => contacts.length === 0);
    const late = await UdpAgent.open({ host: edges[0].host, peer: registrars[1].server.address });
    agents.push(late);
    const moreVia = ['SIP/2.0/TCP 192.0.2.7;branch=z9hG4bKphone'];
    const again = await register(late, {
      user: aor.slice(4).split('@')[0],
      moreVia,
      headers: [['Path', path]],
    });
    expect(again.answer.status).toBe(500);
    expect(await bound(asker, aor)).toEqual([]);
  });
});
