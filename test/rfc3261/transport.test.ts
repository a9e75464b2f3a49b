/** The transport layer on real sockets: RFC 3261 section 18. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TcpAgent, TcpCore } from '../harness/agent.ts';
import { type Edge, IO, startEdge } from '../harness/edge.ts';
import { registerFlow, sendDown } from '../harness/flows.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { type Arrival, isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { type Header, OMIT, unique } from '../harness/sip.ts';

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge();
});
afterAll(() => edge?.close());

const tcpClient = async () => (await edge.client('TCP')) as TcpAgent;

async function answer(callId: string, status = 200): Promise<void> {
  edge.core.reply(await edge.core.next(isRequest(undefined, callId)), status, 'OK');
}

describe('messages on a connection', () => {
  it('are told apart by Content-Length: two in one segment, with bodies [3261-18.3-01]', async () => {
    const client = await tcpClient();
    const calls = [unique('call-'), unique('call-')];
    const bytes = calls.map((callId) =>
      client.compose('MESSAGE', 'sip:bob@example.test', {
        callId,
        body: 'MESSAGE sip:not@a.start SIP/2.0\r\n\r\n',
      }),
    );
    client.send(Buffer.concat(bytes));
    for (const callId of calls) await answer(callId);
    for (const callId of calls) await client.next(isResponse(200, callId));
  });

  it('may come octet by octet [3261-18.3-01]', async () => {
    const client = await tcpClient();
    const callId = unique('call-');
    const bytes = client.compose('MESSAGE', 'sip:b@example.test', { callId, body: 'body' });
    await client.sendPieces(
      [...bytes].map((octet) => Buffer.from([octet])),
      0,
    );
    await answer(callId);
    await client.next(isResponse(200, callId));
  });

  it('may be cut at any octet [3261-18.3-01]', async () => {
    const client = await tcpClient();
    for (let i = 1; i <= 12; i++) {
      const callId = unique('call-');
      const bytes = client.compose('MESSAGE', 'sip:b@example.test', { callId, body: 'body\r\n\r\n' });
      const at = Math.floor((bytes.length * i) / 13);
      await client.sendPieces([bytes.subarray(0, at), bytes.subarray(at)], 2);
      await answer(callId);
      await client.next(isResponse(200, callId));
    }
  });

  it('without Content-Length are answered 400, and the connection ends [3261-18.3-01]', async () => {
    const client = await tcpClient();
    const callId = unique('call-');
    const headers: Header[] = [['Content-Length', OMIT]];
    client.send(client.compose('MESSAGE', 'sip:b@example.test', { callId, headers }));
    await client.next(isResponse(400, callId));
    await client.closed;
  });
});

describe('a datagram', () => {
  it('loses the octets beyond its Content-Length [3261-18.3-02]', async () => {
    const client = await edge.client('UDP');
    const callId = unique('call-');
    const headers: Header[] = [['Content-Length', '4']];
    client.send(client.compose('MESSAGE', 'sip:b@example.test', { callId, headers, body: 'bodyEXTRA' }));
    const { message } = await edge.core.next(isRequest('MESSAGE', callId));
    expect(message.body.toString()).toBe('body');
  });

  it('shorter than its Content-Length is answered 400 [3261-18.3-02]', async () => {
    const client = await edge.client('UDP');
    const callId = unique('call-');
    const headers: Header[] = [['Content-Length', '40']];
    client.send(client.compose('MESSAGE', 'sip:b@example.test', { callId, headers, body: 'short' }));
    await client.next(isResponse(400, callId));
    expect(edge.core.arrivals.filter(isRequest('MESSAGE', callId))).toEqual([]);
  });

  it('without Content-Length has a body to its end [3261-18.3-02]', async () => {
    const client = await edge.client('UDP');
    const callId = unique('call-');
    const headers: Header[] = [['Content-Length', OMIT]];
    client.send(client.compose('MESSAGE', 'sip:b@example.test', { callId, headers, body: 'all of this' }));
    const { message } = await edge.core.next(isRequest('MESSAGE', callId));
    expect(message.body.toString()).toBe('all of this');
  });

  it('that is a response too short for its Content-Length is dropped [3261-18.3-02]', async () => {
    const client = await edge.client('UDP');
    const callId = unique('call-');
    client.send(client.compose('MESSAGE', 'sip:b@example.test', { callId }));
    const got = await edge.core.next(isRequest('MESSAGE', callId));
    edge.core.reply(got, 200, 'OK', [['Content-Length', '99']], 'short');
    edge.core.reply(got, 202, 'Accepted');
    await client.only(isResponse(202, callId));
  });

  it('of 60 kB is handled [3261-18.1.1-02]', async () => {
    const client = await edge.client('UDP');
    const callId = unique('call-');
    const body = 'x'.repeat(60_000);
    client.send(client.compose('OPTIONS', 'sip:b@example.test', { callId, maxForwards: 0, body }));
    const { message } = await client.next(isFinal(callId));
    expect([200, 483]).toContain(message.status);
  });
});

describe('a large message', () => {
  it('goes down the UDP flow of its client all the same [SE-13-01]', async () => {
    const client = await edge.client('UDP');
    const flow = await registerFlow(client, edge.core);
    const callId = sendDown(edge.core, flow, 'MESSAGE', { body: 'y'.repeat(2_000) });
    const got = await client.next(isRequest('MESSAGE', callId));
    expect(got.message.body.length).toBe(2_000);
  });

  it('to a core without a named transport goes over TCP, with a Via that says so [3261-18.1.1-01]', async () => {
    const core = { host: freshHost(), port: 0 };
    core.port = await freePort(core.host);
    const plain = await startEdge({ core, settings: { UPSTREAM: `sip:${core.host}:${core.port}` } });
    const overTcp = plain.keep(await TcpCore.open(core));
    try {
      const client = await plain.client('UDP');
      const small = unique('call-');
      client.send(client.compose('MESSAGE', 'sip:b@example.test', { callId: small, body: 'z' }));
      await plain.core.next(isRequest('MESSAGE', small));
      const large = unique('call-');
      client.send(
        client.compose('MESSAGE', 'sip:b@example.test', { callId: large, body: 'z'.repeat(1_400) }),
      );
      const got = await overTcp.next(isRequest('MESSAGE', large));
      expect(got.message.via[0].transport).toBe('TCP');
      overTcp.reply(got, 200, 'OK');
      await client.next(isResponse(200, large));
    } finally {
      await plain.close();
    }
  });
});

describe('a server with nothing but its defaults for a host', () => {
  it('takes TCP on the port where it takes UDP [3261-18.2.1-01]', async () => {
    const udp = await edge.client('UDP');
    await udp.probe();
    const tcp = await tcpClient();
    await tcp.probe();
    expect(tcp.socket.remotePort).toBe(edge.server.port);
  });
});

describe('a client that hangs up before its response', () => {
  it('costs the others nothing [3261-18.2.2-01]', async () => {
    const hasty = await TcpAgent.connect({ peer: edge.server.address, localHost: freshHost() });
    const callId = unique('call-');
    hasty.send(hasty.compose('MESSAGE', 'sip:b@example.test', { callId }));
    const got = await edge.core.next(isRequest('MESSAGE', callId));
    await hasty.reset();
    edge.core.reply(got, 200, 'OK');
    const other = await tcpClient();
    const next = unique('call-');
    other.send(other.compose('MESSAGE', 'sip:b@example.test', { callId: next }));
    await answer(next);
    await other.next(isResponse(200, next));
  });
});

describe('a response whose connection is gone', () => {
  /** What arrives where the Via says. The 200 is sent anew (6026 7.2) until the server has seen the end. */
  const answered = async (register: boolean, method = 'INVITE'): Promise<Arrival[]> => {
    const sentBy = await TcpCore.open({ host: freshHost() });
    const caller = await TcpAgent.connect({ peer: edge.server.address, localHost: sentBy.host });
    if (register) await registerFlow(caller, edge.core);
    const callId = unique('call-');
    caller.send(caller.compose(method, 'sip:b@example.test', { callId, via: sentBy.via('') }));
    const got = await edge.core.next(isRequest(method, callId));
    await caller.reset();
    const other = await tcpClient();
    const arrived = () => sentBy.arrivals.filter(isResponse(200, callId));
    for (let i = 0; i < 50 && arrived().length === 0; i++) {
      // without Content-Length, as a datagram may be
      edge.core.reply(got, 200, 'OK', [['Content-Length', OMIT]]);
      const next = unique('call-');
      other.send(other.compose('MESSAGE', 'sip:b@example.test', { callId: next }));
      await answer(next);
      await other.next(isResponse(200, next));
    }
    await sentBy.close();
    return arrived();
  };

  it('goes to the address it came from, at the port of its Via, over a new one [3261-18.2.2-01]', async () => {
    const [first] = await answered(false);
    expect(first.message.via.length).toBe(1);
    expect(first.message.header('content-length')).toBe('0');
  });

  it('to a REGISTER of a client is dropped [3261-18.2.2-01]', async () => {
    expect(await answered(false, 'REGISTER')).toEqual([]);
  });

  it('stays away from who has registered: it is reached over its flows alone [3261-18.2.2-01]', async () => {
    expect(await answered(true)).toEqual([]);
  });
});

describe('a core whose port is closed', () => {
  it.skipIf(IO === 'core')('is noticed by ICMP: the client hears it at once [3261-18.4-01]', async () => {
    const core = { host: freshHost(), port: 0 };
    core.port = await freePort(core.host);
    const server = await Holdfast.start({
      settings: { UPSTREAM: `sip:${core.host}:${core.port};transport=udp` },
    });
    try {
      const client = await server.udp();
      const callId = unique('call-');
      client.send(client.compose('MESSAGE', 'sip:b@example.test', { callId }));
      const { message } = await client.next(isFinal(callId), 3_000);
      expect(message.status).toBeGreaterThanOrEqual(500);
      await client.close();
    } finally {
      await server.stop();
    }
  });
});
