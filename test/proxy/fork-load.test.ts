/**
 * Many calls at once, and what they leave behind: nothing. And what a caller hears when there is no room
 * for his call.
 */
import { describe, expect, it } from 'vitest';
import { Forks, topBranch } from './forks.ts';
import { answer, headers, request, type Sent, status } from './rig.ts';

const CALLS = 10_000;
const SERVER = '198.51.100.9:5070';

const invite = (n: number, method = 'INVITE', to?: string) =>
  request({
    method,
    via: `SIP/2.0/UDP 203.0.113.7:4711;branch=z9hG4bKcall${n}`,
    callId: `call-${n}`,
    ...(to === undefined ? {} : { to }),
  });

const at = (rig: Forks, address: string, from: number): Sent[] =>
  rig.sent.slice(from).filter((m) => m.to === address && m.text.startsWith('INVITE '));

/** So many calls to two devices each, all ringing at the first and silent at the second. */
function ringing(count: number): { rig: Forks; rung: Sent[]; quiet: Sent[] } {
  const rig = new Forks({ capacity: 65_536 });
  rig.bindEdge('urn:uuid:1', '198.51.100.1:5060');
  rig.bindEdge('urn:uuid:2', '198.51.100.2:5060');
  for (let n = 0; n < count; n++) rig.take(invite(n));
  const rung = at(rig, '198.51.100.1:5060', 0);
  const quiet = at(rig, '198.51.100.2:5060', 0);
  for (const got of rung) rig.take(answer(got, 180), { from: SERVER });
  return { rig, rung, quiet };
}

const idle = { transactions: 0, contexts: 0, cells: 0 };

describe(`${CALLS} calls that ring in two places each`, () => {
  it('are answered and end: no transaction, context or kept cell is left', () => {
    const { rig, rung, quiet } = ringing(CALLS);
    expect(rig.transactions.inUse).toMatchObject({ transactions: 3 * CALLS, contexts: CALLS });
    expect(rig.transactions.inUse.cells).toBeGreaterThanOrEqual(2 * CALLS);
    for (const got of rung) rig.take(answer(got, 200), { from: SERVER });
    for (const got of quiet) rig.take(answer(got, 486), { from: SERVER });
    const finals = rig.sent.filter((m) => status(m) >= 200);
    expect(finals.map(status)).toEqual(Array.from({ length: CALLS }, () => 200));
    rig.pass(100_000);
    expect(rig.transactions.inUse).toEqual(idle);
    expect(rig.isIdle).toBe(true);
  }, 20_000);

  it('are all cancelled: the same', () => {
    const { rig, rung, quiet } = ringing(CALLS / 5);
    for (let n = 0; n < CALLS / 5; n++) rig.take(invite(n, 'CANCEL'));
    const from = rig.sent.length;
    for (const got of quiet) rig.take(answer(got, 180), { from: SERVER });
    const cancels = rig.sent.filter((m) => m.text.startsWith('CANCEL '));
    expect(cancels.length).toBe(2 * rung.length);
    for (const got of [...cancels, ...rung, ...quiet])
      rig.take(answer(got, got.text.startsWith('CANCEL ') ? 200 : 487), { from: SERVER });
    const finals = rig.sent.slice(from).filter((m) => status(m) >= 300);
    expect(finals.length).toBe(rung.length);
    for (const m of finals) {
      const n = Number(headers(m, 'Call-ID')[0].slice(5));
      rig.take(invite(n, 'ACK', headers(m, 'To')[0]));
    }
    rig.pass(100_000);
    expect(rig.transactions.inUse).toEqual(idle);
  }, 20_000);

  it('are left alone by everybody: the same, after Timer C', () => {
    const { rig, rung } = ringing(CALLS / 10);
    rig.pass(400_000);
    const finals = new Set(rig.sent.filter((m) => status(m) >= 300).map((m) => headers(m, 'Call-ID')[0]));
    expect(finals.size).toBe(rung.length);
    expect(rig.transactions.inUse).toEqual(idle);
  }, 20_000);
});

describe('when all records are in use', () => {
  it('a call that has a record but no place for its branches gets 503 with Retry-After', () => {
    const rig = new Forks({ capacity: 4 });
    rig.bindEdge('urn:uuid:1', '198.51.100.1:5060');
    rig.take(invite(0));
    const one = rig.take(invite(1, 'MESSAGE'));
    expect(one.map((m) => m.to)).toEqual(['198.51.100.1:5060']);
    const rest = new Forks({ capacity: 3 });
    rest.bindEdge('urn:uuid:1', '198.51.100.1:5060');
    rest.take(invite(0));
    const [refused] = rest.take(invite(1));
    expect(status(refused)).toBe(503);
    expect(headers(refused, 'Retry-After')).toHaveLength(1);
    rest.take(invite(1, 'ACK', headers(refused, 'To')[0]));
    rest.pass(400_000);
    expect(rest.transactions.inUse).toEqual(idle);
  });

  it('a fork rings where it can', () => {
    const rig = new Forks({ capacity: 2 });
    rig.bindEdge('urn:uuid:1', '198.51.100.1:5060');
    rig.bindEdge('urn:uuid:2', '198.51.100.2:5060');
    const [got, ...more] = rig.take(invite(0));
    expect(more).toEqual([]);
    const [back] = rig.take(answer(got, 200), { from: SERVER });
    expect(status(back)).toBe(200);
    rig.pass(400_000);
    expect(rig.transactions.inUse).toEqual(idle);
  });

  it('a request without a record goes on statelessly, and its answer comes back', () => {
    const rig = new Forks({ capacity: 2 });
    rig.bindEdge('urn:uuid:1', '198.51.100.1:5060');
    rig.take(invite(0));
    const [got] = rig.take(invite(1));
    expect(got.to).toBe('198.51.100.1:5060');
    expect(topBranch(got)).not.toBe('');
    const [back] = rig.take(answer(got, 486), { from: SERVER });
    // by the caller's flow, which Record-Route names towards a device behind an edge (RFC 5627 6.2)
    expect([status(back), back.to]).toEqual([486, '0.1']);
    rig.pass(400_000);
    expect(rig.transactions.inUse).toEqual(idle);
  });
});
