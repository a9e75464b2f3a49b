/**
 * Flow-Timer and the life of a flow at the edge: RFC 5626 sections 5.3.1 and 5.4. The server's clock
 * stands still and is moved by the test. Flow-Timer 20 s, grace 10 s: a silent flow is dead after 30.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Agent, TcpAgent } from '../harness/agent.ts';
import { type Edge, startEdge, type Transport } from '../harness/edge.ts';
import { answerRegister, composeRegister, type Flow, registerFlow, sendDown } from '../harness/flows.ts';
import { isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { unique } from '../harness/sip.ts';

const BOTH: Transport[] = ['UDP', 'TCP'];
const FLOW_TIMER = 20;
const GRACE = 10;

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge({
    clocked: true,
    settings: { FLOW_TIMER: String(FLOW_TIMER), FLOW_GRACE: String(GRACE) },
  });
});
afterAll(() => edge?.close());

/** Moves the clock in steps, so that no timer of one step hides behind another. */
async function pass(seconds: number): Promise<void> {
  for (let left = seconds; left > 0; left -= 2) await edge.server.advance(Math.min(left, 2) * 1000);
}

async function delivered(client: Agent, flow: Flow): Promise<void> {
  const callId = sendDown(edge.core, flow, 'MESSAGE');
  client.reply(await client.next(isRequest('MESSAGE', callId)), 200, 'OK');
  await edge.core.next(isResponse(200, callId));
}

/** The log line of the flow's end: the thread that owns the flow has seen the new time. */
const ended = (client: Agent) =>
  edge.server.logged((l) => l.event === 'flow-ended' && l.peer === client.hostPort);

const statusDown = async (flow: Flow) =>
  (await edge.core.next(isFinal(sendDown(edge.core, flow, 'MESSAGE')))).message.status;

describe('a 200 to REGISTER on its way to the client', () => {
  it.each(BOTH)('gets Flow-Timer if outbound is in Require (%s) [EP-5.4-06]', async (transport) => {
    const { ok } = await registerFlow(await edge.client(transport), edge.core);
    expect(ok.fields('Flow-Timer')).toEqual([String(FLOW_TIMER)]);
  });

  it('gets none if it lacks Require: outbound [EP-5.4-06]', async () => {
    const { ok } = await registerFlow(await edge.client(), edge.core, { requireOutbound: false });
    expect(ok.header('Flow-Timer')).toBeUndefined();
  });

  it('gets none if it is no 2xx [EP-5.4-06]', async () => {
    const client = await edge.client();
    const { bytes, callId } = composeRegister(client);
    client.send(bytes);
    const got = await edge.core.next(isRequest('REGISTER', callId));
    edge.core.reply(got, 403, 'Forbidden', [['Require', 'outbound']]);
    expect((await client.next(isResponse(403, callId))).message.header('Flow-Timer')).toBeUndefined();
  });

  it('carries the value of this edge alone where one from further inside was there [EP-5.4-10]', async () => {
    const { ok } = await registerFlow(await edge.client(), edge.core, {
      responseHeaders: [['Flow-Timer', '999']],
    });
    expect(ok.fields('Flow-Timer')).toEqual([String(FLOW_TIMER)]);
  });

  it('gets none from an edge that is not the first hop [EP-5.4-10]', async () => {
    const client = await edge.client();
    const moreVia = ['SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK-first'];
    const { bytes, callId } = composeRegister(client, { moreVia });
    client.send(bytes);
    const answered = client.next(isFinal(callId));
    const got = await Promise.race([edge.core.next(isRequest('REGISTER', callId)), answered]);
    if (!got.message.isRequest) return; // refused: nothing to add a header to
    answerRegister(edge.core, got);
    const { message } = await answered;
    expect(message.status).toBe(200);
    expect(message.header('Flow-Timer')).toBeUndefined();
  });
});

describe.each(BOTH)('a flow over %s that has been told Flow-Timer', (transport) => {
  it('lives on for longer than that in silence [EP-5.4-08]', async () => {
    const client = await edge.client(transport);
    const flow = await registerFlow(client, edge.core);
    await pass(FLOW_TIMER + 1);
    await delivered(client, flow);
  });

  it('is dead after the grace too: 430 at once [EP-5.4-08 EP-5.3.1-09 EP-5.3.1-05]', async () => {
    const client = await edge.client(transport);
    const flow = await registerFlow(client, edge.core);
    await pass(FLOW_TIMER + GRACE + 3);
    await ended(client);
    expect(await statusDown(flow)).toBe(430);
    if (transport === 'TCP') await (client as TcpAgent).closed;
  });

  it('is kept by keep-alives alone [EP-5.4-09]', async () => {
    const client = await edge.client(transport);
    const flow = await registerFlow(client, edge.core);
    for (let i = 0; i < 4; i++) {
      await pass(FLOW_TIMER);
      await client.probe();
    }
    await delivered(client, flow);
  });

  it('is kept by requests alone [EP-5.4-09]', async () => {
    const client = await edge.client(transport);
    const flow = await registerFlow(client, edge.core);
    for (let i = 0; i < 4; i++) {
      await pass(FLOW_TIMER);
      const callId = unique('call-');
      client.send(client.compose('OPTIONS', 'sip:example.test', { callId }));
      edge.core.reply(await edge.core.next(isRequest('OPTIONS', callId)), 200, 'OK');
      await client.next(isResponse(200, callId));
    }
    await delivered(client, flow);
  });
});

describe.each(BOTH)('a flow over %s whose REGISTER is answered 401', (transport) => {
  const challenged = async (client: Agent) => {
    const { bytes, callId, contactUri } = composeRegister(client);
    client.send(bytes);
    const got = await edge.core.next(isRequest('REGISTER', callId));
    edge.core.reply(got, 401, 'Unauthorized', [
      ['WWW-Authenticate', 'Digest realm="example.test", nonce="n"'],
    ]);
    const { message } = await client.next(isResponse(401, callId));
    expect(message.header('Flow-Timer')).toBeUndefined();
    return { path: got.message.all('Path')[0], contactUri };
  };
  const kept = async (client: Agent, seconds: number) => {
    for (let s = 0; s < seconds; s += FLOW_TIMER) {
      await pass(FLOW_TIMER);
      await client.probe();
    }
  };

  it('has the same token in the next one, and lives by the 2xx to that [auth-ob-01]', async () => {
    const client = await edge.client(transport);
    const { path } = await challenged(client);
    const flow = await registerFlow(client, edge.core);
    expect(flow.path).toBe(path);
    await kept(client, 140);
    await delivered(client, flow);
  });

  it('ends when nothing else comes, keep-alives or not [auth-ob-01]', async () => {
    const client = await edge.client(transport);
    const flow = await challenged(client);
    await kept(client, transport === 'TCP' ? 100 : 40);
    await pass(FLOW_TIMER + GRACE - 5);
    if (transport === 'TCP') await (client as TcpAgent).closed;
    expect(await statusDown(flow as Flow)).toBe(430);
  });
});

describe('a flow over TCP on which nothing whole arrives', () => {
  it('is kept by a lone CRLF and by single octets of a message [EP-5.4-09]', async () => {
    // one shard: when a neighbour's ping is answered, what was sent before it has been read
    const single = await startEdge({
      clocked: true,
      settings: { FLOW_TIMER: String(FLOW_TIMER), FLOW_GRACE: String(GRACE), WORKERS: '1' },
    });
    try {
      const client = await single.client('TCP');
      const flow = await registerFlow(client, single.core);
      for (const octets of ['\r\n', 'O', 'P', 'T']) {
        for (let s = 0; s < FLOW_TIMER; s += 5) await single.server.advance(5_000);
        client.send(Buffer.from(octets));
        const neighbour = await single.client('UDP');
        await neighbour.probe();
        await neighbour.probe();
      }
      const callId = sendDown(single.core, flow, 'MESSAGE');
      await client.next(isRequest('MESSAGE', callId));
    } finally {
      await single.close();
    }
  });
});

describe('a flow that falls silent', () => {
  it('is written to the log with its cause [EP-5.4-07]', async () => {
    const client = await edge.client('TCP');
    await registerFlow(client, edge.core);
    await pass(FLOW_TIMER + GRACE + 3);
    await (client as TcpAgent).closed;
    expect((await ended(client)).cause).toBe('expired');
  });

  it('does not take another flow of the same client host with it [EP-5.4-08]', async () => {
    const silent = await edge.client('UDP');
    const lively = await edge.client('UDP', { host: silent.host });
    const dead = await registerFlow(silent, edge.core);
    const alive = await registerFlow(lively, edge.core);
    for (let i = 0; i < 2; i++) {
      await pass(FLOW_TIMER - 2);
      await lively.probe();
    }
    await ended(silent);
    expect(await statusDown(dead)).toBe(430);
    await delivered(lively, alive);
  });
});

describe('a UDP flow whose client host answers nothing', () => {
  it('gives 430 to a request after the answer time, long before the caller gives up [EP-5.3.1-09]', async () => {
    const client = await edge.client('UDP');
    const flow = await registerFlow(client, edge.core);
    const callId = sendDown(edge.core, flow, 'MESSAGE');
    await client.next(isRequest('MESSAGE', callId));
    await pass(6);
    await edge.core.next(isResponse(430, callId));
  });

  it('does not give 430 while any octet comes back [EP-5.3.1-09]', async () => {
    const client = await edge.client('UDP');
    const flow = await registerFlow(client, edge.core);
    const callId = sendDown(edge.core, flow, 'MESSAGE');
    const got = await client.next(isRequest('MESSAGE', callId));
    await pass(1);
    await client.probe();
    await pass(5);
    client.reply(got, 200, 'OK');
    await edge.core.only(isResponse(200, callId));
  });
});
