import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { StoreResult, UpdateOp } from '../../src/registrar/store.ts';
import { hasRedis, RedisServer, type Registrar, registrar } from './redis-server.ts';
import { DORA, flowContact, update } from './requests.ts';

const TOKEN = 'AQEAAWUAAAAAAAABAAAAAQAAAAAAAAAAAAAAAA';

describe.skipIf(!hasRedis)('two registrars on one Redis', () => {
  let server: RedisServer;
  let a: Registrar;
  let b: Registrar;
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server.dispose());
  beforeEach(async () => {
    [a, b] = await Promise.all([registrar(server.url, { node: 1 }), registrar(server.url, { node: 2 })]);
  });
  afterEach(() => Promise.all([a.close(), b.close()]));

  const register = (at: Registrar, changes: Partial<UpdateOp> = {}) =>
    at.store.handle(update({ now: Date.now(), ...changes }));
  const lookup = async (at: Registrar, aor = DORA) =>
    (await at.store.handle({ kind: 'lookup', aor, now: Date.now() })).bindings;
  const flowClosed = async (at: Registrar, flow: string) =>
    (await at.store.handle({ kind: 'flow-closed', flow })).count;

  it('end 100,000 races for one key in the order of (Call-ID, CSeq) [3261-10.3-01]', async () => {
    let seed = 5;
    const random = (n: number) => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fffffff;
      return (seed >>> 8) % n;
    };
    const accepted: { order: number; callId: string; cseq: number }[] = [];
    const refused: { callId: string; cseq: number }[] = [];
    const failed: StoreResult[] = [];
    const race = async (at: Registrar, name: string): Promise<void> => {
      const orders: number[] = [];
      const one = async (n: number): Promise<void> => {
        // Numbers of both registrars overlap and come in disorder; two Call-IDs of one device alternate.
        const callId = `c${Math.floor(n / 500) % 2}`;
        const cseq = 1 + n + random(40);
        const contacts = [flowContact(1, { contact: `sip:${name}${n}@192.0.2.1` })];
        const result = await register(at, { callId, cseq, contacts });
        if (result.status === 'stale') refused.push({ callId, cseq });
        else {
          if (result.status !== 'ok' || result.bindings.length !== 1) failed.push(result);
          const order = result.bindings[0]?.order;
          orders.push(order);
          accepted.push({ order, callId, cseq });
        }
      };
      for (let n = 0; n < 50_000; n += 100)
        await Promise.all(Array.from({ length: 100 }, (_, i) => one(n + i)));
      expect(orders.every((order, i) => i === 0 || order > orders[i - 1])).toBe(true);
    };
    await Promise.all([race(a, 'a'), race(b, 'b')]);

    expect(failed).toEqual([]);
    expect(accepted.length + refused.length).toBe(100_000);
    expect(accepted.length).toBeGreaterThan(1_000);
    expect(refused.length).toBeGreaterThan(1_000);
    accepted.sort((x, y) => x.order - y.order);
    const wrong = accepted.filter(({ order, callId, cseq }, i) => {
      const before = accepted[i - 1];
      return before && (order === before.order || (callId === before.callId && cseq <= before.cseq));
    });
    expect(wrong).toEqual([]);
    const highest = new Map<string, number>();
    for (const { callId, cseq } of accepted) highest.set(callId, Math.max(cseq, highest.get(callId) ?? 0));
    expect(refused.filter(({ callId, cseq }) => cseq > (highest.get(callId) ?? 0))).toEqual([]);
    const left = await lookup(b);
    expect(left.map(({ order, callId, cseq }) => ({ order, callId, cseq }))).toEqual(accepted.slice(-1));
    expect((await lookup(a)).map(({ contact }) => contact)).toEqual(left.map(({ contact }) => contact));
  }, 60_000);

  it('leave no binding of a closed flow, however closing and registering interleave', async () => {
    for (let round = 0; round < 1_000; round++) {
      const aor = `sip:u${round % 7}@h`;
      const token = `${TOKEN}${round}`;
      const path = [`<sip:${token}@edge;lr;ob>`];
      const all: Promise<StoreResult | number>[] = [];
      const write = (at: Registrar, cseq: number) =>
        all.push(register(at, { aor, path, callId: token, cseq }));
      write(a, 1);
      if (round % 3 === 0) write(b, 2);
      if (round % 2 === 0) all.push(flowClosed(b, token));
      write(a, 3);
      if (round % 2 === 1) all.push(flowClosed(b, token));
      write(b, 4);
      await Promise.all(all);
      expect((await lookup(a, aor)).filter(({ callId }) => callId === token)).toEqual([]);
    }
  });
});
