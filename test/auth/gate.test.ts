import { describe, expect, it } from 'vitest';
import { answerChallenge, passwordAccount, type Session } from '../../src/auth/client.ts';
import { type Credentials, type Lookup, ownAor } from '../../src/auth/credentials.ts';
import { ALGORITHMS, type Algorithm, digestLength, ha1Of } from '../../src/auth/digest.ts';
import { type Decision, Gate, type GatePolicy, type GateRequest } from '../../src/auth/gate.ts';
import { Nonces } from '../../src/auth/nonce.ts';
import { Keyring } from '../../src/flow/keyring.ts';
import { NonceTable } from '../../src/shared/nonce-table.ts';

const REALM = 'example.net';
const PASSWORDS: Record<string, string> = {
  dora: 'tin-whistle-42',
  eve: 'drum',
  'Jäsøn Doe': 'x',
  'dora@example.net': 'y',
};
const AORS: Record<string, string[]> = { eve: ['sip:100@example.net'] };

class Users implements Credentials {
  offers = ALGORITHMS;
  asked: string[] = [];
  down = false;
  find(user: string, realm: string, algorithm: Algorithm, done: (found: Lookup) => void): void {
    this.asked.push(user);
    const password = PASSWORDS[user];
    if (this.down) done({ status: 'unavailable', retryAfter: 7 });
    else if (password === undefined || realm !== REALM) done({ status: 'unknown' });
    else done({ status: 'found', ha1: ha1Of(algorithm, user, realm, password), aors: AORS[user] ?? [] });
  }
  algorithms(): readonly Algorithm[] {
    return this.offers;
  }
  async close(): Promise<void> {}
}

const HOME = new Set([REALM, 'example.org', '127.0.0.1']);

function gateOf(policy: Partial<GatePolicy> = {}, descriptor = NonceTable.allocate(64), node = 1) {
  const keyring = new Keyring({ current: { id: 1, octets: new Uint8Array(32).fill(9) } });
  const nonces = new Nonces({ keyring, table: new NonceTable(descriptor), node, incarnation: 77 });
  const users = new Users();
  const gate = new Gate(nonces, users, {
    algorithms: ALGORITHMS,
    serves: (host) => HOME.has(host),
    realm: REALM,
    withoutQop: true,
    ...policy,
  });
  return { gate, users };
}

const REGISTER: GateRequest = {
  role: 'registrar',
  method: 'REGISTER',
  uri: 'sip:example.net',
  credentials: [],
  aor: 'sip:dora@example.net',
  host: REALM,
  ds: 5_000,
};
const INVITE: GateRequest = { ...REGISTER, role: 'proxy', method: 'INVITE', uri: 'sip:bob@far.example' };

function ask(gate: Gate, request: GateRequest): Exclude<Decision, { kind: 'accept' }> & { user?: string };
function ask(gate: Gate, request: GateRequest): Decision {
  const decisions: Decision[] = [];
  gate.check(request, (decision) => decisions.push(decision));
  expect(decisions).toHaveLength(1);
  return decisions[0];
}

const valuesOf = (lines: readonly string[]) => lines.map((line) => line.slice(line.indexOf(': ') + 2));

function sessionFor(
  gate: Gate,
  request: GateRequest,
  user = 'dora',
  algorithm?: Algorithm,
  password = PASSWORDS[user],
): Session {
  const { headers } = ask(gate, { ...request, credentials: [] });
  const session = answerChallenge(
    valuesOf(headers),
    passwordAccount(user, password ?? ''),
    [],
    algorithm ? [algorithm] : ALGORITHMS,
  );
  if (!session) throw new Error('no challenge to answer');
  return session;
}

const answered = (request: GateRequest, session: Session): GateRequest => ({
  ...request,
  credentials: [session.answer(request.method, request.uri, 'c1i3nt')],
});

describe('a request without credentials', () => {
  it('is challenged: 401 by a registrar or UAS, 407 by a proxy, in the realm of its domain [3261-22-01 3261-22-03 8760-2.3-01]', () => {
    const { gate, users } = gateOf();
    for (const [role, status, header] of [
      ['registrar', 401, 'WWW-Authenticate'],
      ['uas', 401, 'WWW-Authenticate'],
      ['proxy', 407, 'Proxy-Authenticate'],
    ] as const) {
      const decision = ask(gate, { ...REGISTER, role });
      expect(decision).toMatchObject({ kind: 'challenge', status, why: 'none' });
      expect(decision.headers).toHaveLength(3);
      decision.headers.forEach((line, i) => {
        expect(line).toMatch(
          new RegExp(
            `^${header}: Digest realm="example.net", nonce="[A-Za-z0-9_-]{36}", algorithm=${ALGORITHMS[i]}, qop="auth"$`,
          ),
        );
      });
    }
    expect(users.asked).toEqual([]);
  });

  it('is challenged in the domain that it names, else in the first of ours', () => {
    const { gate } = gateOf();
    expect(ask(gate, { ...INVITE, aor: 'sip:x@example.org', host: 'example.org' }).headers[0]).toContain(
      'realm="example.org"',
    );
    expect(ask(gate, { ...INVITE, aor: 'sip:x@far.example', host: 'far.example' }).headers[0]).toContain(
      'realm="example.net"',
    );
  });

  it.each(['ACK', 'CANCEL'])('is not challenged if it is %s [3261-22-02]', (method) => {
    const { gate } = gateOf();
    expect(ask(gate, { ...INVITE, method })).toEqual({ kind: 'accept', user: undefined, realm: REALM });
    expect(ask(gate, { ...INVITE, method, credentials: ['Digest nonsense'] }).kind).toBe('accept');
  });

  it('is offered what is allowed and everybody has, in our order, never Basic [8760-2.3-01 3261-22-03]', () => {
    const offered = (policy: Partial<GatePolicy>, offers: readonly Algorithm[]) => {
      const { gate, users } = gateOf(policy);
      users.offers = offers;
      const { headers } = ask(gate, REGISTER);
      for (const line of headers) expect(line).toContain(': Digest ');
      return headers.map((line) => /algorithm=([^,]*)/.exec(line)?.[1]);
    };
    expect(offered({ algorithms: ['MD5', 'SHA-256'] }, ALGORITHMS)).toEqual(['SHA-256', 'MD5']);
    expect(offered({}, ['MD5'])).toEqual(['MD5']);
    expect(offered({ algorithms: ['SHA-256'] }, ['MD5'])).toEqual(['SHA-256']);
  });
});

describe('a request with credentials', () => {
  it.each(ALGORITHMS)('is accepted with the right password, by %s', (algorithm) => {
    const { gate } = gateOf();
    for (const request of [REGISTER, INVITE]) {
      const session = sessionFor(gate, request, 'dora', algorithm);
      for (let n = 0; n < 3; n++)
        expect(ask(gate, answered(request, session))).toEqual({ kind: 'accept', user: 'dora', realm: REALM });
    }
  });

  it('with a wrong password, or of nobody, is challenged again, both alike and without stale', () => {
    const { gate, users } = gateOf();
    const wrong = ask(gate, answered(REGISTER, sessionFor(gate, REGISTER, 'dora', undefined, 'drum')));
    const nobody = ask(gate, answered(REGISTER, sessionFor(gate, REGISTER, 'mallory', undefined, 'drum')));
    expect([wrong.why, nobody.why]).toEqual(['wrong-response', 'unknown-user']);
    const seen = ({ status, reason, headers }: typeof wrong) => [
      status,
      reason,
      headers.map((h) => h.replace(/nonce="[^"]*"/, '')),
    ];
    expect(seen(wrong)).toEqual(seen(nobody));
    expect(wrong.status).toBe(401);
    expect(wrong.headers.join()).not.toContain('stale');
    // who has not proved a name may have typed a password there
    expect([wrong.user, nobody.user]).toEqual([undefined, undefined]);
    expect(users.asked).toEqual(['dora', 'mallory']);
  });

  it('of nobody is not accepted by any secret that stands for none', () => {
    const { gate } = gateOf();
    const challenge = valuesOf(ask(gate, REGISTER).headers);
    const nothing = { user: 'mallory', ha1: (algorithm: Algorithm) => '0'.repeat(digestLength(algorithm)) };
    const session = answerChallenge(challenge, nothing);
    expect(session && ask(gate, answered(REGISTER, session))).toMatchObject({
      kind: 'challenge',
      why: 'unknown-user',
    });
  });

  it('that is sent again as it was is challenged with stale=true, on any shard [7616-x-01]', () => {
    const descriptor = NonceTable.allocate(64);
    const [here, there] = [gateOf({}, descriptor), gateOf({}, descriptor)];
    const request = answered(REGISTER, sessionFor(here.gate, REGISTER));
    expect(ask(there.gate, request).kind).toBe('accept');
    for (const { gate } of [here, there]) {
      const decision = ask(gate, request);
      expect(decision).toMatchObject({ kind: 'challenge', status: 401, why: 'replayed', user: 'dora' });
      for (const line of decision.headers) expect(line).toMatch(/, stale=true$/);
    }
  });

  it('does not use up a nonce without the password', () => {
    const { gate } = gateOf();
    const session = sessionFor(gate, REGISTER);
    const request = answered(REGISTER, session);
    expect(
      ask(gate, { ...request, credentials: [request.credentials[0].replace(/response="./, 'response="0')] })
        .kind,
    ).toBe('challenge');
    expect(ask(gate, { ...request, method: 'OPTIONS' }).why).toBe('wrong-response');
    expect(ask(gate, request).kind).toBe('accept');
  });

  it('with a nonce that is too old or of another node is told stale=true without a look-up [7616-x-01]', () => {
    const descriptor = NonceTable.allocate(64);
    const here = gateOf({}, descriptor);
    const there = gateOf({}, descriptor, 2);
    const request = answered(REGISTER, sessionFor(here.gate, REGISTER));
    for (const decision of [
      ask(here.gate, { ...request, ds: REGISTER.ds + 3_001 }),
      ask(there.gate, request),
    ]) {
      expect(decision.why).toBe('stale');
      expect(decision.headers[0]).toMatch(/, stale=true$/);
    }
    expect([here.users.asked, there.users.asked]).toEqual([[], []]);
  });

  it('with a nonce that we never made is challenged anew without a look-up', () => {
    const { gate, users } = gateOf();
    const request = answered(REGISTER, sessionFor(gate, REGISTER));
    const decision = ask(gate, {
      ...request,
      credentials: [request.credentials[0].replace(/nonce="./, 'nonce="_')],
    });
    expect(decision).toMatchObject({ kind: 'challenge', why: 'forged' });
    expect(decision.headers[0]).not.toContain('stale');
    expect(users.asked).toEqual([]);
  });

  it('with the nonce of another user is refused for his own address too, and his counts stay [7616-x-01]', () => {
    const { gate } = gateOf();
    const session = sessionFor(gate, REGISTER);
    const { nonce } = session.challenge;
    const eve = answerChallenge(
      [`Digest realm="example.net", nonce="${nonce}", algorithm=SHA-256, qop="auth"`],
      passwordAccount('eve', 'drum'),
    );
    if (!eve) throw new Error();
    const forEve = { ...REGISTER, aor: 'sip:eve@example.net' };
    expect(ask(gate, answered(forEve, eve))).toMatchObject({ status: 401, why: 'stale' });
    expect(ask(gate, answered(REGISTER, session)).kind).toBe('accept');
  });

  it("for an address that is not the user's is 403: REGISTER by To, others by From", () => {
    const { gate } = gateOf();
    for (const [request, user, accepted] of [
      [REGISTER, 'eve', false],
      [INVITE, 'eve', false],
      [{ ...REGISTER, aor: 'sip:eve@example.net' }, 'eve', true],
      [{ ...REGISTER, aor: 'sip:100@example.net' }, 'eve', true],
      [{ ...REGISTER, aor: 'sip:100@example.net' }, 'dora', false],
      [{ ...REGISTER, aor: 'sip:Dora@example.net' }, 'dora', false],
      [REGISTER, 'dora@example.net', true],
      [{ ...REGISTER, aor: 'sip:J%C3%A4s%C3%B8n%20Doe@example.net' }, 'Jäsøn Doe', true],
      // somebody else's domain: who he is there is not ours to say
      [{ ...INVITE, aor: 'sip:anonymous@anonymous.invalid', host: 'anonymous.invalid' }, 'dora', true],
    ] as const) {
      const decision = ask(gate, answered(request, sessionFor(gate, request, user)));
      if (accepted) expect(decision, request.aor).toEqual({ kind: 'accept', user, realm: REALM });
      else
        expect(decision, request.aor).toMatchObject({ kind: 'refuse', status: 403, why: 'other-aor', user });
    }
  });

  it('may have a Request-URI that a proxy rewrote, within our domains [8760-2.6-03]', () => {
    const { gate } = gateOf();
    const decide = (signed: string, uri: string) => {
      const session = sessionFor(gate, INVITE);
      return ask(gate, { ...INVITE, uri, credentials: [session.answer('INVITE', signed, 'c')] });
    };
    expect(decide('sip:bob@example.net', 'sip:bob@127.0.0.1:5060;transport=tcp').kind).toBe('accept');
    expect(decide('sip:bob@EXAMPLE.net', 'sip:bob@example.net').kind).toBe('accept');
    expect(decide('sip:bob@far.example;lr', 'sip:bob@far.example').kind).toBe('accept');
    expect(decide('tel:+12015550123', 'tel:+12015550123').kind).toBe('accept');
    for (const [signed, uri] of [
      ['sip:bob@example.net', 'sip:premium@far.example'],
      ['sip:bob@far.example', 'sip:bob@example.net'],
      ['tel:+12015550123', 'tel:+19005550123'],
      ['/index.html', 'sip:bob@example.net'],
    ])
      expect(decide(signed, uri), signed).toMatchObject({ kind: 'refuse', status: 400, why: 'other-uri' });
  });

  it('for a proxy further on, or in another scheme, is as if it had none [3261-22-03]', () => {
    const { gate } = gateOf();
    const request = answered(REGISTER, sessionFor(gate, REGISTER));
    const other = request.credentials[0].replace('realm="example.net"', 'realm="far.example"');
    expect(ask(gate, { ...REGISTER, credentials: [other, 'Basic ZG9yYTp0aW4='] })).toMatchObject({
      kind: 'challenge',
      why: 'none',
    });
    expect(
      ask(gate, { ...REGISTER, credentials: ['Basic ZG9yYTp0aW4=', other, request.credentials[0]] }).kind,
    ).toBe('accept');
  });

  it('in several algorithms counts by the best one', () => {
    const { gate } = gateOf();
    const md5 = sessionFor(gate, REGISTER, 'dora', 'MD5', 'wrong');
    const sha = sessionFor(gate, REGISTER, 'dora', 'SHA-256');
    const both = [md5, sha].map((session) => session.answer('REGISTER', REGISTER.uri, 'c'));
    expect(ask(gate, { ...REGISTER, credentials: both }).kind).toBe('accept');
  });

  it('in an algorithm or qop that was not offered is challenged', () => {
    const { gate, users } = gateOf({ algorithms: ['SHA-256'], withoutQop: false });
    const request = answered(REGISTER, sessionFor(gate, REGISTER));
    const [value] = request.credentials;
    for (const other of [
      value.replace('algorithm=SHA-256', 'algorithm=SHA-512-256'),
      value.replace('algorithm=SHA-256', 'algorithm=SHA-256-sess'),
      value.replace('qop=auth', 'qop=auth-int'),
      value.replace(/, qop=auth.*/, ''),
    ]) {
      expect(other).not.toBe(value);
      expect(ask(gate, { ...REGISTER, credentials: [other] })).toMatchObject({
        kind: 'challenge',
        why: 'algorithm',
      });
    }
    expect(users.asked).toEqual([]);
  });

  it('without qop is accepted once a nonce, by MD5 only, where that is allowed', () => {
    const old = (algorithm: Algorithm, policy: Partial<GatePolicy> = {}) => {
      const { gate } = gateOf(policy);
      const { nonce } = sessionFor(gate, REGISTER).challenge;
      const session = answerChallenge(
        [`Digest realm="example.net", nonce="${nonce}", algorithm=${algorithm}`],
        passwordAccount('dora', 'tin-whistle-42'),
      );
      if (!session) throw new Error();
      return [1, 2].map(() => ask(gate, answered(REGISTER, session)));
    };
    const [first, second] = old('MD5');
    expect(first.kind).toBe('accept');
    expect(second).toMatchObject({ kind: 'challenge', why: 'replayed' });
    expect(old('SHA-256')[0].why).toBe('algorithm');
    expect(old('MD5', { withoutQop: false })[0].why).toBe('algorithm');
  });

  it('that cannot be read is 400, and a good value beside it is taken', () => {
    const { gate } = gateOf();
    const request = answered(REGISTER, sessionFor(gate, REGISTER));
    for (const bad of [
      'Digest',
      request.credentials[0].replace('nc=00000001', 'nc=1'),
      `Digest username="${'x'.repeat(10_000_000)}"`,
    ])
      expect(ask(gate, { ...REGISTER, credentials: [bad] })).toMatchObject({
        kind: 'refuse',
        status: 400,
        why: 'malformed',
      });
    expect(ask(gate, { ...REGISTER, credentials: Array(17).fill('Basic x') }).status).toBe(400);
    expect(ask(gate, { ...REGISTER, credentials: ['Digest', ...request.credentials] }).kind).toBe('accept');
  });

  it('with a name that is no UTF-8 is 400', () => {
    const { gate, users } = gateOf();
    const request = answered(REGISTER, sessionFor(gate, REGISTER));
    const value = request.credentials[0].replace('"dora"', '"d\xffra"');
    expect(ask(gate, { ...REGISTER, credentials: [value] })).toMatchObject({ status: 400, why: 'malformed' });
    expect(users.asked).toEqual([]);
  });

  it('that says who it is before it was asked is challenged', () => {
    const { gate } = gateOf();
    const early = 'Digest username="dora", realm="example.net", nonce="", uri="sip:example.net", response=""';
    expect(ask(gate, { ...REGISTER, credentials: [early] })).toMatchObject({
      kind: 'challenge',
      why: 'none',
    });
  });

  it('gets 503 with Retry-After while the secrets cannot be reached, right or wrong', () => {
    const { gate, users } = gateOf();
    const sessions = [sessionFor(gate, REGISTER), sessionFor(gate, REGISTER, 'dora', undefined, 'wrong')];
    users.down = true;
    for (const session of sessions)
      expect(ask(gate, answered(REGISTER, session))).toEqual({
        kind: 'unavailable',
        status: 503,
        reason: 'Service Unavailable',
        headers: ['Retry-After: 7'],
        why: 'unavailable',
      });
    // nothing was spent
    users.down = false;
    expect(
      ask(gate, {
        ...answered(REGISTER, sessions[0]),
        credentials: [sessions[0].answer('REGISTER', REGISTER.uri, 'c')],
      }).kind,
    ).toBe('accept');
  });

  it('twice at one time, while both wait for the secret, is accepted once', () => {
    const { gate, users } = gateOf();
    const request = answered(REGISTER, sessionFor(gate, REGISTER));
    const waiting: (() => void)[] = [];
    const { find } = users;
    users.find = (user, realm, algorithm, done) =>
      void waiting.push(() => find.call(users, user, realm, algorithm, done));
    const kinds: string[] = [];
    for (let i = 0; i < 2; i++) gate.check(request, (decision) => kinds.push(decision.kind));
    expect(kinds).toEqual([]);
    for (const go of waiting) go();
    expect(kinds).toEqual(['accept', 'challenge']);
  });
});

describe('the address of a user', () => {
  it('is his name in his realm, in the canonical form of URIs', () => {
    expect([
      ownAor('dora', 'example.net'),
      ownAor('dora@EXAMPLE.net', 'example.net'),
      ownAor('dora@example.org', 'example.net'),
      ownAor('a&b=c+d', 'example.net'),
      ownAor('x y', 'example.net'),
      ownAor('dora', '[2001:db8::1]'),
    ]).toEqual([
      'sip:dora@example.net',
      'sip:dora@example.net',
      'sip:dora%40example.org@example.net',
      'sip:a&b=c+d@example.net',
      'sip:x%20y@example.net',
      'sip:dora@[2001:db8::1]',
    ]);
    expect([ownAor('\ud800', 'example.net'), ownAor('x', 'not a host')]).toEqual([undefined, undefined]);
  });
});
