/**
 * The transaction timers as a peer sees them: RFC 3261 sections 16.6 and 17, RFC 4320, RFC 6026. The
 * server's clock stands still and is moved by the test; one shard, so that two keep-alive exchanges
 * after a step show that everything due at that instant has been sent.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { type Edge, startEdge } from '../harness/edge.ts';
import { isFinal, isRequest, isResponse, type Matcher } from '../harness/inbox.ts';
import { newBranch, type RequestOptions, unique } from '../harness/sip.ts';

let edge: Edge;
let client: Agent;

beforeAll(async () => {
  edge = await startEdge({ clocked: true, settings: { WORKERS: '1' } });
});
beforeEach(async () => {
  client = await edge.client('UDP');
  edge.core.keepRetransmissions = true;
  client.keepRetransmissions = true;
});
afterAll(() => edge?.close());

async function pass(ms: number, stepMs = 250): Promise<void> {
  for (let left = ms; left > 0; left -= stepMs) await step(Math.min(left, stepMs));
}

async function step(ms: number): Promise<void> {
  await edge.server.advance(ms);
  for (let i = 0; i < 2; i++) {
    await client.probe();
    await edge.core.probe();
  }
}

/** At which milliseconds from now a matching message arrives, the one that is there already at 0. */
async function arrivals(at: Agent, matcher: Matcher, untilMs: number, on = step): Promise<number[]> {
  const times: number[] = [];
  for (let now = 0; ; now += 250) {
    const count = at.arrivals.filter(matcher).length;
    while (times.length < count) times.push(now);
    if (now >= untilMs) return times;
    await on(250);
  }
}

async function up(method: string, options: Partial<RequestOptions> = {}): Promise<string> {
  const callId = options.callId ?? unique('call-');
  const contact = `<${client.uri('u')};ob>`;
  client.send(client.compose(method, 'sip:bob@example.test', { contact, ...options, callId }));
  const first = await edge.core.next(isRequest(method, callId));
  edge.core.arrivals.unshift(first);
  return callId;
}

describe('other values of T1 and T2', () => {
  it('are those of HOLDFAST_T1_MS and HOLDFAST_T2_MS', async () => {
    const slow = await startEdge({ clocked: true, settings: { WORKERS: '1', T1_MS: '1000', T2_MS: '2000' } });
    try {
      const phone = await slow.client('UDP');
      slow.core.keepRetransmissions = true;
      const callId = unique('call-');
      phone.send(phone.compose('MESSAGE', 'sip:bob@example.test', { callId }));
      slow.core.arrivals.unshift(await slow.core.next(isRequest('MESSAGE', callId)));
      const times = await arrivals(slow.core, isRequest('MESSAGE', callId), 8_000, async (ms) => {
        await slow.server.advance(ms);
        for (let i = 0; i < 2; i++) {
          await phone.probe();
          await slow.core.probe();
        }
      });
      expect(times).toEqual([0, 1000, 3000, 5000, 7000]);
    } finally {
      await slow.close();
    }
  });
});

describe('a core that does not answer', () => {
  it('gets a MESSAGE over UDP again at T1, doubling to T2, for 32 s [3261-17-02]', async () => {
    const callId = await up('MESSAGE');
    const times = await arrivals(edge.core, isRequest('MESSAGE', callId), 40_000);
    expect(times).toEqual([0, 500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
  });

  it('leaves the sender of a MESSAGE without a final response from us [4320-4.2-01]', async () => {
    const callId = await up('MESSAGE');
    await pass(40_000, 1_000);
    expect(client.arrivals.filter(isFinal(callId))).toEqual([]);
  });

  it('gets an INVITE over UDP again at T1, doubling, for 32 s, and the caller 408 [3261-17-01]', async () => {
    const callId = await up('INVITE');
    const times = await arrivals(edge.core, isRequest('INVITE', callId), 34_000);
    expect(times).toEqual([0, 500, 1500, 3500, 7500, 15500, 31500]);
    await client.next(isResponse(408, callId));
  });

  it('gets an INVITE no more after a provisional response [3261-17-01]', async () => {
    const callId = await up('INVITE');
    edge.core.reply(await edge.core.next(isRequest('INVITE', callId)), 180, 'Ringing');
    await client.next(isResponse(180, callId));
    await pass(10_000, 500);
    expect(edge.core.arrivals.filter(isRequest('INVITE', callId))).toEqual([]);
  });
});

describe('a client that waits', () => {
  it('has 100 to its INVITE within 200 ms [3261-17-03 3261-16.7-01]', async () => {
    const callId = await up('INVITE');
    await step(200);
    await client.next(isResponse(100, callId));
  });

  it('has no 100 to a MESSAGE over UDP before 3.5 s, and then one [4320-4.1-01]', async () => {
    const callId = await up('MESSAGE');
    await pass(3_250);
    expect(client.arrivals.filter(isResponse(100, callId))).toEqual([]);
    await pass(750);
    await client.next(isResponse(100, callId));
  });

  it('does not get a provisional response to a MESSAGE that the core made [4320-4.1-01]', async () => {
    const callId = await up('MESSAGE');
    const got = await edge.core.next(isRequest('MESSAGE', callId));
    edge.core.reply(got, 183, 'Session Progress');
    edge.core.reply(got, 200, 'OK');
    await client.next(isResponse(200, callId));
    expect(client.arrivals.filter(isResponse(183, callId))).toEqual([]);
  });
});

describe('a client that does not acknowledge a failure', () => {
  it('gets it again until its ACK comes [3261-17-03]', async () => {
    const via = client.via();
    const from = `<sip:u@example.test>;tag=${unique('f')}`;
    const callId = await up('INVITE', { via, from });
    edge.core.reply(await edge.core.next(isRequest('INVITE', callId)), 486, 'Busy Here');
    const first = await client.next(isResponse(486, callId));
    client.arrivals.unshift(first);
    const times = await arrivals(client, isResponse(486, callId), 12_000);
    expect(times).toEqual([0, 500, 1500, 3500, 7500, 11500]);
    const to = first.message.header('To') as string;
    client.send(client.compose('ACK', 'sip:bob@example.test', { callId, via, from, to }));
    await client.probe();
    client.clear();
    await pass(9_000, 500);
    expect(client.arrivals.filter(isResponse(486, callId))).toEqual([]);
  });
});

describe('a request that comes twice', () => {
  it('has one effect and the same response again [3261-17-04]', async () => {
    const callId = unique('call-');
    const bytes = client.compose('MESSAGE', 'sip:bob@example.test', { callId });
    client.send(bytes);
    edge.core.reply(await edge.core.next(isRequest('MESSAGE', callId)), 200, 'OK', [['X-Once', '1']]);
    const first = await client.next(isResponse(200, callId));
    client.send(bytes);
    const again = await client.next(isResponse(200, callId));
    expect(again.bytes).toEqual(first.bytes);
    expect(edge.core.arrivals.filter(isRequest('MESSAGE', callId))).toEqual([]);
  });

  it('is a new one after 32 s [3261-17-04]', async () => {
    const callId = unique('call-');
    const bytes = client.compose('MESSAGE', 'sip:bob@example.test', { callId });
    client.send(bytes);
    edge.core.reply(await edge.core.next(isRequest('MESSAGE', callId)), 200, 'OK');
    await client.next(isResponse(200, callId));
    await pass(33_000, 1_000);
    client.send(bytes);
    await edge.core.next(isRequest('MESSAGE', callId));
  });

  it('with the same branch from another sent-by is another one [3261-17.2.3-01]', async () => {
    const branch = newBranch();
    const other = await edge.client('UDP');
    for (const agent of [client, other]) {
      const callId = unique('call-');
      agent.send(
        agent.compose('MESSAGE', 'sip:bob@example.test', { callId, via: agent.via(';rport', branch) }),
      );
      edge.core.reply(await edge.core.next(isRequest('MESSAGE', callId)), 200, 'OK');
      await agent.next(isResponse(200, callId));
    }
  });
});

describe('a response', () => {
  it('with the right branch and another CSeq method is dropped [3261-17.1.3-01 6026-7.3-01]', async () => {
    const callId = await up('MESSAGE');
    const got = await edge.core.next(isRequest('MESSAGE', callId));
    const text = got.message
      .toString()
      .replace(/^.*\r\n/, 'SIP/2.0 200 OK\r\n')
      .replace('1 MESSAGE', '1 INFO');
    got.answer(Buffer.from(text, 'latin1'));
    edge.core.reply(got, 202, 'Accepted');
    await client.only(isResponse(202, callId));
  });

  it('200 to an INVITE is passed on each time, from every branch of a fork behind us [6026-7.2-01 3261-16.7-01]', async () => {
    const callId = await up('INVITE');
    const got = await edge.core.next(isRequest('INVITE', callId));
    const contact: [string, string] = ['Contact', `<${edge.core.uri('core')}>`];
    const first = edge.core.reply(got, 200, 'OK', [contact]);
    await client.next(isResponse(200, callId));
    got.answer(first);
    await client.next(isResponse(200, callId));
    edge.core.reply(got, 200, 'OK', [contact]);
    await client.next(isResponse(200, callId));
    await pass(30_000, 1_000);
    edge.core.reply(got, 200, 'OK', [contact]);
    await client.next(isResponse(200, callId));
    await pass(4_000, 1_000);
    edge.core.reply(got, 200, 'OK', [contact]);
    await step(250);
    expect(client.arrivals.filter(isResponse(200, callId))).toEqual([]);
  });

  it('200 to an INVITE makes us absorb the INVITE that comes again [6026-7.1-01]', async () => {
    const callId = unique('call-');
    const contact = `<${client.uri('u')};ob>`;
    const bytes = client.compose('INVITE', 'sip:bob@example.test', { callId, contact });
    client.send(bytes);
    edge.core.reply(await edge.core.next(isRequest('INVITE', callId)), 200, 'OK', [
      ['Contact', `<${edge.core.uri('c')}>`],
    ]);
    await client.next(isResponse(200, callId));
    client.send(bytes);
    await step(250);
    expect(edge.core.arrivals.filter(isRequest('INVITE', callId))).toEqual([]);
  });
});

describe('an INVITE that rings for ever', () => {
  it('is cancelled three minutes after the last provisional response [3261-16.6-08]', async () => {
    const callId = await up('INVITE');
    const got = await edge.core.next(isRequest('INVITE', callId));
    edge.core.reply(got, 180, 'Ringing');
    await client.next(isResponse(180, callId));
    await pass(170_000, 5_000);
    edge.core.reply(got, 183, 'Session Progress');
    await client.next(isResponse(183, callId));
    await pass(170_000, 5_000);
    expect(edge.core.arrivals.filter(isRequest('CANCEL', callId))).toEqual([]);
    await pass(20_000, 5_000);
    const cancel = await edge.core.next(isRequest('CANCEL', callId));
    edge.core.reply(cancel, 200, 'OK');
    edge.core.reply(got, 487, 'Request Terminated');
    await client.next(isFinal(callId));
  });
});
