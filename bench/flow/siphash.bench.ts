/** SipHash-2-4 over what a stateless branch covers. */
import { SipHash } from '../../src/flow/siphash.ts';
import type { Suite } from '../suite.ts';

export default function prepare(): Suite {
  const key = Uint8Array.from({ length: 16 }, (_, i) => i);
  const text = Uint8Array.from({ length: 1024 }, (_, i) => (i * 31) & 255);
  const hash = new SipHash(key);
  const whole = (length: number) => ({
    name: `${length} octets`,
    ops: 16,
    run() {
      for (let i = 0; i < 16; i++) hash.hash(text, i, i + length);
      return hash.lo;
    },
  });
  return {
    cases: [
      whole(30),
      whole(96),
      whole(1000),
      {
        name: '29, 17 and 15 octets in pieces',
        ops: 16,
        run() {
          for (let i = 0; i < 16; i++) {
            hash.begin();
            hash.update(text, i, i + 29);
            hash.update(text, i + 100, i + 117);
            hash.update(text, i + 200, i + 215);
            hash.end();
          }
          return hash.lo;
        },
      },
    ],
  };
}
