import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KeyFault, Keyring, loadKeyring, parseKeys, storeKeyring } from '../../src/flow/keyring.ts';

const key = (octet: number, length = 32) => Buffer.alloc(length, octet);
const text = (octet: number, length = 32) => key(octet, length).toString('base64');

function ring(value: Keyring | KeyFault): Keyring {
  if (value instanceof KeyFault) throw value;
  return value;
}
function fault(value: Keyring | KeyFault): KeyFault {
  if (!(value instanceof KeyFault)) throw new Error('accepted');
  return value;
}
/** What a token made by one ring needs from another. */
const current = (r: Keyring) => [r.currentId, Buffer.from(r.derive('token', 32)).toString('hex')];
const previous = (r: Keyring) => [
  r.previousId,
  Buffer.from(r.derivePrevious('token', 32) ?? []).toString('hex'),
];

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'holdfast-keys-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

describe('the keys of the data directory', () => {
  it('are made at the first start and come back after a restart [EP-5.2-04]', () => {
    const first = ring(loadKeyring(directory));
    const second = ring(loadKeyring(directory));
    expect(current(second)).toEqual(current(first));
    expect(second.previousId).toBe(-1);
  });

  it('differ from one data directory to another', () => {
    expect(current(ring(loadKeyring(join(directory, 'a'))))).not.toEqual(
      current(ring(loadKeyring(join(directory, 'b')))),
    );
  });

  it('are readable by the owner alone, also over a leftover that was not', () => {
    writeFileSync(join(directory, 'keys.json.new'), 'half');
    chmodSync(join(directory, 'keys.json.new'), 0o644);
    loadKeyring(directory);
    expect(statSync(join(directory, 'keys.json')).mode & 0o777).toBe(0o600);
    expect(readdirSync(directory)).toEqual(['keys.json']);
  });

  it('hold 32 random octets', () => {
    const asked: number[] = [];
    const random = (n: number) => {
      asked.push(n);
      return key(9, n);
    };
    const made = ring(loadKeyring(directory, random));
    expect(asked).toEqual([32]);
    expect(current(made)).toEqual(current(new Keyring({ current: { id: 1, octets: key(9) } })));
  });

  it('are rotated: the new one is current, the old one still known, after a restart too [EP-5.2-04]', () => {
    const old = ring(loadKeyring(directory));
    storeKeyring(directory, old.rotate());
    const rotated = ring(loadKeyring(directory));
    expect(previous(rotated)).toEqual(current(old));
    expect(current(rotated)[1]).not.toBe(current(old)[1]);
    expect(rotated.currentId).not.toBe(old.currentId);
  });

  it('wrap their id after 255 and never share one', () => {
    let r = ring(parseKeys(`254:${text(1)}`));
    const ids: number[] = [];
    for (let i = 0; i < 3; i++) {
      r = r.rotate();
      ids.push(r.currentId);
      expect(r.previousId).not.toBe(r.currentId);
    }
    expect(ids).toEqual([255, 0, 1]);
  });

  it('are not made anew over a corrupt file: the start is stopped with a reason', () => {
    const file = join(directory, 'keys.json');
    const entry = { id: 1, key: text(1) };
    for (const content of [
      '',
      '{',
      'null',
      '[]',
      JSON.stringify({ version: 2, current: entry }),
      JSON.stringify({ version: 1 }),
      JSON.stringify({ version: 1, current: { id: 256, key: text(1) } }),
      JSON.stringify({ version: 1, current: { id: 1, key: text(1, 15) } }),
      JSON.stringify({ version: 1, current: { id: 1, key: 5 } }),
      JSON.stringify({ version: 1, current: entry, previous: entry }),
      JSON.stringify({ version: 1, current: entry, previous: { id: 2 } }),
    ]) {
      writeFileSync(file, content);
      const refused = fault(loadKeyring(directory));
      expect([refused.code, refused.variable]).toEqual(['KEYS_FILE_CORRUPT', 'HOLDFAST_DATA/keys.json']);
      expect(refused.message).not.toContain(text(1).slice(0, 12));
      expect(readFileSync(file, 'utf8')).toBe(content);
    }
  });
});

describe('HOLDFAST_KEYS', () => {
  it('gives the current key, then the previous one', () => {
    const both = ring(parseKeys(`7:${text(1)}, 255:${text(2, 64)}`));
    expect(current(both)).toEqual(current(new Keyring({ current: { id: 7, octets: key(1) } })));
    expect(previous(both)).toEqual(current(new Keyring({ current: { id: 255, octets: key(2, 64) } })));
    expect(ring(parseKeys(`0:${text(1, 16)}`)).previousId).toBe(-1);
  });

  it('takes either base64 alphabet, padded or not', () => {
    const octets = Buffer.from(Array.from({ length: 32 }, (_, i) => 0xff - i));
    const spellings = [octets.toString('base64'), octets.toString('base64url')];
    expect(spellings[0]).toMatch(/[+/].*=$/);
    const [a, b] = spellings.map((s) => current(ring(parseKeys(`1:${s}`))));
    expect(a).toEqual(b);
  });

  it.each([
    ['', 'no key'],
    [text(1), 'entry 1 has no ":"'],
    [`256:${text(1)}`, 'the id of entry 1 is not a number from 0 to 255'],
    [`-1:${text(1)}`, 'the id of entry 1 is not a number from 0 to 255'],
    [`${text(1)}:1`, 'the id of entry 1 is not a number from 0 to 255'],
    [`1:${text(1)},2:${text(2, 15)}`, 'the key of entry 2 has 15 octets'],
    [`1:${text(1, 65)}`, 'the key of entry 1 has 65 octets'],
    [`1:${text(1)}!`, 'the key of entry 1 is not base64'],
    [`1:${text(1)},1:${text(2)}`, 'both keys have the id 1'],
    [`1:${text(1)},2:${text(2)},3:${text(3)}`, '3 keys'],
    [`1:${text(1)},`, 'entry 2 has no ":"'],
  ])('that is malformed is refused by its shape, without the key in the message (%#)', (value, found) => {
    const refused = fault(parseKeys(value));
    expect([refused.code, refused.variable, refused.found]).toEqual([
      'KEYS_MALFORMED',
      'HOLDFAST_KEYS',
      found,
    ]);
    expect(refused.message).toContain('ID:BASE64');
    for (const n of [1, 2, 3]) expect(refused.message).not.toContain(text(n).slice(0, 8));
  });
});

describe('a keyring', () => {
  it('derives another key for each purpose, length and ring, and the same one each time', () => {
    const one = new Keyring({ current: { id: 1, octets: key(1) } });
    const two = new Keyring({ current: { id: 1, octets: key(2) } });
    const keys = [one.derive('branch'), one.derive('token'), two.derive('branch'), key(1, 16)];
    expect(new Set(keys.map((k) => Buffer.from(k).toString('hex'))).size).toBe(4);
    expect(one.derive('branch')).toEqual(one.derive('branch'));
    expect(one.derive('branch')).toHaveLength(16);
    expect(one.derive('nonce', 40)).toHaveLength(40);
    expect(one.derivePrevious('branch')).toBeUndefined();
  });

  it('crosses to a worker as a plain object', () => {
    const r = ring(parseKeys(`7:${text(1)},8:${text(2)}`));
    const there = new Keyring(structuredClone(r.toPlain()));
    expect([current(there), previous(there)]).toEqual([current(r), previous(r)]);
  });

  it('shows no key to a log or an inspector', () => {
    const r = ring(parseKeys(`7:${text(0x41)}`));
    const shown = `${JSON.stringify(r)} ${inspect(r, { showHidden: true, depth: 5 })} ${String(r)}`;
    for (const secret of [text(0x41), 'AAAA', '41 41', '65, 65']) expect(shown).not.toContain(secret);
  });
});
