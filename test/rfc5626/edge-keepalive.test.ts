/**
 * CRLF keep-alives on connections, RFC 5626 sections 4.4.1 and 5.4: what the octets are. When they are answered is in
 * test/network/keepalive-contract.test.ts, for every transport.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TcpAgent, TcpCore } from '../harness/agent.ts';
import { type Edge, startEdgeOverTcp } from '../harness/edge.ts';
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
});

describe('a single CRLF on a connection', () => {
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
