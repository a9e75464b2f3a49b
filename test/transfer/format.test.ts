/** The file of `holdfast bindings`, line by line: nothing is lost, and nothing bad comes in. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatAor, formatEnd, formatHeader, parseHeader, parseLine } from '../../src/transfer/format.ts';
import { lines } from '../../src/transfer/lines.ts';
import { arbitraryBinding } from './arbitrary.ts';

const AOR = 'sip:dora@example.net';

it('a line gives back the bindings that it was made of, those that registered first in front', () => {
  fc.assert(
    fc.property(fc.array(arbitraryBinding(fc.nat()), { maxLength: 4 }), (bindings) => {
      const line = formatAor(AOR, bindings);
      expect(line.indexOf('\n')).toBe(line.length - 1);
      expect(parseLine(line.trim())).toEqual({
        kind: 'aor',
        aor: AOR,
        bindings: bindings.toSorted((a, b) => a.order - b.order),
      });
    }),
  );
});

it('header and end give back what they were made of', () => {
  const header = { time: '2026-11-24T12:00:00.000Z', node: 7, from: 'lmdb in x' };
  expect(parseHeader(formatHeader(header))).toEqual(header);
  expect(parseHeader(formatHeader({ ...header, aors: 5 }))).toEqual({ ...header, aors: 5 });
  expect(parseLine(formatEnd(3, 4))).toEqual({ kind: 'end', aors: 3, bindings: 4 });
});

it.each([
  ['', 'no file of'],
  ['{"holdfast":"users","version":1}', 'no file of'],
  ['{"holdfast":"bindings","version":2}', 'version 2'],
])('a header that is none: %j', (line, why) => {
  expect(parseHeader(line)).toMatch(why);
});

describe('a malformed line says what is wrong with it', () => {
  const good = {
    contact: 'sip:d@192.0.2.1',
    params: [['reg-id', '1']],
    instance: 'urn:x:1',
    regId: 1,
    q: 1000,
    path: ['<sip:t@edge;lr;ob>'],
    callId: 'c',
    cseq: 1,
    expiresAt: 2e12,
    updatedAt: 1,
    order: 1,
  };
  const line = (changes: object, aor: unknown = AOR) =>
    JSON.stringify({ aor, bindings: [{ ...good, ...changes }] });

  it('and a good one has nothing wrong', () => {
    expect(parseLine(line({}))).toMatchObject({ aor: AOR, bindings: [{ key: 'o:urn:x:1;1' }] });
    expect(parseLine(line({ userAgent: 'folded\r\n in two' }))).toMatchObject({ kind: 'aor' });
    expect(parseLine(line({}, 'SIP:dora@EXAMPLE.net:5060;x=y'))).toMatchObject({ kind: 'aor' });
  });

  it.each<[string, string]>([
    ['not a JSON object', '{"aor":"sip:a@h","bindi'],
    ['not a JSON object', '[]'],
    ['aor', line({}, 7)],
    ['aor', line({}, 'mailto:dora@example.net')],
    ['aor', line({}, 'sip:a@h\r\nEvil: 1')],
    ['bindings', JSON.stringify({ aor: AOR })],
    ['contact', line({ contact: 'x\r\nEvil: 1' })],
    ['contact', line({ contact: undefined })],
    ['params', line({ params: [['a', '1\r\nEvil: 1']] })],
    ['params', line({ params: [['a', '1, <sip:mallory@192.0.2.66>']] })],
    ['params', line({ params: [['a;b', null]] })],
    ['params', line({ params: 'reg-id=1' })],
    ['instance', line({ instance: 'urn:x:1>";q=1;x="<' })],
    ['instance: missing', line({ instance: null })],
    ['regId', line({ regId: -1 })],
    ['regId', line({ regId: '1' })],
    ['q', line({ q: 1001 })],
    ['path', line({ path: ['<sip:a'] })],
    ['path', line({ path: ['<sip:a@h>\r\nEvil: 1'] })],
    ['callId', line({ callId: 'a\r\nb' })],
    ['cseq', line({ cseq: 2 ** 32 })],
    ['cseq', line({ cseq: 1.5 })],
    ['expiresAt', line({ expiresAt: '2027-01-01' })],
    ['order', line({ order: Number.MAX_SAFE_INTEGER })],
    ['flow', line({ flow: '1.1.7.s' })],
    ['flow', line({ flow: '1/1.1.7.x' })],
    ['userAgent', line({ userAgent: 'a\nb' })],
    ['counts', '{"end":true}'],
  ])('%s: %s', (why, text) => {
    expect(parseLine(text)).toEqual(expect.stringContaining(why));
  });
});

describe('lines of a stream', () => {
  const all = async (chunks: Buffer[], longest = 50) => {
    const found: [number, string | undefined][] = [];
    async function* stream() {
      yield* chunks;
    }
    for await (const { number, text } of lines(stream(), longest)) found.push([number, text]);
    return found;
  };

  it('are the same however it is cut', async () => {
    const line = fc.string({ unit: fc.constantFrom('a', 'é', '日', ' '), maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(fc.array(line, { maxLength: 6 }), fc.array(fc.nat(200)), async (texts, cuts) => {
        const octets = Buffer.from(texts.map((text) => `${text}\n`).join(''));
        const places = [...new Set([0, ...cuts.filter((cut) => cut < octets.length), octets.length])];
        places.sort((a, b) => a - b);
        const chunks = places.slice(1).map((to, i) => octets.subarray(places[i], to));
        expect(await all(chunks)).toEqual(texts.map((text, i) => [i + 1, text]));
      }),
    );
  });

  it('that are too long are told without their text, and keep their number', async () => {
    const long = Buffer.from('x'.repeat(40));
    expect(await all([Buffer.from('a\n'), long, long, long, Buffer.from('\nb')])).toEqual([
      [1, 'a'],
      [2, undefined],
      [3, 'b'],
    ]);
    expect(await all([long, long])).toEqual([[1, undefined]]);
  });
});
