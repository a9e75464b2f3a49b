/** Responses made from a request, the stamp on the top Via, and option tags. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Endpoint } from '../../src/net/endpoint.ts';
import {
  CHARS,
  DIGIT,
  equalsNoCase,
  HEX,
  HOST,
  LWS,
  latin1,
  parseDecimal,
  TOKEN,
  utf8,
} from '../../src/wire/chars.ts';
import { composeEnd, composeHead, hasToTag, isHost, stampVia, writeHost } from '../../src/wire/compose.ts';
import { Message } from '../../src/wire/lexer.ts';
import { PROXY_REQUIRE, SUPPORTED, VIA } from '../../src/wire/names.ts';
import { Patch } from '../../src/wire/patch.ts';
import { eachTag, hasTag } from '../../src/wire/tags.ts';
import { Via } from '../../src/wire/via.ts';
import { Writer } from '../../src/wire/writer.ts';

const ascii = (text: string) => new Uint8Array(Buffer.from(text, 'latin1'));
const mem = Buffer.alloc(16_384);
const patch = new Patch(mem, 8192, 2048);
const out = new Writer(mem);
const from = (host: string, port = 4711) => Endpoint.parse(host, port)!;

function lex(text: string): { m: Message; via: Via } {
  const m = new Message();
  const via = new Via();
  const length = mem.write(text, 0, 'latin1');
  m.lex(mem, 0, length, true);
  const row = m.first[VIA];
  via.parse(mem, m.valueStart[row], m.valueEnd[row]);
  return { m, via };
}

const message = (via: string, rest = '', to = 'To: <sip:b@c>') =>
  `OPTIONS sip:b@c SIP/2.0\r\nX: 1\r\nv: ${via}\r\nf: "A" <sip:a@b>;tag=1\r\n${to}\r\nVia: SIP/2.0/TCP next;x\r\nCall-ID: c\r\nCSeq: 9\r\n OPTIONS\r\n${rest}\r\nbody`;

/** The top Via as it leaves, for a request that came from here. */
function stamped(value: string, remote: Endpoint): string {
  const { m, via } = lex(message(value));
  patch.begin();
  stampVia(patch, m, via, remote);
  out.open(12_000, 16_000);
  expect(patch.apply(m.valueStart[m.first[VIA]], m.valueEnd[m.first[VIA]], out)).toBe(true);
  return latin1(mem, 12_000, out.at);
}

describe('the stamp on the top Via', () => {
  it.each([
    [
      'names another address',
      'SIP/2.0/UDP 10.0.0.1:5060;branch=b',
      'SIP/2.0/UDP 10.0.0.1:5060;received=192.0.2.7;branch=b',
    ],
    ['names the address', 'SIP/2.0/UDP 192.0.2.7:5060;branch=b', 'SIP/2.0/UDP 192.0.2.7:5060;branch=b'],
    [
      'names a host',
      'SIP/2.0/UDP host.example.com;branch=b',
      'SIP/2.0/UDP host.example.com;received=192.0.2.7;branch=b',
    ],
    [
      'asks for rport',
      'SIP/2.0/UDP 10.0.0.1;rport;branch=b',
      'SIP/2.0/UDP 10.0.0.1;rport=4711;received=192.0.2.7;branch=b',
    ],
    [
      'asks for rport from the address that it names',
      'SIP/2.0/UDP 192.0.2.7;branch=b;rport',
      'SIP/2.0/UDP 192.0.2.7;received=192.0.2.7;branch=b;rport=4711',
    ],
    [
      'has an rport of its own making',
      'SIP/2.0/UDP 192.0.2.7;rport=9 ;branch=b',
      'SIP/2.0/UDP 192.0.2.7;rport=4711;received=192.0.2.7 ;branch=b',
    ],
    [
      'has a received of its own making',
      'SIP/2.0/UDP 10.0.0.1;received=1.2.3.4;branch=b',
      'SIP/2.0/UDP 10.0.0.1;received=192.0.2.7;branch=b',
    ],
    [
      'has a received that nobody needs',
      'SIP/2.0/UDP 192.0.2.7;received=1.2.3.4;branch=b',
      'SIP/2.0/UDP 192.0.2.7;branch=b',
    ],
    [
      'has white space everywhere',
      'SIP / 2.0 / UDP 10.0.0.1 : 5060 ; rport ; branch = b',
      'SIP / 2.0 / UDP 10.0.0.1 : 5060;received=192.0.2.7 ;rport=4711 ; branch = b',
    ],
    [
      'is followed by another in its line',
      'SIP/2.0/UDP 10.0.0.1, SIP/2.0/UDP z',
      'SIP/2.0/UDP 10.0.0.1;received=192.0.2.7, SIP/2.0/UDP z',
    ],
  ])('of a client that %s', (_, before, after) => {
    expect(stamped(before, from('192.0.2.7'))).toBe(after);
  });

  it('has IPv6 without brackets, and knows the address in any spelling', () => {
    expect(stamped('SIP/2.0/UDP [2001:db8::9];branch=b', from('2001:db8::7'))).toBe(
      'SIP/2.0/UDP [2001:db8::9];received=2001:db8::7;branch=b',
    );
    expect(stamped('SIP/2.0/UDP [2001:DB8:0:0::7];branch=b', from('2001:db8::7'))).toBe(
      'SIP/2.0/UDP [2001:DB8:0:0::7];branch=b',
    );
  });

  it('is right for one address after the other, whatever was kept from the last', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.ipV4(), fc.ipV6()), { maxLength: 6 }), (hosts) => {
        for (const host of hosts) {
          out.open(12_000, 12_100);
          writeHost(out, from(host));
          expect(latin1(mem, 12_000, out.at)).toBe(from(host).host);
        }
      }),
    );
  });
});

describe('a numeric host in a message', () => {
  const is = (text: string, address: Endpoint) => isHost(ascii(text), 0, text.length, address);

  it('is an address if the text says exactly that one', () => {
    fc.assert(
      fc.property(fc.ipV4(), fc.ipV4(), (a, b) => {
        expect(is(a, from(a))).toBe(true);
        expect(is(a, from(b))).toBe(from(a).sameAddress(from(b)));
      }),
    );
    fc.assert(
      fc.property(fc.ipV6(), fc.ipV6(), (a, b) => {
        expect(is(`[${a}]`, from(a))).toBe(true);
        expect(is(`[${a}]`, from(b))).toBe(from(a).sameAddress(from(b)));
      }),
    );
  });

  it.each([
    '',
    '1.2.3',
    '1.2.3.',
    '.1.2.3.4',
    '1.2.3.4.',
    '1.2.3.4.5',
    '1..3.4',
    '1.2.3.256',
    '1.2.3.4x',
    'a',
    '01020304',
    '[1.2.3.4]',
    '1.2.3.04x',
  ])('%j is not 1.2.3.4', (text) => {
    expect(is(text, from('1.2.3.4'))).toBe(false);
  });
});

describe('a response made from a request', () => {
  function compose(text: string, viaPatch: boolean, tag?: string): string {
    const { m, via } = lex(text);
    patch.begin();
    stampVia(patch, m, via, from('192.0.2.7'));
    out.open(10_000, 12_000);
    composeHead(
      out,
      m,
      404,
      ascii('Not Found'),
      viaPatch ? patch : undefined,
      tag === undefined ? undefined : ascii(tag),
    );
    composeEnd(out);
    expect(out.overflow).toBe(false);
    return latin1(mem, 10_000, out.at);
  }

  it('copies every Via in order, From, To with a tag, Call-ID and CSeq as they stand', () => {
    expect(compose(message('SIP/2.0/UDP 10.0.0.1;branch=b'), true, 'tt')).toBe(
      'SIP/2.0 404 Not Found\r\nv: SIP/2.0/UDP 10.0.0.1;received=192.0.2.7;branch=b\r\nVia: SIP/2.0/TCP next;x\r\nf: "A" <sip:a@b>;tag=1\r\nTo: <sip:b@c>;tag=tt\r\nCall-ID: c\r\nCSeq: 9\r\n OPTIONS\r\nContent-Length: 0\r\n\r\n',
    );
  });

  it('leaves Via alone when no edit is asked for, and a To tag that is there', () => {
    const text = compose(message('SIP/2.0/UDP 10.0.0.1', '', 't: sip:b@c ;  TAG = q'), false, 'tt');
    expect(text).toContain('v: SIP/2.0/UDP 10.0.0.1\r\n');
    expect(text).toContain('t: sip:b@c ;  TAG = q\r\n');
  });

  it('of a request that lacks headers has those that are there', () => {
    expect(compose('OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7\r\n\r\n', true, 'tt')).toBe(
      'SIP/2.0 404 Not Found\r\nVia: SIP/2.0/UDP 192.0.2.7\r\nContent-Length: 0\r\n\r\n',
    );
  });
});

describe('a To tag', () => {
  it.each([
    ['To: <sip:b@c>;tag=1', true],
    ['t:<sip:b@c>;x=y ; TAG = 1', true],
    ['To: sip:b@c;tag=1', true],
    ['To: "x;tag=1" <sip:b@c>', false],
    ['To: <sip:b@c;tag=1>', false],
    ['To: <sip:b@c>;x="tag";tagg=1', false],
    ['To: <sip:b@c>;x=";tag=1"', false],
  ])('%s: %s', (to, expected) => {
    expect(hasToTag(lex(message('SIP/2.0/UDP a', '', to)).m)).toBe(expected);
  });
});

describe('option tags', () => {
  it('are found in any row and any letter case, and whole', () => {
    const { m } = lex(
      message('SIP/2.0/UDP a', 'k: timer ,, 100rel\r\nSupported: PATH,\r\n outbound\r\nSupported:\r\n'),
    );
    for (const tag of ['timer', '100rel', 'path', 'outbound'])
      expect(hasTag(m, SUPPORTED, ascii(tag))).toBe(true);
    for (const tag of ['time', 'pat', 'paths', 'gruu', ''])
      expect(hasTag(m, SUPPORTED, ascii(tag))).toBe(false);
    expect(hasTag(m, PROXY_REQUIRE, ascii('path'))).toBe(false);
    const tags: string[] = [];
    eachTag(m, SUPPORTED, (start, end) => tags.push(latin1(m.buf, start, end)));
    expect(tags).toEqual(['timer', '100rel', 'PATH', 'outbound']);
  });
});

describe('character classes', () => {
  it('are those of RFC 3261 25.1', () => {
    for (let code = 0; code < 256; code++) {
      const char = String.fromCharCode(code);
      const is = (bit: number) => (CHARS[code] & bit) !== 0;
      expect([char, is(TOKEN), is(DIGIT), is(HEX), is(LWS), is(HOST)]).toEqual([
        char,
        /[A-Za-z0-9\-.!%*_+`'~]/.test(char),
        /[0-9]/.test(char),
        /[0-9a-fA-F]/.test(char),
        /[ \t\r\n]/.test(char),
        /[A-Za-z0-9\-._]/.test(char),
      ]);
    }
  });

  it('a decimal number has digits only, and at most ten that count', () => {
    const parse = (text: string) => parseDecimal(ascii(text), 0, text.length);
    fc.assert(
      fc.property(fc.nat(9_999_999_999), fc.nat(20), (n, zeros) => {
        expect(parse('0'.repeat(zeros) + n)).toBe(n);
      }),
    );
    for (const text of ['', ' 1', '1 ', '+1', '-1', '1a', '10000000000', '9'.repeat(30), ':', '/'])
      expect([text, parse(text)]).toEqual([text, -1]);
    expect(parse('0')).toBe(0);
    expect(parse('0000000000000')).toBe(0);
  });

  it('comparisons hold for the range and not around it', () => {
    const buf = ascii('xABCx');
    expect(equalsNoCase(buf, 1, 4, ascii('abc'))).toBe(true);
    expect(equalsNoCase(buf, 1, 5, ascii('abc'))).toBe(false);
    expect(equalsNoCase(ascii('@[`{'), 0, 4, ascii('`{@['))).toBe(false);
    expect(utf8(Buffer.from('xéx'), 1, 3)).toBe('é');
  });
});
