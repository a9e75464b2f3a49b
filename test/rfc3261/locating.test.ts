/**
 * Where the requests of an edge go when its upstream is a name, or several: RFC 3263, with a name server of the test's
 * own that writes down each question.
 */
import { afterEach, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { composeRegister, registerFlow, sendDown } from '../harness/flows.ts';
import { isRequest, isResponse } from '../harness/inbox.ts';
import { unique } from '../harness/sip.ts';
import { ask, nowhere, Site, served, whichever } from '../harness/site.ts';

let site: Site | undefined;
const prepare = async () => {
  site = await Site.prepare();
  return site;
};
afterEach(() => site?.close());

describe('an upstream that is', () => {
  it('numeric needs no name server [3263-4.1-01]', async () => {
    const site = await prepare();
    const core = await site.udp();
    await site.start(`sip:${core.hostPort}`);
    await served(await site.client(), core);
    expect(site.dns.questions).toEqual([]);
  });

  it('a name with a port is asked for by its addresses alone, and reached over UDP [3263-4.1-01 3263-4.2-01]', async () => {
    const site = await prepare();
    const core = await site.udp();
    site.dns.add('A', 'core.test', core.host);
    await site.start(`sip:core.test:${core.port}`);
    await served(await site.client(), core);
    expect(site.dns.questions).toEqual(['A core.test']);
  });

  it('a name with a transport is asked for by the SRV of that transport [3263-4.1-01 3263-4.2-01]', async () => {
    const site = await prepare();
    const core = await site.tcp();
    site.servers('tcp', [[core, 1]]).servers('udp', [[await nowhere(), 1]]);
    await site.start('sip:core.test;transport=tcp');
    await served(await site.client(), core);
    expect(site.dns.questions).toEqual(['SRV _sip._tcp.core.test', 'A s0.test']);
  });

  it('a bare name goes by NAPTR: the preferred service that we speak, here TCP [3263-4.1-01]', async () => {
    const site = await prepare();
    const core = await site.tcp();
    site.dns
      .naptr('core.test', 10, 10, 'SIPS+D2T', '_sips._tcp.core.test')
      .naptr('core.test', 20, 10, 'SIP+D2T', '_sip._tcp.elsewhere.test')
      .naptr('core.test', 30, 10, 'SIP+D2U', '_sip._udp.core.test')
      .srv('_sip._tcp.elsewhere.test', 1, 1, core.port, 's.test')
      .add('A', 's.test', core.host);
    await site.start('sip:core.test');
    const client = await site.client();
    const { message } = await served(client, core);
    expect(message.via[0].transport).toBe('TCP');
    // so the way back leads to where we take TCP
    expect((await registerFlow(client, core)).path).toContain(`@${site.host}:${site.port};transport=tcp;`);
    expect(site.dns.questions).toEqual(['NAPTR core.test', 'SRV _sip._tcp.elsewhere.test', 'A s.test']);
  });

  it('a bare name without NAPTR goes by the SRV that it has [3263-4.1-01]', async () => {
    const site = await prepare();
    const core = await site.tcp();
    site.servers('tcp', [[core, 1]]);
    await site.start('sip:core.test');
    await served(await site.client(), core);
    expect(site.dns.questions[0]).toBe('NAPTR core.test');
    expect(site.dns.questions).toContain('SRV _sip._udp.core.test');
  });

  it('a bare name with an address alone is reached over UDP at 5060 [3263-4.1-01 3263-4.2-01]', async () => {
    const site = await prepare();
    const core = await site.udp({ port: 5060 });
    site.dns.add('A', 'core.test', core.host);
    await site.start('sip:core.test');
    await served(await site.client(), core);
  });

  it('two URIs is the first, and the second while the first is down [3263-4.3-01]', async () => {
    const site = await prepare();
    const [first, second] = [await site.tcp(), await site.udp()];
    await site.start(`sip:${first.hostPort};transport=tcp,sip:${second.hostPort}`);
    const client = await site.client();
    await served(client, first);
    for (const connection of [...first.connections]) await connection.reset();
    await first.close();
    await served(client, second);
  });
});

describe('a request that needs no name', () => {
  it('does no DNS: a flow token names the flow, whatever the Contact says [3263-x-01]', async () => {
    const site = await prepare();
    const core = await site.udp();
    site.dns.add('A', 'core.test', core.host);
    await site.start(`sip:core.test:${core.port}`);
    const phone = await site.client();
    const flow = await registerFlow(phone, core, { contact: '<sip:u@phone.invalid;transport=udp>;reg-id=1' });
    const asked = site.dns.asked.length;
    const callId = sendDown(core, flow, 'MESSAGE', { uri: 'sip:u@phone.invalid' });
    await phone.next(isRequest('MESSAGE', callId));
    expect(site.dns.asked.length).toBe(asked);
  });
});

describe('a name that a request brings', () => {
  const started = async () => {
    const site = await prepare();
    const [core, far] = [await site.udp(), await site.udp()];
    site.dns.srv('_sip._udp.far.test', 1, 1, far.port, 'host.far.test').add('A', 'host.far.test', far.host);
    await site.start(`sip:${core.hostPort}`);
    const toName = (from: Agent, host: string, route?: string[]) => {
      const callId = unique('call-');
      const options = route === undefined ? { callId } : { callId, route };
      from.send(from.compose('MESSAGE', `sip:bob@${host}`, options));
      return callId;
    };
    return { site, core, far, toName };
  };

  it('is resolved for the upstream, once for its TTL [3263-4.1-01]', async () => {
    const { site, core, far, toName } = await started();
    for (let i = 0; i < 3; i++) {
      const callId = toName(core, 'far.test');
      far.reply(await far.next(isRequest('MESSAGE', callId)), 200, 'OK');
      await core.next(isResponse(200, callId));
    }
    expect(site.dns.questions.filter((question) => question === 'A host.far.test')).toHaveLength(1);
  });

  it('that is nowhere is 404, one under .invalid without a question', async () => {
    const { site, core, toName } = await started();
    await core.next(isResponse(404, toName(core, 'nowhere.test')));
    const asked = site.dns.asked.length;
    await core.next(isResponse(404, toName(core, 'phone.invalid')));
    expect(site.dns.asked.length).toBe(asked);
  });

  it('about which the name server is silent is 503, and holds up nobody else', async () => {
    const { site, core, toName } = await started();
    site.dns.script = () => [];
    const callId = toName(core, 'far.test');
    await served(await site.client(), core);
    expect(core.arrivals.filter(isResponse(undefined, callId))).toEqual([]);
    await core.next(isResponse(503, callId));
  });

  it('is not even asked about for who may not choose a next hop', async () => {
    const { site, toName } = await started();
    const client = await site.client();
    await client.next(isResponse(403, toName(client, 'example.test', ['<sip:far.test;lr>'])));
    expect(site.dns.asked).toEqual([]);
  });

  it('in the Path of a binding is resolved for a request to it [3263-4.2-01]', async () => {
    const site = await prepare();
    const edge = await site.udp();
    site.dns.add('A', 'edge.test', edge.host);
    await site.start('', { settings: { DOMAINS: 'example.test', STORE: 'memory:', TRUSTED: edge.host } });
    const { bytes, callId, aor } = composeRegister(edge, {
      moreVia: ['SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKphone'],
      headers: [['Path', `<sip:token@edge.test:${edge.port};lr;ob>`]],
    });
    edge.send(bytes);
    await edge.next(isResponse(200, callId));
    const client = await site.client();
    for (let i = 0; i < 2; i++) {
      const call = unique('call-');
      client.send(client.compose('MESSAGE', aor, { callId: call }));
      const got = await edge.next(isRequest('MESSAGE', call));
      expect(got.message.all('Route')).toEqual([`<sip:token@edge.test:${edge.port};lr;ob>`]);
      edge.reply(got, 200, 'OK');
      await client.next(isResponse(200, call));
    }
    expect(site.dns.questions).toEqual(['A edge.test']);
  });
});

describe('the servers of an SRV list', () => {
  it('are given requests by priority: the second one nothing while the first lives [3263-4.3-03]', async () => {
    const site = await prepare();
    const [first, second] = [await site.udp(), await site.udp()];
    site.servers('udp', [
      [second, 20],
      [first, 10],
    ]);
    await site.start('sip:core.test');
    const client = await site.client();
    for (let i = 0; i < 10; i++) await served(client, first);
    await second.expectNothing();
  });

  it.each(['stateful', 'stateless'])('share the load by weight, %s [3263-4.3-03]', async (forwarding) => {
    const site = await prepare();
    const [light, heavy] = [await site.udp(), await site.udp()];
    site.servers('udp', [
      [light, 1, 1],
      [heavy, 1, 3],
    ]);
    await site.start('sip:core.test', { settings: { FORWARDING: forwarding } });
    const client = await site.client();
    const got = new Map<unknown, number>();
    for (let round = 0; round < 10; round++) {
      const calls = Array.from({ length: 20 }, () => ask(client));
      for (const callId of calls) {
        const [core, arrival] = await whichever([light, heavy], isRequest('MESSAGE', callId));
        core.reply(arrival, 200, 'OK');
        got.set(core, (got.get(core) ?? 0) + 1);
        await client.next(isResponse(200, callId));
      }
    }
    // 50 of 200 expected, standard deviation 6.1
    expect(got.get(light)).toBeGreaterThan(20);
    expect(got.get(light)).toBeLessThan(80);
  });

  it('keep their clients: a REGISTER with the answer to a challenge finds the server that made it', async () => {
    const site = await prepare();
    const cores = [await site.udp(), await site.udp(), await site.udp()];
    site.servers(
      'udp',
      cores.map((core) => [core, 1]),
    );
    await site.start('sip:core.test');
    const client = await site.client();
    for (let i = 0; i < 10; i++) {
      const callId = unique('reg-');
      const hosts = new Set<string>();
      for (let cseq = 1; cseq <= 2; cseq++) {
        client.send(client.compose('REGISTER', 'sip:example.test', { callId, cseq }));
        const [core, got] = await whichever(cores, isRequest('REGISTER', callId));
        hosts.add(core.host);
        core.reply(got, 401, 'Unauthorized');
        await client.next(isResponse(401, callId));
      }
      expect(hosts.size).toBe(1);
    }
  });
});

describe('when the name servers', () => {
  it('are down after the start, requests go on to the last known targets', async () => {
    const site = await prepare();
    const core = await site.udp();
    site.servers('udp', [[core, 1]], 1);
    await site.start('sip:core.test');
    const client = await site.client();
    await served(client, core);
    await site.dns.close();
    await new Promise((r) => setTimeout(r, 1_500)); // the TTL ends
    await served(client, core);
  });

  it('change their answer, requests follow within its TTL, and the new target is believed', async () => {
    const site = await prepare();
    const [old, fresh] = [await site.udp(), await site.udp()];
    site.dns.srv('_sip._udp.core.test', 1, 1, old.port, 'old.test', 1).add('A', 'old.test', old.host, 1);
    await site.start('sip:core.test');
    const client = await site.client();
    await served(client, old);
    site.dns.remove('SRV', '_sip._udp.core.test');
    site.dns.srv('_sip._udp.core.test', 1, 1, fresh.port, 'new.test', 1).add('A', 'new.test', fresh.host, 1);
    await site.server.logged((l) => l.event === 'upstream-resolved' && `${l.targets}` === fresh.hostPort);
    for (let core = old; core !== fresh; ) {
      const callId = ask(client); // one may still meet a shard that has not read its mail
      const [by, got] = await whichever([old, fresh], isRequest('MESSAGE', callId));
      by.reply(got, 200, 'OK');
      core = by;
    }
    // only the upstream's word sends a request to an address that no token names
    const callId = unique('call-');
    fresh.send(fresh.compose('MESSAGE', client.uri('u'), { callId }));
    await client.next(isRequest('MESSAGE', callId));
  });

  it('are down at the start, requests are answered 503 with Retry-After until they are back', async () => {
    const site = await prepare();
    const core = await site.udp();
    site.servers('udp', [[core, 1]]);
    let down = true;
    site.dns.script = () => (down ? [] : undefined);
    await site.start('sip:core.test');
    const client = await site.client();
    const refused = await client.next(isResponse(503, ask(client)));
    expect(refused.message.all('Retry-After')).toHaveLength(1);
    await site.server.logged((l) => l.event === 'upstream-unresolved' && l.level === 40);
    down = false;
    await site.server.logged((l) => l.event === 'upstream-resolved', 15_000);
    await served(client, core);
  }, 40_000);
});
