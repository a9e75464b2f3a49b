/** The user agent's flows over WebSocket as an edge sees them, and edges that do it wrong. RFC 7118, RFC 6455. */
import { readFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Endpoint } from '../../src/net/endpoint.ts';
import type { Locate } from '../../src/ua/locating.ts';
import type { UserAgentOptions } from '../../src/ua/options.ts';
import { dialWebSocket } from '../../src/ua/websocket.ts';
import { WS } from '../../src/wire/via.ts';
import { TcpCore } from '../harness/agent.ts';
import { Authority } from '../harness/certificates.ts';
import { isRequest } from '../harness/inbox.ts';
import { accept, answering, Desk, grant, type Phone, registered } from '../harness/phone.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { compose, newBranch, parseNameAddr } from '../harness/sip.ts';
import { BINARY, CLOSE, frame, PING, PONG, TEXT } from '../harness/websocket.ts';
import { accepting, WsEdge, type WsEdgeOptions } from '../harness/websocket-edge.ts';

const desk = new Desk();
afterEach(() => desk.close());

/** Registered over one WebSocket. */
async function up(options: Partial<UserAgentOptions> = {}): Promise<{ edge: WsEdge; phone: Phone }> {
  const edge = await desk.ws();
  const phone = desk.phone([edge], options);
  await registered(phone, edge);
  return { edge, phone };
}

/** Its HTTP request has come. */
async function asked(edge: WsEdge): Promise<void> {
  while (edge.connections.length === 0 || edge.newest.request === '') await setImmediate();
}

/** The next keep-alive that is answered, from now on. */
const proven = (phone: Phone): Promise<void> =>
  new Promise((resolve) => {
    phone.agent.on('keepAlive', ({ state }) => {
      if (state === 'answered') resolve();
    });
  });

const octetsOf = (text: string) => Buffer.from(text, 'latin1');

/** A request of the edge, without Content-Length. */
function knock(body: Buffer | string = '', callId = 'knock'): Buffer {
  const head = compose('OPTIONS sip:dora@example.test SIP/2.0', [
    ['Via', `SIP/2.0/WS edge.test;branch=${newBranch()}`],
    ['Max-Forwards', '70'],
    ['From', '<sip:a@example.test>;tag=1'],
    ['To', '<sip:dora@example.test>'],
    ['Call-ID', callId],
    ['CSeq', '1 OPTIONS'],
  ]);
  return Buffer.concat([
    octetsOf(head.toString('latin1').replace(/Content-Length: 0\r\n/, '')),
    Buffer.from(body),
  ]);
}

describe('the way in', () => {
  it('is the request of RFC 6455 with the one protocol sip, and a key from the source of octets [7118-4.1-01]', async () => {
    const key = octetsOf('the sample nonce');
    const octets = (count: number) => (count === key.length ? key : Buffer.alloc(count, 7));
    const edge = await desk.ws();
    await registered(desk.phone([edge], { dials: { [WS]: dialWebSocket(false, { octets }) } }), edge);
    const [first, ...lines] = edge.newest.request.split('\r\n');
    expect(first).toBe('GET / HTTP/1.1');
    expect(lines.filter((line) => line !== '').sort()).toEqual([
      'Connection: Upgrade',
      `Host: ${edge.hostPort}`,
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
      'Sec-WebSocket-Protocol: sip',
      'Sec-WebSocket-Version: 13',
      'Upgrade: websocket',
    ]);
  });

  it('has another key each time, and the path that is set', async () => {
    const edges = [await desk.ws(), await desk.ws()];
    const phone = desk.phone(edges, { webSocketPath: '/sip?line=2' });
    phone.start();
    await Promise.all(edges.map((edge) => accept(edge)));
    const requests = edges.map((edge) => edge.newest.request);
    const keys = requests.map((request) => /^Sec-WebSocket-Key: (.*)$/m.exec(request)?.[1] as string);
    expect(keys.map((key) => Buffer.from(key, 'base64').length)).toEqual([16, 16]);
    expect(keys[0]).not.toBe(keys[1]);
    for (const request of requests) expect(request).toMatch(/^GET \/sip\?line=2 HTTP\/1\.1\r\n/);
  });

  it('says what else it is told to: a cookie, credentials, an Origin', async () => {
    const edge = await desk.ws();
    const webSocketHeaders = { Cookie: 'session=tin; b="c"', Authorization: 'Basic ZG9yYTp0aW4=' };
    await registered(desk.phone([edge], { webSocketHeaders }), edge);
    const lines = edge.newest.request.split('\r\n').slice(1, -2);
    expect(lines.slice(-2)).toEqual(['Cookie: session=tin; b="c"', 'Authorization: Basic ZG9yYTp0aW4=']);
    expect(new Set(lines.map((line) => line.split(':')[0])).size).toBe(lines.length);
  });

  it.each([
    ['Cookie', 'a\r\nX: y'],
    ['Coo kie', 'zither'],
    ['', 'zither'],
    ['Host:elsewhere.test', 'zither'],
    ['Host', 'elsewhere.test'],
    ['sec-websocket-protocol', 'chat'],
    ['Transfer-Encoding', 'chunked'],
  ])('header %j with %j is refused, and its value not told', (name, value) => {
    const make = () => desk.phone(['sip:127.0.0.1;transport=ws'], { webSocketHeaders: { [name]: value } });
    expect(make).toThrow(
      expect.objectContaining({ code: 'option', message: expect.not.stringContaining(value) }),
    );
  });

  it.each(['sip', '/a b', '/a\r\nX: y', ''])('path %j is refused', (webSocketPath) => {
    expect(() => desk.phone(['sip:127.0.0.1;transport=ws'], { webSocketPath })).toThrow(
      expect.objectContaining({ code: 'option', message: expect.stringContaining('webSocketPath') }),
    );
  });
});

describe('a server that is no WebSocket for SIP', () => {
  const changed = (changes: Record<string, string | undefined>) => (request: string) =>
    accepting(request, changes);
  it.each<[string, (request: string) => string]>([
    ['a proof of another key', changed({ 'Sec-WebSocket-Accept': 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=' })],
    ['no proof', changed({ 'Sec-WebSocket-Accept': undefined })],
    ['no sub-protocol', changed({ 'Sec-WebSocket-Protocol': undefined })],
    ['another sub-protocol', changed({ 'Sec-WebSocket-Protocol': 'chat' })],
    ['two of them', changed({ 'Sec-WebSocket-Protocol': 'sip, chat' })],
    ['an upgrade to something else', changed({ Upgrade: 'h2c' })],
    ['no Connection', changed({ Connection: 'keep-alive' })],
    ['an extension that nobody offered', changed({ 'Sec-WebSocket-Extensions': 'permessage-deflate' })],
    ['403', () => 'HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n'],
    ['407', () => 'HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n'],
    ['a redirect', () => 'HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\n\r\n'],
    ['200 with all the headers of a 101', (r) => accepting(r).replace('101 Switching Protocols', '200 OK')],
    ['HTTP/1.0', (request) => accepting(request).replace('HTTP/1.1', 'HTTP/1.0')],
    ['a folded header', (r) => accepting(r).replace('Upgrade: websocket', 'Upgrade:\r\n websocket')],
    ['a head without end', () => `HTTP/1.1 101 Switching Protocols\r\nX: ${'y'.repeat(9000)}`],
    ['SIP', () => 'SIP/2.0 400 Bad Request\r\n\r\n'],
  ])('%s: the attempt has failed, nothing of SIP was sent', async (_what, answer) => {
    const edge = await desk.ws({ answer });
    const phone = desk.phone([edge]);
    phone.start();
    expect(await phone.event('failed')).toMatchObject({ cause: 'no-websocket', retryIn: 30_000 });
    expect(edge.arrivals).toEqual([]);
  });

  it('silence is waited for 32 s', async () => {
    const edge = await desk.ws({ answer: () => undefined });
    const phone = desk.phone([edge]);
    phone.start();
    await asked(edge);
    await phone.advance(31.9);
    expect(phone.events).toEqual([]);
    await phone.advance(0.2);
    expect(await phone.event('failed')).toMatchObject({ cause: 'connect-timeout' });
    await Promise.all(edge.connections.map(({ closed }) => closed));
  });

  it('one that hangs up in the middle of its answer is closed', async () => {
    const edge = await desk.ws({ answer: () => undefined });
    const phone = desk.phone([edge]);
    phone.start();
    await asked(edge);
    edge.newest.socket.end(accepting(edge.newest.request).slice(0, 60));
    expect(await phone.event('failed')).toMatchObject({ cause: 'closed' });
  });

  it('a later 101 is taken: the attempt after the wait', async () => {
    const edge = await desk.ws({ answer: () => 'HTTP/1.1 503 Service Unavailable\r\n\r\n' });
    const phone = desk.phone([edge]);
    phone.start();
    await phone.event('failed');
    edge.answer = accepting;
    await phone.advance(30.02);
    await accept(edge);
    await phone.event('registered');
  });
});

describe('what it sends', () => {
  it('is SIP with a name under .invalid in Via and Contact, another one for each connection [7118-5.1-01]', async () => {
    const edge = await desk.ws();
    const phone = desk.phone([edge]);
    const first = await registered(phone, edge);
    const hosts: string[] = [];
    const look = ({ message }: typeof first) => {
      expect(message.header('Via')).toMatch(/^SIP\/2\.0\/WS [0-9a-f]{12}\.invalid;branch=z9hG4bK/);
      const [, host] = /WS ([^;]+);/.exec(message.header('Via') ?? '') ?? [];
      const contact = parseNameAddr(message.header('Contact') ?? '');
      expect(contact.uri).toBe(`sip:dora@${host};transport=ws`);
      expect(message.header('Route')).toBe(`<sip:${edge.hostPort};transport=ws;lr>`);
      hosts.push(host);
    };
    look(first);
    edge.newest.socket.resetAndDestroy();
    await phone.event('lost');
    await phone.advance(60.1);
    look(await accept(edge));
    expect(hosts[0]).not.toBe(hosts[1]);
  });

  it('is one message a frame, masked by a key that is another each time, as text', async () => {
    const { edge, phone } = await up();
    const answer = phone.agent.request('MESSAGE', 'sip:bob@example.test', { body: 'grüße' });
    const got = await edge.next(isRequest('MESSAGE'));
    expect(got.message.body.toString()).toBe('grüße');
    edge.reply(got, 200, 'OK');
    await answer;
    const { frames } = edge.newest;
    expect(frames).toHaveLength(2);
    for (const { masked, fin, opcode } of frames) expect([masked, fin, opcode]).toEqual([true, true, TEXT]);
    expect(frames[0].key).not.toEqual(frames[1].key);
  });

  it('is binary where it is not UTF-8 [7118-4.2-02]', async () => {
    const { edge, phone } = await up();
    const body = Buffer.from([0x61, 0xff, 0x62]);
    const answer = phone.agent.request('MESSAGE', 'sip:bob@example.test', { body });
    const got = await edge.next(isRequest('MESSAGE'));
    expect([got.opcode, got.message.body]).toEqual([BINARY, body]);
    edge.reply(got, 200, 'OK');
    await answer;
  });

  it('is sent once: no retransmission of a request [7118-5-01]', async () => {
    const { edge, phone } = await up();
    const answer = phone.agent.request('OPTIONS', 'sip:bob@example.test');
    const got = await edge.next(isRequest('OPTIONS'));
    await phone.advance(20);
    expect(edge.arrivals.filter(isRequest())).toEqual([]);
    edge.reply(got, 200, 'OK');
    await answer;
  });

  it.each([200, 70_000])('of %i octets too', async (length) => {
    const { edge, phone } = await up();
    const body = 'x'.repeat(length);
    const answer = phone.agent.request('MESSAGE', 'sip:bob@example.test', { body });
    const got = await edge.next(isRequest('MESSAGE'));
    expect(got.message.body.toString()).toBe(body);
    edge.reply(got, 200, 'OK');
    expect((await answer).status).toBe(200);
  });
});

describe('what it takes', () => {
  it('text, binary, fragments with a Ping between them, octet by octet; Content-Length may lack [7118-4.2-01 7118-5-03 7118-6-01]', async () => {
    const { edge, phone } = await up();
    const requests = phone.agent.requests();
    const take = async (body: string) => {
      const { value } = await requests.next();
      expect(value?.text).toBe(body);
      value?.respond(200);
      await edge.next((a) => a.message.status === 200);
    };
    const connection = edge.newest;
    connection.send(knock('as text', '1'));
    await take('as text');
    connection.send(knock(Buffer.from([0x61, 0xc3, 0xbc]), '2'), { opcode: BINARY });
    await take('aü');
    const whole = knock('in three', '3');
    const [a, b, c] = [whole.subarray(0, 20), whole.subarray(20, 90), whole.subarray(90)];
    connection.send(a, { fin: false });
    connection.send(b, { fin: false, opcode: 0 });
    connection.send(Buffer.from('ping'), { opcode: PING });
    connection.send(c, { opcode: 0 });
    await take('in three');
    expect((await connection.frame(PONG)).payload.toString()).toBe('ping');
    for (const octet of frame(knock('cut', '4'), { mask: false })) {
      connection.sendRaw(Buffer.of(octet));
      await setImmediate();
    }
    await take('cut');
    connection.sendRaw(Buffer.concat(['5', '6'].map((id) => frame(knock(id, id), { mask: false }))));
    await take('5');
    await take('6');
    expect(phone.events).toEqual([]);
  });

  it('frames behind the 101 in one segment', async () => {
    const edge = await desk.ws({
      answer: (request) => accepting(request) + frame(knock('early'), { mask: false }).toString('latin1'),
    });
    const phone = desk.phone([edge]);
    const requests = phone.agent.requests();
    phone.start();
    const { value } = await requests.next();
    expect(value?.text).toBe('early');
  });

  it('a response whose Via has no received [7118-5.3-01]', async () => {
    const { edge, phone } = await up();
    const answer = phone.agent.request('OPTIONS', 'sip:bob@example.test');
    const got = await edge.next(isRequest('OPTIONS'));
    const bytes = edge.reply(got, 200, 'OK');
    expect(bytes.toString()).not.toContain('received');
    expect((await answer).status).toBe(200);
  });

  it.each<[string, number, (edge: WsEdge) => void]>([
    ['a masked frame', 1002, (edge) => edge.newest.send(knock(), { mask: true })],
    ['a reserved bit', 1002, (edge) => edge.newest.send(knock(), { rsv: 4 })],
    ['a continuation of nothing', 1002, (edge) => edge.newest.send(knock(), { opcode: 0 })],
    ['a fragmented Ping', 1002, (edge) => edge.newest.send(Buffer.alloc(1), { opcode: PING, fin: false })],
    ['text that is not UTF-8', 1007, (edge) => edge.newest.send(Buffer.from([0x41, 0xff]))],
    ['a message of 300 kB', 1009, (edge) => edge.newest.send(Buffer.alloc(300_000, 65))],
    [
      'more than 256 kB in fragments',
      1009,
      (edge) => {
        edge.newest.send(Buffer.alloc(200_000, 65), { fin: false });
        edge.newest.send(Buffer.alloc(200_000, 65), { fin: false, opcode: 0 });
      },
    ],
  ])('%s ends the flow with Close %i', async (_what, code, send) => {
    const { edge, phone } = await up();
    const connection = edge.newest;
    send(edge);
    expect(await phone.event('lost')).toMatchObject({ cause: 'malformed' });
    const close = await connection.frame(CLOSE);
    expect([close.payload.readUInt16BE(0), close.masked]).toEqual([code, true]);
  });

  it('words that are no SIP are dropped, the flow stays [7118-4.1-03]', async () => {
    const { edge, phone } = await up();
    edge.newest.send(Buffer.from('hello'));
    edge.newest.send(knock('', 'after'));
    await edge.next((a) => a.message.status === 200 && a.message.callId === 'after');
    expect(phone.events).toEqual([]);
  });
});

describe('its keep-alive', () => {
  it('is CRLF CRLF in one masked text frame, and CRLF in a frame of either kind answers it', async () => {
    const { edge, phone } = await up();
    const { frames } = edge.newest;
    for (const [opcode, wait] of [
      [TEXT, 95.1],
      [BINARY, 84.1],
    ]) {
      const before = frames.length;
      const heard = proven(phone);
      await phone.advance(wait);
      const got = await edge.next();
      expect([got.bytes.toString(), got.opcode]).toEqual(['\r\n\r\n', TEXT]);
      expect(frames.slice(before).map(({ masked, fin }) => [masked, fin])).toEqual([[true, true]]);
      edge.newest.send(Buffer.from('\r\n'), { opcode });
      await heard;
      await phone.advance(11);
      expect(phone.events).toEqual([]);
    }
    // the pong was one: a flow that was heard from is replaced at once
    edge.newest.socket.destroy();
    expect(await phone.event('lost')).toMatchObject({ cause: 'closed', retryIn: 0 });
  });

  it('without an answer in 10 s is the end of the flow; neither a Ping nor a message of the edge is one', async () => {
    const { edge, phone } = await up();
    const connection = edge.newest;
    await phone.advance(95.1);
    await edge.next();
    connection.send(Buffer.from('x'), { opcode: PING });
    await connection.frame(PONG);
    connection.send(Buffer.from('\r\n\r\n'));
    await phone.advance(9.8);
    expect(phone.events).toEqual([]);
    await phone.advance(0.2);
    expect(await phone.event('lost')).toMatchObject({ cause: 'no-pong' });
    const close = await connection.frame(CLOSE);
    expect(close.payload.readUInt16BE(0)).toBe(1000);
  });

  it('that is overdue is waited for while a message is coming in [UA-4.4.1-07]', async () => {
    const { edge, phone } = await up();
    await phone.advance(95.1);
    await edge.next();
    const whole = frame(knock('x'.repeat(40_000), 'long'), { mask: false });
    // the Pong says that what was written with the Ping is there
    const ping = frame(Buffer.from('x'), { mask: false, opcode: PING });
    edge.newest.sendRaw(Buffer.concat([ping, whole.subarray(0, 20_000)]));
    await edge.newest.frame(PONG);
    await phone.advance(15);
    expect(phone.events).toEqual([]);
    const heard = proven(phone);
    edge.newest.sendRaw(Buffer.concat([whole.subarray(20_000), frame(Buffer.from('\r\n'), { mask: false })]));
    await edge.next((a) => a.message.status === 200);
    await heard;
    await phone.advance(0.05);
    expect(phone.events).toEqual([]);
  });
});

describe('an edge that closes', () => {
  it.each([1000, 1002, 1012])(
    'with code %i gets it back, and the flow is made anew by the usual waits [UA-4.5-02]',
    async (code) => {
      const edge = answering(await desk.ws());
      const phone = desk.phone([edge]);
      const first = await registered(phone, edge);
      const heard = proven(phone);
      await phone.advance(95.1);
      await heard;
      const connection = edge.newest;
      connection.send(Buffer.concat([Buffer.of(code >> 8, code & 255), Buffer.from('bye')]), {
        opcode: CLOSE,
      });
      expect(await phone.event('lost')).toMatchObject({ cause: 'closed', retryIn: 0 });
      const close = await connection.frame(CLOSE);
      expect([close.payload, close.masked]).toEqual([Buffer.of(code >> 8, code & 255), true]);
      await connection.closed;
      await phone.advance(0.02);
      const second = await accept(edge);
      expect(second.message.header('Contact')).toMatch(/;reg-id=1$/);
      expect(second.message.cseq.number).toBe(first.message.cseq.number + 1);
      await phone.event('registered');
    },
  );

  it('and is gone costs 30 to 60 s; then the flow is back', async () => {
    const host = freshHost();
    const port = await freePort(host);
    const edge = answering(await desk.ws({ host, port }));
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    const heard = proven(phone);
    await phone.advance(95.1);
    await heard;
    await edge.close();
    expect(await phone.event('lost')).toMatchObject({ retryIn: 0 });
    await phone.advance(0.02);
    expect(await phone.event('failed')).toMatchObject({ cause: 'refused', retryIn: 30_000 });
    const back = await desk.ws({ host, port });
    await phone.advance(30.02);
    await accept(back);
    await phone.event('registered');
  });
});

describe('an agent that stops', () => {
  it('takes its binding away, then closes with 1000 and waits for the edge to hang up', async () => {
    const { edge, phone } = await up();
    const connection = edge.newest;
    const stopped = phone.agent.stop();
    const got = await edge.next(isRequest('REGISTER'));
    expect(got.message.header('Expires')).toBe('0');
    grant(edge, got, { expires: 0 });
    await stopped;
    const close = await connection.frame(CLOSE);
    expect(close.payload.readUInt16BE(0)).toBe(1000);
    expect(connection.frames.at(-1)).toBe(close);
    expect(connection.socket.readableEnded).toBe(false);
    connection.send(close.payload, { opcode: CLOSE });
    await connection.closed;
  });

  it('in the middle of the upgrade leaves no connection behind', async () => {
    const edge = await desk.ws({ answer: () => undefined });
    const phone = desk.phone([edge]);
    phone.start();
    await asked(edge);
    const { closed } = edge.newest;
    await phone.agent.stop();
    await closed;
  });
});

describe('over wss', () => {
  let authority: Authority;
  beforeAll(() => {
    authority = new Authority();
  });
  afterAll(() => authority.remove());

  /** An edge whose certificate has these names, at whatever a host resolves to. */
  async function secured(names: string[], options: Partial<WsEdgeOptions> = {}) {
    const { cert, key } = authority.issue(names);
    const edge = await desk.ws({ tls: { cert: readFileSync(cert), key: readFileSync(key) }, ...options });
    const address = Endpoint.parse(edge.host, edge.port) as Endpoint;
    const locate: Locate = async () => ({
      targets: [{ transport: 5, host: 'srv.elsewhere.test', address, priority: 0, weight: 0 }],
      failure: '',
      ttl: 1,
    });
    return { edge, options: { locate, tls: { ca: authority.trusted } } };
  }

  it.each(['sip:edge.example.test;transport=wss', 'sips:edge.example.test;transport=ws'])(
    'it registers with %s: WSS in Via, transport=ws in the rest [7118-5.1-01]',
    async (proxy) => {
      const { edge, options } = await secured(['DNS:edge.example.test']);
      const phone = desk.phone([proxy], options);
      const { message } = await registered(phone, edge);
      expect(message.via[0].transport).toBe('WSS');
      expect(message.header('Route')).toBe(`<${proxy.replace('wss', 'ws')};lr>`);
      expect(parseNameAddr(message.header('Contact') ?? '').uri).toMatch(/\.invalid;transport=ws$/);
      expect(edge.newest.request).toContain(`\r\nHost: edge.example.test:${edge.port}\r\n`);
    },
  );

  it('a wildcard certificate is good on wss and refused for SIP over TLS [7118-9.1-01]', async () => {
    const { edge, options } = await secured(['DNS:*.example.test']);
    await registered(desk.phone(['sip:edge.example.test;transport=wss'], options), edge);

    const { cert, key } = authority.issue(['DNS:*.example.test']);
    const tls = { cert: readFileSync(cert), key: readFileSync(key) };
    const sip = desk.keep(await TcpCore.open({ host: freshHost(), tls, name: 'TLS edge' }));
    const address = Endpoint.parse(sip.host, sip.port) as Endpoint;
    const locate: Locate = async () => ({
      targets: [{ transport: 3, host: 'edge.example.test', address, priority: 0, weight: 0 }],
      failure: '',
      ttl: 1,
    });
    const phone = desk.phone(['sip:edge.example.test;transport=tls'], { ...options, locate });
    phone.start();
    expect(await phone.event('failed')).toMatchObject({ cause: 'refused' });
    expect(sip.arrivals).toEqual([]);
  });

  it('a sip: URI in the certificate is no name of a web server', async () => {
    const { edge, options } = await secured(['URI:sip:edge.example.test']);
    const phone = desk.phone(['sip:edge.example.test;transport=wss'], options);
    phone.start();
    expect(await phone.event('failed')).toMatchObject({ cause: 'refused' });
    expect(edge.connections.filter(({ request }) => request !== '')).toEqual([]);
  });

  it.each([
    ['another name', ['DNS:other.example.test']],
    ['the name that DNS gave', ['DNS:srv.elsewhere.test']],
  ])('%s in the certificate is refused before a word of HTTP', async (_what, names) => {
    const { edge, options } = await secured(names);
    const phone = desk.phone(['sip:edge.example.test;transport=wss'], options);
    phone.start();
    expect(await phone.event('failed')).toMatchObject({ cause: 'refused' });
    expect(edge.connections.filter(({ request }) => request !== '')).toEqual([]);
  });

  it('an authority that nobody trusts is refused, whatever the options say', async () => {
    const { edge, options } = await secured(['DNS:edge.example.test']);
    const phone = desk.phone(['sip:edge.example.test;transport=wss'], {
      ...options,
      tls: { rejectUnauthorized: false, checkServerIdentity: () => undefined },
    });
    phone.start();
    expect(await phone.event('failed')).toMatchObject({ cause: 'refused' });
    expect(edge.connections.filter(({ request }) => request !== '')).toEqual([]);
  });
});

describe('over IPv6', () => {
  const six = async () => (await WsEdge.open({ host: '::1' }).catch(() => undefined)) ?? undefined;
  it('the request names the host in brackets, the rest is the same', async ({ skip }) => {
    const edge = await six();
    if (!edge) return skip();
    desk.keep(edge);
    const phone = desk.phone([`sip:[::1]:${edge.port};transport=ws`]);
    const { message } = await registered(phone, edge);
    expect(edge.newest.request).toContain(`\r\nHost: [::1]:${edge.port}\r\n`);
    expect(message.header('Via')).toMatch(/^SIP\/2\.0\/WS [0-9a-f]{12}\.invalid;branch=/);
    expect(edge.newest.socket.remoteAddress).toBe('::1');
  });
});
