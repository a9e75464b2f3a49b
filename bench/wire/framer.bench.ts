/** A stream's bytes into frames: whole messages, pings, and a message in pieces. */
import { Framer, MESSAGE, MORE, PING } from '../../src/wire/framer.ts';
import { Message } from '../../src/wire/lexer.ts';
import { invite, register } from '../fixtures.ts';
import type { Suite } from '../suite.ts';
import { many, place } from './place.ts';

const COUNT = 16;

export default function prepare(): Suite {
  const registers = place(many(COUNT, (n) => register(n, 'TCP')));
  const invites = place(many(COUNT, (n) => invite(n, 'TCP')));
  const pings = place(many(COUNT, () => '\r\n\r\n'));
  const framer = new Framer();
  const message = new Message();
  const expect = (kind: number, got: number): void => {
    if (got !== kind) throw new Error(`frame of kind ${got}, not ${kind}`);
  };
  return {
    cases: [
      {
        name: 'REGISTER in one piece',
        ops: COUNT,
        run() {
          const { mem, start, end } = registers;
          for (let i = 0; i < COUNT; i++) expect(MESSAGE, framer.next(mem, start[i], end[i]));
        },
      },
      {
        name: 'REGISTER in one piece, and lexed',
        ops: COUNT,
        run() {
          const { mem, start, end } = registers;
          for (let i = 0; i < COUNT; i++)
            if (!framer.take(message, mem, start[i], end[i])) throw new Error('not whole');
        },
      },
      {
        name: 'INVITE with SDP in one piece',
        ops: COUNT,
        run() {
          const { mem, start, end } = invites;
          for (let i = 0; i < COUNT; i++) expect(MESSAGE, framer.next(mem, start[i], end[i]));
        },
      },
      {
        name: 'INVITE with SDP in pieces of 64 octets',
        ops: COUNT,
        run() {
          const { mem, start, end } = invites;
          for (let i = 0; i < COUNT; i++) {
            for (let have = start[i] + 64; have < end[i]; have += 64)
              expect(MORE, framer.next(mem, start[i], have));
            expect(MESSAGE, framer.next(mem, start[i], end[i]));
          }
        },
      },
      {
        name: 'ping',
        ops: COUNT,
        run() {
          const { mem, start, end } = pings;
          for (let i = 0; i < COUNT; i++) expect(PING, framer.next(mem, start[i], end[i]));
        },
      },
    ],
  };
}
