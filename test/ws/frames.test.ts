/** SIP messages and keep-alives in frames: RFC 7118 sections 4.2, 5 and 6, and what breaks RFC 6455. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TcpCore } from '../harness/agent.ts';
import { composeRegister, registerFlow, sendDown } from '../harness/flows.ts';
import { isCrlf, isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { OMIT, unique } from '../harness/sip.ts';
import {
  BINARY,
  CLOSE,
  type FrameOptions,
  frame,
  PING,
  PONG,
  TEXT,
  type WsAgent,
} from '../harness/websocket.ts';
import {
  ACCEPTED,
  SCHEMES,
  startWebEdge,
  startWebEdgeOverTcp,
  takesSignals,
  upgrade,
  type WebEdge,
} from './rig.ts';

const CRLF_PING = Buffer.from('\r\n\r\n');

/** Fragments of these lengths, the last one the rest; control frames may stand between. */
function fragments(
  octets: Buffer,
  lengths: number[],
  opcode = TEXT,
  between: Buffer = Buffer.alloc(0),
): Buffer {
  const parts: Buffer[] = [];
  let at = 0;
  for (const [i, length] of lengths.entries()) {
    parts.push(
      frame(octets.subarray(at, at + length), { opcode: i === 0 ? opcode : 0, fin: false }),
      between,
    );
    at += length;
  }
  return Buffer.concat([...parts, frame(octets.subarray(at), { opcode: 0 })]);
}

/** An OPTIONS that the core answers: what came in got through whole, and framing is still in step. */
function options(
  client: WsAgent,
  body: string | Buffer = '',
  lines: [string, string][] = [],
): [Buffer, string] {
  const callId = unique('call-');
  return [client.compose('OPTIONS', 'sip:example.test', { callId, body, headers: lines }), callId];
}

describe.each(SCHEMES)('%s: messages', (scheme) => {
  let web: WebEdge;
  beforeAll(async () => {
    web = await startWebEdge(scheme);
  });
  afterAll(() => web?.close());

  const answered = async (client: WsAgent, callId: string) => {
    const got = await web.edge.core.next(isRequest(undefined, callId));
    web.edge.core.reply(got, 200, 'OK');
    await client.next(isResponse(200, callId));
    return got.message;
  };

  it('come in text, in binary and in fragments, pings between them or not [7118-4.2-01 7118-5-02]', async () => {
    const client = await web.client();
    const ways: ((bytes: Buffer) => Buffer)[] = [
      (bytes) => frame(bytes, { opcode: TEXT }),
      (bytes) => frame(bytes, { opcode: BINARY }),
      (bytes) => fragments(bytes, [20, 300]),
      (bytes) => fragments(bytes, [0, 1, 0], BINARY),
      (bytes) => fragments(bytes, [100, 1, 1], TEXT, frame(Buffer.from('p'), { opcode: PING })),
    ];
    for (const way of ways) {
      const { bytes, callId } = composeRegister(client);
      client.sendRaw(way(bytes));
      await answered(client, callId);
    }
    // the three pings of the last one
    for (let i = 0; i < 3; i++)
      expect(await client.nextControl()).toEqual({ opcode: PONG, payload: Buffer.from('p') });
  });

  it('come whole however the network splits and glues them', async () => {
    const client = await web.client();
    const [first, firstId] = options(client, 'x'.repeat(200));
    for (const octet of fragments(first, [10, 0])) {
      client.sendRaw(Buffer.from([octet]));
      await new Promise((r) => setImmediate(r));
    }
    expect((await answered(client, firstId)).body.length).toBe(200);
    const glued = [1, 2, 3].map(() => options(client));
    client.sendRaw(Buffer.concat(glued.flatMap(([bytes]) => [frame(bytes), frame(CRLF_PING)])));
    for (const [, callId] of glued) await answered(client, callId);
    for (let i = 0; i < 3; i++) await client.next(isCrlf);
  });

  it('of 200 KiB come and go whole', async () => {
    const client = await web.client();
    const large = 'ü'.repeat(100 * 1024);
    client.sendRaw(
      frame(client.compose('OPTIONS', 'sip:example.test;x', { callId: unique('big-'), body: large })),
    );
    await client.probe(); // too large for the core's UDP; what is left of the stream is in step
    const [bytes, callId] = options(client, 'y'.repeat(50_000));
    client.send(bytes);
    expect((await answered(client, callId)).body.length).toBe(50_000);
  });

  it('need no Content-Length; a wrong one is treated as in a datagram [7118-5-03]', async () => {
    const client = await web.client();
    const [without, id] = options(client, 'body', [['Content-Length', OMIT]]);
    client.send(without);
    expect((await answered(client, id)).body.toString()).toBe('body');
    const [short, shortId] = options(client, 'body and more', [['Content-Length', '4']]);
    client.send(short);
    expect((await answered(client, shortId)).body.toString()).toBe('body');
    const [long, longId] = options(client, 'body', [['Content-Length', '5']]);
    client.send(long);
    expect((await client.next(isFinal(longId))).message.status).toBe(400);
  });

  it('are one a WebSocket message: a second one behind the first is not processed [7118-5-02]', async () => {
    const client = await web.client();
    const [first, firstId] = options(client);
    const [second, secondId] = options(client);
    client.send(Buffer.concat([first, second]));
    const got = await answered(client, firstId);
    expect(got.body.length).toBe(0);
    await client.expectNothing(50);
    expect(web.edge.core.arrivals.some(isRequest('OPTIONS', secondId))).toBe(false);
  });

  it('go out as text where they are UTF-8, else as binary, never masked [7118-4.2-02]', async () => {
    const client = await web.client();
    const flow = await registerFlow(client, web.edge.core);
    for (const [body, opcode] of [
      ['plain', TEXT],
      ['grün', TEXT],
      ['', TEXT],
    ] as const) {
      const callId = sendDown(web.edge.core, flow, 'MESSAGE', { body });
      const got = await client.next(isRequest('MESSAGE', callId));
      expect(got.opcode).toBe(opcode);
      expect(got.message.body.toString()).toBe(body);
    }
    const callId = unique('down-');
    const bytes = web.edge.core.compose('MESSAGE', flow.contactUri, {
      callId,
      route: [flow.path],
      body: Buffer.from([0x61, 0xff, 0x62]),
    });
    web.edge.core.send(bytes, flow.edge);
    const got = await client.next(isRequest('MESSAGE', callId));
    expect(got.opcode).toBe(BINARY);
    expect(got.message.body).toEqual(Buffer.from([0x61, 0xff, 0x62]));
  });

  it('are not sent again, since the transport is reliable [7118-5-01]', async () => {
    const client = await web.client();
    const flow = await registerFlow(client, web.edge.core);
    const callId = sendDown(web.edge.core, flow, 'MESSAGE');
    await client.next(isRequest('MESSAGE', callId));
    await client.expectNothing(1_200); // T1 is 500 ms
  });
});

describe.each(SCHEMES)('%s: keep-alives', (scheme) => {
  let web: WebEdge;
  beforeAll(async () => {
    web = await startWebEdge(scheme);
  });
  afterAll(() => web?.close());

  it('by CRLF CRLF are answered by CRLF in a frame of the same kind, alone [7118-6-02 7118-6-03 EP-5.4-02]', async () => {
    const client = await web.client();
    for (const opcode of [TEXT, BINARY]) {
      client.sendFrame(CRLF_PING, { opcode });
      const pong = await client.only(isCrlf);
      expect(pong.opcode).toBe(opcode);
      expect(pong.bytes).toEqual(Buffer.from('\r\n'));
    }
    client.sendRaw(fragments(CRLF_PING, [1, 1, 1]));
    await client.only(isCrlf);
    await client.expectNothing();
  });

  it('stand before, between and behind messages [7118-6-02 EP-5.4-03]', async () => {
    const client = await web.client();
    const first = composeRegister(client);
    const second = composeRegister(client);
    const ping = frame(CRLF_PING);
    client.sendRaw(Buffer.concat([ping, frame(first.bytes), ping, frame(second.bytes), ping]));
    for (let i = 0; i < 3; i++) await client.only(isCrlf);
    for (const { callId } of [first, second]) {
      web.edge.core.reply(await web.edge.core.next(isRequest('REGISTER', callId)), 200, 'OK');
      await client.next(isResponse(200, callId));
    }
  });

  it('by Ping frames are answered with what they hold, as often as they come [7118-6-01]', async () => {
    const client = await web.client();
    for (const payload of [Buffer.alloc(0), Buffer.from('abcd'), Buffer.alloc(125, 0xfe)]) {
      client.sendFrame(payload, { opcode: PING });
      expect(await client.nextControl()).toEqual({ opcode: PONG, payload });
    }
    const flood = Array.from({ length: 2_000 }, (_, i) => frame(Buffer.from(`${i}`), { opcode: PING }));
    client.sendRaw(Buffer.concat(flood));
    for (let i = 0; i < 2_000; i++) expect((await client.nextControl()).payload.toString()).toBe(`${i}`);
  });

  it('are no messages: neither a lone CRLF, nor nothing, nor a Pong has an answer', async () => {
    const client = await web.client();
    for (const payload of ['\r\n', '', '\r\n\r\n\r\n']) client.sendFrame(Buffer.from(payload));
    client.sendFrame(Buffer.from('x'), { opcode: PONG });
    await client.expectNothing();
    expect(client.control).toEqual([]);
    const { bytes, callId } = composeRegister(client);
    client.send(Buffer.concat([Buffer.from('\r\n'), bytes])); // 3261 7.5: before a start line they are nothing
    await web.edge.core.next(isRequest('REGISTER', callId));
  });
});

describe.each(SCHEMES)('%s: a flood', (scheme) => {
  let web: WebEdge;
  beforeAll(async () => {
    web = await startWebEdge(scheme);
  });
  afterAll(() => web?.close());

  it('of ten thousand empty fragments is one message in the end', async () => {
    const client = await web.client();
    const [bytes, callId] = options(client);
    const empty = frame(Buffer.alloc(0), { opcode: 0, fin: false });
    client.sendRaw(frame(bytes.subarray(0, 50), { fin: false }));
    for (let i = 0; i < 100; i++) client.sendRaw(Buffer.concat(Array.from({ length: 100 }, () => empty)));
    client.sendRaw(frame(bytes.subarray(50), { opcode: 0 }));
    await web.edge.core.next(isRequest('OPTIONS', callId));
  });

  it('from one client keeps no other from being answered', async () => {
    const client = await web.client();
    const other = await web.client();
    const empty = frame(Buffer.alloc(0), { fin: false });
    const more = frame(Buffer.alloc(0), { opcode: 0, fin: false });
    client.sendRaw(Buffer.concat([empty, ...Array.from({ length: 50_000 }, () => more)]));
    for (let i = 0; i < 20; i++) await other.probe();
  });
});

describe.each(SCHEMES)('%s: the end', (scheme) => {
  let web: WebEdge;
  beforeAll(async () => {
    web = await startWebEdge(scheme);
  });
  afterAll(() => web?.close());

  const text = (payload: string | Buffer, options: FrameOptions = {}) => frame(Buffer.from(payload), options);
  const closing = (code: number) => frame(Buffer.from([code >> 8, code & 255]), { opcode: CLOSE });

  it.each<[number, string, () => Buffer]>([
    [1002, 'a frame without a mask [7118-6455-01]', () => text('\r\n\r\n', { mask: false })],
    [1002, 'a reserved bit', () => text('\r\n\r\n', { rsv: 4 })],
    [1002, 'an opcode that is not defined', () => text('a', { opcode: 5 })],
    [1002, 'a Ping of 126 octets [7118-6455-01]', () => text('a'.repeat(126), { opcode: PING })],
    [1002, 'a fragmented Ping [7118-6455-01]', () => text('a', { opcode: PING, fin: false })],
    [1002, 'a continuation of nothing', () => text('a', { opcode: 0 })],
    [
      1002,
      'a message that begins inside another',
      () => Buffer.concat([text('a', { fin: false }), text('b')]),
    ],
    [1002, 'what is not SIP [7118-4.1-03]', () => text('hello')],
    [1002, 'half a head', () => text('OPTIONS sip:a SIP/2.0\r\nVia: x')],
    [1007, 'text that is not UTF-8', () => text(Buffer.from('\r\n\r\n\xff', 'latin1'))],
    [1009, 'a message above 256 KiB', () => Buffer.from([0x81, 0xff, 0, 0, 0, 0, 0, 4, 0, 1, 1, 2, 3, 4])],
    [
      1009,
      'fragments above 256 KiB',
      () => fragments(Buffer.alloc(262_145, 'x'), [65_536, 65_536, 65_536, 65_536]),
    ],
    [1000, 'Close with 1000', () => closing(1000)],
    [1001, 'Close with 1001, as a page that is left', () => closing(1001)],
    [4_000, 'Close with a code of its own', () => closing(4_000)],
    [1002, 'Close with a code that may not be sent', () => closing(1006)],
  ])('has code %d after %s', async (code, _what, octets) => {
    const client = await web.client();
    client.sendRaw(octets());
    expect(await client.closed).toBe(code);
    await (await web.client()).probe();
  });

  it('repeats the code of the client, not his reason', async () => {
    const client = await web.client();
    client.sendRaw(frame(Buffer.concat([Buffer.from([3, 232]), Buffer.from('bye')]), { opcode: CLOSE }));
    expect(await client.nextControl()).toEqual({ opcode: CLOSE, payload: Buffer.from([3, 232]) });
    expect(await client.closed).toBe(1000);
  });

  it('has no code where the client gives none', async () => {
    const client = await web.client();
    client.sendFrame(Buffer.alloc(0), { opcode: CLOSE });
    expect(await client.nextControl()).toEqual({ opcode: CLOSE, payload: Buffer.alloc(0) });
    expect(await client.closed).toBe(1006);
  });

  it('comes after what was already answered, and nothing is read behind it', async () => {
    const client = await web.client();
    const [bytes, callId] = options(client);
    client.sendRaw(Buffer.concat([frame(CRLF_PING), closing(1000), frame(bytes)]));
    await client.only(isCrlf);
    expect(await client.closed).toBe(1000);
    await (await web.client()).probe();
    expect(web.edge.core.arrivals.some(isRequest('OPTIONS', callId))).toBe(false);
  });

  it('of the process is told with 1012 to every client, and to no one who is none yet', async () => {
    const passing = await startWebEdge(scheme);
    const clients = await Promise.all(Array.from({ length: 20 }, () => passing.client()));
    await registerFlow(clients[0], passing.edge.core);
    const connection = await passing.door.connection();
    connection.write(upgrade('a').slice(0, 30));
    await clients[1].probe();
    await takesSignals(passing.edge.server);
    const stopping = passing.edge.server.stop();
    expect(await Promise.all(clients.map((client) => client.closed))).toEqual(clients.map(() => 1012));
    expect(await connection.ended).toBe('');
    await stopping;
    await passing.close().catch(() => {});
  });
});

describe.each(SCHEMES)('%s: a flow with a Flow-Timer', (scheme) => {
  let web: WebEdge;
  beforeAll(async () => {
    web = await startWebEdge(scheme, { clocked: true, settings: { WORKERS: '1' } });
  });
  afterAll(() => web?.close());

  it('lives on any octet, of a Pong too, and is closed with 1000 when it has been silent [EP-5.4-08 EP-5.4-09]', async () => {
    const client = await web.client();
    await registerFlow(client, web.edge.core);
    const other = await web.client();
    const neighbour = await web.edge.client();
    /** What was just written is out for the one shard too: what is in flight for 30 s has a peer who is gone. */
    const pass = async (ms: number) => {
      await neighbour.probe();
      await web.edge.server.advance(ms);
    };
    for (let i = 0; i < 4; i++) {
      await pass(100_000);
      client.sendFrame(Buffer.alloc(0), { opcode: PONG });
      await client.probe();
    }
    await pass(139_000);
    client.sendFrame(Buffer.from('x'), { opcode: PING });
    await client.nextControl();
    await pass(145_000);
    expect(await client.closed).toBe(1000);
    // who never registered has been closed for that, long before
    expect(await other.closed).toBe(1008);
  });
});

describe.each(SCHEMES)('%s: towards a core over TCP', (scheme) => {
  let web: WebEdge<TcpCore>;
  beforeAll(async () => {
    web = await startWebEdgeOverTcp(scheme);
  });
  afterAll(() => web?.close());

  it('Content-Length is added where a message has none [7118-5-03]', async () => {
    const client = await web.client();
    const [bytes, callId] = options(client, 'body', [['Content-Length', OMIT]]);
    client.send(bytes);
    const got = await web.edge.core.next(isRequest('OPTIONS', callId));
    expect(got.message.header('Content-Length')).toBe('4');
    expect(got.message.body.toString()).toBe('body');
  });

  it('messages of 200 KiB go both ways, and keep-alives are answered meanwhile [7118-6-02]', async () => {
    const client = await web.client();
    const flow = await registerFlow(client, web.edge.core);
    const large = 'ü'.repeat(100 * 1024);
    const [up, upId] = options(client, large);
    client.send(up);
    const got = await web.edge.core.next(isRequest('OPTIONS', upId));
    expect(got.message.body.toString()).toBe(large);
    // one at a time: two do not fit in the write queue of a client that is slow for a moment
    for (let i = 0; i < 3; i++) {
      const callId = sendDown(web.edge.core, flow, 'MESSAGE', { body: large });
      client.sendFrame(CRLF_PING);
      client.sendFrame(Buffer.from('p'), { opcode: PING });
      await client.next(isCrlf);
      expect((await client.nextControl()).payload.toString()).toBe('p');
      expect((await client.next(isRequest('MESSAGE', callId))).message.body.toString()).toBe(large);
    }
  });

  it('a client that does not read is closed, and does not hold up others', async () => {
    const connection = await web.door.connection();
    const client = await web.client();
    connection.write(upgrade('a'));
    await connection.has(ACCEPTED.length);
    connection.socket.pause();
    const ping = frame(Buffer.alloc(125, 'x'), { opcode: PING });
    const many = Buffer.concat(Array.from({ length: 1_000 }, () => ping));
    let ended = false;
    void connection.ended.then(() => {
      ended = true;
    });
    // until its window, the kernel's buffers and the write queue are full
    while (!ended) if (!connection.write(many)) await client.probe();
    await client.probe();
  });
});
