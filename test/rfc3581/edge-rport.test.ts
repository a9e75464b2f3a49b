/** Symmetric response routing: RFC 3581 section 4, with RFC 3261 section 18.2. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UdpAgent } from '../harness/agent.ts';
import { type Edge, startEdge, type Transport } from '../harness/edge.ts';
import { isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { newBranch, response, type SipMessage, unique } from '../harness/sip.ts';

let edge: Edge;
let second: { host: string; port: number };

beforeAll(async () => {
  const host = freshHost();
  const port = await freePort(host);
  second = { host: freshHost(), port: await freePort(host) };
  const listen = [`udp:${host}:${port}`, `tcp:${host}:${port}`, `udp:${second.host}:${second.port}`];
  edge = await startEdge({ host, port, settings: { LISTEN: listen.join(',') } });
});
afterAll(() => edge?.close());

const BOTH: Transport[] = ['UDP', 'TCP'];

/** Lets the request through to the core, which answers 200; returns what the core saw. */
async function pass(callId: string): Promise<SipMessage> {
  const got = await edge.core.next(isRequest('OPTIONS', callId));
  edge.core.reply(got, 200, 'OK');
  return got.message;
}

describe.each(BOTH)('a request over %s with an empty rport', (transport) => {
  it('gets received and rport filled in, also where the address is the one in sent-by [3581-4-01]', async () => {
    const client = await edge.client(transport);
    const callId = unique('call-');
    client.send(client.compose('OPTIONS', 'sip:example.test', { callId }));
    const seen = (await pass(callId)).via.at(-1);
    const answered = (await client.next(isResponse(200, callId))).message.via;
    expect(answered).toHaveLength(1);
    for (const via of [seen, answered[0]]) {
      expect(via?.params.get('received')).toBe(client.host);
      expect(via?.params.get('rport')).toBe(String(client.port));
    }
  });

  it('gets them in an answer that the edge gives itself [3581-4-01]', async () => {
    const client = await edge.client(transport);
    const callId = unique('call-');
    client.send(
      client.compose('OPTIONS', 'sip:example.test', {
        callId,
        headers: [['Proxy-Require', 'no-such-thing']],
      }),
    );
    const [via] = (await client.next(isFinal(callId))).message.via;
    expect(via.params.get('received')).toBe(client.host);
    expect(via.params.get('rport')).toBe(String(client.port));
  });

  it('with a value of its own gets the true one instead [3581-4-04]', async () => {
    const client = await edge.client(transport);
    const callId = unique('call-');
    client.send(client.compose('OPTIONS', 'sip:example.test', { callId, via: client.via(';rport=1') }));
    expect((await pass(callId)).via.at(-1)?.params.get('rport')).toBe(String(client.port));
    const ok = (await client.next(isResponse(200, callId))).message;
    expect(ok.via[0].params.get('rport')).toBe(String(client.port));
  });
});

describe('the edge as client of its core, over UDP', () => {
  it('sends from the address and port of its Via, where it takes the response [3581-3-02]', async () => {
    const client = await edge.client('UDP');
    const callId = unique('call-');
    client.send(client.compose('OPTIONS', 'sip:example.test', { callId }));
    const got = await edge.core.next(isRequest('OPTIONS', callId));
    const { host, port } = got.message.via[0];
    expect({ host, port }).toEqual(got.from);
    (edge.core as UdpAgent).send(response(got.message, 200, 'OK'), { host, port: port as number });
    await client.next(isResponse(200, callId));
  });
});

describe('the response over UDP', () => {
  it('goes to the source address and port, whatever sent-by says [3581-4-02 3261-18.2.2-02]', async () => {
    const client = await edge.client('UDP');
    for (const sentBy of ['192.0.2.33:5060', `${client.host}:9`, 'nat.invalid', '[2001:db8::5]:5060']) {
      const callId = unique('call-');
      const via = `SIP/2.0/UDP ${sentBy};rport;branch=${newBranch()}`;
      client.send(client.compose('OPTIONS', 'sip:example.test', { callId, via }));
      await pass(callId);
      await client.next(isResponse(200, callId));
    }
  });

  it('leaves from the address and port where the request came in [3581-4-03]', async () => {
    const client = edge.keep(await UdpAgent.open({ host: freshHost() }));
    for (const listener of [second, edge.server.address, second]) {
      const callId = unique('call-');
      client.send(client.compose('OPTIONS', 'sip:example.test', { callId }), listener);
      await pass(callId);
      expect((await client.next(isResponse(200, callId))).from).toEqual(listener);
    }
  });

  it('without rport goes to the port in sent-by, at the source address [3581-4-05 3261-18.2.2-02]', async () => {
    const host = freshHost();
    const sender = await edge.client('UDP', { host });
    const listener = await edge.client('UDP', { host });
    const callId = unique('call-');
    const via = `SIP/2.0/UDP ${listener.hostPort};branch=${newBranch()}`;
    sender.send(sender.compose('OPTIONS', 'sip:example.test', { callId, via }));
    await pass(callId);
    await listener.next(isResponse(200, callId));
    await sender.expectNothing();
  });

  it('goes to maddr where the Via has one [3261-18.2.2-02]', async () => {
    const sender = await edge.client('UDP');
    const other = await edge.client('UDP');
    const callId = unique('call-');
    const via = `SIP/2.0/UDP ${sender.host}:${other.port};maddr=${other.host};branch=${newBranch()}`;
    sender.send(sender.compose('OPTIONS', 'sip:example.test', { callId, via }));
    await pass(callId);
    await other.next(isResponse(200, callId));
  });
});

describe('the Via that a request brings', () => {
  it('gets received where sent-by is a name or another address [3261-18.2.1-02]', async () => {
    const client = await edge.client('UDP');
    for (const host of ['client.invalid', '192.0.2.200']) {
      const callId = unique('call-');
      const via = `SIP/2.0/UDP ${host}:${client.port};branch=${newBranch()}`;
      client.send(client.compose('OPTIONS', 'sip:example.test', { callId, via }));
      expect((await pass(callId)).via.at(-1)?.params.get('received')).toBe(client.host);
      await client.next(isResponse(200, callId));
    }
  });

  it('cannot bring a received of its own [3261-18.2.1-02]', async () => {
    const client = await edge.client('UDP');
    const callId = unique('call-');
    const via = `SIP/2.0/UDP ${client.hostPort};received=192.0.2.66;rport;branch=${newBranch()}`;
    client.send(client.compose('OPTIONS', 'sip:example.test', { callId, via }));
    const seen = (await pass(callId)).via.at(-1);
    expect(seen?.params.get('received')).toBe(client.host);
    await client.next(isResponse(200, callId));
  });
});
