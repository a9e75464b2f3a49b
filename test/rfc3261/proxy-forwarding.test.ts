/** How a proxy changes and forwards requests and responses: RFC 3261 sections 16.4 to 16.7 and 16.10. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Agent, TcpCore } from '../harness/agent.ts';
import { type Edge, startEdge, startEdgeOverTcp } from '../harness/edge.ts';
import { registerFlow, sendDown } from '../harness/flows.ts';
import { type Arrival, isRequest, isResponse, isTrying } from '../harness/inbox.ts';
import { compose, type Header, OMIT, parseNameAddr, type RequestOptions, unique } from '../harness/sip.ts';

let edge: Edge;
let tcp: Edge<TcpCore>;
let client: Agent;

beforeAll(async () => {
  edge = await startEdge();
  tcp = await startEdgeOverTcp();
});
beforeEach(async () => {
  client = await edge.client('UDP');
});
afterAll(async () => {
  await edge?.close();
  await tcp?.close();
});

async function up(method: string, uri: string, options: Partial<RequestOptions> = {}): Promise<Arrival> {
  const callId = options.callId ?? unique('call-');
  client.send(client.compose(method, uri, { ...options, callId }));
  return edge.core.next(isRequest(method, callId));
}

describe('a forwarded request', () => {
  it('keeps every header it came with, octet for octet and in order [3261-16.6-01]', async () => {
    const headers: Header[] = [
      ['X-One', 'a,b , "c,d"'],
      ['P-Asserted-Identity', '"Ünïcode" <sip:x@y>;q=1'],
      ['x-one', 'again'],
      ['Accept', ''],
      ['s', 'compact'],
      ['Allow', 'INVITE,ACK'],
      ['Record-Route', '<sip:earlier.example.test;lr>'],
      ['X-Last', '1'],
    ];
    const callId = unique('call-');
    client.send(client.compose('MESSAGE', 'sip:bob@example.test', { callId, headers, body: 'payload' }));
    const { message } = await edge.core.next(isRequest('MESSAGE', callId));
    const mine = new Set(headers.map(([name]) => name));
    const seen = message.headers.filter(([name]) => mine.has(name));
    expect(seen).toEqual(headers.map(([n, v]) => [n, Buffer.from(v, 'utf8').toString('latin1')]));
    expect(message.body.toString()).toBe('payload');
    expect(message.uri).toBe('sip:bob@example.test');
  });

  it('keeps lines that were folded, and odd spacing, readable to the next hop [3261-16.6-01 3261-7.3-01]', async () => {
    const callId = unique('call-');
    const bytes = client.compose('MESSAGE', 'sip:bob@example.test', {
      callId,
      headers: [['X-Fold', 'one\r\n  two']],
    });
    client.send(Buffer.from(bytes.toString('latin1').replace('Call-ID: ', 'CaLL-iD   :   '), 'latin1'));
    const { message } = await edge.core.next(isRequest('MESSAGE', callId));
    expect(message.header('X-Fold')).toBe('one two');
  });

  it('is understood with the short forms of header names [3261-7.3-01]', async () => {
    const callId = unique('call-');
    const bytes = compose('OPTIONS sip:bob@example.test SIP/2.0', [
      ['v', client.via()],
      ['Max-Forwards', '70'],
      ['f', `<sip:a@example.test>;tag=${unique('f')}`],
      ['t', '<sip:bob@example.test>'],
      ['i', callId],
      ['CSeq', '1 OPTIONS'],
      ['m', `<${client.uri('u')}>`],
      ['l', '0'],
    ]);
    client.send(bytes);
    const got = await edge.core.next(isRequest('OPTIONS', callId));
    edge.core.reply(got, 200, 'OK');
    await client.next(isResponse(200, callId));
  });

  it('has the own Via on top, with the sent-by of a listener and a new branch [3261-16.6-06 3261-18.1.1-03 3261-16.6-05]', async () => {
    const branches = new Set<string>();
    for (let i = 0; i < 5; i++) {
      const { message } = await up('OPTIONS', 'sip:bob@example.test');
      expect(message.via).toHaveLength(2);
      const [own, theirs] = message.via;
      expect(own.transport).toBe('UDP');
      expect(`${own.host}:${own.port}`).toBe(edge.hostPort);
      expect(own.branch).toMatch(/^z9hG4bK.+/);
      expect(own.branch).not.toBe(theirs.branch);
      branches.add(own.branch);
    }
    expect(branches.size).toBe(5);
  });

  it('gets Content-Length where it leaves over a connection without having one [3261-16.6-07]', async () => {
    const callId = unique('call-');
    const sender = await tcp.client('UDP');
    const headers: Header[] = [['Content-Length', OMIT]];
    sender.send(sender.compose('MESSAGE', 'sip:bob@example.test', { callId, headers, body: 'twelve bytes' }));
    const { message } = await tcp.core.next(isRequest('MESSAGE', callId));
    expect(message.fields('Content-Length')).toEqual(['12']);
    expect(message.body.toString()).toBe('twelve bytes');
    expect(message.via[0].transport).toBe('TCP');
  });

  it('sent twice by an impatient client is forwarded with one and the same branch [3261-16.6-06]', async () => {
    const callId = unique('call-');
    const bytes = client.compose('MESSAGE', 'sip:bob@example.test', { callId });
    client.send(bytes);
    const first = await edge.core.next(isRequest('MESSAGE', callId));
    client.send(bytes);
    edge.core.reply(first, 200, 'OK');
    await client.next(isResponse(200, callId));
    const again = edge.core.arrivals.filter(isRequest('MESSAGE', callId));
    for (const arrival of again) expect(arrival.message.via[0].branch).toBe(first.message.via[0].branch);
  });
});

describe('Route', () => {
  it('values of this proxy on top are taken off, one or two in a row [3261-16.4-02]', async () => {
    const own = `<sip:${edge.hostPort};lr>`;
    const ownTcp = `<sip:${edge.hostPort};transport=tcp;lr>`;
    for (const route of [[own], [own, ownTcp], [`${own}, ${ownTcp}`]]) {
      const { message } = await up('MESSAGE', 'sip:bob@example.test', { route });
      expect(message.header('Route')).toBeUndefined();
      expect(message.uri).toBe('sip:bob@example.test');
    }
  });

  it('whose next value has no lr is turned around for a strict router [3261-16.6-04]', async () => {
    const strict = `sip:strict@${edge.core.hostPort}`;
    const { message } = await up('MESSAGE', 'sip:bob@example.test', {
      route: [`<sip:${edge.hostPort};lr>`, `<${strict}>`],
    });
    expect(message.uri).toBe(strict);
    expect(message.all('Route').map((v) => parseNameAddr(v).uri)).toEqual(['sip:bob@example.test']);
  });

  it('as a strict router leaves it, the own URI in the Request-URI, is put right [3261-16.4-01]', async () => {
    const callId = unique('call-');
    const contact = `<${client.uri('u')};ob>`;
    client.send(client.compose('INVITE', edge.core.uri('core'), { callId, contact }));
    const invite = await edge.core.next(isRequest('INVITE', callId));
    edge.core.reply(invite, 200, 'OK', [['Contact', `<${edge.core.uri('core')}>`]]);
    await client.next(isResponse(200, callId));
    const recorded = invite.message.all('Record-Route').map((v) => parseNameAddr(v).uri);
    const target = `${client.uri('u')};ob`;
    edge.core.send(
      edge.core.compose('BYE', recorded[0], {
        callId,
        route: [...recorded.slice(1), target].map((v) => `<${v}>`),
      }),
      edge.server.address,
    );
    const bye = await client.next(isRequest('BYE', callId));
    expect(bye.message.uri).toBe(target);
    expect(bye.message.header('Route')).toBeUndefined();
  });

  it('that leads to a host beside the core is refused to a stranger', async () => {
    const callId = unique('call-');
    const route = [`<sip:${edge.hostPort};lr>`, '<sip:192.0.2.99;lr>'];
    client.send(client.compose('MESSAGE', 'sip:bob@example.test', { callId, route }));
    await client.next(isResponse(403, callId));
  });
});

describe('a Request-URI with maddr', () => {
  it('of this proxy loses maddr, port and transport [3261-16.4-03]', async () => {
    const { message } = await up(
      'MESSAGE',
      `sip:bob@example.test:${edge.server.port};transport=udp;maddr=${edge.server.host};x=1`,
    );
    const uri = parseNameAddr(`<${message.uri}>`);
    expect(uri.uriParams.has('maddr')).toBe(false);
    expect(uri.uriParams.has('transport')).toBe(false);
    expect(uri.port).toBeUndefined();
    expect(uri.uriParams.get('x')).toBe('1');
  });
});

describe('a response on its way back', () => {
  it('loses the own Via and keeps the rest, received included [3261-16.7-05]', async () => {
    const callId = unique('call-');
    const got = await up('OPTIONS', 'sip:bob@example.test', {
      callId,
      moreVia: ['SIP/2.0/UDP 192.0.2.7:5062;received=192.0.2.8;branch=z9hG4bK-below'],
    });
    edge.core.reply(got, 200, 'OK', [['X-Answer', 'a, b']]);
    const { message } = await client.next(isResponse(200, callId));
    expect(message.via.map((v) => v.branch)).toEqual(got.message.via.slice(1).map((v) => v.branch));
    expect(message.via[1].params.get('received')).toBe('192.0.2.8');
    expect(message.fields('X-Answer')).toEqual(['a, b']);
  });

  it('whose top Via is not ours goes nowhere [3261-18.1.2-01]', async () => {
    const callId = unique('call-');
    const got = await up('OPTIONS', 'sip:bob@example.test', { callId });
    const stray = edge.core.compose('OPTIONS', 'sip:x@y', { callId, via: client.via() });
    const text = stray.toString('latin1').replace(/^.*\r\n/, 'SIP/2.0 200 OK\r\n');
    edge.core.send(Buffer.from(text, 'latin1'), edge.server.address);
    edge.core.reply(got, 202, 'Accepted');
    await client.only(isResponse(202, callId));
  });

  it('without a transaction of ours is dropped [6026-7.3-01]', async () => {
    const callId = unique('call-');
    const got = await up('OPTIONS', 'sip:bob@example.test', { callId });
    const branch = got.message.via[0].branch;
    const forged = got.message.toString().replace(branch, `${branch.slice(0, -4)}zzzz`);
    const lines = forged.split('\r\n').filter((l) => !l.startsWith('Max-Forwards'));
    lines[0] = 'SIP/2.0 200 OK';
    got.answer(Buffer.from(lines.join('\r\n'), 'latin1'));
    edge.core.reply(got, 202, 'Accepted');
    await client.only(isResponse(202, callId));
  });

  it('100 stays here, and the client has a 100 of ours already [3261-16.7-01]', async () => {
    const callId = unique('call-');
    const contact = `<${client.uri('u')};ob>`;
    const got = await up('INVITE', 'sip:bob@example.test', { callId, contact });
    await client.next(isResponse(100, callId));
    edge.core.reply(got, 100, 'Trying', [['X-From', 'core']]);
    edge.core.reply(got, 183, 'Session Progress');
    await client.next(isResponse(183, callId));
    edge.core.reply(got, 180, 'Ringing');
    await client.next(isResponse(180, callId));
    for (const trying of client.arrivals.filter(isTrying))
      expect(trying.message.header('X-From')).toBeUndefined();
    edge.core.reply(got, 200, 'OK', [['Contact', `<${edge.core.uri('core')}>`]]);
    await client.next(isResponse(200, callId));
  });

  it('503 is not passed on as such: 500 [3261-16.7-03]', async () => {
    const callId = unique('call-');
    const got = await up('MESSAGE', 'sip:bob@example.test', { callId });
    edge.core.reply(got, 503, 'Service Unavailable', [['Retry-After', '30']]);
    await client.next(isResponse(500, callId));
  });

  it.each([202, 301, 404, 486, 500, 600])('%i is passed on', async (status) => {
    const callId = unique('call-');
    const got = await up('MESSAGE', 'sip:bob@example.test', { callId });
    edge.core.reply(got, status, 'Whatever Reason', [['X-Body', 'below']], 'a body');
    const { message } = await client.next(isResponse(status, callId));
    expect(message.reason).toBe('Whatever Reason');
    expect(message.body.toString()).toBe('a body');
  });
});

describe('an INVITE that is given up', () => {
  it('is cancelled with the branch of the INVITE, and its 487 comes back [3261-16.10-01 3261-16.6-06]', async () => {
    const callId = unique('call-');
    const via = client.via();
    const from = `<sip:u@example.test>;tag=${unique('f')}`;
    const same = { callId, via, from, to: '<sip:bob@example.test>' };
    const invite = await up('INVITE', 'sip:bob@example.test', {
      ...same,
      contact: `<${client.uri('u')};ob>`,
    });
    edge.core.reply(invite, 180, 'Ringing');
    await client.next(isResponse(180, callId));
    client.send(client.compose('CANCEL', 'sip:bob@example.test', same));
    const cancel = await edge.core.next(isRequest('CANCEL', callId));
    expect(cancel.message.via[0].branch).toBe(invite.message.via[0].branch);
    expect(cancel.message.uri).toBe(invite.message.uri);
    await client.next((a) => isResponse(200, callId)(a) && a.message.cseq.method === 'CANCEL');
    edge.core.reply(cancel, 200, 'OK');
    edge.core.reply(invite, 487, 'Request Terminated');
    const ack = await edge.core.next(isRequest('ACK', callId));
    expect(ack.message.via[0].branch).toBe(invite.message.via[0].branch);
    await client.next(isResponse(487, callId));
  });

  it('down a flow is cancelled over the same flow [3261-16.10-01]', async () => {
    const phone = await edge.client('TCP');
    const flow = await registerFlow(phone, edge.core);
    const via = edge.core.via();
    const callId = sendDown(edge.core, flow, 'INVITE', { via });
    const invite = await phone.next(isRequest('INVITE', callId));
    phone.reply(invite, 180, 'Ringing');
    await edge.core.next(isResponse(180, callId));
    sendDown(edge.core, flow, 'CANCEL', { via, callId });
    const cancel = await phone.next(isRequest('CANCEL', callId));
    expect(cancel.message.via[0].branch).toBe(invite.message.via[0].branch);
    phone.reply(cancel, 200, 'OK');
    phone.reply(invite, 487, 'Request Terminated');
    await edge.core.next(isResponse(487, callId));
  });

  it('that nobody knows is answered or passed on, not forgotten [3261-16.10-01]', async () => {
    const callId = unique('call-');
    client.send(client.compose('CANCEL', 'sip:bob@example.test', { callId }));
    const seen = await Promise.race([
      edge.core.next(isRequest('CANCEL', callId)).then(() => 'passed on'),
      client.next(isResponse(481, callId)).then(() => 'answered'),
    ]);
    expect(['passed on', 'answered']).toContain(seen);
  });
});
