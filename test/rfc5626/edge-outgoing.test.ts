/** Requests from a client through its edge, and the dialogs that they form: RFC 5626 section 5.3.2. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { type Edge, startEdge, type Transport } from '../harness/edge.ts';
import { isRequest, isResponse } from '../harness/inbox.ts';
import { parseNameAddr, type SipMessage, unique } from '../harness/sip.ts';

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge();
});
afterAll(() => edge?.close());

const BOTH: Transport[] = ['UDP', 'TCP'];

interface Call {
  client: Agent;
  callId: string;
  from: string;
  to: string;
  /** INVITE as the core got it */
  invite: SipMessage;
  /** the client's route set, and the core's */
  clientRoute: string[];
  coreRoute: string[];
  clientContact: string;
}

/** The client calls the core; the core accepts; the ACK has arrived. */
async function call(client: Agent, contact: string): Promise<Call> {
  const callId = unique('call-');
  const from = `<sip:u@example.test>;tag=${unique('f')}`;
  client.send(client.compose('INVITE', edge.core.uri('core'), { callId, from, contact }));
  const invite = await edge.core.next(isRequest('INVITE', callId));
  edge.core.reply(invite, 200, 'OK', [['Contact', `<${edge.core.uri('core')}>`]]);
  const ok = (await client.next(isResponse(200, callId))).message;
  const route = ok.all('Record-Route').reverse();
  const to = ok.header('To') as string;
  client.send(client.compose('ACK', edge.core.uri('core'), { callId, from, to, route }));
  await edge.core.next(isRequest('ACK', callId));
  return {
    client,
    callId,
    from,
    to,
    invite: invite.message,
    clientRoute: route,
    coreRoute: invite.message.all('Record-Route'),
    clientContact: parseNameAddr(contact).uri,
  };
}

function fromCore(c: Call, method: string, cseq = 7): void {
  const bytes = edge.core.compose(method, c.clientContact, {
    callId: c.callId,
    cseq,
    from: c.to,
    to: c.from,
    route: c.coreRoute,
  });
  const next = parseNameAddr(c.coreRoute[0]);
  edge.core.send(bytes, { host: next.host, port: next.port ?? 5060 });
}

function fromClient(c: Call, method: string, cseq = 2): void {
  const { callId, from, to, clientRoute: route } = c;
  c.client.send(c.client.compose(method, edge.core.uri('core'), { callId, cseq, from, to, route }));
}

describe.each(BOTH)('an INVITE from a client over %s whose Contact has ob', (transport) => {
  it('carries a Record-Route with the token of its flow [EP-5.3.2-01 EP-5.1-06]', async () => {
    const client = await edge.client(transport);
    const c = await call(client, `<${client.uri('u')};ob>`);
    expect(c.coreRoute.length).toBeGreaterThanOrEqual(1);
    for (const value of c.coreRoute.map(parseNameAddr)) {
      expect(value.user).toMatch(/^[A-Za-z0-9_-]{20,}$/);
      expect(value.uriParams.has('lr')).toBe(true);
      expect(value.uriParams.has('ob')).toBe(false);
    }
    expect(new Set(c.coreRoute.map((v) => parseNameAddr(v).user)).size).toBe(1);
    const facing = parseNameAddr(c.coreRoute[0]);
    expect(`${facing.host}:${facing.port}`).toBe(edge.hostPort);
  });

  it('leads requests of the far side back down the flow [EP-5.3.2-04 EP-5.3.1-03]', async () => {
    const client = await edge.client(transport);
    const c = await call(client, `<sip:u@192.0.2.50:4444;ob>`);
    fromCore(c, 'BYE');
    const bye = await client.next(isRequest('BYE', c.callId));
    expect(bye.message.header('Route')).toBeUndefined();
    client.reply(bye, 200, 'OK');
    await edge.core.next(isResponse(200, c.callId));
  });

  it('lets later requests of the client go on, not back to itself [EP-5.3.2-03 EP-5.3-02]', async () => {
    const client = await edge.client(transport);
    const c = await call(client, `<${client.uri('u')};ob>`);
    fromClient(c, 'BYE');
    const bye = await edge.core.next(isRequest('BYE', c.callId));
    expect(bye.message.header('Route')).toBeUndefined();
    expect(bye.message.uri).toBe(edge.core.uri('core'));
    edge.core.reply(bye, 200, 'OK');
    await client.only(isResponse(200, c.callId));
  });

  it('works for INFO both ways in one dialog [EP-5.3.2-03 EP-5.3.2-04]', async () => {
    const client = await edge.client(transport);
    const c = await call(client, `<${client.uri('u')};ob>`);
    for (let i = 0; i < 3; i++) {
      fromClient(c, 'INFO', 10 + i);
      edge.core.reply(await edge.core.next(isRequest('INFO', c.callId)), 200, 'OK');
      await client.next(isResponse(200, c.callId));
      fromCore(c, 'INFO', 20 + i);
      client.reply(await client.next(isRequest('INFO', c.callId)), 200, 'OK');
      await edge.core.next(isResponse(200, c.callId));
    }
  });
});

describe('a dialog-forming request whose Contact has no ob', () => {
  it('over a connection gets the token all the same, and the BYE arrives [EP-5.3.2-02]', async () => {
    const client = await edge.client('TCP');
    const c = await call(client, `<${client.uri('u')}>`);
    expect(parseNameAddr(c.coreRoute[0]).user).not.toBe('');
    fromCore(c, 'BYE');
    await client.next(isRequest('BYE', c.callId));
  });

  it('over UDP from another address than its Contact gets the token [EP-5.3.2-02]', async () => {
    const client = await edge.client('UDP');
    const c = await call(client, '<sip:u@192.168.1.20:5060>');
    fromCore(c, 'BYE');
    await client.next(isRequest('BYE', c.callId));
  });

  it('over UDP from the address of its Contact gets none [EP-5.3.2-02]', async () => {
    const client = await edge.client('UDP');
    const callId = unique('call-');
    const contact = `<${client.uri('u')}>`;
    client.send(client.compose('INVITE', edge.core.uri('core'), { callId, contact }));
    const invite = await edge.core.next(isRequest('INVITE', callId));
    for (const value of invite.message.all('Record-Route')) expect(parseNameAddr(value).user).toBe('');
    edge.core.reply(invite, 486, 'Busy Here');
    await client.next(isResponse(486, callId));
  });
});

describe('a dialog between a client over TCP and a core over UDP', () => {
  it('has the edge in the route set twice, once for each side [3261-16.6-03 3261-16.4-02]', async () => {
    const client = await edge.client('TCP');
    const c = await call(client, `<${client.uri('u')};ob>`);
    expect(c.coreRoute).toHaveLength(2);
    const [towardsCore, towardsClient] = c.coreRoute.map(parseNameAddr);
    expect(towardsCore.uriParams.get('transport') ?? 'udp').toBe('udp');
    expect(towardsClient.uriParams.get('transport')).toBe('tcp');
    // both values come back in either order and none is left at the next hop
    fromCore(c, 'INFO');
    const down = await client.next(isRequest('INFO', c.callId));
    expect(down.message.header('Route')).toBeUndefined();
    fromClient(c, 'INFO');
    const up = await edge.core.next(isRequest('INFO', c.callId));
    expect(up.message.header('Route')).toBeUndefined();
  });
});
