import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readSockaddr, writeSockaddr } from '../../src/native/sockaddr.ts';
import { anyone, v4, v6Loopback } from './loopback.ts';

const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const port = fc.integer({ min: 0, max: 65535 });
const ipv4 = fc.record({ a3: word, port }).map(({ a3, port }) => ({ ...v4('0.0.0.0', port), a3 }));
const ipv6 = fc
  .record({ a0: word, a1: word, a2: word, a3: word, port })
  .filter((a) => !(a.a0 === 0 && a.a1 === 0 && a.a2 === 0xffff))
  .map((a) => ({ ...a, family: 6 }));

describe('sockaddr', () => {
  it('gives back every IPv4 and IPv6 address that was written, whatever stood in the memory', () => {
    fc.assert(
      fc.property(
        fc.oneof(ipv4, ipv6),
        fc.uint8Array({ minLength: 40, maxLength: 40 }),
        (address, memory) => {
          const view = new DataView(memory.buffer, memory.byteOffset, 40);
          const length = writeSockaddr(view, 8, address);
          expect(length).toBe(address.family === 4 ? 16 : 28);
          const out = anyone();
          expect(readSockaddr(view, 8, out)).toBe(true);
          expect(out).toEqual(address);
        },
      ),
    );
  });

  it('writes the bytes that the kernel documents', () => {
    const bytes = new Uint8Array(28).fill(0xee);
    const view = new DataView(bytes.buffer);
    writeSockaddr(view, 0, v4('192.0.2.7', 5060));
    expect([...bytes.subarray(0, 16)]).toEqual([2, 0, 0x13, 0xc4, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
    writeSockaddr(view, 0, v6Loopback(5060));
    expect([...bytes]).toEqual([10, 0, 0x13, 0xc4, ...new Array(19).fill(0), 1, 0, 0, 0, 0]);
  });

  it('reports a mapped address of a dual-stack socket as IPv4', () => {
    const view = new DataView(new ArrayBuffer(28));
    writeSockaddr(view, 0, { ...v4('192.0.2.7', 9), family: 6 });
    const out = anyone();
    readSockaddr(view, 0, out);
    expect(out).toEqual(v4('192.0.2.7', 9));
  });

  it('leaves the result alone for a family that is not IP', () => {
    const out = v4('192.0.2.7', 9);
    expect(readSockaddr(new DataView(Uint8Array.of(1, 0, 5, 5, 5, 5, 5, 5).buffer), 0, out)).toBe(false);
    expect(out).toEqual(v4('192.0.2.7', 9));
  });
});
