import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { base64urlLength, decodeBase64url, encodeBase64url } from '../../src/flow/base64url.ts';

const decode = (text: string) => {
  const src = Buffer.from(text, 'latin1');
  const dst = Buffer.alloc(200);
  const n = decodeBase64url(src, 0, src.length, dst, 0);
  return n < 0 ? undefined : dst.subarray(0, n).toString('hex');
};

describe('base64url', () => {
  it('agrees with the platform, at any offset, and writes nothing beyond the text', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), fc.nat(5), fc.nat(5), (octets, from, to) => {
        const src = Buffer.concat([Buffer.alloc(from, 0xee), octets, Buffer.alloc(3, 0xee)]);
        const dst = Buffer.alloc(200, 0x2e);
        const end = encodeBase64url(src, from, from + octets.length, dst, to);
        const text = Buffer.from(octets).toString('base64url');
        expect(end - to).toBe(base64urlLength(octets.length));
        expect(dst.toString('latin1')).toBe('.'.repeat(to) + text + '.'.repeat(200 - end));
        expect(decode(text)).toBe(Buffer.from(octets).toString('hex'));
      }),
    );
  });

  it('refuses every octet outside the alphabet, at every place', () => {
    const good = Buffer.from('AbCdEfGhIjI');
    for (let at = 0; at < good.length; at++) {
      for (let octet = 0; octet < 256; octet++) {
        const text = Buffer.from(good);
        text[at] = octet;
        const legal = /[A-Za-z0-9_-]/.test(String.fromCharCode(octet));
        const out = Buffer.alloc(16);
        const n = decodeBase64url(text, 0, text.length, out, 0);
        if (!legal) expect(n).toBe(-1);
        else if (at < good.length - 1) expect(n).toBe(8);
      }
    }
  });

  it('refuses padding, impossible lengths and unused bits that are set', () => {
    expect(decode('AA')).toBe('00');
    expect(decode('AA==')).toBeUndefined();
    expect(decode('AAA=')).toBeUndefined();
    expect(decode('A')).toBeUndefined();
    expect(decode('AAAAA')).toBeUndefined();
    expect(decode('AB')).toBeUndefined();
    expect(decode('AAB')).toBeUndefined();
    expect(decode('AAE')).toBe('0001');
  });

  it('gives each value one text only: whatever decodes encodes to the same text again', () => {
    const text = fc.string({ unit: fc.constantFrom(...'ABab01_-PQgw48'), maxLength: 12 });
    fc.assert(
      fc.property(text, (t) => {
        const hex = decode(t);
        if (hex !== undefined) expect(Buffer.from(hex, 'hex').toString('base64url')).toBe(t);
      }),
    );
  });
});
