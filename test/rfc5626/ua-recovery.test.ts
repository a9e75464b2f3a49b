/** How the user agent comes back: which waits, which counter, which registration. RFC 5626 4.5 and Appendix A. */
import { afterEach, describe, expect, it } from 'vitest';
import { Endpoint } from '../../src/net/endpoint.ts';
import type { Locate } from '../../src/ua/locating.ts';
import type { TcpCore } from '../harness/agent.ts';
import { isCrlf, isRequest } from '../harness/inbox.ts';
import { accept, answering, Desk, type Phone, registered } from '../harness/phone.ts';
import { freePort, freshHost } from '../harness/ports.ts';

const desk = new Desk();
afterEach(() => desk.close());

async function nowhere(): Promise<{ host: string; port: number; uri: string }> {
  const host = freshHost();
  const port = await freePort(host);
  return { host, port, uri: `sip:${host}:${port};transport=tcp` };
}

const drop = async (edge: TcpCore) => {
  for (const connection of [...edge.connections]) await connection.reset();
};

/** The edge answers one ping, so that the flow counts as a success. */
async function prove(phone: Phone, seconds = 95.1): Promise<void> {
  await phone.advance(seconds);
}

describe('a user agent whose proxies are down', () => {
  it('tries at once at boot and again 30 to 60 s after that failed [UA-4.5-09 UA-4.5-04]', async () => {
    for (const [chance, wait] of [
      [0, 30],
      [0.999999, 60],
    ]) {
      const gone = await nowhere();
      const phone = desk.phone([gone.uri]);
      phone.chance = chance;
      phone.start();
      const failed = await phone.event('failed');
      expect(failed).toMatchObject({ cause: 'refused' });
      expect((failed as { retryIn: number }).retryIn / 1000).toBeCloseTo(wait, 3);
      const edge = await desk.tcp(gone.port, gone.host);
      await phone.advance(wait - 0.1);
      expect(edge.connections).toEqual([]);
      await phone.advance(0.2);
      await accept(edge);
      await phone.event('registered');
    }
  });

  it('doubles the wait with each failure, to 15 to 30 minutes, and never gives up [UA-4.5-05 UA-4.5-10 UA-4.5-07]', async () => {
    const phone = desk.phone([(await nowhere()).uri]);
    phone.start();
    const waits: number[] = [];
    for (let n = 0; n < 12; n++) {
      const { retryIn } = (await phone.event('failed')) as { retryIn: number };
      waits.push(retryIn / 1000);
      await phone.advance(retryIn / 1000 + 0.02);
    }
    expect(waits).toEqual([30, 60, 120, 240, 480, ...Array(7).fill(900)]);
  });

  it('waits from the higher base while another flow is up [UA-4.5-04]', async () => {
    const edge = answering(await desk.tcp());
    const gone = await nowhere();
    const phone = desk.phone([edge, gone.uri]);
    phone.start();
    await accept(edge);
    await phone.event('registered');
    const first = (await phone.event('failed')) as { retryIn: number };
    expect([30_000, 90_000]).toContain(first.retryIn); // whether the other was up by then is chance
    await phone.advance(90.1);
    expect(await phone.event('failed')).toMatchObject({ regId: 2, retryIn: 180_000 });
  });

  it('scales with the times that are set [UA-4.5-06]', async () => {
    const phone = desk.phone([(await nowhere()).uri], { backoff: { allDown: 1, someUp: 3, most: 8 } });
    phone.start();
    for (const wait of [1_000, 2_000, 4_000, 4_000]) {
      expect(await phone.event('failed')).toMatchObject({ retryIn: wait });
      await phone.advance(wait / 1000 + 0.02);
    }
  });
});

describe('a flow that breaks', () => {
  it('after it was a success is replaced at once, by the same reg-id, Call-ID and the next CSeq [UA-4.5-01 UA-4.5-02 UA-4.4-05]', async () => {
    const edge = answering(await desk.tcp());
    const phone = desk.phone([edge]);
    const first = await registered(phone, edge);
    await prove(phone);
    await drop(edge);
    expect(await phone.event('lost')).toMatchObject({ retryIn: 0 });
    await phone.advance(0.02);
    const second = await accept(edge);
    expect(second.message.callId).toBe(first.message.callId);
    expect(second.message.cseq.number).toBe(first.message.cseq.number + 1);
    expect(second.message.header('Contact')).toMatch(/;reg-id=1$/);
    expect(await phone.event('registered')).toMatchObject({ regId: 1 });
  });

  it('and cannot be replaced, waits then [UA-4.5-02]', async () => {
    const host = freshHost();
    const port = await freePort(host);
    const edge = answering(await desk.tcp(port, host));
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    await prove(phone);
    await edge.close();
    expect(await phone.event('lost')).toMatchObject({ retryIn: 0 });
    await phone.advance(0.02);
    expect(await phone.event('failed')).toMatchObject({ cause: 'refused', retryIn: 30_000 });
    const back = await desk.tcp(port, host);
    await phone.advance(30.02);
    await accept(back);
    await phone.event('registered');
  });

  it('before its first pong is one more failure: five such flows, five growing waits [UA-4.5-03]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    phone.start();
    const waits: number[] = [];
    for (let n = 0; n < 5; n++) {
      await accept(edge);
      await phone.event('registered');
      await drop(edge);
      const { retryIn } = (await phone.event('lost')) as { retryIn: number };
      waits.push(retryIn / 1000);
      await phone.advance(retryIn / 1000 + 0.02);
    }
    expect(waits).toEqual([30, 60, 120, 240, 480]);
    await accept(edge);
    await phone.event('registered');
    answering(edge);
    await prove(phone);
    await drop(edge);
    expect(await phone.event('lost')).toMatchObject({ retryIn: 0 });
  });

  it('leaves the other flow alone [UA-4.2.1-11]', async () => {
    const [a, b] = [answering(await desk.tcp()), answering(await desk.tcp())];
    const phone = desk.phone([a, b]);
    phone.start();
    await accept(a);
    await accept(b);
    await phone.event('registered');
    await phone.event('registered');
    await prove(phone);
    await drop(a);
    expect(await phone.event('lost')).toMatchObject({ regId: 1 });
    expect(phone.agent.flows.map(({ regId }) => regId)).toEqual([2]);
    expect(b.connections).toHaveLength(1);
    await phone.advance(0.02);
    await accept(a);
    await phone.event('registered');
    expect(phone.agent.flows.map(({ regId }) => regId)).toEqual([1, 2]);
  });
});

describe('503 with Retry-After', () => {
  it('lengthens a later wait and never shortens it [UA-4.5-08]', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    phone.start();
    const refuse = async (after: string) => {
      edge.reply(await edge.next(isRequest('REGISTER')), 503, 'Service Unavailable', [
        ['Retry-After', after],
      ]);
      const { retryIn } = (await phone.event('failed')) as { retryIn: number };
      await phone.advance(retryIn / 1000 + 0.02);
      return retryIn / 1000;
    };
    expect(await refuse('1')).toBe(1);
    expect(await refuse('1')).toBe(60);
    expect(await refuse('500')).toBe(500);
  });
});

describe('a device that gets another address', () => {
  it('makes its flows anew at once when it is told so', async () => {
    const edge = answering(await desk.tcp());
    const phone = desk.phone([edge]);
    const first = await registered(phone, edge);
    phone.agent.networkChanged();
    expect(await phone.event('lost')).toMatchObject({ cause: 'network-changed' });
    await phone.advance(0.02);
    const second = await accept(edge);
    expect(second.from).not.toEqual(first.from);
    await phone.event('registered');
  });

  it('asks for outbound anew, though the proxy of the old one did not do it', async () => {
    const edge = answering(await desk.tcp());
    const phone = desk.phone([edge]);
    await registered(phone, edge, { outbound: false });
    phone.agent.networkChanged();
    await phone.advance(0.02);
    const { message } = await accept(edge);
    expect(message.fields('Contact')[0]).toMatch(/;reg-id=1$/);
    expect(message.header('Supported')).toContain('outbound');
    await phone.event('registered');
  });

  it('sends over a new flow too what goes without a registration', async () => {
    const edge = await desk.udp();
    const phone = desk.phone([edge]);
    phone.start();
    const refuse = async () => {
      edge.reply(await edge.next(isRequest('REGISTER')), 403, 'Forbidden');
      await phone.event('failed');
    };
    const sent = async () => {
      const answer = phone.agent.request('MESSAGE', 'sip:bob@example.test');
      const got = await edge.next(isRequest('MESSAGE'));
      edge.reply(got, 200, 'OK');
      await answer;
      return got.from.port;
    };
    await refuse();
    const before = await sent();
    phone.agent.networkChanged();
    const after = await sent();
    expect(after).not.toBe(before);
    await phone.advance(0.02);
    await refuse();
    expect(await sent()).toBe(after); // the end of the old one is not that of the new one
  });

  it('and is stopped by whoever hears of it opens nothing', async () => {
    const edge = answering(await desk.tcp());
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    const [connection] = edge.connections;
    phone.agent.once('flow', () => phone.agent.stop({ remove: false }));
    phone.agent.networkChanged();
    await connection.closed;
    await phone.advance(1);
    expect(edge.connections).toEqual([]);
    expect(edge.arrivals).toEqual([]);
  });
});

describe('an agent that is stopped', () => {
  it('opens nothing when DNS answers afterwards; nor does an attempt that another has replaced', async () => {
    const edge = await desk.tcp();
    const address = Endpoint.parse(edge.host, edge.port) as Endpoint;
    const answers: (() => void)[] = [];
    const locate: Locate = () =>
      new Promise((resolve) => {
        const target = { transport: 2, host: 'edge.test', address, priority: 0, weight: 0 };
        answers.push(() => resolve({ targets: [target], failure: '', ttl: 1 }));
      });
    const phone = desk.phone(['sip:edge.test'], { locate });
    phone.start();
    phone.agent.networkChanged();
    expect(answers).toHaveLength(2);
    for (const answer of answers) answer();
    await accept(edge);
    await phone.event('registered');
    expect(edge.connections).toHaveLength(1);
    phone.agent.networkChanged();
    await phone.agent.stop({ remove: false });
    answers[2]();
    await phone.advance(1);
    expect(edge.arrivals).toEqual([]);
    expect(edge.connections).toEqual([]);
  });

  it('sends nothing any more, whatever was due', async () => {
    const edge = await desk.tcp();
    const phone = desk.phone([edge]);
    await registered(phone, edge);
    await phone.agent.stop({ remove: false });
    await phone.advance(7200);
    expect(edge.arrivals.filter(isRequest())).toEqual([]);
    expect(edge.arrivals.filter(isCrlf)).toEqual([]);
    expect(edge.connections).toEqual([]);
  });
});
