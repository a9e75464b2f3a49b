/**
 * What an authoritative proxy does when nobody answers: the next flow after the answer time, 408 or
 * silence at the end, CANCEL after Timer C, late answers. The server's clock is moved by the test.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { isRequest } from '../harness/inbox.ts';
import { aorOf, Call, type Place, reply, type Site, startSite } from '../harness/places.ts';
import { bound, boundBecomes } from '../harness/registrar.ts';
import { unique } from '../harness/sip.ts';

/** HOLDFAST_FLOW_ANSWER_S of the server; an edge before it has twice that time */
const ANSWER_MS = 4_000;

let site: Site;
let caller: Agent;

beforeAll(async () => {
  site = await startSite('memory', { clocked: true, settings: { FLOW_TIMER: '600' } });
  caller = await site.caller();
});
afterAll(() => site?.close());

async function pass(ms: number, ...flows: Place[]): Promise<void> {
  for (let left = ms; left > 0; left -= 1_000) {
    await site.registrar.server.advance(Math.min(left, 1_000));
    await caller.probe();
    await caller.probe();
    for (const { agent } of flows) await agent.probe();
  }
}

describe.each(['INVITE', 'MESSAGE'])('a flow that does not answer a %s', (method) => {
  it.each(['UDP', 'TCP'] as const)(
    'over %s is given up after the answer time, and the next one tried; the binding stays [AP-7-02 AP-7-04]',
    async (over) => {
      const user = unique('u');
      const [second, first] = await site.device(user, ['TCP', over]);
      const call = new Call(caller, aorOf(user), method);
      await call.at(first);
      await pass(ANSWER_MS - 500);
      await call.notAt(second);
      await pass(1_000);
      reply(second, await call.at(second), 200);
      expect(await call.status()).toBe(200);
      expect(call.rest().filter((m) => m.status > 100)).toEqual([]);
      expect(await bound(caller, aorOf(user))).toHaveLength(2);
    },
  );

  it('behind an edge is given up after twice the time, since the edge should have said so [AP-7-04 4320-4.2-01]', async () => {
    const user = unique('u');
    const [second, first] = await site.device(user, ['TCP', 'edge']);
    const call = new Call(caller, aorOf(user), method);
    await call.at(first);
    await pass(2 * ANSWER_MS - 500);
    await call.notAt(second);
    await pass(1_000);
    reply(second, await call.at(second), 200);
    expect(await call.status()).toBe(200);
    expect(await bound(caller, aorOf(user))).toHaveLength(2);
  });

  it('but on which keep-alives come is waited for [AP-7-04]', async () => {
    const user = unique('u');
    const [second, first] = await site.device(user, ['TCP', 'TCP']);
    const call = new Call(caller, aorOf(user), method);
    const got = await call.at(first);
    await first.agent.probe();
    await pass(ANSWER_MS + 1_000);
    await call.notAt(second);
    reply(first, got, 200);
    expect(await call.status()).toBe(200);
  });

  it('in time, and then does: the caller has its 200 once, whoever sent it [AP-7-04 3261-16.7-01]', async () => {
    const user = unique('u');
    const [second, first] = await site.device(user, ['TCP', 'TCP']);
    const call = new Call(caller, aorOf(user), method);
    const late = await call.at(first);
    await pass(ANSWER_MS + 500);
    const got = await call.at(second);
    reply(second, got, 180);
    reply(first, late, 200);
    expect(await call.status()).toBe(200);
    if (method === 'INVITE') {
      // the other flow rings in vain now
      reply(second, await second.agent.next(isRequest('CANCEL', call.callId)), 200);
      reply(second, got, 487);
    } else reply(second, got, 202);
    await pass(1_000);
    expect(call.rest().filter((m) => m.status >= 200)).toEqual([]);
  });
});

describe('places that nobody answers at', () => {
  it('leave the caller of an INVITE with 408 [3261-16.7-02 AP-7-04]', async () => {
    const user = unique('u');
    const [second, first] = await site.device(user, ['UDP', 'TCP']);
    const [other] = await site.device(user, ['edge']);
    const call = new Call(caller, aorOf(user));
    // the location store has its own thread: what passes before it has answered is no time of theirs
    for (const place of [first, other]) await call.at(place);
    await pass(34_000);
    await call.at(second);
    expect(await call.status()).toBe(408);
  });

  it('leave the sender of a MESSAGE without an answer [4320-4.2-01]', async () => {
    const user = unique('u');
    const [second, first] = await site.device(user, ['UDP', 'TCP']);
    const [other] = await site.device(user, ['edge']);
    const call = new Call(caller, aorOf(user), 'MESSAGE');
    // the location store has its own thread: what passes before it has answered is no time of theirs
    for (const place of [first, other]) await call.at(place);
    await pass(40_000);
    await call.at(second);
    expect(call.rest().filter((m) => m.status >= 200)).toEqual([]);
  });

  it('get a request that was given up no more: a MESSAGE is not sent on into a dead flow [AP-7-04]', async () => {
    const user = unique('u');
    const [second, first] = await site.device(user, ['TCP', 'edge']);
    const call = new Call(caller, aorOf(user), 'MESSAGE');
    await call.at(first);
    await pass(2 * ANSWER_MS + 500);
    reply(second, await call.at(second), 200);
    expect(await call.status()).toBe(200);
    const before = first.agent.retransmissions;
    await pass(20_000);
    expect(first.agent.retransmissions).toBe(before);
  });

  it('one of them did answer, with a failure: that is what the caller gets [3261-16.7-02]', async () => {
    for (const method of ['INVITE', 'MESSAGE']) {
      const user = unique('u');
      const [silent] = await site.device(user, ['edge']);
      const [busy] = await site.device(user, ['UDP']);
      const call = new Call(caller, aorOf(user), method);
      reply(busy, await call.at(busy), 486);
      await call.at(silent);
      await pass(9_000);
      expect(await call.status()).toBe(486);
    }
  });
});

describe('a CANCEL', () => {
  it('of a call that nobody has answered in any way ends it with 487 in the answer time [3261-16.10-01]', async () => {
    const user = unique('u');
    const [second, first] = await site.device(user, ['UDP', 'UDP']);
    const call = new Call(caller, aorOf(user));
    await call.at(first);
    await call.cancel();
    await pass(ANSWER_MS + 500);
    expect(await call.status()).toBe(487);
    await call.notAt(second);
  });
});

describe('a phone that rings', () => {
  it('is cancelled three minutes after its last word, not before [3261-16.6-08]', async () => {
    const user = unique('u');
    const [phone] = await site.device(user, ['TCP']);
    const call = new Call(caller, aorOf(user));
    const got = await call.at(phone);
    await pass(3_000, phone);
    reply(phone, got, 180);
    await call.provisional(180);
    await pass(179_000, phone);
    expect(phone.agent.arrivals.filter(isRequest('CANCEL'))).toEqual([]);
    reply(phone, got, 183);
    await call.provisional(183);
    await pass(179_000, phone);
    expect(phone.agent.arrivals.filter(isRequest('CANCEL'))).toEqual([]);
    await pass(6_000, phone);
    reply(phone, await phone.agent.next(isRequest('CANCEL', call.callId)), 200);
    reply(phone, got, 487);
    expect(await call.status()).toBe(487);
  });

  it('and is never heard of again, CANCEL unanswered: 408 to the caller, 32 s later [3261-16.6-08]', async () => {
    const user = unique('u');
    const [phone] = await site.device(user, ['TCP']);
    const call = new Call(caller, aorOf(user));
    reply(phone, await call.at(phone), 180);
    await call.provisional(180);
    await pass(187_000, phone);
    await phone.agent.next(isRequest('CANCEL', call.callId));
    await pass(33_000, phone);
    expect(await call.status()).toBe(408);
  });
});

describe('two phones that answer', () => {
  it('are both connected, the later one for 32 s, after that its 2xx is dropped [6026-7.1-01 6026-7.2-01 6026-7.3-01]', async () => {
    const user = unique('u');
    const [a] = await site.device(user, ['TCP']);
    const [b] = await site.device(user, ['TCP']);
    const call = new Call(caller, aorOf(user));
    const [atA, atB] = [await call.at(a), await call.at(b)];
    reply(a, atA, 200);
    expect(await call.status()).toBe(200);
    await pass(30_000, a, b);
    reply(b, atB, 200);
    expect(await call.status()).toBe(200);
    await pass(3_000, a, b);
    reply(b, atB, 202);
    reply(a, atA, 202);
    await pass(1_000, a, b);
    expect(call.rest().filter((m) => m.status >= 200)).toEqual([]);
  });
});

describe('an edge that gave no answer', () => {
  it('is asked last for a minute: the next call does not wait for it, then it is first again [AP-7-04]', async () => {
    const user = unique('u');
    const [second, first] = await site.device(user, ['TCP', 'edge']);
    const waited = new Call(caller, aorOf(user));
    await waited.at(first);
    await pass(2 * ANSWER_MS + 500);
    reply(second, await waited.at(second), 200);
    expect(await waited.status()).toBe(200);

    const next = new Call(caller, aorOf(user));
    reply(second, await next.at(second), 200);
    expect(await next.status()).toBe(200);
    await next.notAt(first);

    await pass(61_000, second);
    const later = new Call(caller, aorOf(user));
    reply(first, await later.at(first), 200);
    expect(await later.status()).toBe(200);
    await later.notAt(second);
  });

  it('is still asked where a device has nothing else, and its answer ends the matter [AP-7-04]', async () => {
    const [user, other] = [unique('u'), unique('u')];
    const [only] = await site.device(user, ['edge']);
    const silent = new Call(caller, aorOf(user), 'MESSAGE');
    await silent.at(only);
    await pass(2 * ANSWER_MS + 500);
    const call = new Call(caller, aorOf(user), 'MESSAGE');
    reply(only, await call.at(only), 486);
    expect(await call.status()).toBe(486);
    // another device of the same edge: its order is as it was
    const instance = 'urn:uuid:00000000-0000-1000-8000-000a95a0e131';
    const low = await site.place({ user: other, instance, regId: 1, over: 'TCP' });
    const through = await site.place({ user: other, instance, regId: 2, over: 'edge', edge: only.agent });
    const again = new Call(caller, aorOf(other), 'MESSAGE');
    reply(through, await again.at(through), 200);
    expect(await again.status()).toBe(200);
    await again.notAt(low);
  });
});

describe('several shards', () => {
  it('a connection that ends, on whichever shard it is, ends its branch long before the answer time [AP-7-07 AP-7-02]', async () => {
    const many = await startSite('memory', { clocked: true, settings: { WORKERS: '3' } });
    try {
      const from = await many.caller();
      for (let i = 0; i < 6; i++) {
        const user = unique('u');
        const [second, first] = await many.device(user, ['UDP', 'TCP']);
        const call = new Call(from, aorOf(user));
        await call.at(first);
        await first.agent.close();
        await boundBecomes(from, aorOf(user), (contacts) => contacts.length === 1);
        await many.registrar.server.advance(ANSWER_MS / 4);
        reply(second, await call.at(second), 200);
        expect(await call.status()).toBe(200);
      }
    } finally {
      await many.close();
    }
  });
});
