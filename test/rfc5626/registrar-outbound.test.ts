/** When a registrar applies outbound, and what it says of it: RFC 5626 section 6. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { newInstance, type RegisterOptions } from '../harness/flows.ts';
import {
  bound,
  contactsOf,
  type Registered,
  Registrar,
  register,
  STORES,
  TRANSPORTS,
} from '../harness/registrar.ts';
import { newBranch, unique } from '../harness/sip.ts';

const requires = ({ answer }: Registered) => answer.all('Require');

/** What a first proxy on the way puts into a REGISTER: its Via above the client's, and perhaps a Path. */
function through(proxy: Agent, path: string[], options: RegisterOptions = {}): RegisterOptions {
  return {
    ...options,
    moreVia: [`SIP/2.0/UDP 192.0.2.33:5060;branch=${newBranch()}`],
    headers: [...path.map((value): [string, string] => ['Path', value]), ...(options.headers ?? [])],
    contactUri: `sip:${unique('c')}@192.0.2.33`,
    via: proxy.via(),
  };
}

describe.each(STORES)('with the %s store', (store) => {
  let registrar: Registrar;
  let edge: Agent;

  beforeAll(async () => {
    registrar = await Registrar.start(store);
    edge = await registrar.neighbour();
  });
  afterAll(() => registrar?.close());

  describe.each(TRANSPORTS)('a REGISTER straight from the client over %s', (transport) => {
    it('with reg-id, instance-id and outbound in Supported gets Require: outbound [RG-6-02 RG-6-18]', async () => {
      const client = await registrar.client(transport);
      const done = await register(client);
      expect(done.answer.status).toBe(200);
      expect(requires(done)).toEqual(['outbound']);
      expect(contactsOf(done.answer)).toMatchObject([{ uri: done.contactUri, regId: '1' }]);
    });

    it('is told the Flow-Timer that the server keeps [RG-6-25 EP-5.4-06]', async () => {
      const { answer } = await register(await registrar.client(transport));
      expect(answer.fields('Flow-Timer')).toEqual(['120']);
    });

    it('without outbound is told neither Flow-Timer nor Require [RG-6-12]', async () => {
      const done = await register(await registrar.client(transport), { supported: 'path', regId: null });
      expect(done.answer.status).toBe(200);
      expect(requires(done)).toEqual([]);
      expect(done.answer.header('Flow-Timer')).toBeUndefined();
    });

    it('with instance-id alone is no outbound registration [RG-6-08 RG-6-12]', async () => {
      const client = await registrar.client(transport);
      const instance = newInstance();
      const done = await register(client, { regId: null, instance });
      expect(done.answer.status).toBe(200);
      expect(requires(done)).toEqual([]);
      expect(contactsOf(done.answer)).toMatchObject([{ instance: `"<${instance}>"`, regId: undefined }]);
    });

    it('with reg-id alone is bound by its Contact URI [RG-6-09 RG-6-12 RG-6-15]', async () => {
      const client = await registrar.client(transport);
      const user = unique('u');
      const first = await register(client, { user, contact: `<${client.uri('a')}>;reg-id=1` });
      expect(first.answer.status).toBe(200);
      expect(requires(first)).toEqual([]);
      const second = await register(client, { user, contact: `<${client.uri('b')}>;reg-id=1` });
      expect(contactsOf(second.answer)).toHaveLength(2);
      const again = await register(client, { user, contact: `<${client.uri('a')}>;reg-id=2` });
      expect(contactsOf(again.answer)).toHaveLength(2);
    });

    it('without outbound in Supported is bound by outbound rules, but not told so [RG-6-19]', async () => {
      const client = await registrar.client(transport);
      const options = { user: unique('u'), instance: newInstance(), supported: 'path' };
      const first = await register(client, { ...options, contactUri: client.uri('a') });
      expect(first.answer.status).toBe(200);
      expect(requires(first)).toEqual([]);
      const second = await register(client, { ...options, contactUri: client.uri('b') });
      expect(contactsOf(second.answer).map((c) => c.uri)).toEqual([client.uri('b')]);
    });
  });

  describe('a REGISTER through a proxy', () => {
    it('without Path is refused with 439 and binds nothing [RG-6-03 RG-6-05 RG-6-27]', async () => {
      const { aor, answer } = await register(edge, through(edge, []));
      expect(answer.status).toBe(439);
      expect(answer.reason).toBe('First Hop Lacks Outbound Support');
      expect(await bound(edge, aor)).toEqual([]);
    });

    it('whose Path URI lacks ob is refused with 439 and binds nothing [RG-6-04 RG-6-05]', async () => {
      const { aor, answer } = await register(edge, through(edge, [`<${edge.uri('tok')};lr>`]));
      expect(answer.status).toBe(439);
      expect(await bound(edge, aor)).toEqual([]);
    });

    it('that has ob only as a header parameter of Path is refused with 439 [RG-6-04]', async () => {
      const { answer } = await register(edge, through(edge, [`<${edge.uri('tok')};lr>;ob`]));
      expect(answer.status).toBe(439);
    });

    it('that lacks outbound, from a client that does not offer it, is bound by Contact URI [RG-6-04 RG-6-06 RG-6-12 RG-6-27]', async () => {
      const options = { user: unique('u'), instance: newInstance(), supported: 'path' };
      for (const path of [[], [`<${edge.uri('tok')};lr>`]]) {
        const done = await register(edge, through(edge, path, options));
        expect(done.answer.status).toBe(200);
        expect(requires(done)).toEqual([]);
      }
      // one key would have left one binding
      expect(await bound(edge, `sip:${options.user}@example.test`)).toHaveLength(2);
    });

    it('whose first hop, the last Path value, has ob gets outbound [RG-6-07 RG-6-18]', async () => {
      const path = ['<sip:p2.example.test;lr>', `<${edge.uri('tok')};lr;ob>`];
      const done = await register(edge, through(edge, path));
      expect(done.answer.status).toBe(200);
      expect(requires(done)).toEqual(['outbound']);
    });

    it('that has ob only in the Path value of a later hop is refused with 439 [RG-6-07]', async () => {
      const path = [`<${edge.uri('tok')};lr;ob>`, '<sip:p2.example.test;lr>'];
      expect((await register(edge, through(edge, path))).answer.status).toBe(439);
    });

    it('is not told a Flow-Timer: that is for the first hop to say [EP-5.4-10]', async () => {
      const { answer } = await register(edge, through(edge, [`<${edge.uri('tok')};lr;ob>`]));
      expect(answer.status).toBe(200);
      expect(answer.header('Flow-Timer')).toBeUndefined();
    });

    it('with several Via values in one header field is seen as such [RG-6-02]', async () => {
      const via = `${edge.via()}, SIP/2.0/UDP 192.0.2.33;branch=${newBranch()}`;
      expect((await register(edge, { via })).answer.status).toBe(439);
    });
  });

  describe('a REGISTER with several Contacts', () => {
    it('one with reg-id and one that goes: the first is added, the other removed [RG-6-10]', async () => {
      const client = await registrar.client();
      const user = unique('u');
      await register(client, { user, contact: `<${client.uri('old')}>` });
      const added = `<${client.uri('new')}>;+sip.instance="<${newInstance()}>";reg-id=1;expires=3600`;
      const { answer } = await register(client, {
        user,
        contact: `${added}, <${client.uri('old')}>;expires=0`,
      });
      expect(answer.status).toBe(200);
      expect(contactsOf(answer).map((c) => c.uri)).toEqual([client.uri('new')]);
    });

    it('two that stay, one of them with reg-id, are refused together with 400 [RG-6-11]', async () => {
      const client = await registrar.client();
      const user = unique('u');
      const before = await register(client, { user, contact: `<${client.uri('before')}>` });
      const outbound = `<${client.uri('a')}>;+sip.instance="<${newInstance()}>";reg-id=1`;
      for (const contact of [`${outbound}, <${client.uri('b')}>`, `<${client.uri('b')}>, ${outbound}`])
        expect((await register(client, { user, contact })).answer.status).toBe(400);
      expect((await bound(client, before.aor)).map((c) => c.uri)).toEqual([client.uri('before')]);
    });

    it('two that stay, in two header fields, are refused as well [RG-6-11]', async () => {
      const client = await registrar.client();
      const contact = (user: string, regId: number) =>
        `<${client.uri(user)}>;+sip.instance="<${newInstance()}>";reg-id=${regId}`;
      const { aor, answer } = await register(client, {
        contact: contact('a', 1),
        headers: [['Contact', contact('b', 2)]],
      });
      expect(answer.status).toBe(400);
      expect(await bound(client, aor)).toEqual([]);
    });
  });

  it.each(['0', '2147483648', '-1', 'abc', '1.5', '99999999999999999999', ''])(
    'a reg-id of "%s" is refused with 400 [RG-6-31]',
    async (regId) => {
      const client = await registrar.client();
      const { aor, answer } = await register(client, { regId });
      expect(answer.status).toBe(400);
      expect(await bound(client, aor)).toEqual([]);
    },
  );

  it.each(['1', '2147483647'])('a reg-id of %s is accepted [RG-6-31]', async (regId) => {
    const done = await register(await registrar.client(), { regId });
    expect(done.answer.status).toBe(200);
    expect(contactsOf(done.answer)[0].regId).toBe(regId);
    expect(requires(done)).toEqual(['outbound']);
  });
});

describe('HOLDFAST_OUTBOUND_ONLY', () => {
  it('refuses who registers without a flow of his own, and binds nothing [RG-6-14]', async () => {
    const registrar = await Registrar.start('memory', { settings: { OUTBOUND_ONLY: 'on' } });
    try {
      const client = await registrar.client();
      const plain = await register(client, { regId: null });
      expect([plain.answer.status, await bound(client, plain.aor)]).toEqual([403, []]);
      const behind = await register(
        client,
        through(client, ['<sip:edge@192.0.2.33;lr>'], { supported: 'path' }),
      );
      expect([behind.answer.status, await bound(client, behind.aor)]).toEqual([403, []]);
      expect((await register(client)).answer.status).toBe(200);
    } finally {
      await registrar.close();
    }
  });
});
