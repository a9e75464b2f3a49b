/**
 * A request for an AOR goes down the flow of its newest binding, and a flow that ends takes its
 * bindings along: RFC 5626 sections 6 and 7, with registrar and authoritative proxy in one process.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Agent, TcpAgent } from '../harness/agent.ts';
import { IO } from '../harness/edge.ts';
import { newInstance } from '../harness/flows.ts';
import { isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import {
  bound,
  boundBecomes,
  call,
  DOMAIN,
  Registrar,
  register,
  STORES,
  statusOf,
  TRANSPORTS,
} from '../harness/registrar.ts';
import { newBranch, parseNameAddr, unique } from '../harness/sip.ts';
import { mappedAddress, stun } from '../harness/stun.ts';

const none = (contacts: unknown[]) => contacts.length === 0;

describe.each(STORES)('with the %s store', (store) => {
  let registrar: Registrar;
  let caller: Agent;

  beforeAll(async () => {
    registrar = await Registrar.start(store);
    caller = await registrar.client('UDP');
  });
  afterAll(() => registrar?.close());

  describe.each(TRANSPORTS)('a phone that registered over %s', (transport) => {
    it('gets a request for its AOR on that flow, with its Contact URI and no Route [RG-6-20 AP-7-05 AP-7-06]', async () => {
      const phone = await registrar.client(transport);
      const { aor, contactUri } = await register(phone, { contactUri: `sip:x@192.0.2.250:5099;y=1;ob` });
      const callId = call(caller, aor, 'MESSAGE', { body: 'hello' });
      const got = await phone.only(isRequest('MESSAGE', callId));
      expect(got.message.uri).toBe(contactUri);
      expect(got.message.all('Route')).toEqual([]);
      expect(got.message.body.toString()).toBe('hello');
      expect(got.from).toEqual(registrar.server.address);
      phone.reply(got, 200, 'OK');
      await caller.next(isResponse(200, callId));
    });

    it('is called, answers, and the rest of the dialog reaches it by the Record-Route [AP-7-06 EP-5.3.1-01]', async () => {
      const phone = await registrar.client(transport);
      const { aor } = await register(phone, { contactUri: 'sip:p@192.0.2.250:5099;ob' });
      const callId = call(caller, aor, 'INVITE');
      const invite = await phone.only(isRequest('INVITE', callId));
      expect(invite.message.all('Record-Route').length).toBeGreaterThan(0);
      phone.reply(invite, 200, 'OK', [['Contact', '<sip:p@192.0.2.250:5099;ob>']]);
      const ok = (await caller.next(isResponse(200, callId))).message;
      const route = ok.all('Record-Route').reverse();
      const dialog = { callId, route, to: ok.header('To') as string };
      for (const method of ['ACK', 'BYE']) {
        caller.send(
          caller.compose(method, parseNameAddr(ok.header('Contact') as string).uri, { ...dialog, cseq: 2 }),
        );
        await phone.only(isRequest(method, callId));
      }
    });

    it('that registers anew from elsewhere is called there, not at the old flow [RG-6-22]', async () => {
      const who = { user: unique('u'), instance: newInstance() };
      const old = await registrar.client(transport);
      const fresh = await registrar.client(transport);
      const { aor } = await register(old, who);
      await register(fresh, who);
      await fresh.only(isRequest('MESSAGE', call(caller, aor)));
      await old.expectNothing(50);
    });

    it('keeps its flow with keep-alives of its transport [RG-6-24 EP-5.4-01 EP-5.4-02]', async () => {
      const phone = await registrar.client(transport);
      const { aor } = await register(phone);
      if (transport === 'UDP') {
        phone.send(stun());
        const pong = await phone.only((a) => a.kind === 'stun');
        expect(mappedAddress(pong.stun!)).toBe(phone.hostPort);
      } else {
        phone.send(Buffer.from('\r\n\r\n'));
        expect((await phone.only()).bytes).toEqual(Buffer.from('\r\n'));
      }
      await phone.only(isRequest('MESSAGE', call(caller, aor)));
    });

    it('removes its binding and is not called any more [RG-6-32]', async () => {
      const who = { user: unique('u'), instance: newInstance() };
      const phone = await registrar.client(transport);
      await register(phone, who);
      const { aor } = await register(phone, { ...who, expires: 0 });
      expect(await statusOf(caller, aor)).toBe(480);
      await phone.expectNothing(50);
    });
  });

  it('of two flows of one instance the one that registered last gets the request, and only that one [AP-7-01 AP-7-09 RG-6-23]', async () => {
    const who = { user: unique('u'), instance: newInstance() };
    const one = await registrar.client('TCP');
    const two = await registrar.client('UDP');
    const { aor } = await register(one, { ...who, regId: 1 });
    await register(two, { ...who, regId: 2 });
    await two.only(isRequest('MESSAGE', call(caller, aor)));
    await one.expectNothing(50);
    await register(one, { ...who, regId: 1 });
    await one.only(isRequest('MESSAGE', call(caller, aor)));
    await two.expectNothing(50);
  });

  it('a higher q comes before a later registration [AP-7-09]', async () => {
    const user = unique('u');
    const preferred = await registrar.client('TCP');
    const later = await registrar.client('UDP');
    const contact = (client: Agent, q: string) =>
      `<${client.uri(user)}>;+sip.instance="<${newInstance()}>";reg-id=1;q=${q}`;
    const { aor } = await register(preferred, { user, contact: contact(preferred, '0.9') });
    await register(later, { user, contact: contact(later, '0.3') });
    await preferred.only(isRequest('MESSAGE', call(caller, aor)));
    await later.expectNothing(50);
  });

  describe('nobody to be reached', () => {
    it.each(['MESSAGE', 'INVITE', 'SUBSCRIBE', 'OPTIONS'])(
      'a %s for an AOR without bindings is answered 480 [AP-7-11]',
      async (method) => {
        expect(await statusOf(caller, `sip:${unique('nobody')}@${DOMAIN}`, method)).toBe(480);
      },
    );

    it('an ACK for one is dropped', async () => {
      call(caller, `sip:${unique('nobody')}@${DOMAIN}`, 'ACK');
      await caller.expectNothing(50);
    });
  });

  describe('a connection that ends', () => {
    const ways: [string, (phone: TcpAgent) => Promise<void>][] = [
      ['with FIN', (phone) => phone.close()],
      ['with RST', (phone) => phone.reset()],
    ];

    it.each(ways)(
      '%s takes all bindings on it along, whatever their AOR [AP-7-07 AP-7-10]',
      async (_way, end) => {
        const phone = await registrar.connection();
        const first = await register(phone);
        const second = await register(phone, { contact: `<${phone.uri('ordinary')}>` });
        await end(phone);
        for (const { aor } of [first, second]) {
          await boundBecomes(caller, aor, none);
          expect(await statusOf(caller, aor)).toBe(480);
        }
      },
    );

    it.each(ways)('%s leaves the other flow of the instance in use [AP-7-07]', async (_way, end) => {
      const who = { user: unique('u'), instance: newInstance() };
      const other = await registrar.client('UDP');
      const phone = await registrar.connection();
      await register(other, { ...who, regId: 1 });
      const { aor } = await register(phone, { ...who, regId: 2 });
      await end(phone);
      const left = await boundBecomes(caller, aor, (contacts) => contacts.length === 1);
      expect(left[0].regId).toBe('1');
      await other.only(isRequest('MESSAGE', call(caller, aor)));
    });

    it('does not take along a binding that has moved to another flow [RG-6-22 AP-7-07]', async () => {
      const who = { user: unique('u'), instance: newInstance() };
      const old = await registrar.connection();
      const witness = await register(old);
      const fresh = await registrar.connection();
      await register(old, who);
      const { aor } = await register(fresh, who);
      await old.close();
      await boundBecomes(caller, witness.aor, none); // the news of the end has arrived
      expect(await bound(caller, aor)).toHaveLength(1);
      await fresh.only(isRequest('MESSAGE', call(caller, aor)));
    });

    it('because the server closes it takes its bindings along as well [AP-7-08]', async () => {
      const phone = await registrar.connection();
      const { aor } = await register(phone);
      phone.send(Buffer.from('this is no SIP message at all\r\n\r\n'));
      await phone.closed;
      await boundBecomes(caller, aor, none);
      expect(await statusOf(caller, aor)).toBe(480);
    });

    it('and comes back from the same address and port is not called for its old binding [EP-3.4-01 AP-7-07]', async () => {
      const phone = await registrar.connection();
      const { aor } = await register(phone);
      const { host, port } = phone;
      await phone.reset();
      const next = registrar.keep(await registrar.server.tcp({ localHost: host, localPort: port }));
      await next.probe();
      expect(await statusOf(caller, aor)).toBe(480);
      await next.expectNothing();
    });
  });

  it.skipIf(IO === 'core')(
    'an ICMP error for a UDP phone takes its bindings along (ffi only) [AP-7-07 EP-5.3.1-09]',
    async () => {
      const phone = await registrar.server.udp();
      const { aor } = await register(phone);
      await phone.close();
      // it meets no socket, and the host says so
      const first = (await caller.next(isFinal(call(caller, aor)))).message;
      expect(first.status).toBe(480);
      await boundBecomes(caller, aor, none);
      expect(await statusOf(caller, aor)).toBe(480);
    },
  );

  describe('a registration through another proxy', () => {
    const through = (edge: Agent) => ({
      via: edge.via(),
      moreVia: [`SIP/2.0/UDP 192.0.2.44;branch=${newBranch()}`],
      contactUri: 'sip:far@192.0.2.44:5070',
    });

    it('is reached over the flow of that proxy, its Path values as Route in order [RG-6-01 RG-6-17 AP-7-05 3327-5.3-01 3327-5.4-01]', async () => {
      const edge = await registrar.neighbour();
      const path = [`<${edge.uri('second')};lr>`, '<sip:first-token@192.0.2.45;lr;ob>'];
      const done = await register(edge, {
        ...through(edge),
        headers: [
          ['Path', path[0]],
          ['Path', path[1]],
        ],
      });
      expect(done.answer.all('Path')).toEqual(path);
      const callId = call(caller, done.aor);
      const got = await edge.only(isRequest('MESSAGE', callId));
      expect(got.message.uri).toBe('sip:far@192.0.2.44:5070');
      expect(got.message.all('Route')).toEqual(path);
    });

    it('has the same Path from one comma list as from two header fields [3327-4-01 3327-5.3-01]', async () => {
      const edge = await registrar.neighbour();
      const path = [`<${edge.uri('second')};lr>`, '<sip:first-token@192.0.2.45;lr;ob>'];
      const done = await register(edge, { ...through(edge), headers: [['Path', path.join(', ')]] });
      expect(done.answer.all('Path')).toEqual(path);
      const callId = call(caller, done.aor);
      expect((await edge.only(isRequest('MESSAGE', callId))).message.all('Route')).toEqual(path);
    });

    it('puts its Path ahead of a Route that the request still has [3327-5.4-01]', async () => {
      const edge = await registrar.neighbour();
      const path = `<${edge.uri('token')};lr;ob>`;
      const done = await register(edge, { ...through(edge), headers: [['Path', path]] });
      const { host, port } = registrar.server;
      const callId = call(caller, done.aor, 'MESSAGE', { route: [`<sip:${host}:${port};lr>`] });
      const got = await edge.only(isRequest('MESSAGE', callId));
      expect(got.message.all('Route')).toEqual([path]); // our own was taken off
    });

    it('replaces the Path with the binding when it comes another way [RG-6-17 RG-6-22]', async () => {
      const edge = await registrar.neighbour();
      const who = { user: unique('u'), instance: newInstance() };
      const by = (token: string) =>
        register(edge, { ...who, ...through(edge), headers: [['Path', `<${edge.uri(token)};lr;ob>`]] });
      await by('old');
      const { aor } = await by('new');
      const callId = call(caller, aor);
      const got = await edge.only(isRequest('MESSAGE', callId));
      expect(got.message.all('Route')).toEqual([`<${edge.uri('new')};lr;ob>`]);
    });

    it('from an untrusted source leads back to that source, whatever host its Path names [RG-6-20]', async () => {
      const liar = await registrar.neighbour();
      const victim = await registrar.neighbour();
      const { aor } = await register(liar, {
        ...through(liar),
        headers: [['Path', `<${victim.uri('token')};lr;ob>`]],
      });
      await liar.only(isRequest('MESSAGE', call(caller, aor)));
      await victim.expectNothing(50);
    });
  });
});

describe('a trusted edge', () => {
  let registrar: Registrar;
  let edge: Agent;
  beforeAll(async () => {
    registrar = await Registrar.start('memory', { settings: { TRUSTED: '127.0.0.0/8' } });
    edge = await registrar.neighbour();
  });
  afterAll(() => registrar?.close());

  it('is reached at the address that its Path names, all values as Route [3327-5.4-01 AP-7-05 RG-6-17]', async () => {
    const caller = await registrar.client();
    const other = await registrar.neighbour();
    const path = [`<${other.uri('second')};lr>`, `<${edge.uri('token')};lr;ob>`];
    const { aor, answer } = await register(edge, {
      via: edge.via(),
      moreVia: [`SIP/2.0/UDP 192.0.2.44;branch=${newBranch()}`],
      contactUri: 'sip:far@192.0.2.44:5070',
      headers: path.map((value) => ['Path', value]),
    });
    expect(answer.all('Require')).toEqual(['outbound']);
    const callId = call(caller, aor);
    const got = await other.only(isRequest('MESSAGE', callId));
    expect(got.message.uri).toBe('sip:far@192.0.2.44:5070');
    expect(got.message.all('Route')).toEqual(path);
  });
});

describe('as time passes', () => {
  let registrar: Registrar;
  let caller: Agent;
  afterEach(() => registrar?.close());

  const begin = async (settings = {}) => {
    registrar = await Registrar.start('memory', { clocked: true, settings });
    caller = await registrar.client();
  };

  it('a flow that stays silent past Flow-Timer and grace takes its bindings along, on both transports [AP-7-08 EP-5.4-07]', async () => {
    await begin();
    const phones = [await registrar.client('UDP'), await registrar.client('TCP')];
    const done = await Promise.all(phones.map((phone) => register(phone)));
    await registrar.server.advance(139_000);
    for (const { aor } of done) expect(await bound(caller, aor)).toHaveLength(1);
    await registrar.server.advance(2_000);
    for (const { aor } of done) {
      expect(await statusOf(caller, aor)).toBe(480);
      await boundBecomes(caller, aor, none);
    }
  });

  it('a flow with keep-alives outlives many Flow-Timers [RG-6-24 EP-5.4-09]', async () => {
    await begin();
    const phones = [await registrar.client('UDP'), await registrar.client('TCP')];
    const done = await Promise.all(phones.map((phone) => register(phone, { expires: 3600 })));
    for (let i = 0; i < 5; i++) {
      await registrar.server.advance(110_000);
      for (const phone of phones) await phone.probe();
    }
    for (const [i, { aor }] of done.entries()) await phones[i].only(isRequest('MESSAGE', call(caller, aor)));
  });

  it('a binding that is not refreshed is gone at its expiry [3261-10.3-03]', async () => {
    await begin();
    const phone = await registrar.client();
    const { aor } = await register(phone, { expires: 100 });
    await registrar.server.advance(60_000);
    await phone.probe();
    const [left] = await bound(caller, aor);
    expect(Number(left.params.get('expires'))).toBe(40);
    await registrar.server.advance(41_000);
    await phone.probe();
    expect(await bound(caller, aor)).toEqual([]);
    expect(await statusOf(caller, aor)).toBe(480);
  });
});
