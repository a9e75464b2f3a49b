import {
  chmodSync,
  chownSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ALGORITHMS, type Algorithm, ha1Of } from '../../src/auth/digest.ts';
import { FileCredentials } from '../../src/auth/file.ts';
import { CredentialsFault, parseLine, parseUsers } from '../../src/auth/lines.ts';
import { algorithmList, PasswdError, passwd } from '../../src/auth/passwd.ts';
import { directory, find, remember } from './sources.ts';

const ha1 = (algorithm: Algorithm, user: string, password = 'tin-whistle-42') =>
  ha1Of(algorithm, user, 'example.net', password);
const MD5 = ha1('MD5', 'dora');
const SHA = ha1('SHA-256', 'dora');

function write(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

describe('the lines of a credential file', () => {
  it('are JSON or htdigest, and several of one user add up', () => {
    const users = parseUsers(
      [
        '# who may',
        '',
        `dora:example.net:${MD5}`,
        `{"user":"dora","realm":"example.net","SHA-256":"${SHA}","aors":["SIPS:100@Example.NET;x"]}\r`,
        `eve:[2001:db8::1]:SHA-512-256=${SHA},MD5=${MD5}`,
      ].join('\n'),
    );
    expect([...users.values()]).toEqual([
      {
        user: 'dora',
        realm: 'example.net',
        ha1s: new Map([
          ['MD5', MD5],
          ['SHA-256', SHA],
        ]),
        aors: ['sip:100@example.net'],
      },
      {
        user: 'eve',
        realm: '[2001:db8::1]',
        ha1s: new Map([
          ['SHA-512-256', SHA],
          ['MD5', MD5],
        ]),
        aors: [],
      },
    ]);
  });

  it.each([
    ['no fields', 'dora'],
    ['two fields', `dora:${MD5}`],
    ['no user', `:example.net:${MD5}`],
    ['no realm', `dora::${MD5}`],
    ['a password', 'dora:example.net:tin-whistle-42'],
    ['a digest of another length', `dora:example.net:${SHA}`],
    ['a digest in upper case', `dora:example.net:${MD5.toUpperCase()}`],
    ['an unknown algorithm', `dora:example.net:SHA-1=${MD5}`],
    ['an algorithm twice', `dora:example.net:${MD5},MD5=${MD5}`],
    ['JSON that is none', `{"user":"dora","realm":"example.net","MD5":"${MD5}"`],
    ['no digest', '{"user":"dora","realm":"example.net"}'],
    ['no realm in JSON', `{"user":"dora","MD5":"${MD5}"}`],
    ['a user with a colon', `{"user":"do:ra","realm":"example.net","MD5":"${MD5}"}`],
    ['a digest that is a number', '{"user":"dora","realm":"example.net","MD5":7}'],
    ['aors that are no list', `{"user":"dora","realm":"example.net","MD5":"${MD5}","aors":"sip:a@b"}`],
    ['an aor that is no SIP URI', `{"user":"dora","realm":"example.net","MD5":"${MD5}","aors":["dora"]}`],
    ['a digest that an earlier line has', `dora:example.net:${MD5}\n`.repeat(2)],
  ])('are refused with %s, by number and without a word of theirs', (_, line) => {
    let fault: unknown;
    try {
      parseUsers(`# one\n${line}`);
    } catch (error) {
      fault = error;
    }
    expect(fault).toBeInstanceOf(CredentialsFault);
    expect((fault as CredentialsFault).message).toMatch(/^line [23]: /);
    for (const secret of [MD5, SHA, 'tin-whistle-42', 'dora'])
      expect((fault as CredentialsFault).message).not.toContain(secret);
  });

  it('may be anything without making the parser throw', () => {
    const piece = fc.oneof(
      fc.string(),
      fc.json(),
      fc.constantFrom(':', '=', ',', MD5, SHA, '{', '"user":"a"', 'MD5='),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
        parseLine(pieces.join(''));
      }),
      { numRuns: 1_000 },
    );
  });
});

describe('credentials from a file', () => {
  function open(text: string) {
    const path = join(directory(), 'users');
    write(path, text);
    const memory = remember();
    return { path, credentials: FileCredentials.open(path, memory.log), ...memory };
  }

  it('are the HA1s of the user in the realm, and nobody else is known', async () => {
    const { credentials } = open(`dora:example.net:MD5=${MD5},SHA-256=${SHA}\n`);
    expect(await find(credentials, 'dora')).toEqual({ status: 'found', ha1: SHA, aors: [] });
    expect(await find(credentials, 'dora', 'MD5')).toEqual({ status: 'found', ha1: MD5, aors: [] });
    for (const lookup of [
      find(credentials, 'dora', 'SHA-512-256'),
      find(credentials, 'Dora'),
      find(credentials, 'dora', 'SHA-256', 'example.org'),
      find(credentials, '__proto__'),
      find(credentials, ''),
    ])
      expect(await lookup).toEqual({ status: 'unknown' });
  });

  it('tell what can be offered to a user: what he has himself', () => {
    const { credentials } = open(
      `dora:example.net:MD5=${MD5},SHA-256=${SHA}\n{"user":"eve","realm":"example.net","MD5":"${MD5}","aors":["sip:100@example.net"]}`,
    );
    const offers = (user: string) => credentials.algorithms('example.net', `sip:${user}@example.net`);
    expect(['dora', 'eve', '100'].map(offers)).toEqual([['SHA-256', 'MD5'], ['MD5'], ['MD5']]);
  });

  it('tell what can be offered to others: what all of the realm have, else what any has, in a new realm all', () => {
    const offers = (text: string) =>
      open(text).credentials.algorithms('example.net', 'sip:nobody@example.net');
    expect(
      offers(`dora:example.net:MD5=${MD5},SHA-256=${SHA}\neve:example.net:${MD5}\nx:other:SHA-256=${SHA}`),
    ).toEqual(['MD5']);
    expect(offers(`dora:example.net:SHA-256=${SHA}\neve:example.net:${MD5}`)).toEqual(['SHA-256', 'MD5']);
    expect(offers('')).toEqual(ALGORITHMS);
  });

  it('tell whose an address-of-record is, also after the file has changed', async () => {
    const { path, credentials } = open(
      `{"user":"dora","realm":"example.net","MD5":"${MD5}","aors":["sip:100@example.org"]}\n`,
    );
    const known = () => ['sip:dora@example.net', 'sip:100@example.org'].map((aor) => credentials.knows(aor));
    expect(known()).toEqual([true, true]);
    expect(credentials.knows('sip:Dora@example.net')).toBe(false);
    write(path, `eve:example.net:${MD5}\n`);
    await credentials.check();
    expect([...known(), credentials.knows('sip:eve@example.net')]).toEqual([false, false, true]);
  });

  it('follow the file when it is replaced or written over, all at once', async () => {
    const { path, credentials, lines } = open(`dora:example.net:${MD5}\n`);
    expect(await credentials.check()).toBe(false);
    write(path, `dora:example.net:SHA-256=${SHA}\neve:example.net:${MD5}\n`);
    expect(await Promise.all([credentials.check(), credentials.check()])).toEqual([true, true]);
    expect([credentials.size, (await find(credentials, 'dora', 'MD5')).status]).toEqual([2, 'unknown']);
    expect(credentials.algorithms('example.net', 'sip:nobody@example.net')).toEqual(['SHA-256', 'MD5']);
    writeFileSync(path, '');
    expect(await credentials.check()).toBe(true);
    expect(credentials.size).toBe(0);
    expect(lines.map(({ event, users }) => [event, users])).toEqual([
      ['credentials-read', 2],
      ['credentials-read', 0],
    ]);
  });

  it('stay as they were when the file is broken or gone, and say so once', async () => {
    const { path, credentials, lines, text } = open(`dora:example.net:SHA-256=${SHA}\n`);
    write(path, `dora:example.net:SHA-256=${SHA}\nmallory:example.net:secret\n`);
    for (let i = 0; i < 3; i++) expect(await credentials.check()).toBe(false);
    unlinkSync(path);
    for (let i = 0; i < 3; i++) expect(await credentials.check()).toBe(false);
    expect((await find(credentials, 'dora')).status).toBe('found');
    expect(lines.map(({ event, reason, kept }) => [event, reason, kept])).toEqual([
      ['credentials-refused', 'line 2: the MD5 digest is no such digest', 1],
      ['credentials-refused', 'ENOENT', 1],
    ]);
    expect(text()).not.toMatch(/secret|mallory/);
    write(path, '');
    expect(await credentials.check()).toBe(true);
    expect(text()).not.toContain(SHA);
  });

  it('are looked after by a timer that ends with them', async () => {
    const { path, credentials, lines } = open('');
    credentials.watch(5);
    write(path, `dora:example.net:${MD5}\n`);
    while (credentials.size === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await credentials.close();
    expect(lines).toHaveLength(1);
  });

  it('that others can read are warned of', async () => {
    const path = join(directory(), 'users');
    write(path, '');
    chmodSync(path, 0o644);
    const { log, lines } = remember();
    FileCredentials.open(path, log);
    expect(lines).toMatchObject([{ event: 'credentials-readable', file: path, mode: '644' }]);
  });

  it('that are broken or not there are an error at the start', () => {
    const path = join(directory(), 'users');
    expect(() => FileCredentials.open(path, remember().log)).toThrow(/ENOENT/);
    write(path, 'dora\n');
    expect(() => FileCredentials.open(path, remember().log)).toThrow(CredentialsFault);
  });
});

describe('passwd', () => {
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const typing = (...chunks: string[]) => Readable.from(chunks.map((chunk) => Buffer.from(chunk, 'utf8')));

  it('adds a user with all digests, in a file of mode 0600, and leaves nothing else behind', async () => {
    const home = directory();
    const file = join(home, 'users');
    expect(await passwd(file, 'dora@Example.NET', typing('tin-wh', 'istle-42\r\nmore'), nowhere)).toEqual({
      user: 'dora',
      realm: 'example.net',
      added: true,
    });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(home)).toEqual(['users']);
    const credentials = FileCredentials.open(file, remember().log);
    for (const algorithm of ALGORITHMS)
      expect(await find(credentials, 'dora', algorithm)).toEqual({
        status: 'found',
        ha1: ha1(algorithm, 'dora'),
        aors: [],
      });
    expect(readFileSync(file, 'utf8')).not.toContain('tin-whistle');
  });

  it('changes a password in its place and keeps all other lines, the aors, the mode and the link', async () => {
    const home = directory();
    const real = join(home, 'real');
    const file = join(home, 'users');
    const before = [
      '# ours',
      `eve:example.net:${MD5}`,
      `dora:example.net:${MD5}`,
      '',
      `{"user":"dora","realm":"example.net","SHA-256":"${SHA}","aors":["sip:100@example.net"]}`,
      `dora:example.org:${MD5}`,
    ];
    writeFileSync(real, before.join('\n'), { mode: 0o644 });
    symlinkSync('real', file);
    const { uid } = statSync(real);
    expect(await passwd(file, 'dora@example.net', typing('drum'), nowhere)).toMatchObject({ added: false });
    const lines = readFileSync(file, 'utf8').split('\n');
    expect([lines[0], lines[1], lines[3], lines[4]]).toEqual([before[0], before[1], before[3], before[5]]);
    expect(JSON.parse(lines[2])).toMatchObject({
      user: 'dora',
      MD5: ha1('MD5', 'dora', 'drum'),
      aors: ['sip:100@example.net'],
    });
    expect([statSync(real).mode & 0o777, statSync(real).uid, readdirSync(home).sort()]).toEqual([
      0o600,
      uid,
      ['real', 'users'],
    ]);
    await passwd(file, 'frank@example.net', typing('fife\n'), nowhere);
    expect(readFileSync(file, 'utf8').split('\n').slice(0, 5)).toEqual(lines.slice(0, 5));
    expect(parseUsers(readFileSync(file, 'utf8')).size).toBe(4);
  });

  it.runIf(process.getuid?.() === 0)(
    'leaves the file to the one who owns it, if root changes it',
    async () => {
      const file = join(directory(), 'users');
      writeFileSync(file, '');
      chownSync(file, 65534, 65534);
      await passwd(file, 'dora@example.net', typing('drum\n'), nowhere);
      expect([statSync(file).uid, statSync(file).gid, statSync(file).mode & 0o777]).toEqual([
        65534, 65534, 0o600,
      ]);
    },
  );

  it('hashes what people write in one form, however their keyboard composes it', async () => {
    const file = join(directory(), 'users');
    await passwd(file, 'ja\u0308son@example.net', typing('se\u0301same\n'), nowhere);
    const credentials = FileCredentials.open(file, remember().log);
    expect(await find(credentials, 'j\u00e4son')).toMatchObject({
      ha1: ha1('SHA-256', 'j\u00e4son', 's\u00e9same'),
    });
  });

  it('asks at a terminal, without showing what is typed', async () => {
    const file = join(directory(), 'users');
    const modes: boolean[] = [];
    const terminal = Object.assign(new PassThrough(), {
      isTTY: true,
      setRawMode: (on: boolean) => modes.push(on),
    });
    let shown = '';
    const screen = new Writable({
      write: (chunk, _encoding, done) => {
        shown += chunk;
        done();
      },
    });
    const done = passwd(file, 'dora@example.net', terminal, screen);
    terminal.write('tin-whistle-43\u007f');
    terminal.write('2\r');
    await done;
    expect([modes, shown]).toEqual([[true, false], 'Password for dora@example.net: \n']);
    expect(await find(FileCredentials.open(file, remember().log), 'dora')).toMatchObject({ ha1: SHA });
  });

  it('can be given up at a terminal', async () => {
    const home = directory();
    const terminal = Object.assign(new PassThrough(), { isTTY: true });
    const done = passwd(join(home, 'users'), 'dora@example.net', terminal, nowhere);
    terminal.write('tin\u0003');
    await expect(done).rejects.toThrow(PasswdError);
    expect(readdirSync(home)).toEqual([]);
  });

  it('refuses what is no address, no password, or a broken file, and writes nothing', async () => {
    const home = directory();
    const file = join(home, 'users');
    for (const address of [
      'dora',
      '@example.net',
      'dora@',
      'do:ra@example.net',
      'dora@example.net:5060',
      'dora@a;b',
      'dora@"',
    ])
      await expect(passwd(file, address, typing('x\n'), nowhere), address).rejects.toThrow(PasswdError);
    for (const list of ['', 'MD4', 'MD5;SHA-256']) expect(() => algorithmList(list)).toThrow(PasswdError);
    expect(algorithmList('md5, SHA-256')).toEqual(['SHA-256', 'MD5']);
    for (const typed of ['', '\n', 'x'.repeat(1025)])
      await expect(passwd(file, 'dora@example.net', typing(typed), nowhere)).rejects.toThrow(PasswdError);
    expect(readdirSync(home)).toEqual([]);
    writeFileSync(file, 'broken\n');
    await expect(passwd(file, 'dora@example.net', typing('x\n'), nowhere)).rejects.toThrow(CredentialsFault);
    expect(readFileSync(file, 'utf8')).toBe('broken\n');
  });
});
