/**
 * Dialogs whose remote target is a GRUU: who records itself, and where requests in the dialog go. RFC 5627
 * sections 6.1 (the stored Path) and 6.2, RFC 3327 section 5.4.
 *
 * Edges are played by the test: what they get they answer in the name of the phone behind them, with a
 * Record-Route of their own on top.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Agent, UdpAgent } from '../harness/agent.ts';
import { type Edge, startEdge } from '../harness/edge.ts';
import { type Device, device } from '../harness/gruus.ts';
import { type Arrival, isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { aorOf, type Site, startSite } from '../harness/places.ts';
import { contactsOf, DOMAIN, register, STORES } from '../harness/registrar.ts';
import { type Header, newBranch, OMIT, parseNameAddr, unique } from '../harness/sip.ts';

const BOTH = ['UDP', 'TCP'] as const;
const KINDS = ['public', 'temporary'] as const;

interface Dialog {
  callId: string;
  from: string;
  to: string;
  /** Record-Route as it came to the callee, and in the response as the caller has it */
  atCallee: string[];
  atCaller: string[];
}

/** The callee answers with this Contact; an edge puts its own Record-Route on top. */
function accept(invite: Arrival, contact: string, ownRoute?: string): void {
  const recorded: Header[] = ownRoute === undefined ? [] : [['Record-Route', ownRoute]];
  const rest = invite.message.all('Record-Route').map((value): Header => ['Record-Route', value]);
  const head = ['Via', 'From', 'Call-ID', 'CSeq'].flatMap((name) =>
    invite.message.fields(name).map((value): Header => [name, value]),
  );
  const lines = [
    ...head,
    ...recorded,
    ...rest,
    ['To', `${invite.message.header('To')};tag=callee`],
    ['Contact', contact],
    ['Content-Length', '0'],
  ];
  const text = `SIP/2.0 200 OK\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;
  invite.answer(Buffer.from(text, 'latin1'));
}

/** A call that is set up: `caller` sends it, `callee` accepts it. */
async function dialog(
  caller: Agent,
  uri: string,
  callee: Agent,
  contacts: { caller?: string; callee: string; edge?: string; headers?: Header[] },
): Promise<Dialog> {
  const callId = unique('dialog-');
  const from = `<sip:caller@example.test>;tag=${unique('f')}`;
  const contact = contacts.caller ?? `<${caller.uri('caller')}>`;
  caller.send(caller.compose('INVITE', uri, { callId, from, contact, headers: contacts.headers ?? [] }));
  const invite = await callee.next(isRequest('INVITE', callId));
  accept(invite, contacts.callee, contacts.edge);
  const ok = (await caller.next(isFinal(callId))).message;
  expect(ok.status).toBe(200);
  return {
    callId,
    from,
    to: ok.header('To') as string,
    atCallee: invite.message.all('Record-Route'),
    atCaller: ok.all('Record-Route'),
  };
}

/** What the caller sends in the dialog, to the remote target along the route set. */
function fromCaller(caller: Agent, d: Dialog, method: string, target: string): void {
  const { callId, from, to } = d;
  const route = d.atCaller.toReversed();
  caller.send(caller.compose(method, target, { callId, from, to, cseq: 2, route, contact: OMIT }));
}

/** What the callee sends, from the other end. */
function fromCallee(callee: Agent, d: Dialog, method: string, target: string, route = d.atCallee): void {
  callee.send(
    callee.compose(method, target, {
      callId: d.callId,
      from: d.to,
      to: d.from,
      cseq: 7,
      route,
      contact: OMIT,
    }),
  );
}

describe.each(STORES)('with the %s store', (store) => {
  let site: Site;
  let server: string;
  beforeAll(async () => {
    site = await startSite(store);
    server = `${site.registrar.server.host}:${site.registrar.server.port}`;
  });
  afterAll(() => site?.close());

  const isOurs = (route: string) => {
    const { host, port, uriParams } = parseNameAddr(route);
    return `${host}:${port}` === server && uriParams.has('lr');
  };
  const edgeRoute = (edge: Agent) => `<${edge.uri(unique('rr'))};lr>`;

  describe.each(KINDS)('a phone behind an edge that answers with its %s GRUU', (kind) => {
    it.each(BOTH)(
      'is called over %s: the proxy records itself, and the BYE goes along Route, without the Path [5627-6.1-05 3327-5.4-02 5627-6.2-02 5627-6.1-06]',
      async (transport) => {
        const caller = await site.caller(transport);
        const called = await device(site, { user: unique('u'), over: 'edge' });
        const edge = edgeRoute(called.agent);
        const d = await dialog(caller, aorOf(called.user), called.agent, {
          callee: `<${called.gruus[kind]}>`,
          edge,
        });
        expect(d.atCallee.length).toBeGreaterThan(0);
        expect(d.atCallee.every(isOurs)).toBe(true);
        for (const method of ['ACK', 'BYE']) {
          fromCaller(caller, d, method, called.gruus[kind]);
          const got = await called.agent.next(isRequest(method, d.callId));
          expect(got.message.uri).toBe(called.contactUri);
          expect(got.message.all('Route')).toEqual([edge]);
          if (method === 'BYE') called.agent.reply(got, 200, 'OK');
        }
        expect((await caller.next(isFinal(d.callId))).message.status).toBe(200);
        // and the other way: what the proxy recorded leads to the caller
        fromCallee(called.agent, d, 'INFO', caller.uri('caller'));
        const info = await caller.next(isRequest('INFO', d.callId));
        expect(info.message.all('Route')).toEqual([]);
      },
    );

    it('gets it at the contact of the flow that Route names, though another is newer [5627-6.1-05]', async () => {
      const caller = await site.caller();
      const same = { user: unique('u'), instance: `urn:uuid:${crypto.randomUUID()}`, over: 'edge' } as const;
      const old = await device(site, { ...same, regId: 1 });
      const fresh = await device(site, { ...same, regId: 2 });
      const callId = unique('mid-');
      caller.send(
        caller.compose('BYE', fresh.gruus[kind], {
          callId,
          to: `<${fresh.aor}>;tag=1`,
          route: [`<sip:${server};lr>`, old.path as string],
        }),
      );
      const got = await old.agent.next(isRequest('BYE', callId));
      expect(got.message.uri).toBe(old.contactUri);
      expect(got.message.all('Route')).toEqual([old.path]);
    });
  });

  describe.each(BOTH)('a phone on a flow of ours over %s', (transport) => {
    it('that answers with a GRUU gets ACK and BYE at its Contact, down that flow [5627-6.1-06 5627-6.2-02]', async () => {
      for (const kind of KINDS) {
        const caller = await site.caller(transport);
        const called = await device(site, { user: unique('u'), over: transport });
        const d = await dialog(caller, called.gruus[kind], called.agent, {
          callee: `<${called.gruus[kind]}>`,
        });
        expect(d.atCallee.every(isOurs)).toBe(true);
        for (const method of ['ACK', 'BYE']) {
          fromCaller(caller, d, method, called.gruus[kind]);
          const got = await called.agent.next(isRequest(method, d.callId));
          expect(got.message.uri).toBe(called.contactUri);
          expect(got.message.all('Route')).toEqual([]);
        }
      }
    });

    it('that calls with a GRUU gets BYE at its Contact, down that flow [5627-6.2-01]', async () => {
      const calling = await device(site, { user: unique('u'), over: transport });
      const called = await device(site, { user: unique('u') });
      const d = await dialog(calling.agent, called.aor, called.agent, {
        caller: `<${calling.gruus.temporary}>`,
        callee: `<${called.gruus.public}>`,
      });
      expect(d.atCallee.every(isOurs)).toBe(true);
      fromCallee(called.agent, d, 'BYE', calling.gruus.temporary);
      const got = await calling.agent.next(isRequest('BYE', d.callId));
      expect(got.message.uri).toBe(calling.contactUri);
      expect(got.message.all('Route')).toEqual([]);
    });

    it('with two flows gets it on the one that Route names, at the Contact of that one', async () => {
      const caller = await site.caller();
      const same = { user: unique('u'), instance: `urn:uuid:${crypto.randomUUID()}`, over: transport };
      const old = await device(site, { ...same, regId: 1 });
      const d = await dialog(caller, old.aor, old.agent, { callee: `<${old.gruus.public}>` });
      const fresh = await device(site, { ...same, regId: 2 });
      expect(fresh.gruus.public).toBe(old.gruus.public);
      fromCaller(caller, d, 'BYE', old.gruus.public);
      const got = await old.agent.next(isRequest('BYE', d.callId));
      expect(got.message.uri).toBe(old.contactUri);
    });

    it('whose temporary GRUU has ended is still reached by the Route of its dialog', async () => {
      const caller = await site.caller();
      const called = await device(site, { user: unique('u'), over: transport });
      const target = called.gruus.temporary;
      const d = await dialog(caller, called.aor, called.agent, { callee: `<${target}>` });
      const [{ instance }] = contactsOf(called.answer);
      const urn = instance?.slice(2, -2) as string;
      await register(called.agent, { user: called.user, instance: urn, contactUri: called.contactUri });
      fromCaller(caller, d, 'BYE', target);
      expect((await called.agent.next(isRequest('BYE', d.callId))).message.uri).toBe(target);
      const outside = unique('out-');
      caller.send(caller.compose('MESSAGE', target, { callId: outside }));
      expect((await caller.next(isFinal(outside))).message.status).toBe(404);
    });
  });

  describe('a phone behind an edge that calls somebody elsewhere', () => {
    const invite = (edge: UdpAgent, to: Agent, contact: string, headers: Header[]) => {
      const callId = unique('out-');
      const moreVia = [`SIP/2.0/UDP 192.0.2.44;branch=${newBranch()}`];
      edge.send(edge.compose('INVITE', to.uri('far'), { callId, contact: `<${contact}>`, headers, moreVia }));
      return callId;
    };
    const recorded = async (contact: (d: Device) => string, recordRoute = true) => {
      const calling = await device(site, { user: unique('u'), over: 'edge' });
      const far = await site.caller();
      const own = edgeRoute(calling.agent);
      const headers: Header[] = recordRoute ? [['Record-Route', own]] : [];
      const callId = invite(calling.agent as UdpAgent, far, contact(calling), headers);
      const got = await far.next(isRequest('INVITE', callId));
      return { calling, far, own, callId, routes: got.message.all('Record-Route') };
    };

    it.each(KINDS)(
      'with its %s GRUU as Contact: the proxy records itself above the edge, and the BYE goes back that way [5627-6.2-01]',
      async (kind) => {
        const { calling, far, own, callId, routes } = await recorded(({ gruus }) => gruus[kind]);
        expect(routes).toEqual([`<sip:${server};lr>`, own]);
        const d = { callId, from: '<sip:a@x>;tag=1', to: '<sip:b@x>;tag=2', atCallee: routes, atCaller: [] };
        fromCallee(far, d, 'BYE', calling.gruus[kind]);
        const bye = await calling.agent.next(isRequest('BYE', callId));
        expect(bye.message.uri).toBe(calling.contactUri);
        expect(bye.message.all('Route')).toEqual([own]);
      },
    );

    it('with any other Contact, an invented GRUU, or without Record-Route: it does not [5627-6.2-01]', async () => {
      const plain = await recorded(({ contactUri }) => contactUri);
      expect(plain.routes).toEqual([plain.own]);
      const invented = await recorded(({ user }) => `sip:${user}@${DOMAIN};gr=1`);
      expect(invented.routes).toEqual([invented.own]);
      expect((await recorded(({ gruus }) => gruus.public, false)).routes).toEqual([]);
    });
  });

  it('a call from one edge to a phone behind another: the proxy records itself in between [5627-6.2-02]', async () => {
    const from = await site.edge();
    const called = await device(site, { user: unique('u'), over: 'edge' });
    const own = edgeRoute(from);
    const d = await dialog(from, called.aor, called.agent, {
      callee: `<${called.gruus.public}>`,
      edge: called.path as string,
      headers: [['Record-Route', own]],
    });
    expect(d.atCallee).toEqual([`<sip:${server};lr>`, own]);
    fromCallee(called.agent, d, 'BYE', 'sip:caller@192.0.2.45:5080');
    const bye = await from.next(isRequest('BYE', d.callId));
    expect([bye.message.uri, bye.message.all('Route')]).toEqual(['sip:caller@192.0.2.45:5080', [own]]);
    fromCaller(from, { ...d, atCaller: d.atCaller.slice(0, -1) }, 'INFO', called.gruus.public);
    const info = await called.agent.next(isRequest('INFO', d.callId));
    expect([info.message.uri, info.message.all('Route')]).toEqual([called.contactUri, [called.path]]);
  });

  it('to a contact without instance-id behind an edge it does not record itself [5627-6.2-02]', async () => {
    const caller = await site.caller();
    const edge = await site.edge();
    const user = unique('u');
    await register(edge, {
      user,
      contact: `<sip:${user}@192.0.2.44>`,
      via: edge.via(),
      moreVia: [`SIP/2.0/UDP 192.0.2.44;branch=${newBranch()}`],
      headers: [['Path', `<${edge.uri('token')};lr;ob>`]],
    });
    const d = await dialog(caller, aorOf(user), edge, { callee: `<sip:${user}@192.0.2.44>` });
    expect(d.atCallee).toEqual([]);
  });
});

describe('an edge in front of a core', () => {
  let edge: Edge;
  beforeAll(async () => {
    edge = await startEdge();
  });
  afterAll(() => edge?.close());

  it.each(BOTH)(
    'whose client over %s has a GRUU with ob as Contact adds the token of its flow [5627-4.4-02]',
    async (transport) => {
      const client = await edge.client(transport);
      const callId = unique('call-');
      const contact = `<sip:u@example.test;gr=kjh29x97us97d;ob>`;
      client.send(client.compose('INVITE', 'sip:far@example.test', { callId, contact }));
      const invite = await edge.core.next(isRequest('INVITE', callId));
      const routes = invite.message.all('Record-Route');
      for (const route of routes) expect(parseNameAddr(route).user).toMatch(/^[A-Za-z0-9_-]{32,}$/);
      expect(routes).toHaveLength(transport === 'UDP' ? 1 : 2);
      edge.core.reply(invite, 200, 'OK', [['Contact', `<${edge.core.uri('far')}>`]]);
      await client.next(isResponse(200, callId));
      // as the client's own domain sends it: the GRUU has become the Contact that was registered
      edge.core.send(
        edge.core.compose('BYE', client.uri('u'), { callId, cseq: 3, route: routes, contact: OMIT }),
        edge.server.address,
      );
      expect((await client.next(isRequest('BYE', callId))).message.uri).toBe(client.uri('u'));
    },
  );
});
