/** What tokens are worth after the edge was killed and started again: EP-5.2-04. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Agent, TcpAgent } from '../harness/agent.ts';
import { type Edge, startEdge } from '../harness/edge.ts';
import { type Flow, registerFlow, sendDown } from '../harness/flows.ts';
import { isFinal, isRequest, isResponse } from '../harness/inbox.ts';

let edge: Edge;
let phone: Agent;
let phoneFlow: Flow;
let desk: TcpAgent;
let deskFlow: Flow;
let nearby: Flow;

beforeAll(async () => {
  edge = await startEdge();
  phone = await edge.client('UDP');
  phoneFlow = await registerFlow(phone, edge.core);
  desk = (await edge.client('TCP')) as TcpAgent;
  deskFlow = await registerFlow(desk, edge.core);
  nearby = await registerFlow(await edge.client('UDP'), edge.core);
  await edge.server.kill('SIGKILL');
  await edge.server.launch();
});
afterAll(() => edge?.close());

const statusDown = async (flow: Flow, method = 'INVITE') =>
  (await edge.core.next(isFinal(sendDown(edge.core, flow, method)))).message.status;

describe('after kill -9 and a new start', () => {
  it('the token of a connection names a flow that is gone: 430, not 403 [EP-5.2-04 EP-5.3.1-05]', async () => {
    await desk.closed;
    expect(await statusDown(deskFlow)).toBe(430);
  });

  it('the token of a UDP flow still reaches its client [EP-5.2-04]', async () => {
    const callId = sendDown(edge.core, phoneFlow, 'MESSAGE');
    const got = await phone.next(isRequest('MESSAGE', callId));
    phone.reply(got, 200, 'OK');
    await edge.core.next(isResponse(200, callId));
  });

  it('a tampered token is still refused with 403 [EP-5.2-01 EP-5.3.1-04]', async () => {
    const at = nearby.token.length - 4;
    const forged =
      nearby.token.slice(0, at) + (nearby.token[at] === 'x' ? 'y' : 'x') + nearby.token.slice(at + 1);
    expect(await statusDown({ ...nearby, path: nearby.path.replace(nearby.token, forged) })).toBe(403);
  });

  it('a new registration gets a token of its own, unlike any before [EP-3.4-01]', async () => {
    const again = await edge.client('TCP');
    const flow = await registerFlow(again, edge.core);
    expect([phoneFlow.token, deskFlow.token, nearby.token]).not.toContain(flow.token);
    await again.only(isRequest('MESSAGE', sendDown(edge.core, flow, 'MESSAGE')));
  });
});
