/** Frames of either side: joined, unmasked and refused the same way however the network splits them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_MESSAGE } from '../../src/wire/limits.ts';
import { Words } from '../../src/wire/words.ts';
import {
  BINARY,
  CLOSE,
  Frames,
  MORE,
  maskedFrame,
  NOT_UTF8,
  OwnFrame,
  PING,
  PONG,
  PROTOCOL_ERROR,
  TEXT,
  TOO_BIG,
  writeHead,
} from '../../src/wire/wsframe.ts';
import { type FrameOptions, frame } from '../harness/websocket.ts';

type Found = [kind: number, payload: string];

/** The most octets that were kept between two reads of the last `read`. */
let mostKept = 0;

/**
 * Feeds the stream in chunks, as a shard does: what is not used up is kept, and may have moved when the
 * next octets have come. What lies around the range is checked to be left alone.
 */
function read(stream: Buffer, cuts: readonly number[] = [], from?: 'server'): Found[] {
  const frames = new Frames(from);
  const found: Found[] = [];
  mostKept = 0;
  let kept = Buffer.alloc(0);
  let fed = 0;
  for (const cut of [...cuts, stream.length]) {
    const offset = 4 + (cut % 7);
    const length = kept.length + cut - fed;
    const mem = Buffer.from(new SharedArrayBuffer((offset + length + 11) & ~3)).fill(0xa5);
    mem.set(kept, offset);
    mem.set(stream.subarray(fed, cut), offset + kept.length);
    fed = cut;
    const words = new Words(mem);
    const end = offset + length;
    for (let p = offset; ; ) {
      const kind = frames.next(words, p, end);
      if (kind >= 1000) return [...found, [kind, '']];
      expect(frames.frameEnd).toBeGreaterThanOrEqual(p);
      p = frames.frameEnd;
      if (kind === MORE) {
        kept = Buffer.from(mem.subarray(p, end));
        mostKept = Math.max(mostKept, kept.length);
        break;
      }
      found.push([kind, mem.toString('latin1', frames.start, frames.end)]);
    }
    expect(mem.subarray(0, offset).every((o) => o === 0xa5)).toBe(true);
    expect(mem.subarray(end).every((o) => o === 0xa5)).toBe(true);
  }
  return found;
}

const latin1 = (text: string) => Buffer.from(text, 'latin1');
const everyOctet = (length: number) => Array.from({ length: Math.max(0, length - 1) }, (_, i) => i + 1);
const one = (payload: Buffer | string, options: FrameOptions = {}) =>
  frame(typeof payload === 'string' ? Buffer.from(payload) : payload, options);
const closing = (code: number, reason = '') =>
  Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)]);

/** One message in fragments of these lengths, the rest in the last, with control frames between them. */
function fragments(opcode: number, payload: Buffer, lengths: readonly number[], between: Buffer[]): Buffer {
  const parts: Buffer[] = [];
  let at = 0;
  for (const [i, length] of lengths.entries()) {
    parts.push(one(payload.subarray(at, at + length), { opcode: i === 0 ? opcode : 0, fin: false }));
    if (between[i]) parts.push(between[i]);
    at = Math.min(payload.length, at + length);
  }
  parts.push(one(payload.subarray(at), { opcode: lengths.length === 0 ? opcode : 0 }));
  return Buffer.concat(parts);
}

/** The same frames as a server sends them. */
function bare(stream: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < stream.length; ) {
    const short = stream[at + 1] & 0x7f;
    const length =
      short === 126
        ? stream.readUInt16BE(at + 2)
        : short === 127
          ? Number(stream.readBigUInt64BE(at + 2))
          : short;
    const keyAt = at + (short === 126 ? 4 : short === 127 ? 10 : 2);
    const from = keyAt + 4;
    const plain = stream.subarray(from, from + length).map((octet, i) => octet ^ stream[keyAt + (i & 3)]);
    parts.push(one(Buffer.from(plain), { opcode: stream[at] & 15, fin: stream[at] >= 0x80, mask: false }));
    at = from + length;
  }
  return Buffer.concat(parts);
}

const payload = fc.oneof(
  fc.constantFrom('', '\r\n\r\n', 'REGISTER sip:a SIP/2.0\r\n\r\n').map((text) => Buffer.from(text)),
  fc.string({ maxLength: 300 }).map((text) => Buffer.from(text)),
  fc.constantFrom(125, 126, 127, 65_535, 65_536, 70_001).map((n) => Buffer.alloc(n, 'x')),
);
const control = fc
  .tuple(fc.constantFrom(PING, PONG), fc.uint8Array({ maxLength: 125 }))
  .map(([opcode, octets]): [Found, Buffer] => [
    [opcode, Buffer.from(octets).toString('latin1')],
    one(Buffer.from(octets), { opcode }),
  ]);
const message = fc
  .tuple(
    fc.constantFrom(TEXT, BINARY),
    payload,
    fc.array(fc.nat({ max: 40 }), { maxLength: 5 }),
    fc.array(control, { maxLength: 5 }),
  )
  .map(([opcode, octets, lengths, controls]): [Found[], Buffer] => {
    const between = controls.slice(0, lengths.length);
    return [
      [...between.map(([found]) => found), [opcode, octets.toString('latin1')]],
      fragments(
        opcode,
        octets,
        lengths,
        between.map(([, octetsOf]) => octetsOf),
      ),
    ];
  });
const part = fc.oneof(
  message,
  control.map(([found, octets]): [Found[], Buffer] => [[found], octets]),
);

describe('frames that the network splits', () => {
  it('give the messages that were sent, however they are fragmented, interleaved and cut [7118-4.2-01 7118-6455-01]', () => {
    fc.assert(
      fc.property(
        fc.array(part, { maxLength: 6 }),
        fc.array(fc.nat({ max: 1_000_000 }), { maxLength: 12 }),
        (parts, places) => {
          const stream = Buffer.concat(parts.map(([, octets]) => octets));
          const cuts = places.map((place) => place % (stream.length + 1)).sort((a, b) => a - b);
          const expected = parts.flatMap(([found]) => found);
          expect(read(stream)).toEqual(expected);
          expect(read(stream, cuts)).toEqual(expected);
          const ours = bare(stream);
          const others = cuts.map((cut) => Math.min(cut, ours.length));
          expect(read(ours, others, 'server')).toEqual(expected);
        },
      ),
      { numRuns: 150 },
    );
  });

  it('give the same octet by octet as in one piece', () => {
    const stream = Buffer.concat([
      one('\r\n\r\n'),
      fragments(TEXT, Buffer.from('grün, '.repeat(60)), [0, 1, 0, 7, 200], [one('p', { opcode: PING })]),
      one(Buffer.alloc(200, 0xff), { opcode: BINARY }),
      one(closing(1000, 'bye'), { opcode: CLOSE }),
    ]);
    const inOne = read(stream);
    expect(inOne.map(([kind]) => kind)).toEqual([TEXT, PING, TEXT, BINARY, CLOSE]);
    expect(read(stream, everyOctet(stream.length))).toEqual(inOne);
    const ours = bare(stream);
    expect(read(ours, everyOctet(ours.length), 'server')).toEqual(inOne);
  });

  it('keeps at least one octet while a message is open, so that the flow can be seen not to be quiet', () => {
    const empty = one('', { fin: false });
    expect(read(empty)).toEqual([]);
    expect(mostKept).toBe(1);
    expect(read(bare(empty), [], 'server')).toEqual([]);
    expect(mostKept).toBe(1);
  });
});

describe('floods', () => {
  it('keeps no more than the message for ten thousand empty fragments', () => {
    const parts = [one('AB', { fin: false })];
    for (let i = 0; i < 10_000; i++) parts.push(one('', { opcode: 0, fin: false }));
    const stream = Buffer.concat([...parts, one('C', { opcode: 0 })]);
    const cuts = Array.from({ length: stream.length / 100 }, (_, i) => (i + 1) * 100);
    expect(read(stream, cuts)).toEqual([[TEXT, 'ABC']]);
    expect(mostKept).toBeLessThan(32);
  });

  it('keeps no more than the message for ten thousand pings inside it', () => {
    const parts = [one('A', { fin: false })];
    for (let i = 0; i < 10_000; i++) parts.push(one('', { opcode: PING }));
    const stream = Buffer.concat([...parts, one('B', { opcode: 0 })]);
    const cuts = Array.from({ length: stream.length / 100 }, (_, i) => (i + 1) * 100);
    const found = read(stream, cuts);
    expect(found.length).toBe(10_001);
    expect(found.at(-1)).toEqual([TEXT, 'AB']);
    expect(mostKept).toBeLessThan(32);
  });

  it('closes a gap behind much as well as behind little', () => {
    const large = Buffer.alloc(100_000, 'x');
    const parts = [one(large, { fin: false })];
    for (let i = 0; i < 5_000; i++) parts.push(one('y', { opcode: 0, fin: false }));
    const stream = Buffer.concat([...parts, one('', { opcode: 0 })]);
    const cuts = [106_000, 112_000, 120_000, 125_000, 130_000].filter((cut) => cut < stream.length);
    expect(read(stream, cuts)).toEqual([[TEXT, large.toString() + 'y'.repeat(5_000)]]);
    expect(mostKept).toBeLessThan(100_000 + 5_000 + 8 * 1024 + 7 + 8);
  });
});

describe('what breaks the protocol [7118-6455-01]', () => {
  const start = one('a', { fin: false });
  it.each<[string, Buffer, number]>([
    ['an unmasked frame', one('a', { mask: false }), PROTOCOL_ERROR],
    ['an unmasked ping', one('a', { opcode: PING, mask: false }), PROTOCOL_ERROR],
    ['RSV1', one('a', { rsv: 4 }), PROTOCOL_ERROR],
    ['RSV2', one('a', { rsv: 2 }), PROTOCOL_ERROR],
    ['RSV3 on a control frame', one('a', { rsv: 1, opcode: PING }), PROTOCOL_ERROR],
    ['opcode 3', one('a', { opcode: 3 }), PROTOCOL_ERROR],
    ['opcode 11', one('a', { opcode: 11 }), PROTOCOL_ERROR],
    ['a ping of 126 octets', one('a'.repeat(126), { opcode: PING }), PROTOCOL_ERROR],
    ['a fragmented ping', one('a', { opcode: PING, fin: false }), PROTOCOL_ERROR],
    ['a continuation of nothing', one('a', { opcode: 0 }), PROTOCOL_ERROR],
    ['a message inside another', Buffer.concat([start, one('b')]), PROTOCOL_ERROR],
    ['a Close of one octet', one('a', { opcode: CLOSE }), PROTOCOL_ERROR],
    ['a Close with code 1005', one(closing(1005), { opcode: CLOSE }), PROTOCOL_ERROR],
    ['a Close with code 999', one(closing(999), { opcode: CLOSE }), PROTOCOL_ERROR],
    ['a Close with code 2000', one(closing(2000), { opcode: CLOSE }), PROTOCOL_ERROR],
    ['a length of 125 in two octets', Buffer.from([0x81, 0xfe, 0, 125, 0, 0, 0, 0]), PROTOCOL_ERROR],
    ['65,535 in eight octets', Buffer.from([0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]), PROTOCOL_ERROR],
    ['a length with its highest bit', Buffer.from([0x81, 0xff, 128, 0, 0, 0, 0, 1, 0, 0]), PROTOCOL_ERROR],
    ['a frame above the limit', Buffer.from([0x81, 0xff, 0, 0, 0, 0, 0, 4, 0, 1]), TOO_BIG],
    ['a frame of 2^62 octets', Buffer.from([0x82, 0xff, 64, 0, 0, 0, 0, 0, 0, 0]), TOO_BIG],
    [
      'fragments above the limit',
      Buffer.concat([
        one(Buffer.alloc(MAX_MESSAGE - 1), { opcode: BINARY, fin: false }),
        one('ab', { opcode: 0 }),
      ]),
      TOO_BIG,
    ],
    ['text that is not UTF-8', one(latin1('gr\xfcn')), NOT_UTF8],
    [
      'text of which the last fragment is not UTF-8',
      fragments(TEXT, Buffer.concat([Buffer.from('plain'), latin1('gr\xfcn')]), [5, 2], []),
      NOT_UTF8,
    ],
    [
      'text of which the first fragment is not UTF-8',
      fragments(TEXT, Buffer.concat([latin1('gr\xfcn'), Buffer.from('plain')]), [4, 2], []),
      NOT_UTF8,
    ],
    ['a Close whose reason is not UTF-8', one(Buffer.from([3, 232, 0xff]), { opcode: CLOSE }), NOT_UTF8],
  ])('%s', (_what, stream, code) => {
    expect(read(stream).at(-1)).toEqual([code, '']);
    if (stream.length < 100) expect(read(stream, everyOctet(stream.length)).at(-1)).toEqual([code, '']);
  });

  it.each([TEXT, BINARY, PING, CLOSE])('a masked frame of a server, opcode %i', (opcode) => {
    for (const masked of [one('', { opcode }), one('ab', { opcode })])
      expect(read(masked, [], 'server')).toEqual([[PROTOCOL_ERROR, '']]);
  });

  it.each<[string, Buffer, number]>([
    ['a length of 125 in two octets', Buffer.from([0x81, 126, 0, 125]), PROTOCOL_ERROR],
    ['65,535 in eight octets', Buffer.from([0x81, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]), PROTOCOL_ERROR],
    ['a frame above the limit', Buffer.from([0x81, 127, 0, 0, 0, 0, 0, 4, 0, 1]), TOO_BIG],
    ['text that is not UTF-8', one(latin1('gr\xfcn'), { mask: false }), NOT_UTF8],
  ])('of a server too: %s', (_what, stream, code) => {
    expect(read(stream, everyOctet(stream.length), 'server')).toEqual([[code, '']]);
  });

  it('takes what is just within', () => {
    const most = Buffer.alloc(MAX_MESSAGE, 'x');
    expect(read(one(most))).toEqual([[TEXT, most.toString()]]);
    expect(read(fragments(BINARY, most, [100_000], []))).toEqual([[BINARY, most.toString()]]);
    expect(read(one('a'.repeat(125), { opcode: PING }))).toEqual([[PING, 'a'.repeat(125)]]);
    expect(read(one('', { opcode: CLOSE }))).toEqual([[CLOSE, '']]);
    // a character whose octets lie in two fragments
    const umlaut = Buffer.from('ü');
    expect(read(fragments(TEXT, umlaut, [1], []))).toEqual([[TEXT, umlaut.toString('latin1')]]);
    for (const code of [1000, 1001, 1003, 1011, 1012, 3000, 4999])
      expect(read(one(closing(code), { opcode: CLOSE }))[0][0]).toBe(CLOSE);
  });
});

describe('frames of ours', () => {
  it.each([0, 1, 125, 126, 65_535, 65_536, MAX_MESSAGE])('of %d octets are read back whole', (length) => {
    const mem = Buffer.alloc(length + 20);
    const from = writeHead(mem, 3, BINARY, length);
    const own = new OwnFrame();
    expect(own.read(mem, 3, from + length)).toBe(true);
    expect([own.opcode, own.start, own.end]).toEqual([BINARY, from, from + length]);
    expect(own.read(mem, 3, from + length - 1)).toBe(false);
    // a client's library refuses a mask and wants the shortest form
    expect(mem[4] & 0x80).toBe(0);
    expect(from - 3).toBe(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  });

  it('are told from what is none', () => {
    const own = new OwnFrame();
    const http = latin1('HTTP/1.1 101 Switching Protocols\r\n\r\n');
    expect(own.read(http, 0, http.length)).toBe(false);
    expect(own.read(one('a'), 0, 7)).toBe(false); // masked
  });
});

describe('frames of a client', () => {
  it('carry the mask that they are given', () => {
    const ping = maskedFrame(TEXT, Buffer.from('\r\n\r\n'), Buffer.from('37fa213d', 'hex'));
    expect(ping.toString('hex')).toBe('818437fa213d3af02c37');
  });

  it.each([0, 1, 125, 126, 65_535, 65_536, MAX_MESSAGE])('of %d octets are what a server reads', (length) => {
    const octets = Buffer.alloc(length, 'grüße');
    const key = Buffer.from([0x81, 0, 0x7f, 0xff]);
    const bytes = maskedFrame(BINARY, octets, key);
    expect(read(bytes)).toEqual([[BINARY, octets.toString('latin1')]]);
    expect(octets).toEqual(Buffer.alloc(length, 'grüße')); // who sends may still want it
  });
});

describe('octets as words', () => {
  it('unmasks and judges any range like octet by octet', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 40 }),
        fc.nat({ max: 7 }),
        fc.boolean(),
        (octets, offset, ascii) => {
          const plain = Buffer.from(ascii ? octets.map((o) => o & 0x7f) : octets);
          const mem = Buffer.alloc(64, 0xee);
          const key = [1, 0x80, 0x33, 0xff];
          mem.set(key, offset);
          const start = offset + 4;
          mem.set(
            plain.map((o, i) => o ^ key[i & 3]),
            start,
          );
          const isAscii = plain.every((o) => o < 0x80);
          const words = new Words(mem);
          expect(words.unmask(start, start + plain.length, offset)).toBe(isAscii);
          expect(mem.subarray(start, start + plain.length)).toEqual(plain);
          expect(words.isAscii(start, start + plain.length)).toBe(isAscii);
          expect(mem.subarray(start + plain.length).every((o) => o === 0xee)).toBe(true);
        },
      ),
    );
  });
});
