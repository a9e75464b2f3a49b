/**
 * A user agent behind a NAT, and the server of this project in front of it: the NAT forgets every flow, gives another
 * port to the next datagram, or swallows what it does not know any more. Real sockets and a real server; the agent's
 * clock is the test's.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Endpoint } from '../../src/net/endpoint.ts';
import type { Locate } from '../../src/ua/locating.ts';
import { isFinal, PATIENCE_MS } from '../harness/inbox.ts';
import { Desk, type Phone } from '../harness/phone.ts';
import { freshHost } from '../harness/ports.ts';
import { call, DOMAIN, Registrar } from '../harness/registrar.ts';
import { unique } from '../harness/sip.ts';
import { Relay } from './relay.ts';

let site: Registrar;
const desk = new Desk();
beforeAll(async () => {
  site = await Registrar.start('memory', { settings: { FLOW_TIMER: '100' } });
});
afterAll(() => site?.close());
afterEach(() => desk.close());

/** For UDP: each client address has a port outside, until the NAT is started again. */
class Nat {
  readonly inside: UdpSocket;
  /** what came back from the server */
  answers = 0;
  private outside = new Map<string, UdpSocket>();

  private constructor(inside: UdpSocket) {
    this.inside = inside;
    inside.on('message', async (bytes, { address, port }) => {
      const key = `${address}:${port}`;
      const known = this.outside.get(key) ?? createSocket('udp4');
      if (!this.outside.has(key)) {
        this.outside.set(key, known);
        known.bind({ address: freshHost(), port: 0 });
        await once(known, 'listening');
        known.on('message', (answer) => {
          this.answers++;
          inside.send(answer, port, address);
        });
      }
      known.send(bytes, site.server.port, site.server.host);
    });
  }

  static async open(): Promise<Nat> {
    const inside = createSocket('udp4');
    inside.bind({ address: freshHost(), port: 0 });
    await once(inside, 'listening');
    return new Nat(inside);
  }

  restart(): void {
    for (const socket of this.outside.values()) socket.close();
    this.outside.clear();
  }

  async close(): Promise<void> {
    this.restart();
    this.inside.close();
  }
}

/** The proxy's URI is the server's; the way there leads through the NAT. */
const through =
  ({ host, port }: { host: string; port: number }, transport: number): Locate =>
  async () => ({
    targets: [{ transport, host, address: Endpoint.parse(host, port) as Endpoint, priority: 0, weight: 0 }],
    failure: '',
    ttl: 1,
  });

function phoneBehind(nat: { host: string; port: number }, transport: 'udp' | 'tcp', user: string): Phone {
  const { host, port } = site.server;
  return desk.phone([`sip:${host}:${port};transport=${transport}`], {
    aor: `sip:${user}@${DOMAIN}`,
    locate: through(nat, transport === 'udp' ? 1 : 2),
  });
}

/** A MESSAGE of somebody else comes to the phone and is answered. */
async function reached(phone: Phone, user: string): Promise<void> {
  const caller = await site.client();
  const requests = phone.agent.requests();
  const callId = call(caller, `sip:${user}@${DOMAIN}`);
  const { value: request } = await requests.next();
  request?.respond(200);
  expect((await caller.next(isFinal(callId))).message.status).toBe(200);
  await requests.return?.();
}

async function until(condition: () => boolean): Promise<void> {
  for (const end = Date.now() + PATIENCE_MS; !condition(); await setImmediate())
    if (Date.now() > end) throw new Error('it did not happen');
}

describe('a NAT that starts again', () => {
  it('is found out by the next STUN answer: a new registration takes the place of the old one, and calls come [UA-4.4.2-07 UA-4.4-05 UA-4.5-01 ST-8-12]', async () => {
    const nat = desk.keep(await Nat.open());
    const { address, port } = nat.inside.address();
    const user = unique('u');
    const phone = phoneBehind({ host: address, port }, 'udp', user);
    phone.start();
    await phone.event('registered');
    await reached(phone, user);
    for (let n = 0; n < 2; n++) {
      const before = nat.answers;
      await phone.advance(80.1);
      await until(() => nat.answers > before);
      await phone.advance(0);
    }
    expect(phone.events).toEqual([]);
    nat.restart();
    await phone.advance(80.1);
    expect(await phone.event('lost')).toMatchObject({ cause: 'mapped-address-changed', retryIn: 0 });
    await phone.advance(0.02);
    await phone.event('registered');
    await reached(phone, user);
    const bindings = await phone.agent.request('REGISTER', `sip:${DOMAIN}`);
    expect(bindings.list('contact')).toHaveLength(1);
  });

  it('and swallows what a connection still says, is found out by the missing pong [UA-4.4.1-06 UA-4.4-05]', async () => {
    const nat = desk.keep(await Relay.open('TCP', site.server.address));
    const user = unique('u');
    const phone = phoneBehind(nat.address, 'tcp', user);
    phone.start();
    await phone.event('registered');
    await reached(phone, user);
    nat.swallows = true;
    await phone.advance(80.1);
    await phone.advance(10.05);
    const lost = await phone.event('lost');
    expect(lost).toMatchObject({ cause: 'no-pong' });
    nat.swallows = false;
    await phone.advance((lost as { retryIn: number }).retryIn / 1000 + 0.02);
    await phone.event('registered');
    await reached(phone, user);
    const bindings = await phone.agent.request('REGISTER', `sip:${DOMAIN}`);
    expect(bindings.list('contact')).toHaveLength(1);
  });
});
