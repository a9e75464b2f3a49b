/**
 * Frames of WebSocket clients into messages, and messages into frames. The mask of the frames is 0, which costs
 * what any mask does and leaves them as they are for the next round.
 */
import { Words } from '../../src/wire/words.ts';
import { Frames, PING, TEXT, writeHead } from '../../src/wire/wsframe.ts';
import { invite, register } from '../fixtures.ts';
import type { Suite } from '../suite.ts';
import { behind, many, place } from './place.ts';

const COUNT = 16;
const ROOM = 8 * 1024;

/** The frame of a client. */
function masked(payload: string, opcode = TEXT): Buffer {
  const octets = Buffer.from(payload);
  const head = Buffer.alloc(14);
  let at = writeHead(head, 0, opcode, octets.length);
  head[1] |= 0x80;
  at += 4;
  return Buffer.concat([head.subarray(0, at), octets]);
}

export default function prepare(): Suite {
  const registers = place(
    many(COUNT, (n) => masked(register(n, 'WS'))),
    ROOM,
  );
  const invites = place(many(COUNT, (n) => masked(invite(n, 'WS'))));
  const umlauts = place(many(COUNT, (n) => masked(register(n, 'WS').replace('"Dora"', '"Dörte"'))));
  const pings = place(many(COUNT, () => masked('12345678', PING)));
  const frames = new Frames();
  const read =
    (kind: number, { mem, start, end }: ReturnType<typeof place>, words: Words) =>
    () => {
      if (words.mem !== mem) throw new Error('other memory');
      for (let i = 0; i < COUNT; i++) {
        const got = frames.next(words, start[i], end[i]);
        if (got !== kind) throw new Error(`frame of kind ${got}, not ${kind}`);
      }
    };
  const words = new Words(registers.mem);
  const out = behind(registers);
  let ascii = 0;
  return {
    cases: [
      { name: 'REGISTER in one frame', ops: COUNT, run: read(TEXT, registers, words) },
      { name: 'INVITE with SDP in one frame', ops: COUNT, run: read(TEXT, invites, new Words(invites.mem)) },
      { name: 'REGISTER with an umlaut', ops: COUNT, run: read(TEXT, umlauts, new Words(umlauts.mem)) },
      { name: 'Ping', ops: COUNT, run: read(PING, pings, new Words(pings.mem)) },
      {
        name: 'REGISTER: is it text',
        ops: COUNT,
        run() {
          const { start, end } = registers;
          for (let i = 0; i < COUNT; i++) if (words.isText(start[i] + 8, end[i])) ascii++;
          return ascii;
        },
      },
      {
        name: 'REGISTER into a frame',
        ops: COUNT,
        run() {
          const { mem, start, end } = registers;
          for (let i = 0; i < COUNT; i++) {
            const length = end[i] - start[i] - 8;
            const opcode = words.isText(start[i] + 8, end[i]) ? TEXT : 2;
            mem.copyWithin(writeHead(mem, out, opcode, length), start[i] + 8, end[i]);
          }
        },
      },
    ],
  };
}
