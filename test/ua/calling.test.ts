/**
 * Calls of the user agent with an edge that the test plays: INVITE and its answers, ACK, CANCEL and BYE of either side,
 * what is lost and what comes twice (RFC 3261 9, 12, 13, 15; RFC 6026).
 */
import { afterEach, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { type Arrival, isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { answering, Desk, type Phone, registered } from '../harness/phone.ts';
import { compose, type Header, newBranch, parseNameAddr, response, unique } from '../harness/sip.ts';

const desk = new Desk();
afterEach(() => desk.close());

const BOB = 'sip:bob@example.test';
const CONTACT: Header = ['Contact', '<sip:bob@192.0.2.7:5070>'];

async function ready(transport: 'udp' | 'tcp' = 'tcp'): Promise<{ edge: Agent; phone: Phone }> {
  const edge = answering(await desk[transport]());
  const phone = desk.phone([edge]);
  await registered(phone, edge);
  return { edge, phone };
}

/** Octets of the answer with a chosen To tag. */
const answer = (got: Arrival, status: number, tag: string, headers: Header[] = []): Buffer => {
  const bytes = response(got.message, status, status === 180 ? 'Ringing' : 'OK', [CONTACT, ...headers]);
  return Buffer.from(
    bytes.toString('latin1').replace(/(\r\nTo: [^\r]*);tag=[^\r]*/, `$1;tag=${tag}`),
    'latin1',
  );
};

describe('a call that the agent makes', () => {
  it('has the body that it was given, is acknowledged over the route set in reverse, and hung up within it', async () => {
    const { edge, phone } = await ready();
    const calling = phone.agent.invite(BOB, { body: 'v=0\r\n' });
    const invite = await edge.next(isRequest('INVITE'));
    expect(invite.message.body.toString()).toBe('v=0\r\n');
    expect(invite.message.header('Content-Type')).toBe('application/sdp');
    const routes: Header[] = [['Record-Route', '<sip:far.test;lr>, <sip:near.test;lr>']];
    edge.send(answer(invite, 200, 'bob', routes));
    const call = await calling;
    const ack = await edge.next(isRequest('ACK'));
    expect(ack.message.uri).toBe('sip:bob@192.0.2.7:5070');
    expect(ack.message.all('Route')).toEqual(['<sip:near.test;lr>', '<sip:far.test;lr>']);
    expect(ack.message.cseq).toEqual({ number: invite.message.cseq.number, method: 'ACK' });
    expect(ack.message.via[0].branch).not.toBe(invite.message.via[0].branch);
    expect(ack.message.via[0].params.has('keep')).toBe(false);
    const hanging = call.bye();
    const bye = await edge.next(isRequest('BYE'));
    expect(bye.message.all('Route')).toEqual(['<sip:near.test;lr>', '<sip:far.test;lr>']);
    expect(bye.message.header('To')).toMatch(/;tag=bob$/);
    expect(bye.message.cseq.number).toBe(invite.message.cseq.number + 1);
    edge.reply(bye, 200, 'OK');
    expect((await hanging).status).toBe(200);
    expect(await call.ended).toBe('local');
    await expect(call.request('INFO')).rejects.toMatchObject({ code: 'state' });
  });

  it('never has keep in its ACKs, and none in a re-INVITE [6223-4.3-03 6223-4.3-04]', async () => {
    const { edge, phone } = await ready();
    const calling = phone.agent.invite(BOB);
    edge.send(answer(await edge.next(isRequest('INVITE')), 200, 'bob'));
    const call = await calling;
    const again = call.request('INVITE', { body: 'x' });
    const acks = [await edge.next(isRequest('ACK'))];
    const second = await edge.next(isRequest('INVITE'));
    edge.send(answer(second, 200, 'bob'));
    await again;
    acks.push(await edge.next(isRequest('ACK')));
    for (const { message } of [...acks, second]) expect(message.via[0].params.has('keep')).toBe(false);
    expect(acks[1].message.cseq.number).toBe(second.message.cseq.number);
  });

  it('sends to a strict router as RFC 3261 12.2.1.1 says', async () => {
    const { edge, phone } = await ready();
    const calling = phone.agent.invite(BOB);
    const invite = await edge.next(isRequest('INVITE'));
    edge.send(answer(invite, 200, 'bob', [['Record-Route', '<sip:loose.test;lr>, <sip:strict.test>']]));
    await calling;
    const { message } = await edge.next(isRequest('ACK'));
    expect(message.uri).toBe('sip:strict.test');
    expect(message.all('Route')).toEqual(['<sip:loose.test;lr>', '<sip:bob@192.0.2.7:5070>']);
  });

  it('is over when a request in it is answered 481', async () => {
    const { edge, phone } = await ready();
    const calling = phone.agent.invite(BOB);
    edge.send(answer(await edge.next(isRequest('INVITE')), 200, 'bob'));
    const call = await calling;
    const info = call.request('INFO');
    edge.reply(await edge.next(isRequest('INFO')), 481, 'Call/Transaction Does Not Exist');
    expect((await info).status).toBe(481);
    expect(await call.ended).toBe('lost');
  });

  it('answers each copy of the 2xx with the same ACK', async () => {
    const { edge, phone } = await ready('udp');
    edge.keepRetransmissions = true;
    const calling = phone.agent.invite(BOB);
    const invite = await edge.next(isRequest('INVITE'));
    const ok = answer(invite, 200, 'bob');
    invite.answer(ok);
    await calling;
    const first = await edge.next(isRequest('ACK'));
    invite.answer(ok);
    const second = await edge.next(isRequest('ACK'));
    expect(second.bytes).toEqual(first.bytes);
  });

  it('acknowledges a second branch that answered, and hangs it up', async () => {
    const { edge, phone } = await ready();
    const calling = phone.agent.invite(BOB);
    const invite = await edge.next(isRequest('INVITE'));
    edge.send(answer(invite, 200, 'one'));
    const call = await calling;
    await edge.next(isRequest('ACK'));
    edge.send(answer(invite, 200, 'two'));
    expect((await edge.next(isRequest('ACK'))).message.header('To')).toMatch(/;tag=two$/);
    const bye = await edge.next(isRequest('BYE'));
    expect(bye.message.header('To')).toMatch(/;tag=two$/);
    edge.reply(bye, 200, 'OK');
    expect(call.isOver).toBe(false);
  });

  it.each([
    [400, '', 'Bad Request'],
    [430, ' [UA-11.5-01]', 'Flow Failed'],
    [486, '', 'Busy Here'],
    [600, '', 'Busy Everywhere'],
  ])(
    'refused with %i is acknowledged and rejected with the response, and not tried again%s',
    async (status, _ids, reason) => {
      const { edge, phone } = await ready('udp');
      const calling = phone.agent.invite(BOB);
      const rejected = expect(calling).rejects.toMatchObject({ code: 'refused', response: { status } });
      const invite = await edge.next(isRequest('INVITE'));
      edge.reply(invite, status, reason);
      await rejected;
      const ack = await edge.next(isRequest('ACK'));
      expect(ack.message.via[0].branch).toBe(invite.message.via[0].branch);
      expect(ack.message.uri).toBe(invite.message.uri);
      await phone.advance(5);
      expect(edge.arrivals).toEqual([]);
    },
  );

  it('is cancelled by its signal once there is a provisional response, with the branch of its INVITE', async () => {
    const { edge, phone } = await ready();
    const controller = new AbortController();
    const calling = phone.agent.invite(BOB, { signal: controller.signal });
    const rejected = expect(calling).rejects.toMatchObject({ code: 'aborted' });
    const invite = await edge.next(isRequest('INVITE'));
    controller.abort();
    await phone.advance(0.1);
    expect(edge.arrivals).toEqual([]);
    edge.send(answer(invite, 180, 'bob'));
    const cancel = await edge.next(isRequest('CANCEL'));
    expect(cancel.message.via).toEqual(invite.message.via);
    expect(cancel.message.cseq).toEqual({ number: invite.message.cseq.number, method: 'CANCEL' });
    edge.reply(cancel, 200, 'OK');
    edge.reply(invite, 487, 'Request Terminated');
    await rejected;
    await edge.next(isRequest('ACK'));
  });

  it('that is answered in spite of the CANCEL is acknowledged and hung up', async () => {
    const { edge, phone } = await ready();
    const controller = new AbortController();
    const calling = phone.agent.invite(BOB, { signal: controller.signal });
    const rejected = expect(calling).rejects.toMatchObject({ code: 'aborted' });
    const invite = await edge.next(isRequest('INVITE'));
    edge.send(answer(invite, 180, 'bob'));
    await phone.advance(0.1);
    controller.abort();
    await edge.next(isRequest('CANCEL'));
    edge.send(answer(invite, 200, 'bob'));
    await rejected;
    await edge.next(isRequest('ACK'));
    edge.reply(await edge.next(isRequest('BYE')), 200, 'OK');
  });

  it('that nobody answers at all is rejected after 64 T1', async () => {
    const { edge, phone } = await ready();
    const rejected = expect(phone.agent.invite(BOB)).rejects.toMatchObject({ code: 'timeout' });
    await edge.next(isRequest('INVITE'));
    await phone.advance(32.1);
    await rejected;
  });

  it('is given up with code aborted without a message when its signal was aborted before', async () => {
    const { edge, phone } = await ready();
    const calling = phone.agent.invite(BOB, { signal: AbortSignal.abort() });
    await expect(calling).rejects.toMatchObject({ code: 'aborted' });
    expect(edge.arrivals).toEqual([]);
  });
});

describe('a call that comes', () => {
  const ids = { callId: '', tag: '' };
  const invite = (headers: Header[] = []): Buffer => {
    ids.callId = unique('call-');
    ids.tag = unique('b');
    return inside('INVITE', 1, '', newBranch(), [CONTACT, ...headers]);
  };
  const inside = (
    method: string,
    cseq: number,
    toTag: string,
    branch = newBranch(),
    headers: Header[] = [],
  ) =>
    compose(`${method} sip:dora@127.0.0.1 SIP/2.0`, [
      ['Via', `SIP/2.0/TCP 192.0.2.1:5060;branch=${branch}`],
      ['Max-Forwards', '70'],
      ['From', `<${BOB}>;tag=${ids.tag}`],
      ['To', `<sip:dora@example.test>${toTag && `;tag=${toTag}`}`],
      ['Call-ID', ids.callId],
      ['CSeq', `${cseq} ${method}`],
      ...headers,
    ]);
  const tagOf = ({ message }: Arrival) => parseNameAddr(message.header('To') ?? '').params.get('tag') ?? '';

  it('rings, is accepted with a body, and is there when the ACK has come; the caller hangs up', async () => {
    const { edge, phone } = await ready();
    const requests = phone.agent.requests();
    edge.send(invite([['Record-Route', '<sip:near.test;lr>']]));
    const { value: request } = await requests.next();
    request?.respond(180);
    const ringing = await edge.next(isResponse(180));
    const accepted = request?.accept({ body: 'answer' });
    const ok = await edge.next(isResponse(200));
    expect(ok.message.body.toString()).toBe('answer');
    expect(tagOf(ok)).toBe(tagOf(ringing));
    expect(ok.message.all('Record-Route')).toEqual(['<sip:near.test;lr>']);
    edge.send(inside('ACK', 1, tagOf(ok)));
    const call = await accepted;
    edge.send(inside('BYE', 2, tagOf(ok)));
    expect((await edge.next(isFinal())).message.cseq.method).toBe('BYE');
    expect(await call?.ended).toBe('remote');
    edge.send(inside('INFO', 3, tagOf(ok)));
    expect((await edge.next(isFinal())).message.status).toBe(481);
  });

  it('repeats its 2xx from T1 to T2 apart until the ACK is there', async () => {
    const { edge, phone } = await ready();
    const requests = phone.agent.requests();
    edge.send(invite());
    const accepted = (await requests.next()).value?.accept();
    const ok = await edge.next(isResponse(200));
    const copies: number[] = [];
    for (let tenth = 1; tenth <= 120; tenth++) {
      await phone.advance(0.1);
      for (; edge.arrivals.some(isResponse(200)); await edge.next(isResponse(200))) copies.push(tenth / 10);
    }
    // 0.5, 1.5, 3.5, 7.5, 11.5 s, each at most a tick late
    expect(copies.map((s) => Math.round(s * 2) / 2)).toEqual([0.5, 1.5, 3.5, 7.5, 11.5]);
    edge.send(inside('ACK', 1, tagOf(ok)));
    await accepted;
    await phone.advance(10);
    expect(edge.arrivals.filter(isResponse(200))).toEqual([]);
  });

  it('whose 2xx is never acknowledged is hung up after 64 T1, and accept rejects', async () => {
    const { edge, phone } = await ready();
    const requests = phone.agent.requests();
    edge.send(invite());
    const request = (await requests.next()).value;
    const rejected = expect(request?.accept()).rejects.toMatchObject({ code: 'no-ack' });
    await edge.next(isResponse(200));
    await phone.advance(32.1);
    await rejected;
    expect((await edge.next(isRequest('BYE'))).message.uri).toBe('sip:bob@192.0.2.7:5070');
    expect(await request?.call?.ended).toBe('no-ack');
  });

  it('is cancelled: 200 to the CANCEL, 487 to the INVITE, and the signal says so', async () => {
    const { edge, phone } = await ready();
    const requests = phone.agent.requests();
    const bytes = invite();
    edge.send(bytes);
    const request = (await requests.next()).value;
    const branch = /branch=(\S+)/.exec(bytes.toString())?.[1] as string;
    edge.send(inside('CANCEL', 1, '', branch));
    const [one, two] = [await edge.next(isFinal()), await edge.next(isFinal())];
    expect([one.message.cseq.method, one.message.status]).toEqual(['CANCEL', 200]);
    expect([two.message.cseq.method, two.message.status]).toEqual(['INVITE', 487]);
    expect(request?.signal.aborted).toBe(true);
    expect(request?.respond(180)).toBe(false);
    await expect(request?.accept()).rejects.toMatchObject({ code: 'aborted' });
  });

  it('takes requests inside it in order, and refuses one that is older', async () => {
    const { edge, phone } = await ready();
    const requests = phone.agent.requests();
    edge.send(invite());
    const accepted = (await requests.next()).value?.accept();
    const ok = await edge.next(isResponse(200));
    edge.send(inside('ACK', 1, tagOf(ok)));
    const call = await accepted;
    edge.send(inside('INFO', 5, tagOf(ok)));
    const info = (await requests.next()).value;
    expect(info?.call).toBe(call);
    info?.respond(200);
    await edge.next(isFinal());
    edge.send(inside('INFO', 4, tagOf(ok)));
    expect((await edge.next(isFinal())).message.status).toBe(500);
  });

  it('follows the Contact of a re-INVITE, and repeats the 2xx to that too', async () => {
    const { edge, phone } = await ready();
    const requests = phone.agent.requests();
    edge.send(invite());
    const accepted = (await requests.next()).value?.accept();
    const ok = await edge.next(isResponse(200));
    edge.send(inside('ACK', 1, tagOf(ok)));
    const call = await accepted;
    edge.send(inside('INVITE', 2, tagOf(ok), newBranch(), [['Contact', '<sip:bob@192.0.2.99>']]));
    const again = (await requests.next()).value?.accept({ body: 'again' });
    await edge.next(isResponse(200));
    await phone.advance(0.6);
    await edge.next(isResponse(200));
    edge.send(inside('ACK', 2, tagOf(ok)));
    expect(await again).toBe(call);
    void call?.bye().catch(() => {});
    expect((await edge.next(isRequest('BYE'))).message.uri).toBe('sip:bob@192.0.2.99');
  });

  it('that waits for its ACK when the agent is stopped is rejected', async () => {
    const { edge, phone } = await ready();
    const requests = phone.agent.requests();
    edge.send(invite());
    const rejected = expect((await requests.next()).value?.accept()).rejects.toMatchObject({
      code: 'stopped',
    });
    await edge.next(isResponse(200));
    await phone.agent.stop({ remove: false });
    await rejected;
  });

  it('is answered 100 by itself when the program takes its time', async () => {
    const { edge, phone } = await ready();
    phone.agent.requests();
    edge.send(invite());
    await phone.advance(0.19);
    expect(edge.arrivals).toEqual([]);
    await phone.advance(0.05);
    expect((await edge.next()).message.status).toBe(100);
  });
});
