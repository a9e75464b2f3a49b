/**
 * What a keep-alive is on each transport, and when it is answered: one list of cases, one row a transport. A ping
 * is answered by one pong, at once, on the same flow, and by nothing else, wherever it stands between messages.
 *
 * STUN attribute by attribute is in test/rfc5626/edge-stun.test.ts; octets that look like pings inside messages
 * in edge-keepalive.test.ts.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Agent, TcpAgent, type TcpCore } from '../harness/agent.ts';
import { type Edge, startEdgeOverTcp } from '../harness/edge.ts';
import { composeRegister, registerFlow, sendDown } from '../harness/flows.ts';
import { type Arrival, isCrlf, isRequest, isResponse } from '../harness/inbox.ts';
import { freshHost } from '../harness/ports.ts';
import { block } from '../harness/proxy.ts';
import { unique } from '../harness/sip.ts';
import { stun } from '../harness/stun.ts';

interface Row {
  transport: string;
  open: () => Promise<Agent>;
  /** each one may be different */
  ping: () => Buffer;
  isPong: (arrival: Arrival, ping: Buffer) => boolean;
  /** Pings and messages are octets in a row, cut and glued as the network likes; else each is a unit of its own. */
  isStream: boolean;
  /** large messages that are on their way to the client when it pings, so that some wait in the server */
  backlog: number;
  /** the requirements that answering shows */
  ids: string;
}

let edge: Edge<TcpCore>;

beforeAll(async () => {
  // one shard: a ring between two may be full for a moment, and then a large message is refused
  edge = await startEdgeOverTcp({ settings: { TRUSTED: BALANCER, WORKERS: '1' } });
});
afterAll(() => edge?.close());

const BALANCER = freshHost();
const CLIENT = { host: '203.0.113.9', port: 40_000 };
const PING = Buffer.from('\r\n\r\n');

const rows: Row[] = [
  {
    transport: 'UDP',
    open: () => edge.client('UDP'),
    ping: () => stun(),
    isPong: ({ kind, stun: answer }, ping) =>
      kind === 'stun' && answer?.id.equals(ping.subarray(8, 20)) === true,
    isStream: false,
    backlog: 10,
    ids: 'EP-5.4-01 ST-8-01',
  },
  {
    transport: 'TCP',
    open: () => edge.client('TCP'),
    ping: () => PING,
    isPong: isCrlf,
    isStream: true,
    backlog: 40,
    ids: 'EP-5.4-02 EP-5.4-03 GR-10-04',
  },
  {
    transport: 'TCP behind a balancer',
    open: async () => {
      const client = await edge.client('TCP', { host: BALANCER });
      client.send(block(CLIENT, CLIENT));
      return client;
    },
    ping: () => PING,
    isPong: isCrlf,
    isStream: true,
    backlog: 40,
    ids: 'EP-5.4-02',
  },
];

function options(client: Agent): { bytes: Buffer; callId: string } {
  const callId = unique('call-');
  return { callId, bytes: client.compose('OPTIONS', 'sip:example.test', { callId }) };
}

async function answered(callId: string): Promise<void> {
  edge.core.reply(await edge.core.next(isRequest(undefined, callId)), 200, 'OK');
}

/** Every way to cut four octets. */
const CUTS = Array.from({ length: 8 }, (_, bits) => {
  const ends = [1, 2, 3].filter((end) => bits & (1 << (end - 1)));
  return [0, ...ends].map((from, i) => [from, ends[i] ?? 4]);
});

describe.each(rows)('a ping over $transport', ({ open, ping, isPong, isStream, backlog, ids }) => {
  /** In one segment where that can be, else one by one. */
  const send = (client: Agent, units: Buffer[]) => {
    for (const unit of isStream ? [Buffer.concat(units)] : units) client.send(unit);
  };
  const pong = (client: Agent, to: Buffer) => client.next((arrival) => isPong(arrival, to));

  it(`alone is answered by one pong, before any message and after [${ids}]`, async () => {
    const client = await open();
    for (const first of [true, false]) {
      const one = ping();
      client.send(one);
      expect(isPong(await client.only(), one)).toBe(true);
      await client.expectNothing();
      if (first) await registerFlow(client, edge.core);
    }
  });

  it(`in front of a message is seen, and so is the message [${ids} 3261-18.3-01]`, async () => {
    const client = await open();
    const { bytes, callId } = options(client);
    const one = ping();
    send(client, [one, bytes]);
    await answered(callId);
    expect(isPong(await client.only(), one)).toBe(true); // it did not wait for the message's answer
    await client.next(isResponse(200, callId));
    await client.expectNothing();
  });

  it(`between two messages is seen, and so are they [${ids} 3261-18.3-01]`, async () => {
    const client = await open();
    const [first, second] = [composeRegister(client), composeRegister(client)];
    const one = ping();
    send(client, [first.bytes, one, second.bytes]);
    for (const { callId } of [first, second]) await answered(callId);
    await pong(client, one);
    for (const { callId } of [first, second]) await client.next(isResponse(200, callId));
    await client.expectNothing();
  });

  it(`ten times in a row has ten pongs [${ids} EP-5.4-04]`, async () => {
    const client = await open();
    const ten = Array.from({ length: 10 }, ping);
    send(client, ten);
    for (const each of ten) await pong(client, each);
    await client.expectNothing();
  });

  it(`while large messages are being written is answered, inside none of them [${ids} EP-5.4-05]`, async () => {
    const client = await open();
    const flow = await registerFlow(client, edge.core);
    if (client instanceof TcpAgent) client.socket.pause();
    const body = 'x'.repeat(50_000);
    const calls: string[] = [];
    for (let i = 0; i < backlog; i++) {
      calls.push(sendDown(edge.core, flow, 'MESSAGE', { body }));
      await edge.core.probe(); // what was sent before it has been read
    }
    const one = ping();
    client.send(one);
    if (client instanceof TcpAgent) {
      await new Promise((r) => setTimeout(r, 300));
      client.socket.resume();
    }
    for (const callId of calls) {
      const got = await client.next(isRequest('MESSAGE', callId));
      expect(got.message.body.length).toBe(body.length);
      client.reply(got, 200, 'OK');
    }
    await pong(client, one);
    await client.expectNothing();
  });
});

const streams = rows.filter(({ isStream }) => isStream);

describe.each(streams)('a ping over $transport, cut by the network,', ({ open, ping, isPong }) => {
  it('is one ping wherever the cuts are [EP-5.4-03]', async () => {
    await Promise.all(
      CUTS.map(async (cut) => {
        const client = (await open()) as TcpAgent;
        const one = ping();
        await client.sendPieces(cut.map(([from, to]) => one.subarray(from, to)));
        await client.next((arrival) => isPong(arrival, one));
        await client.expectNothing();
      }),
    );
  });

  it('is cut from the message behind it wherever the network cuts both [EP-5.4-03]', async () => {
    const client = (await open()) as TcpAgent;
    for (let at = 1; at < 8; at++) {
      const { bytes, callId } = options(client);
      const one = ping();
      const both = Buffer.concat([one, bytes]);
      await client.sendPieces([both.subarray(0, at), both.subarray(at)]);
      await answered(callId);
      await client.next((arrival) => isPong(arrival, one));
      await client.next(isResponse(200, callId));
    }
    await client.expectNothing();
  });
});

describe.each(rows)('a lone CRLF over $transport', ({ open, isStream }) => {
  it('is not answered, and the flow stays [EP-5.4-04]', async () => {
    const client = await open();
    client.send(Buffer.from('\r\n'));
    // on a stream the next ping would make three of it: a message ends the pair
    const { bytes, callId } = options(client);
    client.send(bytes);
    await answered(callId);
    await client.only(isResponse(200, callId));
    await client.expectNothing();
    if (isStream)
      expect(
        Buffer.concat((client as TcpAgent).octets)
          .subarray(0, 7)
          .toString(),
      ).toBe('SIP/2.0');
  });
});

describe.each(streams)('a STUN request over $transport', ({ open }) => {
  it.each([[''], ['\r\n\r\n']])(
    'is junk: the connection is closed without an answer to it (behind %j)',
    async (before) => {
      const client = (await open()) as TcpAgent;
      client.send(Buffer.concat([Buffer.from(before), stun()]));
      await client.closed;
      expect(Buffer.concat(client.octets).toString()).toBe(before.slice(2));
    },
  );
});
