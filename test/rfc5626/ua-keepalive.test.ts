/** The user agent's keep-alives as the edge sees them: which octets, when, and what silence does. RFC 5626 4.4 and 8. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import type { KeepAliveEvent } from '../../src/ua/agent.ts';
import type { TcpAgent } from '../harness/agent.ts';
import { isCrlf, isRequest, isStun } from '../harness/inbox.ts';
import { accept, answering, bindingAnswer, Desk, proxyUri, registered } from '../harness/phone.ts';
import { compose } from '../harness/sip.ts';
import { stun } from '../harness/stun.ts';

const desk = new Desk();
afterEach(() => desk.close());

const PONG = Buffer.from('\r\n');

/** Octets of a connection that belong to no message: each test looks at them from `from` on. */
const octetsOf = (connection: TcpAgent) => Buffer.concat(connection.octets);

describe('over TCP', () => {
  it('the first ping comes after the 2xx, is CR LF CR LF, and its pong keeps the flow [UA-4.2.1-17 UA-4.4.1-01 UA-4.4.1-03 UA-4.4.1-08 UA-4.4-09 GR-10-04]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    phone.start();
    const got = await edge.next(isRequest('REGISTER'));
    await phone.advance(20);
    expect(edge.arrivals.filter(isCrlf)).toEqual([]);
    const [connection] = edge.connections;
    const before = octetsOf(connection).length;
    edge.reply(got, 200, 'OK', [
      ['Contact', `${got.message.header('Contact')};expires=3600`],
      ['Require', 'outbound'],
    ]);
    await phone.event('registered');
    await phone.advance(94.9);
    expect(edge.arrivals.filter(isCrlf)).toEqual([]);
    for (let n = 1; n <= 3; n++) {
      await phone.advance(n === 1 ? 0.2 : 95.1);
      await edge.next(isCrlf);
      await edge.next(isCrlf);
      expect(octetsOf(connection).subarray(before)).toEqual(Buffer.from('\r\n\r\n'.repeat(n)));
      edge.send(PONG);
      await phone.advance(0.01);
    }
    expect(edge.connections).toEqual([connection]);
  });

  it('the program is told of each ping and of its pong, by flow', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    const told: KeepAliveEvent[] = [];
    phone.agent.on('keepAlive', (event) => told.push(event));
    await registered(phone, edge);
    await phone.advance(94.9);
    expect(told).toEqual([]);
    await phone.advance(0.2);
    const flow = { uri: proxyUri(edge), regId: 1 };
    expect(told).toEqual([{ ...flow, state: 'sent' }]);
    await edge.next(isCrlf);
    edge.send(PONG);
    await phone.advance(0.01);
    edge.send(PONG); // nobody has asked for it
    await phone.advance(0.01);
    expect(told).toEqual([
      { ...flow, state: 'sent' },
      { ...flow, state: 'answered' },
    ]);
  });

  it('Flow-Timer says how often [UA-4.4-06 UA-4.4-07 UA-4.4-08]', async () => {
    const edge = answering(await desk.tcp());
    const phone = desk.phone([edge]);
    await registered(phone, edge, { headers: [['Flow-Timer', '10']], expires: 60 });
    const [connection] = edge.connections;
    const before = octetsOf(connection).length;
    await phone.advance(8.05);
    expect(octetsOf(connection).length - before).toBe(4);
    await phone.advance(8.05);
    expect(octetsOf(connection).length - before).toBe(8);
    await phone.advance(11); // the refresh
    await accept(edge);
    await phone.event('registered');
    const then = octetsOf(connection).length;
    await phone.advance(8.05); // the interval that ran already
    await phone.advance(80);
    expect(octetsOf(connection).length - then).toBe(4);
  });

  it.each(['abc', '-5', '120;x=1', ''])(
    'a Flow-Timer of "%s" is passed over, not the message [GR-10-02]',
    async (value) => {
      const edge = answering(await desk.tcp());
      const phone = desk.phone([edge]);
      await registered(phone, edge, { headers: [['Flow-Timer', value]] });
      const [connection] = edge.connections;
      const before = octetsOf(connection).length;
      await phone.advance(94.9);
      expect(octetsOf(connection).length).toBe(before);
      await phone.advance(0.2);
      expect(octetsOf(connection).length).toBe(before + 4);
    },
  );

  it('no pong in 10 s ends the flow and makes another with the same reg-id; 9.9 s do not [UA-4.4.1-06 UA-3.5-01 UA-4.4-05 UA-4.5-01]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    const first = await registered(phone, edge);
    const [connection] = edge.connections;
    await phone.advance(95.01);
    await edge.next(isCrlf);
    edge.send(PONG); // proven
    await phone.advance(95.01);
    await phone.advance(9.95);
    expect(phone.events).toEqual([]);
    await phone.advance(0.1);
    expect(await phone.event('lost')).toMatchObject({ cause: 'no-pong', retryIn: 0 });
    await connection.closed;
    await phone.advance(0.02);
    const second = await accept(edge);
    expect(second.from).not.toEqual(first.from);
    expect(second.message.header('Contact')).toMatch(/;reg-id=1$/);
    expect(second.message.callId).toBe(first.message.callId);
  });

  /** A 40 kB message from the edge, in two parts. */
  const halves = (): [Buffer, Buffer] => {
    const message = compose(
      'OPTIONS sip:dora@example.test SIP/2.0',
      [
        ['Via', 'SIP/2.0/TCP 192.0.2.1:5060;branch=z9hG4bKlong'],
        ['Max-Forwards', '70'],
        ['From', '<sip:a@example.test>;tag=1'],
        ['To', '<sip:dora@example.test>'],
        ['Call-ID', 'long'],
        ['CSeq', '1 OPTIONS'],
      ],
      'x'.repeat(40_000),
    );
    return [message.subarray(0, 30_000), message.subarray(30_000)];
  };

  it('a pong right behind a message that spans the end of the 10 s is in time; none there is the end [UA-4.4.1-07]', async () => {
    for (const answered of [true, false]) {
      const edge = await desk.tcp();
      const phone = desk.phone([edge]);
      await registered(phone, edge);
      await phone.advance(95.01);
      await edge.next(isCrlf);
      const [first, rest] = halves();
      edge.send(first);
      await delay(50); // it has to be there before the clock goes on
      await phone.advance(15);
      expect(phone.events).toEqual([]);
      edge.send(answered ? Buffer.concat([rest, PONG]) : rest);
      if (answered) {
        await edge.next((a) => a.message.status === 200);
        await phone.advance(0.05);
        expect(phone.events).toEqual([]);
      } else expect(await phone.event('lost')).toMatchObject({ cause: 'no-pong' });
      await phone.agent.stop({ remove: false });
    }
  });

  it('no ping stands inside a message that is being sent [UA-4.4.1-04]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    await registered(phone, edge, { headers: [['Flow-Timer', '1']] });
    const [connection] = edge.connections;
    connection.socket.pause();
    const before = octetsOf(connection).length;
    const body = 'y'.repeat(200_000);
    const answer = phone.agent.request('MESSAGE', 'sip:bob@example.test', { body });
    answer.catch(() => {});
    await phone.advance(5);
    connection.socket.resume();
    const got = await edge.next(isRequest('MESSAGE'));
    expect(got.message.body.toString()).toBe(body);
    await edge.next(isCrlf);
    const text = octetsOf(connection).subarray(before).toString('latin1');
    expect(text).toMatch(/y{200000}\r\n\r\n/);
  });

  it('without outbound in the 2xx the flow is not given up for want of a pong [UA-4.4-02]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    await registered(phone, edge, { outbound: false });
    await phone.advance(95.01);
    await edge.next(isCrlf);
    await phone.advance(300);
    expect(phone.events).toEqual([]);
    expect(edge.connections).toHaveLength(1);
  });

  it('never begins with an octet of STUN [UA-4.4.2-02]', async () => {
    const edge = answering(await desk.tcp());
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    await phone.advance(300);
    expect(edge.arrivals.map(({ kind }) => kind)).toEqual([]);
    expect(octetsOf(edge.connections[0]).includes(0)).toBe(false);
  });
});

describe('over UDP', () => {
  it('STUN requests come 24 s apart at the least, from the flow itself, and never a CRLF [UA-4.4.2-01 UA-4.4.2-03 UA-4.4.2-04 UA-4.4.1-02 UA-4.4-09 ST-8-10]', async () => {
    const edge = await desk.udp();
    const phone = desk.phone([edge]);
    phone.start();
    const got = await edge.next(isRequest('REGISTER'));
    await phone.advance(0.4);
    expect(edge.arrivals).toEqual([]);
    edge.reply(got, 200, 'OK', [
      ['Contact', `${got.message.header('Contact')};expires=3600`],
      ['Require', 'outbound'],
    ]);
    await phone.event('registered');
    const ids = new Set<string>();
    await phone.advance(23.9);
    for (let n = 0; n < 12; n++) {
      expect(edge.arrivals).toEqual([]);
      await phone.advance(0.3);
      const ask = await edge.only(isStun);
      expect(ask.from).toEqual(got.from);
      ids.add(ask.stun?.id.toString('hex') as string);
      ask.answer(bindingAnswer(ask.stun?.id as Buffer, ask.from));
      await phone.advance(23.7);
    }
    expect(ids.size).toBe(12);
  });

  it('a request that nobody answers goes out seven times under one id, then the flow has failed [UA-4.4.2-06 ST-8-11]', async () => {
    const edge = await desk.udp();
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    await phone.advance(24.01);
    await phone.advance(39.4);
    const asks = edge.arrivals.filter(isStun);
    expect(asks).toHaveLength(7);
    expect(new Set(asks.map(({ bytes }) => bytes.toString('hex'))).size).toBe(1);
    expect(phone.events).toEqual([]);
    await phone.advance(0.2);
    expect(await phone.event('lost')).toMatchObject({ cause: 'no-stun-answer' });
  });

  it('another mapped address ends the flow; the same reg-id comes from another port [UA-4.4.2-07 ST-8-12]', async () => {
    let shift = 0;
    const edge = answering(await desk.udp(), ({ host, port }) => ({ host, port: port + shift }));
    const phone = desk.phone([edge]);
    const first = await registered(phone, edge);
    await phone.advance(24.1);
    await phone.advance(24.1);
    expect(phone.events).toEqual([]);
    shift = 1;
    await phone.advance(24.1);
    expect(await phone.event('lost')).toMatchObject({ cause: 'mapped-address-changed', retryIn: 0 });
    await phone.advance(0.02);
    const second = await accept(edge);
    expect(second.from.port).not.toBe(first.from.port);
    expect(second.message.header('Contact')).toMatch(/;reg-id=1$/);
  });

  it('an error answer ends the flow [UA-4.4.2-05]', async () => {
    const edge = await desk.udp();
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    await phone.advance(24.1);
    const ask = await edge.next(isStun);
    ask.answer(stun({ type: 0x0111, id: ask.stun?.id as Buffer }));
    expect(await phone.event('lost')).toMatchObject({ cause: 'stun-error' });
  });

  it('a closed port, by its ICMP error, ends the flow at once [ST-5389-15]', async () => {
    const edge = await desk.udp();
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    await edge.close();
    await phone.advance(24.1);
    expect(await phone.event('lost')).toMatchObject({ cause: 'icmp' });
  });

  it('without an explicit sign there is none [UA-4.4-01 ST-8-07 ST-8-08]', async () => {
    const edge = await desk.udp();
    const phone = desk.phone([edge]);
    await registered(phone, edge, { outbound: false });
    await phone.advance(120);
    expect(edge.arrivals).toEqual([]);
  });

  it.each([
    ['ob in Path of the 2xx', 'ST-8-09', { headers: [['Path', '<sip:tok@e.test;lr;ob>']] }, {}],
    ['the configuration', 'UA-4.4-03', {}, { nextHopAnswersKeepAlives: true }],
  ] as const)(
    '%s is a sign: then they come by the same times [%s UA-4.4-04]',
    async (_sign, _id, answer, options) => {
      const edge = await desk.udp();
      const phone = desk.phone([edge], options);
      await registered(phone, edge, { outbound: false, ...(answer as object) });
      await phone.advance(23.9);
      expect(edge.arrivals).toEqual([]);
      await phone.advance(0.2);
      await edge.only(isStun);
    },
  );

  it('a keep value in the Via of the 2xx is one too, says how often, and ends with the refresh that has none [6223-4.3-02 6223-4.2.2-01 6223-5-01]', async () => {
    const edge = answering(await desk.udp());
    const phone = desk.phone([edge]);
    phone.start();
    const keep = async (value: string) => {
      const got = await edge.next(isRequest('REGISTER'));
      const { message } = got;
      const via = (message.header('Via') ?? '').replace(';keep', value);
      got.answer(
        compose('SIP/2.0 200 OK', [
          ['Via', via],
          ...(['From', 'To', 'Call-ID', 'CSeq'] as const).map(
            (name) => [name, `${message.header(name)}${name === 'To' ? ';tag=1' : ''}`] as const,
          ),
          ['Contact', `${message.header('Contact')};expires=200`],
        ]),
      );
      await phone.event('registered');
    };
    let asked = 0;
    const deliver = edge.deliver.bind(edge);
    edge.deliver = (arrival, once) => {
      if (arrival.kind === 'stun') asked++;
      deliver(arrival, once);
    };
    await keep(';keep=10');
    await phone.advance(8.1);
    expect(asked).toBe(1);
    await phone.advance(8.1);
    expect(asked).toBe(2);
    await phone.advance(135.3);
    await keep(';keep');
    const then = asked;
    await phone.advance(100);
    expect(asked).toBe(then);
  });
});
