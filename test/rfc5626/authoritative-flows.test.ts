/** One flow of a device at a time, and the next one when it fails: RFC 5626 section 7. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Agent, TcpAgent } from '../harness/agent.ts';
import { isRequest } from '../harness/inbox.ts';
import { aorOf, Call, type Place, reply, type Site, startSite } from '../harness/places.ts';
import { bound, boundBecomes, register, STORES, TRANSPORTS } from '../harness/registrar.ts';
import { unique } from '../harness/sip.ts';

describe.each(STORES)('with the %s store', (store) => {
  let site: Site;
  let caller: Agent;

  beforeAll(async () => {
    site = await startSite(store);
    caller = await site.caller();
  });
  afterAll(() => site?.close());

  it.each(['INVITE', 'MESSAGE'])(
    'a %s to a device with three flows reaches one of them, the newest [AP-7-01 AP-7-09 AP-3.2-01]',
    async (method) => {
      const user = unique('u');
      const [one, two, three] = await site.device(user, ['UDP', 'TCP', 'UDP']);
      const call = new Call(caller, aorOf(user), method);
      reply(three, await call.at(three), 200);
      expect(await call.status()).toBe(200);
      await call.notAt(one);
      await call.notAt(two);
    },
  );

  it('flows are tried by q, then the newest first, then the lowest reg-id [AP-7-09 AP-7-02]', async () => {
    const user = unique('u');
    const instance = 'urn:uuid:00000000-0000-1000-8000-000a95a0e128';
    const low = await site.place({ user, instance, regId: 1, q: '0.3', over: 'edge' });
    const old = await site.place({ user, instance, regId: 2, over: 'edge' });
    const fresh = await site.place({ user, instance, regId: 3, over: 'edge' });
    const call = new Call(caller, aorOf(user), 'MESSAGE');
    for (const place of [fresh, old, low]) {
      const got = await call.at(place);
      for (const other of [fresh, old, low]) if (other !== place) await call.notAt(other);
      reply(place, got, place === low ? 200 : 430);
    }
    expect(await call.status()).toBe(200);
  });

  describe.each(['INVITE', 'MESSAGE'])('an edge that answers a %s with 430', (method) => {
    it('is followed by the next flow on a branch of its own; the caller sees no 430 [AP-7-02 AP-7-13 AP-11.5-01 AP-7-05]', async () => {
      const user = unique('u');
      const [second, first] = await site.device(user, ['edge', 'edge']);
      const call = new Call(caller, aorOf(user), method);
      const failed = await call.at(first);
      expect(failed.message.all('Route')).toEqual([first.path]);
      reply(first, failed, 430);
      const got = await call.at(second);
      expect(got.message.all('Route')).toEqual([second.path]);
      expect(got.message.via[0].branch).not.toBe(failed.message.via[0].branch);
      expect(got.message.maxForwards).toBe(failed.message.maxForwards);
      reply(second, got, 200);
      expect(await call.status()).toBe(200);
      expect(call.rest().filter((m) => m.status > 100)).toEqual([]);
      if (method === 'INVITE') {
        const ack = await first.agent.next(isRequest('ACK', call.callId));
        expect(ack.message.via.map((v) => v.branch)).toEqual([failed.message.via[0].branch]);
        expect(ack.message.all('Route')).toEqual([first.path]);
      }
    });

    it('loses that binding, and the next call does not try it [AP-7-10]', async () => {
      const user = unique('u');
      const [second, first] = await site.device(user, ['edge', 'edge']);
      const call = new Call(caller, aorOf(user), method);
      reply(first, await call.at(first), 430);
      reply(second, await call.at(second), 200);
      expect(await call.status()).toBe(200);
      const left = await boundBecomes(caller, aorOf(user), (contacts) => contacts.length === 1);
      expect(left[0].regId).toBe('1');
      const again = new Call(caller, aorOf(user), method);
      reply(second, await again.at(second), 200);
      expect(await again.status()).toBe(200);
      await again.notAt(first);
    });

    it('as the only flow leaves the caller with 480 [AP-7-11]', async () => {
      const user = unique('u');
      const [only] = await site.device(user, ['edge']);
      const call = new Call(caller, aorOf(user), method);
      reply(only, await call.at(only), 430);
      expect(await call.status()).toBe(480);
    });

    it('keeps the binding if the phone has registered anew meanwhile [AP-7-10]', async () => {
      const user = unique('u');
      const instance = 'urn:uuid:00000000-0000-1000-8000-000a95a0e129';
      const old = await site.place({ user, instance, over: 'edge' });
      const call = new Call(caller, aorOf(user), method);
      const got = await call.at(old);
      const fresh = await site.place({ user, instance, over: 'edge' });
      reply(old, got, 430);
      expect(await call.status()).toBe(480);
      const again = new Call(caller, aorOf(user), method);
      reply(fresh, await again.at(fresh), 200);
      expect(await again.status()).toBe(200);
    });
  });

  it.each([
    [486, 486],
    [503, 500],
    [403, 403],
    [603, 603],
    [404, 404],
    [302, 302],
    [200, 200],
  ])(
    'a flow that answers %i settles its device: the caller gets %i [AP-7-03 3261-16.7-03]',
    async (status, seen) => {
      for (const over of ['edge', 'UDP', 'TCP'] as const) {
        const user = unique('u');
        const [second, first] = await site.device(user, ['edge', over]);
        const call = new Call(caller, aorOf(user));
        reply(first, await call.at(first), status);
        expect(await call.status()).toBe(seen);
        await call.notAt(second);
        expect(await bound(caller, aorOf(user))).toHaveLength(2);
      }
    },
  );

  it.each(['INVITE', 'MESSAGE'])('a 408 of a %s is followed by the next flow [AP-7-04]', async (method) => {
    const user = unique('u');
    const [second, first] = await site.device(user, ['UDP', 'edge']);
    const call = new Call(caller, aorOf(user), method);
    reply(first, await call.at(first), 408);
    reply(second, await call.at(second), 200);
    expect(await call.status()).toBe(200);
    expect(await bound(caller, aorOf(user))).toHaveLength(2);
  });

  it('two devices with two flows each: one flow of each [AP-7-12 AP-7-01]', async () => {
    const user = unique('u');
    const [a1, a2] = await site.device(user, ['TCP', 'UDP']);
    const [b1, b2] = await site.device(user, ['edge', 'edge']);
    const call = new Call(caller, aorOf(user));
    const atA = await call.at(a2);
    reply(b2, await call.at(b2), 430);
    const atB = await call.at(b1);
    reply(a2, atA, 486);
    reply(b1, atB, 200);
    expect(await call.status()).toBe(200);
    await call.notAt(a1);
  });

  it('a CANCEL after the change of flow goes to the second edge alone [AP-7-13]', async () => {
    const user = unique('u');
    const [second, first] = await site.device(user, ['edge', 'edge']);
    const call = new Call(caller, aorOf(user));
    reply(first, await call.at(first), 430);
    const invite = await call.at(second);
    reply(second, invite, 180);
    await call.provisional(180);
    await call.cancel();
    const cancel = await second.agent.next(isRequest('CANCEL', call.callId));
    expect(cancel.message.via.map((v) => v.branch)).toEqual([invite.message.via[0].branch]);
    expect(cancel.message.all('Route')).toEqual([second.path]);
    reply(second, cancel, 200);
    reply(second, invite, 487);
    expect(await call.status()).toBe(487);
    await first.agent.probe();
    expect(first.agent.arrivals.some(isRequest('CANCEL'))).toBe(false);
  });

  describe.each(TRANSPORTS)('a flow of the registrar itself over %s', (transport) => {
    it('carries the call and gets CANCEL the same way [AP-7-06 3261-16.10-01]', async () => {
      const user = unique('u');
      const [phone] = await site.device(user, [transport]);
      const call = new Call(caller, aorOf(user));
      const invite = await call.at(phone);
      expect(invite.message.uri).toMatch(
        new RegExp(`^sip:${user}@${phone.agent.host.replaceAll('.', '\\.')}`),
      );
      expect(invite.message.all('Route')).toEqual([]);
      reply(phone, invite, 183);
      await call.provisional(183);
      await call.cancel();
      reply(phone, await phone.agent.next(isRequest('CANCEL', call.callId)), 200);
      reply(phone, invite, 487);
      expect(await call.status()).toBe(487);
      await phone.agent.next(isRequest('ACK', call.callId));
    });
  });

  it.each(['FIN', 'RST'])(
    'a connection that ends by %s in the middle of a call: the next flow rings [AP-7-07 3261-16.9-01]',
    async (how) => {
      const user = unique('u');
      const [second, first] = await site.device(user, ['UDP', 'TCP']);
      const call = new Call(caller, aorOf(user));
      await call.at(first);
      if (how === 'RST') await (first.agent as TcpAgent).reset();
      else await first.agent.close();
      reply(second, await call.at(second), 200);
      expect(await call.status()).toBe(200);
      expect(call.rest().filter((m) => m.status > 100)).toEqual([]);
    },
  );

  it('a connection with two AORs that ends: both go on by their other flows or not at all [AP-7-07]', async () => {
    const [alone, both] = [unique('u'), unique('u')];
    const connection = await site.registrar.connection();
    const instance = 'urn:uuid:00000000-0000-1000-8000-000a95a0e130';
    await register(connection, { user: alone, instance });
    const other = await site.place({ user: both, instance, regId: 1 });
    await register(connection, { user: both, instance, regId: 2 });
    await connection.close();
    await boundBecomes(caller, aorOf(alone), (contacts) => contacts.length === 0);
    expect(await new Call(caller, aorOf(alone)).status()).toBe(480);
    const call = new Call(caller, aorOf(both));
    reply(other, await call.at(other), 200);
    expect(await call.status()).toBe(200);
  });

  it('a CANCEL before a provisional response waits for one [3261-16.10-01]', async () => {
    const user = unique('u');
    const [phone]: Place[] = await site.device(user, ['UDP']);
    const call = new Call(caller, aorOf(user));
    const invite = await call.at(phone);
    await call.cancel();
    await phone.agent.probe();
    expect(phone.agent.arrivals.some(isRequest('CANCEL'))).toBe(false);
    reply(phone, invite, 180);
    reply(phone, await phone.agent.next(isRequest('CANCEL', call.callId)), 200);
    reply(phone, invite, 487);
    expect(await call.status()).toBe(487);
  });
});
