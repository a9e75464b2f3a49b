import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Keyring } from '../../src/flow/keyring.ts';
import { type TokenFields, TokenMint, TokenReader, TokenVerdict } from '../../src/flow/token.ts';
import { isTokenLength, peekSlot, sameText, TOKEN_ROOM, unescapeToken } from '../../src/flow/token-text.ts';
import { Endpoint } from '../../src/net/endpoint.ts';

const { OK, NOT_A_TOKEN, TAMPERED } = TokenVerdict;
const keyring = new Keyring({ current: { id: 3, octets: new Uint8Array(32).fill(7) } });
const mint = new TokenMint(keyring, 0x1234);
const reader = new TokenReader(keyring);

const unused = new Endpoint();
const stream: TokenFields = {
  transport: 2,
  incarnation: 0x6b49d200,
  slot: 65535,
  generation: 9,
  remote: unused,
  local: unused,
};
const udp4: TokenFields = {
  ...stream,
  transport: 1,
  remote: Endpoint.parse('198.51.100.7', 40001)!,
  local: Endpoint.parse('203.0.113.10', 5060)!,
};
const udp6: TokenFields = {
  ...udp4,
  remote: Endpoint.parse('2001:db8:ffff::7', 40005)!,
  local: Endpoint.parse('2001:db8::10', 5060)!,
};
const kinds: [string, TokenFields][] = [
  ['stream', stream],
  ['UDP over IPv4', udp4],
  ['UDP over IPv6', udp6],
];

function write(fields: TokenFields, by = mint): Buffer {
  const out = Buffer.alloc(TOKEN_ROOM);
  return out.subarray(0, by.write(fields, out, 0));
}
const read = (text: Uint8Array, by = reader) => by.read(text, 0, text.length);

function snapshot(r: TokenReader) {
  const { transport, incarnation, slot, generation } = r;
  const udp = transport === 1;
  return {
    transport,
    incarnation,
    slot,
    generation,
    remote: udp && `${r.remote}`,
    local: udp && `${r.local}`,
  };
}
function expected(f: TokenFields) {
  const { transport, incarnation, slot, generation } = f;
  const udp = transport === 1;
  return {
    transport,
    incarnation,
    slot,
    generation,
    remote: udp && `${f.remote}`,
    local: udp && `${f.local}`,
  };
}

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const i32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const endpoint = (v6: boolean) =>
  fc
    .tuple(fc.nat(65535), i32, i32, i32, i32)
    .map(([port, a0, a1, a2, a3]) =>
      v6
        ? Object.assign(new Endpoint(), { family: 6, port, a0, a1, a2, a3 })
        : new Endpoint().setV4(a3, port),
    );
const anyFields: fc.Arbitrary<TokenFields> = fc.boolean().chain((v6) =>
  fc.record({
    transport: fc.integer({ min: 1, max: 5 }),
    incarnation: u32,
    slot: u32,
    generation: u32,
    remote: endpoint(v6),
    local: endpoint(v6),
  }),
);

describe('a token', () => {
  it('gives back the flow it was made for, at any place in a buffer [EP-5.2-01]', () => {
    fc.assert(
      fc.property(anyFields, fc.nat(65535), fc.nat(9), (fields, node, at) => {
        const buf = Buffer.alloc(at + TOKEN_ROOM + 9, 0x2e);
        const length = new TokenMint(keyring, node).write(fields, buf, at);
        expect(buf.subarray(0, at).every((o) => o === 0x2e)).toBe(true);
        expect(buf.subarray(at + length).every((o) => o === 0x2e)).toBe(true);
        expect(reader.read(buf, at, at + length)).toBe(OK);
        expect(snapshot(reader)).toEqual(expected(fields));
        expect([reader.node, reader.keyIsCurrent]).toEqual([node, true]);
      }),
    );
  });

  it('is laid out as documented', () => {
    const octets = Buffer.from(write(udp4).toString('latin1'), 'base64url');
    const covered = Buffer.from(
      ['03', '11', '1234', '6b49d200', '0000ffff', '00000009', 'c6336407', '9c41', 'cb00710a', '13c4'].join(
        '',
      ),
      'hex',
    );
    const mac = createHmac('sha256', keyring.derive('token', 32)).update(covered).digest().subarray(0, 12);
    expect(octets.toString('hex')).toBe(Buffer.concat([covered, mac]).toString('hex'));
    expect(Buffer.from(write(udp6).toString('latin1'), 'base64url')[1]).toBe(0x19);
  });

  it.each([
    [38, stream],
    [54, udp4],
    [86, udp6],
  ])('has %i characters, all of which may stand in a user part and a parameter', (length, fields) => {
    expect(write(fields).toString('latin1')).toMatch(new RegExp(`^[A-Za-z0-9_-]{${length}}$`));
  });

  it('is unique to the flow: each field that differs gives another one [EP-5.2-01 EP-5.2-05]', () => {
    const other = Endpoint.parse('198.51.100.8', 40001)!;
    const tokens = [
      write(udp4),
      write({ ...udp4, incarnation: udp4.incarnation + 1 }),
      write({ ...udp4, slot: 1 }),
      write({ ...udp4, generation: 10 }),
      write({ ...udp4, remote: other }),
      write({ ...udp4, local: other }),
      ...[2, 3, 4, 5].map((transport) => write({ ...stream, transport })),
      write(udp4, new TokenMint(keyring, 1)),
    ];
    expect(new Set(tokens.map(String)).size).toBe(tokens.length);
  });

  it('survives a restart with the keys of the data directory [EP-5.2-04]', () => {
    const again = new TokenReader(new Keyring(structuredClone(keyring.toPlain())));
    expect(read(write(stream), again)).toBe(OK);
  });
});

describe('someone alters a token', () => {
  it.each(kinds)(
    '%s: any bit of any octet of its value is TAMPERED or not a token [EP-5.2-01 EP-5.3.1-04 EP-5.3.1-06]',
    (_, fields) => {
      const octets = Buffer.from(write(fields).toString('latin1'), 'base64url');
      for (let bit = 0; bit < octets.length * 8; bit++) {
        const altered = Buffer.from(octets);
        altered[bit >>> 3] ^= 1 << (bit & 7);
        const verdict = read(Buffer.from(altered.toString('base64url')));
        // octet 1 is version and transport: most changes there are refused before the MAC
        if (bit >>> 3 === 1) expect([TAMPERED, NOT_A_TOKEN]).toContain(verdict);
        else expect(verdict, `bit ${bit}`).toBe(TAMPERED);
      }
    },
  );

  it.each(kinds)(
    '%s: any other octet at any place of its text is refused [EP-5.2-01 EP-5.3.1-04 EP-5.3.1-08]',
    (_, fields) => {
      const text = write(fields);
      for (let at = 0; at < text.length; at++) {
        for (let octet = 0; octet < 256; octet += 1 + (at % 3)) {
          if (octet === text[at]) continue;
          const altered = Buffer.from(text);
          altered[at] = octet;
          expect([TAMPERED, NOT_A_TOKEN]).toContain(read(altered));
        }
      }
    },
  );

  it('cuts it, or lengthens it, to any length: not a token [EP-5.3.1-08]', () => {
    for (const [, fields] of kinds) {
      const long = Buffer.concat([write(fields), Buffer.alloc(60, 'A')]);
      const own = write(fields).length;
      for (let n = 0; n <= long.length; n++) {
        if (n === own) continue;
        expect([NOT_A_TOKEN, TAMPERED]).toContain(read(long.subarray(0, n)));
        if (!isTokenLength(n)) expect(read(long.subarray(0, n))).toBe(NOT_A_TOKEN);
      }
    }
  });

  it('sends text of his own: it never reads as OK, and never throws [EP-5.3.1-08]', () => {
    const alphabet = fc.constantFrom(...'AZaz09-_%+/=.2');
    const lengths = fc
      .constantFrom(38, 54, 86)
      .chain((n) => fc.string({ unit: alphabet, minLength: n, maxLength: n }));
    fc.assert(
      fc.property(fc.oneof(lengths, fc.string({ maxLength: 300 })), (text) => {
        expect([TAMPERED, NOT_A_TOKEN]).toContain(read(Buffer.from(text)));
      }),
      { numRuns: 1000 },
    );
  });

  it('moves the MAC of a good token to another one: TAMPERED [EP-5.3.1-04]', () => {
    const a = Buffer.from(write(stream).toString('latin1'), 'base64url');
    const b = Buffer.from(write({ ...stream, slot: 1 }).toString('latin1'), 'base64url');
    a.copy(b, 16, 16);
    expect(read(Buffer.from(b.toString('base64url')))).toBe(TAMPERED);
  });

  it('has a key of his own under our id, or an id of his own: TAMPERED [EP-5.3.1-04]', () => {
    const his = (id: number) =>
      new TokenMint(new Keyring({ current: { id, octets: new Uint8Array(32).fill(8) } }), 0x1234);
    expect(read(write(stream, his(3)))).toBe(TAMPERED);
    expect(read(write(stream, his(4)))).toBe(TAMPERED);
    expect(read(write(stream, his(255)))).toBe(TAMPERED);
  });

  it('is a newer Holdfast with our key: another version or kind of flow is not a token for us [EP-5.3.1-08]', () => {
    const key = keyring.derive('token', 32);
    const made = (kind: number) => {
      const octets = Buffer.from(write(stream).toString('latin1'), 'base64url');
      octets[1] = kind;
      createHmac('sha256', key).update(octets.subarray(0, 16)).digest().copy(octets, 16, 0, 12);
      return read(Buffer.from(octets.toString('base64url')));
    };
    for (let kind = 0; kind < 256; kind++) {
      // 0x12 to 0x15 are TCP, TLS, WS and WSS of version 1; UDP has another length
      expect(made(kind), `octet ${kind}`).toBe(kind >= 0x12 && kind <= 0x15 ? OK : NOT_A_TOKEN);
    }
  });

  it('leaves the fields of the last good reading untouched', () => {
    read(write(udp4));
    const before = snapshot(reader);
    const altered = Buffer.from(write(udp6));
    altered[20] = altered[20] === 0x41 ? 0x42 : 0x41;
    expect(read(altered)).toBe(TAMPERED);
    expect(snapshot(reader)).toEqual(before);
  });
});

describe('the key is rotated', () => {
  const once = keyring.rotate();
  const twice = once.rotate();

  it('a token of the previous key still reads, and is known as such [EP-5.2-04]', () => {
    const r = new TokenReader(once);
    expect([read(write(stream), r), r.keyIsCurrent]).toEqual([OK, false]);
    expect([read(write(stream, new TokenMint(once, 1)), r), r.keyIsCurrent]).toEqual([OK, true]);
  });

  it('a token two rotations old is TAMPERED', () => {
    expect(read(write(stream), new TokenReader(twice))).toBe(TAMPERED);
  });

  it('mint and reader take the new ring in place', () => {
    const m = new TokenMint(keyring, 5);
    const r = new TokenReader(keyring);
    const old = write(stream, m);
    m.rekey(once);
    expect(read(write(stream, m), r)).toBe(TAMPERED);
    r.rekey(once);
    expect([read(write(stream, m), r), r.keyIsCurrent]).toEqual([OK, true]);
    expect([read(old, r), r.keyIsCurrent]).toEqual([OK, false]);
  });
});

describe('a peer sends the token percent-encoded', () => {
  const percent = (text: Buffer, which: boolean[], lower: boolean) =>
    [...text]
      .map((octet, i) => {
        const code = octet.toString(16).padStart(2, '0');
        if (!which[i % which.length]) return String.fromCharCode(octet);
        return `%${lower ? code : code.toUpperCase()}`;
      })
      .join('');

  it('any of its characters, either case of the digits: the same result [EP-5.2-03]', () => {
    const which = fc.array(fc.boolean(), { minLength: 1, maxLength: 90 });
    fc.assert(
      fc.property(anyFields, which, fc.boolean(), (fields, escaped, lower) => {
        const text = write(fields);
        const sent = Buffer.from(percent(text, escaped, lower));
        expect(read(sent)).toBe(OK);
        expect(snapshot(reader)).toEqual(expected(fields));
        expect(reader.peek(sent, 0, sent.length)).toBe(true);
        expect(reader.equals(text, 0, text.length)).toBe(true);
      }),
    );
  });

  it('%2D and %5F stand for the own alphabet; %2B, %2F and %3D decode but are of no token of ours [EP-5.2-03]', () => {
    let token: Buffer = Buffer.alloc(0);
    let slot = 0;
    while (!/-.*_|_.*-/.test(token.toString())) token = write({ ...stream, slot: slot++ });
    const sent = token.toString().replaceAll('-', '%2D').replaceAll('_', '%5f');
    expect(read(Buffer.from(sent))).toBe(OK);
    const standard = token.toString().replaceAll('-', '%2B').replaceAll('_', '%2F');
    expect(read(Buffer.from(standard))).toBe(NOT_A_TOKEN);
    expect(read(Buffer.from(`${token}%3D`))).toBe(NOT_A_TOKEN);
  });

  it('a broken or endless escape is not a token [EP-5.3.1-08]', () => {
    const text = write(stream).toString();
    for (const bad of [
      `${text}%`,
      `${text.slice(0, 37)}%4`,
      `${text.slice(0, 37)}%4g`,
      `%%${text}`,
      '%41'.repeat(500),
    ]) {
      expect(read(Buffer.from(bad))).toBe(NOT_A_TOKEN);
      expect(reader.peek(Buffer.from(bad), 0, bad.length)).toBe(false);
    }
    // what follows the range is not looked at
    expect(reader.read(Buffer.from(`${text.slice(0, 37)}%4142`), 0, 39)).toBe(NOT_A_TOKEN);
    expect(unescapeToken(Buffer.from('%41%4'), 0, 5, Buffer.alloc(TOKEN_ROOM))).toBe(-1);
    const endless = Buffer.alloc(500, 'A');
    expect(unescapeToken(endless, 0, TOKEN_ROOM, Buffer.alloc(500))).toBe(TOKEN_ROOM);
    expect(unescapeToken(endless, 0, TOKEN_ROOM + 1, Buffer.alloc(500))).toBe(-1);
    expect(unescapeToken(Buffer.from('%41%4a'), 0, 6, Buffer.alloc(TOKEN_ROOM))).toBe(2);
  });
});

describe('a token that equals the kept one', () => {
  it('is found by slot and generation without crypto, for any flow', () => {
    const ref = { slot: -1, generation: -1 };
    fc.assert(
      fc.property(anyFields, fc.nat(5), (fields, at) => {
        const text = Buffer.concat([Buffer.alloc(at, 0x40), write(fields), Buffer.from('@edge')]);
        expect(peekSlot(text, at, text.length - 5, ref)).toBe(true);
        expect(ref).toEqual({ slot: fields.slot, generation: fields.generation });
      }),
    );
  });

  it('is peeked at only if it could be one [EP-5.3.1-08]', () => {
    const ref = { slot: -1, generation: -1 };
    const text = write(stream);
    expect(peekSlot(text, 0, text.length - 1, ref)).toBe(false);
    for (let at = 8; at < 22; at++) {
      const bad = Buffer.from(text);
      bad[at] = 0x2b;
      expect(peekSlot(bad, 0, bad.length, ref)).toBe(false);
    }
    expect(ref).toEqual({ slot: -1, generation: -1 });
  });

  it('is equal in all its octets and its length, or not at all [EP-5.3.1-06]', () => {
    const kept = Buffer.concat([Buffer.from('..'), write(stream)]);
    const length = kept.length - 2;
    reader.peek(kept, 2, kept.length);
    expect(reader.equals(kept, 2, length)).toBe(true);
    expect(reader.equals(kept, 2, length - 1)).toBe(false);
    for (let at = 0; at < length; at++) {
      const other = Buffer.from(kept);
      other[2 + at] ^= 1;
      expect(reader.equals(other, 2, length)).toBe(false);
      expect(sameText(kept, 2, other, 2, length)).toBe(false);
      expect(sameText(kept, 2, other, 2, at)).toBe(true);
    }
  });

  it('never equals a range that leaves its array', () => {
    expect(sameText(new Uint8Array(4), 0, new Uint8Array(2), 0, 4)).toBe(false);
    expect(sameText(new Uint8Array(2), 0, new Uint8Array(4), 0, 4)).toBe(false);
  });
});
