/**
 * From which address a connection to the core leaves: from the one that Via names, since firewalls, and a core that trusts
 * by address, know the edge by that one.
 */
import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { TcpCore } from '../harness/agent.ts';
import { Authority } from '../harness/certificates.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { isRequest, isResponse } from '../harness/inbox.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { unique } from '../harness/sip.ts';

const authority = new Authority();
const opened: { close(): Promise<unknown> }[] = [];
afterEach(async () => {
  for (const thing of opened.splice(0).reverse()) await thing.close();
});
afterAll(() => authority.remove());

const keep = <T extends { close(): Promise<unknown> }>(thing: T): T => {
  opened.push(thing);
  return thing;
};

async function coreOf(secured: boolean, host = freshHost()): Promise<TcpCore> {
  const { cert, key } = authority.issue([`IP:${host}`]);
  const tls = { cert: readFileSync(cert), key: readFileSync(key) };
  return keep(await TcpCore.open({ host, ...(secured ? { tls } : {}) }));
}

/** An edge of that core with a UDP listener, for its clients, and these; `facing`: CORE_LISTEN. */
async function edgeOf(core: TcpCore, listeners: string[], facing?: string) {
  const host = freshHost();
  const port = await freePort(host);
  const own = authority.issue(['DNS:edge.test']);
  const edge = await Holdfast.start({
    host,
    port,
    settings: {
      LISTEN: [`udp:${host}:${port}`, ...listeners].join(','),
      UPSTREAM: `sip:${core.hostPort};transport=${core.transport.toLowerCase()}`,
      WORKERS: '1',
      ...(core.transport === 'TLS' ? { TLS_CERT: own.cert, TLS_KEY: own.key, TLS_CA: authority.ca } : {}),
      CORE_LISTEN: facing === 'udp' ? `udp:${host}:${port}` : facing,
    },
  });
  keep({ close: () => edge.stop() });
  return edge;
}

/** A request goes to the core and its answer back; where the core saw it come from, and the host in Via. */
async function asked(edge: Holdfast, core: TcpCore): Promise<{ from: string; via: string }> {
  const phone = keep(await edge.udp());
  const callId = unique('call-');
  phone.send(phone.compose('MESSAGE', 'sip:bob@example.test', { callId }));
  const got = await core.next(isRequest('MESSAGE', callId));
  core.reply(got, 200, 'OK');
  await phone.next(isResponse(200, callId));
  return {
    from: got.from.host,
    via: /^SIP\/2\.0\/\S+ ([^:;]+)/.exec(got.message.all('Via')[0])?.[1] as string,
  };
}

/** An address of this machine that is none of loopback. */
const outside = Object.values(networkInterfaces())
  .flat()
  .find((address) => address?.family === 'IPv4' && !address.internal)?.address;

describe.each(['tcp', 'tls'])('a connection to a core over %s', (scheme) => {
  const secured = scheme === 'tls';

  it('leaves from the address of the listener', async () => {
    const core = await coreOf(secured);
    const host = freshHost();
    const edge = await edgeOf(core, [`${scheme}:${host}:${await freePort(host)}`]);
    expect(await asked(edge, core)).toEqual({ from: host, via: host });
  });

  it('leaves from the one that faces the core, where there are several', async () => {
    const core = await coreOf(secured);
    const hosts = [freshHost(), freshHost(), freshHost()];
    const listeners: string[] = [];
    for (const host of hosts) listeners.push(`${scheme}:${host}:${await freePort(host)}`);
    const edge = await edgeOf(core, listeners, listeners[1]);
    expect(await asked(edge, core)).toEqual({ from: hosts[1], via: hosts[1] });
  });

  it('leaves from the first of its kind, where the one that faces the core is of another', async () => {
    const core = await coreOf(secured);
    const host = freshHost();
    const edge = await edgeOf(core, [`${scheme}:${host}:${await freePort(host)}`], 'udp');
    expect(await asked(edge, core)).toEqual({ from: host, via: host });
  });

  it('leaves from where the kernel says, where the listener is at all addresses', async () => {
    const core = await coreOf(secured);
    const edge = await edgeOf(core, [`${scheme}:0.0.0.0:${await freePort('0.0.0.0')}/192.0.2.1`]);
    expect(await asked(edge, core)).toEqual({ from: '127.0.0.1', via: '192.0.2.1' });
  });

  it.skipIf(outside === undefined)('does not leave from loopback to somewhere else', async () => {
    const core = await coreOf(secured, outside);
    const host = freshHost();
    const edge = await edgeOf(core, [`${scheme}:${host}:${await freePort(host)}`]);
    expect(await asked(edge, core)).toEqual({ from: outside, via: host });
  });
});
