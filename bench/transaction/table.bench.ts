/** What the transaction layer costs one proxied message: keys, records, events, timers; 20,000 others are alive. */

import { TransactionKey } from '../../src/transaction/key.ts';
import {
  ON_ACK,
  ON_FAILURE,
  ON_PROVISIONAL,
  ON_REQUEST,
  ON_SUCCESS,
  ON_TU_FAILURE,
  ON_TU_PROVISIONAL,
  ON_TU_SUCCESS,
} from '../../src/transaction/machine.ts';
import { Transactions } from '../../src/transaction/table.ts';
import { ascii } from '../../src/wire/chars.ts';
import { Message, OK } from '../../src/wire/lexer.ts';
import { INVITE, MESSAGE, VIA } from '../../src/wire/names.ts';
import { Via } from '../../src/wire/via.ts';
import type { Suite } from '../suite.ts';

const OPS = 64;
const ALIVE = 20_000;

const REQUEST = ascii(
  'MESSAGE sip:bob@example.test SIP/2.0\r\n' +
    'Via: SIP/2.0/UDP 198.51.100.17:5060;branch=z9hG4bK-524287-1---d8754z3f2a7c;rport\r\n' +
    'From: <sip:alice@example.test>;tag=a73kszlfl\r\n' +
    'To: <sip:bob@example.test>\r\n' +
    'Call-ID: 1j9FpLxk3uxtm8tn@198.51.100.17\r\n' +
    'CSeq: 1 MESSAGE\r\n' +
    'Max-Forwards: 70\r\n' +
    'Content-Length: 0\r\n\r\n\0',
);

export default function prepare(): Suite {
  const message = new Message();
  const via = new Via();
  if (message.lex(REQUEST, 0, REQUEST.length - 1, true) !== OK) throw new Error('the request is malformed');
  const row = message.first[VIA];
  via.parse(REQUEST, message.valueStart[row], message.valueEnd[row]);
  const key = new TransactionKey(new Uint8Array(16).fill(7));

  const table = new Transactions({ capacity: 65_536, nowMs: 0, onReclaim: () => {} });
  let now = 0;
  let serial = 1;
  const hash = (n: number) => Math.imul(n ^ (n >>> 15), 0x2c1b3c6d) | 0;
  for (let i = 0; i < ALIVE; i++) table.openServer(INVITE, true, hash(serial), serial++, now);
  const ignore = () => {};

  /** One request in, out, its answer in, out. */
  const exchange = (reliable: boolean): void => {
    const lo = hash(serial);
    const hi = serial++;
    if (table.find(lo, hi) >= 0) throw new Error('found');
    const server = table.openServer(MESSAGE, reliable, lo, hi, now);
    const client = table.openClient(MESSAGE, reliable, now);
    table.setPeer(client, server);
    const generation = table.generation(client);
    if (table.findClient(client, generation, MESSAGE) !== client) throw new Error('lost');
    table.event(client, ON_SUCCESS, now);
    table.event(server, ON_TU_SUCCESS, now);
    if (reliable) return;
    table.release(client);
    table.release(server);
  };

  const call = (): void => {
    const lo = hash(serial);
    const hi = serial++;
    const server = table.openServer(INVITE, false, lo, hi, now);
    table.event(server, ON_TU_PROVISIONAL, now);
    const client = table.openClient(INVITE, false, now);
    table.event(client, ON_PROVISIONAL, now);
    table.setAlarm(client, table.timers.endOfC(now));
    table.event(client, ON_FAILURE, now);
    table.event(server, ON_TU_FAILURE, now);
    table.event(table.find(lo, hi), ON_REQUEST, now);
    table.event(table.find(lo, hi), ON_ACK, now);
    table.release(client);
    table.release(server);
  };

  const times = (work: () => void) => () => {
    now += 0.1;
    for (let i = 0; i < OPS; i++) work();
    table.advance(now, ignore);
  };

  return {
    cases: [
      { name: 'key of a request', ops: OPS, run: times(() => key.ofRequest(message, via)) },
      {
        name: 'MESSAGE over TCP: both transactions, opened to ended',
        ops: OPS,
        run: times(() => exchange(true)),
      },
      { name: 'MESSAGE over UDP: the same, released', ops: OPS, run: times(() => exchange(false)) },
      { name: 'INVITE over UDP: 100, 180, 486, ACK, released', ops: OPS, run: times(call) },
    ],
  };
}
