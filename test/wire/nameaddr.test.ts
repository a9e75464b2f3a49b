import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  formatNameAddr,
  headerParam,
  parseDeltaSeconds,
  parseNameAddr,
  parseNameAddrList,
  parseOptionTags,
  parseQ,
  splitList,
  unquote,
} from '../../src/wire/nameaddr.ts';

describe('a header value is a list', () => {
  it('split at commas outside quoted strings and brackets [3261-7.3-01]', () => {
    expect(splitList('"a, \\", b" <sip:a,b@c>;x="1,2" , <sip:d@e>,')).toEqual([
      '"a, \\", b" <sip:a,b@c>;x="1,2"',
      '<sip:d@e>',
    ]);
  });

  it.each(['"open', '<sip:a@b', 'a, "b\\"', 'a\r\nb', 'a\0'])('but not if it is %j', (value) => {
    expect(splitList(value)).toBeUndefined();
  });

  it('folded lines count as blanks', () => {
    const [contact] = parseNameAddrList(
      '<sip:dora@198.51.100.7:40002>;reg-id=1\r\n ;+sip.instance="<urn:x:y>"',
    )!;
    expect(contact.params).toEqual([
      ['reg-id', '1'],
      ['+sip.instance', '"<urn:x:y>"'],
    ]);
  });

  it('option tags fold and what is no token is skipped', () => {
    expect(parseOptionTags(['path, OUTBOUND', 'a b, gruu'])).toEqual(['path', 'outbound', 'gruu']);
  });
});

describe('a name-addr or addr-spec is taken apart', () => {
  it('with a quoted display name', () => {
    expect(parseNameAddr('"Mr. \\"X\\" \\\\ <y>" <sip:a@b;lr>;tag=1;flag')).toEqual({
      display: 'Mr. "X" \\ <y>',
      uri: 'sip:a@b;lr',
      params: [
        ['tag', '1'],
        ['flag', undefined],
      ],
    });
  });

  it('with tokens as display name, or none', () => {
    expect(parseNameAddr('Anna Bell <sip:a@b>')).toMatchObject({ display: 'Anna Bell', uri: 'sip:a@b' });
    expect(parseNameAddr('<sip:a@b>')).toEqual({ uri: 'sip:a@b', params: [] });
  });

  it('without brackets, where parameters belong to the header', () => {
    expect(parseNameAddr('sip:a@b;transport=tcp;+sip.instance="<urn:uuid:1>"')).toEqual({
      uri: 'sip:a@b',
      params: [
        ['transport', 'tcp'],
        ['+sip.instance', '"<urn:uuid:1>"'],
      ],
    });
  });

  it('parameters may have blanks around and names fold', () => {
    const { params } = parseNameAddr('<sip:a@b> ; Expires = 60 ; Q=0.5')!;
    expect(headerParam(params, 'expires')).toBe('60');
    expect(headerParam(params, 'q')).toBe('0.5');
    expect(headerParam(params, 'x')).toBeUndefined();
  });

  it.each([
    '',
    '<>',
    '<sip:a@b',
    'sip:a@b>',
    '<sip:a b@c>',
    '"x <sip:a@b>',
    'a@b c',
    '<sip:a@b>x',
    '<sip:a@b>;=1',
    '<sip:a@b>;x=a b',
    '<sip:a@b>;x="',
    'a(b <sip:a@b>',
    'sip:a@b?x=y',
  ])('but %j is none', (text) => {
    expect(parseNameAddr(text)).toBeUndefined();
  });

  it('one bad member spoils the list', () => {
    expect(parseNameAddrList('<sip:a@b>, <sip:c')).toBeUndefined();
    expect(parseNameAddrList('<sip:a@b>, c d')).toBeUndefined();
    expect(parseNameAddrList(' , ')).toBeUndefined();
  });
});

describe('numbers', () => {
  it('delta-seconds are digits, and too large ones are the largest', () => {
    expect(parseDeltaSeconds(' 3600 ')).toBe(3600);
    expect(parseDeltaSeconds('99999999999999999999')).toBe(2 ** 32 - 1);
    for (const bad of ['', '-1', '1.5', '0x10', '1e3', 'abc']) expect(parseDeltaSeconds(bad)).toBeUndefined();
  });

  it('q is 0 to 1 with three digits', () => {
    expect(['0', '1', '0.5', '0.123', '1.000', '0.'].map(parseQ)).toEqual([0, 1000, 500, 123, 1000, 0]);
    for (const bad of ['', '1.1', '2', '-0', '0.1234', '.5', 'x']) expect(parseQ(bad)).toBeUndefined();
  });

  it('a quoted string is one string with its escapes resolved', () => {
    expect(unquote('"a\\"b"')).toBe('a"b');
    for (const bad of ['a', '"a', '"a"b"', '"a\\"']) expect(unquote(bad)).toBeUndefined();
  });
});

describe('whatever octets come', () => {
  const anything = fc.oneof(
    fc.string({ unit: 'binary-ascii' }),
    fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((octet) => String.fromCharCode(octet)) }),
    fc.string({ unit: fc.constantFrom(...'ab:@;=,"\\<> \t\r\n') }),
    fc.string({ unit: fc.constantFrom('<', '>', 'sip:a@b', ';x', '="', '"', ',', ' ', '\r\n ') }),
  );

  it('nothing throws, and what is accepted is stable and holds no line end', () => {
    fc.assert(
      fc.property(anything, (text) => {
        for (const address of parseNameAddrList(text) ?? []) {
          const written = formatNameAddr(address);
          expect(written).not.toMatch(/[\r\n\0]/);
          expect(parseNameAddrList(written)).toEqual([address]);
        }
      }),
      { numRuns: 5_000 },
    );
  });

  it('a value of blanks or semicolons, however long, is read in linear steps', () => {
    expect(parseNameAddrList(`${' '.repeat(200_000)}\r\n x y`)).toBeUndefined();
    expect(parseNameAddr(`<sip:a@b>${';'.repeat(200_000)}`)?.params).toEqual([]);
  });
});
