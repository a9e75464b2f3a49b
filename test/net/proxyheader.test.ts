import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Endpoint } from '../../src/net/endpoint.ts';
import {
  CLIENT,
  HEADER,
  LOCAL,
  MALFORMED,
  MAX_HEADER,
  MORE,
  NONE,
  PING,
  ProxyHeader,
  UNKNOWN,
} from '../../src/net/proxyheader.ts';
import { block, line, SIGNATURE } from '../harness/proxy.ts';

const header = new ProxyHeader();
const read = (bytes: Buffer | string, seen = 0) => {
  const octets = Buffer.from(bytes as string, 'latin1');
  return header.read(octets, 0, octets.length, seen);
};
const client = () => ({ host: header.client.host, port: header.client.port, family: header.client.family });

const port = fc.integer({ min: 0, max: 65_535 });
const tlvs = fc.uint8Array({ maxLength: 300 });
const ipv4 = fc.ipV4();
const ipv6 = fc
  .array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 })
  .map((groups) => groups.map((g) => g.toString(16)).join(':'));
const either = fc.oneof(fc.tuple(ipv4, ipv4), fc.tuple(ipv6, ipv6));

const canonical = (host: string) => (Endpoint.parse(host, 0) as Endpoint).host;

describe('a header of version 1', () => {
  it('tells the client, of whatever family, and its own length', () => {
    fc.assert(
      fc.property(either, port, port, ([from, to], p, q) => {
        const text = line({ host: from, port: p }, { host: to, port: q });
        expect(read(`${text}OPTIONS sip:a SIP/2.0\r\n`)).toBe(HEADER);
        expect(header.about).toBe(CLIENT);
        expect(client()).toEqual({ host: canonical(from), port: p, family: from.includes(':') ? 6 : 4 });
        expect(header.length).toBe(text.length);
      }),
    );
  });

  it.each([
    'PROXY UNKNOWN\r\n',
    'PROXY UNKNOWN ffff:f:f:f:f:f:f:ffff ffff:f:f:f:f:f:f:ffff 65535 65535\r\n',
    'PROXY UNKNOWN anything \0 at all\r\n',
  ])('may know nothing of the client: %j', (text) => {
    expect(read(text)).toBe(HEADER);
    expect(header.about).toBe(UNKNOWN);
    expect(header.length).toBe(text.length);
  });

  it.each([
    'PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n',
    'PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rX',
    'PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n',
    'PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n',
    'PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n',
    'PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n',
    'PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n',
    'PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n',
    'PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n',
    'PROXY TCP6 [2001:db8::1] 2001:db8::2 1 2\r\n',
    'PROXY TCP6 2001:db8::1::2 2001:db8::2 1 2\r\n',
    'PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n',
    'PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n',
    'PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n',
    'PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n',
    'PROXY UNKNOWNS\r\n',
    'PROXY \r\n',
    `PROXY UNKNOWN ${'x'.repeat(92)}\r\n`,
    `PROXY ${'x'.repeat(101)}`,
  ])('is refused if it is written like this: %j', (text) => {
    expect(read(text)).toBe(MALFORMED);
    expect(header.signed).toBe(true);
  });

  it('of the greatest length is taken, and one octet more is not', () => {
    expect(read(`PROXY UNKNOWN ${'x'.repeat(91)}\r\n`)).toBe(HEADER);
    expect(header.length).toBe(107);
    expect(read(`PROXY UNKNOWN ${'x'.repeat(91)}`)).toBe(MORE);
  });
});

describe('octets behind what has come', () => {
  it('are not looked at', () => {
    const octets = Buffer.from('PROXY UNKNOWN\n', 'latin1');
    expect(header.read(octets, 0, octets.length - 1)).toBe(MORE);
    expect(header.read(octets, 0, octets.length)).toBe(MALFORMED);
  });
});

describe('a header of version 2', () => {
  it('tells the client, of whatever family; what follows the addresses is passed over', () => {
    fc.assert(
      fc.property(either, port, port, tlvs, ([from, to], p, q, more) => {
        const octets = block({ host: from, port: p }, { host: to, port: q }, Buffer.from(more));
        expect(read(Buffer.concat([octets, Buffer.from('OPTIONS')]))).toBe(HEADER);
        expect(header.about).toBe(CLIENT);
        expect(client()).toEqual({ host: canonical(from), port: p, family: from.includes(':') ? 6 : 4 });
        expect(header.length).toBe(octets.length);
      }),
    );
  });

  const with2 = (command: number, family: number, body: Buffer) => {
    const length = Buffer.alloc(2);
    length.writeUInt16BE(body.length);
    return Buffer.concat([SIGNATURE, Buffer.from([command, family]), length, body]);
  };

  it.each([
    [LOCAL, 0x20, 0x00, 0],
    [LOCAL, 0x20, 0x11, 12],
    [LOCAL, 0x20, 0x21, 3], // whatever its block is
    [UNKNOWN, 0x21, 0x00, 0],
    [UNKNOWN, 0x21, 0x00, 40],
    [UNKNOWN, 0x21, 0x12, 12], // a datagram's client has no connection
    [UNKNOWN, 0x21, 0x31, 216],
  ])('may tell no address (%i): command %i, family %i, %i octets', (about, command, family, size) => {
    expect(read(with2(command, family, Buffer.alloc(size, 7)))).toBe(HEADER);
    expect(header.about).toBe(about);
    expect(header.length).toBe(16 + size);
  });

  it.each([
    ['another version', with2(0x11, 0x11, Buffer.alloc(12))],
    ['another command', with2(0x22, 0x11, Buffer.alloc(12))],
    ['another family', with2(0x21, 0x41, Buffer.alloc(12))],
    ['another transport', with2(0x21, 0x13, Buffer.alloc(12))],
    ['too few octets for IPv4', with2(0x21, 0x11, Buffer.alloc(11))],
    ['too few octets for IPv6', with2(0x21, 0x21, Buffer.alloc(35))],
    ['too few octets for UNIX', with2(0x21, 0x31, Buffer.alloc(215))],
    ['more octets than anybody needs', with2(0x21, 0x11, Buffer.alloc(MAX_HEADER - 15))],
  ])('is refused with %s', (_what, octets) => {
    expect(read(octets)).toBe(MALFORMED);
    expect(read(octets.subarray(0, 16))).toBe(MALFORMED); // as soon as it shows
  });

  it('of the greatest length is taken', () => {
    expect(read(with2(0x21, 0x11, Buffer.alloc(MAX_HEADER - 16)))).toBe(HEADER);
  });
});

describe('a client of IPv4 in the dress of IPv6', () => {
  it('is a client of IPv4', () => {
    for (const octets of [
      Buffer.from('PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n'),
      block({ host: '::ffff:192.0.2.1', port: 1 }, { host: '::1', port: 2 }),
    ]) {
      expect(read(octets)).toBe(HEADER);
      expect(client()).toEqual({ host: '192.0.2.1', port: 1, family: 4 });
    }
  });
});

const anyHeader = fc
  .tuple(fc.boolean(), either, port, tlvs)
  .map(([first, [from, to], p, more]) =>
    first
      ? Buffer.from(line({ host: from, port: p }, { host: to, port: 5060 }))
      : block({ host: from, port: p }, { host: to, port: 5060 }, Buffer.from(more)),
  );

describe('whatever the network does', () => {
  it('every split of a header is MORE until its last octet, and signed from its signature on', () => {
    fc.assert(
      fc.property(anyHeader, (octets) => {
        const signature = octets[0] === 80 ? 6 : 12;
        for (let n = 0; n < octets.length; n++) {
          expect(read(octets.subarray(0, n))).toBe(MORE);
          expect(header.signed).toBe(n >= signature);
        }
        expect(read(octets)).toBe(HEADER);
      }),
      { numRuns: 50 },
    );
  });

  it('the front of the signature may have been taken for a keep-alive', () => {
    fc.assert(
      fc.property(either, port, fc.integer({ min: 1, max: PING }), ([from, to], p, gone) => {
        const octets = block({ host: from, port: p }, { host: to, port: 5060 });
        for (let n = gone; n < octets.length; n++) expect(read(octets.subarray(gone, n), gone)).toBe(MORE);
        expect(read(octets.subarray(gone), gone)).toBe(HEADER);
        expect(header.length).toBe(octets.length);
        expect(client().host).toBe(canonical(from));
      }),
      { numRuns: 50 },
    );
    expect(read('\r\n\r\n', PING)).toBe(NONE);
    expect(read('PROXY UNKNOWN\r\n', PING)).toBe(NONE);
  });

  it('octets at random never throw, and what is no header stays none however much comes', () => {
    const octets = fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map((a) => Buffer.from(a)),
      fc.uint8Array({ maxLength: 300 }).map((a) => Buffer.concat([SIGNATURE, a])),
      fc.uint8Array({ maxLength: 300 }).map((a) => Buffer.concat([Buffer.from('PROXY '), a])),
      fc.string({ maxLength: 120 }).map((a) => Buffer.from(`PROXY ${a}\r\n`)),
    );
    fc.assert(
      fc.property(octets, fc.nat(), (bytes, cut) => {
        const part = bytes.subarray(0, bytes.length === 0 ? 0 : cut % bytes.length);
        const before = read(part);
        const after = read(bytes);
        if (before === NONE || before === MALFORMED || before === HEADER) expect(after).toBe(before);
        if (after === HEADER) expect(header.length).toBeLessThanOrEqual(bytes.length);
        if (bytes.length >= MAX_HEADER) expect(after).not.toBe(MORE);
      }),
      { numRuns: 2_000 },
    );
  });

  it('SIP, TLS and keep-alives are no headers', () => {
    for (const text of ['REGISTER', 'PUBLISH', 'PRACK sip:a SIP/2.0', 'PROXYING', '\x16\x03\x01', 'GET /'])
      expect(read(text)).toBe(NONE);
    expect(read('\r\n\r\nREGISTER')).toBe(NONE);
    expect(read('\r\n\r\n\r\n')).toBe(NONE);
    expect(read('\r\n\r\n')).toBe(MORE);
    expect(header.signed).toBe(false);
  });
});
