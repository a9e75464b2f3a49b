/** What the user agent's REGISTER says, over which flow it goes, and what the answers make it do: RFC 5626 4.1, 4.2. */
import { Duplex } from 'node:stream';
import { afterEach, describe, expect, it } from 'vitest';
import { Endpoint } from '../../src/net/endpoint.ts';
import { type Dial, overStream } from '../../src/ua/connection.ts';
import { TCP } from '../../src/wire/via.ts';
import { isRequest } from '../harness/inbox.ts';
import { accept, answering, Desk, grant, proxyUri, registered } from '../harness/phone.ts';
import { parseNameAddr } from '../harness/sip.ts';

const desk = new Desk();
afterEach(() => desk.close());

const contactOf = (message: { header(name: string): string | undefined }) =>
  parseNameAddr(message.header('Contact') ?? '');

describe('a REGISTER of the user agent', () => {
  it('has instance-id and reg-id, outbound and path in Supported, and the proxy in Route with lr [UA-4.1-01 UA-4.1-08 UA-4.2.1-05 UA-4.2.1-07 UA-4.2.1-13 UA-3.2-01 UA-4.3-08 GR-10-01 GR-10-03 GR-11.4-01 5627-4.1-01]', async () => {
    const edge = await desk.tcp();
    const { message } = await registered(desk.phone([edge]), edge);
    expect(message.uri).toBe('sip:example.test');
    expect(message.fields('Route')).toEqual([`<${proxyUri(edge)};lr>`]);
    expect(message.all('Supported')).toEqual(['path', 'outbound', 'gruu']);
    const contact = contactOf(message);
    expect(contact.params.get('+sip.instance')).toMatch(/^"<urn:uuid:[0-9a-f-]{36}>"$/);
    expect(contact.params.get('reg-id')).toBe('1');
    expect(contact.uriParams.get('transport')).toBe('tcp');
    expect(message.header('To')).toBe('<sip:dora@example.test>');
  });

  it('asks for rport and comes from the address that its Via names [UA-4.3-09 3581-3-01 3581-3-02 6223-4.3-01]', async () => {
    const edge = await desk.udp();
    const { message, from } = await registered(desk.phone([edge]), edge);
    const [via] = message.via;
    expect(via.params.get('rport')).toBeUndefined();
    expect([via.params.has('rport'), via.params.has('keep')]).toEqual([true, true]);
    expect([via.transport, via.host, via.port]).toEqual(['UDP', from.host, from.port]);
  });

  it('goes through every URI of a set of four, each over its own flow, with its own reg-id and Call-ID and one instance-id [UA-4.2.1-01 UA-4.2.1-02 UA-4.2.1-03 UA-4.2.1-06 UA-4.2.1-09 UA-4.2.1-11 UA-4.1-09 5627-4.1-02 UA-3.3-01]', async () => {
    const edges = [await desk.tcp(), await desk.tcp(), await desk.udp(), await desk.udp()];
    const phone = desk.phone(edges);
    phone.start();
    const all = await Promise.all(edges.map((edge) => accept(edge)));
    const contacts = all.map(({ message }) => contactOf(message));
    expect(contacts.map(({ params }) => params.get('reg-id'))).toEqual(['1', '2', '3', '4']);
    expect(new Set(contacts.map(({ params }) => params.get('+sip.instance'))).size).toBe(1);
    expect(new Set(all.map(({ message }) => message.callId)).size).toBe(4);
    expect(new Set(all.map(({ from }) => `${from.host}:${from.port}`)).size).toBe(4);
    for (let n = 0; n < 4; n++) await phone.event('registered');
    expect(phone.agent.flows.map(({ regId }) => regId)).toEqual([1, 2, 3, 4]);
  });

  it('goes through two of three where one flow was asked for [UA-4.2.1-04]', async () => {
    const edges = [await desk.tcp(), await desk.tcp(), await desk.tcp()];
    const phone = desk.phone(edges, { flows: 1 });
    phone.start();
    await accept(edges[0]);
    await accept(edges[1]);
    expect(edges[2].connections).toEqual([]);
  });

  it('has the same instance-id and reg-ids after a restart, from another address too [UA-4.1-02 UA-4.1-03 UA-4.2.1-10]', async () => {
    const [a, b] = [await desk.tcp(), await desk.tcp()];
    const dataDir = desk.dataDir();
    const ids = async (proxies: [typeof a, typeof b], localAddress?: string) => {
      const phone = desk.phone(proxies, { dataDir, ...(localAddress ? { localAddress } : {}) });
      phone.start();
      const got = [await accept(a), await accept(b)];
      await phone.agent.stop({ remove: false });
      return got.map(({ message }) => contactOf(message));
    };
    const before = await ids([a, b]);
    const after = await ids([b, a], '127.0.0.99');
    expect(after.map(({ host }) => host)).toEqual(['127.0.0.99', '127.0.0.99']);
    for (const i of [0, 1])
      for (const name of ['reg-id', '+sip.instance'])
        expect(after[i].params.get(name)).toBe(before[i].params.get(name));
  });

  it('insists on outbound by Require if it is told to [UA-4.2.1-12]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge], { requireOutbound: true });
    phone.start();
    const got = await edge.next(isRequest('REGISTER'));
    expect(got.message.all('Require')).toEqual(['outbound']);
    edge.reply(got, 420, 'Bad Extension', [['Unsupported', 'outbound']]);
    expect(await phone.event('failed')).toMatchObject({ cause: { status: 420 } });
  });
});

describe('a refresh', () => {
  it('goes over the same flow in time, with the same Call-ID, instance-id and reg-id, and the next CSeq [UA-4.2.2-01 UA-4.2.2-02 UA-4.2.1-06 UA-4.2.1-08 5627-4.2-02 5627-4.1-03]', async () => {
    for (const edge of [await desk.tcp(), answering(await desk.udp())]) {
      const phone = desk.phone([edge]);
      phone.chance = 0.999999;
      const first = await registered(phone, edge, { expires: 120 });
      await phone.advance(87.9);
      expect(edge.arrivals.filter(isRequest('REGISTER'))).toEqual([]);
      await phone.advance(0.2);
      const second = await edge.next(isRequest('REGISTER'));
      expect(second.from).toEqual(first.from);
      expect(second.message.header('Contact')).toBe(first.message.header('Contact'));
      expect(second.message.callId).toBe(first.message.callId);
      expect(second.message.cseq.number).toBe(first.message.cseq.number + 1);
      await phone.agent.stop({ remove: false });
    }
  });

  it('comes at half of a short registration [5627-4.2-02]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    phone.chance = 0.999999;
    await registered(phone, edge, { expires: 40 });
    await phone.advance(20.1);
    await edge.next(isRequest('REGISTER'));
  });

  it('refused with 503 and Retry-After leaves the connection and its pings alone, three times over; 403 does not [UA-4.2.2-03 UA-4.2.2-04]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    await registered(phone, edge, { expires: 60, headers: [['Flow-Timer', '1000']] });
    const [connection] = edge.connections;
    await phone.advance(27.1);
    const waits: number[] = [];
    for (let n = 0; n < 3; n++) {
      const got = await edge.next(isRequest('REGISTER'));
      edge.reply(got, 503, 'Service Unavailable', [['Retry-After', '6']]);
      const { retryIn } = (await phone.event('deferred')) as { retryIn: number };
      waits.push(Math.round(retryIn / 1000));
      await phone.advance(retryIn / 1000 + 0.02);
    }
    // at its word; a quarter of the 27 s that are left of the binding; never before it says
    expect(waits).toEqual([6, 7, 6]);
    expect(edge.connections).toEqual([connection]);
    edge.reply(await edge.next(isRequest('REGISTER')), 403, 'Forbidden');
    expect(await phone.event('lost')).toMatchObject({ cause: { status: 403 } });
    await connection.closed;
  });

  it.each([500, 503, 480, 408])(
    'refused with %i is tried again while the binding lasts, then by the waits of failures; one 200 and all is as before',
    async (status) => {
      const edge = answering(await desk.tcp());
      const phone = desk.phone([edge]);
      await registered(phone, edge, { expires: 3600 });
      const ends = phone.clock.now() + 3_600_000;
      const refuse = async () => {
        edge.reply(await edge.next(isRequest('REGISTER')), status, 'No');
        const { retryIn } = (await phone.event('deferred')) as { retryIn: number };
        return retryIn / 1000;
      };
      await phone.advance(2916.1);
      const within: number[] = [];
      for (;;) {
        const left = (ends - phone.clock.now()) / 1000;
        const wait = await refuse();
        if (left < 4) {
          expect(wait).toBeCloseTo(30, 0);
          await phone.advance(wait + 0.02);
          break;
        }
        expect(wait).toBeCloseTo(left / 4, 3);
        within.push(wait);
        expect(phone.agent.flows).toHaveLength(1);
        await phone.advance(wait + 0.02);
      }
      expect(within.length).toBeGreaterThan(10);
      expect(phone.agent.flows).toEqual([]);
      const second = await refuse();
      expect(second).toBeCloseTo(60, 0);
      await phone.advance(second + 0.02);
      await accept(edge);
      await phone.event('registered');
      expect(edge.connections).toHaveLength(1);
      await phone.advance(2916.1);
      expect(await refuse()).toBeCloseTo(171, 0);
    },
  );

  it('refused with 423 is asked again at once for what the registrar wants', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge], { expires: 60 });
    phone.start();
    const got = await edge.next(isRequest('REGISTER'));
    expect(got.message.header('Expires')).toBe('60');
    edge.reply(got, 423, 'Interval Too Brief', [['Min-Expires', '600']]);
    const again = await accept(edge);
    expect(again.message.header('Expires')).toBe('600');
    expect([again.message.callId, again.message.cseq.number]).toEqual([got.message.callId, 2]);
    await phone.event('registered');
  });
});

describe('the answer to a REGISTER', () => {
  it('means outbound by its Require alone, not by its Supported [UA-4.2.1-15]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    phone.start();
    await accept(edge, { outbound: false, headers: [['Supported', 'outbound']] });
    expect(await phone.event('registered')).toMatchObject({ outbound: false });
    expect(phone.agent.flows[0].outbound).toBe(false);
  });

  it.each([
    [400, ''],
    [430, ' [UA-11.5-01]'],
  ])(
    '%i is a failure of that flow: told, and tried again after the wait, whatever Retry-After says%s',
    async (status) => {
      const edge = await desk.tcp();
      const phone = desk.phone([edge]);
      phone.start();
      const refuse = async () => {
        const got = await edge.next(isRequest('REGISTER'));
        edge.reply(got, status, 'No', [['Retry-After', '1']]);
        return got;
      };
      const first = await refuse();
      expect(await phone.event('failed')).toMatchObject({ cause: { status }, retryIn: 30_000 });
      await phone.advance(29.9);
      expect(edge.arrivals).toEqual([]);
      await phone.advance(0.2);
      const second = await accept(edge, { expires: 60 });
      expect([second.message.callId, second.message.header('Contact')?.split(';').at(-1)]).toEqual([
        first.message.callId,
        'reg-id=1',
      ]);
      await phone.event('registered');
      await phone.advance(27.1);
      await refuse(); // of a refresh: the flow goes with it
      expect(await phone.event('lost')).toMatchObject({ cause: { status }, retryIn: 60_000 });
    },
  );

  it('without outbound makes the refresh an ordinary one [UA-4.2.1-16]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    await registered(phone, edge, { outbound: false, expires: 60 });
    await phone.advance(31);
    const { message } = await edge.next(isRequest('REGISTER'));
    const contact = contactOf(message);
    expect(contact.params.has('reg-id')).toBe(false);
    expect(contact.params.has('+sip.instance')).toBe(true);
    expect(message.all('Supported')).not.toContain('outbound');
  });

  it('without outbound leaves it to the agent to take the contact of a broken flow away; the new flow asks again [UA-4.2.1-16]', async () => {
    const edge = answering(await desk.tcp());
    const phone = desk.phone([edge], { nextHopAnswersKeepAlives: true });
    const first = await registered(phone, edge, { outbound: false });
    await phone.advance(95.1);
    await edge.connections[0].reset();
    await phone.event('lost');
    await phone.advance(0.02);
    const { message } = await accept(edge);
    const [now, before] = message.all('Contact').map(parseNameAddr);
    expect(now.params.get('reg-id')).toBe('1');
    expect(now.uri).not.toBe(contactOf(first.message).uri);
    expect([before.uri, before.params.get('expires')]).toEqual([contactOf(first.message).uri, '0']);
    expect(await phone.event('registered')).toMatchObject({ outbound: true });
  });

  it('439 makes the next one ordinary, at once [UA-4.2.1-20 GR-11.6-01]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    phone.start();
    edge.reply(await edge.next(isRequest('REGISTER')), 439, 'First Hop Lacks Outbound Support');
    const { message } = await accept(edge, { outbound: false });
    expect(contactOf(message).params.has('reg-id')).toBe(false);
    expect(message.all('Supported')).toEqual(['path', 'gruu']);
    expect(await phone.event('registered')).toMatchObject({ outbound: false });
  });

  it('439 without fallback is told and tried again with back-off, while another proxy serves with outbound [UA-4.2.1-21 UA-4.2.1-22]', async () => {
    const [a, b] = [await desk.tcp(), await desk.tcp()];
    const phone = desk.phone([a, b], { fallback: false });
    phone.start();
    await accept(b);
    expect(await phone.event('registered')).toMatchObject({ regId: 2, outbound: true });
    a.reply(await a.next(isRequest('REGISTER')), 439, 'First Hop Lacks Outbound Support');
    expect(await phone.event('failed')).toMatchObject({ cause: { status: 439 }, retryIn: 90_000 });
    await phone.advance(89.9);
    expect(a.connections).toEqual([]);
    await phone.advance(0.2);
    const again = await a.next(isRequest('REGISTER'));
    expect(contactOf(again.message).params.get('reg-id')).toBe('1');
  });

  it('503 is followed by the next one after its Retry-After, at another address of the proxy [UA-4.2.1-18 UA-4.2.1-19]', async () => {
    const [first, second] = [await desk.tcp(), await desk.tcp()];
    const targets = [first, second].map(({ host, port }) => ({ host, port }));
    const phone = desk.phone(['sip:proxy.test;transport=tcp'], { locate: locating(targets) });
    phone.start();
    const got = await first.next(isRequest('REGISTER'));
    first.reply(got, 503, 'Service Unavailable', [['Retry-After', '7']]);
    expect(await phone.event('failed')).toMatchObject({ retryIn: 7_000 });
    await phone.advance(6.9);
    expect(second.connections).toEqual([]);
    await phone.advance(0.2);
    const { message } = await accept(second);
    expect([message.callId, message.cseq.number]).toEqual([got.message.callId, 2]);
  });

  it('503 with Retry-After 0 is followed by the next one at once [UA-4.2.1-18]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    phone.start();
    edge.reply(await edge.next(isRequest('REGISTER')), 503, 'Service Unavailable', [['Retry-After', '0']]);
    await phone.event('failed');
    await phone.advance(0.02);
    await accept(edge);
    await phone.event('registered');
  });

  it('gives Service-Route as Route of later requests, and Path as nothing of ours [3608-5-01 UA-4.2.1-14 3327-5.1-02]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    await registered(phone, edge, {
      headers: [
        ['Service-Route', '<sip:one.test;lr>, <sip:two.test;lr>'],
        ['Service-Route', '<sip:three.test;lr>'],
        ['Path', '<sip:token@edge.test;lr;ob>'],
      ],
    });
    const answer = phone.agent.request('OPTIONS', 'sip:bob@example.test');
    const got = await edge.next(isRequest('OPTIONS'));
    expect(got.message.all('Route')).toEqual([
      '<sip:one.test;lr>',
      '<sip:two.test;lr>',
      '<sip:three.test;lr>',
    ]);
    edge.reply(got, 200, 'OK');
    expect((await answer).status).toBe(200);
  });
});

describe('the end of a registration', () => {
  it('is a REGISTER with the same pair and no time, over each flow [UA-4.2.2-01 UA-4.2.1-08]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    const first = await registered(phone, edge);
    const stopped = phone.agent.stop();
    const got = await edge.next(isRequest('REGISTER'));
    expect(got.message.header('Expires')).toBe('0');
    expect(got.message.header('Contact')).toBe(first.message.header('Contact'));
    expect(got.from).toEqual(first.from);
    edge.reply(got, 200, 'OK');
    await stopped;
  });

  it('waits for the answer to a first REGISTER that is under way, and takes back what it brought', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    phone.start();
    const first = await edge.next(isRequest('REGISTER'));
    const stopped = phone.agent.stop();
    await phone.advance(20);
    expect(edge.arrivals.filter(isRequest('REGISTER'))).toEqual([]);
    grant(edge, first);
    const got = await edge.next(isRequest('REGISTER'));
    expect([got.message.header('Expires'), got.message.cseq.number]).toEqual(['0', 2]);
    expect(got.message.header('Contact')).toBe(first.message.header('Contact'));
    edge.reply(got, 200, 'OK');
    await stopped;
    expect(phone.events).toEqual([]);
  });

  it.each([401, 403, 503])('of one that was answered %i is nothing: there is none', async (status) => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    phone.start();
    const first = await edge.next(isRequest('REGISTER'));
    const [connection] = edge.connections;
    const stopped = phone.agent.stop();
    edge.reply(first, status, 'No');
    await stopped;
    await connection.closed;
    expect(edge.arrivals.filter(isRequest('REGISTER'))).toEqual([]);
  });

  it.each([200, 401, 503])('waits for the answer to a refresh, whatever it is: %i', async (status) => {
    const edge = answering(await desk.tcp());
    const phone = desk.phone([edge]);
    await registered(phone, edge, { expires: 60 });
    await phone.advance(27.1);
    const refresh = await edge.next(isRequest('REGISTER'));
    const stopped = phone.agent.stop();
    await phone.advance(5);
    expect(edge.arrivals.filter(isRequest('REGISTER'))).toEqual([]);
    if (status === 200) grant(edge, refresh);
    else edge.reply(refresh, status, 'No');
    const got = await edge.next(isRequest('REGISTER'));
    expect([got.message.header('Expires'), got.message.cseq.number]).toEqual(['0', 3]);
    edge.reply(got, 200, 'OK');
    await stopped;
  });

  it('does not wait for an edge that is gone, nor longer than 32 s for one that is silent', async () => {
    const edges = [await desk.tcp(), await desk.tcp()];
    const phone = desk.phone(edges);
    phone.start();
    for (const edge of edges) await edge.next(isRequest('REGISTER'));
    let done = false;
    const stopped = phone.agent.stop().then(() => {
      done = true;
    });
    for (const connection of [...edges[0].connections]) await connection.reset();
    await phone.advance(31.9);
    expect(done).toBe(false);
    await phone.advance(0.2);
    await stopped;
    expect(edges[1].arrivals.filter(isRequest('REGISTER'))).toEqual([]);
  });

  it('is waited for by each who stops, until one of them no longer wants it', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    const ended: string[] = [];
    const first = phone.agent.stop().then(() => ended.push('first'));
    const second = phone.agent.stop().then(() => ended.push('second'));
    await edge.next(isRequest('REGISTER'));
    await phone.advance(5);
    expect(ended).toEqual([]);
    await phone.agent.stop({ remove: false });
    await Promise.all([first, second]);
    expect(edge.arrivals.filter(isRequest('REGISTER'))).toEqual([]);
  });

  it('is reached too over a stream of the program that answers while it is written to', async () => {
    const asked: string[] = [];
    const dial: Dial = (_target, handler) => {
      const stream = new Duplex({
        read() {},
        write(chunk: Buffer, _encoding, done) {
          const request = chunk.toString();
          asked.push(/^Expires: (\d+)/m.exec(request)?.[1] ?? '');
          const own = request.split('\r\n').filter((row) => /^(Via|From|To|Call-ID|CSeq|Contact):/.test(row));
          const status = asked.length === 1 ? '423 Interval Too Brief' : '200 OK';
          done(); // before the answer: what that brings about is written at once
          stream.push(
            [`SIP/2.0 ${status}`, 'Min-Expires: 7200', ...own, 'Content-Length: 0\r\n\r\n'].join('\r\n'),
          );
        },
      });
      const connection = overStream(TCP, stream, handler);
      setImmediate(() => connection.opened('192.0.2.1', 5060));
      return connection;
    };
    const phone = desk.phone(['sip:192.0.2.9;transport=tcp'], { dials: { [TCP]: dial } });
    phone.start();
    await phone.event('registered');
    await phone.agent.stop();
    expect(asked).toEqual(['3600', '7200', '0']);
  });

  it('of all devices is Contact: * and nothing else [UA-4.2.3-02]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    const answer = phone.agent.unregisterAll();
    const got = await edge.next(isRequest('REGISTER'));
    expect(got.message.fields('Contact')).toEqual(['*']);
    expect(got.message.header('Expires')).toBe('0');
    edge.reply(got, 200, 'OK');
    expect((await answer).status).toBe(200);
  });

  it('of another device is told without reg-id and instance-id [UA-4.2.3-01]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    const answer = phone.agent.request('REGISTER', 'sip:example.test', {
      headers: [['Contact', '<sip:printer@192.0.2.9>']],
    });
    const got = await edge.next(isRequest('REGISTER'));
    expect(got.message.fields('Contact')).toEqual(['<sip:printer@192.0.2.9>']);
    edge.reply(got, 200, 'OK');
    await answer;
  });
});

describe('GRUUs of the registrar', () => {
  it('become the Contact of what forms dialogs, with ob, over the registration flow [5627-4.4-01 5627-4.4-02 UA-4.3-06 5627-4.2-01]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    const gruu = 'sip:dora@example.test;gr=urn:uuid:x';
    const first = await registered(phone, edge, {
      params: `;pub-gruu="${gruu}";temp-gruu="sip:tgruu.1@example.test;gr"`,
    });
    expect(phone.agent.flows[0].publicGruu).toBe(gruu);
    const call = phone.agent.invite('sip:bob@example.test');
    const got = await edge.next(isRequest('INVITE'));
    expect(got.from).toEqual(first.from);
    expect(parseNameAddr(got.message.header('Contact') ?? '').uri).toBe(`${gruu};ob`);
    edge.reply(got, 486, 'Busy Here');
    await expect(call).rejects.toMatchObject({ code: 'refused' });
    await edge.next(isRequest('ACK'));
  });
});

/** As DNS would answer for the proxy's name. */
function locating(targets: { host: string; port: number }[]) {
  return async () => ({
    targets: targets.map(({ host, port }) => ({
      transport: 2,
      host,
      address: Endpoint.parse(host, port) as Endpoint,
      priority: 0,
      weight: 0,
    })),
    failure: '' as const,
    ttl: 1000,
  });
}
