import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { contactKey, flowKey } from '../../src/registrar/binding.ts';
import { Deadlines } from '../../src/registrar/deadlines.ts';
import { type BindingEvent, Journal } from '../../src/registrar/events.ts';
import { Location } from '../../src/registrar/location.ts';
import { MemoryBackend } from '../../src/registrar/memory.ts';
import { StoreService } from '../../src/registrar/service.ts';
import type { Backend, ContactUpdate } from '../../src/registrar/store.ts';
import { Cause } from '../../src/shared/cause.ts';
import { BACKENDS } from './backends.ts';
import { asKnown, Replay } from './replay.ts';
import { DORA, EVE, flowContact, START, update } from './requests.ts';

/** in the backend's order before DORA: a sweep of one address at a time does not come to her */
const FIRST = ['sip:a@h', 'sip:b@h', 'sip:c@h'];

const told = (events: readonly BindingEvent[]) =>
  events.map((event) => `${event.type} ${event.aor} ${event.regId || event.contact}`);

describe.each(BACKENDS)('the events of the location service over $name', ({ make }) => {
  let backend: Backend;
  let journal: Journal;
  let location: Location;
  let dispose: () => Promise<void>;
  let now = START;
  const open = () => {
    journal = new Journal(7, () => now);
    location = new Location(backend, journal);
  };
  beforeEach(() => {
    now = START;
    const made = make();
    backend = made.backend;
    dispose = made.dispose;
    open();
  });
  afterEach(() => dispose());

  const register = (changes: Parameters<typeof update>[0] = {}) =>
    location.update(update({ now, ...changes }));

  it('tell all that is known of a registration, its refresh and its end', () => {
    const flow = flowKey(1, 1, 7, false);
    const path = ['<sip:token@edge;lr;ob>'];
    register({ flow, path, userAgent: 'x/1' });
    now += 1_000;
    register({ flow, path, userAgent: 'x/1', cseq: 2, contacts: [flowContact(1, { expires: 60 })] });
    now += 1_000;
    location.flowClosed(flow, Cause.PEER_CLOSED);
    const events = journal.take();
    const [{ id, order }] = events;
    expect(id).toMatch(/^[A-Za-z0-9_-]{27}$/);
    const rest = {
      aor: DORA,
      contact: 'sip:d@192.0.2.1',
      instance: 'urn:x:1',
      regId: 1,
      userAgent: 'x/1',
      node: 7,
    };
    const ids = { id: expect.any(String) };
    expect(events).toEqual([
      { type: 'register', ...rest, id, order, at: START, expires: 3600 },
      {
        type: 'refresh',
        ...rest,
        ...ids,
        order: START + 1_000,
        at: START + 1_000,
        expires: 60,
        flowChanged: false,
      },
      {
        type: 'flow-lost',
        ...rest,
        ...ids,
        order: START + 1_000,
        at: START + 2_000,
        expires: 0,
        cause: 'peer-closed',
      },
    ]);
    expect(new Set(events.map((event) => event.id)).size).toBe(3);
    expect(journal.take()).toEqual([]);
  });

  it('tell a new flow of a reg-id as a refresh whose flow changed', () => {
    register({ flow: flowKey(1, 1, 7, false), path: ['<sip:a@edge;lr;ob>'] });
    register({ flow: flowKey(2, 1, 7, false), path: ['<sip:b@edge;lr;ob>'], cseq: 2 });
    register({ path: ['<sip:z@other;lr;ob>'], cseq: 3 });
    register({ path: ['<sip:c@other;lr;ob>'], cseq: 4 });
    register({
      path: ['<sip:c@other;lr;ob>'],
      cseq: 5,
      contacts: [flowContact(1, { contact: 'sip:d@192.0.2.2' })],
    });
    expect(journal.take()).toMatchObject([
      { type: 'register' },
      { type: 'refresh', flowChanged: true },
      { type: 'refresh', flowChanged: true },
      { type: 'refresh', flowChanged: true },
      { type: 'refresh', flowChanged: false, was: 'sip:d@192.0.2.1', contact: 'sip:d@192.0.2.2' },
    ]);
  });

  it('tell nothing of a retransmission, a stale CSeq, a full address or a look-up', () => {
    register({ cseq: 5 });
    journal.take();
    register({ cseq: 5 });
    register({ cseq: 4 });
    register({ cseq: 6, contacts: [flowContact(2)], maxContacts: 1 });
    register({ cseq: 7, contacts: [] });
    register({ cseq: 8, contacts: [flowContact(9, { expires: 0 })] });
    location.lookup(DORA, now);
    location.remove(DORA, 'none');
    location.flowClosed('9.9.9.s');
    location.sweep(now, 10);
    expect(journal.take()).toEqual([]);
  });

  it('tell each way in which a binding ends by its name', () => {
    const flows = [flowKey(1, 1, 6, false), flowKey(2, 1, 7, false)];
    register({ contacts: [flowContact(1)], flow: flows[0] });
    register({ contacts: [flowContact(2)], callId: 'b', flow: flows[1] });
    register({ contacts: [flowContact(3), flowContact(4), flowContact(5, { expires: 60 })], callId: 'c' });
    register({ contacts: [flowContact(6), flowContact(7)], callId: 'd', aor: EVE });
    const [{ order }] = location.lookup(DORA, now).filter(({ regId }) => regId === 3);
    journal.take();
    register({ contacts: [flowContact(4, { expires: 0 })], callId: 'c', cseq: 2 });
    register({ clear: true, contacts: [], callId: 'd', cseq: 2, aor: EVE });
    location.remove(DORA, 'o:urn:x:1;3', order);
    location.flowClosed(flows[1]);
    location.retireOtherIncarnations(7);
    now += 60_000;
    location.sweep(now, 10);
    const events = journal.take();
    expect(told(events)).toEqual([
      `unregister ${DORA} 4`,
      `unregister ${EVE} 6`,
      `unregister ${EVE} 7`,
      `flow-lost ${DORA} 3`,
      `flow-lost ${DORA} 2`,
      `flow-lost ${DORA} 1`,
      `expire ${DORA} 5`,
    ]);
    expect(events.map((event) => event.type === 'flow-lost' && event.cause)).toEqual([
      false,
      false,
      false,
      'flow-failed',
      undefined,
      'restart',
      false,
    ]);
  });

  it('tell a binding whose time was over as expired, whoever finds it', () => {
    const flow = flowKey(1, 1, 7, false);
    register({ contacts: [flowContact(1, { expires: 60 })], flow });
    register({ contacts: [flowContact(1, { expires: 60 })], aor: EVE });
    now += 60_000;
    register({ cseq: 2, aor: EVE });
    location.flowClosed(flow);
    expect(told(journal.take()).slice(2)).toEqual([
      `expire ${EVE} 1`,
      `register ${EVE} 1`,
      `expire ${DORA} 1`,
    ]);
  });

  it('come within a second of the end, however many addresses there are', () => {
    for (let i = 0; i < 50; i++)
      register({ aor: `sip:u${i}@h`, contacts: [flowContact(1, { expires: 60 + i })] });
    register({ aor: 'sip:u0@h', contacts: [flowContact(1, { expires: 600 })], cseq: 2 });
    journal.take();
    for (let second = 1; second <= 120; second++) {
      now += 1_000;
      location.sweep(now, 2); // it would take 25 s to come round
      const expected = second > 60 && second < 110 ? [`expire sip:u${second - 60}@h 1`] : [];
      expect(told(journal.take())).toEqual(expected);
    }
  });

  it('know after a restart what is to expire', () => {
    for (const aor of FIRST) register({ aor });
    register({ contacts: [flowContact(1, { expires: 60 })] });
    open();
    now += 61_000;
    location.sweep(now, 1);
    expect(told(journal.take())).toEqual([`expire ${DORA} 1`]);
  });

  it('of a restart come a slice at a time, however many flows it has ended', () => {
    const flows = Array.from({ length: 2_500 }, (_, i) => flowKey(i, 1, 6, false));
    location.batch(() => {
      for (const [i, flow] of flows.entries()) register({ aor: `sip:u${i}@h`, flow });
    });
    journal.take();
    const slices: number[] = [];
    expect(location.retireOtherIncarnations(7, new Set(), () => slices.push(journal.take().length))).toBe(
      2_500,
    );
    expect(slices).toEqual([1_000, 1_000, 500]);
    expect(location.count).toBe(0);
  });

  it('do not leave if the commit fails, and the end is told all the same when it comes', () => {
    for (const aor of FIRST) register({ aor });
    register({ contacts: [flowContact(1, { expires: 60 })] });
    const failing = (work: () => void) => () => {
      work();
      throw new Error('disk full');
    };
    journal.take();
    expect(() => location.batch(failing(() => register({ cseq: 2 })))).toThrow('disk full');
    now += 60_000;
    expect(() => location.batch(failing(() => location.sweep(now, 1)))).toThrow('disk full');
    expect(journal.take()).toEqual([]);
    location.batch(() => location.sweep(now, 1));
    expect(told(journal.take())).toEqual([`expire ${DORA} 1`]);
  });

  it('are those of the requests of a batch that succeed', () => {
    const service = new StoreService(backend, journal);
    const bad = update({ contacts: [flowContact(1), null as unknown as ContactUpdate], aor: EVE });
    service.handle([
      { from: 1, id: 1, op: update() },
      { from: 2, id: 1, op: bad },
    ]);
    expect(told(service.takeEvents())).toEqual([`register ${DORA} 1`]);
    expect(new StoreService(backend).takeEvents()).toEqual([]);
  });
});

describe('events applied one after the other to nothing', () => {
  const URIS = [
    'sip:d@h.example',
    'sip:d@h.example;x=1',
    'sip:d@h.example;x=2',
    'sip:D2@H.example',
    'sip:D2@h.example',
  ];
  const contact = fc.oneof(
    fc.record({
      regId: fc.integer({ min: 1, max: 3 }),
      uri: fc.constantFrom(...URIS),
      expires: fc.constantFrom(0, 60, 600),
    }),
    fc.record({ regId: fc.constant(0), uri: fc.constantFrom(...URIS), expires: fc.constantFrom(0, 60, 600) }),
  );
  const aor = fc.constantFrom(DORA, EVE);
  const step = fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        kind: fc.constant('update' as const),
        aor,
        callId: fc.constantFrom('a', 'b'),
        clear: fc.integer({ max: 9, min: 0 }).map((n) => n === 0),
        contacts: fc.array(contact, { minLength: 1, maxLength: 3 }),
        flow: fc.option(fc.integer({ min: 1, max: 4 }), { nil: undefined }),
        older: fc.integer({ max: 5, min: 0 }).map((n) => n === 0),
      }),
    },
    fc.record({ kind: fc.constant('remove' as const), aor, nth: fc.nat(3) }),
    fc.record({ kind: fc.constant('flow-closed' as const), flow: fc.integer({ min: 1, max: 4 }) }),
    fc.record({ kind: fc.constant('sweep' as const), budget: fc.integer({ min: 1, max: 2 }) }),
    fc.record({ kind: fc.constant('pass' as const), seconds: fc.constantFrom(1, 30, 60) }),
    fc.record({ kind: fc.constant('fail' as const) }),
  );

  it('are the bindings of the store, after any operations', () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        let now = START;
        let cseq = 100;
        let life = 1;
        const journal = new Journal(1, () => now);
        const location = new Location(new MemoryBackend(), journal);
        const replay = new Replay();
        const flowOf = (n: number | undefined) =>
          n === undefined ? {} : { flow: flowKey(n, life, 1, false) };
        for (const s of steps) {
          if (s.kind === 'pass') now += s.seconds * 1000;
          else if (s.kind === 'sweep') location.sweep(now, s.budget);
          else if (s.kind === 'flow-closed') location.flowClosed(flowKey(s.flow, life++, 1, false));
          else if (s.kind === 'remove') {
            const binding = location.lookup(s.aor, now)[s.nth];
            if (binding) location.remove(s.aor, binding.key, binding.order);
          } else if (s.kind === 'fail') {
            const work = () => {
              location.update(update({ now, cseq: cseq + 1 }));
              location.sweep(now, 9);
              throw new Error('full');
            };
            expect(() => location.batch(work)).toThrow('full');
          } else {
            const contacts = s.contacts.map(({ regId, uri, expires }) =>
              flowContact(regId, { contact: uri, expires, ...(regId === 0 && { key: contactKey(uri) }) }),
            );
            const { callId, clear } = s;
            location.batch(() =>
              location.update(
                update({
                  now,
                  aor: s.aor,
                  callId,
                  clear,
                  contacts: clear ? [] : contacts,
                  ...flowOf(s.flow),
                  cseq: s.older ? 50 : ++cseq,
                }),
              ),
            );
          }
          for (const event of journal.take()) {
            seen.add(event.type);
            replay.apply(event);
          }
        }
        now += 1_000;
        while (location.sweep(now, 10) > 0);
        for (const event of journal.take()) replay.apply(event);
        const stored = [DORA, EVE].map((name) => [name, asKnown(location.lookup(name, now))] as const);
        const expected = stored.filter(([, bindings]) => Object.keys(bindings).length > 0);
        expect(replay.bindings).toEqual(Object.fromEntries(expected));
      }),
      { numRuns: 500 },
    );
    expect([...seen].sort()).toEqual(['expire', 'flow-lost', 'refresh', 'register', 'unregister']);
  });
});

describe('deadlines', () => {
  it('come due once, in order, never early and within a second, as they were set last', () => {
    const at = fc.integer({ min: START, max: START + 20_000 });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c', 'd'), fc.option(at, { nil: undefined }))),
        (sets) => {
          const deadlines = new Deadlines();
          const model = new Map<string, number>();
          for (const [aor, time] of sets) {
            deadlines.set(aor, time);
            if (time === undefined) model.delete(aor);
            else model.set(aor, time);
          }
          expect(deadlines.size).toBe(model.size);
          for (let now = START; now <= START + 21_000; now += 500)
            for (const aor of deadlines.due(now, 10)) {
              const time = model.get(aor) ?? Number.NaN;
              expect(time <= now && now < time + 1_500).toBe(true);
              model.delete(aor);
            }
          expect([model.size, deadlines.size]).toEqual([0, 0]);
        },
      ),
    );
  });

  it('are taken up to a limit, and the rest is due the next time', () => {
    const deadlines = new Deadlines(5);
    for (let i = 0; i < 7; i++) deadlines.set(`${i}`, START);
    expect(deadlines.missed).toBe(2);
    expect(deadlines.due(START, 3)).toEqual(['0', '1', '2']);
    expect(deadlines.due(START, 3)).toEqual(['3', '4']);
    deadlines.set('late', START - 60_000);
    expect(deadlines.due(START, 3)).toEqual(['late']);
  });
});
