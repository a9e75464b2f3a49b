/** STUN Binding on the SIP port of an edge: RFC 5626 section 8, RFC 5389. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { UdpAgent } from '../harness/agent.ts';
import { type Edge, startEdge } from '../harness/edge.ts';
import { isRequest, isResponse, isStun } from '../harness/inbox.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { unique } from '../harness/sip.ts';
import {
  attribute,
  mappedAddress,
  parseStun,
  type StunMessage,
  type StunOptions,
  stun,
} from '../harness/stun.ts';

let edge: Edge;
let client: Agent;
let second: { host: string; port: number };

beforeAll(async () => {
  const host = freshHost();
  const port = await freePort(host);
  second = { host: freshHost(), port: await freePort(host) };
  const listen = [
    `udp:${host}:${port}`,
    `tcp:${host}:${port}`,
    `udp:${second.host}:${second.port}`,
    `udp:[::1]:${port}`,
  ];
  edge = await startEdge({ host, port, settings: { LISTEN: listen.join(',') } });
});
beforeEach(async () => {
  client = await edge.client('UDP');
});
afterAll(() => edge?.close());

const asked = (bytes: Buffer) => parseStun(bytes) as StunMessage;

/** Sends a request and returns the answer with its transaction id, which must come before anything else. */
async function ask(options: StunOptions = {}, from: Agent = client): Promise<StunMessage> {
  const bytes = stun(options);
  from.send(bytes);
  const answer = (await from.only(isStun)).stun as StunMessage;
  expect(answer.id).toEqual(bytes.subarray(8, 20));
  return answer;
}

/** The server must stay silent: the next thing that comes is the answer to a later, good request. */
async function silent(bytes: Buffer): Promise<void> {
  client.send(bytes);
  expect((await ask()).type).toBe(0x0101);
}

describe('a STUN Binding request on the SIP port', () => {
  it('is answered with the source address and port of the request [ST-8-04 ST-8-03 ST-5389-12 EP-5.4-01]', async () => {
    const answer = await ask();
    expect(answer.type).toBe(0x0101);
    expect(answer.cookie).toBe(0x2112a442);
    expect(mappedAddress(answer)).toBe(client.hostPort);
  });

  it('is laid out octet for octet as the vector of the RFC asks [ST-5389-01 ST-5389-12]', async () => {
    const id = Buffer.from('0102030405060708090a0b0c', 'hex');
    const answer = await ask({ id });
    const mapped = Buffer.alloc(8);
    mapped.writeUInt16BE(1, 0);
    mapped.writeUInt16BE(client.port ^ 0x2112, 2);
    const cookie = [0x21, 0x12, 0xa4, 0x42];
    for (const [i, octet] of client.host.split('.').entries()) mapped[4 + i] = Number(octet) ^ cookie[i];
    const head = Buffer.from(`0101000c2112a442${id.toString('hex')}00200008`, 'hex');
    expect(answer.raw.subarray(0, 32)).toEqual(Buffer.concat([head, mapped]));
  });

  it('is answered on every UDP listener, from the address it was sent to [ST-8-05 EP-5.4-01 ST-5389-10]', async () => {
    const other = edge.keep(await UdpAgent.open({ host: freshHost(), peer: second }));
    other.send(stun());
    const arrival = await other.only(isStun);
    expect(arrival.from).toEqual(second);
    expect(mappedAddress(arrival.stun as StunMessage)).toBe(other.hostPort);
  });

  it('is answered over IPv6 with the IPv6 form of the address [ST-8-05 ST-5389-12 EP-5.4-01]', async () => {
    const six = edge.keep(
      await UdpAgent.open({ host: '::1', peer: { host: '::1', port: edge.server.port } }),
    );
    const answer = await ask({}, six);
    expect(attribute(answer, 0x0020)?.length).toBe(20);
    expect(mappedAddress(answer)).toBe(six.hostPort);
  });

  it('never goes on to the core, and SIP on the same flow still does [ST-8-01 ST-8-06]', async () => {
    const callId = unique('call-');
    await ask();
    client.send(client.compose('OPTIONS', 'sip:example.test', { callId }));
    const got = await edge.core.only(isRequest('OPTIONS', callId));
    edge.core.reply(got, 200, 'OK');
    await client.only(isResponse(200, callId));
  });

  it('gets equal answers when it is sent twice [ST-5389-11 ST-5389-03]', async () => {
    const id = Buffer.from('ffeeddccbbaa998877665544', 'hex');
    const first = await ask({ id });
    const again = await ask({ id });
    expect(again.raw).toEqual(first.raw);
  });

  it('is answered although it carries attributes we may ignore [ST-5389-05]', async () => {
    const answer = await ask({ attributes: [{ type: 0x8fff, value: Buffer.from('abcde') }] });
    expect(answer.type).toBe(0x0101);
    expect(mappedAddress(answer)).toBe(client.hostPort);
  });

  it('is refused with 420 and the list of attributes we would have to understand [ST-5389-06 ST-5389-08]', async () => {
    const answer = await ask({
      attributes: [
        { type: 0x7001, value: Buffer.from('deadbeef', 'hex') },
        { type: 0x7002, value: Buffer.alloc(0) },
      ],
    });
    expect(answer.type).toBe(0x0111);
    const code = attribute(answer, 0x0009) as Buffer;
    expect([code[2] & 7, code[3]]).toEqual([4, 20]);
    const list = attribute(answer, 0x000a) as Buffer;
    const types = Array.from({ length: list.length / 2 }, (_, i) => list.readUInt16BE(2 * i));
    expect(types).toEqual([0x7001, 0x7002]);
  });

  it('needs no credentials, and those it brings are passed over [ST-5389-16]', async () => {
    const answer = await ask({
      attributes: [
        { type: 0x0006, value: Buffer.from('user') },
        { type: 0x0008, value: Buffer.alloc(20, 7) },
      ],
    });
    expect(answer.type).toBe(0x0101);
  });

  it('with a right FINGERPRINT is answered [ST-5389-13]', async () => {
    expect((await ask({ fingerprint: 'right' })).type).toBe(0x0101);
  });

  it('with a wrong FINGERPRINT is dropped [ST-5389-13]', () => silent(stun({ fingerprint: 'wrong' })));

  it('does not reveal the product [ST-5389-09]', async () => {
    expect(attribute(await ask(), 0x8022)).toBeUndefined();
  });

  it('without the magic cookie gets no answer [ST-8-13]', () => silent(stun({ cookie: 0x01020304 })));

  it('with a length that is no multiple of four is dropped [ST-5389-02]', async () => {
    await silent(Buffer.concat([stun({ length: 3 }), Buffer.alloc(3)]));
  });

  it('that is longer or shorter than its length field is dropped [ST-5389-02 ST-5389-04]', async () => {
    await silent(stun({ length: 8 }));
    await silent(stun().subarray(0, 12));
    await silent(stun().subarray(0, 1));
  });

  it('whose attribute runs over the end of the message is dropped [ST-5389-04]', async () => {
    const bytes = stun({ attributes: [{ type: 0x8001, value: Buffer.alloc(4) }] });
    bytes.writeUInt16BE(40, 22);
    await silent(bytes);
  });
});

describe('other STUN messages on the SIP port', () => {
  it('an indication gets no answer [ST-5389-04]', () => silent(stun({ type: 0x0011 })));

  it('a response to a request we never sent is ignored [ST-5389-04]', async () => {
    await silent(stun({ type: 0x0101, attributes: [{ type: 0x0020, value: Buffer.alloc(8, 1) }] }));
    await silent(stun({ type: 0x0111 }));
  });

  it('an Allocate request gets no success response [ST-8-02]', async () => {
    client.send(stun({ type: 0x0003 }));
    const probe = stun();
    client.send(probe);
    let answer = asked((await client.only(isStun)).bytes);
    if (!answer.id.equals(probe.subarray(8, 20))) {
      expect(answer.type).not.toBe(0x0103);
      answer = asked((await client.only(isStun)).bytes);
    }
    expect(answer.type).toBe(0x0101);
  });

  it('octets that look like SigComp are dropped [ST-8.1-01]', async () => {
    for (let first = 0xf8; first <= 0xff; first++)
      await silent(Buffer.concat([Buffer.from([first]), Buffer.alloc(40, 0x55)]));
  });

  it('a CRLF pair over UDP is not answered', () => silent(Buffer.from('\r\n\r\n')));
});
