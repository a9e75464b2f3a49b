import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type Binding,
  byPreference,
  decodeBindings,
  encodeBindings,
  flowKey,
} from '../../src/registrar/binding.ts';
import { Location } from '../../src/registrar/location.ts';
import { StoreService } from '../../src/registrar/service.ts';
import type { Backend, ContactUpdate } from '../../src/registrar/store.ts';
import { BACKENDS } from './backends.ts';
import { DORA, EVE, flowContact, START, update } from './requests.ts';

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
        .record({ instance: text, flow: text, userAgent: text, epoch: fc.maxSafeNat() }, { requiredKeys: [] })
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
