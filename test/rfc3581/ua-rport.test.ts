/** What a user agent without keep-alives does for the way back through a NAT while a call rings: RFC 3581 section 3. */
import { afterEach, describe, expect, it } from 'vitest';
import { isRequest } from '../harness/inbox.ts';
import { answering, Desk, registered } from '../harness/phone.ts';

const desk = new Desk();
afterEach(() => desk.close());

const BOB = 'sip:bob@example.test';

describe('an INVITE that rings', () => {
  it('is sent again every 20 s over a flow that nothing else keeps open, until it is answered [3581-3-03]', async () => {
    const edge = await desk.udp();
    edge.keepRetransmissions = true;
    const phone = desk.phone([edge]);
    phone.start();
    edge.reply(await edge.next(isRequest('REGISTER')), 403, 'Forbidden');
    await phone.event('failed');
    const calling = phone.agent.invite(BOB).catch(() => {});
    const invite = await edge.next(isRequest('INVITE'));
    edge.reply(invite, 180, 'Ringing');
    await phone.advance(19.9);
    expect(edge.arrivals).toEqual([]);
    await phone.advance(0.2);
    expect((await edge.only()).bytes).toEqual(invite.bytes);
    edge.reply(invite, 486, 'Busy Here');
    await calling;
    await edge.only(isRequest('ACK'));
    await phone.advance(9); // before the next attempt to register
    expect(edge.arrivals).toEqual([]);
  });

  it('is not where keep-alives run', async () => {
    const edge = answering(await desk.udp());
    edge.keepRetransmissions = true;
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    const calling = phone.agent.invite(BOB).catch(() => {});
    const invite = await edge.next(isRequest('INVITE'));
    edge.reply(invite, 180, 'Ringing');
    await phone.advance(120);
    expect(edge.arrivals).toEqual([]);
    edge.reply(invite, 486, 'Busy Here');
    await calling;
  });
});
