import { describe, expect, it } from 'vitest';
import * as record from '../../src/shared/flow-record.ts';
import { FlowRecords, MAX_TOKEN, RECORD_WORDS, TOKEN_BYTES } from '../../src/shared/flow-record.ts';

function records(slots: number): FlowRecords {
  const words = new Int32Array(new SharedArrayBuffer(slots * RECORD_WORDS * 4));
  return new FlowRecords(words, new Uint8Array(new SharedArrayBuffer(slots * TOKEN_BYTES)));
}

/** Every field of a record with values at the ends of its range, and how to read it back. */
type Field = [
  name: string,
  write: (r: FlowRecords, slot: number) => void,
  read: (r: FlowRecords, slot: number) => unknown,
  value: unknown,
];
const words4 = [-1, 0x7fffffff, -0x80000000, 1] as const;
const at4 = (read: (word: number) => number) => [0, 1, 2, 3].map(read);
const FIELDS: Field[] = [
  ['kind', (r, s) => r.setKind(s, 255, 6), (r, s) => [r.transport(s), r.family(s)], [255, 6]],
  ['cause', (r, s) => r.setCause(s, 0xffff), (r, s) => r.cause(s), 0xffff],
  ['flags', (r, s) => r.raise(s, 0x55), (r, s) => r.flags(s), 0x55],
  ['fd', (r, s) => r.setFd(s, 1048575), (r, s) => r.fd(s), 1048575],
  ['listener', (r, s) => r.setListener(s, 65535), (r, s) => r.listener(s), 65535],
  [
    'remote',
    (r, s) => r.setRemote(s, ...words4, 65535),
    (r, s) => [...at4((i) => r.remote(s, i)), r.remotePort(s)],
    [...words4, 65535],
  ],
  [
    'local',
    (r, s) => r.setLocal(s, ...words4, 65535),
    (r, s) => [...at4((i) => r.local(s, i)), r.localPort(s)],
    [...words4, 65535],
  ],
  ['openedAt', (r, s) => r.setOpenedAt(s, -1), (r, s) => r.openedAt(s), -1],
  ['lastKeepAlive', (r, s) => r.setLastKeepAlive(s, 41), (r, s) => r.lastKeepAlive(s), 41],
  ['lastByte', (r, s) => r.setLastByte(s, 42), (r, s) => r.lastByte(s), 42],
  ['flowTimer', (r, s) => r.setFlowTimer(s, -1), (r, s) => r.flowTimer(s), -1],
  ['registrationExpiry', (r, s) => r.setRegistrationExpiry(s, -1), (r, s) => r.registrationExpiry(s), -1],
  ['deadline', (r, s) => r.setDeadline(s, 0x7fffffff), (r, s) => r.deadline(s), 0x7fffffff],
  ['incarnation', (r, s) => r.setIncarnation(s, 0xfffffffe), (r, s) => r.incarnation(s), 0xfffffffe],
  ['cookie', (r, s) => r.setCookie(s, -2, -3), (r, s) => [r.cookieLow(s), r.cookieHigh(s)], [-2, -3]],
  ['messagesIn', (r, s) => r.countIn(s), (r, s) => r.messagesIn(s), 1],
  ['messagesOut', (r, s) => r.countOut(s), (r, s) => r.messagesOut(s), 1],
  [
    'client',
    (r, s) => r.setClient(s, ...words4, 65535),
    (r, s) => [...at4((i) => r.client(s, i)), r.clientPort(s)],
    [...words4, 65535],
  ],
];

describe('flow record', () => {
  it('has a place of its own for each field, in whatever order they are written', () => {
    for (const order of [FIELDS, FIELDS.toReversed()]) {
      const r = records(3);
      for (const [name, write] of order) if (name !== 'flags') write(r, 1);
      for (const [name, write, read, value] of order) {
        if (name === 'lastByte') write(r, 1);
        if (name !== 'flags') expect([name, read(r, 1)]).toEqual([name, value]);
      }
      for (const neighbour of [0, 2]) {
        expect(r.fd(neighbour)).toBe(-1);
        for (const [name, , read] of order) {
          const empty = [read(r, neighbour)].flat().every((v) => v === 0 || v === -1);
          expect([name, empty]).toEqual([name, true]);
        }
      }
      r.clear(1);
      expect([r.fd(1), r.cause(1), r.remotePort(1), r.messagesOut(1)]).toEqual([-1, 0, 0, 0]);
    }
  });

  it('sets and clears each flag alone', () => {
    const flags = [
      record.PARTIAL_IN,
      record.UNDRAINED_OUT,
      record.SUSPECT,
      record.EXEMPT,
      record.OUTBOUND_DIALED,
      record.REGISTERED,
      record.DIALOG,
      record.NODE_OWNED_FD,
      record.PROXIED,
      record.ADOPTED,
    ];
    const r = records(1);
    for (const flag of flags) r.raise(0, flag);
    for (const flag of flags) {
      expect(r.has(0, flag)).toBe(true);
      r.lower(0, flag);
      expect(r.has(0, flag)).toBe(false);
    }
    expect(r.flags(0)).toBe(0);
  });

  it('keeps a token text up to its room, and refuses a longer one', () => {
    const r = records(2);
    const bytes = Buffer.from('x'.repeat(5) + 'abcdefghij'.repeat(12));
    expect(r.setToken(1, bytes, 5, MAX_TOKEN)).toBe(true);
    const at = r.tokenOffset(1);
    expect(Buffer.from(r.tokens.slice(at, at + r.tokenLength(1))).toString()).toBe(
      bytes.toString('ascii', 5, 5 + MAX_TOKEN),
    );
    expect(r.tokenByte(1, 0)).toBe(97);
    expect(r.setToken(1, bytes, 0, MAX_TOKEN + 1)).toBe(false);
    expect(r.tokenLength(0)).toBe(0);
  });

  it('reads an address whole', () => {
    const r = records(1);
    const into = { family: 0, port: 0, a0: 0, a1: 0, a2: 0, a3: 0 };
    r.setKind(0, record.TRANSPORT_UDP, 6);
    r.setRemote(0, 1, 2, 3, 4, 5060);
    r.setLocal(0, 5, 6, 7, 8, 5061);
    r.readRemote(0, into);
    expect(into).toEqual({ family: 6, port: 5060, a0: 1, a1: 2, a2: 3, a3: 4 });
    r.readLocal(0, into);
    expect(into).toEqual({ family: 6, port: 5061, a0: 5, a1: 6, a2: 7, a3: 8 });
  });
});
