/** What a stream's octets are cut into, however the network delivers them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  BAD_CONTENT_LENGTH,
  contentLength,
  Framer,
  HEAD_TOO_LARGE,
  JUNK,
  MESSAGE,
  MESSAGE_TOO_LARGE,
  MORE,
  NO_CONTENT_LENGTH,
  PING,
  PONG,
} from '../../src/wire/framer.ts';
import { Message } from '../../src/wire/lexer.ts';
import { MAX_HEAD, MAX_MESSAGE } from '../../src/wire/limits.ts';

/** A frame as the layer above sees it. A refusal ends the stream; only its kind and its known head count. */
type Frame = { kind: number; text: string };

const HEAD_KNOWN = new Set([MESSAGE, MESSAGE_TOO_LARGE, NO_CONTENT_LENGTH, BAD_CONTENT_LENGTH]);
const latin1 = (text: string) => Buffer.from(text, 'latin1');

/**
 * Feeds the stream in chunks, as a shard does: what is not used up is kept, and may have moved when the
 * next octets have come. What lies around the range is rubbish, so that a read outside it shows.
 */
function frames(stream: Buffer, cuts: readonly number[], message?: Message): Frame[] {
  const framer = new Framer();
  const found: Frame[] = [];
  let kept = Buffer.alloc(0);
  let from = 0;
  for (const cut of [...cuts, stream.length]) {
    const range = Buffer.concat([kept, stream.subarray(from, cut)]);
    from = cut;
    const offset = 3 + (cut % 5);
    const buf = Buffer.concat([
      latin1('\r\n\r\n').subarray(0, 3),
      Buffer.alloc(offset - 3, 10),
      range,
      latin1('\n\r\n\r\n'),
    ]);
    let p = offset;
    const end = offset + range.length;
    for (;;) {
      const kind = message && framer.take(message, buf, p, end) ? MESSAGE : framer.next(buf, p, end);
      expect(framer.frameEnd).toBeGreaterThanOrEqual(p);
      expect(framer.frameEnd).toBeLessThanOrEqual(end);
      if (kind === MORE) {
        kept = Buffer.from(buf.subarray(framer.frameEnd, end));
        break;
      }
      const text = HEAD_KNOWN.has(kind) ? buf.toString('latin1', framer.frameStart, framer.frameEnd) : '';
      found.push({ kind, text });
      if (kind !== PING && kind !== MESSAGE) return found;
      p = framer.frameEnd;
    }
  }
  return found;
}

const whole = (text: string) => frames(latin1(text), []);
const everyOctet = (length: number) => Array.from({ length: Math.max(0, length - 1) }, (_, i) => i + 1);

const lengthName = fc.constantFrom('Content-Length', 'content-length', 'l', 'L', 'CONTENT-LENGTH');
const colon = fc.constantFrom(':', ': ', ' : ', ':\r\n ', '\t:\t', ' :\r\n\t ');
const extra = fc.constantFrom(
  '',
  'Subject: x\r\n',
  'X:\r\n',
  'Lang: l: 5\r\n',
  'C: a\r\n l: 7\r\n',
  'Contentlength: 3\r\n',
);
const body = fc.oneof(
  fc.constantFrom('', '\r\n', '\r\n\r\n', 'v=0\r\n\r\nl: 4\r\n\r\n', '\r\n\r\n\r\n\r\n', '\0\0'),
  fc.uint8Array({ maxLength: 40 }).map((octets) => Buffer.from(octets).toString('latin1')),
);
const message = fc
  .tuple(
    fc.constantFrom('OPTIONS sip:a SIP/2.0', 'SIP/2.0 200 OK', 'X y', 'l:3'),
    extra,
    lengthName,
    colon,
    fc.constantFrom('', '0', '000'),
    extra,
    body,
  )
  .map(
    ([start, a, name, sign, zeros, b, text]) =>
      `${start}\r\n${a}${name}${sign}${zeros}${text.length}\r\n${b}\r\n${text}`,
  );
const between = fc.constantFrom('\r\n', '\r\n\r\n', '\r\n\r\n\r\n', '\r\n\r\n\r\n\r\n');
const broken = fc.constantFrom(
  '\r\r',
  '\n',
  '\0',
  '\x16\x03\x01\x02\x00',
  ' OPTIONS sip:a SIP/2.0\r\n\r\n',
  'A b\r\n\r\n',
  'A b\r\nl: x\r\n\r\n',
  'A b\r\nl: 1\r\nContent-Length: 2\r\n\r\nxx',
  'A b\r\nl: 999999999\r\n\r\n',
);
const stream = fc
  .tuple(fc.array(fc.oneof(message, between), { maxLength: 6 }), fc.option(broken, { nil: '' }))
  .map(([parts, last]) => latin1(parts.join('') + last));

describe('a stream that the network splits', () => {
  it('gives the same frames octet by octet as in one piece [EP-5.4-03 3261-7.5-01 3261-18.3-01]', () => {
    fc.assert(
      fc.property(stream, (octets) => {
        expect(frames(octets, everyOctet(octets.length))).toEqual(frames(octets, []));
      }),
      { numRuns: 150 },
    );
  });

  it('gives the same frames at any one split, and at any set of splits [EP-5.4-03 3261-18.3-01]', () => {
    fc.assert(
      fc.property(stream, fc.array(fc.nat(600), { maxLength: 8 }), (octets, at) => {
        const cuts = [...new Set(at.filter((cut) => cut < octets.length))].sort((a, b) => a - b);
        expect(frames(octets, cuts)).toEqual(frames(octets, []));
        const one = cuts[0] ?? 0;
        expect(frames(octets, [one])).toEqual(frames(octets, []));
      }),
      { numRuns: 300 },
    );
  });

  it('gives back exactly the messages and pings that were sent, in their order [EP-5.4-03 EP-5.4-04]', () => {
    const part = fc.oneof(
      message.map((text) => ({ kind: MESSAGE, text })),
      fc.constant({ kind: PING, text: '' }),
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 8 }), fc.array(fc.nat(800), { maxLength: 6 }), (parts, at) => {
        const octets = latin1(parts.map((p) => (p.kind === PING ? '\r\n\r\n' : p.text)).join(''));
        const cuts = [...new Set(at.filter((cut) => cut < octets.length))].sort((a, b) => a - b);
        expect(frames(octets, cuts)).toEqual(parts);
      }),
      { numRuns: 200 },
    );
  });
});

describe('the short way for whole messages', () => {
  const lines =
    'Via: SIP/2.0/TCP h;branch=z9hG4bKa\r\nf: <sip:a>;tag=a\r\nt: <sip:b>\r\ni: c\r\nCSeq: 1 OPTIONS\r\n';
  const good = fc
    .tuple(
      fc.constantFrom('', 'Max-Forwards: 70\r\n', 'Max-Forwards: x\r\n', ' \r\n', 'X:\r\n'),
      extra,
      lengthName,
      colon,
      body,
    )
    .map(
      ([a, b, name, sign, text]) =>
        `OPTIONS sip:a SIP/2.0\r\n${lines}${a}${b}${name}${sign}${text.length}\r\n\r\n${text}`,
    );
  const streams = fc
    .tuple(
      fc.array(fc.oneof({ weight: 3, arbitrary: good }, message, between), { maxLength: 6 }),
      fc.option(broken, { nil: '' }),
    )
    .map(([parts, last]) => latin1(parts.join('') + last));

  it('gives the frames that the long way gives, whatever the split [3261-18.3-01]', () => {
    fc.assert(
      fc.property(streams, fc.array(fc.nat(900), { maxLength: 8 }), (octets, at) => {
        const cuts = [...new Set(at.filter((cut) => cut < octets.length))].sort((a, b) => a - b);
        expect(frames(octets, cuts, new Message())).toEqual(frames(octets, []));
      }),
      { numRuns: 500 },
    );
  });

  it('takes a whole one, its body cut where it ends, and leaves what is behind it', () => {
    const text = `OPTIONS sip:a SIP/2.0\r\n${lines}l: 3\r\n\r\nabc`;
    const octets = latin1(`${text}\r\n\r\n`);
    const framer = new Framer();
    const lexed = new Message();
    expect(framer.take(lexed, octets, 0, octets.length - 1)).toBe(true);
    expect([framer.frameStart, framer.frameEnd, lexed.end]).toEqual([0, text.length, text.length]);
    expect(framer.take(lexed, octets, text.length, octets.length - 1)).toBe(false);
    expect(framer.next(octets, text.length, octets.length)).toBe(PING);
  });

  it('is closed inside a message and inside half a CRLF', () => {
    const text = latin1(`OPTIONS sip:a SIP/2.0\r\n${lines}l: 0\r\n\r\n `);
    const framer = new Framer();
    expect(framer.next(text, 0, 20)).toBe(MORE);
    expect(framer.take(new Message(), text, 0, text.length - 1)).toBe(false);
    framer.reset();
    expect(framer.next(latin1('\r'), 0, 1)).toBe(MORE);
    expect(framer.take(new Message(), text, 0, text.length - 1)).toBe(false);
    expect(framer.next(text, 0, text.length - 1)).toBe(JUNK);
  });

  it('leaves to the long way what is refused: too long, without a length, with two', () => {
    const framer = new Framer();
    for (const rest of [
      `l: 0${`\r\nX: ${'x'.repeat(15_000)}`.repeat(3)}`,
      `l: ${MAX_MESSAGE}`,
      'X: y',
      'l: 1\r\nl: 2',
    ]) {
      const octets = latin1(`OPTIONS sip:a SIP/2.0\r\n${lines}${rest}\r\n\r\n${'x'.repeat(MAX_MESSAGE)} `);
      expect(framer.take(new Message(), octets, 0, octets.length - 1)).toBe(false);
      expect(framer.next(octets, 0, octets.length - 1)).toBeGreaterThan(MESSAGE);
    }
  });
});

describe('CRLF between messages', () => {
  it('is one ping for every four octets, and a lone CRLF none [EP-5.4-04]', () => {
    expect(whole('\r\n')).toEqual([]);
    expect(whole('\r\n\r\n')).toHaveLength(1);
    expect(whole('\r\n\r\n\r\n')).toHaveLength(1);
    expect(whole('\r\n'.repeat(10))).toEqual(Array(5).fill({ kind: PING, text: '' }));
  });

  it('is one pong for every two octets where pongs are awaited, split or not', () => {
    for (const cuts of [[5], [1, 2, 3, 4, 5], [1, 5]]) {
      const framer = new Framer(PONG);
      let pongs = 0;
      let at = 0;
      const bytes = latin1('\r\n\r\n\r');
      for (const cut of cuts) {
        for (; framer.next(bytes, at, cut) === PONG; at = framer.frameEnd) pongs++;
        at = framer.frameEnd;
      }
      expect(pongs).toBe(2);
    }
  });

  it('before a start line is dropped, whatever their number [3261-7.5-01]', () => {
    const text = 'OPTIONS sip:a SIP/2.0\r\nl: 0\r\n\r\n';
    for (let n = 0; n < 8; n++) {
      const found = whole('\r\n'.repeat(n) + text);
      expect(found.filter((f) => f.kind === PING)).toHaveLength(n >> 1);
      expect(found.at(-1)).toEqual({ kind: MESSAGE, text });
    }
  });

  it('is not held in a buffer: a flow between messages owns no octet', () => {
    const framer = new Framer();
    for (const octet of latin1('\r\n\r\n\r\n\r')) {
      const kind = framer.next(Uint8Array.of(octet), 0, 1);
      expect([MORE, PING]).toContain(kind);
      expect(framer.frameEnd).toBe(1);
      expect(framer.inMessage).toBe(false);
    }
  });

  it('inside a body is no ping', () => {
    const text = 'A b\r\nl: 12\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n';
    expect(whole(text)).toEqual([{ kind: MESSAGE, text }]);
  });

  it.each(['\r\r', '\n\n', '\rA', '\r\n\n', '\n'])('with a half of it missing is junk: %j', (text) => {
    expect(whole(text)).toEqual([{ kind: JUNK, text: '' }]);
  });
});

describe('Content-Length on a stream [3261-18.3-01]', () => {
  const head = (lines: string) => `OPTIONS sip:a SIP/2.0\r\n${lines}\r\n`;

  it.each([
    ['missing', '', -1],
    ['plain', 'Content-Length: 4\r\n', 4],
    ['compact', 'l: 4\r\n', 4],
    ['compact in upper case', 'L:4\r\n', 4],
    ['with blanks around the colon and behind the value', 'Content-Length \t : \t 4 \t\r\n', 4],
    ['folded before the value', 'Content-Length:\r\n  4\r\n', 4],
    ['folded twice', 'Content-Length:\r\n \r\n\t4\r\n', 4],
    ['folded behind the value', 'Content-Length: 4\r\n \r\n', 4],
    ['with leading zeros', 'l: 000000000004\r\n', 4],
    ['twice and equal', 'l: 4\r\nContent-Length: 04\r\n', 4],
    ['twice and different', 'l: 4\r\nContent-Length: 5\r\n', -2],
    ['empty', 'l:\r\n', -2],
    ['negative', 'l: -4\r\n', -2],
    ['signed', 'l: +4\r\n', -2],
    ['hexadecimal', 'l: 0x4\r\n', -2],
    ['a list', 'l: 4, 4\r\n', -2],
    ['two numbers', 'l: 4 4\r\n', -2],
    ['a number folded in its middle', 'l: 4\r\n 4\r\n', -2],
    ['longer than any number', 'l: 99999999999999999999\r\n', -2],
    ['with a null octet', 'l: 4\0\r\n', -2],
    ['only in the value of another header', 'Subject: l: 4\r\nX:\r\n l: 4\r\n', -1],
    ['only as a part of a name', 'Ll: 4\r\nContent-Lengths: 4\r\nXContent-Length: 4\r\n', -1],
    ['without a colon', 'l 4\r\n', -1],
  ])('%s', (_, lines, expected) => {
    const buf = latin1(head(lines));
    expect(contentLength(buf, 0, buf.length)).toBe(expected);
  });

  it('missing or wrong ends the stream with the head in hand, so that it can be answered', () => {
    expect(whole(head(''))).toEqual([{ kind: NO_CONTENT_LENGTH, text: head('') }]);
    expect(whole(head('l: x\r\n'))).toEqual([{ kind: BAD_CONTENT_LENGTH, text: head('l: x\r\n') }]);
  });
});

describe('limits', () => {
  const padded = (headOctets: number, bodyOctets: number) => {
    const lines = `A b\r\nl: ${bodyOctets}\r\n`;
    return `${lines}X: ${'x'.repeat(headOctets - lines.length - 7)}\r\n\r\n`;
  };

  it('takes a head of exactly the limit and refuses one octet more, split or not', () => {
    for (const cuts of [[], [1], [MAX_HEAD], everyOctet(50)]) {
      const fits = padded(MAX_HEAD, 0);
      expect(fits).toHaveLength(MAX_HEAD);
      expect(frames(latin1(fits), cuts).map((f) => f.kind)).toEqual([MESSAGE]);
      expect(frames(latin1(padded(MAX_HEAD + 1, 0)), cuts).map((f) => f.kind)).toEqual([HEAD_TOO_LARGE]);
    }
  });

  it('refuses a head that has no end as soon as it is past the limit', () => {
    const octets = latin1(`A b\r\nX: ${'x'.repeat(MAX_HEAD)}`);
    const framer = new Framer();
    for (let end = 1000; ; end += 1000) {
      const kind = framer.next(octets, 0, Math.min(end, octets.length));
      if (kind === MORE) continue;
      expect(kind).toBe(HEAD_TOO_LARGE);
      expect(end).toBeLessThanOrEqual(MAX_HEAD + 1000);
      break;
    }
  });

  it('takes a message of exactly the limit and refuses one octet more before its body has come', () => {
    const head = `A b\r\nl: ${MAX_MESSAGE - 18}\r\n\r\n`;
    expect(head).toHaveLength(18);
    expect(whole(head + 'x'.repeat(MAX_MESSAGE - 18))[0].kind).toBe(MESSAGE);
    const longer = `A b\r\nl: ${MAX_MESSAGE - 17}\r\n\r\n`;
    expect(whole(longer)).toEqual([{ kind: MESSAGE_TOO_LARGE, text: longer }]);
  });

  it('says how much a message needs once its head is known', () => {
    const framer = new Framer();
    const octets = latin1('A b\r\nl: 9\r\n\r\nx');
    expect(framer.next(octets, 0, 8)).toBe(MORE);
    expect(framer.expected).toBe(0);
    expect(framer.inMessage).toBe(true);
    expect(framer.next(octets, 0, octets.length)).toBe(MORE);
    expect(framer.expected).toBe(13 + 9);
  });
});

describe('a hostile stream', () => {
  it('of 1 MiB of junk is refused: at its first octet, or where a head would be too large', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 255 }), (octet) => {
        const octets = Buffer.alloc(1 << 20, octet);
        const found = frames(octets, [4096]);
        const isToken = /[a-zA-Z0-9\-.!%*_+`'~]/.test(String.fromCharCode(octet));
        expect(found).toEqual([{ kind: isToken ? HEAD_TOO_LARGE : JUNK, text: '' }]);
      }),
      { numRuns: 30 },
    );
  });

  it('of random octets never makes the framer read or answer outside the range', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.array(fc.nat(300)), (octets, at) => {
        const cuts = [...new Set(at.filter((cut) => cut < octets.length))].sort((a, b) => a - b);
        expect(frames(Buffer.from(octets), cuts)).toEqual(frames(Buffer.from(octets), []));
      }),
      { numRuns: 300 },
    );
  });

  it('that sends one octet at a time costs one look at each octet', () => {
    const octets = latin1(`A b\r\nX: ${'x'.repeat(MAX_HEAD - 60)}\r\nl: 3\r\n\r\nabc`);
    let looks = 0;
    const counted = new Proxy(octets, {
      get(target, key) {
        if (typeof key === 'string' && /^\d+$/.test(key)) looks++;
        const value = Reflect.get(target, key, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const framer = new Framer();
    let kind = MORE;
    for (let end = 1; end <= octets.length; end++) kind = framer.next(counted, 0, end);
    expect(kind).toBe(MESSAGE);
    // once for the end of the head, once for Content-Length, and a few around each line
    expect(looks).toBeLessThan(octets.length * 3);
  });

  it('with null octets in a head and a body keeps its frames', () => {
    const text = 'A b\r\nX: \0\0\r\nl: 4\r\n\r\n\0\r\n\0';
    expect(frames(latin1(text), everyOctet(text.length))).toEqual([{ kind: MESSAGE, text }]);
  });
});

it('a framer that was reset starts between messages again', () => {
  const framer = new Framer();
  const octets = latin1('A b\r\nl: 9\r\n\r\n');
  framer.next(octets, 0, octets.length);
  framer.reset();
  expect(framer.inMessage).toBe(false);
  expect(framer.expected).toBe(0);
  const ping = latin1('\r\n\r\n');
  expect(framer.next(ping, 0, 4)).toBe(PING);
});
