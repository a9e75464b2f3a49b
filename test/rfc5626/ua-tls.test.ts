/** The user agent's flows over TLS: whom it believes, and where its keep-alives go (RFC 5626 4.3, 4.4.1; RFC 5922 7). */
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Endpoint } from '../../src/net/endpoint.ts';
import type { Locate } from '../../src/ua/locating.ts';
import { TcpCore } from '../harness/agent.ts';
import { type Certificates, makeCertificates } from '../harness/certificates.ts';
import { isCrlf, isRequest } from '../harness/inbox.ts';
import { accept, Desk } from '../harness/phone.ts';
import { freshHost } from '../harness/ports.ts';
import { parseNameAddr } from '../harness/sip.ts';

let certificates: Certificates;
beforeAll(() => {
  certificates = makeCertificates(['DNS:edge.test']);
});
afterAll(() => certificates.remove());
const desk = new Desk();
afterEach(() => desk.close());

async function tlsEdge(): Promise<{ edge: TcpCore; locate: Locate }> {
  const tls = { cert: readFileSync(certificates.cert), key: readFileSync(certificates.key) };
  const edge = desk.keep(await TcpCore.open({ host: freshHost(), tls, name: 'TLS edge' }));
  const address = Endpoint.parse(edge.host, edge.port) as Endpoint;
  const target = { transport: 3, host: 'srv.elsewhere.test', address, priority: 0, weight: 0 };
  return { edge, locate: async () => ({ targets: [target], failure: '', ttl: 1 }) };
}

describe('over TLS', () => {
  it('it registers with whom the certificate names by the host of the URI, and pings inside the channel [UA-4.4.1-05 GR-11.7-01]', async () => {
    const { edge, locate } = await tlsEdge();
    const phone = desk.phone(['sip:edge.test;transport=tls'], { locate, tls: { ca: certificates.trusted } });
    phone.start();
    const { message } = await accept(edge);
    expect(message.via[0].transport).toBe('TLS');
    expect(parseNameAddr(message.header('Contact') ?? '').uriParams.get('transport')).toBe('tls');
    await phone.event('registered');
    const [connection] = edge.connections;
    const before = Buffer.concat(connection.octets).length;
    await phone.advance(95.1);
    await edge.next(isCrlf);
    await edge.next(isCrlf);
    expect(Buffer.concat(connection.octets).subarray(before)).toEqual(Buffer.from('\r\n\r\n'));
  });

  it('a second name at the same address has a connection of its own, and none where the certificate lacks it [UA-4.3-04]', async () => {
    const { edge, locate } = await tlsEdge();
    const proxies = ['sip:edge.test;transport=tls', 'sip:other.test;transport=tls'];
    const phone = desk.phone(proxies, { locate, tls: { ca: certificates.trusted } });
    phone.start();
    const first = await accept(edge);
    expect(await phone.event('failed')).toMatchObject({ uri: proxies[1], cause: 'refused' });
    await phone.event('registered');
    expect(phone.agent.flows.map(({ uri }) => uri)).toEqual([proxies[0]]);
    const answer = phone.agent.request('OPTIONS', 'sip:bob@example.test');
    const got = await edge.next(isRequest('OPTIONS'));
    expect(got.from).toEqual(first.from);
    edge.reply(got, 200, 'OK');
    await answer;
  });

  it('an authority that nobody trusts is refused, whatever the name', async () => {
    const { edge, locate } = await tlsEdge();
    const phone = desk.phone(['sip:edge.test;transport=tls'], { locate });
    phone.start();
    expect(await phone.event('failed')).toMatchObject({ cause: 'refused' });
    expect(edge.arrivals).toEqual([]);
  });
});
