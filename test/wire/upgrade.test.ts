/** What opens a WebSocket for SIP, and how everything else that HTTP can say is turned away. */
import { describe, expect, it } from 'vitest';
import {
  type Admit,
  admitOrigins,
  answerUpgrade,
  demandOf,
  isNoRequest,
  opensWebSocket,
  refuseUpgrade,
  upgradeEnd,
  upgradeRequest,
} from '../../src/wire/upgrade.ts';

/** The example of RFC 7118 4.1. */
const HEADERS: Record<string, string | undefined> = {
  Host: 'sip-ws.example.com',
  Upgrade: 'websocket',
  Connection: 'Upgrade',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
  Origin: 'http://www.example.com',
  'Sec-WebSocket-Protocol': 'sip',
  'Sec-WebSocket-Version': '13',
};

function head(changes: Record<string, string | undefined> = {}, line = 'GET / HTTP/1.1'): string {
  const lines = Object.entries({ ...HEADERS, ...changes })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}: ${value}`);
  return `${[line, ...lines].join('\r\n')}\r\n\r\n`;
}

const everyone: Admit = () => 0;
const status = (text: string, admit = everyone) => answerUpgrade(text, admit).status;

describe('the request that opens a WebSocket', () => {
  it('is answered as RFC 7118 4.1 shows it [7118-4.1-02]', () => {
    expect(answerUpgrade(head(), everyone).text).toBe(
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: sip\r\n\r\n',
    );
  });

  it.each<[string, string]>([
    ['any path', head({}, 'GET /any/where?x=1 HTTP/1.1')],
    ['an absolute target', head({}, 'GET http://sip-ws.example.com/ HTTP/1.1')],
    ['names in any letter case', head().replaceAll(/^[A-Z][A-Za-z-]+(?=:)/gm, (n) => n.toUpperCase())],
    ['tokens in any letter case', head({ Upgrade: 'WebSocket', Connection: 'keep-alive, UPGRADE' })],
    ['sip among others', head({ 'Sec-WebSocket-Protocol': 'chat, sip' })],
    ['sip in a second header', head({ 'Sec-WebSocket-Protocol': 'chat\r\nSec-WebSocket-Protocol: sip' })],
    ['extensions, which are not taken up', head({ 'Sec-WebSocket-Extensions': 'permessage-deflate' })],
    ['no Origin', head({ Origin: undefined })],
    ['Content-Length 0', head({ 'Content-Length': '0' })],
  ])('may have %s', (_what, text) => {
    const answer = answerUpgrade(text, everyone);
    expect(answer.status).toBe(101);
    expect(answer.text).not.toContain('Extensions');
  });

  it.each<[number, string, string]>([
    [400, 'without the sub-protocol sip [7118-4.1-02]', head({ 'Sec-WebSocket-Protocol': 'chat' })],
    [400, 'without any sub-protocol', head({ 'Sec-WebSocket-Protocol': undefined })],
    [400, 'with a sub-protocol that only contains sip', head({ 'Sec-WebSocket-Protocol': 'sips, sip2' })],
    [400, 'without Host', head({ Host: undefined })],
    [400, 'with two Hosts', head({ Host: 'a\r\nHost: b' })],
    [400, 'without a key', head({ 'Sec-WebSocket-Key': undefined })],
    [400, 'with a key of 15 octets', head({ 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25j' })],
    [400, 'with a key that is not base64', head({ 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub2!jZQ==' })],
    [400, 'with two keys', head({ 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: x' })],
    [400, 'with two Origins', head({ Origin: 'http://a\r\nOrigin: http://b' })],
    [400, 'with a body', head({ 'Content-Length': '5' })],
    [400, 'with a chunked body', head({ 'Transfer-Encoding': 'chunked' })],
    [400, 'with a folded line', head({ Host: 'a\r\n b' })],
    [400, 'with a space before a colon', head({ 'X ': 'y' })],
    [400, 'with a bare LF', head({ Host: 'a\nX: y' })],
    [400, 'with a NUL', head({ Host: 'a\0' })],
    [400, 'of HTTP/2', head({}, 'GET / HTTP/2.0')],
    [400, 'of a request line with two spaces', head({}, 'GET  / HTTP/1.1')],
    [400, 'of SIP', 'OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/WS a;branch=z9hG4bKx\r\n\r\n'],
    [400, 'of nothing', '\r\n\r\n'],
    [405, 'by POST', head({}, 'POST / HTTP/1.1')],
    [426, 'of version 8 [7118-6455-01]', head({ 'Sec-WebSocket-Version': '8' })],
    [426, 'without a version', head({ 'Sec-WebSocket-Version': undefined })],
    [426, 'with two versions', head({ 'Sec-WebSocket-Version': '13\r\nSec-WebSocket-Version: 13' })],
    [426, 'of HTTP/1.0', head({}, 'GET / HTTP/1.0')],
    [426, 'without Upgrade', head({ Upgrade: undefined })],
    [426, 'to another protocol', head({ Upgrade: 'h2c' })],
    [426, 'whose Connection does not name Upgrade', head({ Connection: 'close' })],
    [426, 'of a page', 'GET /index.html HTTP/1.1\r\nHost: a\r\n\r\n'],
    [426, 'of a form', 'POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n'],
  ])('%d: %s', (code, _what, text) => {
    const answer = answerUpgrade(text, everyone);
    expect(answer.status).toBe(code);
    expect(answer.text).toMatch(/^HTTP\/1\.1 \d{3} [A-Z]/);
    expect(answer.text).toMatch(/\r\nConnection: (Upgrade, )?close\r\n/);
    const [, length, body] = /Content-Length: (\d+)\r\n\r\n([\s\S]*)$/.exec(answer.text) ?? [];
    expect(body.length).toBe(Number(length));
  });

  it('that is too old is told the version that is spoken [7118-6455-01]', () => {
    const { text } = answerUpgrade(head({ 'Sec-WebSocket-Version': '8' }), everyone);
    expect(text).toContain('\r\nSec-WebSocket-Version: 13\r\n');
    expect(text).toContain('\r\nUpgrade: websocket\r\n');
  });

  it('by HEAD has an answer without a body', () => {
    const { status: code, text } = answerUpgrade('HEAD / HTTP/1.1\r\nHost: a\r\n\r\n', everyone);
    expect(code).toBe(426);
    expect(text.endsWith('\r\n\r\n')).toBe(true);
  });

  it('may be refused for its Origin or its Cookie, 401 with a challenge [7118-7-01 7118-7-02]', () => {
    const seen: unknown[] = [];
    const admit: Admit = (origin, cookie) => {
      seen.push(origin, cookie);
      return 401;
    };
    const { status: code, text } = answerUpgrade(head({ Cookie: 'session=1; b=2' }), admit);
    expect(seen).toEqual(['http://www.example.com', 'session=1; b=2']);
    expect(code).toBe(401);
    expect(text).toMatch(/\r\nWWW-Authenticate: Basic /);
  });
});

describe('the Origin allow-list', () => {
  it('lets in the pages that it names, and who is no browser', () => {
    const admit = admitOrigins(['https://phone.example.com', 'http://localhost:3000']);
    expect(status(head({ Origin: 'https://phone.example.com' }), admit)).toBe(101);
    expect(status(head({ Origin: 'HTTPS://Phone.example.com' }), admit)).toBe(101);
    expect(status(head({ Origin: 'http://localhost:3000' }), admit)).toBe(101);
    expect(status(head({ Origin: undefined }), admit)).toBe(101);
  });

  it('refuses the pages of others', () => {
    const admit = admitOrigins(['https://phone.example.com']);
    for (const origin of [
      'http://phone.example.com',
      'https://phone.example.com:8443',
      'https://phone.example.com.evil.example',
      'https://evil.example/https://phone.example.com',
      'null',
      '',
    ])
      expect(status(head({ Origin: origin }), admit)).toBe(403);
    expect(status(head({ Origin: 'null' }), admitOrigins(['*']))).toBe(101);
  });
});

describe('the end of the head', () => {
  const octets = (text: string) => Buffer.from(text, 'latin1');
  it('is found wherever the network splits it, without a second look at what was searched', () => {
    const text = octets('xGET / HTTP/1.1\r\nHost: a\r\n\r\nframe');
    const end = text.indexOf('\r\n\r\n') + 4;
    for (let cut = 1; cut <= text.length; cut++)
      expect(upgradeEnd(text, 1, cut, text.length)).toBe(cut < end ? end : -1);
    expect(upgradeEnd(text, 1, 1, end - 1)).toBe(-1);
  });

  it('is not waited for where no request can begin', () => {
    expect(isNoRequest(octets('\x16\x03\x01'), 0)).toBe(true);
    expect(isNoRequest(octets('\r\n'), 0)).toBe(true);
    expect(isNoRequest(octets('G'), 0)).toBe(false);
  });

  it('that never comes has an answer too', () => {
    expect(refuseUpgrade(431).text).toMatch(/^HTTP\/1\.1 431 /);
  });
});

describe('the two sides', () => {
  const key = 'dGhlIHNhbXBsZSBub25jZQ==';
  it('understand each other: the request of one is answered by the other, and the answer is taken', () => {
    const answer = answerUpgrade(upgradeRequest({ host: 'sip-ws.example.com', path: '/', key }), everyone);
    expect(answer.status).toBe(101);
    expect(opensWebSocket(answer.text, key)).toBe(true);
    expect(opensWebSocket(answer.text, 'AAAAAAAAAAAAAAAAAAAAAA==')).toBe(false);
    expect(opensWebSocket(refuseUpgrade(403).text, key)).toBe(false);
  });

  it('take names of headers and tokens in any case, and a reason phrase that lacks', () => {
    const { text } = answerUpgrade(head(), everyone);
    const other = text
      .replace('101 Switching Protocols', '101')
      .replace('Upgrade: websocket', 'UPGRADE:WebSocket')
      .replace('Connection: Upgrade', 'connection: keep-alive, upgrade');
    expect(opensWebSocket(other, key)).toBe(true);
    expect(opensWebSocket(text.replace(': sip', ': SIP'), key)).toBe(false);
    expect(opensWebSocket(text.replace('\r\n\r\n', '\r\nSec-WebSocket-Protocol: sip\r\n\r\n'), key)).toBe(
      false,
    );
  });
});

describe('a 401', () => {
  const demand = (lines: string[], first = 'HTTP/1.1 401 Unauthorized') =>
    demandOf([first, ...lines, '', ''].join('\r\n'));

  it('says what it asks for, in order, and how long its body is', () => {
    const lines = ['www-authenticate: Basic realm="a"', 'WWW-Authenticate: Digest x', 'Content-Length: 12'];
    expect(demand(lines)).toEqual({ challenges: ['Basic realm="a"', 'Digest x'], body: 12 });
    expect(demand(['Content-Length: 0'], 'HTTP/1.1 401')).toEqual({ challenges: [], body: 0 });
  });

  it.each<[string, string[], string?]>([
    ['says that it closes', ['Content-Length: 0', 'Connection: x, Close']],
    ['is in chunks', ['Transfer-Encoding: chunked']],
    ['is in chunks and has a length', ['Transfer-Encoding: chunked', 'Content-Length: 3']],
    ['has two lengths', ['Content-Length: 3', 'Content-Length: 3']],
    ['has a length that is none', ['Content-Length: +3']],
    ['has none', []],
    ['is too long', ['Content-Length: 100000']],
    ['is of HTTP/1.0', ['Content-Length: 3'], 'HTTP/1.0 401 Unauthorized'],
  ])('leaves no connection for another request where it %s', (_what, lines, first) => {
    expect(demand(lines, first)?.body).toBe(-1);
  });

  it('is what says so, and can be read', () => {
    expect(demand([], 'HTTP/1.1 407 No')).toBeUndefined();
    expect(demand([], 'HTTP/1.1 4010')).toBeUndefined();
    expect(demand([], 'HTTP/2.0 401 No')).toBeUndefined();
    expect(demand(['X: a', ' folded'])).toBeUndefined();
  });
});
