import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KeyFault } from '../../src/flow/keyring.ts';
import type { Binding } from '../../src/registrar/binding.ts';
import { Gruus } from '../../src/registrar/gruu.ts';
import { loadGruuKey, parseGruuKey } from '../../src/registrar/gruu-key.ts';
import { unquote } from '../../src/wire/nameaddr.ts';
import { canonicalAor, equalUri, parseSipUri, type SipUri } from '../../src/wire/uri.ts';
import { DORA } from './requests.ts';

const KEY = new Uint8Array(32).fill(7);
const gruus = new Gruus(KEY);
const URN = 'urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6';
const EPOCH = 1_800_000_000_000;

const uriOf = (text: string): SipUri => {
  const uri = parseSipUri(text);
  if (!uri) throw new Error(`no URI: ${text}`);
  return uri;
};
const read = (text: string) => gruus.read(uriOf(text));

/** canonical, as the registrar has them */
const aors = fc
  .tuple(fc.string({ minLength: 1, maxLength: 40 }), fc.domain())
  .map(([user, host]) => parseSipUri(`sip:${encodeURIComponent(user.toWellFormed())}@${host}`))
  .filter((uri) => uri !== undefined)
  .map(canonicalAor);
const instances = fc.uuid().map((uuid) => `urn:uuid:${uuid}`);
const epochs = fc.nat({ max: 2 ** 48 - 1 });

const binding = (changes: Partial<Binding>): Binding => ({
  key: 'k',
  contact: 'sip:d@192.0.2.1',
  params: [],
  instance: URN,
  regId: 0,
  q: 1000,
  path: [],
  callId: 'a',
  cseq: 1,
  expiresAt: 0,
  updatedAt: 0,
  order: 1,
  epoch: EPOCH,
  ...changes,
});

describe('a public GRUU', () => {
  it('is the AOR with a value in gr, and names AOR and device again [5627-5.1-02]', () => {
    fc.assert(
      fc.property(aors, instances, (aor, instance) => {
        const text = gruus.public(aor, instance);
        expect(text.startsWith(`${aor};gr=`)).toBe(true);
        expect(equalUri(uriOf(text), uriOf(aor))).toBe(true);
        const gruu = read(text);
        expect(gruu).toMatchObject({ aor });
        expect(gruu && gruus.choose(gruu, [binding({ instance })])).toHaveLength(1);
      }),
    );
  });

  it('is the same at each registration and in each life with the same key, and shows no URN [5627-5.1-02]', () => {
    const text = gruus.public(DORA, URN);
    expect(new Gruus(KEY).public(DORA, URN)).toBe(text);
    expect(text).toMatch(/;gr=[0-9a-f]{32}$/);
    expect(text).not.toContain('00a0c91e6bf6');
    expect(new Gruus(new Uint8Array(32).fill(8)).read(uriOf(text))).toBeUndefined();
  });

  it('is another one, by 19.1.4 too, for another device or another AOR', () => {
    fc.assert(
      fc.property(aors, aors, instances, instances, (a, b, one, two) => {
        if (a === b && one === two) return;
        expect(equalUri(uriOf(gruus.public(a, one)), uriOf(gruus.public(b, two)))).toBe(false);
      }),
    );
  });

  it('is known however its host, its value and its user are written', () => {
    const value = gruus.public(DORA, URN).split('=')[1];
    for (const text of [
      `sip:dora@EXAMPLE.net;gr=${value.toUpperCase()}`,
      `sip:d%6Fra@example.net;ob;GR=${value}`,
      `sips:dora@example.net;gr=${value}`,
    ])
      expect(read(text)?.aor).toBe(DORA);
  });

  it('of somebody else, changed, cut or made up is none [5627-6.1-01]', () => {
    const value = gruus.public(DORA, URN).split('=')[1];
    for (let i = 0; i < value.length; i++) {
      const other = value[i] === '0' ? '1' : '0';
      expect(
        read(`sip:dora@example.net;gr=${value.slice(0, i)}${other}${value.slice(i + 1)}`),
      ).toBeUndefined();
    }
    for (const text of [
      `sip:eve@example.net;gr=${value}`,
      `sip:Dora@example.net;gr=${value}`,
      `sip:dora@example.org;gr=${value}`,
      `sip:dora@example.net;gr=${value.slice(1)}`,
      `sip:dora@example.net;gr=${value}0`,
      `sip:dora@example.net;gr=${URN}`,
      'sip:dora@example.net;gr',
      `sip:example.net;gr=${value}`,
    ])
      expect(read(text)).toBeUndefined();
  });
});

describe('a temporary GRUU', () => {
  it('has gr without a value, names AOR, device and epoch, and shows none of them [5627-5.1-04]', () => {
    fc.assert(
      fc.property(aors, instances, epochs, (aor, instance, epoch) => {
        const text = gruus.temporary(aor, instance, epoch);
        const user = aor.slice(4, aor.lastIndexOf('@'));
        if (Buffer.byteLength(user) > 255) {
          expect(text).toBeUndefined();
          return;
        }
        const uri = uriOf(text as string);
        expect(uri.params).toEqual([['gr', undefined]]);
        expect(uri.user).toMatch(/^tgruu\.[A-Za-z0-9_-]+$/);
        const gruu = gruus.read(uri);
        expect(gruu).toMatchObject({ aor, epoch });
        expect(gruu && gruus.choose(gruu, [binding({ instance, epoch })])).toHaveLength(1);
        expect(gruu?.device).toBe(read(gruus.public(aor, instance))?.device);
      }),
    );
  });

  it('is a new one each time: a thousand have no start in common, nor do they differ in length [5627-5.1-04]', () => {
    const users = ['d', 'dora', 'a.longer.one-1234'];
    const made = Array.from({ length: 999 }, (_, i) =>
      gruus.temporary(`sip:${users[i % 3]}@example.net`, URN, EPOCH),
    );
    expect(new Set(made.map((text) => text?.slice(0, 'sip:tgruu.'.length + 12))).size).toBe(999);
    expect(new Set(made.map((text) => text?.length)).size).toBe(1);
  });

  it('that is changed in any place, or of another domain, is none [5627-6.1-01]', () => {
    const text = gruus.temporary(DORA, URN, EPOCH) as string;
    const from = 'sip:tgruu.'.length;
    for (let i = from; i < text.indexOf('@'); i++) {
      const other = text[i] === 'A' ? 'B' : 'A';
      expect(read(text.slice(0, i) + other + text.slice(i + 1))).toBeUndefined();
    }
    for (const changed of [
      text.replace('@example.net', '@example.org'),
      text.replace('@', 'A@'),
      text.replace('@', '=@'),
      text.replace('tgruu.', 'tgruu'),
      text.replace(';gr', ';gr=1'),
      'sip:tgruu.@example.net;gr',
      `sip:tgruu.${'A'.repeat(86)}@example.net;gr`,
      `sip:tgruu.${'A'.repeat(2_000)}@example.net;gr`,
    ])
      expect(read(changed)).toBeUndefined();
    expect(read(text.replace('tgruu', '%74gruu').replace('example', 'EXAMPLE'))?.aor).toBe(DORA);
  });

  it('is never misread, whatever stands there', () => {
    fc.assert(
      fc.property(fc.base64String({ maxLength: 600 }), (text) => {
        const user = text.replace(/[+/]/g, '-').replaceAll('=', '');
        expect(read(`sip:tgruu.${user}@example.net;gr`)).toBeUndefined();
      }),
      { numRuns: 2_000 },
    );
  });

  it('is not given where it would be too long, or for what is no epoch', () => {
    for (const epoch of [-1, 1.5, 2 ** 48, Number.NaN])
      expect(gruus.temporary(DORA, URN, epoch)).toBeUndefined();
    const longest = gruus.temporary(`sip:${'a'.repeat(255)}@example.net`, URN, EPOCH) as string;
    expect(uriOf(longest).user?.length).toBeLessThanOrEqual(512);
    expect(read(longest)?.aor).toBe(`sip:${'a'.repeat(255)}@example.net`);
    const params = gruus.inContacts(`sip:${'a'.repeat(256)}@example.net`)(binding({}));
    expect(params.map(([name]) => name)).toEqual(['pub-gruu']);
  });
});

describe('the bindings that a GRUU names', () => {
  const named = (text: string, bindings: Binding[]) => {
    const gruu = read(text);
    return gruu ? gruus.choose(gruu, bindings).map(({ key }) => key) : undefined;
  };

  it('are those of its device, and for a temporary one of its epoch [5627-4.1-03]', () => {
    const bindings = [
      binding({ key: 'this' }),
      binding({ key: 'other', instance: 'urn:x:2' }),
      { ...binding({ key: 'none' }), instance: undefined } as unknown as Binding,
    ];
    expect(named(gruus.public(DORA, URN), bindings)).toEqual(['this']);
    expect(named(gruus.temporary(DORA, URN, EPOCH) as string, bindings)).toEqual(['this']);
    expect(named(gruus.temporary(DORA, URN, EPOCH - 1) as string, bindings)).toEqual([]);
  });

  it('without reg-id: the most recently refreshed first, whatever the q; flows: as they came [5627-6.1-04]', () => {
    const plain = [
      binding({ key: 'a', q: 1000, order: 1 }),
      binding({ key: 'b', q: 1000, order: 3 }),
      binding({ key: 'c', q: 100, order: 7 }),
    ];
    expect(named(gruus.public(DORA, URN), plain)).toEqual(['c', 'b', 'a']);
    const flows = plain.map((b, i) => ({ ...b, regId: i + 1 }));
    expect(named(gruus.public(DORA, URN), flows)).toEqual(['a', 'b', 'c']);
  });
});

describe('the Contacts of a 200', () => {
  const uriIn = (value: string | undefined) => uriOf(unquote(value ?? '') ?? '');

  it('have both GRUUs if they have an instance-id, the same for all of a device [5627-5.2-01]', () => {
    const params = gruus.inContacts(DORA);
    const [pub, temp] = params(binding({}));
    expect([pub[0], temp[0]]).toEqual(['pub-gruu', 'temp-gruu']);
    expect(gruus.read(uriIn(pub[1]))?.aor).toBe(DORA);
    expect(gruus.read(uriIn(temp[1]))).toMatchObject({ aor: DORA, epoch: EPOCH });
    expect(params(binding({ key: 'another' }))).toEqual([pub, temp]);
    expect(params(binding({ instance: 'urn:x:2' }))[0]).not.toEqual(pub);
    expect(params({ ...binding({}), instance: undefined } as unknown as Binding)).toEqual([]);
    expect(gruus.inContacts(DORA)(binding({}))[1]).not.toEqual(temp);
  });

  it('have sips GRUUs if they are sips URIs', () => {
    const [pub, temp] = gruus.inContacts(DORA)(binding({ contact: 'SIPS:d@192.0.2.1' }));
    for (const [, value] of [pub, temp]) {
      expect(uriIn(value).scheme).toBe('sips');
      expect(gruus.read(uriIn(value))?.aor).toBe(DORA);
    }
  });

  it('are quoted so that what a phone unquotes is the URI', () => {
    const aor = 'sip:a\\b@example.net';
    const [pub] = gruus.inContacts(aor)(binding({}));
    expect(gruus.read(uriIn(pub[1]))?.aor).toBe(aor);
  });
});

describe('the key', () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'holdfast-gruu-'));
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  it('is made at the first start, for the owner alone, and read ever after [5627-5.1-02]', () => {
    const first = loadGruuKey(dir);
    expect(first).toHaveLength(32);
    expect(loadGruuKey(dir)).toEqual(first);
    expect(statSync(join(dir, 'gruu.key')).mode & 0o777).toBe(0o600);
    expect(parseGruuKey(readFileSync(join(dir, 'gruu.key'), 'utf8'))).toEqual(first);
  });

  it('may be given as hex or in either base64', () => {
    const key = Buffer.from(Array.from({ length: 32 }, (_, i) => 255 - i));
    for (const text of [
      key.toString('hex'),
      key.toString('base64'),
      key.toString('base64url'),
      ` ${key.toString('hex').toUpperCase()} `,
    ])
      expect(parseGruuKey(text)).toEqual(new Uint8Array(key));
  });

  it.each(['', 'abc', 'a'.repeat(42), 'f'.repeat(62), '!'.repeat(43), `${'A'.repeat(43)}==x`])(
    'is refused without being shown when it is %j',
    (text) => {
      const fault = parseGruuKey(text);
      expect(fault).toBeInstanceOf(KeyFault);
      expect((fault as KeyFault).message).toMatch(
        /^HOLDFAST_GRUU_KEY: .*; allowed: 32 octets as base64 or hex$/,
      );
      if (text.length > 3) expect((fault as KeyFault).message).not.toContain(text);
    },
  );

  it('whose file is damaged ends the start: a new one would end every GRUU', () => {
    writeFileSync(join(dir, 'gruu.key'), 'half a k');
    const fault = loadGruuKey(dir);
    expect(fault).toMatchObject({ code: 'KEYS_FILE_CORRUPT', variable: 'HOLDFAST_DATA/gruu.key' });
    expect(readFileSync(join(dir, 'gruu.key'), 'utf8')).toBe('half a k');
  });
});
