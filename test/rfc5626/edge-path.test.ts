/** What an edge puts into Path, and what its flow tokens are worth: RFC 5626 sections 3.4, 5.1 and 5.2. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Agent, TcpAgent, UdpAgent } from '../harness/agent.ts';
import { type Edge, startEdge, type Transport } from '../harness/edge.ts';
import { answerRegister, composeRegister, type Flow, registerFlow, sendDown } from '../harness/flows.ts';
import { isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { freshHost } from '../harness/ports.ts';
import { parseNameAddr, type SipMessage } from '../harness/sip.ts';

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge();
});
afterAll(() => edge?.close());

const BOTH: Transport[] = ['UDP', 'TCP'];

/** The REGISTER at the core, or the final response that the client got instead. */
async function outcome(client: Agent, bytes: Buffer, callId: string): Promise<SipMessage> {
  client.send(bytes);
  const refused = client.next(isFinal(callId)).then((a) => a.message);
  const forwarded = edge.core.next(isRequest('REGISTER', callId)).then((got) => {
    answerRegister(edge.core, got);
    return got.message;
  });
  const first = await Promise.race([refused, forwarded]);
  await refused;
  forwarded.catch(() => {});
  return first;
}

/** A request down the flow arrives at the client and its answer at the core. */
async function delivered(
  client: Agent,
  flow: Flow,
  from: Agent = edge.core,
  route = flow.path,
): Promise<void> {
  const callId = sendDown(from, flow, 'MESSAGE', { route: [route] });
  const got = await client.next(isRequest('MESSAGE', callId));
  client.reply(got, 200, 'OK');
  await from.next(isResponse(200, callId));
}

describe.each(BOTH)('a REGISTER with reg-id straight from a client over %s', (transport) => {
  it('goes on with the edge in Path: token, lr and ob [EP-5.1-01 EP-5.1-02 EP-5.1-03 EP-5.1-05 EP-5.1-07 EP-5.1-08 EP-3.4-02 EP-3.4-03]', async () => {
    const client = await edge.client(transport);
    const flow = await registerFlow(client, edge.core);
    expect(flow.forwarded.message.all('Path')).toHaveLength(1);
    const path = parseNameAddr(flow.path);
    expect(flow.path).toMatch(/^<sip:.*>$/);
    expect(`${path.host}:${path.port}`).toBe(edge.hostPort);
    expect(path.uriParams.has('lr')).toBe(true);
    expect(path.uriParams.has('ob')).toBe(true);
    expect(path.uriParams.get('ob')).toBeUndefined();
    expect(path.user).toMatch(/^[A-Za-z0-9_-]{20,}$/);
  });

  it('is visited by later requests to that client [EP-5.1-01 EP-3.4-02]', async () => {
    const client = await edge.client(transport);
    await delivered(client, await registerFlow(client, edge.core));
  });

  it('without reg-id has a flow all the same [EP-5.1-01]', async () => {
    const client = await edge.client(transport);
    const flow = await registerFlow(client, edge.core, { regId: null, requireOutbound: false });
    expect(parseNameAddr(flow.path).user).not.toBe('');
    await delivered(client, flow);
  });

  it('is never answered with 439 by a proxy [EP-11.6-01]', async () => {
    const client = await edge.client(transport);
    for (const options of [{ regId: null }, { supported: 'path' }, { regId: null, supported: 'path' }]) {
      const { ok } = await registerFlow(client, edge.core, { ...options, requireOutbound: false });
      expect(ok.status).toBe(200);
    }
  });
});

describe('a REGISTER that has passed another proxy before', () => {
  const moreVia = ['SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK-first'];

  it('gets no ob from this edge [EP-5.1-02 EP-5.1-09]', async () => {
    const client = await edge.client('UDP');
    const { bytes, callId } = composeRegister(client, { moreVia });
    const message = await outcome(client, bytes, callId);
    for (const value of message.all('Path')) expect(parseNameAddr(value).uriParams.has('ob')).toBe(false);
  });

  it('cannot bring a first hop of its own making [EP-5.1-10 EP-5.1-09]', async () => {
    const client = await edge.client('UDP');
    const forged = '<sip:forged@192.0.2.9;lr;ob>';
    for (const via of [moreVia, []]) {
      const { bytes, callId } = composeRegister(client, { moreVia: via, headers: [['Path', forged]] });
      const message = await outcome(client, bytes, callId);
      if (message.isRequest) {
        expect(message.all('Path')).not.toContain(forged);
        const lastHop = message.all('Path').at(-1);
        if (via.length > 0 && lastHop) expect(parseNameAddr(lastHop).uriParams.has('ob')).toBe(false);
      } else expect(message.status).toBeGreaterThanOrEqual(400);
    }
  });
});

describe('a flow token', () => {
  it('differs from flow to flow, and names its flow [EP-5.1-06 EP-5.2-01]', async () => {
    const flows: Flow[] = [];
    const clients: Agent[] = [];
    for (let i = 0; i < 60; i++) clients.push(await edge.client(i % 2 ? 'UDP' : 'TCP'));
    for (const client of clients) flows.push(await registerFlow(client, edge.core));
    expect(new Set(flows.map((f) => f.token)).size).toBe(flows.length);
    for (const i of [0, 1, 30, 59]) await delivered(clients[i], flows[i]);
  });

  it('differs between two ports of one client host [EP-5.1-06]', async () => {
    const host = freshHost();
    const tokens = new Set<string>();
    for (let i = 0; i < 10; i++)
      tokens.add((await registerFlow(await edge.client('UDP', { host }), edge.core)).token);
    expect(tokens.size).toBe(10);
  });

  it('is not shared with a later connection between the same addresses [EP-3.4-01 EP-5.2-05]', async () => {
    const host = freshHost();
    const first = await TcpAgent.connect({ peer: edge.server.address, localHost: host, localPort: 7070 });
    const before = await registerFlow(first, edge.core);
    await first.reset();
    const second = edge.keep(
      await TcpAgent.connect({ peer: edge.server.address, localHost: host, localPort: 7070 }),
    );
    const after = await registerFlow(second, edge.core);
    expect(after.token).not.toBe(before.token);
    const callId = sendDown(edge.core, before, 'MESSAGE');
    await edge.core.next(isResponse(430, callId));
    const good = sendDown(edge.core, after, 'MESSAGE');
    await second.only(isRequest('MESSAGE', good));
  });

  it.each(BOTH)(
    'changed in any one character is refused and reaches nobody (%s) [EP-5.2-01 EP-5.3.1-04 EP-5.3.1-06 SE-12-01]',
    async (transport) => {
      const client = await edge.client(transport);
      const flow = await registerFlow(client, edge.core);
      for (let i = 0; i < flow.token.length; i++) {
        const other = flow.token[i] === 'A' ? 'B' : 'A';
        const forged = flow.token.slice(0, i) + other + flow.token.slice(i + 1);
        const callId = sendDown(edge.core, flow, 'MESSAGE', {
          route: [flow.path.replace(flow.token, forged)],
        });
        const answer = await edge.core.next(isFinal(callId));
        expect(`${i}: ${answer.message.status}`).toBe(`${i}: 403`);
      }
      const good = sendDown(edge.core, flow, 'MESSAGE');
      await client.only(isRequest('MESSAGE', good));
    },
  );

  it('means the same when a peer has percent-encoded it [EP-5.2-03]', async () => {
    const client = await edge.client('TCP');
    const flow = await registerFlow(client, edge.core);
    const escaped = [...flow.token]
      .map((c, i) => (i % 7 === 0 ? `%${c.charCodeAt(0).toString(16).toUpperCase()}` : c))
      .join('');
    await delivered(client, flow, edge.core, flow.path.replace(flow.token, escaped));
  });

  it('is good on whichever thread the request comes in [EP-5.2-06]', async () => {
    const clients = [await edge.client('UDP'), await edge.client('TCP'), await edge.client('TCP')];
    const flows: Flow[] = [];
    for (const client of clients) flows.push(await registerFlow(client, edge.core));
    for (let i = 0; i < 8; i++) {
      const core = edge.keep(await UdpAgent.open({ host: edge.core.host, peer: edge.server.address }));
      for (const [n, client] of clients.entries()) await delivered(client, flows[n], core);
    }
  });
});

describe('an edge that is out of flow records', () => {
  it('refuses the registration and forwards nothing without a token [EP-5.1-05]', async () => {
    const small = await startEdge({ settings: { MAX_FLOWS: '16', WORKERS: '1' } });
    try {
      let refused = 0;
      for (let i = 0; i < 24; i++) {
        const client = await small.client('UDP');
        const { bytes, callId } = composeRegister(client);
        client.send(bytes);
        const forwarded = small.core.next(isRequest('REGISTER', callId));
        const got = forwarded.then((request) => {
          expect(parseNameAddr(request.message.all('Path')[0]).user).not.toBe('');
          answerRegister(small.core, request);
        });
        got.catch(() => {});
        const answer = (await client.next(isFinal(callId))).message;
        if (answer.status === 200) await got;
        else {
          expect(answer.status).toBeGreaterThanOrEqual(500);
          expect(small.core.arrivals.filter(isRequest('REGISTER', callId))).toEqual([]);
          refused++;
        }
      }
      expect(refused).toBeGreaterThanOrEqual(8);
    } finally {
      await small.close();
    }
  });
});
