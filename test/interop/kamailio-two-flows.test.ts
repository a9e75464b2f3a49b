/**
 * A device with two flows, one through each of two edges. The flow that is tried first ends, or its edge
 * dies: a call and a message arrive by the other flow, and the caller sees one 200 and no 430 (RFC 5626
 * section 7).
 *
 * First with Kamailio as both edges and Holdfast as the core, then the other way round. What Kamailio 5.6
 * does not do as an edge: a UDP flow whose client has gone is not noticed, it waits for tm's timer (3 s here).
 * As a core (t_load_contacts, t_next_contacts, t_next_contact_flow): of flows with Path the one that was
 * registered first is tried first, not last (AP-7-09); a flow that answered 430 stays registered and is tried
 * first again (AP-7-10); a dead edge is known by tm's timer alone (2 s here), and forgotten the same way.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Address, type Agent, TcpAgent, UdpAgent } from '../harness/agent.ts';
import { composeRegister, newInstance } from '../harness/flows.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { isFinal, isRequest } from '../harness/inbox.ts';
import { Call } from '../harness/places.ts';
import { freshHost } from '../harness/ports.ts';
import { bound, boundBecomes, contactsOf, DOMAIN } from '../harness/registrar.ts';
import { unique } from '../harness/sip.ts';
import { Kamailio } from './kamailio.ts';
import { find } from './program.ts';

interface Edge extends Address {
  kill(): Promise<unknown>;
  stop(): Promise<void>;
}

const TRANSPORTS = ['UDP', 'TCP'] as const;
type Transport = (typeof TRANSPORTS)[number];
const METHODS = ['INVITE', 'MESSAGE'];

class Net {
  domain = DOMAIN;
  /** the core tries the flow that was registered last */
  lastIsFirst = true;
  caller!: UdpAgent;
  /** the edge of the flow that is tried first, and the other one */
  first!: Edge;
  second!: Edge;
  readonly #closing: (() => Promise<unknown>)[] = [];

  /** Two Kamailios before a Holdfast. */
  async kamailioEdges(): Promise<void> {
    // an edge needs to know its core when it starts, so the core trusts every host that this test may take
    const network = `${freshHost().split('.').slice(0, 3).join('.')}.0/24`;
    const settings = { DOMAINS: DOMAIN, STORE: 'memory:', TRUSTED: network, FLOW_ANSWER_S: '1' };
    const core = this.#stopped(await Holdfast.start({ settings }));
    this.first = this.#stopped(await Kamailio.edge(core));
    this.second = this.#stopped(await Kamailio.edge(core));
    await this.#call(core);
  }

  /** Two Holdfasts before a Kamailio. */
  async holdfastEdges(): Promise<void> {
    const core = this.#stopped(await Kamailio.core({ flows: true }));
    this.domain = core.host;
    this.lastIsFirst = false;
    const settings = { UPSTREAM: `sip:${core.host}:${core.port};transport=udp`, FLOW_ANSWER_S: '1' };
    this.first = this.#stopped(await Holdfast.start({ settings }));
    this.second = this.#stopped(await Holdfast.start({ settings }));
    await this.#call(core);
  }

  async #call({ host, port }: Address): Promise<void> {
    this.caller = await UdpAgent.open({ host: freshHost(), peer: { host, port }, name: 'caller' });
    this.#closing.push(() => this.caller.close());
  }

  #stopped<T extends { stop(): Promise<void> }>(it: T): T {
    this.#closing.push(() => it.stop());
    return it;
  }

  async open(transport: Transport, { host, port }: Address): Promise<Agent> {
    const localHost = freshHost();
    const peer = { host, port };
    const agent =
      transport === 'UDP'
        ? await UdpAgent.open({ host: localHost, peer, name: 'UDP flow' })
        : await TcpAgent.connect({ peer, localHost, name: 'TCP flow' });
    this.#closing.push(() => agent.close().catch(() => {}));
    return agent;
  }

  async close(): Promise<void> {
    await Promise.all(this.#closing.map((close) => close()));
  }
}

interface Device {
  aor: string;
  user: string;
  first: Agent;
  second: Agent;
}

/** Both flows, the one that is tried first by this core registered last, or first. */
async function device(net: Net, transport: Transport): Promise<Device> {
  const user = unique('u');
  const instance = newInstance();
  const [first, second] = await Promise.all([
    net.open(transport, net.first),
    net.open(transport, net.second),
  ]);
  for (const [i, agent] of (net.lastIsFirst ? [second, first] : [first, second]).entries()) {
    const regId = i + 1;
    const { callId, bytes } = composeRegister(agent, { domain: net.domain, user, instance, regId });
    agent.send(bytes);
    const { message } = await agent.next(isFinal(callId));
    expect(message.startLine).toBe('SIP/2.0 200 OK');
    expect(message.all('Require')).toContain('outbound');
    expect(contactsOf(message)).toHaveLength(regId);
  }
  return { aor: `sip:${user}@${net.domain}`, user, first, second };
}

/** The caller's request comes by this flow and is answered; the caller sees one 200 and nothing else. */
async function arrives(net: Net, { aor, user }: Device, method: string, by: Agent): Promise<void> {
  const call = new Call(net.caller, aor, method);
  const got = await by.next(isRequest(method, call.callId));
  by.reply(got, 200, 'OK', method === 'INVITE' ? [['Contact', `<${by.uri(user)};ob>`]] : []);
  expect((await call.final()).startLine).toBe('SIP/2.0 200 OK');
  expect(call.rest().filter((m) => m.status > 100)).toEqual([]);
}

const each = TRANSPORTS.flatMap((transport) => METHODS.map((method) => [transport, method] as const));

describe.skipIf(!find('kamailio')).each(['Kamailio', 'Holdfast'] as const)('two %s edges', (edges) => {
  const net = new Net();
  beforeAll(() => (edges === 'Kamailio' ? net.kamailioEdges() : net.holdfastEdges()));
  afterAll(() => net.close());

  it.each(each)(
    'with a flow over %s through each: %s comes by one alone [AP-7-01]',
    async (transport, method) => {
      const phone = await device(net, transport);
      await arrives(net, phone, method, phone.first);
      await phone.second.expectNothing();
    },
  );

  it.each(METHODS)(
    'whose client has closed its connection: 430, and %s comes by the other flow [AP-7-02 AP-7-11 EP-5.3.1-05]',
    async (method) => {
      const phone = await device(net, 'TCP');
      await phone.first.close();
      await arrives(net, phone, method, phone.second);
      const left = (contacts: { regId: string | undefined }[]) => contacts.map((c) => c.regId).join();
      if (edges === 'Kamailio')
        await boundBecomes(net.caller, phone.aor, (contacts) => left(contacts) === '1');
      await arrives(net, phone, method, phone.second);
    },
  );

  it.each(METHODS)(
    'whose client over UDP has gone: %s comes by the other flow [AP-7-02 AP-7-04]',
    async (method) => {
      const phone = await device(net, 'UDP');
      await phone.first.close();
      await arrives(net, phone, method, phone.second);
    },
  );

  // the edge stays dead, so these come last
  it('of which one is killed: INVITE and MESSAGE come by the other flow [AP-7-04]', async () => {
    const phones = await Promise.all(
      each.map(async ([transport, method]) => ({ method, phone: await device(net, transport) })),
    );
    await net.first.kill();
    await Promise.all(phones.map(({ phone, method }) => arrives(net, phone, method, phone.second)));
    if (edges === 'Kamailio')
      for (const { phone } of phones) expect(await bound(net.caller, phone.aor)).toHaveLength(2);
  });
});
