/** What a phone that asks for GRUUs gets from the registrar, and how long it may use them: RFC 5627 section 5. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { newInstance } from '../harness/flows.ts';
import { GRUU, type Gruus, gruusOf, learn } from '../harness/gruus.ts';
import { isRequest } from '../harness/inbox.ts';
import { Call } from '../harness/places.ts';
import {
  bound,
  boundBecomes,
  contactsOf,
  DOMAIN,
  Registrar,
  register,
  STORES,
} from '../harness/registrar.ts';
import { parseNameAddr, unique } from '../harness/sip.ts';

describe.each(STORES)('with the %s store', (store) => {
  let registrar: Registrar;
  let caller: Agent;
  beforeAll(async () => {
    registrar = await Registrar.start(store);
    caller = await registrar.client();
  });
  afterAll(() => registrar?.close());

  /** Does a MESSAGE to this URI come to the phone? Else the status that it was refused with. */
  async function reaches(phone: Agent, uri: string): Promise<true | number> {
    const call = new Call(caller, uri, 'MESSAGE');
    const at = phone.next(isRequest('MESSAGE', call.callId)).then((got) => phone.reply(got, 200, 'OK'));
    at.catch(() => {});
    const status = await call.status();
    return status === 200 ? true : status;
  }

  describe('a phone with gruu in Supported', () => {
    it('gets a public and a temporary GRUU in its Contact, quoted SIP URIs [5627-5.2-01 5627-5.1-02]', async () => {
      const phone = await registrar.client();
      const { aor, answer } = await register(phone, { supported: GRUU });
      const [gruus] = gruusOf(answer);
      const [pub, temp] = [gruus.public, gruus.temporary].map((uri) => parseNameAddr(`<${uri}>`));
      expect(gruus.public.startsWith(`${aor};gr=`)).toBe(true);
      expect(pub.uriParams.get('gr')).toMatch(/^.{8,}$/);
      expect([temp.scheme, temp.host]).toEqual(['sip', DOMAIN]);
      expect(temp.uriParams).toEqual(new Map([['gr', undefined]]));
      expect(await reaches(phone, gruus.public)).toBe(true);
      expect(await reaches(phone, gruus.temporary)).toBe(true);
    });

    it('is told of gruu neither in Require nor in Supported [5627-5.2-02]', async () => {
      const phone = await registrar.client();
      const { answer } = await register(phone, { supported: GRUU, headers: [['Require', 'gruu']] });
      expect(answer.status).toBe(200);
      expect([...answer.all('Require'), ...answer.all('Supported')]).not.toContain('gruu');
      expect(gruusOf(answer)[0].public).not.toBe('');
    });

    it('gets none for a Contact without instance-id [5627-5.2-01]', async () => {
      const phone = await registrar.client();
      const user = unique('u');
      await learn(phone, { user });
      const { answer } = await register(phone, { user, supported: GRUU, contact: `<${phone.uri('plain')}>` });
      const contacts = contactsOf(answer);
      expect(contacts).toHaveLength(2);
      for (const { params, instance } of contacts)
        expect([params.has('pub-gruu'), params.has('temp-gruu')]).toEqual([
          instance !== undefined,
          instance !== undefined,
        ]);
    });

    it('learns the GRUUs of what is bound by a REGISTER without Contact', async () => {
      const phone = await registrar.client();
      const { aor, gruus } = await learn(phone, {});
      const callId = unique('query-');
      const head = { from: `<${aor}>;tag=1`, to: `<${aor}>`, callId };
      phone.send(phone.compose('REGISTER', `sip:${DOMAIN}`, { ...head, headers: [['Supported', 'gruu']] }));
      const { message } = await phone.next((a) => a.message.callId === callId && a.message.status >= 200);
      const [told] = gruusOf(message);
      expect(told.public).toBe(gruus.public);
      expect(await reaches(phone, told.temporary)).toBe(true);
      expect(await reaches(phone, gruus.temporary)).toBe(true);
    });
  });

  it('a phone without it gets no GRUU, though it has an instance-id [5627-5.2-01]', async () => {
    const phone = await registrar.client();
    const user = unique('u');
    await learn(phone, { user });
    const { answer } = await register(phone, { user, supported: 'path, outbound' });
    for (const { params } of contactsOf(answer))
      expect([params.has('pub-gruu'), params.has('temp-gruu')]).toEqual([false, false]);
  });

  it('a refresh brings a new temporary GRUU, the same public one, and the old ones stay good [5627-4.2-01 5627-4.1-03 5627-5.1-04]', async () => {
    const phone = await registrar.client();
    const again = { user: unique('u'), instance: newInstance(), callId: unique('reg-') };
    const learnt: Gruus[] = [];
    for (let cseq = 1; cseq <= 3; cseq++) learnt.push((await learn(phone, { ...again, cseq })).gruus);
    expect(new Set(learnt.map((gruus) => gruus.public)).size).toBe(1);
    expect(new Set(learnt.map((gruus) => gruus.temporary.slice(0, 'sip:tgruu.'.length + 12))).size).toBe(3);
    for (const { temporary } of learnt) {
      expect(temporary).not.toContain(again.user);
      expect(temporary).not.toContain(again.instance.slice(-12));
      expect(await reaches(phone, temporary)).toBe(true);
    }
    expect(learnt[0].public).not.toContain(again.instance.slice(-12));
  });

  it('GRUUs that a phone proposes are ignored [5627-5.1-02]', async () => {
    const phone = await registrar.client();
    const instance = newInstance();
    const contactUri = phone.uri('a');
    const wish = `sip:wish@${DOMAIN};gr`;
    const contact = `<${contactUri}>;+sip.instance="<${instance}>";reg-id=1;pub-gruu="${wish}=1";temp-gruu="${wish}"`;
    const { answer, aor } = await register(phone, { supported: GRUU, contactUri, contact });
    expect(answer.header('Contact')?.match(/gruu="/g)).toHaveLength(2);
    expect(answer.header('Contact')).not.toContain('wish');
    const [seen] = await bound(caller, aor);
    expect([...seen.params.keys()].filter((name) => name.endsWith('gruu'))).toEqual([]);
    expect(await reaches(phone, `${wish}=1`)).toBe(404);
    expect(await reaches(phone, wish)).toBe(404);
  });

  describe('a phone that comes with another Call-ID', () => {
    it('keeps its public GRUU and loses its temporary ones [5627-5.1-03 5627-4.1-03 5627-5.1-02]', async () => {
      const phone = await registrar.client();
      const again = { user: unique('u'), instance: newInstance() };
      const before = await learn(phone, again);
      const after = await learn(phone, again);
      expect(after.callId).not.toBe(before.callId);
      expect(after.gruus.public).toBe(before.gruus.public);
      expect(await reaches(phone, before.gruus.temporary)).toBe(404);
      expect(await reaches(phone, after.gruus.temporary)).toBe(true);
      expect(await reaches(phone, after.gruus.public)).toBe(true);
    });

    it('on one of two flows loses those that it learnt on the other too [5627-5.1-03]', async () => {
      const [one, two] = [await registrar.client(), await registrar.client('TCP')];
      const again = { user: unique('u'), instance: newInstance() };
      const first = await learn(one, { ...again, regId: 1 });
      const second = await learn(two, { ...again, regId: 2 });
      expect(await reaches(two, first.gruus.temporary)).toBe(true); // another reg-id may have another Call-ID
      const third = await learn(one, { ...again, regId: 1 });
      for (const { gruus } of [first, second]) expect(await reaches(one, gruus.temporary)).toBe(404);
      expect(await reaches(one, third.gruus.temporary)).toBe(true);
    });

    it('after a reboot is bound twice, and both Contacts have the same GRUUs [5627-5.1-02 5627-5.1-03]', async () => {
      const again = { user: unique('u'), instance: newInstance(), regId: null };
      const before = await learn(await registrar.client(), again);
      const { answer } = await register(await registrar.client(), { ...again, supported: GRUU });
      const gruus = gruusOf(answer);
      expect(gruus).toHaveLength(2);
      expect(gruus[0]).toEqual(gruus[1]);
      expect(gruus[0].public).toBe(before.gruus.public);
      expect(gruus[0].temporary).not.toBe(before.gruus.temporary);
    });
  });

  it('the last contact that goes takes the temporary GRUUs along, the public one waits [5627-5.1-03 5627-6.1-02]', async () => {
    const phone = await registrar.client();
    const again = { user: unique('u'), instance: newInstance(), callId: unique('reg-') };
    const { aor, gruus } = await learn(phone, again);
    await register(phone, { ...again, cseq: 2, expires: 0 });
    await boundBecomes(caller, aor, (contacts) => contacts.length === 0);
    expect(await reaches(phone, gruus.temporary)).toBe(404);
    expect(await reaches(phone, gruus.public)).toBe(480);
    const back = await learn(phone, { ...again, cseq: 3 });
    expect(back.gruus.public).toBe(gruus.public);
    expect(await reaches(phone, gruus.temporary)).toBe(404);
    expect(await reaches(phone, back.gruus.temporary)).toBe(true);
    expect(await reaches(phone, back.gruus.public)).toBe(true);
  });

  it.each([
    ['the address-of-record', (user: string) => `sip:${user}@${DOMAIN}`],
    ['the same with a parameter', (user: string) => `sip:${user}@${DOMAIN};ob`],
    ['a public GRUU of it', (_: string, gruus: Gruus) => gruus.public],
    ['a temporary GRUU of it', (_: string, gruus: Gruus) => gruus.temporary],
    ['anything of it with gr', (user: string) => `sip:${user}@${DOMAIN};gr=1`],
    ['no SIP URI', () => 'mailto:dora@example.test'],
  ])('a Contact that is %s is refused with 403 [5627-5.1-01]', async (_, uriOf) => {
    const phone = await registrar.client();
    const user = unique('u');
    const { aor, gruus } = await learn(phone, { user });
    const { answer } = await register(phone, { user, contactUri: uriOf(user, gruus) });
    expect(answer.status).toBe(403);
    expect(await bound(caller, aor)).toHaveLength(1);
  });

  it('a Contact that is the GRUU of another user is taken [5627-5.1-01]', async () => {
    const phone = await registrar.client();
    const { gruus } = await learn(phone, {});
    const { answer } = await register(phone, { contactUri: gruus.public });
    expect(answer.status).toBe(200);
  });

  if (store === 'lmdb')
    it('GRUUs outlive kill -9 of the server, with its registrations [5627-5.1-02]', async () => {
      const phone = await registrar.client();
      const again = { user: unique('u'), instance: newInstance(), callId: unique('reg-') };
      const { gruus } = await learn(phone, again);
      await registrar.server.kill('SIGKILL');
      await registrar.server.launch();
      expect(await reaches(phone, gruus.public)).toBe(true);
      expect(await reaches(phone, gruus.temporary)).toBe(true);
      const after = await learn(phone, { ...again, cseq: 2 });
      expect(after.gruus.public).toBe(gruus.public);
      expect(await reaches(phone, gruus.temporary)).toBe(true);
    });
});

describe('HOLDFAST_GRUU_KEY', () => {
  it('makes the same GRUUs wherever it is set', async () => {
    const settings = { GRUU_KEY: '0f'.repeat(32) };
    const again = { user: unique('u'), instance: newInstance() };
    const learnt: string[] = [];
    for (let i = 0; i < 2; i++) {
      const registrar = await Registrar.start('memory', { settings });
      try {
        learnt.push((await learn(await registrar.client(), again)).gruus.public);
      } finally {
        await registrar.close();
      }
    }
    expect(learnt[0]).toBe(learnt[1]);
  });

  it('that is none stops the start with one line, which does not show it', async () => {
    const started = Registrar.start('memory', { settings: { GRUU_KEY: 'c2hvcnQ' } });
    await expect(started).rejects.toThrow(
      /code 2.*\n(warning.*\n)*HOLDFAST_GRUU_KEY: a key of 5 octets; allowed: 32/,
    );
    await expect(started).rejects.not.toThrow(/c2hvcnQ/);
  });
});
