import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TransactionKey } from '../../src/transaction/key.ts';
import { ascii } from '../../src/wire/chars.ts';
import { Message, OK } from '../../src/wire/lexer.ts';
import { VIA } from '../../src/wire/names.ts';
import { Via } from '../../src/wire/via.ts';

interface Request {
  method: string;
  uri: string;
  host: string;
  port: string;
  branch: string | undefined;
  fromTag: string;
  toTag: string;
  callId: string;
  cseq: number;
  below: string;
}

const INVITE: Request = {
  method: 'INVITE',
  uri: 'sip:bob@example.test',
  host: 'pc33.atlanta.test',
  port: '',
  branch: 'z9hG4bK776asdhds',
  fromTag: '1928301774',
  toTag: '',
  callId: 'a84b4c76e66710',
  cseq: 314159,
  below: '',
};
const OLD: Request = { ...INVITE, branch: undefined };

const secret = new Uint8Array(16).map((_, i) => i * 11);
const message = new Message();
const via = new Via();

/** The key as text. The message lies at an offset, as in a slab. */
function keyOf(
  r: Partial<Request>,
  base = INVITE,
  of: 'ofRequest' | 'ofInvite' = 'ofRequest',
  key = secret,
): string {
  const { method, uri, host, port, branch, fromTag, toTag, callId, cseq, below } = { ...base, ...r };
  const text =
    `${method} ${uri} SIP/2.0\r\nVia: SIP/2.0/UDP ${host}${port}${branch === undefined ? '' : `;branch=${branch}`}\r\n` +
    `${below}From: "A;tag=x" <sip:alice@atlanta.test;tag=uri>${fromTag && `;tag=${fromTag}`}\r\n` +
    `To: Bob <sip:bob@example.test>${toTag && `;tag=${toTag}`}\r\n` +
    `Call-ID: ${callId}\r\nCSeq: ${cseq} ${method}\r\nContent-Length: 0\r\n\r\n`;
  const buf = new Uint8Array(text.length + 40);
  buf.set(ascii(text), 23);
  expect(message.lex(buf, 23, 23 + text.length, true)).toBe(OK);
  const row = message.first[VIA];
  expect(via.parse(buf, message.valueStart[row], message.valueEnd[row])).toBe(true);
  const keys = new TransactionKey(key);
  keys[of](message, via);
  return `${keys.lo} ${keys.hi}`;
}

describe('a request whose branch has the cookie', () => {
  it('that comes again has the same key, whatever else in it changed on the way [3261-17.2.3-01]', () => {
    const key = keyOf({});
    expect(keyOf({ below: 'Via: SIP/2.0/UDP other.test;branch=z9hG4bKother\r\n' })).toBe(key);
    expect(keyOf({ uri: 'sip:elsewhere.test', callId: 'other', cseq: 2, fromTag: 'o', toTag: 't' })).toBe(
      key,
    );
  });

  it('and is an ACK has the key of its INVITE, and a CANCEL one of its own [3261-17.2.3-01]', () => {
    expect(keyOf({ method: 'ACK', toTag: 'uas' })).toBe(keyOf({}));
    expect(keyOf({ method: 'CANCEL' })).not.toBe(keyOf({}));
    expect(keyOf({ method: 'CANCEL' }, INVITE, 'ofInvite')).toBe(keyOf({}));
  });

  it('from another sent-by is another transaction [3261-17.2.3-01]', () => {
    expect(keyOf({ host: 'pc34.atlanta.test' })).not.toBe(keyOf({}));
    expect(keyOf({ port: ':5062' })).not.toBe(keyOf({ port: ':5061' }));
    expect(keyOf({ port: ':5062' })).not.toBe(keyOf({}));
    expect(keyOf({ port: ':5060' })).not.toBe(keyOf({ port: `:${5060 + 256}` }));
  });

  it('writes its host in other letter case and is still the same [3261-17.2.3-01]', () => {
    expect(keyOf({ host: 'PC33.Atlanta.TEST' })).toBe(keyOf({}));
    expect(keyOf({ host: '[2001:DB8::9]' })).toBe(keyOf({ host: '[2001:db8::9]' }));
  });

  it('of another method is another transaction, of an unknown one too [3261-17.2.3-01]', () => {
    const methods = ['INVITE', 'CANCEL', 'BYE', 'MESSAGE', 'REGISTER', 'FOO', 'BAR', 'invite'];
    expect(new Set(methods.map((method) => keyOf({ method }))).size).toBe(methods.length);
  });

  it('has another key for another branch, by any octet and of any length [3261-17.2.3-01]', () => {
    const word = fc.stringMatching(/^[a-zA-Z0-9.~-]{1,600}$/);
    fc.assert(
      fc.property(word, word, (a, b) => {
        expect(keyOf({ branch: `z9hG4bK${a}` }) === keyOf({ branch: `z9hG4bK${b}` })).toBe(a === b);
      }),
      { numRuns: 200 },
    );
  });

  it('has a key that only the holder of the secret can foretell', () => {
    expect(keyOf({}, INVITE, 'ofRequest', new Uint8Array(16))).not.toBe(keyOf({}));
  });
});

describe.each([
  ['no branch', undefined],
  ['a branch without the cookie', 'abc123'],
  ['a branch that is the cookie alone', 'z9hG4bK'],
])('a request with %s', (_, branch) => {
  const old = { ...OLD, branch };

  it('that comes again has the same key [3261-17.2.3-01]', () => {
    expect(keyOf({}, old)).toBe(keyOf({}, old));
  });

  it('is another transaction if any of the fields that must match differs [3261-17.2.3-01]', () => {
    const others: Partial<Request>[] = [
      { uri: 'sip:carol@example.test' },
      { callId: 'other' },
      { fromTag: 'other' },
      { fromTag: '' },
      { cseq: old.cseq + 1 },
      { cseq: old.cseq + 0x1000000 },
      { host: 'pc34.atlanta.test' },
      { method: 'MESSAGE' },
    ];
    expect(new Set([{}, ...others].map((other) => keyOf(other, old))).size).toBe(others.length + 1);
  });

  it('and is an ACK has the key of its INVITE, though its To tag is that of the response [3261-17.2.3-01]', () => {
    expect(keyOf({ method: 'ACK', toTag: 'uas' }, old)).toBe(keyOf({}, old));
    expect(keyOf({ method: 'CANCEL' }, old, 'ofInvite')).toBe(keyOf({}, old));
    expect(keyOf({ method: 'CANCEL' }, old)).not.toBe(keyOf({}, old));
  });

  it('is told from another of the same dialog by its To tag, unless it is an INVITE [3261-17.2.3-01]', () => {
    const bye = { method: 'BYE', toTag: 'one' };
    expect(keyOf({ ...bye, toTag: 'two' }, old)).not.toBe(keyOf(bye, old));
  });
});

it('a field that ends where the next begins cannot stand for it', () => {
  expect(keyOf({ uri: 'sip:b', callId: 'xsip:b' }, OLD)).not.toBe(
    keyOf({ uri: 'sip:bx', callId: 'sip:b' }, OLD),
  );
  expect(keyOf({ branch: 'z9hG4bKa.test', host: 'h' })).not.toBe(
    keyOf({ branch: 'z9hG4bKa', host: 'h.test' }),
  );
});
