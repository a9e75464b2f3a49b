/**
 * The upstream over TLS: who is spoken to, over how many connections, and what happens when one is not whom he
 * should be. And sips, which never goes in the clear.
 */
import { readFileSync } from 'node:fs';
import type { TLSSocket } from 'node:tls';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Agent, TcpCore, UdpAgent } from '../harness/agent.ts';
import { Authority } from '../harness/certificates.ts';
import { registerFlow, sendDown } from '../harness/flows.ts';
import { isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { unique } from '../harness/sip.ts';
import { Site } from '../harness/site.ts';

const authority = new Authority();
const stranger = new Authority('another authority');
let site: Site;
const opened: { close(): Promise<unknown> }[] = [];

beforeEach(async () => {
  site = await Site.prepare();
});
afterEach(async () => {
  await site.close();
  for (const each of opened.splice(0)) await each.close().catch(() => {});
});
afterAll(() => {
  authority.remove();
  stranger.remove();
});

/** A core with a certificate for these names. */
async function core(names: string[], by = authority): Promise<TcpCore> {
  const issued = by.issue(names);
  const server = await TcpCore.openTls({
    host: freshHost(),
    cert: readFileSync(issued.cert),
    key: readFileSync(issued.key),
    ca: authority.trusted,
    requestCert: true,
    rejectUnauthorized: false,
  });
  opened.push(server);
  return server;
}

async function start(upstream: string, settings: Record<string, string> = {}) {
  const own = authority.issue(['DNS:edge.test']);
  const port = await freePort(site.host);
  return await site.start(upstream, {
    settings: {
      LISTEN: `udp:${site.host}:${site.port},tcp:${site.host}:${site.port},tls:${site.host}:${port}`,
      TLS_CERT: own.cert,
      TLS_KEY: own.key,
      TLS_CA: authority.ca,
      WORKERS: '1',
      ...settings,
    },
  });
}

async function client(): Promise<Agent> {
  const { host, port } = site.server;
  const agent = await UdpAgent.open({ host: freshHost(), peer: { host, port } });
  opened.push(agent);
  return agent;
}

/** A request to a foreign domain. */
function ask(from: Agent, uri = 'sip:bob@example.test'): string {
  const callId = unique('call-');
  from.send(from.compose('MESSAGE', uri, { callId }));
  return callId;
}

async function served(from: Agent, by: TcpCore): Promise<void> {
  const callId = ask(from);
  const got = await by.next(isRequest('MESSAGE', callId));
  expect(got.message.all('Via')[0]).toMatch(/^SIP\/2\.0\/TLS /);
  by.reply(got, 200, 'OK');
  await from.next(isResponse(200, callId));
}

async function refusal(from: Agent, uri?: string): Promise<number> {
  return (await from.next(isFinal(ask(from, uri)))).message.status;
}

describe('an upstream over TLS', () => {
  it('is asked for by its name, shown our certificate, and kept: one connection for all requests, both ways [5923-8.2-05 5923-8.1-01 5923-8.2-01]', async () => {
    const upstream = await core(['DNS:core.test']);
    site.dns.add('A', 'core.test', upstream.host);
    await start(`sip:core.test:${upstream.port};transport=tls`);
    const phone = await client();
    const flow = await registerFlow(phone, upstream, { via: phone.via(';rport;alias') });
    expect(flow.path).toContain('transport=tls');
    for (let i = 0; i < 3; i++) await served(phone, upstream);
    const socket = upstream.connections[0].socket as TLSSocket;
    expect(socket.servername).toBe('core.test');
    expect(socket.getPeerX509Certificate()?.subjectAltName).toBe('DNS:edge.test');
    // a request of the core comes over the connection that we opened
    const callId = unique('down-');
    upstream.send(
      upstream.compose('MESSAGE', flow.contactUri, {
        callId,
        route: [flow.path],
        from: '<sip:c@example.test>;tag=1',
      }),
    );
    phone.reply(await phone.next(isRequest('MESSAGE', callId)), 200, 'OK');
    await upstream.next(isResponse(200, callId));
    expect(upstream.opened).toBe(1);
  });

  it('gets a new connection when the old one is gone [5923-8.2-04]', async () => {
    const upstream = await core(['URI:sip:core.test']);
    site.dns.add('A', 'core.test', upstream.host);
    await start(`sip:core.test:${upstream.port};transport=tls`);
    const phone = await client();
    await served(phone, upstream);
    const [connection] = upstream.connections;
    await connection.close();
    await served(phone, upstream);
    expect(upstream.opened).toBe(2);
  });

  it('is opened once for many requests that come at once', async () => {
    const upstream = await core(['DNS:core.test']);
    site.dns.add('A', 'core.test', upstream.host);
    await start(`sip:core.test:${upstream.port};transport=tls`);
    const phone = await client();
    const ids = Array.from({ length: 30 }, () => ask(phone));
    for (const id of ids) {
      upstream.reply(await upstream.next(isRequest('MESSAGE', id)), 200, 'OK');
      await phone.next(isResponse(200, id));
    }
    expect(upstream.opened).toBe(1);
  });

  it.each([
    ['for another name', ['DNS:other.test'], authority, /not for core\.test/],
    ['with a wildcard only', ['DNS:*.test'], authority, /not for core\.test/],
    ['for a user', ['URI:sip:user@core.test'], authority, /not for core\.test/],
    [
      'whose URI is another, although a DNS name fits',
      ['URI:sip:other.test', 'DNS:core.test'],
      authority,
      /not for/,
    ],
    ['of an authority that we do not know', ['DNS:core.test'], stranger, /issuer|certificate/],
  ])('with a certificate %s is not spoken to [5922-7-01]', async (_what, names, by, reason) => {
    const wrong = await core(names, by);
    site.dns.add('A', 'core.test', wrong.host);
    const server = await start(`sip:core.test:${wrong.port};transport=tls`);
    expect(await refusal(await client())).toBeGreaterThanOrEqual(500);
    await server.logged((l) => l.event === 'tls-failure' && reason.test(String(l.reason)));
    expect(wrong.arrivals).toEqual([]);
  });

  it('that is not whom it should be is passed over for the next: its SRV name is not what counts [5922-7-01]', async () => {
    const wrong = await core(['DNS:s0.test']); // the target's own name, not the domain
    const right = await core(['DNS:core.test']);
    for (const [i, each] of [wrong, right].entries()) {
      site.dns.srv('_sips._tcp.core.test', i, 1, each.port, `s${i}.test`);
      site.dns.add('A', `s${i}.test`, each.host);
    }
    const server = await start('sip:core.test;transport=tls');
    await served(await client(), right);
    await server.logged((l) => l.event === 'target-dead' && l.transport === 'tls');
    expect(wrong.opened).toBeGreaterThan(0);
    expect(wrong.arrivals).toEqual([]);
  });

  it('by sips takes of NAPTR what is TLS [3263-4.1-02]', async () => {
    const right = await core(['DNS:core.test']);
    const plain = await site.tcp();
    site.dns.naptr('core.test', 1, 0, 'SIP+D2T', '_sip._tcp.core.test');
    site.dns.naptr('core.test', 2, 0, 'SIPS+D2T', '_sips._tcp.core.test');
    site.dns.srv('_sip._tcp.core.test', 1, 1, plain.port, 'plain.test');
    site.dns.srv('_sips._tcp.core.test', 1, 1, right.port, 'right.test');
    site.dns.add('A', 'plain.test', plain.host);
    site.dns.add('A', 'right.test', right.host);
    await start('sips:core.test');
    await served(await client(), right);
    expect(plain.opened).toBe(0);
  });

  it('by number is known by the address in its certificate', async () => {
    const host = freshHost();
    const issued = authority.issue([`IP:${host}`]);
    const upstream = await TcpCore.openTls({
      host,
      cert: readFileSync(issued.cert),
      key: readFileSync(issued.key),
    });
    opened.push(upstream);
    await start(`sips:${host}:${upstream.port}`);
    await served(await client(), upstream);
  });
});

describe('a sips Request-URI', () => {
  let plain: UdpAgent;
  beforeEach(async () => {
    plain = await site.udp();
  });

  it('does not go to an upstream in the clear', async () => {
    await start(`sip:${plain.hostPort}`);
    const phone = await client();
    expect(await refusal(phone, 'sips:bob@example.test')).toBe(502);
    expect(plain.arrivals).toEqual([]);
  });

  it('does not go down a flow in the clear', async () => {
    await start(`sip:${plain.hostPort}`);
    const phone = await client();
    const flow = await registerFlow(phone, plain);
    const callId = sendDown(plain, flow, 'MESSAGE', { uri: flow.contactUri.replace('sip:', 'sips:') });
    expect((await plain.next(isFinal(callId))).message.status).toBe(480);
    expect(phone.arrivals).toEqual([]);
  });
});

describe('two names at one address', () => {
  it('are two connections, each with a certificate of its own [5923-8.2-03 UA-4.3-04]', async () => {
    const both = await core(['DNS:one.test', 'DNS:two.test']);
    for (const name of ['one.test', 'two.test', 'three.test']) site.dns.add('A', name, both.host);
    const plain = await site.udp();
    const server = await start(`sip:${plain.hostPort}`, { TRUSTED: '127.0.0.0/8' });
    const route = (name: string) => [`<sip:${name}:${both.port};transport=tls;lr>`];
    const phone = await client();
    for (const name of ['one.test', 'two.test', 'one.test', 'two.test']) {
      const callId = unique('call-');
      phone.send(phone.compose('MESSAGE', 'sip:bob@example.test', { callId, route: route(name) }));
      const got = await both.next(isRequest('MESSAGE', callId));
      const servers = both.connections.map(({ socket }) => (socket as TLSSocket).servername);
      expect(servers).toContain(name);
      both.reply(got, 200, 'OK');
      await phone.next(isResponse(200, callId));
    }
    expect(both.opened).toBe(2);
    const callId = unique('call-');
    phone.send(phone.compose('MESSAGE', 'sip:bob@example.test', { callId, route: route('three.test') }));
    expect((await phone.next(isFinal(callId))).message.status).toBeGreaterThanOrEqual(500);
    await server.logged((l) => l.event === 'tls-failure' && /not for three\.test/.test(String(l.reason)));
    expect(both.arrivals).toEqual([]);
  });
});
