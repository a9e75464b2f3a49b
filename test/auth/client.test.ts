import { describe, expect, it } from 'vitest';
import { answerChallenge, parseChallenge, passwordAccount } from '../../src/auth/client.ts';
import { challengeLines, ha1Of, parseCredentials, proves } from '../../src/auth/digest.ts';
import { challengesOf } from '../../src/auth/params.ts';

const dora = passwordAccount('dora', 'tin-whistle-42');
const valuesOf = (lines: string[]) => lines.map((line) => line.slice(line.indexOf(': ') + 2));
const challenge = (algorithm: string, more = '') =>
  `Digest realm="example.net", nonce="n0nc3-7f3a91", algorithm=${algorithm}, qop="auth"${more}`;

describe('a client that is challenged', () => {
  it('answers the topmost challenge that it supports and ignores unknown ones [8760-2.4-01]', () => {
    const values = [
      'Basic realm="example.net"',
      challenge('FOO'),
      'Digest realm=',
      challenge('SHA-256'),
      challenge('MD5'),
    ];
    expect(answerChallenge(values, dora)?.challenge.algorithm).toBe('SHA-256');
    expect(answerChallenge(values, dora, [], ['MD5'])?.challenge.algorithm).toBe('MD5');
    expect(answerChallenge([challenge('FOO')], dora)).toBeUndefined();
    expect(answerChallenge([challenge('MD5').replace('"auth"', '"auth-conf"')], dora)).toBeUndefined();
  });

  it('answers the vector with qop, cnonce and eight digits of nc, and counts on [8760-2.6-01 3261-22-03]', () => {
    const session = answerChallenge([challenge('SHA-256', ', opaque="a\\"b"')], dora);
    expect(session?.answer('REGISTER', 'sip:example.net', 'c1i3nt')).toBe(
      'Digest username="dora", realm="example.net", nonce="n0nc3-7f3a91", uri="sip:example.net", ' +
        'response="7bc2f7b4efe70968407c66b68b0ba500d6e2eb3012f91c0515f4269276f0e79b", algorithm=SHA-256, ' +
        'qop=auth, nc=00000001, cnonce="c1i3nt", opaque="a\\"b"',
    );
    expect(session?.answer('REGISTER', 'sip:example.net', 'c1i3nt')).toContain('nc=00000002');
  });

  it('does not try the same account again, except after stale=true [3261-22-04]', () => {
    const first = answerChallenge([challenge('SHA-256'), challenge('MD5')], dora);
    expect(first).toBeDefined();
    const refused = first ? [first] : [];
    expect(answerChallenge([challenge('SHA-256'), challenge('MD5')], dora, refused)).toBeUndefined();
    expect(answerChallenge([challenge('SHA-256', ', stale=false')], dora, refused)).toBeUndefined();
    expect(answerChallenge([challenge('SHA-256', ', stale=TRUE')], dora, refused)).toBeDefined();
    const other = challenge('SHA-256').replace('example.net', 'example.org');
    expect(answerChallenge([challenge('SHA-256'), other], dora, refused)?.challenge.realm).toBe(
      'example.org',
    );
  });

  it('gives its secret to the realms of the account only', () => {
    const account = passwordAccount('dora', 'tin-whistle-42', 'example.net');
    const other = challenge('SHA-256').replace('example.net', 'example.org');
    expect(answerChallenge([other, challenge('MD5')], account)?.challenge).toMatchObject({
      realm: 'example.net',
      algorithm: 'MD5',
    });
    expect(answerChallenge([other], account)).toBeUndefined();
  });

  it('takes auth where it may choose, auth-int where it must, neither from a server of RFC 2069', () => {
    const qop = (text: string) => parseChallenge(challenge('MD5').replace(', qop="auth"', text))?.qop;
    expect([', qop="auth-int,auth"', ', qop="auth-int"', ', qop="foo , AUTH"', ''].map(qop)).toEqual([
      'auth',
      'auth-int',
      'auth',
      '',
    ]);
    const old = answerChallenge([challenge('MD5').replace(', qop="auth"', '')], dora)?.answer(
      'REGISTER',
      'sip:a',
      'c',
    );
    expect(old).not.toMatch(/qop|nc=|cnonce=/);
    const whole = answerChallenge([challenge('MD5').replace('"auth"', '"auth-int"')], dora);
    const answers = ['v=0', 'v=1'].map((body) => whole?.answer('INVITE', 'sip:a', 'c', body));
    expect(answers[0]).not.toBe(answers[1]?.replace('nc=00000002', 'nc=00000001'));
  });

  it('proves itself to our own side, whatever its name and password are written with', () => {
    const [user, password] = ['Jäsøn "Doe"', 'Secret, or not? ☎'];
    for (const value of valuesOf(
      challengeLines('WWW-Authenticate', 'example.net', 'N', ['SHA-512-256', 'SHA-256', 'MD5'], false),
    )) {
      const session = answerChallenge([value], passwordAccount(user, password));
      const presented = parseCredentials(session?.answer('INVITE', 'tel:+1-201-555-0123', 'x"y') ?? '');
      if (!session || typeof presented === 'string') throw new Error(`${presented}`);
      const { algorithm } = session.challenge;
      expect(Buffer.from(presented.username, 'latin1').toString('utf8')).toBe(user);
      expect(proves(presented, algorithm, ha1Of(algorithm, user, 'example.net', password), 'INVITE')).toBe(
        true,
      );
    }
  });
});

describe('the challenges of one header of HTTP', () => {
  it.each<[string, string[]]>([
    ['Basic realm="a"', ['Basic realm="a"']],
    [
      'Digest realm="a, Basic realm=b", nonce="c\\", d", Basic realm="e"',
      ['Digest realm="a, Basic realm=b", nonce="c\\", d"', 'Basic realm="e"'],
    ],
    [
      'Negotiate, NTLM ,Digest realm = "a" , nonce="b"',
      ['Negotiate', 'NTLM', 'Digest realm = "a", nonce="b"'],
    ],
    ['Bearer YWJj==, Digest realm="a"', ['Bearer YWJj==', 'Digest realm="a"']],
    [',, Digest realm="a",,nonce="b",', ['Digest realm="a", nonce="b"']],
    ['realm="a", Digest nonce="b"', ['realm="a"', 'Digest nonce="b"']],
    ['Digest realm="a, Basic realm="b"', ['Digest realm="a, Basic realm="b"']],
    ['Digest realm="a, Basic', ['Digest realm="a, Basic']],
    ['', []],
    [' , ', []],
  ])('%s', (value, challenges) => {
    expect(challengesOf(value)).toEqual(challenges);
  });
});
