/** A Via value as offsets, against values that are generated from their parts. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { quotedEnd, TRANSPORTS, transportCode, UDP, Via } from '../../src/wire/via.ts';

const latin1 = (text: string) => Buffer.from(text, 'latin1');
const PAD = 5;

/** Parses where other octets stand around the value, some of which would go on with it. */
function parse(
  text: string,
  behind = ';branch=x]/:1"',
): { via: Via; ok: boolean; at: (from: number, to: number) => string } {
  const buf = Buffer.concat([latin1('SIP/2'), latin1(text), latin1(behind)]);
  const via = new Via();
  const ok = via.parse(buf, PAD, PAD + text.length);
  return { via, ok, at: (from, to) => buf.toString('latin1', from, to) };
}

const sp = fc.constantFrom('', ' ', '\t', '\r\n ', '  ');
const token = fc.stringMatching(/^[A-Za-z0-9\-.!%*_+`'~]{1,12}$/);
const host = fc.oneof(
  fc.domain(),
  fc.ipV4(),
  fc.ipV6().map((h) => `[${h}]`),
  fc.constantFrom('my_host', 'a'),
);
const NAMES = ['branch', 'received', 'rport', 'maddr', 'keep'];
const other = fc
  .tuple(
    token,
    fc.oneof(token, fc.constantFrom('"a;b,c\\"=d"', '[::1]', '[::1]:5060'), fc.constant(undefined)),
  )
  .filter(([name]) => !NAMES.includes(name.toLowerCase()));
const param = fc.oneof(
  other,
  fc.tuple(fc.constantFrom('branch', 'Branch'), token),
  fc.tuple(fc.constantFrom('received', 'RECEIVED'), fc.oneof(fc.ipV4(), fc.ipV6())),
  fc.tuple(fc.constantFrom('rport', 'rPort'), fc.oneof(fc.constant(undefined), fc.nat(65535).map(String))),
  fc.tuple(fc.constant('maddr'), fc.ipV4()),
  fc.tuple(fc.constant('keep'), fc.oneof(fc.constant(undefined), fc.nat(9999).map(String))),
);

describe('a Via value', () => {
  it('is read in all its parts, with white space wherever the grammar allows it', () => {
    const cases = fc.record({
      transport: fc.oneof(fc.constantFrom('UDP', 'tcp', 'Tls', 'WS', 'wss'), token),
      host,
      port: fc.option(fc.integer({ min: 1, max: 65535 }), { nil: undefined }),
      params: fc.uniqueArray(param, { maxLength: 6, selector: ([name]) => name.toLowerCase() }),
      blanks: fc.array(sp, { minLength: 30, maxLength: 30 }),
      more: fc.constantFrom('', ',', ', SIP/2.0/UDP next;branch=z9hG4bKnext'),
    });
    fc.assert(
      fc.property(cases, ({ transport, host, port, params, blanks, more }) => {
        let i = 0;
        const gap = () => blanks[i++ % 30];
        let text = `${gap()}SIP${gap()}/${gap()}2.0${gap()}/${gap()}${transport} ${gap()}${host}`;
        const hostPort = text.length;
        if (port !== undefined) text += `${gap()}:${gap()}${port}`;
        const sentByEnd = port === undefined ? hostPort : text.length;
        text += gap();
        const from = new Map<string, number>();
        for (const [name, value] of params) {
          from.set(name.toLowerCase(), text.length);
          text += `;${gap()}${name}`;
          if (value !== undefined) text += `${gap()}=${gap()}${value}`;
          text += gap();
        }
        const end = text.length;
        const { via, ok, at } = parse(text + more);
        expect(ok).toBe(true);
        const code = TRANSPORTS.indexOf(transport.toUpperCase());
        expect(via.transport).toBe(code < 1 ? 0 : code);
        expect(at(via.hostStart, via.hostEnd)).toBe(host);
        expect(via.port).toBe(port ?? 0);
        expect(via.sentByEnd).toBe(PAD + sentByEnd);
        expect(via.end).toBe(PAD + end);
        const value = (name: string) => params.find(([n]) => n.toLowerCase() === name)?.[1];
        const has = (name: string) => params.some(([n]) => n.toLowerCase() === name);
        const range = (start: number, stop: number) => (start < 0 ? undefined : at(start, stop));
        expect(range(via.branchStart, via.branchEnd)).toBe(value('branch'));
        expect(range(via.maddrStart, via.maddrEnd)).toBe(value('maddr'));
        // an IPv6 address without brackets ends at no character that it may have
        expect(range(via.receivedStart, via.receivedEnd)).toBe(value('received'));
        expect(via.receivedFrom).toBe(has('received') ? PAD + from.get('received')! : -1);
        expect(via.rportFrom).toBe(has('rport') ? PAD + from.get('rport')! : -1);
        expect(via.rport).toBe(has('rport') ? Number(value('rport') ?? 0) : -1);
        expect(via.keepAt >= 0).toBe(has('keep'));
        if (has('keep'))
          expect(at(via.keepAt, via.keepEnd).replace(/[= \t\r\n]/g, '')).toBe(value('keep') ?? '');
      }),
      { numRuns: 500 },
    );
  });

  it.each([
    '',
    'SIP',
    'SIP/2.0',
    'SIP/2.0/',
    'SIP/2.0/UDP',
    'SIP/2.0/UDP ',
    'SIP 2.0/UDP a',
    'SIP/2.0/UDP :5060',
    'SIP/2.0/UDP [::1',
    'SIP/2.0/UDP a:',
    'SIP/2.0/UDP a:0',
    'SIP/2.0/UDP a:65536',
    'SIP/2.0/UDP a:x',
    'SIP/2.0/UDP a b',
    'SIP/2.0/UDP a;',
    'SIP/2.0/UDP a;;branch=z',
    'SIP/2.0/UDP a;=x',
    'SIP/2.0/UDP a;x="',
    'SIP/2.0/UDP a;x="\\"',
    'SIP/2.0/UDP a;x=y z',
    'SIP/2.0/UDP ;branch=z',
  ])('that is malformed is refused: %j', (text) => {
    expect(parse(text).ok).toBe(false);
  });

  it('keeps nothing of the value that was read before', () => {
    const first = latin1('SIP/2.0/UDP a:7;branch=b;received=1.2.3.4;rport=3;maddr=1.2.3.4;keep=1');
    const via = new Via();
    expect(via.parse(first, 0, first.length)).toBe(true);
    const second = latin1('SIP/2.0/UDP a');
    expect(via.parse(second, 0, second.length)).toBe(true);
    expect([
      via.port,
      via.branchStart,
      via.receivedFrom,
      via.receivedStart,
      via.rport,
      via.rportFrom,
      via.maddrStart,
      via.keepAt,
    ]).toEqual([0, -1, -1, -1, -1, -1, -1, -1]);
  });

  it('takes a port in rport that no port can be as none', () => {
    for (const text of ['x', '70000', '"1"']) expect(parse(`SIP/2.0/UDP a;rport=${text}`).via.rport).toBe(0);
  });

  it('of any octets is judged without a throw and without a look beyond its end', () => {
    const piece = fc.constantFrom(
      'SIP',
      '/',
      '2.0',
      'UDP',
      ' ',
      'a',
      ':',
      '5',
      ';',
      '=',
      'branch',
      '"',
      '\\',
      '[',
      ']',
      ',',
      '\r\n ',
      '\0',
      '\xff',
      'rport',
    );
    const text = fc.oneof(
      fc.array(piece, { maxLength: 25 }).map((parts) => parts.join('')),
      fc.array(piece, { maxLength: 15 }).map((parts) => `SIP/2.0/UDP a${parts.join('')}`),
      fc.uint8Array({ maxLength: 60 }).map((octets) => Buffer.from(octets).toString('latin1')),
    );
    fc.assert(
      fc.property(
        text,
        fc.constantFrom('', ';branch=x', '"', ']', '/2.0/UDP a', ' a', '5060', '='),
        (value, behind) => {
          const here = parse(value, behind);
          const alone = parse(value, '');
          expect(here.ok).toBe(alone.ok);
          if (!here.ok) return;
          expect({ ...here.via }).toEqual({ ...alone.via });
          const { via } = here;
          for (const offset of [
            via.hostEnd,
            via.sentByEnd,
            via.branchEnd,
            via.receivedEnd,
            via.rportEnd,
            via.maddrEnd,
            via.keepEnd,
            via.end,
          ])
            expect(offset).toBeLessThanOrEqual(PAD + value.length);
        },
      ),
      { numRuns: 2000 },
    );
  });
});

describe('transports', () => {
  it('have a code in any letter case; what we do not speak has none', () => {
    for (const [code, name] of TRANSPORTS.entries()) {
      if (code === 0) continue;
      for (const text of [name, name.toLowerCase()])
        expect(transportCode(latin1(text), 0, text.length)).toBe(code);
    }
    for (const text of ['', 'SCTP', 'UD', 'UDPX', 'TLS-SCTP'])
      expect(transportCode(latin1(text), 0, text.length)).toBe(0);
    expect(transportCode(latin1('UDP'), 0, 3)).toBe(UDP);
  });
});

describe('a quoted string', () => {
  it.each([
    ['""', 2],
    ['"a"b', 3],
    ['"\\""', 4],
    ['"\\\\"x', 4],
    ['"', -1],
    ['"\\"', -1],
    ['"abc\\', -1],
  ])('%j ends at %i', (text, end) => {
    expect(quotedEnd(latin1(text), 0, text.length)).toBe(end);
  });
});
