/** Copying a message with edits: none, and those that a forwarded REGISTER gets. */
import { ascii } from '../../src/wire/chars.ts';
import { Message } from '../../src/wire/lexer.ts';
import { MAX_FORWARDS, VIA } from '../../src/wire/names.ts';
import { Patch } from '../../src/wire/patch.ts';
import { Writer } from '../../src/wire/writer.ts';
import { register } from '../fixtures.ts';
import type { Suite } from '../suite.ts';
import { behind, many, place } from './place.ts';

const COUNT = 16;
const ROOM = 16 * 1024;
const OWN_VIA = ascii(
  'Via: SIP/2.0/UDP 203.0.113.10:5060;rport;branch=z9hG4bKAQAAaJ2rAQAAAAAAAAABu0nK3e6m8dV1wQ5\r\n',
);
const PATH = ascii(
  'Path: <sip:ARAAAGid2KsAAAAAAAAAAcYzZAdOIMsAcQoTxPZ3QkBrq2hT0mWm@203.0.113.10:5060;lr;ob>\r\n',
);

export default function prepare(): Suite {
  const here = place(many(COUNT, register), 2 * ROOM);
  const { mem, start, end } = here;
  const scratch = behind(here);
  const patch = new Patch(mem, scratch, ROOM);
  const out = new Writer(mem);
  const messages = many(COUNT, (i) => {
    const m = new Message();
    m.lex(mem, start[i], end[i], true);
    return m;
  });
  const apply = (m: Message): void => {
    out.open(scratch + ROOM, scratch + 2 * ROOM);
    if (!patch.apply(m.start, m.end, out)) throw new Error('no room');
  };
  return {
    cases: [
      {
        name: 'no edit',
        ops: COUNT,
        run() {
          for (const m of messages) {
            patch.begin();
            apply(m);
          }
        },
      },
      {
        name: 'Via, Path, Max-Forwards, rport',
        ops: COUNT,
        run() {
          for (const m of messages) {
            const row = m.first[VIA];
            const hops = m.first[MAX_FORWARDS];
            patch.begin();
            patch.replace(m.valueEnd[row] - 40, m.valueEnd[row] - 34).decimal(20_000);
            patch.insert(m.lineStart[row]).bytes(PATH);
            patch.insert(m.lineStart[row]).bytes(OWN_VIA);
            patch.replace(m.valueStart[hops], m.valueEnd[hops]).decimal(69);
            apply(m);
          }
        },
      },
    ],
  };
}
