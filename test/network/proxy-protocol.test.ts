/**
 * A balancer in front that sends PROXY headers: the client behind it is who SIP, trust and log know, the
 * balancer is the socket. The test is the balancer; real HAProxy is in test/interop/haproxy.test.ts.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Agent, TcpAgent } from '../harness/agent.ts';
import { type Edge, IO, startEdge } from '../harness/edge.ts';
import { composeRegister, registerFlow, sendDown } from '../harness/flows.ts';
import { isCrlf, isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { freshHost } from '../harness/ports.ts';
import { block, line } from '../harness/proxy.ts';
import { boundBecomes, register } from '../harness/registrar.ts';
import { unique } from '../harness/sip.ts';
import { Watched } from './watched.ts';

const BALANCER = freshHost();
const CLIENT = { host: '203.0.113.9', port: 40_000 };
const CLIENT6 = { host: '2001:db8::9', port: 40_001 };
const FORGED_PATH = 'Path: <sip:192.0.2.66;lr>';

let edge: Edge;

beforeAll(async () => {
  edge = await startEdge({ settings: { TRUSTED: `${BALANCER},198.51.100.0/24` } });
});
afterAll(() => edge?.close());

const from = (host: string) => edge.client('TCP', { host }) as Promise<TcpAgent>;

/** A connection of the balancer's that tells of this client. */
async function behind(client = CLIENT, version = 2): Promise<TcpAgent> {
  const agent = await from(BALANCER);
  const to = { host: client.host.includes(':') ? '::1' : edge.server.host, port: edge.server.port };
  agent.send(version === 1 ? Buffer.from(line(client, to)) : block(client, to, Buffer.alloc(40, 4)));
  return agent;
}

async function reachable(client: Agent, flow: Awaited<ReturnType<typeof registerFlow>>): Promise<void> {
  const callId = sendDown(edge.core, flow, 'MESSAGE');
  client.reply(await client.next(isRequest('MESSAGE', callId)), 200, 'OK');
  await edge.core.next(isResponse(200, callId));
}

describe.each([1, 2])('a client behind a trusted balancer (version %i)', (version) => {
  it.each([CLIENT, CLIENT6])('is known by its own address, $host, and reached by its flow', async (who) => {
    const client = await behind(who, version);
    const flow = await registerFlow(client, edge.core);
    const via = flow.forwarded.message.fields('Via').at(-1);
    expect(via).toContain(`;received=${who.host}`);
    expect(via).toContain(`;rport=${who.port}`);
    await reachable(client, flow);
    const peer = who === CLIENT6 ? `[${who.host}]:${who.port}` : `${who.host}:${who.port}`;
    const { transport } = await edge.server.logged((l) => l.aor === flow.aor);
    expect(transport).toBe('tcp');
    expect((await edge.server.logged((l) => l.aor === flow.aor)).peer).toBe(peer);
    await client.close();
    expect((await edge.server.logged((l) => l.event === 'flow-ended' && l.peer === peer)).cause).toBe(
      'peer-closed',
    );
  });

  it('has a keep-alive answered, and nothing else comes back', async () => {
    const client = await behind(CLIENT, version);
    await client.probe();
    await client.expectNothing();
    expect(Buffer.concat(client.octets).toString()).toBe('\r\n\r\n'); // two pongs
  });

  it('may be told of in pieces', async () => {
    const client = await from(BALANCER);
    const header = version === 1 ? Buffer.from(line(CLIENT, CLIENT)) : block(CLIENT, CLIENT);
    const { bytes, callId } = composeRegister(client);
    const all = Buffer.concat([header, bytes]);
    await client.sendPieces([
      all.subarray(0, 1),
      all.subarray(1, 20),
      all.subarray(20, 40),
      all.subarray(40),
    ]);
    const got = await edge.core.next(isRequest('REGISTER', callId));
    expect(got.message.fields('Via').at(-1)).toContain(`;received=${CLIENT.host}`);
  });
});

describe('trust', () => {
  const pathOf = async (client: Agent) => {
    const { bytes, callId } = composeRegister(client, { headers: [['Path', '<sip:192.0.2.66;lr>']] });
    client.send(bytes);
    return (await edge.core.next(isRequest('REGISTER', callId))).message.fields('Path');
  };
  const believed = (paths: string[]) => paths.some((p) => FORGED_PATH.endsWith(p));

  it('is that of the client: the balancer lends him nothing', async () => {
    expect(believed(await pathOf(await behind(CLIENT)))).toBe(false);
    expect(believed(await pathOf(await behind({ host: '198.51.100.7', port: 5060 })))).toBe(true);
  });

  it('of a peer that sends no header is his own, as ever', async () => {
    const gateway = await from(BALANCER);
    expect(believed(await pathOf(gateway))).toBe(true);
    await gateway.probe();
    const pinging = await from(BALANCER);
    await pinging.probe(); // CR LF CR LF might begin a header
    expect(believed(await pathOf(pinging))).toBe(true);
    expect(believed(await pathOf(await from(freshHost())))).toBe(false);
  });

  it('of a connection of the balancer itself is the balancer, with his address', async () => {
    const check = await from(BALANCER);
    check.send(block(CLIENT, CLIENT, undefined, 0x20));
    const { bytes, callId } = composeRegister(check, { headers: [['Path', '<sip:192.0.2.66;lr>']] });
    check.send(bytes);
    const { message } = await edge.core.next(isRequest('REGISTER', callId));
    expect(message.fields('Via').at(-1)).toContain(`;received=${BALANCER}`);
    expect(believed(message.fields('Path'))).toBe(true);
  });

  it('is given to nobody whom the balancer does not know', async () => {
    const client = await from(BALANCER);
    client.send(Buffer.from('PROXY UNKNOWN\r\n'));
    const { bytes, callId } = composeRegister(client, { headers: [['Path', '<sip:192.0.2.66;lr>']] });
    client.send(bytes);
    const { message } = await edge.core.next(isRequest('REGISTER', callId));
    expect(message.fields('Via').at(-1)).toContain(`;received=${BALANCER};`);
    expect(believed(message.fields('Path'))).toBe(false);
  });
});

describe('a header', () => {
  it.each([1, 2])('of version %i from anybody else closes the connection, with a cause', async (version) => {
    const stranger = await from(freshHost());
    const { bytes, callId } = composeRegister(stranger);
    const header = version === 1 ? Buffer.from(line(CLIENT, CLIENT)) : block(CLIENT, CLIENT);
    stranger.send(Buffer.concat([header, bytes]));
    await stranger.closed;
    const note = await edge.server.logged((l) => l.event === 'proxy-refused' && l.peer === stranger.hostPort);
    expect(note.cause).toBe('proxy-untrusted');
    expect(edge.core.arrivals.some((a) => a.message.callId === callId)).toBe(false);
    expect(stranger.octets).toEqual([]);
  });

  it('that is none closes the connection, with a cause', async () => {
    for (const octets of ['PROXY TCP4 1.2.3.4 1.2.3.4 1 70000\r\n', 'PROXY TCP9 \r\n']) {
      const balancer = await from(BALANCER);
      balancer.send(Buffer.from(octets));
      await balancer.closed;
      const note = await edge.server.logged((l) => l.peer === balancer.hostPort);
      expect([note.event, note.cause]).toEqual(['proxy-refused', 'proxy-malformed']);
    }
  });

  it('of the client, behind that of the balancer, is no header', async () => {
    const client = await behind();
    client.send(Buffer.from(line({ host: '198.51.100.7', port: 1 }, CLIENT)));
    const { bytes } = composeRegister(client);
    client.send(bytes);
    await client.next(isFinal()).catch(() => {}); // refused as the request that it is not, or dropped with its connection
    expect(edge.core.arrivals.some((a) => a.message.all('Via').some((v) => v.includes('198.51.100.7')))).toBe(
      false,
    );
  });

  it('does not change to whom a response goes: the flow', async () => {
    const client = await behind();
    const callId = unique('call-');
    client.send(client.compose('OPTIONS', 'sip:example.test', { callId }));
    edge.core.reply(await edge.core.next(isRequest('OPTIONS', callId)), 200, 'OK');
    const { message } = await client.next(isResponse(200, callId));
    expect(message.header('Via')).toContain(`;received=${CLIENT.host}`);
    expect(client.arrivals.filter(isCrlf)).toEqual([]);
  });
});

describe.runIf(IO !== 'core')('the shard of such a connection dies', () => {
  it('its successor knows the client still, and takes no second header (ffi only)', async () => {
    const server = await Watched.start({
      settings: { DOMAINS: 'example.test', STORE: 'memory:', TRUSTED: BALANCER, WORKERS: '1', LOG: 'info' },
    });
    const phone = await TcpAgent.connect({ peer: server.address, localHost: BALANCER });
    const silent = await TcpAgent.connect({ peer: server.address, localHost: BALANCER });
    const other = await TcpAgent.connect({ peer: server.address, localHost: freshHost() });
    try {
      phone.send(block(CLIENT, CLIENT));
      silent.send(Buffer.from('PROXY UNKNOWN\r\n'));
      const { aor } = await register(phone);
      await server.failShard(0);
      silent.send(block({ host: '198.51.100.7', port: 1 }, CLIENT));
      expect(await server.causeOf(silent.hostPort)).toBe('malformed');
      const callId = unique('again-');
      phone.send(phone.compose('OPTIONS', `sip:${server.address.host}:${server.address.port}`, { callId }));
      const { message } = await phone.next(isResponse(200, callId));
      expect(message.header('Via')).toContain(`;received=${CLIENT.host};`);
      await boundBecomes(other, aor, (contacts) => contacts.length === 1);
    } finally {
      await phone.close();
      await silent.close();
      await other.close();
      await server.stop();
    }
  });
});
