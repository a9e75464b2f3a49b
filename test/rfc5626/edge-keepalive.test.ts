/** CRLF keep-alives on connections: RFC 5626 sections 4.4.1 and 5.4. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TcpAgent, TcpCore } from '../harness/agent.ts';
import { type Edge, startEdgeOverTcp } from '../harness/edge.ts';
import { composeRegister, registerFlow, sendDown } from '../harness/flows.ts';
import { isCrlf, isRequest, isResponse } from '../harness/inbox.ts';
import { unique } from '../harness/sip.ts';

const PING = Buffer.from('\r\n\r\n');
const CRLF = Buffer.from('\r\n');

let edge: Edge<TcpCore>;

beforeAll(async () => {
  edge = await startEdgeOverTcp();
});
afterAll(() => edge?.close());

const open = async () => (await edge.client('TCP')) as TcpAgent;

/** An OPTIONS that goes through to the core and back: shows that framing is still in step. */
async function exchange(client: TcpAgent, bytes: Buffer, callId: string): Promise<void> {
  client.send(bytes);
  await answer(callId);
}

async function answer(callId: string): Promise<void> {
  const got = await edge.core.next(isRequest(undefined, callId));
  edge.core.reply(got, 200, 'OK');
}

function options(client: TcpAgent, body = ''): [bytes: Buffer, callId: string] {
  const callId = unique('call-');
  const bytes = client.compose('OPTIONS', 'sip:example.test', { callId, body });
  return [bytes, callId];
}

const total = (client: TcpAgent) => Buffer.concat(client.octets);

describe('a double CRLF on a connection', () => {
  it('is answered with a single CRLF and nothing more [EP-5.4-02 GR-10-04]', async () => {
    const client = await open();
    client.send(PING);
    await client.only(isCrlf);
    const [bytes, callId] = options(client);
    await exchange(client, bytes, callId);
    const response = await client.only(isResponse(200, callId));
    expect(total(client)).toEqual(Buffer.concat([CRLF, response.bytes]));
  });

  it('is one ping however the network cuts it [EP-5.4-03]', async () => {
    for (const cut of [
      [1, 2, 1],
      [3, 1],
      [1, 3],
      [2, 2],
      [1, 1, 1, 1],
    ]) {
      const client = await open();
      const ends = cut.map((_, i) => cut.slice(0, i + 1).reduce((sum, n) => sum + n, 0));
      const pieces = ends.map((end, i) => PING.subarray(end - cut[i], end));
      await client.sendPieces(pieces);
      await client.only(isCrlf);
      await client.expectNothing();
    }
  });

  it('is seen before a message in the same segment [EP-5.4-03]', async () => {
    const client = await open();
    const [bytes, callId] = options(client);
    await exchange(client, Buffer.concat([PING, bytes]), callId);
    await client.next(isCrlf);
    await client.next(isResponse(200, callId));
    await client.expectNothing();
  });

  it('is seen between two messages in the same segment [EP-5.4-03 3261-18.3-01]', async () => {
    const client = await open();
    const first = composeRegister(client);
    const second = composeRegister(client);
    client.send(Buffer.concat([first.bytes, PING, second.bytes]));
    await answer(first.callId);
    await answer(second.callId);
    await client.next(isCrlf);
    await client.next(isResponse(200, first.callId));
    await client.next(isResponse(200, second.callId));
    await client.expectNothing();
  });

  it('is answered as often as it comes [EP-5.4-04]', async () => {
    const client = await open();
    client.send(Buffer.concat([PING, PING, PING]));
    for (let i = 0; i < 3; i++) await client.only(isCrlf);
    await client.expectNothing();
  });

  it('is no ping inside a body, also when the body is cut there', async () => {
    const client = await open();
    const [bytes, callId] = options(client, 'one\r\n\r\n\r\n\r\ntwo');
    const at = bytes.indexOf('\r\n\r\n\r\n\r\ntwo');
    await client.sendPieces([bytes.subarray(0, at), bytes.subarray(at, at + 4), bytes.subarray(at + 4)]);
    const got = await edge.core.next(isRequest('OPTIONS', callId));
    expect(got.message.body.toString()).toBe('one\r\n\r\n\r\n\r\ntwo');
    edge.core.reply(got, 200, 'OK');
    await client.only(isResponse(200, callId));
    await client.expectNothing();
  });

  it('is answered on a connection that has sent no SIP yet, and again after it has [EP-5.4-02]', async () => {
    const client = await open();
    await client.probe();
    await registerFlow(client, edge.core);
    await client.probe();
    await client.expectNothing();
  });
});

describe('a single CRLF on a connection', () => {
  it('is not answered, and the connection stays [EP-5.4-04]', async () => {
    const client = await open();
    client.send(CRLF);
    // a lone CRLF and a later ping would look like three: end the pair with a message in between
    const [bytes, callId] = options(client);
    await exchange(client, bytes, callId);
    await client.only(isResponse(200, callId));
    await client.expectNothing();
  });

  it('before a start line is passed over [3261-7.5-01 EP-5.4-04]', async () => {
    const client = await open();
    const [bytes, callId] = options(client);
    await exchange(client, Buffer.concat([CRLF, bytes]), callId);
    await client.only(isResponse(200, callId));
  });

  it('three of them before a start line are one ping and one to pass over [3261-7.5-01 EP-5.4-04]', async () => {
    const client = await open();
    const [bytes, callId] = options(client);
    await exchange(client, Buffer.concat([CRLF, PING, bytes]), callId);
    await client.next(isCrlf);
    await client.next(isResponse(200, callId));
    await client.expectNothing();
  });
});

describe('a ping while the server is writing', () => {
  it('is answered between two messages, never inside one [EP-5.4-05]', async () => {
    const client = await open();
    const flow = await registerFlow(client, edge.core);
    client.socket.pause();
    const body = 'x'.repeat(50_000);
    const count = 40;
    const calls: string[] = [];
    for (let i = 0; i < count; i++) {
      calls.push(sendDown(edge.core, flow, 'MESSAGE', { body }));
      // datagrams of this size soon fill the server's receive buffer: one at a time, seen by its answer to a ping
      await edge.core.probe();
    }
    client.send(PING);
    await new Promise((r) => setTimeout(r, 300));
    client.socket.resume();
    // every message comes whole, with its body, and the pong stands somewhere between them
    for (const callId of calls) {
      const got = await client.next(isRequest('MESSAGE', callId));
      expect(got.message.body.length).toBe(body.length);
      client.reply(got, 200, 'OK');
    }
    await client.next(isCrlf);
    await client.expectNothing();
  });
});
