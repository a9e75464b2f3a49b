/** The branch of a stateless proxy: what it says, who can make one, and when two are equal. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Keyring } from '../../src/flow/keyring.ts';
import { Endpoint } from '../../src/net/endpoint.ts';
import { Branch, hasCookie } from '../../src/proxy/branch.ts';
import { Message, OK } from '../../src/wire/lexer.ts';
import { VIA } from '../../src/wire/names.ts';
import { Via } from '../../src/wire/via.ts';
import { Writer } from '../../src/wire/writer.ts';
import { keyring, type RequestParts, request } from './rig.ts';

const INCARNATION = 0xf000_0001;
const branch = new Branch(keyring, INCARNATION);

interface Way {
  listener: number;
  slot: number;
  generation: number;
  destination: string | undefined;
  port: number;
}
const HERE: Way = { listener: 0, slot: 5, generation: 7, destination: undefined, port: 0 };

function lexed(text: string): { m: Message; via: Via } {
  const m = new Message();
  const via = new Via();
  const buf = Buffer.from(`${text}x`, 'latin1');
  expect(m.lex(buf, 0, text.length, true)).toBe(OK);
  expect(via.parse(buf, m.valueStart[m.first[VIA]], m.valueEnd[m.first[VIA]])).toBe(true);
  return { m, via };
}

/** The whole branch value. */
function write(text: string, way: Way = HERE, by = branch): string {
  const { m, via } = lexed(text);
  by.listener = way.listener;
  by.slot = way.slot;
  by.generation = way.generation;
  by.hasDestination = way.destination !== undefined;
  if (way.destination !== undefined) by.destination.parse(way.destination, way.port);
  const out = new Writer(new Uint8Array(200));
  out.open(0, 200);
  by.write(out, m, via);
  return `z9hG4bK${Buffer.from(out.buf.subarray(0, out.at)).toString('latin1')}`;
}

function read(value: string, by = branch): Way | undefined {
  const buf = Buffer.from(`..${value}..`, 'latin1');
  if (!by.read(buf, 2, 2 + value.length)) return undefined;
  return {
    listener: by.listener,
    slot: by.slot,
    generation: by.generation,
    destination: by.hasDestination ? by.destination.host : undefined,
    port: by.hasDestination ? by.destination.port : 0,
  };
}

const way: fc.Arbitrary<Way> = fc
  .record({
    listener: fc.nat(255),
    slot: fc.oneof(fc.constant(-1), fc.nat(0xfffffe)),
    generation: fc.integer({ min: 1, max: 0x1fffffff }),
    destination: fc.option(fc.oneof(fc.ipV4(), fc.ipV6()), { nil: undefined }),
    port: fc.nat(65535),
  })
  .map(({ slot, destination, ...rest }) => {
    const host = destination ?? (slot < 0 ? '192.0.2.77' : undefined); // one of the two says where to
    return {
      ...rest,
      slot,
      generation: slot < 0 ? 0 : rest.generation,
      destination: host === undefined ? undefined : Endpoint.parse(host, 0)!.host,
      port: host === undefined ? 0 : rest.port,
    };
  });

describe('a branch', () => {
  it('says on the response where the request came from', () => {
    fc.assert(
      fc.property(way, (w) => {
        expect(read(write(request(), w))).toEqual(w);
      }),
    );
  });

  it('is a token that starts with the cookie and is short enough to be read [3261-16.6-06]', () => {
    fc.assert(
      fc.property(way, (w) => {
        const value = write(request(), w);
        expect(value).toMatch(/^z9hG4bK[A-Za-z0-9_-]+$/);
        expect(value.length).toBeLessThanOrEqual(7 + 72);
      }),
    );
  });

  it('is refused when any of its bits is flipped, or it is cut or longer', () => {
    for (const w of [
      HERE,
      { ...HERE, destination: '192.0.2.7', port: 9 },
      { ...HERE, slot: -1, generation: 0, destination: '2001:db8::7', port: 9 },
    ]) {
      const value = write(request(), w);
      for (let i = 0; i < value.length; i++) {
        for (let bit = 0; bit < 8; bit++) {
          const octets = Buffer.from(value, 'latin1');
          octets[i] ^= 1 << bit;
          expect([i, bit, read(octets.toString('latin1'))]).toEqual([i, bit, undefined]);
        }
        expect(read(value.slice(0, i))).toBeUndefined();
      }
      for (const more of ['A', '-', '=', ';', 'AA']) expect(read(value + more)).toBeUndefined();
      expect(read(value)).toBeDefined();
    }
  });

  it('of an earlier or a later life is refused', () => {
    for (const incarnation of [INCARNATION - 1, INCARNATION + 1, 1])
      expect(read(write(request(), HERE, new Branch(keyring, incarnation)))).toBeUndefined();
  });

  it('made with another key is refused', () => {
    const other = new Keyring({ current: { id: 1, octets: new Uint8Array(32).fill(4) } });
    expect(read(write(request(), HERE, new Branch(other, INCARNATION)))).toBeUndefined();
  });

  it('of any other text is refused without a throw', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ maxLength: 100 }),
          fc.base64String({ maxLength: 80 }).map((t) => `z9hG4bK${t}`),
        ),
        (text) => {
          expect(read(Buffer.from(text, 'latin1').toString('latin1'))).toBeUndefined();
        },
      ),
    );
  });
});

describe('the branch of a transaction [3261-16.6-06]', () => {
  const of = (parts: RequestParts) => write(request(parts));

  it('is the same for a retransmission, the CANCEL and the ACK to a non-2xx', () => {
    const invite = of({ method: 'INVITE' });
    expect(of({ method: 'INVITE' })).toBe(invite);
    expect(of({ method: 'CANCEL', lines: ['Reason: SIP;cause=200'] })).toBe(invite);
    expect(of({ method: 'ACK', to: '<sip:bob@example.com>;tag=x' })).toBe(invite);
  });

  it.each([
    ['branch', { via: 'SIP/2.0/UDP 203.0.113.7:4711;branch=z9hG4bKclient2' }],
    ['sent-by host', { via: 'SIP/2.0/UDP 203.0.113.8:4711;branch=z9hG4bKclient1' }],
    ['sent-by port', { via: 'SIP/2.0/UDP 203.0.113.7:4712;branch=z9hG4bKclient1' }],
    ['Request-URI', { uri: 'sip:bob@example.org' }],
  ])('is another one for another %s', (_, parts) => {
    expect(of(parts)).not.toBe(of({}));
  });

  it('does not change with what a hop may change in Via', () => {
    expect(of({ via: 'SIP/2.0/UDP 203.0.113.7:4711;rport=9;received=192.0.2.9;branch=z9hG4bKclient1' })).toBe(
      of({}),
    );
  });

  it('of an RFC 2543 client is made of what its transaction consists of', () => {
    for (const via of [
      'SIP/2.0/UDP 203.0.113.7:4711',
      'SIP/2.0/UDP 203.0.113.7:4711;branch=1',
      'SIP/2.0/UDP 203.0.113.7:4711;branch=z9hG4bK',
    ]) {
      expect(
        lexed(request({ via })).via.branchStart < 0 ||
          !hasCookie(Buffer.from(request({ via })), lexed(request({ via })).via),
      ).toBe(true);
      const invite = of({ via });
      expect(of({ via, method: 'CANCEL' })).toBe(invite);
      expect(of({ via, method: 'ACK', to: '<sip:bob@example.com>;tag=x' })).toBe(invite);
      expect(of({ via, callId: 'c2' })).not.toBe(invite);
      expect(write(request({ via }).replace('CSeq: 1', 'CSeq: 2'))).not.toBe(invite);
      expect(write(request({ via }).replace('tag=a1', 'tag=a2'))).not.toBe(invite);
    }
  });

  it('gives our own answers one To tag, the same for a retransmission', () => {
    const tag = (parts: RequestParts) => {
      const into = new Uint8Array(8);
      const { m, via } = lexed(request(parts));
      branch.tag(m, via, into);
      return Buffer.from(into).toString();
    };
    expect(tag({})).toMatch(/^[0-9a-f]{8}$/);
    expect(tag({})).toBe(tag({}));
    expect(tag({ via: 'SIP/2.0/UDP 203.0.113.7:4711;branch=z9hG4bKother' })).not.toBe(tag({}));
  });
});
