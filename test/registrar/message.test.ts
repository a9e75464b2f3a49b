import { describe, expect, it } from 'vitest';
import {
  decodeAnswer,
  decodeRequest,
  encodeAnswer,
  encodeRequest,
  Letter,
} from '../../src/registrar/message.ts';
import type { StoreOp, UpdateOp } from '../../src/registrar/store.ts';
import { Ring } from '../../src/shared/ring.ts';

const plain: UpdateOp = {
  kind: 'update',
  aor: 'sip:dora@example.test',
  now: 1_800_000_000_123,
  callId: 'c1@192.0.2.1',
  cseq: 7,
  clear: false,
  contacts: [],
  path: [],
  maxContacts: 16,
};
const full: UpdateOp = {
  ...plain,
  contacts: [
    {
      key: 'o:urn:uuid:00000000-0000-4000-8000-000000000001;1',
      contact: 'sip:dora@192.0.2.1:5060;transport=tcp',
      params: [
        ['+sip.instance', '"<urn:uuid:00000000-0000-4000-8000-000000000001>"'],
        ['isfocus', undefined],
        ['reg-id', '1'],
      ],
      instance: 'urn:uuid:00000000-0000-4000-8000-000000000001',
      regId: 1,
      q: 500,
      expires: 3600,
    },
    { key: 'c:sip:b', contact: 'sip:b@192.0.2.2', params: [], regId: 0, q: 1000, expires: 0 },
  ],
  path: ['<sip:a@192.0.2.9;lr;ob>', '<sip:192.0.2.10;lr>'],
  flow: '1.2.3.d',
  userAgent: 'Lärkphone/4.2 ☎',
};
const ops: StoreOp[] = [
  full,
  plain,
  { ...plain, clear: true },
  { kind: 'lookup', aor: 'sip:dora@example.test', now: 1 },
  { kind: 'remove', aor: 'sip:dora@example.test', key: 'c:sip:b' },
  { kind: 'remove', aor: 'sip:dora@example.test', key: 'c:sip:b', ifOrder: 1_800_000_000_123 },
  { kind: 'flow-closed', flow: '1.2.3.s' },
  { kind: 'flow-closed', flow: '1.2.3.s', cause: 4 },
  { kind: 'list', limit: 10 },
  { kind: 'list', after: 'sip:a@h', limit: 10 },
];

function ring(): Ring {
  return new Ring(new SharedArrayBuffer(Ring.bytes(65_536)), 0, 65_536);
}

const words = new Int32Array(0);
const put = (into: Ring, bytes: Uint8Array) => into.write(1, words, 0, bytes, 0, bytes.length);

describe('requests to the store thread', () => {
  it('arrive as they were sent, whatever was in the letter before them', () => {
    const way = ring();
    for (const [i, op] of ops.entries()) put(way, encodeRequest({ id: i + 1, op }));
    const letter = new Letter();
    const seen: unknown[] = [];
    for (; way.peek(); way.advance()) {
      const { bytes, length } = letter.take(way);
      seen.push(decodeRequest(bytes, length));
    }
    expect(seen).toStrictEqual(ops.map((op, i) => ({ id: i + 1, op })));
  });

  it('are refused when they are cut off or no request', () => {
    const whole = Uint8Array.from(encodeRequest({ id: 1, op: full }));
    for (const length of [0, 1, 20, whole.length - 1]) expect(decodeRequest(whole, length)).toBeUndefined();
    expect(decodeRequest(Uint8Array.of(0xc1))).toBeUndefined();
    expect(decodeRequest(Uint8Array.of(0x92, 0xa1, 0x61, 0xc0))).toBeUndefined();
  });

  it('may be longer than the letter, and so may answers', () => {
    const way = ring();
    const letter = new Letter();
    const aors = Array.from({ length: 500 }, (_, i) => `sip:u${i}@example.test`);
    put(way, encodeAnswer({ id: 3, result: { status: 'ok', bindings: [], count: 500, aors } }));
    way.peek();
    const { bytes, length } = letter.take(way);
    expect(length).toBeGreaterThan(4096);
    expect(decodeAnswer(bytes, length)).toStrictEqual({
      id: 3,
      result: { status: 'ok', bindings: [], count: 500, aors },
    });
  });
});
