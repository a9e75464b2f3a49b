/** A user agent that does not register asks for keep-alives for its dialogs: RFC 6223 4.2.3, 4.3, 10. */
import { afterEach, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { type Arrival, isRequest, isStun } from '../harness/inbox.ts';
import { answering, Desk, type Phone } from '../harness/phone.ts';
import { response } from '../harness/sip.ts';

const desk = new Desk();
afterEach(() => desk.close());

/** A phone whose registration was refused, so that its requests go over a flow of their own. */
async function unregistered(): Promise<{ edge: Agent; phone: Phone }> {
  const edge = await desk.udp();
  const phone = desk.phone([edge]);
  phone.start();
  edge.reply(await edge.next(isRequest('REGISTER')), 403, 'Forbidden');
  await phone.event('failed');
  return { edge, phone };
}

function answer(got: Arrival, keep: string): void {
  const bytes = response(got.message, 200, 'OK', [['Contact', '<sip:bob@192.0.2.7>']]);
  got.answer(Buffer.from(bytes.toString('latin1').replace(/;keep(?=[;\r])/, keep), 'latin1'));
}

/** An answered call on such a flow, and its ACK. */
async function called(edge: Agent, phone: Phone, keep: string) {
  const calling = phone.agent.invite('sip:bob@example.test');
  const invite = await edge.next(isRequest('INVITE'));
  answer(invite, keep);
  const call = await calling;
  return { call, invite, ack: await edge.next(isRequest('ACK')) };
}

describe('a dialog on a flow without registration', () => {
  it('has keep-alives by the value of its 2xx from then on until its end, and no keep in its later requests [6223-4.2.3-01 6223-4.3-01 6223-4.3-02 6223-4.3-03 6223-4.3-04 6223-4.3-05]', async () => {
    const { edge, phone } = await unregistered();
    let asked = 0;
    answering(edge, (from) => {
      asked++;
      return from;
    });
    const { call, invite, ack } = await called(edge, phone, ';keep=20');
    expect(invite.message.via[0].params.has('keep')).toBe(true);
    expect(ack.message.via[0].params.has('keep')).toBe(false);
    await phone.advance(15.9);
    expect(asked).toBe(0);
    await phone.advance(0.2);
    expect(asked).toBe(1);
    const info = call.request('INFO');
    const got = await edge.next(isRequest('INFO'));
    expect(got.message.via[0].params.has('keep')).toBe(false);
    edge.reply(got, 200, 'OK');
    await info;
    await phone.advance(16.1);
    expect(asked).toBe(2);
    const hanging = call.bye();
    edge.reply(await edge.next(isRequest('BYE')), 200, 'OK');
    await hanging;
    await phone.advance(25);
    expect(asked).toBe(2);
  });

  it('is served by them as long as it lasts, though another one on the same flow has ended [6223-4.2.3-01]', async () => {
    const { edge, phone } = await unregistered();
    let asked = 0;
    answering(edge, (from) => {
      asked++;
      return from;
    });
    const first = await called(edge, phone, ';keep=20');
    const second = await called(edge, phone, ';keep=20');
    const end = async ({ call }: typeof first) => {
      const hanging = call.bye();
      edge.reply(await edge.next(isRequest('BYE')), 200, 'OK');
      await hanging;
    };
    await end(first);
    await phone.advance(16.1);
    expect(asked).toBe(1);
    await end(second);
    await phone.advance(25);
    expect(asked).toBe(1);
  });

  it('has none where the 2xx gives no value', async () => {
    const { edge, phone } = await unregistered();
    await called(edge, phone, ';keep');
    await phone.advance(29);
    expect(edge.arrivals.filter(isStun)).toEqual([]);
  });

  it('has none any more when one was not answered, and goes on [6223-10-03]', async () => {
    const { edge, phone } = await unregistered();
    const { call } = await called(edge, phone, ';keep=5');
    await phone.advance(4.1);
    await phone.advance(24); // before the next attempt to register
    const ask = await edge.next(isStun);
    expect(edge.arrivals.filter(isStun).every(({ bytes }) => bytes.equals(ask.bytes))).toBe(true);
    await phone.advance(20);
    edge.clear();
    await phone.advance(20);
    expect(edge.arrivals.filter(isStun)).toEqual([]);
    const info = call.request('INFO');
    edge.reply(await edge.next(isRequest('INFO')), 200, 'OK');
    expect((await info).status).toBe(200);
  });
});
