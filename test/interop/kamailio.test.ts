/** Holdfast as the edge of a Kamailio core: the registrar stores Path and calls come down the flow. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { TcpAgent, UdpAgent } from '../harness/agent.ts';
import { composeRegister, newInstance, type RegisterOptions } from '../harness/flows.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { freshHost } from '../harness/ports.ts';
import { parseNameAddr, type SipMessage, unique } from '../harness/sip.ts';
import { Kamailio } from './kamailio.ts';
import { find } from './program.ts';

describe.skipIf(!find('kamailio'))('a Kamailio core behind the edge', () => {
  let kamailio: Kamailio;
  let edge: Holdfast;
  let caller: UdpAgent;
  const agents: Agent[] = [];

  beforeAll(async () => {
    kamailio = await Kamailio.core();
    const upstream = `sip:${kamailio.host}:${kamailio.port};transport=udp`;
    edge = await Holdfast.start({ settings: { UPSTREAM: upstream } });
    caller = await UdpAgent.open({ host: freshHost(), peer: kamailio, name: 'caller' });
  });
  afterAll(async () => {
    for (const agent of agents) await agent.close();
    await caller?.close();
    await edge?.stop();
    await kamailio?.stop();
  });

  async function client(transport: string): Promise<Agent> {
    const agent = transport === 'UDP' ? await edge.udp() : await edge.tcp();
    agents.push(agent);
    return agent;
  }

  async function register(
    agent: Agent,
    options: RegisterOptions = {},
  ): Promise<{ ok: SipMessage; user: string }> {
    const user = options.user ?? unique('u');
    const { bytes, callId } = composeRegister(agent, { domain: kamailio.host, ...options, user });
    agent.send(bytes);
    const { message } = await agent.next(isFinal(callId));
    return { ok: message, user };
  }

  /** Sends an INVITE for the user to Kamailio; returns its Call-ID. */
  function invite(user: string): string {
    const callId = unique('call-');
    const uri = `sip:${user}@${kamailio.host}:${kamailio.port}`;
    caller.send(caller.compose('INVITE', uri, { callId, contact: `<${caller.uri('caller')}>` }));
    return callId;
  }

  it.each(['UDP', 'TCP'])(
    'stores the Path with token and ob of a client over %s [EP-5.1-03 EP-5.1-08 3327-5.2-05]',
    async (transport) => {
      const phone = await client(transport);
      const { ok } = await register(phone);
      expect(ok.status).toBe(200);
      const path = parseNameAddr(ok.all('Path')[0]);
      expect(path.user).not.toBe('');
      expect(path.uriParams.has('ob')).toBe(true);
      expect(`${path.host}:${path.port}`).toBe(`${edge.host}:${edge.port}`);
      expect(ok.all('Require')).toContain('outbound');
      expect(ok.fields('Flow-Timer')).toHaveLength(1);
    },
  );

  it.each(['UDP', 'TCP'])(
    'calls a client over %s down its own flow, and the dialog works both ways [EP-5.3.1-01 EP-5.3.1-03 EP-5.3.2-04]',
    async (transport) => {
      const phone = await client(transport);
      const other = await client(transport);
      const { user } = await register(phone, { contactUri: 'sip:p@192.168.7.7:5060' });
      await register(other);
      const callId = invite(user);
      const got = await phone.next(isRequest('INVITE', callId));
      phone.reply(got, 200, 'OK', [['Contact', `<${phone.uri('p')};ob>`]]);
      const ok = (await caller.next(isResponse(200, callId))).message;
      const route = ok.all('Record-Route').reverse();
      const target = parseNameAddr(ok.header('Contact') as string).uri;
      const to = ok.header('To') as string;
      const from = ok.header('From') as string;
      caller.send(caller.compose('ACK', target, { callId, route, to, from }));
      const ack = await phone.next(isRequest('ACK', callId));
      expect(ack.message.header('Route')).toBeUndefined();
      // the phone hangs up
      const own = got.message.all('Record-Route');
      const bye = phone.compose('BYE', caller.uri('caller'), {
        callId,
        cseq: 2,
        route: own,
        to: from,
        from: to,
      });
      phone.send(bye);
      caller.reply(await caller.next(isRequest('BYE', callId)), 200, 'OK');
      await phone.next(isResponse(200, callId));
      await other.expectNothing();
    },
  );

  it('reaches the right one of two clients of one host [EP-5.1-06]', async () => {
    const host = freshHost();
    const phones = [await edge.udp({ host }), await edge.udp({ host }), await edge.tcp({ localHost: host })];
    agents.push(...phones);
    const users: string[] = [];
    for (const phone of phones) users.push((await register(phone)).user);
    for (const [i, phone] of phones.entries()) {
      const callId = invite(users[i]);
      phone.reply(await phone.only(isRequest('INVITE', callId)), 486, 'Busy Here');
      await caller.next(isResponse(486, callId));
    }
  });

  it('hears 430 after the client has gone [EP-5.3.1-05 GR-11.5-01]', async () => {
    const phone = await TcpAgent.connect({ peer: edge.address, localHost: freshHost() });
    const { user } = await register(phone);
    await phone.close();
    const callId = invite(user);
    expect((await caller.next(isFinal(callId))).message.status).toBe(430);
  });

  it('sees a new token after the client has come back, and calls it there [EP-3.4-01 RG-6-22]', async () => {
    const options = { user: unique('u'), instance: newInstance(), callId: unique('reg-') };
    const first = await TcpAgent.connect({ peer: edge.address, localHost: freshHost() });
    const before = await register(first, options);
    await first.reset();
    const second = (await client('TCP')) as TcpAgent;
    const after = await register(second, { ...options, cseq: 2 });
    expect(after.ok.all('Path')).not.toEqual(before.ok.all('Path'));
    const callId = invite(options.user);
    second.reply(await second.next(isRequest('INVITE', callId)), 486, 'Busy Here');
    expect((await caller.next(isFinal(callId))).message.status).toBe(486);
  });
});
