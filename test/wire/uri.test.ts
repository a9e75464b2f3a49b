import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  canonicalAor,
  canonicalUri,
  equalUri,
  formatUri,
  parseSipUri,
  parseUri,
  type SipUri,
  uriParam,
} from '../../src/wire/uri.ts';

const sip = (text: string): SipUri => {
  const uri = parseSipUri(text);
  if (!uri) throw new Error(`not a SIP URI: ${text}`);
  return uri;
};

describe('a SIP URI is taken apart', () => {
  it('in all its components', () => {
    expect(
      parseUri('sips:alice;day=tuesday:secret@Atlanta.com:5061;transport=tcp;lr?subject=a%20b&to=c'),
    ).toEqual({
      scheme: 'sips',
      user: 'alice;day=tuesday',
      password: 'secret',
      host: 'Atlanta.com',
      port: 5061,
      params: [
        ['transport', 'tcp'],
        ['lr', undefined],
      ],
      headers: [
        ['subject', 'a%20b'],
        ['to', 'c'],
      ],
    });
  });

  it('with an IPv6 reference', () => {
    expect(sip('sip:[2001:db8::1]:5070')).toMatchObject({ host: '[2001:db8::1]', port: 5070 });
  });

  it('with an empty password, and without a user', () => {
    expect(sip('sip:a:@b').password).toBe('');
    expect(sip('sip:b').user).toBeUndefined();
  });

  it('with parameters whose names fold and that may have no value [GR-11.3-01]', () => {
    expect(uriParam(sip('sip:a@b;OB'), 'ob')).toBe('');
    expect(uriParam(sip('sip:a@b;ob=1'), 'ob')).toBe('1');
    expect(uriParam(sip('sip:a@b;obx'), 'ob')).toBeUndefined();
  });

  it('and of another scheme only the scheme is known', () => {
    expect(parseUri('TEL:+1-201-555-0123')).toEqual({ scheme: 'tel', opaque: '+1-201-555-0123' });
    expect(parseSipUri('tel:+1')).toBeUndefined();
  });

  it.each([
    '',
    'sip:',
    'sip:@b',
    'sip:a@',
    'alice@b',
    'sip:a@b:0',
    'sip:a@b:65536',
    'sip:a@b:5060x',
    'sip:a@b:',
    'sip:a b@c',
    'sip:a@b c',
    'sip:a<@b',
    'sip:a@b>;x',
    'sip:a"@b',
    'sip:a\r\nX: y@b',
    'sip:a%4@b',
    'sip:a%zz@b',
    'sip:a@b%41',
    'sip:a@[::1',
    'sip:a@[zz::1]',
    'sip:a@::1',
    'sip:a@b?subject',
    'sip:a@b;=x',
    'sip:a@-b',
    'sip:a@b..c',
    `sip:a@${'h'.repeat(256)}`,
  ])('and %j is none', (text) => {
    expect(parseUri(text)).toBeUndefined();
  });
});

// The examples of RFC 3261 19.1.4.
describe('two URIs are the same', () => {
  it.each([
    ['sip:%61lice@atlanta.com;transport=TCP', 'sip:alice@AtLanTa.CoM;Transport=tcp'],
    ['sip:carol@chicago.com', 'sip:carol@chicago.com;newparam=5'],
    ['sip:carol@chicago.com', 'sip:carol@chicago.com;security=on'],
    [
      'sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com',
      'sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com',
    ],
    [
      'sip:alice@atlanta.com?subject=project%20x&priority=urgent',
      'sip:alice@atlanta.com?priority=urgent&subject=project%20x',
    ],
    ['sip:a@[2001:DB8::1]', 'sip:a@[2001:db8:0:0:0:0:0:1]'],
    ['tel:+1', 'tel:+1'],
  ])('%s, %s', (a, b) => {
    expect(equalUri(parseUri(a)!, parseUri(b)!)).toBe(true);
    expect(equalUri(parseUri(b)!, parseUri(a)!)).toBe(true);
  });

  it.each([
    ['SIP:ALICE@AtLanTa.CoM;Transport=udp', 'sip:alice@AtLanTa.CoM;Transport=UDP'],
    ['sip:bob@biloxi.com', 'sip:bob@biloxi.com:5060'],
    ['sip:bob@biloxi.com', 'sip:bob@biloxi.com;transport=udp'],
    ['sip:bob@biloxi.com', 'sip:bob@biloxi.com:6000;transport=tcp'],
    ['sip:carol@chicago.com', 'sip:carol@chicago.com?Subject=next%20meeting'],
    ['sip:bob@phone21.boxesbybob.com', 'sip:bob@192.0.2.4'],
    ['sip:carol@chicago.com;security=on', 'sip:carol@chicago.com;security=off'],
    ['sip:a@b', 'sips:a@b'],
    ['sip:a@b', 'sip:b'],
    ['sip:a:@b', 'sip:a@b'],
    ['sip:a%3Bx@b', 'sip:a;x@b'],
    ['sip:a@b;maddr=1.2.3.4', 'sip:a@b'],
    ['sip:a@b', 'tel:+1'],
  ])('but not %s, %s', (a, b) => {
    expect(equalUri(parseUri(a)!, parseUri(b)!)).toBe(false);
    expect(equalUri(parseUri(b)!, parseUri(a)!)).toBe(false);
    expect(canonicalUri(parseUri(a)!)).not.toBe(canonicalUri(parseUri(b)!));
  });

  it('in one canonical text whatever the case, the escapes and the order', () => {
    const text = canonicalUri(parseUri('sip:%61lice@atlanta.com;transport=TCP;ob?b=1&a=2')!);
    expect(text).toBe('sip:alice@atlanta.com;ob;transport=tcp?a=2&b=1');
    expect(canonicalUri(parseUri('sip:alice@AtLanTa.CoM;OB;Transport=tcp?a=2&b=1')!)).toBe(text);
  });
});

describe('an address-of-record has one canonical form', () => {
  it.each([
    ['sip:alice@Example.COM', 'sip:alice@example.com'],
    ['sip:Alice@example.com', 'sip:Alice@example.com'],
    ['sips:alice@example.com', 'sip:alice@example.com'],
    ['sip:alice:pw@example.com:5080;user=phone;x=1?subject=y', 'sip:alice@example.com'],
    ['sip:%61l%69ce@example.com.', 'sip:alice@example.com'],
    ['sip:a%3Bb@example.com', 'sip:a;b@example.com'],
    ['sip:a%40b@example.com', 'sip:a%40b@example.com'],
    ['sip:null-%00-null@example.com', 'sip:null-%00-null@example.com'],
    ['sip:%c3%a9@example.com', 'sip:%C3%A9@example.com'],
    ['sip:example.com', 'sip:example.com'],
    ['sip:a@[2001:DB8:0::1]', 'sip:a@[2001:db8::1]'],
  ])('%s -> %s [3261-10.3-01]', (text, aor) => {
    expect(canonicalAor(sip(text))).toBe(aor);
    expect(canonicalAor(sip(aor))).toBe(aor);
  });
});

describe('whatever octets come', () => {
  const anything = fc.oneof(
    fc.string({ unit: 'binary-ascii' }),
    fc.string({ unit: 'binary' }),
    fc.string({ unit: fc.constantFrom(...'ab1%4;=?&:@[].-"<> \r\n') }),
  );
  const urlish = anything.chain((tail) => fc.constantFrom(tail, `sip:${tail}`, `sips:a@${tail}`));

  it('nothing throws, and what is accepted is stable and can stand in a header', () => {
    fc.assert(
      fc.property(urlish, (text) => {
        const uri = parseUri(text);
        if (!uri) return;
        const written = formatUri(uri);
        expect(written).toMatch(/^[!#-;=?-~]+$/);
        expect(parseUri(written)).toEqual(uri);
        expect(equalUri(uri, parseUri(written)!)).toBe(true);
        canonicalUri(uri);
      }),
      { numRuns: 3_000 },
    );
  });

  it('a canonical AOR is its own canonical AOR', () => {
    const user = fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(user, (octets) => {
        const escaped = octets.map((octet) => `%${octet.toString(16).padStart(2, '0')}`).join('');
        const aor = canonicalAor(sip(`sip:${escaped}@example.com`));
        expect(canonicalAor(sip(aor))).toBe(aor);
        expect(aor.length).toBeLessThanOrEqual('sip:@example.com'.length + escaped.length);
      }),
      { numRuns: 1_000 },
    );
  });

  it('URIs with one canonical text are equal', () => {
    const part = fc.constantFrom('alice', '%61lice', 'ALICE', 'a;b', 'a%3bb');
    const host = fc.constantFrom('h.example', 'H.EXAMPLE', '[::1]', '[0:0::1]');
    const params = fc.constantFrom('', ';ob', ';OB', ';transport=tcp;x=1', ';x=1;Transport=TCP', ';x=2');
    const uri = fc.tuple(part, host, params).map(([user, h, p]) => sip(`sip:${user}@${h}${p}`));
    fc.assert(
      fc.property(uri, uri, (a, b) => {
        expect(equalUri(a, b)).toBe(equalUri(b, a));
        if (canonicalUri(a) === canonicalUri(b)) expect(equalUri(a, b)).toBe(true);
      }),
    );
  });
});
