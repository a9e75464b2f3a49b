/**
 * A response whose connection is gone, and whose source takes no new one: it goes to what the sent-by of its Via
 * names (RFC 3261 18.2.2, RFC 3263 5), for a peer that is trusted.
 */
import { afterEach, describe, expect, it } from 'vitest';
import { TcpAgent, TcpCore, type UdpAgent } from '../harness/agent.ts';
import { type Arrival, isRequest, isResponse } from '../harness/inbox.ts';
import { freshHost } from '../harness/ports.ts';
import { unique } from '../harness/sip.ts';
import { nowhere, Site, served } from '../harness/site.ts';

let site: Site | undefined;
afterEach(() => site?.close());

/** A core that answers over UDP, and a peer that hangs up before it does. */
async function prepare(trusted = true): Promise<{ site: Site; core: UdpAgent; peer: string }> {
  site = await Site.prepare();
  const core = await site.udp();
  const peer = freshHost();
  await site.start(`sip:${core.hostPort}`, { settings: { ...(trusted && { TRUSTED: `${peer}/32` }) } });
  return { site, core, peer };
}

/** Sends an INVITE with this sent-by, hangs up, and has it answered until the response has come to one of `servers`, or `done`. */
async function answered(
  { site, core, peer }: Awaited<ReturnType<typeof prepare>>,
  sentBy: string,
  servers: TcpCore[],
  rounds = 1_000,
  done = () => false,
): Promise<Arrival[]> {
  const caller = await TcpAgent.connect({ peer: site.server.address, localHost: peer });
  const callId = unique('call-');
  const via = `SIP/2.0/TCP ${sentBy};branch=z9hG4bK${unique('b')}`;
  caller.send(caller.compose('INVITE', 'sip:b@example.test', { callId, via }));
  const got = await core.next(isRequest('INVITE', callId));
  await caller.reset();
  const client = await site.client();
  const arrived = () => servers.flatMap((server) => server.arrivals.filter(isResponse(200, callId)));
  for (let i = 0; i < rounds && arrived().length === 0 && !done(); i++) {
    core.reply(got, 200, 'OK'); // 6026 7.2: each one is passed on
    await served(client, core);
  }
  return arrived();
}

const server = (host = freshHost(), port = 0) => TcpCore.open({ host, port });

describe('a response that its source does not take any more', () => {
  it('goes to the address in the sent-by [3263-5-01 3261-18.2.2-01]', async () => {
    const setting = await prepare();
    const other = await server();
    const [got] = await answered(setting, other.hostPort, [other]);
    expect(got.message.via[0].params.get('received')).toBe(setting.peer);
    await other.close();
  });

  it('goes to the addresses of a name with a port, the next when one refuses [3263-5-01]', async () => {
    const setting = await prepare();
    const other = await server();
    const dead = await nowhere();
    setting.site.dns.add('A', 'proxy.test', dead.host).add('A', 'proxy.test', other.host);
    const got = await answered(setting, `proxy.test:${other.port}`, [other]);
    expect(got).not.toEqual([]);
    expect(setting.site.dns.questions).toEqual(['A proxy.test']);
    await other.close();
  });

  it('goes by the SRV records of a name alone [3263-5-01]', async () => {
    const setting = await prepare();
    const [other, dead] = [await server(), await nowhere()];
    setting.site.dns
      .srv('_sip._tcp.proxy.test', 1, 1, dead.port, 'first.test')
      .srv('_sip._tcp.proxy.test', 2, 1, other.port, 'second.test')
      .add('A', 'first.test', dead.host)
      .add('A', 'second.test', other.host);
    const got = await answered(setting, 'proxy.test', [other]);
    expect(got).not.toEqual([]);
    expect(setting.site.dns.questions).toContain('SRV _sip._tcp.proxy.test');
    await other.close();
  });

  it('goes nowhere where the name is nowhere, and costs nobody anything', async () => {
    const setting = await prepare();
    const { dns } = setting.site;
    const isAsked = () => dns.questions.includes('A nowhere.test');
    expect(await answered(setting, 'nowhere.test:5070', [], 1_000, isAsked)).toEqual([]);
    expect(dns.questions).toContain('A nowhere.test');
    await served(await setting.site.client(), setting.core);
  });

  it('goes nowhere for who is not trusted: a Via of his own would have us connect anywhere', async () => {
    const setting = await prepare(false);
    const other = await server();
    expect(await answered(setting, other.hostPort, [other], 20)).toEqual([]);
    expect(await answered(setting, 'proxy.test', [other], 20)).toEqual([]);
    expect(setting.site.dns.questions).toEqual([]);
    expect(other.connections).toEqual([]);
    await other.close();
  });
});
