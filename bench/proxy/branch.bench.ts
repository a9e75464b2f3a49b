/** The stateless branch: made for a REGISTER, and read back from its 200. */
import { Message } from '../../src/wire/lexer.ts';
import { VIA } from '../../src/wire/names.ts';
import { Via } from '../../src/wire/via.ts';
import { Writer } from '../../src/wire/writer.ts';
import { register } from '../fixtures.ts';
import type { Suite } from '../suite.ts';
import { behind, place } from '../wire/place.ts';
import { Rig } from './rig.ts';

const COUNT = 16;

export default function prepare(): Suite {
  const { branch } = new Rig();
  const here = place([register(), register(1)], 256);
  const { mem, start, end } = here;
  const m = new Message();
  const via = new Via();
  m.lex(mem, start[0], end[0], true);
  via.parse(mem, m.valueStart[m.first[VIA]], m.valueEnd[m.first[VIA]]);
  const out = new Writer(mem);
  const at = behind(here);
  mem.set(Buffer.from('z9hG4bK'), at);
  branch.slot = 17;
  branch.generation = 3;
  const write = (): void => {
    out.open(at + 7, at + 256);
    branch.write(out, m, via);
  };
  write();
  const written = out.at;
  return {
    cases: [
      {
        name: 'write',
        ops: COUNT,
        run() {
          for (let i = 0; i < COUNT; i++) write();
        },
      },
      {
        name: 'read',
        ops: COUNT,
        run() {
          for (let i = 0; i < COUNT; i++)
            if (!branch.read(mem, at, written)) throw new Error('our own branch is refused');
        },
      },
    ],
  };
}
