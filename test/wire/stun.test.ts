import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Endpoint } from '../../src/net/endpoint.ts';
import { answerStun, isStun, STUN_ROOM } from '../../src/wire/stun.ts';

const ID = '0102030405060708090a0b0c';
const COOKIE = '2112a442';
const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');
const dora = Endpoint.parse('198.51.100.7', 40001)!;
const dora6 = Endpoint.parse('2001:db8:ffff::7', 40005)!;

function attribute(type: number, value: Uint8Array): Buffer {
  const out = Buffer.alloc(4 + ((value.length + 3) & ~3));
  out.writeUInt16BE(type, 0);
  out.writeUInt16BE(value.length, 2);
  out.set(value, 4);
  return out;
}

function message(type: number, attributes: Uint8Array[] = [], cookie = COOKIE): Buffer {
  const body = Buffer.concat(attributes);
  const head = Buffer.alloc(4);
  head.writeUInt16BE(type, 0);
  head.writeUInt16BE(body.length, 2);
  return Buffer.concat([head, hex(cookie), hex(ID), body]);
}

function withFingerprint(msg: Buffer): Buffer {
  const longer = Buffer.from(msg);
  longer.writeUInt16BE(msg.length - 20 + 8, 2);
  const value = Buffer.alloc(4);
  value.writeInt32BE((crc32(longer) ^ 0x5354554e) | 0);
  return Buffer.concat([longer, attribute(0x8028, value)]);
}

/** The answer in hex, '' for none: written beside the request, and checked to be the same in place. */
function answer(request: Uint8Array, from = dora): string {
  const out = Buffer.alloc(STUN_ROOM + 14, 0xaa);
  const n = answerStun(request, 0, request.length, from, out, 7);
  expect(out.subarray(0, 7).every((o) => o === 0xaa)).toBe(true);
  expect(out.subarray(7 + n).every((o) => o === 0xaa)).toBe(true);
  const beside = out.subarray(7, 7 + n).toString('hex');

  const slab = Buffer.alloc(9 + Math.max(STUN_ROOM, request.length), 0xaa);
  slab.set(request, 9);
  const m = answerStun(slab, 9, 9 + request.length, from, slab, 9);
  expect(slab.subarray(9, 9 + m).toString('hex')).toBe(beside);
  expect(slab.subarray(0, 9).every((o) => o === 0xaa)).toBe(true);
  return beside;
}

/** Parses a response by RFC 5389 alone; throws where it is not well-formed. */
function parse(text: string) {
  const buf = hex(text);
  const length = buf.readUInt16BE(2);
  expect(length).toBe(buf.length - 20);
  expect(length % 4).toBe(0);
  expect(buf.subarray(4, 8).toString('hex')).toBe(COOKIE);
  const attributes = new Map<number, Buffer>();
  let at = 20;
  while (at < buf.length) {
    const size = buf.readUInt16BE(at + 2);
    expect(at + 4 + size).toBeLessThanOrEqual(buf.length);
    attributes.set(buf.readUInt16BE(at), buf.subarray(at + 4, at + 4 + size));
    at += 4 + ((size + 3) & ~3);
  }
  expect(at).toBe(buf.length);
  return { type: buf.readUInt16BE(0), id: buf.subarray(8, 20).toString('hex'), attributes };
}

const plain = message(0x0001);
const success = `0101000c ${COOKIE} ${ID} 00200008 0001bd53 e721c045`.replaceAll(' ', '');

describe('a Binding request', () => {
  it('is a STUN message by its first octet; SIP never starts with 0 or 1 [ST-8-06 ST-8.1-01]', () => {
    for (let octet = 0; octet < 256; octet++) {
      expect(isStun(Uint8Array.of(9, octet), 1)).toBe(octet === 0 || octet === 1);
    }
  });

  it('without attributes gets its source address [ST-8-03 ST-8-04 ST-5389-01 ST-5389-03 ST-5389-12 EP-5.4-01]', () => {
    expect(plain.toString('hex')).toBe(`00010000${COOKIE}${ID}`);
    expect(answer(plain)).toBe(success);
  });

  it('over IPv6 gets its address, mixed with cookie and transaction id [ST-8-04 ST-8-05 ST-5389-12]', () => {
    expect(answer(plain, dora6)).toBe(
      hex(`01010018 ${COOKIE} ${ID} 00200014 0002bd57 0113a9fa fefd0304 05060708 090a0b0b`).toString('hex'),
    );
  });

  it('from 192.0.2.1:32853 gets the X-Port and X-Address of RFC 5769 [ST-5389-12]', () => {
    const { attributes } = parse(answer(plain, Endpoint.parse('192.0.2.1', 32853)!));
    expect(attributes.get(0x20)?.toString('hex')).toBe('0001a147e112a643');
  });

  it('over IPv4 on a dual-stack socket is told its IPv4 address [ST-8-04]', () => {
    const mapped = new Endpoint().copy(dora);
    mapped.family = 6;
    expect(answer(plain, mapped)).toBe(success);
  });

  it('gets back exactly the address it came from, whatever it is [ST-8-04 ST-5389-12]', () => {
    const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
    fc.assert(
      fc.property(fc.boolean(), word, word, word, word, fc.nat(65535), (v4, a0, a1, a2, a3, port) => {
        const from = new Endpoint();
        if (v4) from.setV4(a3, port);
        else Object.assign(from, { family: 6, port, a0, a1, a2, a3 });
        const value = parse(answer(plain, from)).attributes.get(0x20)!;
        const pad = hex(COOKIE + ID);
        const address = value.subarray(4).map((octet, i) => octet ^ pad[i]);
        expect(value.readUInt16BE(2) ^ 0x2112).toBe(port);
        expect(value.readUInt16BE(0)).toBe(v4 ? 1 : 2);
        const words = v4 ? [a3] : [a0, a1, a2, a3];
        expect(words.map((_, i) => Buffer.from(address).readInt32BE(i * 4))).toEqual(words);
      }),
    );
  });

  it('sent again gets the same answer [ST-5389-03 ST-5389-11]', () => {
    expect(answer(plain)).toBe(answer(plain));
  });

  it('with a right FINGERPRINT is answered with one [ST-5389-13]', () => {
    const request = withFingerprint(plain);
    expect(request.toString('hex')).toBe(`00010008${COOKIE}${ID}802800045b20f9cc`);
    expect(answer(request)).toBe(
      hex(`01010014 ${COOKIE} ${ID} 00200008 0001bd53 e721c045 80280004 687f463b`).toString('hex'),
    );
  });

  it('with any bit wrong under its FINGERPRINT is dropped [ST-5389-13]', () => {
    const request = withFingerprint(message(0x0001, [attribute(0x8022, Buffer.from('phone'))]));
    expect(answer(request)).not.toBe('');
    for (let bit = 0; bit < request.length * 8; bit++) {
      const octet = bit >>> 3;
      // these hide the FINGERPRINT: another attribute's length may swallow it, or its type is another
      if (octet === 22 || octet === 23 || octet === 32 || octet === 33) continue;
      const broken = Buffer.from(request);
      broken[octet] ^= 0x80 >>> (bit & 7);
      expect(answer(broken), `bit ${bit}`).toBe('');
    }
  });

  it('with a FINGERPRINT that is not last or not 4 octets long is dropped [ST-5389-13]', () => {
    const early = Buffer.concat([withFingerprint(plain), attribute(0x8fff, Buffer.alloc(0))]);
    early.writeUInt16BE(12, 2);
    const crc = Buffer.from(early.subarray(0, 20));
    early.writeInt32BE((crc32(crc) ^ 0x5354554e) | 0, 24);
    expect(answer(early)).toBe('');
    const long = message(0x0001, [attribute(0x8028, Buffer.alloc(8))]);
    long.writeInt32BE((crc32(long.subarray(0, 20)) ^ 0x5354554e) | 0, 24);
    expect(answer(long)).toBe('');
  });

  it('with an unknown attribute that may be ignored is answered [ST-5389-05]', () => {
    for (const type of [0x8000, 0x8022, 0x8023, 0x8fff, 0xffff]) {
      expect(answer(message(0x0001, [attribute(type, Buffer.from('abc'))]))).toBe(success);
    }
  });

  it('with an unknown attribute that must be understood gets 420 that lists it [ST-5389-06 ST-5389-08]', () => {
    expect(answer(hex(`00010008 ${COOKIE} ${ID} 70010004 deadbeef`))).toBe(
      hex(
        `01110024 ${COOKIE} ${ID} 00090015 00000414 556e6b6e 6f776e20 41747472 69627574 65000000 000a0002 70010000`,
      ).toString('hex'),
    );
  });

  it('with CHANGE-REQUEST of RFC 3489 gets 420, since this server has one address [ST-5389-06]', () => {
    expect(parse(answer(message(0x0001, [attribute(0x0003, Buffer.alloc(4))]))).type).toBe(0x0111);
  });

  it('with several unknown ones gets each of them once, and a well-formed 420 [ST-5389-06 ST-5389-08 ST-5389-13]', () => {
    const types = fc.array(fc.integer({ min: 0x0100, max: 0x7fff }), { minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(types, fc.boolean(), (list, fingerprint) => {
        const bare = message(
          0x0001,
          list.map((type, i) => attribute(type, Buffer.alloc(i & 3))),
        );
        const text = answer(fingerprint ? withFingerprint(bare) : bare);
        const { type, id, attributes } = parse(text);
        expect([type, id]).toEqual([0x0111, ID]);
        expect(text.length / 2).toBeLessThanOrEqual(STUN_ROOM);
        expect(attributes.get(0x0009)?.toString('latin1')).toBe('\0\0\x04\x14Unknown Attribute');
        const listed = attributes.get(0x000a)!;
        const got = Array.from({ length: listed.length / 2 }, (_, i) => listed.readUInt16BE(i * 2));
        expect(got).toEqual([...new Set(list)].slice(0, 32));
        expect(attributes.has(0x8028)).toBe(fingerprint);
        if (fingerprint) expect(withFingerprint(withoutFingerprint(text)).toString('hex')).toBe(text);
      }),
    );
  });

  it('with USERNAME and MESSAGE-INTEGRITY is answered without regard to them [ST-5389-16]', () => {
    const credentials = [
      attribute(0x0006, Buffer.from('dora')),
      attribute(0x0014, Buffer.from('example.net')),
      attribute(0x0015, Buffer.from('nonce')),
      attribute(0x0008, Buffer.alloc(20, 7)),
    ];
    expect(answer(message(0x0001, credentials))).toBe(success);
  });

  it('has everything after MESSAGE-INTEGRITY ignored but FINGERPRINT [ST-5389-16 ST-5389-13]', () => {
    const late = message(0x0001, [attribute(8, Buffer.alloc(20)), attribute(0x7001, Buffer.alloc(4))]);
    expect(answer(late)).toBe(success);
    const right = withFingerprint(late);
    expect(parse(answer(right)).attributes.has(0x8028)).toBe(true);
    right[right.length - 1] ^= 1;
    expect(answer(right)).toBe('');
  });

  it('does not make us name our product [ST-5389-09]', () => {
    expect(parse(answer(plain)).attributes.has(0x8022)).toBe(false);
  });
});

function withoutFingerprint(text: string): Buffer {
  const bare = Buffer.from(hex(text).subarray(0, -8));
  bare.writeUInt16BE(bare.length - 20, 2);
  return bare;
}

describe('dropped without an answer', () => {
  it('RFC 3489: no cookie, or another one [ST-8-13 ST-5389-04]', () => {
    expect(answer(message(0x0001, [], '00000000'))).toBe('');
    expect(answer(message(0x0001, [], '2112a443'))).toBe('');
  });

  it('a length that is no multiple of 4, or not that of the datagram [ST-5389-02]', () => {
    for (const [length, extra] of [
      [3, 3],
      [3, 4],
      [4, 0],
      [0, 4],
      [0xfffc, 0],
      [8, 4],
    ]) {
      const buf = Buffer.concat([plain, Buffer.alloc(extra)]);
      buf.writeUInt16BE(length, 2);
      expect(answer(buf), `${length} of ${extra}`).toBe('');
    }
  });

  it('an attribute that reaches beyond the message [ST-5389-02 ST-5389-04]', () => {
    const beyond = message(0x0001, [attribute(0x8fff, Buffer.alloc(4))]);
    beyond.writeUInt16BE(5, 22);
    expect(answer(beyond)).toBe('');
  });

  it('less than a header, at every length [ST-5389-02]', () => {
    for (let n = 0; n < 20; n++) expect(answer(plain.subarray(0, n))).toBe('');
  });

  it('Binding indications and responses, also with unknown attributes [ST-5389-04 ST-5389-07]', () => {
    for (const type of [0x0011, 0x0101, 0x0111]) {
      expect(answer(message(type))).toBe('');
      expect(answer(message(type, [attribute(0x7001, Buffer.alloc(4))]))).toBe('');
    }
  });

  it('every type other than the Binding request, Allocate among them [ST-8-02 ST-5389-01 ST-5389-04]', () => {
    for (let type = 0; type < 0x10000; type++) {
      if (type === 0x0001) continue;
      const buf = Buffer.from(plain);
      buf.writeUInt16BE(type);
      expect(answerStun(buf, 0, 20, dora, buf, 0)).toBe(0);
    }
  });

  it('a request longer than any path allows for [ST-5389-02]', () => {
    const filler = (n: number) => message(0x0001, [attribute(0x8fff, Buffer.alloc(n))]);
    expect(answer(filler(1280 - 24))).toBe(success);
    expect(answer(filler(1280 - 20))).toBe('');
  });

  it('junk: whatever comes, the answer is none or well-formed [ST-8-13 ST-5389-04]', () => {
    const tail = fc.uint8Array({ maxLength: 60 });
    fc.assert(
      fc.property(tail, fc.boolean(), (octets, fix) => {
        const buf = Buffer.concat([plain, octets]);
        if (fix) buf.writeUInt16BE(octets.length, 2);
        const text = answer(buf);
        if (text !== '') expect([0x0101, 0x0111]).toContain(parse(text).type);
      }),
      { numRuns: 2000 },
    );
  });
});
