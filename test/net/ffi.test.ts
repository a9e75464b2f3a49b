import dgram from 'node:dgram';
import { once } from 'node:events';
import { afterEach, describe, expect, it } from 'vitest';
import { ECONNREFUSED } from '../../src/native/errno.ts';
import { Counter } from '../../src/shared/counters.ts';
import { hasIpv6 } from '../native/loopback.ts';
import { endpoint, hasFfi, Rig, UDP4, UDP6, until } from './rig.ts';

describe.runIf(hasFfi)('the ffi backend alone', () => {
  let rig: Rig;
  afterEach(() => rig.stop());

  async function bind(host: string): Promise<dgram.Socket> {
    const socket = dgram.createSocket(host === '::1' ? 'udp6' : 'udp4');
    socket.bind(0, host);
    await once(socket, 'listening');
    return socket;
  }

  it.each(
    [
      [UDP4, '127.0.0.1'],
      [UDP6, '::1'],
    ].slice(0, hasIpv6 ? 2 : 1) as Array<[number, string]>,
  )(
    'charges a port unreachable to the address it is about, and the living peers get theirs (listener %i)',
    async (id, host) => {
      rig = await Rig.start('ffi');
      const living = await bind(host);
      const heard: string[] = [];
      living.on('message', (message) => heard.push(message.toString()));
      const dead = await bind(host);
      const deadPort = dead.address().port;
      dead.close();
      await once(dead, 'close');
      const to = endpoint(host, living.address().port);
      for (let i = 0; i < 20; i++) {
        rig.sendDatagram(id, to, `${i}`);
        if (i % 5 === 2) rig.sendDatagram(id, endpoint(host, deadPort), 'lost');
        if (i % 4 === 3) await rig.turned();
      }
      await until(() => heard.length === 20 && rig.on.unreachables.length > 0, 'something is missing');
      living.close();
      expect(heard).toEqual(Array.from({ length: 20 }, (_, i) => `${i}`));
      const told = new Set(rig.on.unreachables.map((u) => `${u.listener} ${u.to} ${u.errno}`));
      expect([...told]).toEqual([`${id} ${endpoint(host, deadPort)} ${ECONNREFUSED}`]);
      expect(rig.counters.sum(Counter.icmpErrors)).toBe(rig.on.unreachables.length);
    },
  );

  it('answers a datagram while another one to the same client was refused', async () => {
    rig = await Rig.start('ffi');
    const dead = await bind('127.0.0.1');
    const gone = endpoint('127.0.0.1', dead.address().port);
    dead.close();
    await once(dead, 'close');
    const client = await bind('127.0.0.1');
    rig.on.onDatagram = (from) => {
      const [start, end] = rig.place('answer');
      rig.net.sendDatagram(UDP4, gone, undefined, start, end);
      rig.net.sendDatagram(UDP4, from, undefined, start, end);
    };
    let answers = 0;
    client.on('message', () => answers++);
    for (let i = 1; i <= 10; i++) {
      client.send('x', rig.listeners[UDP4].address.port, '127.0.0.1');
      await until(() => answers === i, 'no answer');
    }
    client.close();
    await until(() => rig.on.unreachables.length > 0, 'not told');
    expect(rig.on.unreachables.every(({ to }) => to === `${gone}`)).toBe(true);
  });
});
