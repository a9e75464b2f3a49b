/** The offset table of a message against a parser that works on strings and shares no code with it. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  BAD_CONTENT_LENGTH,
  BAD_CSEQ,
  BAD_HEADER,
  BAD_MAX_FORWARDS,
  BAD_START_LINE,
  BAD_VERSION,
  DUPLICATE_HEADER,
  Message,
  MISSING_HEADER,
  NO_END,
  NOT_SIP,
  OK,
  statusOf,
  TOO_LARGE,
} from '../../src/wire/lexer.ts';
import { MAX_HEAD, MAX_HEADER_LINE, MAX_HEADERS, MAX_START_LINE } from '../../src/wire/limits.ts';
import {
  formsDialog,
  HEADER_IDS,
  headerId,
  INVITE,
  M_OTHER,
  methodId,
  methodName,
  OPTIONS,
  OTHER,
  REFER,
  REGISTER,
  SUBSCRIBE,
  VIA,
} from '../../src/wire/names.ts';

const PAD = 7;
const latin1 = (text: string) => Buffer.from(text, 'latin1');

/** Lexes the text where it lies between other octets; these must come out of it unchanged. */
function lex(
  text: string | Uint8Array,
  datagram = false,
  m = new Message(),
): { m: Message; verdict: number } {
  const octets = typeof text === 'string' ? latin1(text) : text;
  const before = latin1('\r\n: x\r\n');
  const behind = latin1(': 9\r\nx: y\r\n\r\n');
  const buf = Buffer.concat([before, octets, behind]);
  const copy = Buffer.from(buf);
  const verdict = m.lex(buf, PAD, PAD + octets.length, datagram);
  expect(buf.equals(copy)).toBe(true);
  return { m, verdict };
}

const text = (m: Message, from: number, to: number) => Buffer.from(m.buf).toString('latin1', from, to);
const rows = (m: Message) =>
  Array.from({ length: m.count }, (_, i) => ({
    id: m.ids[i],
    line: text(m, m.lineStart[i], m.lineEnd[i]),
    name: text(m, m.lineStart[i], m.nameEnd[i]),
    value: text(m, m.valueStart[i], m.valueEnd[i]),
  }));

/** The longest and the compact name of each header that has an id, as RFC 3261 and others write them. */
const KNOWN: [name: string, compact?: string][] = [
  ['Via', 'v'],
  ['Route'],
  ['Record-Route'],
  ['Path'],
  ['Contact', 'm'],
  ['To', 't'],
  ['From', 'f'],
  ['Call-ID', 'i'],
  ['CSeq'],
  ['Max-Forwards'],
  ['Content-Length', 'l'],
  ['Expires'],
  ['Supported', 'k'],
  ['Require'],
  ['Proxy-Require'],
  ['Flow-Timer'],
  ['Authorization'],
  ['Proxy-Authorization'],
  ['User-Agent'],
  ['Event', 'o'],
  ['Content-Type', 'c'],
  ['Max-Breadth'],
];
const idOf = (name: string) => headerId(latin1(name), 0, name.length);
const anyCase = (name: string) =>
  fc
    .array(fc.boolean(), { minLength: name.length, maxLength: name.length })
    .map((upper) =>
      [...name].map((char, i) => (upper[i] ? char.toUpperCase() : char.toLowerCase())).join(''),
    );

describe('header names', () => {
  it('have one id in any letter case and in the compact form, and no two share one', () => {
    const ids = KNOWN.map(([name, compact]) => {
      for (const form of [name, compact ?? name]) {
        expect(idOf(form.toUpperCase())).toBe(idOf(name));
        expect(idOf(form.toLowerCase())).toBe(idOf(name));
      }
      return idOf(name);
    });
    expect(ids).not.toContain(OTHER);
    expect(new Set(ids).size).toBe(HEADER_IDS - 1);
  });

  it('that are not known are OTHER, however near they come to one', () => {
    const near = fc
      .tuple(fc.constantFrom(...KNOWN), fc.nat(30), fc.constantFrom('x', '-', '', '_', 'K'))
      .map(([[name], at, by]) => {
        const i = at % name.length;
        return name.slice(0, i) + by + name.slice(i + 1);
      });
    const names = new Set(KNOWN.flat().map((name) => name?.toLowerCase()));
    fc.assert(
      fc.property(fc.oneof(near, fc.string({ maxLength: 25 })), (name) => {
        const octets = latin1(name).toString('latin1');
        fc.pre(!names.has(octets.toLowerCase()));
        expect(idOf(octets)).toBe(OTHER);
      }),
    );
    for (const code of Array(256).keys()) {
      const char = String.fromCharCode(code);
      expect(idOf(char) !== OTHER).toBe('vmtfilkoc'.includes(char.toLowerCase()) && code < 128);
    }
  });
});

describe('methods', () => {
  it('are told apart by every letter, case included', () => {
    const ids = new Set<number>();
    for (let id = 1; id <= 14; id++) {
      const name = methodName(id);
      expect(methodId(latin1(name), 0, name.length)).toBe(id);
      ids.add(id);
      for (let i = 0; i < name.length; i++) {
        const other = name.slice(0, i) + name[i].toLowerCase() + name.slice(i + 1);
        expect(methodId(latin1(other), 0, other.length)).toBe(M_OTHER);
      }
      expect(methodId(latin1(`${name}S`), 0, name.length + 1)).toBe(M_OTHER);
    }
    expect(ids.size).toBe(14);
    expect(methodId(latin1(''), 0, 0)).toBe(M_OTHER);
  });

  it('that can form a dialog are INVITE, SUBSCRIBE and REFER', () => {
    const forming = Array.from({ length: 15 }, (_, id) => id).filter(formsDialog);
    expect(forming.sort()).toEqual([INVITE, SUBSCRIBE, REFER].sort());
  });
});

interface Line {
  name: string;
  text: string;
  value: string;
}

const blank = fc.constantFrom('', ' ', '\t', '  ', '\r\n ', ' \r\n\t');
const word = fc.constantFrom(
  'a',
  '<sip:x@y>',
  '"q; , \\" "',
  '\u00e9\u00ff',
  ':',
  ';;,',
  'SIP/2.0',
  '\\\x07',
  '=',
);
const value = fc.array(fc.tuple(word, blank), { maxLength: 5 }).map((parts) => parts.flat().join(''));
const name = fc.oneof(
  fc
    .constantFrom(
      ...KNOWN.flat().filter(
        (n) => n !== undefined && !/^(to|from|t|f|call-id|i|cseq|max-forwards|content-length|l)$/i.test(n),
      ),
    )
    .chain((n) => anyCase(n as string)),
  fc.stringMatching(/^[A-Za-z0-9\-.!%*_+`'~]{1,30}$/).filter((n) => idOf(n) === OTHER),
);
const line = fc.tuple(name, fc.constantFrom('', ' ', '\t ', '  '), blank, value).map(
  ([name, before, after, value]): Line => ({
    name,
    text: `${name}${before}:${after}${value}\r\n`,
    value: (after + value).replace(/^[ \t\r\n]+|[ \t\r\n]+$/g, ''),
  }),
);

const fixed = (text: string): Line => {
  const [, name, value] = /^([^:\s]+)\s*:\s*(.*?)\s*\r\n$/s.exec(text) as string[];
  return { name, text, value };
};
const MANDATORY = [
  'Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\n',
  'f: <sip:a@b>;tag=1\r\n',
  'TO : sip:c@d\r\n',
  'Call-ID:x@y\r\n',
  'CSeq: 7\r\n OPTIONS\r\n',
].map(fixed);

describe('the table of a message', () => {
  it('has every header line in its place, whatever stands in it', () => {
    const shuffled = fc.array(line, { maxLength: 12 }).chain((lines) =>
      fc.shuffledSubarray([...MANDATORY, ...lines], {
        minLength: lines.length + 5,
        maxLength: lines.length + 5,
      }),
    );
    const m = new Message();
    fc.assert(
      fc.property(shuffled, fc.constantFrom('', 'v=0\r\n\r\nl: 3\r\n'), (lines, body) => {
        const start = 'OPTIONS sip:c@d;x=y SIP/2.0\r\n';
        const { verdict } = lex(`${start}${lines.map((l) => l.text).join('')}\r\n${body}`, false, m);
        expect(verdict).toBe(OK);
        expect(rows(m)).toEqual(
          lines.map((l) => ({ id: idOf(l.name), line: l.text, name: l.name, value: l.value })),
        );
        expect(text(m, m.bodyStart, m.end)).toBe(body);
        expect(text(m, m.uriStart, m.uriEnd)).toBe('sip:c@d;x=y');
        for (let id = 1; id < HEADER_IDS; id++) {
          const expected = lines.flatMap((l, i) => (idOf(l.name) === id ? [i] : []));
          const chain: number[] = [];
          for (let row = m.first[id]; row >= 0; row = m.next(row)) chain.push(row);
          expect(chain).toEqual(expected);
          expect(m.last[id]).toBe(expected.at(-1) ?? -1);
          expect(m.has(id)).toBe(expected.length > 0);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('holds nothing of the message before it', () => {
    const m = new Message();
    lex(message({ lines: 'Max-Forwards: 3\r\nPath: <sip:a>\r\nl: 0\r\n' }), false, m);
    lex('SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a\r\n\r\n', false, m);
    expect([m.count, m.maxForwards, m.contentLength, m.isRequest, m.method]).toEqual([
      1,
      -1,
      -1,
      false,
      M_OTHER,
    ]);
    expect(m.first[VIA]).toBe(0);
    expect(m.first.filter((row) => row >= 0)).toHaveLength(1);
  });
});

interface Parts {
  start?: string;
  cseq?: string;
  lines?: string;
  body?: string;
  without?: string;
}

function message({
  start = 'OPTIONS sip:c@d SIP/2.0',
  cseq = '7 OPTIONS',
  lines = '',
  body = '',
  without = '',
}: Parts = {}): string {
  const head = [
    'Via: SIP/2.0/UDP a',
    'From: <sip:a@b>;tag=1',
    'To: <sip:c@d>',
    'Call-ID: x',
    `CSeq: ${cseq}`,
  ];
  const kept = head.filter((l) => without === '' || !l.startsWith(without)).map((l) => `${l}\r\n`);
  return `${start}\r\n${kept.join('')}${lines}\r\n${body}`;
}

describe('the verdict of', () => {
  const verdicts: [what: string, parts: Parts, verdict: number][] = [
    ['a plain request', {}, OK],
    [
      'a request of a method that nobody knows',
      { start: 'FOO_1.%x sip:c@d SIP/2.0', cseq: '1 FOO_1.%x' },
      OK,
    ],
    ['a request with a URI of another scheme', { start: 'OPTIONS soap.beep://x SIP/2.0' }, OK],
    ['a version in lower case', { start: 'OPTIONS sip:c@d sip/2.0' }, OK],
    ['a response', { start: 'SIP/2.0 180 Ringing' }, OK],
    ['a response with an empty reason', { start: 'SIP/2.0 180 ' }, OK],
    ['a response without a reason', { start: 'SIP/2.0 180' }, OK],
    ['a response with any octets as its reason', { start: 'SIP/2.0 200 = \xd0\xbf 2**3' }, OK],
    ['a status of four digits', { start: 'SIP/2.0 2000 OK' }, BAD_START_LINE],
    ['a status of two digits', { start: 'SIP/2.0 20 OK' }, BAD_START_LINE],
    ['a status below 100', { start: 'SIP/2.0 099 OK' }, BAD_START_LINE],
    ['a status above 699', { start: 'SIP/2.0 700 OK' }, BAD_START_LINE],
    ['a request of another version', { start: 'OPTIONS sip:c@d SIP/7.0' }, BAD_VERSION],
    ['a request of a longer version', { start: 'OPTIONS sip:c@d SIP/2.00' }, BAD_VERSION],
    ['two blanks before the URI', { start: 'OPTIONS  sip:c@d SIP/2.0' }, BAD_START_LINE],
    ['two blanks behind the URI', { start: 'OPTIONS sip:c@d  SIP/2.0' }, BAD_START_LINE],
    ['a blank behind the version', { start: 'OPTIONS sip:c@d SIP/2.0 ' }, BAD_START_LINE],
    ['a blank inside the URI', { start: 'OPTIONS sip:c@d; lr SIP/2.0' }, BAD_START_LINE],
    ['no version', { start: 'OPTIONS sip:c@d' }, BAD_START_LINE],
    ['HTTP', { start: 'GET / HTTP/1.1' }, BAD_START_LINE],
    ['a start line that is a header', { start: 'Via: SIP/2.0/UDP x' }, NOT_SIP],
    ['a method alone', { start: 'OPTIONS' }, NOT_SIP],
    ['a method with octets that it may not have', { start: 'OPT@ONS sip:c@d SIP/2.0' }, BAD_START_LINE],
    ['no Via', { without: 'Via' }, MISSING_HEADER],
    ['no From', { without: 'From' }, MISSING_HEADER],
    ['no To', { without: 'To' }, MISSING_HEADER],
    ['no Call-ID', { without: 'Call-ID' }, MISSING_HEADER],
    ['no CSeq', { without: 'CSeq' }, MISSING_HEADER],
    ['two To', { lines: 't: <sip:e@f>\r\n' }, DUPLICATE_HEADER],
    ['two From', { lines: 'From: <sip:e@f>;tag=2\r\n' }, DUPLICATE_HEADER],
    ['two Call-ID', { lines: 'i: y\r\n' }, DUPLICATE_HEADER],
    ['two CSeq', { lines: 'CSeq: 7 OPTIONS\r\n' }, DUPLICATE_HEADER],
    ['two Max-Forwards', { lines: 'Max-Forwards: 7\r\nMax-Forwards: 7\r\n' }, DUPLICATE_HEADER],
    ['a CSeq of another method', { cseq: '7 INVITE' }, BAD_CSEQ],
    ['a CSeq of another unknown method', { start: 'FOO sip:c@d SIP/2.0', cseq: '7 FOP' }, BAD_CSEQ],
    ['a CSeq whose method differs in case', { cseq: '7 options' }, BAD_CSEQ],
    ['a CSeq without a number', { cseq: 'OPTIONS' }, BAD_CSEQ],
    ['a CSeq without a method', { cseq: '7' }, BAD_CSEQ],
    ['a CSeq in one word', { cseq: '7OPTIONS' }, BAD_CSEQ],
    ['a CSeq with something behind it', { cseq: '7 OPTIONS x' }, BAD_CSEQ],
    ['the largest CSeq', { cseq: `${2 ** 31 - 1} OPTIONS` }, OK],
    ['a CSeq of 2^31', { cseq: `${2 ** 31} OPTIONS` }, BAD_CSEQ],
    ['a CSeq of twenty digits', { cseq: '36893488147419103232 OPTIONS' }, BAD_CSEQ],
    ['a CSeq with leading zeros', { cseq: '0000000000000009 OPTIONS' }, OK],
    ['a negative CSeq', { cseq: '-1 OPTIONS' }, BAD_CSEQ],
    ['Max-Forwards 255', { lines: 'Max-Forwards: 255\r\n' }, OK],
    ['Max-Forwards 256', { lines: 'Max-Forwards: 256\r\n' }, BAD_MAX_FORWARDS],
    ['Max-Forwards that is no number', { lines: 'Max-Forwards: 7a\r\n' }, BAD_MAX_FORWARDS],
    ['an empty Max-Forwards', { lines: 'Max-Forwards:\r\n' }, BAD_MAX_FORWARDS],
    ['a negative Content-Length', { lines: 'l: -1\r\n' }, BAD_CONTENT_LENGTH],
    ['two Content-Length that differ', { lines: 'l: 0\r\nl: 1\r\n', body: 'x' }, BAD_CONTENT_LENGTH],
    ['two Content-Length that are equal', { lines: 'l: 1\r\nl: 01\r\n', body: 'x' }, OK],
    ['a Content-Length beyond the end', { lines: 'l: 2\r\n', body: 'x' }, BAD_CONTENT_LENGTH],
    ['a header without a colon', { lines: 'Foo\r\n' }, BAD_HEADER],
    ['a header without a name', { lines: ': foo\r\n' }, BAD_HEADER],
    ['a header name with a blank in it', { lines: 'Fo o: x\r\n' }, BAD_HEADER],
    ['a line that ends in LF alone', { lines: 'Foo: a\nBar: b\r\n' }, BAD_HEADER],
    ['a value that begins with LF alone', { lines: 'Foo: \nBar: b\r\n' }, BAD_HEADER],
    ['a line that ends in CR alone', { lines: 'Foo: a\rBar: b\r\n' }, BAD_HEADER],
    ['a null octet in a value', { lines: 'Foo: a\0b\r\n' }, BAD_HEADER],
    ['a null octet as a quoted-pair', { lines: 'Foo: "\\\0\\\x07\\\x1f"\r\n' }, OK],
    ['a line feed as a quoted-pair', { lines: 'Foo: "\\\n"\r\n' }, BAD_HEADER],
    ['a fold that the end of the line escapes', { lines: 'Foo: "\\\r\n "\r\n' }, OK],
    ['a fold as the first line', { start: 'OPTIONS sip:c@d SIP/2.0\r\n x' }, BAD_HEADER],
    ['a broken Date', { lines: 'Date: Fri, 01 Jan 2010 16:00:00 EST\r\n' }, OK],
  ];

  it.each(verdicts)('%s [3261-16.3-02]', (_, parts, verdict) => {
    expect(lex(message(parts)).verdict).toBe(verdict);
  });

  it('a message whose head has no end is NO_END wherever it is cut', () => {
    const whole = message({ lines: 'X:\r\n y\r\n' });
    for (let end = 30; end < whole.length; end++)
      expect([end, lex(whole.slice(0, end)).verdict]).toEqual([end, NO_END]);
    expect(lex(whole).verdict).toBe(OK);
  });

  it('a refused request keeps what an answer needs', () => {
    for (const [what, parts, verdict] of verdicts) {
      if (verdict === OK || verdict === NOT_SIP || parts.without || /@ONS|\n x/.test(parts.start ?? ''))
        continue;
      if (parts.start?.startsWith('SIP/2.0')) continue;
      const { m } = lex(message(parts));
      expect([what, m.has(VIA), m.isRequest]).toEqual([what, true, true]);
      expect(statusOf(verdict).status).toBe(verdict === BAD_VERSION ? 505 : 400);
    }
  });
});

describe('numbers of the message', () => {
  it('are read from the start line, CSeq, Max-Forwards and Content-Length', () => {
    const { m } = lex(
      message({
        start: 'REGISTER sip:d SIP/2.0',
        cseq: '  42\t REGISTER',
        lines: 'Max-Forwards: 0068\r\nl: 3\r\n',
        body: 'abc',
      }),
    );
    expect([m.method, m.cseqMethod, m.cseqNumber, m.maxForwards, m.contentLength]).toEqual([
      REGISTER,
      REGISTER,
      42,
      68,
      3,
    ]);
    expect(text(m, m.cseqMethodStart, m.cseqMethodEnd)).toBe('REGISTER');
    const response = lex(message({ start: 'SIP/2.0 487 No' })).m;
    expect([response.isRequest, response.status, response.cseqMethod]).toEqual([false, 487, OPTIONS]);
  });

  it('a datagram ends where Content-Length says [3261-18.3-01]', () => {
    const parts = { lines: 'l: 3\r\n', body: 'abcOPTIONS sip:evil SIP/2.0\r\n' };
    const { m } = lex(message(parts), true);
    expect(text(m, m.bodyStart, m.end)).toBe('abc');
    // a stream's framer has cut it already
    expect(lex(message(parts)).m.end).toBe(PAD + message(parts).length);
    const without = lex(message({ body: 'abc' }), true).m;
    expect(text(without, without.bodyStart, without.end)).toBe('abc');
  });
});

describe('limits', () => {
  const header = (octets: number) => `X: ${'x'.repeat(octets - 5)}\r\n`;

  it('a start line of the limit passes; one octet more is 513, and its answer has a Via', () => {
    const start = (octets: number) => `OPTIONS sip:${'x'.repeat(octets - 20)} SIP/2.0`;
    expect(start(MAX_START_LINE)).toHaveLength(MAX_START_LINE);
    expect(lex(message({ start: start(MAX_START_LINE) })).verdict).toBe(OK);
    const { m, verdict } = lex(message({ start: start(MAX_START_LINE + 1) }));
    expect([verdict, m.has(VIA), statusOf(verdict).status]).toEqual([TOO_LARGE, true, 513]);
  });

  it('a header line of the limit passes, one octet more does not', () => {
    expect(lex(message({ lines: header(MAX_HEADER_LINE) })).verdict).toBe(OK);
    expect(lex(message({ lines: header(MAX_HEADER_LINE + 1) })).verdict).toBe(TOO_LARGE);
  });

  it('as many headers as the table has rows pass, one more does not', () => {
    expect(lex(message({ lines: 'X: y\r\n'.repeat(MAX_HEADERS - 5) })).verdict).toBe(OK);
    const { m, verdict } = lex(message({ lines: 'X: y\r\n'.repeat(MAX_HEADERS - 4) }));
    expect([verdict, m.count, m.has(VIA)]).toEqual([TOO_LARGE, MAX_HEADERS, true]);
  });

  it('a head past the limit is too large', () => {
    expect(lex(message({ lines: header(16_000) + header(16_000) })).verdict).toBe(OK);
    expect(lex(message({ lines: header(16_000) + header(16_000) + header(MAX_HEAD - 32_000) })).verdict).toBe(
      TOO_LARGE,
    );
  });
});

describe('hostile octets', () => {
  it('ends at the first octet that it may not hold, wherever it and the message stand in memory', () => {
    const octet = fc.oneof(
      { weight: 12, arbitrary: fc.integer({ min: 32, max: 255 }) },
      { weight: 3, arbitrary: fc.constant(9) },
      { weight: 1, arbitrary: fc.constantFrom(0, 1, 10, 13, 31, 0x1f, 0x7f, 0x80, 0xa0) },
    );
    const value = fc.array(octet, { maxLength: 24 }).map((list) => Buffer.from(list).toString('latin1'));
    const end = 'f: <sip:a>;tag=a\r\nt: <sip:b>\r\ni: c\r\nCSeq: 1 OPTIONS\r\n\r\n';
    fc.assert(
      fc.property(value, fc.nat(9), fc.nat(3), (held, at, behind) => {
        const octets = latin1(`OPTIONS sip:a SIP/2.0\r\nX:${held}\r\nv: SIP/2.0/UDP h\r\n${end}`);
        // memory that ends with the message's sentinel or a little behind it, whose length is no multiple of four
        const memory = new Uint8Array(at + octets.length + 1 + behind);
        const buf = memory.subarray(at % 4);
        const start = at - (at % 4);
        buf.set(octets, start);
        const m = new Message();
        const verdict = m.lex(buf, start, start + octets.length, false);
        const whole = latin1(held).every((c) => c >= 32 || c === 9);
        if (!/[\\\r\n]/.test(held)) expect(verdict).toBe(whole ? OK : BAD_HEADER);
        if (verdict === OK)
          expect(text(m, m.valueStart[0], m.valueEnd[0])).toBe(held.replace(/^[ \t\r\n]+|[ \t\r\n]+$/g, ''));
      }),
      { numRuns: 1000 },
    );
  });

  const pieces = fc.constantFrom(
    '\r\n',
    '\r',
    '\n',
    ' ',
    '\t',
    ':',
    'SIP/2.0',
    'OPTIONS',
    'sip:a',
    'CSeq',
    'l',
    'Via',
    '7',
    '\0',
    '\\',
    ',',
    ';',
    '"',
    '<',
    '\xff',
    '1'.repeat(12),
  );
  const soup = fc.oneof(
    fc.uint8Array({ maxLength: 400 }).map((octets) => Buffer.from(octets).toString('latin1')),
    fc.array(pieces, { maxLength: 60 }).map((parts) => parts.join('')),
    fc
      .tuple(fc.array(pieces, { maxLength: 40 }), fc.constantFrom('', '\r\n\r\n'))
      .map(([parts, end]) => `${message().slice(0, -2)}${parts.join('')}${end}`),
    fc.tuple(fc.nat(140), pieces).map(([at, by]) => message().slice(0, at) + by + message().slice(at + 1)),
  );

  it('never throw, never change a byte, never give an offset outside the message', () => {
    const m = new Message();
    fc.assert(
      fc.property(soup, fc.boolean(), (octets, datagram) => {
        const { verdict } = lex(octets, datagram, m);
        const end = PAD + octets.length;
        expect(verdict).toBeGreaterThanOrEqual(OK);
        expect(verdict).toBeLessThanOrEqual(NOT_SIP);
        expect(m.count).toBeLessThanOrEqual(MAX_HEADERS);
        let at = PAD;
        for (let i = 0; i < m.count; i++) {
          expect(m.lineStart[i]).toBeGreaterThanOrEqual(at);
          expect(m.nameEnd[i]).toBeGreaterThan(m.lineStart[i]);
          expect(m.valueStart[i]).toBeGreaterThan(m.nameEnd[i]);
          expect(m.valueEnd[i]).toBeGreaterThanOrEqual(m.valueStart[i]);
          expect(m.lineEnd[i]).toBeGreaterThan(m.valueEnd[i]);
          at = m.lineEnd[i];
        }
        expect(at).toBeLessThanOrEqual(end);
        expect(m.end).toBeLessThanOrEqual(end);
        if (verdict === OK) expect(m.bodyStart).toBeLessThanOrEqual(m.end);
      }),
      { numRuns: 2000 },
    );
  });
});
