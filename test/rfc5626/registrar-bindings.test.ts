/** Which binding a REGISTER makes, replaces, refreshes or removes: RFC 5626 section 6, RFC 3261 10.3. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { newInstance } from '../harness/flows.ts';
import { isRequest } from '../harness/inbox.ts';
import { bound, call, contactsOf, Registrar, register, STORES } from '../harness/registrar.ts';
import { unique } from '../harness/sip.ts';

const REMOVED = 0;

describe.each(STORES)('with the %s store', (store) => {
  let registrar: Registrar;
  let phone: Agent;

  beforeAll(async () => {
    registrar = await Registrar.start(store);
    phone = await registrar.client('UDP');
  });
  afterAll(() => registrar?.close());

  const uris = async (aor: string) => (await bound(phone, aor)).map((c) => c.uri).sort();
  const regIds = async (aor: string) => (await bound(phone, aor)).map((c) => c.regId).sort();
  const identity = () => ({ user: unique('u'), instance: newInstance() });

  describe('the key of an outbound binding', () => {
    it('is instance-id and reg-id: a new Contact URI replaces the old [RG-6-16]', async () => {
      const who = identity();
      await register(phone, { ...who, contactUri: phone.uri('a') });
      const second = await register(phone, { ...who, contactUri: 'sip:b@192.0.2.9:5099' });
      expect(contactsOf(second.answer).map((c) => c.uri)).toEqual(['sip:b@192.0.2.9:5099']);
    });

    it('takes no part of the Contact URI: the same URI under two reg-ids is bound twice [RG-6-16]', async () => {
      const who = { ...identity(), contactUri: phone.uri('same') };
      await register(phone, { ...who, regId: 1 });
      const { aor, answer } = await register(phone, { ...who, regId: 2 });
      expect(contactsOf(answer).map((c) => c.uri)).toEqual([phone.uri('same'), phone.uri('same')]);
      expect(await regIds(aor)).toEqual(['1', '2']);
    });

    it('has the instance-id as a URN: a UUID compares without case, with it [RG-6-26]', async () => {
      const user = unique('u');
      const uuid = '3e9f1c50-77ab-4c6e-9d1f-00aabbccddee';
      await register(phone, { user, instance: `urn:uuid:${uuid}`, contactUri: phone.uri('a') });
      const { aor } = await register(phone, {
        user,
        instance: `URN:UUID:${uuid.toUpperCase()}`,
        contactUri: phone.uri('b'),
      });
      expect(await uris(aor)).toEqual([phone.uri('b')]);
    });

    it('tells instance-ids of another URN scheme apart by case [RG-6-26]', async () => {
      const user = unique('u');
      await register(phone, { user, instance: 'urn:example:Abc', contactUri: phone.uri('a') });
      const { aor } = await register(phone, {
        user,
        instance: 'urn:example:abc',
        contactUri: phone.uri('b'),
      });
      expect(await uris(aor)).toEqual([phone.uri('a'), phone.uri('b')]);
      await register(phone, { user, instance: 'URN:EXAMPLE:abc', contactUri: phone.uri('c') });
      expect(await uris(aor)).toEqual([phone.uri('a'), phone.uri('c')]);
    });

    it('belongs to its AOR: another user with the same instance-id takes nothing over [RG-6-29]', async () => {
      const instance = newInstance();
      const owner = await registrar.client();
      const thief = await registrar.client();
      const { aor, contactUri } = await register(owner, { instance });
      await register(thief, { instance });
      expect(await uris(aor)).toEqual([contactUri]);
      const callId = call(phone, aor);
      await owner.only(isRequest('MESSAGE', callId));
      await thief.expectNothing(50);
    });
  });

  describe('an ordinary binding', () => {
    it('has its Contact URI as key: refreshed by the same, added by another [RG-6-15]', async () => {
      const user = unique('u');
      const contact = (name: string) => `<${phone.uri(name)}>`;
      await register(phone, { user, contact: contact('a') });
      await register(phone, { user, contact: contact('a') });
      const { aor } = await register(phone, { user, contact: contact('b') });
      expect(await uris(aor)).toEqual([phone.uri('a'), phone.uri('b')]);
    });

    it('stands beside outbound bindings of the same AOR [RG-6-13]', async () => {
      const who = identity();
      await register(phone, { ...who, contactUri: phone.uri('outbound') });
      const { answer } = await register(phone, { user: who.user, contact: `<${phone.uri('ordinary')}>` });
      expect(
        contactsOf(answer)
          .map((c) => [c.uri, c.regId])
          .sort(),
      ).toEqual([
        [phone.uri('ordinary'), undefined],
        [phone.uri('outbound'), '1'],
      ]);
    });
  });

  describe('the 200', () => {
    it('gives back all parameters of a Contact, also unknown ones [RG-6-17]', async () => {
      const instance = newInstance();
      const contact = `"A. Phone" <${phone.uri('p')};x-uri=1>;+sip.instance="<${instance}>";reg-id=3;q=0.7;+sip.rendering;x-odd="a;b,c";methods="INVITE,BYE"`;
      const { aor } = await register(phone, { contact });
      const [got, ...others] = await bound(phone, aor);
      expect(others).toEqual([]);
      expect(got.uri).toBe(`${phone.uri('p')};x-uri=1`);
      expect(Object.fromEntries(got.params)).toMatchObject({
        '+sip.instance': `"<${instance}>"`,
        'reg-id': '3',
        q: '0.7',
        '+sip.rendering': undefined,
        'x-odd': '"a;b,c"',
        methods: '"INVITE,BYE"',
      });
      expect([...got.params.keys()]).toContain('+sip.rendering');
    });

    it('lists the other flows of the instance with their reg-ids, and only its own Path [RG-6-28 3327-5.3-01]', async () => {
      const edge = await registrar.neighbour();
      const who = identity();
      const path = (flow: number) => `<sip:token${flow}@${edge.hostPort};lr;ob>`;
      const via = () => ({
        via: edge.via(),
        moreVia: [`SIP/2.0/TCP 192.0.2.4;branch=z9hG4bK${unique('b')}`],
      });
      await register(edge, { ...who, ...via(), regId: 1, headers: [['Path', path(1)]] });
      const { answer } = await register(edge, { ...who, ...via(), regId: 2, headers: [['Path', path(2)]] });
      expect(
        contactsOf(answer)
          .map((c) => c.regId)
          .sort(),
      ).toEqual(['1', '2']);
      expect(answer.all('Path')).toEqual([path(2)]);
    });

    it('to a query lists what is bound and has no Path [RG-6-28]', async () => {
      const { aor, contactUri } = await register(phone);
      expect(await uris(aor)).toEqual([contactUri]);
    });
  });

  describe('Call-ID and CSeq', () => {
    it('a lower CSeq of the same Call-ID is refused, and nothing changes [RG-6-30]', async () => {
      const who = identity();
      const { aor, callId } = await register(phone, { ...who, cseq: 7, contactUri: phone.uri('new') });
      for (const cseq of [6, 1]) {
        const late = await register(phone, { ...who, callId, cseq, contactUri: phone.uri('old') });
        expect(late.answer.status).toBe(500);
      }
      expect(await uris(aor)).toEqual([phone.uri('new')]);
    });

    it('a higher CSeq of the same Call-ID refreshes [RG-6-30]', async () => {
      const who = identity();
      const { callId } = await register(phone, { ...who, cseq: 1 });
      const again = await register(phone, { ...who, callId, cseq: 2, contactUri: phone.uri('b') });
      expect(contactsOf(again.answer).map((c) => c.uri)).toEqual([phone.uri('b')]);
    });

    it('a new Call-ID, as after a reboot, replaces the binding whatever its CSeq [RG-6-30]', async () => {
      const who = identity();
      await register(phone, { ...who, cseq: 900 });
      const again = await register(phone, { ...who, cseq: 1, contactUri: phone.uri('b') });
      expect(again.answer.status).toBe(200);
      expect(contactsOf(again.answer).map((c) => c.uri)).toEqual([phone.uri('b')]);
    });

    it('are compared per key: another flow with the same Call-ID and a lower CSeq is its own [RG-6-30]', async () => {
      const who = identity();
      const { aor, callId } = await register(phone, { ...who, cseq: 9, regId: 1 });
      expect((await register(phone, { ...who, callId, cseq: 3, regId: 2 })).answer.status).toBe(200);
      expect(await regIds(aor)).toEqual(['1', '2']);
    });

    it('a retransmitted REGISTER changes nothing and gets the same answer [3261-17-04]', async () => {
      const who = identity();
      const callId = unique('reg-');
      const options = { ...who, callId, cseq: 4, via: phone.via(), contactUri: phone.uri('a') };
      phone.keepRetransmissions = true;
      const first = await register(phone, options);
      const again = await register(phone, options);
      phone.keepRetransmissions = false;
      expect([first.answer.status, again.answer.status]).toEqual([200, 200]);
      expect(await uris(first.aor)).toEqual([phone.uri('a')]);
    });
  });

  describe('removal', () => {
    it('with expires=0 takes exactly the flow of that reg-id [RG-6-32]', async () => {
      const who = identity();
      await register(phone, { ...who, regId: 1 });
      await register(phone, { ...who, regId: 2 });
      const { answer } = await register(phone, { ...who, regId: 1, expires: REMOVED });
      expect(answer.status).toBe(200);
      expect(contactsOf(answer).map((c) => c.regId)).toEqual(['2']);
    });

    it('of a flow whose Contact URI has changed meanwhile works by its key [RG-6-32 RG-6-16]', async () => {
      const who = identity();
      const { aor } = await register(phone, { ...who, contactUri: phone.uri('a') });
      await register(phone, { ...who, contactUri: phone.uri('b'), expires: REMOVED });
      expect(await uris(aor)).toEqual([]);
    });

    it('of what is not bound is answered 200 and removes nothing else', async () => {
      const who = identity();
      const { aor } = await register(phone, { ...who, regId: 1 });
      expect((await register(phone, { ...who, regId: 8, expires: REMOVED })).answer.status).toBe(200);
      expect(await regIds(aor)).toEqual(['1']);
    });

    it('by * takes all bindings, outbound ones too [RG-6-33]', async () => {
      const who = identity();
      await register(phone, { ...who, regId: 1 });
      await register(phone, { ...who, regId: 2 });
      await register(phone, { user: who.user, contact: `<${phone.uri('ordinary')}>` });
      const { aor, answer } = await register(phone, { user: who.user, contact: '*', expires: REMOVED });
      expect(answer.status).toBe(200);
      expect(answer.header('Contact')).toBeUndefined();
      expect(await uris(aor)).toEqual([]);
    });

    it.each([
      ['a non-zero Expires', { contact: '*', expires: 60 }],
      ['another Contact', { contact: '*, <sip:b@192.0.2.1>', expires: REMOVED }],
    ])('by * with %s is refused with 400 and removes nothing [3261-10.3-01]', async (_name, wrong) => {
      const who = identity();
      const { aor } = await register(phone, who);
      expect((await register(phone, { user: who.user, ...wrong })).answer.status).toBe(400);
      expect(await bound(phone, aor)).toHaveLength(1);
    });
  });

  it('two clients that register one AOR at the same time both get an answer that holds their own flow [3261-10.3-01]', async () => {
    const user = unique('u');
    const clients = await Promise.all(
      Array.from({ length: 8 }, (_, i) => registrar.client(i % 2 ? 'TCP' : 'UDP')),
    );
    const done = await Promise.all(
      clients.map((client) => register(client, { user, instance: newInstance() })),
    );
    for (const { answer, contactUri } of done) {
      expect(answer.status).toBe(200);
      expect(contactsOf(answer).map((c) => c.uri)).toContain(contactUri);
    }
    expect(await bound(phone, done[0].aor)).toHaveLength(8);
  });
});
