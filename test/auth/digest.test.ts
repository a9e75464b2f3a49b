import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ALGORITHMS,
  type Algorithm,
  algorithmOf,
  challengeLines,
  digestOf,
  ha1Of,
  isDigest,
  parseCredentials,
  proves,
  responseOf,
  sameDigest,
} from '../../src/auth/digest.ts';
import { parseNc } from '../../src/auth/nonce.ts';
import { MAX_VALUE, parseAuthValue, quote } from '../../src/auth/params.ts';
import { MAX_NC } from '../../src/shared/nonce-table.ts';

const VECTORS: [Algorithm, string][] = [
  ['MD5', '1b53c8aef28f616068f09e77b4610e75'],
  ['SHA-256', '7bc2f7b4efe70968407c66b68b0ba500d6e2eb3012f91c0515f4269276f0e79b'],
  ['SHA-512-256', '6af03d75eb06f4748df1b0551fa44f51bd41fdd5b0ee4973c222326896686a36'],
];

describe('a response', () => {
  it.each(VECTORS)('of a REGISTER with %s is that of the vector [8760-2.6-02]', (algorithm, response) => {
    const ha1 = ha1Of(algorithm, 'dora', 'example.net', 'tin-whistle-42');
    const covered = {
      method: 'REGISTER',
      uri: 'sip:example.net',
      nonce: 'n0nc3-7f3a91',
      nc: '00000001',
      cnonce: 'c1i3nt',
      qop: 'auth',
    };
    expect(responseOf(algorithm, ha1, covered)).toBe(response);
    expect([isDigest(algorithm, response), isDigest(algorithm, response.toUpperCase())]).toEqual([
      true,
      false,
    ]);
  });

  it.each([
    ['MD5', '8ca523f5e9506fed4657c9700eebdbec'],
    ['SHA-256', '753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1'],
  ] as [Algorithm, string][])('with %s is that of RFC 7616 3.9.1', (algorithm, response) => {
    const covered = {
      method: 'GET',
      uri: '/dir/index.html',
      nonce: '7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v',
      nc: '00000001',
      cnonce: 'f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ',
      qop: 'auth',
    };
    expect(
      responseOf(algorithm, ha1Of(algorithm, 'Mufasa', 'http-auth@example.org', 'Circle of Life'), covered),
    ).toBe(response);
  });

  it('with SHA-512-256 is that of RFC 7616 3.9.2 with the right hash', () => {
    // the response printed there (ae66e67d...) is of SHA-512 cut to 256 bits, which is not SHA-512/256
    const covered = {
      method: 'GET',
      uri: '/doe.json',
      nonce: '5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK',
      nc: '00000001',
      cnonce: 'NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v',
      qop: 'auth',
    };
    const ha1 = ha1Of('SHA-512-256', 'Jäsøn Doe', 'api@example.org', 'Secret, or not?');
    const response = '3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5';
    expect(responseOf('SHA-512-256', ha1, covered)).toBe(response);
    // names come as UTF-8 octets from the wire and as text from a file
    const octets = Buffer.from('Jäsøn Doe', 'utf8').toString('latin1');
    expect(digestOf('SHA-512-256', `${octets}:api@example.org:Secret, or not?`)).toBe(ha1);
  });

  it('without qop is that of RFC 2069', () => {
    const ha1 = ha1Of('MD5', 'Mufasa', 'testrealm@host.com', 'CircleOfLife');
    const covered = {
      method: 'GET',
      uri: '/dir/index.html',
      nonce: 'dcd98b7102dd2f0e8b11d0f600bfb0c093',
      nc: '',
      cnonce: '',
      qop: '',
    };
    expect(responseOf('MD5', ha1, covered)).toBe('1949323746fe6a43ef61f9606e7febea');
  });

  it('with auth-int covers the digest of the empty text where there is no body [8760-2.6-04]', () => {
    expect(digestOf('MD5', '')).toBe('d41d8cd98f00b204e9800998ecf8427e');
    expect(digestOf('SHA-256', '')).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
    const covered = {
      method: 'BYE',
      uri: 'sip:a@b',
      nonce: 'n',
      nc: '00000001',
      cnonce: 'c',
      qop: 'auth-int',
    };
    const a2 = digestOf('SHA-256', `BYE:sip:a@b:${digestOf('SHA-256', '')}`);
    expect(responseOf('SHA-256', 'k', covered)).toBe(digestOf('SHA-256', `k:n:00000001:c:auth-int:${a2}`));
    expect(responseOf('SHA-256', 'k', { ...covered, body: '' })).toBe(responseOf('SHA-256', 'k', covered));
    expect(responseOf('SHA-256', 'k', { ...covered, body: 'v=0' })).not.toBe(
      responseOf('SHA-256', 'k', covered),
    );
  });

  it('is compared with another of any length', () => {
    expect([
      sameDigest('ab', 'ab'),
      sameDigest('ab', 'ac'),
      sameDigest('ab', 'abc'),
      sameDigest('', ''),
    ]).toEqual([true, false, false, true]);
  });
});

const GOOD =
  'Digest username="dora", realm="example.net", nonce="n0nc3-7f3a91", uri="sip:example.net", ' +
  'response="7bc2f7b4efe70968407c66b68b0ba500d6e2eb3012f91c0515f4269276f0e79b", algorithm=SHA-256, ' +
  'qop=auth, nc=00000001, cnonce="c1i3nt"';

describe('credentials', () => {
  it('prove who has the password, for that method', () => {
    const presented = parseCredentials(GOOD);
    if (typeof presented === 'string') throw new Error(presented);
    expect(presented).toMatchObject({
      username: 'dora',
      realm: 'example.net',
      algorithm: 'SHA-256',
      count: 1,
    });
    const ha1 = ha1Of('SHA-256', 'dora', 'example.net', 'tin-whistle-42');
    expect(proves(presented, 'SHA-256', ha1, 'REGISTER')).toBe(true);
    expect(proves(presented, 'SHA-256', ha1, 'INVITE')).toBe(false);
    expect(proves(presented, 'SHA-256', ha1Of('SHA-256', 'dora', 'example.net', 'other'), 'REGISTER')).toBe(
      false,
    );
  });

  it('may have names in any case, folded lines, white space around = and commas, tokens in quotes, unknown parameters', () => {
    const forms = [
      GOOD.replace('Digest', 'DIGEST').replace('username', 'UserName'),
      GOOD.replaceAll(', ', ',\r\n  '),
      GOOD.replaceAll('=', ' = ').replaceAll(', ', ' , '),
      GOOD.replace('algorithm=SHA-256', 'algorithm="sha-256"').replace('qop=auth', 'qop="auth"'),
      GOOD.replace('nc=00000001', 'nc="00000001"'),
      `${GOOD}, opaque="", auts="x=,\\"y", stale=false`,
    ];
    for (const form of forms) expect(parseCredentials(form), form).toEqual(parseCredentials(GOOD));
  });

  it('have their escapes resolved', () => {
    const presented = parseCredentials(GOOD.replace('"dora"', '"d\\o\\"r\\\\a"'));
    expect(presented).toMatchObject({ username: 'do"r\\a' });
  });

  it('need uri in quotes, and all else that RFC 7616 quotes [3261-22-03]', () => {
    expect(parseCredentials(GOOD.replace('"sip:example.net"', 'sip-example.net'))).toBe('malformed');
    for (const name of ['username', 'realm', 'nonce', 'cnonce', 'response']) {
      const bare = GOOD.replace(new RegExp(`([ ,]${name}=)"([^"]*)"`), '$1$2');
      expect(bare).not.toBe(GOOD);
      expect(parseCredentials(bare), name).toBe('malformed');
    }
  });

  it('of other schemes are not for us, whatever they look like [3261-22-03]', () => {
    for (const other of ['Basic ZG9yYTp0aW4=', 'Bearer abc.def==', 'Negotiate', 'NTLM a=b, c'])
      expect(parseCredentials(other)).toBe('other-scheme');
  });

  it('with an empty nonce say who somebody is before he was asked', () => {
    const early = 'Digest username="dora", realm="example.net", nonce="", uri="sip:example.net", response=""';
    expect(parseCredentials(`${early}, algorithm=FOO`)).toBe('unanswered');
  });

  it.each([
    ['a parameter twice', `${GOOD}, NC=00000002`],
    ['a string left open', GOOD.slice(0, -1)],
    ['an escape at the end', `${GOOD.slice(0, -1)}\\`],
    ['an empty member', GOOD.replace(', nc', ',, nc')],
    ['a comma at the end', `${GOOD},`],
    ['something after a string', GOOD.replace('"dora"', '"dora"x')],
    ['no comma', GOOD.replace(', nc', ' nc')],
    ['no value', GOOD.replace('qop=auth', 'qop=')],
    ['no equals sign', GOOD.replace('qop=auth', 'qop')],
    ['a control character in a string', GOOD.replace('dora', 'do\x01ra')],
    ['an escaped control character', GOOD.replace('dora', 'do\\\x00ra')],
    ['a line break in a string', GOOD.replace('dora', 'do\r\nra')],
    ['no scheme', ''],
    ['no parameters', 'Digest'],
    ['no white space after the scheme', 'Digest,a=b'],
    ['no username', GOOD.replace('username="dora", ', '')],
    ['username twice over', `${GOOD}, username*=UTF-8''dora`],
    ['an nc of seven digits', GOOD.replace('00000001', '0000001')],
    ['an nc of nine digits', GOOD.replace('00000001', '000000001')],
    ['an nc that is no number', GOOD.replace('00000001', '0000000g')],
    ['an nc of zero', GOOD.replace('00000001', '00000000')],
    ['qop without nc', GOOD.replace(', nc=00000001', '')],
    ['qop without cnonce', GOOD.replace(', cnonce="c1i3nt"', '')],
    ['a response of another length', GOOD.replace('7bc2', '7bc')],
    ['a response in upper case', GOOD.replace('7bc2', '7BC2')],
    ['an MD5 response of SHA-256 length', GOOD.replace('SHA-256', 'MD5')],
    ['4 KiB', GOOD.replace('dora', 'x'.repeat(MAX_VALUE))],
    ['10 MB', `Digest username="${'x'.repeat(10_000_000)}"`],
    ['33 parameters', `Digest ${Array.from({ length: 33 }, (_, i) => `p${i}=1`).join(', ')}`],
  ])('are refused with %s', (_, value) => {
    expect(parseCredentials(value)).toBe('malformed');
  });

  it('never make the parser throw, and what it reads it reads the same when written again', () => {
    const octets = fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((c) => String.fromCharCode(c)) });
    const piece = fc.oneof(
      octets,
      fc.constantFrom(
        'Digest ',
        'username=',
        '"',
        '\\',
        ', ',
        '=',
        '\r\n ',
        'nc=00000001',
        'qop=auth',
        'algorithm=MD5',
        GOOD,
      ),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const value = pieces.join('');
        parseCredentials(value);
        const params = parseAuthValue(value)?.params;
        if (!params) return;
        const again = [...params]
          .map(([name, p]) => `${name}=${p.quoted ? quote(p.value) : p.value}`)
          .join(', ');
        expect(parseAuthValue(`Digest ${again}`)?.params).toEqual(params);
      }),
      { numRuns: 2_000 },
    );
  });

  it('carry any text in a quoted string', () => {
    const text = fc.string({
      unit: fc
        .integer({ min: 32, max: 255 })
        .filter((c) => c !== 127)
        .map((c) => String.fromCharCode(c)),
    });
    fc.assert(
      fc.property(text, (value) => {
        expect(parseAuthValue(`Digest a=${quote(value)}`)?.params?.get('a')).toEqual({ value, quoted: true });
      }),
    );
  });
});

describe('nc', () => {
  it('is eight hex digits and not zero [8760-2.6-01]', () => {
    expect(['00000001', '0000000a', '0000000A', '00007fff'].map(parseNc)).toEqual([1, 10, 10, MAX_NC]);
    expect(['ffffffff', '00008000'].map(parseNc)).toEqual([MAX_NC + 1, MAX_NC + 1]);
    expect(['', '1', '00000000', '0x000001', ' 0000001', '000000001', '+0000001'].map(parseNc)).toEqual(
      Array(7).fill(-1),
    );
  });
});

describe('an algorithm', () => {
  it('is MD5 where none is named, and none of ours where it is a session variant', () => {
    expect([undefined, 'md5', 'SHA-256', 'sha-512-256'].map(algorithmOf)).toEqual([
      'MD5',
      'MD5',
      'SHA-256',
      'SHA-512-256',
    ]);
    expect(['MD5-sess', 'SHA-256-sess', 'FOO', '', 'AKAv1-MD5'].map(algorithmOf)).toEqual(
      Array(5).fill(undefined),
    );
  });
});

describe('challenge lines', () => {
  it('name each algorithm once, the best first, with qop in quotes and algorithm and stale without [8760-2.3-01 8760-2.6-01]', () => {
    expect(challengeLines('WWW-Authenticate', 'example.net', 'N', ALGORITHMS, false)).toEqual([
      'WWW-Authenticate: Digest realm="example.net", nonce="N", algorithm=SHA-512-256, qop="auth"',
      'WWW-Authenticate: Digest realm="example.net", nonce="N", algorithm=SHA-256, qop="auth"',
      'WWW-Authenticate: Digest realm="example.net", nonce="N", algorithm=MD5, qop="auth"',
    ]);
    expect(challengeLines('Proxy-Authenticate', 'example.net', 'N', ['MD5'], true)).toEqual([
      'Proxy-Authenticate: Digest realm="example.net", nonce="N", algorithm=MD5, qop="auth", stale=true',
    ]);
  });
});
