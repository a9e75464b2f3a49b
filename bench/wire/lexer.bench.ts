/** Offset tables of whole messages, 16 different ones in turn. */
import { Message, OK } from '../../src/wire/lexer.ts';
import { VIA } from '../../src/wire/names.ts';
import { Via } from '../../src/wire/via.ts';
import { invite, message, register, registerOk } from '../fixtures.ts';
import type { Case, Suite } from '../suite.ts';
import { many, place } from './place.ts';

const COUNT = 16;
const VIAS = [
  'Via: SIP/2.0/UDP 203.0.113.10:5060;rport;branch=z9hG4bKAQAAaJ2rAQAAAAAAAAABu0nK3e6m8dV1wQ5tPq0s2Z8',
  'Via: SIP/2.0/UDP 192.168.1.23:5060;rport=20000;received=198.51.100.7;branch=z9hG4bKPj4bd1a7c07e65',
].join('\r\n');
const PATH = '<sip:ARAAAGid2KsAAAAAAAAAAcYzZAdOIMsAcQoTxPZ3QkBrq2hT0mWm@203.0.113.10:5060;lr;ob>';

function lexing(name: string, text: (n: number) => string): Case {
  const { mem, start, end } = place(many(COUNT, text));
  const m = new Message();
  return {
    name,
    ops: COUNT,
    run() {
      for (let i = 0; i < COUNT; i++)
        if (m.lex(mem, start[i], end[i], true) !== OK) throw new Error(`${name} is refused`);
    },
  };
}

export default function prepare(): Suite {
  const { mem, start, end } = place(many(COUNT, register));
  const vias = many(COUNT, (i) => {
    const m = new Message();
    m.lex(mem, start[i], end[i], true);
    return [m.valueStart[m.first[VIA]], m.valueEnd[m.first[VIA]]];
  });
  const via = new Via();
  return {
    cases: [
      lexing('REGISTER, 694 octets, 13 headers', register),
      lexing('200 to REGISTER, 2 Via', (n) => registerOk(n, VIAS, PATH)),
      lexing('INVITE with SDP', invite),
      lexing('MESSAGE with a Route', (n) => message(n, 'ARAAAGid2KsAAAAAAAAAAcYzZAdO@203.0.113.10:5060')),
      {
        name: 'Via of a REGISTER',
        ops: COUNT,
        run() {
          for (const [from, to] of vias) if (!via.parse(mem, from, to)) throw new Error('Via is refused');
        },
      },
    ],
  };
}
