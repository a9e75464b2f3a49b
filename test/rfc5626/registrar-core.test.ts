/** The registrar of RFC 3261 section 10.3 and RFC 3327 section 5.3, under outbound or not. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { newInstance } from '../harness/flows.ts';
import { isFinal } from '../harness/inbox.ts';
import { bound, contactsOf, DOMAIN, Registrar, register, STORES } from '../harness/registrar.ts';
import { unique } from '../harness/sip.ts';

describe.each(STORES)('with the %s store', (store) => {
  let registrar: Registrar;
  let phone: Agent;
  beforeAll(async () => {
    registrar = await Registrar.start(store);
    phone = await registrar.client('UDP');
  });
  afterAll(() => registrar?.close());

  const granted = async (options: Parameters<typeof register>[1]) => {
    const { answer } = await register(phone, options);
    return Number(contactsOf(answer)[0].params.get('expires'));
  };

  describe('the steps of 10.3', () => {
    it('an unknown option tag in Require is refused with 420, and named [3261-10.3-01]', async () => {
      const { aor, answer } = await register(phone, {
        headers: [['Require', 'outbound, gruu-of-tomorrow, path, x2']],
      });
      expect(answer.status).toBe(420);
      expect(answer.all('Unsupported')).toEqual(['gruu-of-tomorrow', 'x2']);
      expect(await bound(phone, aor)).toEqual([]);
    });

    it('outbound and path in Require are supported [RG-6-01 UA-4.2.1-12]', async () => {
      const { answer } = await register(phone, { headers: [['Require', 'path, outbound']] });
      expect(answer.status).toBe(200);
    });

    it('an AOR of a domain that is not served is answered 404 [3261-10.3-01]', async () => {
      const callId = unique('reg-');
      const aor = 'sip:alice@elsewhere.test';
      phone.send(
        phone.compose('REGISTER', `sip:${DOMAIN}`, {
          from: `<${aor}>;tag=1`,
          to: `<${aor}>`,
          callId,
          contact: `<${phone.uri('alice')}>`,
        }),
      );
      expect((await phone.next(isFinal(callId))).message.status).toBe(404);
    });

    it('an AOR without a user is answered 404 [3261-10.3-01]', async () => {
      const callId = unique('reg-');
      phone.send(
        phone.compose('REGISTER', `sip:${DOMAIN}`, {
          to: `<sip:${DOMAIN}>`,
          callId,
          contact: `<${phone.uri('alice')}>`,
        }),
      );
      expect((await phone.next(isFinal(callId))).message.status).toBe(404);
    });

    it('an AOR is made canonical: escapes, host case and URI parameters do not make another one [3261-10.3-01]', async () => {
      const user = unique('u');
      await register(phone, { user: `${user}%61`, contactUri: phone.uri('a') });
      await register(phone, { user: `${user}a`, domain: DOMAIN.toUpperCase(), contactUri: phone.uri('b') });
      expect(await bound(phone, `sip:${user}a@${DOMAIN};transport=tcp`)).toHaveLength(2);
    });

    it.each([
      ['no name-addr', '<sip:a@192.0.2.1'],
      ['no URI', '<>'],
      ['one good and one bad', '<sip:a@192.0.2.1>, <sip:>'],
    ])(
      'a Contact that is %s is refused with 400, and nothing of it is bound [3261-10.3-01]',
      async (_n, contact) => {
        const { aor, answer } = await register(phone, { contact });
        expect(answer.status).toBe(400);
        expect(await bound(phone, aor)).toEqual([]);
      },
    );

    it('an update that fails in one Contact changes none of the others [3261-10.3-01]', async () => {
      const user = unique('u');
      const callId = unique('reg-');
      const contacts = (...names: string[]) => names.map((n) => `<${phone.uri(n)}>`).join(', ');
      const { aor } = await register(phone, { user, callId, cseq: 5, contact: contacts('a') });
      // a is out of order here, b would be new
      const { answer } = await register(phone, { user, callId, cseq: 4, contact: contacts('b', 'a') });
      expect(answer.status).toBe(500);
      expect((await bound(phone, aor)).map((c) => c.uri)).toEqual([phone.uri('a')]);
    });

    it('the response has no Record-Route, and To has a tag [3261-10.3-03]', async () => {
      const { answer } = await register(phone, { headers: [['Record-Route', '<sip:192.0.2.7;lr>']] });
      expect(answer.status).toBe(200);
      expect(answer.header('Record-Route')).toBeUndefined();
      expect(answer.header('To')).toMatch(/;tag=./);
    });
  });

  describe('the expiry', () => {
    it('is that of the Contact, before that of Expires [3261-10.3-03]', async () => {
      const contact = `<${phone.uri('a')}>;expires=900`;
      expect(await granted({ contact, expires: 400 })).toBe(900);
    });

    it('is that of Expires where the Contact has none [3261-10.3-03]', async () => {
      expect(await granted({ contact: `<${phone.uri('a')}>`, expires: 400 })).toBe(400);
    });

    it('is cut to what the server allows at most [3261-10.3-03]', async () => {
      expect(await granted({ contact: `<${phone.uri('a')}>;expires=4000000000` })).toBe(7200);
    });

    it('that is too short is refused with 423 and Min-Expires, and nothing is bound [3261-10.3-02]', async () => {
      for (const expires of [1, 59]) {
        const { aor, answer } = await register(phone, { expires });
        expect(answer.status).toBe(423);
        expect(answer.header('Min-Expires')).toBe('60');
        expect(await bound(phone, aor)).toEqual([]);
      }
    });

    it('of exactly the minimum is granted, and 0 is a removal [3261-10.3-02]', async () => {
      expect(await granted({ expires: 60 })).toBe(60);
      expect((await register(phone, { expires: 0 })).answer.status).toBe(200);
    });

    it('of every binding stands in the 200, each its own [3261-10.3-03]', async () => {
      const user = unique('u');
      await register(phone, { user, contact: `<${phone.uri('a')}>;expires=1000` });
      const { answer } = await register(phone, {
        user,
        expires: 500,
        contact: `<${phone.uri('b')}>`,
      });
      const got = contactsOf(answer).map((c) => [c.uri, Number(c.params.get('expires'))] as const);
      const of = (name: string) => got.find(([uri]) => uri === phone.uri(name))?.[1] as number;
      expect(got).toHaveLength(2);
      expect(of('b')).toBe(500);
      expect(of('a')).toBeGreaterThan(900);
      expect(of('a')).toBeLessThanOrEqual(1000);
    });
  });

  describe('Path', () => {
    const headers = (...values: string[]) => values.map((value): [string, string] => ['Path', value]);

    it('from a client without path in Supported is accepted, as RFC 3327 allows [3327-5.3-02]', async () => {
      const path = '<sip:tok@192.0.2.3;lr;ob>';
      const { answer } = await register(phone, { supported: 'outbound', headers: headers(path) });
      expect(answer.status).toBe(200);
      expect(answer.all('Path')).toEqual([path]);
    });

    it('that cannot be parsed is refused with 400, and nothing is bound [3327-4-01]', async () => {
      const { aor, answer } = await register(phone, { headers: headers('<sip:a@192.0.2.3;lr') });
      expect(answer.status).toBe(400);
      expect(await bound(phone, aor)).toEqual([]);
    });

    it('is kept for each binding by itself, not for the AOR [3327-5.3-01]', async () => {
      const who = { user: unique('u'), instance: newInstance() };
      const path = '<sip:tok@192.0.2.3;lr;ob>';
      await register(phone, { ...who, regId: 1, headers: headers(path) });
      const { answer } = await register(phone, { ...who, regId: 2 });
      expect(answer.header('Path')).toBeUndefined();
    });

    it('of a registration that was refused is not kept [3327-6-01]', async () => {
      const who = { user: unique('u'), instance: newInstance() };
      const refused = await register(phone, {
        ...who,
        expires: 5,
        headers: headers('<sip:evil@192.0.2.3;lr;ob>'),
      });
      expect(refused.answer.status).toBe(423);
      const { answer } = await register(phone, who);
      expect(answer.header('Path')).toBeUndefined();
    });
  });

  it('OPTIONS to the domain itself is answered by the server', async () => {
    const callId = unique('call-');
    phone.send(phone.compose('OPTIONS', `sip:${DOMAIN}`, { callId }));
    const { message } = await phone.next(isFinal(callId));
    expect(message.status).toBe(200);
    expect(message.all('Supported')).toEqual(expect.arrayContaining(['path', 'outbound']));
  });

  it('more bindings than one AOR may have are refused, and those that stand stay', async () => {
    const user = unique('u');
    for (let i = 0; i < 16; i++)
      expect((await register(phone, { user, contact: `<${phone.uri(`c${i}`)}>` })).answer.status).toBe(200);
    const { aor, answer } = await register(phone, { user, contact: `<${phone.uri('one-more')}>` });
    expect(answer.status).toBe(403);
    expect(await bound(phone, aor)).toHaveLength(16);
    expect((await register(phone, { user, contact: `<${phone.uri('c3')}>` })).answer.status).toBe(200);
  });
});
