/** Flow tokens: made once a flow, recognised without crypto, verified where the kept text differs. */
import { Keyring } from '../../src/flow/keyring.ts';
import { TokenMint, TokenReader, TokenVerdict } from '../../src/flow/token.ts';
import { Endpoint } from '../../src/net/endpoint.ts';
import { CLIENT, clientPort, EDGE } from '../fixtures.ts';
import type { Suite } from '../suite.ts';

export default function prepare(): Suite {
  const keyring = new Keyring({ current: { id: 1, octets: new Uint8Array(32).fill(7) } });
  const mint = new TokenMint(keyring, 0);
  const reader = new TokenReader(keyring);
  const fields = {
    transport: 1,
    incarnation: 1_773_480_413,
    slot: 4711,
    generation: 3,
    remote: Endpoint.parse(CLIENT, clientPort(0)) as Endpoint,
    local: Endpoint.parse(EDGE, 5060) as Endpoint,
  };
  const text = new Uint8Array(128);
  const length = mint.write(fields, text, 0);
  const kept = text.slice();
  const scratch = new Uint8Array(128);
  return {
    cases: [
      { name: 'mint, UDP', run: () => mint.write(fields, scratch, 0) },
      {
        name: 'peek and compare with the kept text',
        ops: 16,
        run() {
          for (let i = 0; i < 16; i++)
            if (!reader.peek(text, 0, length) || !reader.equals(kept, 0, length))
              throw new Error('another token');
        },
      },
      {
        name: 'read (verifies the MAC)',
        run() {
          if (reader.read(text, 0, length) !== TokenVerdict.OK) throw new Error('a good token is refused');
        },
      },
    ],
  };
}
