/** What a proxy checks before it forwards: RFC 3261 section 16.3. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { type Edge, startEdge } from '../harness/edge.ts';
import { isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { OMIT, type RequestOptions, type SipMessage, unique } from '../harness/sip.ts';

let edge: Edge;
let client: Agent;

beforeAll(async () => {
  edge = await startEdge();
});
beforeEach(async () => {
  client = await edge.client('UDP');
});
afterAll(() => edge?.close());

/** The edge must answer this itself: the final response, with nothing at the core. */
async function refused(
  method: string,
  uri: string,
  options: Partial<RequestOptions> = {},
): Promise<SipMessage> {
  const callId = unique('call-');
  client.send(client.compose(method, uri, { callId, ...options }));
  const answer = (await client.next(isFinal(callId))).message;
  expect(edge.core.arrivals.filter(isRequest(undefined, callId))).toEqual([]);
  return answer;
}

/** The edge must forward this: what the core got. */
async function forwarded(
  method: string,
  uri: string,
  options: Partial<RequestOptions> = {},
): Promise<SipMessage> {
  const callId = unique('call-');
  client.send(client.compose(method, uri, { callId, ...options }));
  const got = await edge.core.next(isRequest(method, callId));
  edge.core.reply(got, 200, 'OK');
  await client.next(isResponse(200, callId));
  return got.message;
}

describe('Max-Forwards', () => {
  it('of 0 ends the way with 483 [3261-16.3-04]', async () => {
    expect((await refused('MESSAGE', 'sip:bob@example.test', { maxForwards: 0 })).status).toBe(483);
  });

  it('of 1 goes on as 0 [3261-16.3-04 3261-16.6-02]', async () => {
    expect((await forwarded('MESSAGE', 'sip:bob@example.test', { maxForwards: 1 })).maxForwards).toBe(0);
  });

  it('is lowered by one [3261-16.6-02]', async () => {
    for (const value of [70, 71, 10, 100, 255])
      expect((await forwarded('MESSAGE', 'sip:bob@example.test', { maxForwards: value })).maxForwards).toBe(
        value - 1,
      );
  });

  it('is added as 70 where it is missing [3261-16.6-02]', async () => {
    expect(
      (await forwarded('MESSAGE', 'sip:bob@example.test', { maxForwards: OMIT })).fields('Max-Forwards'),
    ).toEqual(['70']);
  });
});

describe('a Request-URI', () => {
  it('of an unknown scheme is answered 416 [3261-16.3-03]', async () => {
    expect((await refused('MESSAGE', 'nobody:x', { to: '<sip:bob@example.test>' })).status).toBe(416);
  });
});

describe('Proxy-Require', () => {
  it('with a tag we do not know is answered 420 that names it [3261-16.3-05]', async () => {
    const answer = await refused('MESSAGE', 'sip:bob@example.test', {
      headers: [['Proxy-Require', 'foo, bar']],
    });
    expect(answer.status).toBe(420);
    expect(answer.all('Unsupported')).toEqual(['foo', 'bar']);
  });

  it('is passed over in a CANCEL [3261-16.3-05]', async () => {
    const callId = unique('call-');
    const via = client.via();
    const contact = `<${client.uri('u')};ob>`;
    const from = `<sip:u@example.test>;tag=${unique('f')}`;
    const to = '<sip:bob@example.test>';
    client.send(client.compose('INVITE', 'sip:bob@example.test', { callId, via, from, to, contact }));
    const invite = await edge.core.next(isRequest('INVITE', callId));
    edge.core.reply(invite, 180, 'Ringing');
    await client.next(isResponse(180, callId));
    const headers: [string, string][] = [['Proxy-Require', 'foo']];
    client.send(client.compose('CANCEL', 'sip:bob@example.test', { callId, via, from, to, headers }));
    edge.core.reply(await edge.core.next(isRequest('CANCEL', callId)), 200, 'OK');
    edge.core.reply(invite, 487, 'Request Terminated');
    await client.next(isResponse(487, callId));
  });
});

describe('faults that come together', () => {
  it('give the answer of the check that is first in the list [3261-16.3-01]', async () => {
    const headers: [string, string][] = [['Proxy-Require', 'foo']];
    expect(
      (await refused('MESSAGE', 'nobody:x', { to: '<sip:b@example.test>', maxForwards: 0, headers })).status,
    ).toBe(416);
    expect((await refused('MESSAGE', 'sip:b@example.test', { maxForwards: 0, headers })).status).toBe(483);
    expect(
      (await refused('MESSAGE', 'nobody:x', { to: '<sip:b@example.test>', maxForwards: 'x', headers }))
        .status,
    ).toBe(400);
  });
});

describe('what a proxy does not know', () => {
  it('is no reason to refuse: methods, headers, broken values of headers it does not need [3261-16.3-02]', async () => {
    const headers: [string, string][] = [
      ['Date', 'the day before yesterday'],
      ['X-Anything', '"unbalanced <'],
      ['Subject', ''],
      ['Expires', '-5 apples'],
    ];
    const got = await forwarded('FOO', 'sip:bob@example.test', { headers });
    for (const [name, value] of headers) expect(got.fields(name)).toEqual([value]);
  });

  it('is not looked for in the body [3261-16.6-01]', async () => {
    const body = Buffer.from([0, 1, 2, 255, 13, 10, 13, 10, 0xc3, 0x28]);
    const got = await forwarded('MESSAGE', 'sip:bob@example.test', {
      body,
      headers: [['Content-Type', 'x/y']],
    });
    expect(got.body).toEqual(body);
  });
});
