/**
 * Whatever the places of a fork do, in whatever order: the caller of an INVITE gets one final response
 * (and further 2xx), and when all timers have run nothing is left in use.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ANSWER_MS, Forks, isMethod, topBranch } from './forks.ts';
import { answer, CLIENT, type From, headers, request, type Sent, status } from './rig.ts';

const STATUSES = [100, 180, 183, 200, 202, 302, 401, 407, 408, 430, 480, 486, 487, 500, 503, 600, 603];

type Step =
  | { kind: 'respond'; which: number; status: number }
  | { kind: 'pass'; ms: number }
  | { kind: 'cancel' }
  | { kind: 'lose'; which: number }
  | { kind: 'unreachable'; which: number }
  | { kind: 'again' };

interface Device {
  instance: boolean;
  q: number;
  flows: boolean[];
}

interface Scene {
  devices: Device[];
  steps: Step[];
  /** the caller comes over a stream */
  stream: boolean;
  acknowledges: boolean;
  /** places answer CANCEL and what it ends */
  polite: boolean;
  breadth: number;
  /** transaction records */
  capacity: number;
}

const stepArbitrary: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('respond' as const),
      which: fc.nat(15),
      status: fc.constantFrom(...STATUSES),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('pass' as const),
      ms: fc.constantFrom(1, 150, 600, 2_000, 4_100, 8_100, 33_000, 182_000),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('cancel' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('again' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('lose' as const), which: fc.nat(15) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('unreachable' as const), which: fc.nat(15) }) },
);

const scene: fc.Arbitrary<Scene> = fc.record({
  devices: fc.array(
    fc.record({
      instance: fc.boolean(),
      q: fc.constantFrom(1000, 1000, 500, 100),
      flows: fc.array(fc.boolean(), { minLength: 1, maxLength: 3 }),
    }),
    { maxLength: 4 },
  ),
  steps: fc.array(stepArbitrary, { maxLength: 25 }),
  stream: fc.boolean(),
  acknowledges: fc.boolean(),
  polite: fc.boolean(),
  breadth: fc.constantFrom(60, 60, 1, 2, 3),
  capacity: fc.constantFrom(1024, 1024, 1024, 3, 5),
});

/** A final response that a place gave, and how many messages had left before it. */
interface Final {
  branch: string;
  status: number;
  at: number;
}

interface Outcome {
  rig: Forks;
  toCaller: Sent[];
  /** the request at each place, once */
  places: Sent[];
  finals: Final[];
  cancelledAt: number;
  deviceOf: Map<string, number>;
}

/** Plays the scene and then lets all timers run. */
function play(method: string, s: Scene): Outcome {
  const rig = new Forks({ capacity: s.capacity });
  const slots: number[] = [];
  const edges: string[] = [];
  let n = 0;
  const deviceOf = new Map<string, number>();
  const finals: Final[] = [];
  let cancelledAt = Infinity;
  s.devices.forEach((device, d) => {
    for (const isFlow of device.flows) {
      n++;
      deviceOf.set(`sip:bob@192.0.2.${n}:5099`, d);
      const instance = device.instance || device.flows.length > 1 ? `urn:uuid:${d}` : undefined;
      if (isFlow) slots.push(rig.bindFlow(instance, `203.0.113.100:${4000 + n}`, { q: device.q }));
      else {
        edges.push(`198.51.100.${n}:5060`);
        rig.bindEdge(instance, edges.at(-1)!, { q: device.q });
      }
    }
  });
  const callerSlot = s.stream ? rig.stream(CLIENT) : -1;
  if (s.stream) rig.flows.registered(callerSlot, rig.table.generation(callerSlot), 1_000_000, 0, rig.ds);
  const from: From = s.stream ? { stream: callerSlot } : {};
  const via = `SIP/2.0/${s.stream ? 'TCP' : 'UDP'} 203.0.113.7:4711;branch=z9hG4bKcall`;
  const parts = { method, via, lines: [`Max-Breadth: ${s.breadth}`] };
  const isCallers = (m: Sent) =>
    s.stream ? m.way === 'flow' && m.to === rig.name(callerSlot) : m.to === CLIENT;
  const answered = new Set<string>();
  const heardAt = new Map<string, number>();
  let acknowledged = false;

  /** What a place says that was silent for so long, or lost, that it has been given up does not count. */
  const final = (branch: string, status: number) => {
    const sentAt = rig.when.get(requests().find((m) => topBranch(m) === branch)!)!;
    if (heardAt.get(branch)! - sentAt < ANSWER_MS) finals.push({ branch, status, at: rig.sent.length });
  };

  const lost = (to: string) => {
    for (const m of requests())
      if (m.to === to && !heardAt.has(topBranch(m))) heardAt.set(topBranch(m), Infinity);
  };

  /** The caller and the polite places do at once what they must. */
  let seen = 0;
  const react = () => {
    while (seen < rig.sent.length) {
      const got = rig.sent[seen++];
      if (isCallers(got)) {
        if (method === 'INVITE' && s.acknowledges && status(got) >= 300 && !acknowledged) {
          acknowledged = true;
          const to = headers(got, 'To')[0];
          rig.take(request({ ...parts, method: 'ACK', to }), from);
        }
      } else if (isMethod('CANCEL')(got) && s.polite) {
        rig.take(answer(got, 200), { from: '198.51.100.99:5060' });
        const invite = rig.sent.find((m) => isMethod('INVITE')(m) && topBranch(m) === topBranch(got));
        if (invite && !answered.has(topBranch(invite))) {
          answered.add(topBranch(invite));
          final(topBranch(invite), 487);
          rig.take(answer(invite, 487), { from: '198.51.100.99:5060' });
        }
      }
    }
  };
  const requests = () => {
    const first = new Map<string, Sent>();
    for (const m of rig.sent) if (isMethod(method)(m) && !first.has(topBranch(m))) first.set(topBranch(m), m);
    return [...first.values()];
  };

  rig.take(request(parts), from);
  react();
  for (const step of s.steps) {
    const out = requests();
    if (step.kind === 'pass') rig.pass(step.ms);
    else if (step.kind === 'cancel') {
      cancelledAt = Math.min(cancelledAt, rig.sent.length);
      rig.take(request({ ...parts, method: 'CANCEL' }), from);
    } else if (step.kind === 'again') {
      if (!s.stream && !rig.sent.some((m) => isCallers(m) && status(m) >= 200))
        rig.take(request(parts), from);
    } else if (step.kind === 'lose') {
      const slot = slots[step.which % Math.max(1, slots.length)];
      if (slot !== undefined && rig.table.isLive(slot, rig.table.generation(slot))) {
        lost(rig.name(slot));
        rig.flows.end(slot, rig.table.generation(slot), 1);
        rig.pass(25);
      }
    } else if (step.kind === 'unreachable') {
      const edge = edges[step.which % Math.max(1, edges.length)];
      if (edge !== undefined) {
        lost(edge);
        rig.unreachable(edge);
        rig.pass(25);
      }
    } else if (out.length > 0) {
      const to = out[step.which % out.length];
      if (answered.has(topBranch(to))) continue; // a place has one final response
      if (step.status >= 300) answered.add(topBranch(to));
      if (!heardAt.has(topBranch(to))) heardAt.set(topBranch(to), rig.ms);
      if (step.status >= 200) final(topBranch(to), step.status);
      rig.take(answer(to, step.status), { from: '198.51.100.99:5060' });
    }
    react();
  }
  for (let i = 0; i < 40; i++) {
    rig.pass(100_000);
    react();
  }
  return { rig, toCaller: rig.sent.filter(isCallers), places: requests(), finals, cancelledAt, deviceOf };
}

/** AP-7-01, AP-7-03, 16.7 steps 5 and 6: which places may still be tried. */
function checkPlaces({ rig, places, finals, cancelledAt, deviceOf }: Outcome): void {
  const device = (m: Sent) => deviceOf.get(m.text.split(' ')[1]);
  for (const place of places) {
    const at = rig.sent.indexOf(place);
    expect(at).toBeLessThan(cancelledAt);
    for (const { branch, status, at: then } of finals) {
      if (then > at) continue;
      expect(status < 300 || status >= 600).toBe(false);
      const settled = places.find((m) => topBranch(m) === branch)!;
      if (device(settled) === device(place)) expect([408, 430]).toContain(status);
    }
  }
  expect(new Set(places.map((m) => m.text.split(' ')[1])).size).toBe(places.length);
}

const distinct = (list: Sent[]) => [...new Map(list.map((m) => [m.text, m])).values()];

describe('whatever the places of a fork do', () => {
  it('the caller of an INVITE gets one final response, and nothing is left [3261-16.7-01 3261-16.7-02 6026-7.1-01]', () => {
    fc.assert(
      fc.property(scene, (s) => {
        const outcome = play('INVITE', s);
        const { rig, toCaller } = outcome;
        checkPlaces(outcome);
        const finals = distinct(
          toCaller.filter((m) => status(m) >= 200 && headers(m, 'CSeq')[0] === '1 INVITE'),
        );
        const failures = finals.filter((m) => status(m) >= 300);
        expect(finals.length).toBeGreaterThan(0);
        expect(failures.length).toBeLessThanOrEqual(1);
        if (status(finals[0]) < 300) expect(failures).toEqual([]);
        const never = s.capacity < 1024 ? [430] : [430, 503];
        for (const m of finals) expect(never).not.toContain(status(m));
        expect(rig.transactions.inUse).toEqual({ transactions: 0, contexts: 0, cells: 0 });
        expect(rig.isIdle).toBe(true);
      }),
      { numRuns: 400 },
    );
  }, 60_000);

  it('the sender of a MESSAGE gets at most one final response, never a 408, and nothing is left [4320-4.2-01]', () => {
    fc.assert(
      fc.property(scene, (s) => {
        const { rig, toCaller } = play('MESSAGE', s);
        const finals = distinct(
          toCaller.filter((m) => status(m) >= 200 && headers(m, 'CSeq')[0] === '1 MESSAGE'),
        );
        expect(finals.length).toBeLessThanOrEqual(1);
        const never = s.capacity < 1024 ? [408, 430] : [408, 430, 503];
        for (const m of finals) expect(never).not.toContain(status(m));
        expect(rig.isIdle).toBe(true);
      }),
      { numRuns: 300 },
    );
  }, 60_000);
});
