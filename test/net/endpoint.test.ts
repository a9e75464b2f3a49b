/** Addresses as five integers, against Node's own reading of the same texts. */
import { isIP, isIPv4, isIPv6, SocketAddress } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Endpoint } from '../../src/net/endpoint.ts';

const parse = (host: string, port = 5060) => Endpoint.parse(host, port);
const octets = (e: Endpoint) =>
  [e.a0, e.a1, e.a2, e.a3].flatMap((w) => [w >>> 24, (w >>> 16) & 255, (w >>> 8) & 255, w & 255]);

/** The sixteen octets of an IPv6 address, by a reading that spells it out. */
function spelled(text: string): number[] {
  const v4 = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  const hex = (a: string, b: string) => ((Number(a) << 8) | Number(b)).toString(16);
  const plain = v4 ? `${v4[1]}${hex(v4[2], v4[3])}:${hex(v4[4], v4[5])}` : text;
  const [head, tail] = plain.split('::');
  const groups = (part: string | undefined) => (part ? part.split(':') : []);
  const zeros = 8 - groups(head).length - groups(tail).length;
  const all =
    tail === undefined ? groups(head) : [...groups(head), ...Array(zeros).fill('0'), ...groups(tail)];
  return all.flatMap((g) => [Number.parseInt(g, 16) >> 8, Number.parseInt(g, 16) & 255]);
}

describe('an IPv4 address', () => {
  it('is read and written back, mapped into the layout of IPv6', () => {
    fc.assert(
      fc.property(fc.ipV4(), fc.nat(65535), (host, port) => {
        const e = parse(host, port)!;
        expect([e.family, e.port, e.host, `${e}`]).toEqual([4, port, host, `${host}:${port}`]);
        expect(octets(e)).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, ...host.split('.').map(Number)]);
        expect(new Endpoint().setV4(e.a3, port).equals(e)).toBe(true);
      }),
    );
  });
});

describe('an IPv6 address', () => {
  const text = fc.oneof(
    fc.ipV6(),
    fc
      .array(fc.constantFrom('0', '0', '1', 'db8', 'ffff', '0001'), { minLength: 8, maxLength: 8 })
      .map((g) => g.join(':')),
    fc.constantFrom(
      '::',
      '::1',
      '1::',
      '2001:db8::',
      '::ffff:192.0.2.1',
      '64:ff9b::192.0.2.1',
      '1:2:3:4:5:6:192.0.2.1',
      '1:2:3:4:5:6:7::',
      '::2:3:4:5:6:7:8',
    ),
  );

  it('is read in every spelling, with and without brackets', () => {
    fc.assert(
      fc.property(text, (host) => {
        fc.pre(isIPv6(host));
        const e = parse(host)!;
        expect(e.family).toBe(6);
        expect(octets(e)).toEqual(spelled(host));
        expect(parse(`[${host}]`)!.equals(e)).toBe(true);
        expect(parse(host.toUpperCase())!.equals(e)).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  it('is written as RFC 5952 has it, which is as Node writes it', () => {
    fc.assert(
      fc.property(text, (host) => {
        fc.pre(isIPv6(host));
        const e = parse(host)!;
        const again = parse(e.host)!;
        expect(again.equals(e) && again.family === 6).toBe(true);
        expect(`${e}`).toBe(`[${e.host}]:5060`);
        // Node writes the deprecated ::a.b.c.d forms with dots
        if (e.a0 !== 0 || e.a1 !== 0)
          expect(e.host).toBe(new SocketAddress({ address: host, family: 'ipv6' }).address);
      }),
      { numRuns: 500 },
    );
    expect(parse('2001:db8:0:0:1:0:0:1')!.host).toBe('2001:db8::1:0:0:1');
    expect(parse('2001:db8:0:1:1:1:1:1')!.host).toBe('2001:db8:0:1:1:1:1:1');
    expect(parse('0:0:0:0:0:0:0:0')!.host).toBe('::');
  });
});

describe('any other text', () => {
  it('is no address, exactly where Node sees none', () => {
    const piece = fc.constantFrom(
      '1',
      '255',
      '256',
      '0',
      'ab',
      'fffff',
      '.',
      ':',
      '::',
      '1.2.3.4',
      'g',
      ' ',
      '%eth0',
      '[',
      ']',
      '-',
    );
    fc.assert(
      fc.property(
        fc.array(piece, { maxLength: 10 }).map((p) => p.join('')),
        (host) => {
          // brackets are ours; leading zeros and zones are not taken as Node takes them
          fc.pre(!/[[\]%]|(^|\.|:)0\d+\.|\.0\d/.test(host));
          expect([host, parse(host)?.family ?? 0]).toEqual([host, isIP(host)]);
        },
      ),
      { numRuns: 3000 },
    );
  });

  it.each([
    '',
    'localhost',
    '1.2.3',
    '1.2.3.4.5',
    '1.2.3.4 ',
    '[1.2.3.4]',
    '[::1',
    '::1]',
    '[]',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1::2::3',
    ':::',
    ':1:2:3:4:5:6:7',
    '::1%lo',
    '2001:db8:::192.0.2.1',
    '1.2.3.4::',
  ])('%j leaves the endpoint as it was', (host) => {
    const e = parse('192.0.2.1', 7)!;
    expect(e.parse(host, 9)).toBeUndefined();
    expect(`${e}`).toBe('192.0.2.1:7');
  });
});

describe('comparison', () => {
  it('of addresses leaves the port aside, of endpoints it does not', () => {
    const hosts = fc.oneof(fc.ipV4(), fc.ipV6());
    fc.assert(
      fc.property(hosts, hosts, fc.nat(3), fc.nat(3), (a, b, p, q) => {
        const x = parse(a, p)!;
        const y = parse(b, q)!;
        const same = octets(x).join() === octets(y).join();
        expect(x.sameAddress(y)).toBe(same);
        expect(x.equals(y)).toBe(same && p === q);
        expect(new Endpoint().copy(x).equals(x)).toBe(true);
      }),
    );
    const base = parse('2001:db8:1:2:3:4:5:6')!;
    for (const word of ['a0', 'a1', 'a2', 'a3'] as const) {
      const other = new Endpoint().copy(base);
      other[word] ^= 1;
      expect(other.sameAddress(base) || other.equals(base)).toBe(false);
    }
  });

  it('knows the wildcard and the loopback of both families', () => {
    for (const host of ['0.0.0.0', '::']) expect(parse(host)!.isWildcard).toBe(true);
    for (const host of ['0.0.0.1', '::1', '1::', '0:0:1::', '128.0.0.0'])
      expect(parse(host)!.isWildcard).toBe(false);
    for (const host of ['127.0.0.1', '127.255.0.3', '::1']) expect(parse(host)!.isLoopback).toBe(true);
    for (const host of ['128.0.0.1', '126.0.0.1', '::', '::2', '1::1', '::ffff:127.0.0.1'])
      expect(parse(host)!.isLoopback).toBe(false);
    expect(isIPv4('127.0.0.1')).toBe(true);
  });
});
