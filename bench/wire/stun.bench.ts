/** A STUN Binding request answered in another place, as a shard does it. */
import { Endpoint } from '../../src/net/endpoint.ts';
import { answerStun, STUN_ROOM } from '../../src/wire/stun.ts';
import { CLIENT, clientPort, STUN_REQUEST } from '../fixtures.ts';
import type { Suite } from '../suite.ts';
import { behind, many, place } from './place.ts';

const COUNT = 16;

export default function prepare(): Suite {
  const plain = STUN_REQUEST.slice(0, 20);
  plain[3] = 0;
  const from = Endpoint.parse(CLIENT, clientPort(0)) as Endpoint;
  const answering = (name: string, request: Uint8Array) => {
    const here = place(
      many(COUNT, () => request),
      STUN_ROOM,
    );
    const { mem, start, end } = here;
    const at = behind(here);
    return {
      name,
      ops: COUNT,
      run() {
        for (let i = 0; i < COUNT; i++)
          if (answerStun(mem, start[i], end[i], from, mem, at) === 0) throw new Error('STUN is dropped');
      },
    };
  };
  return {
    cases: [answering('Binding request', plain), answering('the same with FINGERPRINT', STUN_REQUEST)],
  };
}
