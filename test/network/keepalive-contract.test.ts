/**
 * When a keep-alive is answered: one list of cases for every kind of ping on every transport. A ping is answered by one
 * pong, at once, on the same flow, and by nothing else, wherever it stands between messages. What a ping is on each
 * transport is in keepalives.ts; how long a flow lives by them in keepalive-terms.test.ts.
 *
 * The rest of STUN is in test/rfc5626/edge-stun.test.ts; octets that look like pings inside messages in
 * test/rfc5626/edge-keepalive.test.ts; of RFC 6455 in test/ws/frames.test.ts.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Agent, TcpAgent, type TcpCore } from '../harness/agent.ts';
import { composeRegister, registerFlow, sendDown } from '../harness/flows.ts';
import { type Arrival, isCrlf, isRequest, isResponse, isStun } from '../harness/inbox.ts';
import { unique } from '../harness/sip.ts';
import { type StunOptions, stun } from '../harness/stun.ts';
import { frame, PING, WsAgent } from '../harness/websocket.ts';
import {
  CRLF_PING,
  isStream,
  isWeb,
  kindsOf,
  nothing,
  onWire,
  startWiredEdgeOverTcp,
  WIRES,
  type WiredEdge,
  write,
  writePieces,
} from './keepalives.ts';

let edge: WiredEdge<TcpCore>;

// one shard: a ring between two may be full for a moment, and then a large message is refused
beforeAll(async () => {
  edge = await startWiredEdgeOverTcp();
});
afterAll(() => edge?.close());

function options(client: Agent): { bytes: Buffer; callId: string } {
  const callId = unique('call-');
  return { callId, bytes: client.compose('OPTIONS', 'sip:example.test', { callId }) };
}

const atCore = (callId: string): Promise<Arrival> => edge.core.next(isRequest(undefined, callId));

/** Of octets in a row, every way to cut them in two, and all of them alone. */
function cuts(octets: Buffer): Buffer[][] {
  const inTwo = Array.from({ length: octets.length - 1 }, (_, i) => [
    octets.subarray(0, i + 1),
    octets.subarray(i + 1),
  ]);
  return [...inTwo, Array.from(octets, (octet) => Buffer.of(octet))];
}

const ROWS = WIRES.flatMap((wire) => kindsOf(wire).map((kind) => ({ wire, kind })));

for (const { wire, kind } of ROWS) {
  const { ids, unanswered } = kind;
  /** These rows are about CRLF CRLF on a connection. */
  const and = (more: string) => (ids.includes('EP-5.4-02') ? `${ids} ${more}` : ids);
  const open = () => edge.open(wire);
  /** In one segment where that can be, else one by one. */
  const send = (client: Agent, units: Buffer[]) => {
    for (const unit of isStream(wire) ? [Buffer.concat(units)] : units) write(client, unit);
  };

  describe(`${wire.title}: ${kind.name}`, () => {
    it(`alone is answered by one pong, before any message and after, and goes no further [${ids}]`, async () => {
      const client = await open();
      for (const first of [true, false]) {
        const ping = kind.make(client);
        write(client, ping.octets);
        await ping.pong();
        await nothing(client);
        if (first) await registerFlow(client, edge.core);
      }
      expect(edge.core.arrivals).toEqual([]);
    });

    it(`in front of a message is answered before the message is, and so is that [${and('EP-5.4-03')}]`, async () => {
      const client = await open();
      const { bytes, callId } = options(client);
      const ping = kind.make(client);
      send(client, [ping.octets, onWire(client, bytes)]);
      const got = await atCore(callId);
      await ping.pong();
      edge.core.reply(got, 200, 'OK');
      await client.next(isResponse(200, callId));
      await nothing(client);
    });

    it(`between two messages is answered, and so are they [${and(isWeb(wire) ? 'EP-5.4-03' : 'EP-5.4-03 3261-18.3-01')}]`, async () => {
      const client = await open();
      const messages = [composeRegister(client), composeRegister(client)];
      const [first, second] = messages.map(({ bytes }) => onWire(client, bytes));
      const ping = kind.make(client);
      send(client, [first, ping.octets, second]);
      const requests = [];
      for (const { callId } of messages) requests.push(await atCore(callId));
      await ping.pong();
      for (const got of requests) edge.core.reply(got, 200, 'OK');
      for (const { callId } of messages) await client.next(isResponse(200, callId));
      await nothing(client);
    });

    it(`ten times in a row has ten pongs [${and('EP-5.4-04')}]`, async () => {
      const client = await open();
      const ten = Array.from({ length: 10 }, () => kind.make(client));
      send(
        client,
        ten.map(({ octets }) => octets),
      );
      for (const ping of ten) await ping.pong();
      await nothing(client);
    });

    it(`while large messages are being written is answered, inside none of them [${and('EP-5.4-05')}]`, async () => {
      const client = await open();
      const flow = await registerFlow(client, edge.core);
      const socket = client instanceof TcpAgent || client instanceof WsAgent ? client.socket : undefined;
      socket?.pause();
      const body = 'x'.repeat(50_000);
      const calls: string[] = [];
      // more than the kernel takes for a client that does not read: some wait in the server
      for (let i = 0; i < (socket ? 40 : 10); i++) {
        calls.push(sendDown(edge.core, flow, 'MESSAGE', { body }));
        await edge.core.probe(); // what was sent before it has been read
      }
      const ping = kind.make(client);
      write(client, ping.octets);
      await edge.hasRead();
      socket?.resume();
      for (const callId of calls) {
        const got = await client.next(isRequest('MESSAGE', callId));
        expect(got.message.body.length).toBe(body.length);
        client.reply(got, 200, 'OK');
        await edge.core.next(isResponse(200, callId));
      }
      await ping.pong();
      await nothing(client);
    });

    it(unanswered.title, async () => {
      const client = await open();
      // on a stream the next ping would make three CRLFs of it: a message ends the pair
      const { bytes, callId } = options(client);
      write(client, unanswered.octets);
      write(client, onWire(client, bytes));
      edge.core.reply(await atCore(callId), 200, 'OK');
      await client.only(isResponse(200, callId));
      await nothing(client);
    });

    if (!isStream(wire)) return;

    it(`is one ping wherever the network cuts it [${and('EP-5.4-03')}]`, async () => {
      const length = kind.make(await open()).octets.length;
      await Promise.all(
        Array.from({ length }, async (_, i) => {
          const client = await open();
          const ping = kind.make(client);
          await writePieces(client, cuts(ping.octets)[i]);
          await ping.pong();
          await nothing(client);
        }),
      );
    });

    it(`is one ping and the message behind it one message wherever the network cuts both [${and('EP-5.4-03')}]`, async () => {
      const client = await open();
      const { length } = kind.make(client).octets;
      for (let at = 1; at < length + 4; at++) {
        const { bytes, callId } = options(client);
        const ping = kind.make(client);
        const both = Buffer.concat([ping.octets, onWire(client, bytes)]);
        await writePieces(client, [both.subarray(0, at), both.subarray(at)]);
        edge.core.reply(await atCore(callId), 200, 'OK');
        await ping.pong();
        await client.next(isResponse(200, callId));
      }
      await nothing(client);
    });
  });
}

for (const wire of WIRES.filter(isWeb))
  describe(`${wire.title}: where the rule is another one than on TCP`, () => {
    const open = async () => (await edge.open(wire)) as WsAgent;

    it('CRLF CRLF in fragments is one ping', async () => {
      const client = await open();
      for (let at = 0; at <= 4; at++) {
        write(client, frame(CRLF_PING.subarray(0, at), { fin: false }));
        write(client, frame(CRLF_PING.subarray(at), { opcode: 0 }));
        await client.next(isCrlf);
      }
      await nothing(client);
    });

    it('two pings in one WebSocket message are none, and one in front of a SIP message is passed over', async () => {
      const client = await open();
      write(client, frame(Buffer.concat([CRLF_PING, CRLF_PING])));
      const { bytes, callId } = options(client);
      write(client, frame(Buffer.concat([CRLF_PING, bytes])));
      edge.core.reply(await atCore(callId), 200, 'OK');
      await client.only(isResponse(200, callId));
      await nothing(client);
    });

    it('a Ping frame inside a message is answered before the message is whole [7118-6-01]', async () => {
      const client = await open();
      const { bytes, callId } = options(client);
      write(client, frame(bytes.subarray(0, 40), { fin: false }));
      client.sendFrame(Buffer.from('inside'), { opcode: PING });
      expect((await client.nextControl()).payload.toString()).toBe('inside');
      write(client, frame(bytes.subarray(40), { opcode: 0 }));
      edge.core.reply(await atCore(callId), 200, 'OK');
      await client.next(isResponse(200, callId));
    });

    it.each([
      ['in a binary message', () => frame(stun(), { opcode: 2 })],
      ['in no frame', () => stun()],
    ])('a STUN request %s ends the connection with 1002, without an answer', async (_, octets) => {
      const client = await open();
      write(client, Buffer.concat([frame(CRLF_PING), octets()]));
      await client.next(isCrlf);
      expect(await client.closed).toBe(1002);
      expect(client.arrivals).toEqual([]);
    });
  });

for (const wire of WIRES.filter((each) => isStream(each) && !isWeb(each)))
  describe(`${wire.title}: a STUN request`, () => {
    it.each(['', '\r\n\r\n'])(
      'behind %j is junk: the connection ends without an answer to it',
      async (before) => {
        const client = (await edge.open(wire)) as TcpAgent;
        client.send(Buffer.concat([Buffer.from(before), stun()]));
        await client.closed;
        expect(Buffer.concat(client.octets).toString()).toBe(before.slice(2));
      },
    );
  });

const username = { type: 0x0006, value: Buffer.from('user') };
const optional = { type: 0x8fff, value: Buffer.from('abcde') };
const required = { type: 0x7001, value: Buffer.from('dead') };
const SUCCESS = 0x0101;
const ERROR = 0x0111;

for (const wire of WIRES.filter((each) => !isStream(each)))
  describe(`${wire.title}: a STUN request`, () => {
    it.each<[string, StunOptions, number]>([
      ['without attributes is answered [ST-8-03]', {}, SUCCESS],
      [
        'with an attribute that may be passed over is answered [ST-5389-05]',
        { attributes: [optional] },
        SUCCESS,
      ],
      ['with a USERNAME is answered [ST-5389-16]', { attributes: [username] }, SUCCESS],
      ['with a right FINGERPRINT is answered [ST-5389-13]', { fingerprint: 'right' }, SUCCESS],
      ['with an attribute that is not known is refused [ST-5389-06]', { attributes: [required] }, ERROR],
      ['with a wrong FINGERPRINT is dropped [ST-5389-13]', { fingerprint: 'wrong' }, 0],
      ['without the magic cookie is dropped [ST-8-13]', { cookie: 0x01020304 }, 0],
      ['with a wrong length is dropped [ST-5389-02]', { length: 8 }, 0],
      ['that is an indication has no answer [ST-5389-04]', { type: 0x0011 }, 0],
    ])('%s', async (_, asked, answered) => {
      const client = await edge.open(wire);
      const ask = stun(asked);
      client.send(ask);
      if (answered > 0) {
        const { stun: answer } = await client.only(isStun);
        expect(answer?.type).toBe(answered);
        expect(answer?.id).toEqual(ask.subarray(8, 20));
      }
      await nothing(client);
    });
  });
