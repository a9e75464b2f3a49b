/** A request to a GRUU comes to that device and to no other: RFC 5627 section 6.1. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { newInstance } from '../harness/flows.ts';
import { type Device, device, type Gruus } from '../harness/gruus.ts';
import { aorOf, Call, reply, type Site, startSite } from '../harness/places.ts';
import { bound, boundBecomes, DOMAIN, STORES } from '../harness/registrar.ts';
import { unique } from '../harness/sip.ts';

/** Several contacts of one device, the most recently registered last. */
async function contacts(
  site: Site,
  regIds: (number | null)[],
  options: { over?: 'UDP' | 'TCP' | 'edge'; qs?: string[] } = {},
): Promise<Device[]> {
  const same = { user: unique('u'), instance: newInstance(), over: options.over ?? ('UDP' as const) };
  const list: Device[] = [];
  for (const [i, regId] of regIds.entries())
    list.push(await device(site, { ...same, regId, q: options.qs?.[i] ?? '' }));
  return list;
}

const KINDS = ['public', 'temporary'] as const;

describe.each(STORES)('with the %s store', (store) => {
  let site: Site;
  let caller: Agent;
  beforeAll(async () => {
    site = await startSite(store);
    caller = await site.caller();
  });
  afterAll(() => site?.close());

  describe.each(KINDS)('a call to a %s GRUU', (kind) => {
    it.each(['UDP', 'TCP', 'edge'] as const)(
      'comes to that device alone, over %s, with its Contact as Request-URI [5627-6.1-06]',
      async (over) => {
        const user = unique('u');
        const called = await device(site, { user, over });
        const other = await device(site, { user, q: '1.0' });
        const call = new Call(caller, called.gruus[kind]);
        const invite = await call.at(called);
        expect(invite.message.uri).toBe(called.contactUri);
        expect(invite.message.uri).not.toMatch(/;gr\b/);
        expect(invite.message.all('Route')).toEqual(called.path === undefined ? [] : [called.path]);
        reply(called, invite, 200);
        expect(await call.status()).toBe(200);
        await call.notAt(other);
      },
    );

    it('of a device with flows takes one at a time, the newest first, the next on 430 and 408 [5627-6.1-03]', async () => {
      const [one, two, three] = await contacts(site, [1, 2, 3], { over: 'edge' });
      const call = new Call(caller, one.gruus[kind]);
      const first = await call.at(three);
      await call.notAt(two);
      reply(three, first, 408);
      const second = await call.at(two);
      await call.notAt(one);
      reply(two, second, 430);
      reply(one, await call.at(one), 200);
      expect(await call.status()).toBe(200);
      // it is the AOR that loses the binding of the 430
      const left = await boundBecomes(caller, one.aor, (list) => list.length === 2);
      expect(left.map(({ regId }) => regId).sort()).toEqual(['1', '3']);
    });

    it('of a device without outbound takes the most recently refreshed contact, whatever its q [5627-6.1-04]', async () => {
      const [old, fresh] = await contacts(site, [null, null], { qs: ['0.9', '0.1'] });
      const call = new Call(caller, fresh.gruus[kind]);
      reply(fresh, await call.at(fresh), 200);
      expect(await call.status()).toBe(200);
      await call.notAt(old);
    });
  });

  it.each([408, 430])('%i from the latest contact leads to the one before [5627-6.1-04]', async (status) => {
    const [oldest, old, fresh] = await contacts(site, [null, null, null], { over: 'edge' });
    const call = new Call(caller, fresh.gruus.public);
    reply(fresh, await call.at(fresh), status);
    reply(old, await call.at(old), 200);
    expect(await call.status()).toBe(200);
    await call.notAt(oldest);
  });

  it.each([
    [404, 404],
    [480, 480],
    [486, 486],
    [500, 500],
    [503, 500],
    [603, 603],
  ])(
    '%i from the latest contact is the answer, and the one before is left alone [5627-6.1-04]',
    async (status, seen) => {
      const [old, fresh] = await contacts(site, [null, null]);
      const call = new Call(caller, fresh.gruus.public);
      reply(fresh, await call.at(fresh), status);
      expect(await call.status()).toBe(seen);
      await call.notAt(old);
    },
  );

  it('302 from the device goes back to the caller: nobody else is called [5627-6.1-07]', async () => {
    const user = unique('u');
    const called = await device(site, { user });
    const other = await device(site, { user });
    const call = new Call(caller, called.gruus.public);
    called.agent.reply(await call.at(called), 302, 'Moved', [['Contact', `<${other.contactUri}>`]]);
    expect(await call.status()).toBe(302);
    await call.notAt(other);
  });

  it('another AOR of the device, or another device of the AOR, has GRUUs of its own', async () => {
    const instance = newInstance();
    const user = unique('u');
    const one = await device(site, { user, instance });
    const two = await device(site, { user });
    const three = await device(site, { user: unique('u'), instance });
    const all = [one, two, three].flatMap(({ gruus }) => [gruus.public, gruus.temporary]);
    expect(new Set(all.map((uri) => uri.replace(/^.*gr=/, ''))).size).toBe(6);
    for (const { gruus } of [one, three]) {
      const call = new Call(caller, gruus.public, 'MESSAGE');
      const to = gruus === one.gruus ? one : three;
      reply(to, await call.at(to), 200);
      expect(await call.status()).toBe(200);
    }
  });

  it.each([
    ['an invented value', (u: string) => `sip:${u}@${DOMAIN};gr=kjh29x97us97d`],
    ['a URN as value', (u: string) => `sip:${u}@${DOMAIN};gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6`],
    ['no value', (u: string) => `sip:${u}@${DOMAIN};gr`],
    ['the value of another user', (_: string, g: Gruus) => g.public.replace(/sip:[^@]*/, 'sip:somebody')],
    [
      'a digit that is another',
      (_: string, g: Gruus) => g.public.replace(/.$/, (c) => (c === '0' ? '1' : '0')),
    ],
    ['an invented temporary one', () => `sip:tgruu.${'A'.repeat(86)}@${DOMAIN};gr`],
    ['a temporary one cut short', (_: string, g: Gruus) => g.temporary.replace(/.@/, '@')],
    ['no user', () => `sip:${DOMAIN};gr=1`],
  ])('gr with %s is answered 404, though the user is registered [5627-6.1-01]', async (_, uriOf) => {
    const user = unique('u');
    const place = await device(site, { user });
    const call = new Call(caller, uriOf(user, place.gruus));
    expect(await call.status()).toBe(404);
    await call.notAt(place);
  });

  it('a valid GRUU whose device has gone: 480, and the others of the AOR are not called [5627-6.1-02]', async () => {
    const user = unique('u');
    const gone = await device(site, { user, over: 'TCP' });
    const other = await device(site, { user });
    await gone.agent.close();
    await boundBecomes(caller, aorOf(user), (list) => list.length === 1);
    const call = new Call(caller, gone.gruus.public);
    expect(await call.status()).toBe(480);
    await call.notAt(other);
    expect(await new Call(caller, gone.gruus.temporary).status()).toBe(404);
  });

  it('is known as sips, with its escapes and case written otherwise, and with parameters that a peer added', async () => {
    const called = await device(site, { user: unique('u') });
    const { public: pub, temporary } = called.gruus;
    for (const uri of [
      pub.replace(DOMAIN, DOMAIN.toUpperCase()).replace(/gr=.*/, (gr) => gr.toUpperCase()),
      pub.replace('sip:u', 'sip:%75'),
      `${pub};ob`,
      `${temporary};method=INVITE`,
      temporary.replace('tgruu', 'tgr%75u'),
    ]) {
      const call = new Call(caller, uri, 'MESSAGE');
      const got = await call.at(called);
      expect(got.message.uri).toBe(called.contactUri);
      reply(called, got, 200);
      expect(await call.status()).toBe(200);
    }
  });

  it('the same URI without gr is the AOR, or for a temporary one nobody', async () => {
    const user = unique('u');
    const [one, two] = [await device(site, { user }), await device(site, { user })];
    const call = new Call(caller, one.gruus.public.replace(/;gr.*/, ''), 'MESSAGE');
    for (const place of [one, two]) reply(place, await call.at(place), 200);
    expect(await call.status()).toBe(200);
    const nobody = new Call(caller, one.gruus.temporary.replace(';gr', ''), 'MESSAGE');
    expect(await nobody.status()).toBe(480);
  });
});

describe('with stateless forwarding', () => {
  let site: Site;
  let caller: Agent;
  beforeAll(async () => {
    site = await startSite('memory', { settings: { FORWARDING: 'stateless' } });
    caller = await site.caller();
  });
  afterAll(() => site?.close());

  it.each(KINDS)(
    'a request to a %s GRUU goes to the best contact of the device [5627-6.1-03 5627-6.1-04]',
    async (kind) => {
      const [old, fresh] = await contacts(site, [null, null], { qs: ['0.9', '0.1'] });
      const call = new Call(
        caller,
        old.gruus.public === fresh.gruus.public ? fresh.gruus[kind] : '',
        'MESSAGE',
      );
      const got = await call.at(fresh);
      expect(got.message.uri).toBe(fresh.contactUri);
      reply(fresh, got, 200);
      expect(await call.status()).toBe(200);
      await call.notAt(old);
      expect(await new Call(caller, `sip:a@${DOMAIN};gr=x`, 'MESSAGE').status()).toBe(404);
      expect(await bound(caller, fresh.aor)).toHaveLength(2);
    },
  );
});
