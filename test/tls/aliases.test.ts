/**
 * A peer known by his certificate: what he writes is believed, and a connection that he opened serves for requests to
 * him too, if he says `alias` (RFC 5923 8.2) and it is he who is meant. The peer is an edge, we are the registrar.
 */
import { readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Agent, type TcpAgent, TcpCore, type UdpAgent } from '../harness/agent.ts';
import { DnsStub } from '../harness/dns.ts';
import { isFinal, isRequest } from '../harness/inbox.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { call, register } from '../harness/registrar.ts';
import { unique } from '../harness/sip.ts';
import { SecuredServer } from './rig.ts';

let site: SecuredServer;
let dns: DnsStub;
let caller: UdpAgent;
let host: string;
let port: number;

/** The registrar; the edge's name leads to a host of its own, where nobody listens yet. */
async function start(settings: Record<string, string> = {}): Promise<void> {
  dns = await DnsStub.open();
  host = freshHost();
  port = await freePort(host);
  for (const name of ['edge1.test', 'edge2.test']) dns.add('A', name, host);
  site = await SecuredServer.start({
    settings: {
      TLS_CLIENT: 'optional',
      TRUSTED_DOMAINS: 'edge1.test,edge2.test',
      DNS: `${dns.host}:${dns.port}`,
      WORKERS: '1',
      ...settings,
    },
  });
  caller = await site.caller();
}

beforeEach(() => start());
afterEach(async () => {
  await site.close();
  await dns.close();
});

/** A connection of the edge, with a certificate for these names. */
async function edge(names: string[]): Promise<TcpAgent> {
  const shown: ConnectionOptions & { localHost?: string } = { localHost: host };
  if (names.length > 0) {
    const { cert, key } = site.authority.issue(names);
    shown.cert = readFileSync(cert);
    shown.key = readFileSync(key);
  }
  return await site.phone(shown);
}

/** Where the edge listens, for who opens a connection to it. */
async function listening(): Promise<TcpCore> {
  const { cert, key } = site.authority.issue(['DNS:edge1.test', 'DNS:edge2.test']);
  const pair = { cert: readFileSync(cert), key: readFileSync(key) };
  return site.keep(await TcpCore.openTls({ host, port, ...pair }));
}

/** Brings a client's REGISTER, as an edge does. `sentBy` and parameters of its Via. */
async function bring(from: Agent, via: string, name = 'edge1.test'): Promise<{ aor: string; path: string }> {
  const path = `<sip:${unique('token')}@${name}:${port};transport=tls;lr;ob>`;
  const { aor, answer } = await register(from, {
    via: `SIP/2.0/TLS ${via};branch=z9hG4bK${unique('b')}`,
    moreVia: [`SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK${unique('c')}`],
    headers: [['Path', path]],
  });
  expect(answer.status).toBe(200);
  return { aor, path };
}

/** A call to the AOR comes to this one. */
async function comesTo(to: Agent, aor: string, path: string): Promise<void> {
  const callId = call(caller, aor);
  const got = await to.next(isRequest('MESSAGE', callId));
  expect(got.message.all('Route')).toEqual([path]);
  to.reply(got, 200, 'OK');
  expect((await caller.next(isFinal(callId))).message.status).toBe(200);
}

describe('a peer with the certificate of a trusted domain', () => {
  it('is reached over the connection that he opened, if his Via says alias [5923-8.2-02]', async () => {
    const peer = await edge(['DNS:edge1.test']);
    const { aor, path } = await bring(peer, `edge1.test:${port};alias`);
    await comesTo(peer, aor, path);
    const server = await listening();
    await comesTo(peer, aor, path);
    expect(server.opened).toBe(0);
  });

  it('is reached over a new connection if his Via does not say it', async () => {
    const server = await listening();
    const { aor, path } = await bring(await edge(['DNS:edge1.test']), `edge1.test:${port}`);
    await comesTo(server, aor, path);
  });

  it('is reached over a new connection at another port than that of his Via', async () => {
    const server = await listening();
    const { aor, path } = await bring(await edge(['DNS:edge1.test']), 'edge1.test;alias'); // 5061
    await comesTo(server, aor, path);
  });

  it('is not reached over it for another host at the same address [5923-8.2-03]', async () => {
    const server = await listening();
    const { aor, path } = await bring(
      await edge(['DNS:edge1.test']),
      `edge1.test:${port};alias`,
      'edge2.test',
    );
    await comesTo(server, aor, path);
  });

  it('is reached over a new connection when the old one is gone [5923-8.2-04]', async () => {
    const server = await listening();
    const peer = await edge(['DNS:edge1.test']);
    const { aor, path } = await bring(peer, `edge1.test:${port};alias`);
    await comesTo(peer, aor, path);
    await peer.close();
    await comesTo(server, aor, path);
  });

  it('is reached over a new connection while the old one is being closed [5923-8.2-04]', async () => {
    const server = await listening();
    const peer = await edge(['DNS:edge1.test']);
    const { aor, path } = await bring(peer, `edge1.test:${port};alias`);
    peer.send(Buffer.from('this is no message\r\n\r\n')); // closed from here, with what is due to go out
    await peer.closed;
    await comesTo(server, aor, path);
  });

  it('who shares an address and a port with another is told from him by his name', async () => {
    const [one, other] = [await edge(['DNS:edge1.test']), await edge(['DNS:edge2.test'])];
    const first = await bring(one, `edge1.test:${port};alias`);
    const second = await bring(other, `edge2.test:${port};alias`, 'edge2.test');
    await comesTo(one, first.aor, first.path);
    await comesTo(other, second.aor, second.path);
  });

  it.each([
    ['of another domain', ['DNS:other.test']],
    ['with a wildcard', ['DNS:*.test']],
    ['of a user', ['URI:sip:user@edge1.test']],
  ])(
    'is not one with a certificate %s: his Path is not believed, he is reached as any client',
    async (_, names) => {
      const server = await listening();
      const peer = await edge(names);
      const { aor } = await bring(peer, `edge1.test:${port}`);
      const callId = call(caller, aor);
      peer.reply(await peer.next(isRequest('MESSAGE', callId)), 200, 'OK');
      expect((await caller.next(isFinal(callId))).message.status).toBe(200);
      expect(server.opened).toBe(0);
    },
  );
});

describe('a peer who is trusted for his address', () => {
  it('makes no alias without a certificate [5923-8.2-02]', async () => {
    await site.close();
    await dns.close();
    await start({ TRUSTED: '127.0.0.0/8' });
    const server = await listening();
    const { aor, path } = await bring(await edge([]), `edge1.test:${port};alias`);
    await comesTo(server, aor, path);
  });
});
