/** Phones that come and go by the ten thousand: what they leave behind must be nothing. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freshHost } from '../harness/ports.ts';
import { isStatus, registerText, requestText, TcpWire, type Transport, UdpWire } from './crowd.ts';
import { Watched } from './watched.ts';

const WARM_UP = 6_000;
const CONNECTS = 20_000;
const AT_A_TIME = 100;
/** another source address now and then: ports of one address are few */
const EACH_HOST = 500;

let server: Watched;

beforeAll(async () => {
  server = await Watched.start({
    settings: { DOMAINS: 'example.test', STORE: 'memory:', MAX_FLOWS: '4096', LOG: 'error' },
    lean: true,
  });
});
afterAll(() => server?.stop());

/** Connects, registers, closes: by RST, or half of them by FIN. */
async function visit(i: number, host: string): Promise<void> {
  const phone = await TcpWire.open(server.address, host);
  const ok = phone.next(isStatus(200));
  phone.send(registerText(phone, i));
  await ok;
  if (i % 8 === 0) phone.socket.end();
  else phone.close();
  await phone.gone;
}

async function visits(from: number, count: number): Promise<void> {
  let host = freshHost();
  for (let i = 0; i < count; i += AT_A_TIME) {
    if (i % EACH_HOST === 0) host = freshHost();
    await Promise.all(Array.from({ length: AT_A_TIME }, (_, k) => visit(from + i + k, host)));
  }
}

describe('20,000 phones that connect, register and leave', () => {
  it('leave no descriptor, no record, no binding and no memory behind [AP-7-07]', async () => {
    const idle = await server.stateBecomes((s) => s.used === 0);
    const descriptors = server.descriptors();
    await visits(0, WARM_UP);
    await server.stateBecomes((s) => s.used === 0);
    const memory = await server.memory(10);

    await visits(WARM_UP, CONNECTS);
    const after = await server.stateBecomes((s) => s.used === 0);
    expect(await server.descriptorsBecome(descriptors)).toBe(descriptors);
    expect(after.owned).toEqual(idle.owned);
    const { counters } = after;
    expect(counters.flowsOpened - idle.counters.flowsOpened).toBe(WARM_UP + CONNECTS);
    expect(counters.flowsClosed).toBe(counters.flowsOpened);
    expect(await server.memory(10)).toBeLessThan(memory * 1.1);

    // nobody is bound any more: the first, one in the middle, the last
    const caller = await UdpWire.open(server.address);
    for (const i of [0, WARM_UP + 7, WARM_UP + CONNECTS - 1]) {
      const gone = caller.next(isStatus(480));
      caller.send(requestText(caller, 1, i, undefined));
      await gone;
    }
    caller.close();
  }, 120_000);
});

describe.each<Transport>(['UDP'])('phones on %s that register and remove their binding', (transport) => {
  it('leave one record an address, and memory as it was', async () => {
    const ROUNDS = 4_000;
    const phones = await Promise.all(Array.from({ length: 20 }, () => UdpWire.open(server.address)));
    const round = (from: number) =>
      Promise.all(
        phones.map(async (phone, k) => {
          for (let i = 0; i < ROUNDS / phones.length; i++) {
            for (const expires of [600, 0]) {
              const ok = phone.next(isStatus(200));
              phone.send(
                registerText(phone, k, { expires, callId: `${transport}-${from}-${k}-${i}-${expires}` }),
              );
              await ok;
            }
          }
        }),
      );
    await round(0);
    const memory = await server.memory();
    await round(1);
    expect((await server.state()).used).toBe(phones.length);
    expect(await server.memory()).toBeLessThan(memory * 1.1);
    for (const phone of phones) phone.close();
  }, 60_000);
});
