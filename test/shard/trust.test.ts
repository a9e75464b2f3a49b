/** Whose word counts: the upstream by address and port, and the networks that the operator named. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { Endpoint } from '../../src/net/endpoint.ts';
import { Trust } from '../../src/shard/trust.ts';

const at = (host: string, port = 5060) => Endpoint.parse(host, port)!;
const networks = (text: string) => loadConfig({ HOLDFAST_TRUSTED: text }).trusted;

describe('trust', () => {
  it('in the upstream is in its address and its port', () => {
    const trust = new Trust([], [], { isTarget: (address) => address.equals(at('192.0.2.9', 5070)) });
    expect(trust.isUpstream(at('192.0.2.9', 5070))).toBe(true);
    expect(trust.isUpstream(at('192.0.2.9', 5071))).toBe(false);
    expect(trust.isUpstream(at('192.0.2.8', 5070))).toBe(false);
    expect(trust.network(at('192.0.2.9', 5070))).toBe(false);
    expect(new Trust([], [], undefined).isUpstream(at('192.0.2.9', 5070))).toBe(false);
  });

  it('in a network is in the first bits of the address, whatever the port', () => {
    fc.assert(
      fc.property(fc.ipV4(), fc.integer({ min: 0, max: 32 }), fc.nat(31), (base, bits, flip) => {
        const trust = new Trust(networks(`${base}/${bits}`), [], undefined);
        const address = at(base, 9);
        expect(trust.network(address)).toBe(true);
        address.a3 ^= 1 << (31 - flip);
        expect(trust.network(address)).toBe(flip >= bits);
      }),
    );
    fc.assert(
      fc.property(fc.ipV6(), fc.integer({ min: 0, max: 128 }), fc.nat(127), (base, bits, flip) => {
        const trust = new Trust(networks(`${base}/${bits}`), [], undefined);
        const address = at(base);
        expect(trust.network(address)).toBe(true);
        address[(['a0', 'a1', 'a2', 'a3'] as const)[flip >> 5]] ^= 1 << (31 - (flip & 31));
        expect(trust.network(address)).toBe(flip >= bits);
      }),
    );
  });

  it('in all of one family is not in the other', () => {
    expect(new Trust(networks('0.0.0.0/0'), [], undefined).network(at('::ffff:192.0.2.1'))).toBe(false);
    expect(new Trust(networks('::/0'), [], undefined).network(at('192.0.2.1'))).toBe(false);
    expect(new Trust(networks('10.0.0.0/8,::/0'), [], undefined).network(at('2001:db8::1'))).toBe(true);
  });
});
