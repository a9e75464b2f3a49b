/** Instance-id and reg-ids over restarts: RFC 5626 4.1 and 4.2.1. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isInstance, loadIdentity } from '../../src/ua/identity.ts';

const AOR = 'sip:dora@example.test';
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'holdfast-ua-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe('the identity of a device', () => {
  it('is a UUID URN that a restart finds again, octet for octet [UA-4.1-02 UA-4.1-04 UA-4.1-09]', () => {
    const first = loadIdentity(dir, AOR, ['sip:a.test']);
    expect(first.instance).toMatch(/^urn:uuid:[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/);
    expect(loadIdentity(dir, AOR, ['sip:a.test'])).toEqual(first);
    expect(loadIdentity(dir, 'sip:other@example.test', ['sip:z.test']).instance).toBe(first.instance);
  });

  it('has one reg-id a URI, whatever their order, and never gives a number twice [UA-4.2.1-09 UA-4.2.1-10]', () => {
    const uris = ['sip:a.test', 'sip:b.test', 'sip:c.test', 'sip:d.test'];
    expect(loadIdentity(dir, AOR, uris).regIds).toEqual([1, 2, 3, 4]);
    expect(loadIdentity(dir, AOR, [...uris].reverse()).regIds).toEqual([4, 3, 2, 1]);
    expect(loadIdentity(dir, AOR, ['sip:new.test', 'sip:b.test']).regIds).toEqual([5, 2]);
    expect(loadIdentity(dir, AOR, ['sip:a.test']).regIds).toEqual([1]);
  });

  it('may be given, by a URN of a scheme that an RFC allows [UA-4.1-05]', () => {
    expect(isInstance('urn:foo:1')).toBe(false);
    expect(isInstance('urn:uuid:no')).toBe(false);
    expect(isInstance('urn:gsma:imei:90420156-025763-0;vers=0')).toBe(true);
    const urn = 'urn:uuid:F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6';
    expect(loadIdentity(dir, AOR, [], urn).instance).toBe(urn);
    expect(loadIdentity(dir, AOR, []).instance).toBe(urn);
  });

  it('is not replaced when its file is damaged', () => {
    loadIdentity(dir, AOR, ['sip:a.test']);
    const file = join(dir, 'user-agent.json');
    for (const text of ['', '{', '{"instance":"urn:foo:1","regIds":{}}', '{"instance":5}']) {
      writeFileSync(file, text);
      expect(() => loadIdentity(dir, AOR, ['sip:a.test'])).toThrow(/damaged/);
      expect(readFileSync(file, 'utf8')).toBe(text);
    }
  });
});
