import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type Binding,
  byPreference,
  contactKey,
  decodeBindings,
  encodeBindings,
  flowKey,
} from '../../src/registrar/binding.ts';
import { Location } from '../../src/registrar/location.ts';
import { StoreService } from '../../src/registrar/service.ts';
import type { Backend, ContactUpdate, UpdateOp } from '../../src/registrar/store.ts';
import { BACKENDS } from './backends.ts';

const START = 1_800_000_000_000;
const DORA = 'sip:dora@example.net';
const EVE = 'sip:eve@example.net';

const flowContact = (regId: number, changes: Partial<ContactUpdate> = {}): ContactUpdate => ({
  key: `o:urn:x:1;${regId}`,
  contact: 'sip:d@192.0.2.1',
  params: [['reg-id', `${regId}`]],
  instance: 'urn:x:1',
  regId,
  q: 1000,
  expires: 3600,
  ...changes,
});

const update = (changes: Partial<UpdateOp> = {}): UpdateOp => ({
  kind: 'update',
  aor: DORA,
  now: START,
  callId: 'a',
  cseq: 1,
  clear: false,
  contacts: [flowContact(1)],
  path: [],
  maxContacts: 16,
  ...changes,
});

describe.each(BACKENDS)('the location service over $name', ({ make }) => {
  let backend: Backend;
  let location: Location;
  let dispose: () => Promise<void>;
  beforeEach(() => {
    const made = make();
    backend = made.backend;
    location = new Location(backend);
    dispose = made.dispose;
  });
  afterEach(() => dispose());
  const regIds = (aor = DORA) => location.lookup(aor, START).map((binding) => binding.regId);

  it('orders by q, then by the last registration, then by reg-id [AP-7-09]', () => {
    location.update(update({ contacts: [flowContact(2), flowContact(1)] }));
    expect(regIds()).toEqual([1, 2]);
    location.update(update({ contacts: [flowContact(3, { q: 500 })], callId: 'b' }));
    expect(regIds()).toEqual([1, 2, 3]);
    location.update(update({ contacts: [flowContact(2)], cseq: 2 }));
    expect(regIds()).toEqual([2, 1, 3]);
  });

  it('retires every binding of a flow that closes, whatever its address [AP-7-06 AP-7-07 AP-7-08]', () => {
    const flow = flowKey(9, 1, 7, false);
    location.update(update({ flow }));
    location.update(update({ flow, aor: EVE, contacts: [flowContact(1), flowContact(2)] }));
    location.update(update({ flow: flowKey(9, 2, 7, false), contacts: [flowContact(2)] }));
    expect(location.flowClosed(flow)).toBe(3);
    expect(regIds()).toEqual([2]);
    expect(regIds(EVE)).toEqual([]);
    expect(location.flowClosed(flow)).toBe(0);
  });

  it('refuses a registration whose flow closed before it was stored [AP-7-07]', () => {
    const flow = flowKey(9, 1, 7, false);
    location.flowClosed(flow);
    expect(location.update(update({ flow })).status).toBe('flow-closed');
    expect(location.count).toBe(0);
  });

  it('does not retire a binding that moved to another flow [RG-6-22]', () => {
    const [old, fresh] = [flowKey(1, 1, 7, false), flowKey(2, 1, 7, false)];
    location.update(update({ flow: old }));
    location.update(update({ flow: fresh, cseq: 2 }));
    expect(location.flowClosed(old)).toBe(0);
    expect(location.flowClosed(fresh)).toBe(1);
  });

  it('removes what a 430 was for, unless it has registered anew [AP-7-10]', () => {
    location.update(update());
    const [stale] = location.lookup(DORA, START);
    location.update(update({ cseq: 2 }));
    expect(location.remove(DORA, stale.key, stale.order)).toBe(false);
    const [fresh] = location.lookup(DORA, START);
    expect(location.remove(DORA, fresh.key, fresh.order)).toBe(true);
    expect(location.remove(DORA, fresh.key)).toBe(false);
    expect(location.count).toBe(0);
  });

  it('retires stream flows of another life at start, not datagram flows and not adopted ones', () => {
    const flows = [
      flowKey(1, 1, 6, false),
      flowKey(2, 1, 6, true),
      flowKey(3, 1, 7, false),
      flowKey(4, 1, 6, false),
    ];
    flows.forEach((flow, i) => {
      location.update(update({ flow, contacts: [flowContact(i + 1)], callId: flow }));
    });
    const restarted = new Location(backend);
    expect(restarted.retireOtherIncarnations(7, new Set([flows[3]]))).toBe(1);
    const left = restarted.lookup(DORA, START).map((binding) => binding.flow);
    expect(left.sort()).toEqual([flows[1], flows[2], flows[3]].sort());
    expect(restarted.count).toBe(3);
  });

  it('goes on with a higher order after a restart', () => {
    location.update(update());
    const [before] = location.lookup(DORA, START);
    const restarted = new Location(backend);
    restarted.update(update({ cseq: 2, now: START - 5_000 }));
    expect(restarted.lookup(DORA, START)[0].order).toBeGreaterThan(before.order);
  });

  it('matches contacts that 19.1.4 calls equal though a parameter differs, and keeps apart those it does not', () => {
    const contact = (uri: string) => flowContact(0, { key: contactKey(uri), contact: uri });
    const store = (uri: string, cseq: number) => location.update(update({ contacts: [contact(uri)], cseq }));
    store('sip:d@h.example;x=1', 1);
    store('sip:d@h.example', 2);
    expect(location.count).toBe(1);
    store('sip:d@h.example;x=2', 3);
    store('sip:d@h.example;transport=tcp', 4);
    store('sip:d@h.example:5060', 5);
    expect(location.count).toBe(3);
  });

  it('sweeps a slice at a time and comes round', () => {
    for (let i = 0; i < 25; i++) {
      const expires = i % 2 === 0 ? 60 : 3600;
      location.update(update({ aor: `sip:u${i}@h`, contacts: [flowContact(1, { expires })] }));
    }
    const later = START + 60_000;
    const gone: number[] = [];
    for (let i = 0; i < 4; i++) gone.push(location.sweep(later, 10));
    expect(gone.reduce((a, b) => a + b)).toBe(13);
    expect(Math.max(...gone)).toBeLessThanOrEqual(10);
    expect(location.count).toBe(12);
  });

  it('leaves nothing of a batch that fails, in the store or in memory', () => {
    const flow = flowKey(1, 1, 7, false);
    const moved = flowKey(2, 1, 7, false);
    location.update(update({ flow }));
    const before = location.lookup(DORA, START);
    const failing = () => {
      location.update(update({ flow: moved, cseq: 2 }));
      location.update(update({ flow: moved, cseq: 3, contacts: [flowContact(1), flowContact(2)] }));
      location.update(update({ flow: moved, aor: EVE }));
      location.flowClosed(moved);
      throw new Error('disk full');
    };
    expect(() => location.batch(failing)).toThrow('disk full');
    expect(location.count).toBe(1);
    expect(location.lookup(DORA, START)).toEqual(before);
    expect(location.lookup(EVE, START)).toEqual([]);
    expect(location.flowClosed(moved)).toBe(0);
    expect(location.flowClosed(flow)).toBe(1);
    expect(location.count).toBe(0);
  });

  it('answers each request of a batch, and a bad one does not spoil the others [3261-10.3-01]', () => {
    const service = new StoreService(backend);
    const bad = update({ contacts: [null as unknown as ContactUpdate], aor: EVE });
    const replies = service.handle([
      { from: 1, id: 1, op: update() },
      { from: 2, id: 7, op: bad },
      { from: 1, id: 2, op: { kind: 'lookup', aor: DORA, now: START } },
      { from: 1, id: 0, op: { kind: 'remove', aor: DORA, key: 'none' } },
    ]);
    expect(replies.map(({ to, id, result }) => [to, id, result.status])).toEqual([
      [1, 1, 'ok'],
      [2, 7, 'error'],
      [1, 2, 'ok'],
    ]);
    expect(replies[2].result.bindings).toHaveLength(1);
    expect(service.failures).toBe(1);
    expect(service.location.count).toBe(1);
  });

  it('keeps (Call-ID, CSeq) order, q order and flows like the model, over 5,000 requests', () => {
    let seed = 20_260_101;
    const random = (n: number) => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fffffff;
      return (seed >>> 8) % n;
    };
    const model = new Map<string, Binding>();
    const statuses = new Map<string, number>();
    let now = START;
    for (let step = 0; step < 5_000; step++) {
      now += random(20) * 1000;
      const aor = `sip:u${random(4)}@h`;
      const regId = 1 + random(3);
      const callId = `c${random(2)}`;
      const cseq = random(40) + Math.floor(step / 100);
      const expires = random(4) === 0 ? 0 : 60 * (1 + random(10));
      const flow = flowKey(step, 1, 7, false);
      const id = `${aor} ${regId}`;
      const old = model.get(id);
      const live = old !== undefined && old.expiresAt > now ? old : undefined;
      const late = live !== undefined && live.callId === callId && cseq <= live.cseq;
      const closing = random(10) === 0 ? live?.flow : undefined;
      if (closing !== undefined) {
        expect(location.flowClosed(closing)).toBe(1);
        model.delete(id);
        continue;
      }
      const contacts = [flowContact(regId, { expires })];
      const result = location.update(update({ aor, callId, cseq, contacts, now, flow }));
      statuses.set(result.status, (statuses.get(result.status) ?? 0) + 1);
      expect(result.status).toBe(late ? 'stale' : 'ok');
      if (!late) {
        if (expires === 0) model.delete(id);
        else model.set(id, { callId, cseq, flow, expiresAt: now + expires * 1000 } as Binding);
      }
      const seen = location.lookup(aor, now);
      const expected = [...model].filter(([key, b]) => key.startsWith(`${aor} `) && b.expiresAt > now);
      expect(seen).toHaveLength(expected.length);
      for (const [key, { callId, cseq, flow, expiresAt }] of expected) {
        const binding = seen.find((b) => `${aor} ${b.regId}` === key);
        expect(binding).toMatchObject({ callId, cseq, flow, expiresAt });
      }
    }
    expect(statuses.get('stale')).toBeGreaterThan(300);
    expect(statuses.get('ok')).toBeGreaterThan(300);
  });
});

describe('the encoded form of bindings', () => {
  const text = fc.string({ maxLength: 20 });
  const optional = fc.option(text, { nil: undefined });
  const number = fc.nat({ max: 2 ** 31 - 1 });
  const binding = fc
    .record({
      key: text,
      contact: text,
      params: fc.array(fc.tuple(text, optional)),
      regId: number,
      q: fc.nat({ max: 1000 }),
      path: fc.array(text),
      callId: text,
      cseq: fc.nat({ max: 2 ** 32 - 1 }),
      expiresAt: fc.maxSafeNat(),
      updatedAt: fc.maxSafeNat(),
      order: fc.maxSafeNat(),
    })
    .chain((required) =>
      fc
        .record({ instance: text, flow: text, userAgent: text }, { requiredKeys: [] })
        .map((rest) => ({ ...required, ...rest }) as Binding),
    );

  it('gives back what was put in', () => {
    fc.assert(
      fc.property(fc.array(binding, { maxLength: 4 }), (bindings) => {
        expect(decodeBindings(encodeBindings(bindings))).toEqual(bindings);
      }),
    );
  });

  it('is refused, not misread, in another version or when damaged', () => {
    const bytes = encodeBindings([]);
    bytes[0] = 2;
    expect(decodeBindings(bytes)).toBeUndefined();
    expect(decodeBindings(new Uint8Array(0))).toBeUndefined();
    expect(decodeBindings(Uint8Array.of(1, 0xdc, 0xff, 0xff))).toBeUndefined();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        decodeBindings(bytes);
      }),
      { numRuns: 2_000 },
    );
  });

  it('sorts by preference without ties', () => {
    const make = (q: number, order: number, regId: number) =>
      ({ q, order, regId, key: `${regId}` }) as Binding;
    const sorted = [make(1, 1, 1), make(2, 1, 1), make(1, 2, 2), make(1, 2, 1)].sort(byPreference);
    expect(sorted.map(({ q, order, regId }) => [q, order, regId])).toEqual([
      [2, 1, 1],
      [1, 2, 1],
      [1, 2, 2],
      [1, 1, 1],
    ]);
  });
});
