/** The edge without transaction state, HOLDFAST_FORWARDING=stateless: RFC 3261 section 16.11. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { type Edge, startEdge, type Transport } from '../harness/edge.ts';
import { registerFlow, sendDown } from '../harness/flows.ts';
import { isRequest, isResponse } from '../harness/inbox.ts';
import { unique } from '../harness/sip.ts';

let edge: Edge;
let client: Agent;

beforeAll(async () => {
  edge = await startEdge({ settings: { FORWARDING: 'stateless' } });
});
beforeEach(async () => {
  client = await edge.client('UDP');
});
afterAll(() => edge?.close());

const BOTH: Transport[] = ['UDP', 'TCP'];

describe.each(BOTH)('without transaction state, over %s', (transport) => {
  it('a registration and a request down its flow go through [EP-5.1-03 EP-5.3.1-03]', async () => {
    const phone = await edge.client(transport);
    const flow = await registerFlow(phone, edge.core);
    const callId = sendDown(edge.core, flow, 'INVITE');
    const invite = await phone.next(isRequest('INVITE', callId));
    expect(invite.message.all('Record-Route').length).toBeGreaterThanOrEqual(1);
    phone.reply(invite, 180, 'Ringing');
    await edge.core.next(isResponse(180, callId));
    phone.reply(invite, 200, 'OK', [['Contact', `<${phone.uri('u')};ob>`]]);
    await edge.core.next(isResponse(200, callId));
  });

  it('a tampered token is 403 [EP-5.3.1-04]', async () => {
    const phone = await edge.client(transport);
    const flow = await registerFlow(phone, edge.core);
    const path = flow.path.replace(flow.token, `${flow.token.slice(0, -3)}AAA`);
    await edge.core.next(isResponse(403, sendDown(edge.core, flow, 'INVITE', { route: [path] })));
  });
});

describe('without transaction state', () => {
  it('a connection that is gone is 430 [EP-5.3.1-05]', async () => {
    const phone = await edge.client('TCP');
    const flow = await registerFlow(phone, edge.core);
    await phone.close();
    await edge.core.next(isResponse(430, sendDown(edge.core, flow, 'INVITE')));
  });

  it('a retransmission is forwarded again, with the same branch [3261-16.6-06]', async () => {
    edge.core.keepRetransmissions = true;
    const callId = unique('call-');
    const bytes = client.compose('MESSAGE', 'sip:bob@example.test', { callId });
    client.send(bytes);
    const first = await edge.core.next(isRequest('MESSAGE', callId));
    client.send(bytes);
    const second = await edge.core.next(isRequest('MESSAGE', callId));
    edge.core.keepRetransmissions = false;
    expect(second.message.via[0].branch).toBe(first.message.via[0].branch);
  });

  it('two requests with different branches have different branches after us [3261-16.6-06]', async () => {
    const branches = new Set<string>();
    for (let i = 0; i < 5; i++) {
      const callId = unique('call-');
      client.send(client.compose('MESSAGE', 'sip:bob@example.test', { callId }));
      branches.add((await edge.core.next(isRequest('MESSAGE', callId))).message.via[0].branch);
    }
    expect(branches.size).toBe(5);
  });

  it('CANCEL and the ACK to a failure have the branch of their INVITE [3261-16.6-06 3261-16.10-01]', async () => {
    const callId = unique('call-');
    const via = client.via();
    const from = `<sip:u@example.test>;tag=${unique('f')}`;
    const same = { callId, via, from, to: '<sip:bob@example.test>' };
    client.send(
      client.compose('INVITE', 'sip:bob@example.test', { ...same, contact: `<${client.uri('u')};ob>` }),
    );
    const invite = await edge.core.next(isRequest('INVITE', callId));
    for (const method of ['CANCEL', 'ACK']) {
      client.send(client.compose(method, 'sip:bob@example.test', same));
      const got = await edge.core.next(isRequest(method, callId));
      expect(got.message.via[0].branch).toBe(invite.message.via[0].branch);
    }
  });

  it('an INVITE gets no 100 from us, and its 180 comes through', async () => {
    const callId = unique('call-');
    client.send(
      client.compose('INVITE', 'sip:bob@example.test', { callId, contact: `<${client.uri('u')};ob>` }),
    );
    const invite = await edge.core.next(isRequest('INVITE', callId));
    edge.core.reply(invite, 180, 'Ringing');
    await client.next(isResponse(180, callId));
    expect(client.arrivals.filter(isResponse(100, callId))).toEqual([]);
  });

  it('a response with a branch we did not make is dropped', async () => {
    const callId = unique('call-');
    client.send(client.compose('OPTIONS', 'sip:bob@example.test', { callId }));
    const got = await edge.core.next(isRequest('OPTIONS', callId));
    const { branch } = got.message.via[0];
    for (let i = 8; i < branch.length; i += 5) {
      const forged = branch.slice(0, i) + (branch[i] === 'a' ? 'b' : 'a') + branch.slice(i + 1);
      const text = got.message
        .toString()
        .replace(branch, forged)
        .replace(/^.*\r\n/, 'SIP/2.0 200 OK\r\n');
      got.answer(Buffer.from(text, 'latin1'));
    }
    edge.core.reply(got, 202, 'Accepted');
    await client.only(isResponse(202, callId));
  });

  it('a response is passed on as it is, 503 too', async () => {
    const callId = unique('call-');
    client.send(client.compose('MESSAGE', 'sip:bob@example.test', { callId }));
    edge.core.reply(await edge.core.next(isRequest('MESSAGE', callId)), 503, 'Service Unavailable');
    await client.next(isResponse(503, callId));
  });
});
