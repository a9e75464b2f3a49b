/**
 * The process ends, in order or by kill -9, and starts again on the same data directory: what tokens,
 * keys and registrations are then worth.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Agent, type TcpAgent, UdpAgent } from '../harness/agent.ts';
import { type Edge, startEdge } from '../harness/edge.ts';
import { type Flow, newInstance, registerFlow, sendDown } from '../harness/flows.ts';
import { isFinal, isRequest } from '../harness/inbox.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import {
  bound,
  call,
  contactsOf,
  type Registered,
  Registrar,
  register,
  statusOf,
} from '../harness/registrar.ts';
import { unique } from '../harness/sip.ts';
import { Watched } from './watched.ts';

const ENDS = ['SIGTERM', 'SIGKILL'] as const;
const KEY_A = `1:${Buffer.alloc(32, 'a').toString('base64')}`;
const KEY_B = `2:${Buffer.alloc(32, 'b').toString('base64')}`;
const SLOTS = 16;

const statusDown = async (core: Agent, flow: Flow) =>
  (await core.next(isFinal(sendDown(core, flow, 'MESSAGE')))).message.status;

describe.each(ENDS)('an edge that ended by %s and started again', (signal) => {
  let edge: Edge;
  let phone: Agent;
  let phoneFlow: Flow;
  let connection: TcpAgent;
  let connectionFlow: Flow;

  beforeAll(async () => {
    // so few records that new flows soon sit in every one
    edge = await startEdge({ settings: { MAX_FLOWS: String(SLOTS), WORKERS: '1' } });
    phone = await edge.client('UDP');
    phoneFlow = await registerFlow(phone, edge.core);
    connection = (await edge.client('TCP')) as TcpAgent;
    connectionFlow = await registerFlow(connection, edge.core);
    await edge.server.kill(signal);
    await edge.server.launch();
  });
  afterAll(() => edge?.close());

  it('reaches a UDP phone by the token of before [EP-5.2-04]', async () => {
    await phone.only(isRequest('MESSAGE', sendDown(edge.core, phoneFlow, 'MESSAGE')));
  });

  it('answers 430 for a connection of before, also when new flows sit in every slot [EP-5.2-04 EP-3.4-01 EP-5.3.1-05]', async () => {
    await connection.closed;
    expect(await statusDown(edge.core, connectionFlow)).toBe(430);
    const phones: [TcpAgent, Flow][] = [];
    for (let i = 1; i < SLOTS; i++) {
      const phone = (await edge.client('TCP')) as TcpAgent;
      phones.push([phone, await registerFlow(phone, edge.core)]);
    }
    expect(await statusDown(edge.core, connectionFlow)).toBe(430);
    for (const [phone] of phones) await phone.expectNothing();
    for (const [phone, flow] of phones)
      await phone.only(isRequest('MESSAGE', sendDown(edge.core, flow, 'MESSAGE')));
  });
});

it('a rotation of the token key: both keys work while both are configured, then the old one is refused [EP-5.2-04 EP-5.2-01]', async () => {
  const host = freshHost();
  const core = await UdpAgent.open({ host, port: await freePort(host), name: 'core' });
  const server = await Watched.start({
    settings: { UPSTREAM: `sip:${core.hostPort};transport=udp`, KEYS: KEY_A },
  });
  const phone = await UdpAgent.open({ host: freshHost(), peer: server.address });
  const other = await UdpAgent.open({ host: freshHost(), peer: server.address });
  try {
    const byA = await registerFlow(phone, core);
    await server.kill('SIGTERM');
    await server.launch({ KEYS: `${KEY_B},${KEY_A}` });
    await phone.only(isRequest('MESSAGE', sendDown(core, byA, 'MESSAGE')));
    const byB = await registerFlow(other, core);
    await other.only(isRequest('MESSAGE', sendDown(core, byB, 'MESSAGE')));

    await server.kill('SIGTERM');
    await server.launch({ KEYS: KEY_B });
    expect(await statusDown(core, byA)).toBe(403);
    await other.only(isRequest('MESSAGE', sendDown(core, byB, 'MESSAGE')));
    await phone.expectNothing();
  } finally {
    for (const agent of [phone, other, core]) await agent.close();
    await server.stop();
  }
});

describe.each(ENDS)('a registrar on LMDB that ended by %s and started again', (signal) => {
  let registrar: Registrar;
  let caller: Agent;
  let phone: Agent;
  const who = { user: unique('u'), instance: newInstance() };
  const mixed = { user: unique('u'), instance: newInstance() };
  const repeated = { user: unique('u'), instance: newInstance(), callId: unique('reg-') };
  let registered: Registered;
  let many: Registered[];
  let onConnection: Registered;

  beforeAll(async () => {
    registrar = await Registrar.start('lmdb');
    phone = await registrar.client('UDP');
    registered = await register(phone, { ...who, regId: 4 });
    await register(phone, { ...repeated, cseq: 10 });
    await register(phone, { ...mixed, regId: 1 });
    const connection = await registrar.connection();
    await register(connection, { ...mixed, regId: 2 });
    onConnection = await register(connection);
    many = await Promise.all(Array.from({ length: 50 }, () => register(phone)));
    // the last answer has just come: nothing gives the store time after it
    await registrar.server.kill(signal);
    await registrar.server.launch();
    caller = await registrar.client('UDP');
  });
  afterAll(() => registrar?.close());

  it('still has what it acknowledged [RG-6-17]', async () => {
    expect(await bound(caller, registered.aor)).toMatchObject([{ uri: registered.contactUri, regId: '4' }]);
    for (const { aor, contactUri } of many)
      expect(await bound(caller, aor)).toMatchObject([{ uri: contactUri }]);
  });

  it('reaches UDP phones over their flows of before [EP-5.2-04 AP-7-06]', async () => {
    await phone.only(isRequest('MESSAGE', call(caller, registered.aor)));
    await phone.only(isRequest('MESSAGE', call(caller, many[49].aor)));
  });

  it('has forgotten the bindings of connections, which ended with it [AP-7-07]', async () => {
    expect(await statusOf(caller, onConnection.aor)).toBe(480);
    const aor = `sip:${mixed.user}@example.test`;
    expect((await bound(caller, aor)).map((c) => c.regId)).toEqual(['1']);
    await phone.only(isRequest('MESSAGE', call(caller, aor)));
  });

  it('takes a refresh for what it is: a lower CSeq is refused, a higher one replaces [RG-6-30]', async () => {
    expect((await register(phone, { ...repeated, cseq: 9 })).answer.status).toBe(500);
    const { answer } = await register(phone, { ...repeated, cseq: 11 });
    expect(contactsOf(answer)).toHaveLength(1);
  });
});
