/** Browsers' clients as callers and callees: RFC 7118 sections 5.1 to 5.3 and 8, RFC 5626 section 5. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Agent, TcpCore } from '../harness/agent.ts';
import { proof, userLine } from '../harness/digest.ts';
import { registerFlow, sendDown } from '../harness/flows.ts';
import { isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { bound, boundBecomes, call, DOMAIN, register, statusOf } from '../harness/registrar.ts';
import { newBranch, parseNameAddr, type SipMessage, unique } from '../harness/sip.ts';
import { WsAgent } from '../harness/websocket.ts';
import { SCHEMES, startWebEdge, startWebRegistrar, type WebEdge, type WebRegistrar } from './rig.ts';

/** One side of a dialog: what it puts into a request inside it. */
interface Side {
  agent: Agent;
  target: string;
  route: string[];
  from: string;
  to: string;
}

/** Sends as a user agent does: over its connection, or by UDP to the first Route. */
function within(side: Side, method: string, callId: string, cseq: number): void {
  const { agent, target, route, from, to } = side;
  const next = parseNameAddr(route[0]);
  const bytes = agent.compose(method, target, { callId, cseq, route, from, to });
  agent.send(bytes, { host: next.host, port: next.port ?? 5060 });
}

interface Call {
  callId: string;
  invite: SipMessage;
  caller: Side;
  callee: Side;
}

/** INVITE, 200, ACK by the Record-Routes; then a request of each side inside the dialog. */
async function dialog(caller: Agent, callee: Agent, uri: string): Promise<Call> {
  const callId = unique('call-');
  const from = `<sip:caller@${DOMAIN}>;tag=${unique('f')}`;
  const contacts = [caller, callee].map((agent) => `sip:u@${parseNameAddr(agent.uri('u')).uri.slice(6)};ob`);
  caller.send(caller.compose('INVITE', uri, { callId, from, contact: `<${contacts[0]}>` }));
  const got = await callee.next(isRequest('INVITE', callId));
  callee.reply(got, 200, 'OK', [['Contact', `<${contacts[1]}>`]]);
  const ok = (await caller.next(isResponse(200, callId))).message;
  const to = ok.header('To') as string;
  const sides = {
    caller: { agent: caller, target: contacts[1], route: ok.all('Record-Route').reverse(), from, to },
    callee: {
      agent: callee,
      target: contacts[0],
      route: got.message.all('Record-Route'),
      from: to,
      to: from,
    },
  };
  within(sides.caller, 'ACK', callId, 1);
  await callee.next(isRequest('ACK', callId));
  within(sides.callee, 'INFO', callId, 70);
  caller.reply(await caller.next(isRequest('INFO', callId)), 200, 'OK');
  await callee.next(isResponse(200, callId));
  within(sides.caller, 'BYE', callId, 2);
  const bye = await callee.next(isRequest('BYE', callId));
  expect(bye.message.header('Route')).toBeUndefined();
  expect(bye.message.uri).toBe(contacts[1]);
  callee.reply(bye, 200, 'OK');
  await caller.next((a) => isResponse(200, callId)(a) && a.message.cseq.method === 'BYE');
  return { callId, invite: got.message, ...sides };
}

describe.each(
  SCHEMES.flatMap((scheme) => (['stateful', 'stateless'] as const).map((f) => [scheme, f] as const)),
)('%s, %s: an edge before a core', (scheme, forwarding) => {
  let web: WebEdge;
  beforeAll(async () => {
    web = await startWebEdge(scheme, { settings: { FORWARDING: forwarding } });
  });
  afterAll(() => web?.close());

  it('is known to the client as WS, and reaches him by his flow, whatever he calls his host [7118-5.1-01 7118-5.2-01 7118-5.3-02]', async () => {
    const client = await web.client();
    const flow = await registerFlow(client, web.edge.core);
    expect(flow.contactUri).toMatch(/\.invalid;transport=ws$/);
    // the way back for the core: our address on its side, with the token of the flow
    expect(parseNameAddr(flow.path)).toMatchObject({
      host: web.edge.server.host,
      port: web.edge.server.port,
    });
    const via = flow.forwarded.message.via;
    expect(via.map((v) => v.transport)).toEqual(['UDP', web.door.via]);
    const callId = sendDown(web.edge.core, flow, 'INVITE');
    const got = await client.next(isRequest('INVITE', callId));
    expect(got.message.uri).toBe(flow.contactUri);
    const [top] = got.message.via;
    expect(top).toMatchObject({
      transport: web.door.via,
      host: web.door.address.host,
      port: web.door.address.port,
    });
    expect(top.params.has('rport')).toBe(false);
    // doubled: ours on his side, with transport=ws for wss too, then ours on the core's
    const routes = got.message.all('Record-Route').map(parseNameAddr);
    expect(routes.map((r) => [r.port, r.uriParams.get('transport')])).toEqual([
      [web.door.address.port, 'ws'],
      [web.edge.server.port, undefined],
    ]);
    for (const route of routes) expect(route.user).toBe(flow.token);
  });

  it('leaves received out of responses, but for who asks with rport [7118-5.3-01 3581-4-01]', async () => {
    const client = await web.client();
    const { ok } = await registerFlow(client, web.edge.core, { via: client.via() });
    expect(ok.via[0].params.has('received')).toBe(false);
    expect(ok.via[0].host).toMatch(/\.invalid$/);
    const asked = await registerFlow(client, web.edge.core, { via: client.via(';rport') });
    expect(asked.ok.via[0].params.get('received')).toBe(client.host);
    expect(asked.ok.via[0].params.get('rport')).toBe(String(client.port));
  });

  it('carries a call of the client, and every request of both sides in it [7118-5.2-01 EP-5.3.2-01]', async () => {
    const client = await web.client();
    await registerFlow(client, web.edge.core);
    const { invite } = await dialog(client, web.edge.core, `sip:bob@${DOMAIN}`);
    const routes = invite.all('Record-Route').map(parseNameAddr);
    expect(routes.map((r) => [r.port, r.uriParams.get('transport')])).toEqual([
      [web.edge.server.port, undefined],
      [web.door.address.port, 'ws'],
    ]);
  });

  it('answers 430 for a WebSocket that has closed [EP-5.3.1-05]', async () => {
    const client = await web.client();
    const flow = await registerFlow(client, web.edge.core);
    await client.close();
    const other = await web.client();
    await other.probe();
    for (const until = Date.now() + 5_000; ; ) {
      const callId = sendDown(web.edge.core, flow, 'MESSAGE');
      const { status } = (await web.edge.core.next(isFinal(callId))).message;
      if (status === 430) break;
      expect(Date.now()).toBeLessThan(until);
    }
  });

  it('loses a response whose WebSocket has closed: nobody is connected to instead [7118-5.3-02]', async () => {
    const client = await web.client();
    const listening = await TcpCore.open({ host: client.host });
    const callId = unique('call-');
    const via = `SIP/2.0/WS ${listening.hostPort};branch=${newBranch()}`;
    client.send(
      client.compose('INVITE', `sip:b@${DOMAIN}`, { callId, via, contact: `<${client.uri('u')}>` }),
    );
    const got = await web.edge.core.next(isRequest('INVITE', callId));
    await client.close();
    const other = await web.client();
    for (let i = 0; i < 20; i++) {
      web.edge.core.reply(got, 200, 'OK');
      await registerFlow(other, web.edge.core);
    }
    expect(listening.connections).toHaveLength(0);
    await listening.close();
  });

  it('resolves no invalid host, and opens no WebSocket of its own [7118-5.3-02]', async () => {
    const { core } = web.edge;
    for (const uri of [
      'sip:u@df7jal23ls0d.invalid',
      'sip:u@192.0.2.1;transport=ws',
      'sip:u@x.invalid;transport=ws',
    ]) {
      const callId = unique('call-');
      core.send(core.compose('MESSAGE', uri, { callId }));
      expect((await core.next(isFinal(callId))).message.status).toBe(404);
    }
  });

  it.skipIf(scheme === 'wss')('sends no sips request down an unsecured WebSocket [7118-9.2-01]', async () => {
    const client = await web.client();
    const flow = await registerFlow(client, web.edge.core);
    const callId = sendDown(web.edge.core, flow, 'MESSAGE', { uri: 'sips:u@example.test' });
    expect((await web.edge.core.next(isFinal(callId))).message.status).toBe(480);
    await client.expectNothing();
  });
});

describe.each(
  SCHEMES.flatMap((scheme) => (['stateful', 'stateless'] as const).map((f) => [scheme, f] as const)),
)('%s, %s: a registrar', (scheme, forwarding) => {
  let web: WebRegistrar;
  const phones: Record<string, () => Promise<Agent>> = {
    UDP: () => web.registrar.client('UDP'),
    TCP: () => web.registrar.client('TCP'),
    web: () => web.client(),
  };
  beforeAll(async () => {
    web = await startWebRegistrar(scheme, { settings: { FORWARDING: forwarding } });
  });
  afterAll(() => web?.close());

  it.each([
    ['UDP', 'web'],
    ['TCP', 'web'],
    ['web', 'UDP'],
    ['web', 'TCP'],
    ['web', 'web'],
  ])('a client over %s calls one over %s, and each reaches the other in the call', async (from, to) => {
    const caller = await phones[from]();
    const callee = await phones[to]();
    await register(caller);
    const { aor } = await register(callee);
    const { invite } = await dialog(caller, callee, aor);
    if (callee instanceof WsAgent) {
      expect(invite.via[0]).toMatchObject({ transport: web.door.via, port: web.door.address.port });
      expect(invite.uri).toMatch(/\.invalid;transport=ws$/);
    }
  });

  it('a caller over UDP whose address is his own has a way that he can speak', async () => {
    const caller = await web.registrar.client('UDP');
    const callee = await web.client();
    const { aor } = await register(callee);
    const callId = call(caller, aor, 'INVITE');
    const got = await callee.next(isRequest('INVITE', callId));
    callee.reply(got, 200, 'OK', [['Contact', `<${callee.uri('u')};ob>`]]);
    const ok = (await caller.next(isResponse(200, callId))).message;
    const route = ok.all('Record-Route').reverse();
    expect(parseNameAddr(route[0])).toMatchObject({ port: web.registrar.server.port });
    expect(parseNameAddr(route[0]).uriParams.has('transport')).toBe(false);
    const side = {
      agent: caller,
      target: `${callee.uri('u')};ob`,
      route,
      from: ok.header('From') as string,
      to: ok.header('To') as string,
    };
    within(side, 'BYE', callId, 2);
    callee.reply(await callee.next(isRequest('BYE', callId)), 200, 'OK');
    await caller.next((a) => isResponse(200, callId)(a) && a.message.cseq.method === 'BYE');
  });

  it('a page that is left is bound no longer [AP-7-07 7118-5.3-01]', async () => {
    const caller = await web.registrar.client('UDP');
    const client = await web.client();
    const { aor, answer } = await register(client, { via: client.via() });
    expect(answer.status).toBe(200);
    expect(answer.via[0].params.has('received')).toBe(false);
    expect(answer.header('Flow-Timer')).toBe('120');
    expect(await bound(caller, aor)).toHaveLength(1);
    await client.close();
    await boundBecomes(caller, aor, (contacts) => contacts.length === 0);
    expect(await statusOf(caller, aor)).toBe(480);
  });

  it.skipIf(scheme === 'wss')('a sips call does not reach an unsecured WebSocket [7118-9.2-01]', async () => {
    const caller = await web.registrar.client('UDP');
    const client = await web.client();
    const { aor } = await register(client);
    expect(await statusOf(caller, aor.replace('sip:', 'sips:'))).toBe(480);
    await client.expectNothing();
  });
});

describe.each(SCHEMES)('%s: a registrar that asks who it is', (scheme) => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-ws-auth-'));
  let web: WebRegistrar;
  beforeAll(async () => {
    writeFileSync(join(folder, 'users'), `${userLine('dora', DOMAIN, 'tin-whistle-42')}\n`);
    web = await startWebRegistrar(scheme, { settings: { AUTH: `file:${join(folder, 'users')}` } });
  });
  afterAll(async () => {
    await web?.close();
    rmSync(folder, { recursive: true });
  });

  it('asks by digest, within the WebSocket [7118-7-03]', async () => {
    const client = await web.client();
    const { answer } = await register(client, { user: 'dora' });
    expect(answer.status).toBe(401);
    const authorization = proof(answer, { user: 'dora', password: 'tin-whistle-42' });
    const again = await register(client, {
      user: 'dora',
      cseq: 2,
      headers: [['Authorization', authorization]],
    });
    expect(again.answer.status).toBe(200);
  });
});
