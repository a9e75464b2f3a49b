/** What comes to a WebSocket port before there is a WebSocket: RFC 7118 4.1, RFC 6455 4.2. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { composeRegister, registerFlow } from '../harness/flows.ts';
import { isRequest, isResponse } from '../harness/inbox.ts';
import { frame } from '../harness/websocket.ts';
import { ACCEPTED, SCHEMES, startWebEdge, upgrade, type WebEdge } from './rig.ts';

const statusOf = (answer: string) => Number(/^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1]);
const closeFrame = (code: number) => Buffer.from([0x88, 2, code >> 8, code & 255]).toString('latin1');

it.skipIf(!SCHEMES.includes('wss'))('wss has the tests of ws: TLS listeners are built', () => {
  expect(SCHEMES).toEqual(['ws', 'wss']);
});

describe.each(SCHEMES)('%s: the way in', (scheme) => {
  let web: WebEdge;
  beforeAll(async () => {
    web = await startWebEdge(scheme);
  });
  afterAll(() => web?.close());

  /** All that the server says to these octets, until it ends the connection. */
  async function said(octets: string | Buffer): Promise<string> {
    const connection = await web.door.connection();
    connection.write(octets);
    return connection.ended;
  }

  it('is open to who offers sip, among others too, and says so [7118-4.1-02]', async () => {
    for (const protocols of [['sip'], ['chat', 'sip']]) {
      const client = await web.client({ protocols });
      expect(client.handshake).toMatchObject({ status: 101, accepted: true });
      expect(client.handshake.headers.get('sec-websocket-protocol')).toBe('sip');
      await client.probe();
    }
  });

  it('is the same octet by octet [7118-4.1-02]', async () => {
    const connection = await web.door.connection();
    await connection.writePieces(Array.from(upgrade('edge.test'), (c) => Buffer.from(c)));
    expect((await connection.has(ACCEPTED.length)).toString()).toBe(ACCEPTED);
    connection.write(frame(Buffer.from('\r\n\r\n')));
    const pong = (await connection.has(ACCEPTED.length + 4)).subarray(ACCEPTED.length);
    expect(pong).toEqual(Buffer.from([0x81, 2, 13, 10]));
    connection.socket.destroy();
  });

  it('takes frames that follow the request in the same segment', async () => {
    const client = await web.client();
    const { bytes, callId } = composeRegister(client);
    const connection = await web.door.connection();
    connection.write(
      Buffer.concat([Buffer.from(upgrade('a')), frame(bytes), frame(Buffer.from('\r\n\r\n'))]),
    );
    await web.edge.core.next(isRequest('REGISTER', callId));
    await connection.has(ACCEPTED.length + 4);
    connection.socket.destroy();
  });

  it.each<[number, string, () => string | Buffer]>([
    [426, 'a page', () => 'GET /index.html HTTP/1.1\r\nHost: a\r\n\r\n'],
    [426, 'a form', () => 'POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na=b'],
    [426, 'a look', () => 'HEAD / HTTP/1.1\r\nHost: a\r\n\r\n'],
    [400, 'another sub-protocol', () => upgrade('a').replace('col: sip', 'col: chat')],
    [426, 'another version', () => upgrade('a').replace('Version: 13', 'Version: 12')],
    [405, 'an upgrade by POST', () => upgrade('a').replace('GET', 'POST')],
    [400, 'SIP', () => 'OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/WS a;branch=z9hG4bK1\r\n\r\n'],
    // one alone may be the front of a PROXY header
    [400, 'keep-alives', () => '\r\n\r\n\r\n\r\n'],
    [400, 'the first octets of TLS', () => Buffer.from([0x16, 3, 1, 2, 0, 1, 0])],
    [431, 'a head without end', () => `GET / HTTP/1.1\r\nX: ${'x'.repeat(9_000)}`],
    [400, 'a request with a body', () => `${upgrade('a', ['Content-Length: 4'])}abcd`],
  ])('is closed, with %d, to %s', async (status, _what, octets) => {
    const answer = await said(octets());
    expect(statusOf(answer)).toBe(status);
    expect(answer).toMatch(/\r\nConnection: (Upgrade, )?close\r\n/);
    expect(answer.length).toBeLessThan(400);
    // one answer, whatever was sent behind the request
    expect(answer.split('HTTP/1.1 ').length).toBe(2);
  });

  it('leads to no second request behind the first: those octets are frames, and bad ones [7118-6455-01]', async () => {
    const answer = await said(`${upgrade('a')}GET /admin HTTP/1.1\r\nHost: a\r\n\r\n`);
    expect(answer).toBe(ACCEPTED + closeFrame(1002));
    const refused = await said(`GET / HTTP/1.1\r\nHost: a\r\n\r\n${upgrade('a')}`);
    expect(statusOf(refused)).toBe(426);
    expect(refused).not.toContain('101');
  });

  it('forgets who leaves in the middle of his request', async () => {
    const connection = await web.door.connection();
    connection.write('GET / HTTP/1.1\r\nHos');
    connection.socket.end();
    expect(await connection.ended).toBe('');
    const client = await web.client();
    await registerFlow(client, web.edge.core);
  });
});

describe.each(SCHEMES)('%s: an Origin allow-list', (scheme) => {
  let web: WebEdge;
  beforeAll(async () => {
    web = await startWebEdge(scheme, {
      settings: { WS_ORIGINS: 'https://phone.example.test,http://localhost:3000' },
    });
  });
  afterAll(() => web?.close());

  it('lets in its pages and who is no page, and nobody else', async () => {
    const from = async (origin?: string) =>
      (await web.client({ headers: origin === undefined ? [] : [['Origin', origin]] })).handshake.status;
    expect(await from('https://phone.example.test')).toBe(101);
    expect(await from('http://localhost:3000')).toBe(101);
    expect(await from()).toBe(101);
    expect(await from('https://evil.example')).toBe(403);
    expect(await from('null')).toBe(403);
  });
});

describe.each(SCHEMES)('%s: time', (scheme) => {
  let web: WebEdge;
  beforeAll(async () => {
    web = await startWebEdge(scheme, { clocked: true });
  });
  afterAll(() => web?.close());

  it('is closed after ten seconds to who says nothing, and to who says it too slowly', async () => {
    const silent = await web.door.connection();
    const slow = await web.door.connection();
    const client = await web.client();
    let slowEnded = false;
    void slow.ended.then(() => {
      slowEnded = true;
    });
    let ended = 0;
    for (const each of [silent, slow]) void each.ended.then(() => ended++);
    slow.write('GET / HTTP/1.1\r\n');
    for (let s = 0; s < 9; s++) {
      await web.edge.server.advance(1_000);
      slow.write(`X-${s}: y\r\n`);
      await client.probe();
    }
    expect(slowEnded).toBe(false);
    await web.edge.server.advance(1_500);
    // a shard that was busy has accepted them when the clock had been moved already
    for (let s = 0; s < 9 && ended < 2; s++) {
      await client.probe();
      await web.edge.server.advance(1_000);
    }
    expect(await silent.ended).toBe('');
    expect(await slow.ended).toBe('');
    // who has become a WebSocket has his time to register
    const { bytes, callId } = composeRegister(client);
    client.send(bytes);
    web.edge.core.reply(await web.edge.core.next(isRequest('REGISTER', callId)), 200, 'OK');
    await client.next(isResponse(200, callId));
  });
});
