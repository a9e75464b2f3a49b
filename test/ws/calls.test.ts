/** Browsers' clients as callers and callees: RFC 7118 sections 5.1 to 5.3 and 8, RFC 5626 section 5. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Agent, TcpCore } from '../harness/agent.ts';
import { acknowledge, ask, call, type Dialog } from '../harness/dialog.ts';
import { proof, userLine } from '../harness/digest.ts';
import { registerFlow, sendDown } from '../harness/flows.ts';
import { isFinal, isRequest } from '../harness/inbox.ts';
import { bound, boundBecomes, DOMAIN, register, statusOf } from '../harness/registrar.ts';
import { newBranch, parseNameAddr, unique } from '../harness/sip.ts';
import { WsAgent } from '../harness/websocket.ts';
import { SCHEMES, startWebEdge, startWebRegistrar, type WebEdge, type WebRegistrar } from './rig.ts';

/** INVITE, 200, ACK by the Record-Routes; then a request of each side inside the dialog. */
async function dialog(caller: Agent, callee: Agent, uri: string): Promise<Dialog> {
  const made = await call(caller, callee, uri);
  await acknowledge(made);
  await ask(made, made.callee, made.caller, 'INFO', 70);
  const { got } = await ask(made, made.caller, made.callee, 'BYE', 2);
  expect(got.header('Route')).toBeUndefined();
  expect(got.uri).toBe(made.caller.target);
  return made;
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
    const made = await call(caller, callee, aor, caller.uri('u'));
    const [first] = made.caller.route.map(parseNameAddr);
    expect(first).toMatchObject({ port: web.registrar.server.port });
    expect(first.uriParams.has('transport')).toBe(false);
    await ask(made, made.caller, made.callee, 'BYE', 2);
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
