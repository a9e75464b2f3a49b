/** The keep parameter of Via as the edge answers it: RFC 6223 sections 4.4, 5 and 10. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { type Edge, startEdge, type Transport } from '../harness/edge.ts';
import { answerRegister, composeRegister, registerFlow } from '../harness/flows.ts';
import { type Arrival, isRequest, isResponse } from '../harness/inbox.ts';
import { response, unique } from '../harness/sip.ts';

const FLOW_TIMER = '90';
const BOTH: Transport[] = ['UDP', 'TCP'];
const KEEP = ';rport;keep';

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge({ settings: { FLOW_TIMER } });
});
afterAll(() => edge?.close());

async function invite(client: Agent, contact: string): Promise<Arrival> {
  const callId = unique('call-');
  client.send(client.compose('INVITE', 'sip:bob@example.test', { callId, contact, via: client.via(KEEP) }));
  return edge.core.next(isRequest('INVITE', callId));
}

describe.each(BOTH)('a REGISTER over %s whose Via says keep', (transport) => {
  it('is told the interval, the same as in Flow-Timer [6223-4.4-01 6223-5-02]', async () => {
    const client = await edge.client(transport);
    const { ok } = await registerFlow(client, edge.core, { via: client.via(KEEP) });
    expect(ok.via[0].params.get('keep')).toBe(FLOW_TIMER);
    expect(ok.header('Flow-Timer')).toBe(FLOW_TIMER);
  });

  it('is told it also where outbound is not in use [6223-4.4-01]', async () => {
    const client = await edge.client(transport);
    const { ok } = await registerFlow(client, edge.core, {
      via: client.via(KEEP),
      regId: null,
      requireOutbound: false,
    });
    expect(ok.via[0].params.get('keep')).toBe(FLOW_TIMER);
  });

  it('goes on without a value [6223-10-01]', async () => {
    const client = await edge.client(transport);
    const { forwarded } = await registerFlow(client, edge.core, { via: client.via(KEEP) });
    const via = forwarded.message.via.at(-1);
    expect(via?.params.has('keep')).toBe(true);
    expect(via?.params.get('keep')).toBeUndefined();
  });
});

describe('a value that someone further inside has put there', () => {
  it('is not what the client gets [6223-10-02]', async () => {
    const client = await edge.client('UDP');
    const { bytes, callId } = composeRegister(client, { via: client.via(KEEP) });
    client.send(bytes);
    const got = await edge.core.next(isRequest('REGISTER', callId));
    const text = response(got.message, 200, 'OK', [['Require', 'outbound']]).toString('latin1');
    got.answer(Buffer.from(text.replace(/;keep/g, ';keep=5'), 'latin1'));
    const { message } = await client.next(isResponse(200, callId));
    expect(message.via[0].params.get('keep')).not.toBe('5');
  });
});

describe('a REGISTER without keep', () => {
  it('is told nothing in Via [6223-4.4-01]', async () => {
    const client = await edge.client('UDP');
    const { ok } = await registerFlow(client, edge.core);
    expect(ok.via[0].params.has('keep')).toBe(false);
  });
});

describe('an INVITE whose Via says keep', () => {
  it('is told the same interval in 180 and 200 where the edge is in the route set [6223-4.4-01 6223-4.4-02]', async () => {
    const client = await edge.client('TCP');
    const got = await invite(client, `<${client.uri('u')};ob>`);
    const { callId } = got.message;
    edge.core.reply(got, 180, 'Ringing');
    const ringing = (await client.next(isResponse(180, callId))).message;
    edge.core.reply(got, 200, 'OK', [['Contact', `<${edge.core.uri('core')}>`]]);
    const ok = (await client.next(isResponse(200, callId))).message;
    expect(Number(ok.via[0].params.get('keep'))).toBeGreaterThan(0);
    expect(ringing.via[0].params.get('keep')).toBe(ok.via[0].params.get('keep'));
  });

  it('is told nothing where the edge is not in the route set [6223-4.4-03]', async () => {
    const client = await edge.client('UDP');
    const got = await invite(client, `<${client.uri('u')}>`);
    expect(got.message.all('Record-Route')).toEqual([]);
    edge.core.reply(got, 200, 'OK', [['Contact', `<${edge.core.uri('core')}>`]]);
    const { message } = await client.next(isResponse(200, got.message.callId));
    expect(message.via[0].params.get('keep')).toBeUndefined();
  });
});

describe('a REGISTER that fails', () => {
  it('is told nothing [6223-4.4-01]', async () => {
    const client = await edge.client('UDP');
    const { bytes, callId } = composeRegister(client, { via: client.via(KEEP) });
    client.send(bytes);
    edge.core.reply(await edge.core.next(isRequest('REGISTER', callId)), 403, 'Forbidden');
    const { message } = await client.next(isResponse(403, callId));
    expect(message.via[0].params.get('keep')).toBeUndefined();
    const again = composeRegister(client, { via: client.via(KEEP) });
    client.send(again.bytes);
    answerRegister(edge.core, await edge.core.next(isRequest('REGISTER', again.callId)));
    expect((await client.next(isResponse(200, again.callId))).message.via[0].params.get('keep')).toBe(
      FLOW_TIMER,
    );
  });
});
