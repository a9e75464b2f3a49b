import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { CoreNet } from '../../src/net/core.ts';
import { Cause } from '../../src/shared/cause.ts';
import { Doorbell } from '../../src/shared/doorbell.ts';
import { openDescriptors } from '../native/loopback.ts';
import { endpoint, Reader, Recorder, Rig, TCP4, UDP4, until } from './rig.ts';

describe('the core backend alone', () => {
  const rigs: Rig[] = [];
  const start = async (...args: Parameters<typeof Rig.start>) => {
    const rig = await Rig.start(...args);
    rigs.push(rig);
    return rig;
  };
  afterEach(() => {
    for (const rig of rigs.splice(0)) rig.stop();
  });

  it('says which address it cannot bind, and leaves nothing open when it is stopped then', async () => {
    const first = await start('core');
    const before = openDescriptors().length;
    for (const id of [UDP4, TCP4]) {
      const second = new Rig('core');
      second.listeners[id].address.port = first.listeners[id].address.port;
      const core = new CoreNet(second.coreOptions());
      second.net = core;
      core.start(second.on);
      await expect(core.ready).rejects.toMatchObject({
        code: 'EADDRINUSE',
        port: first.listeners[id].address.port,
      });
      second.stop();
    }
    await until(() => openDescriptors().length <= before, 'a descriptor is left');
  });

  it('shares listeners with other shards, and each connection and datagram reaches one of them', async () => {
    const rig = await start('core', { reusePort: true });
    const claimed: number[] = [];
    const other = new CoreNet({
      ...rig.coreOptions(),
      reusePort: true,
      shard: 1,
      claimStream: (id, remote) => {
        claimed.push(remote.port);
        return rig.claim(id, remote);
      },
    });
    const on = new Recorder(() => other, rig.flows);
    other.start(on);
    await other.ready;
    const { port } = rig.listeners[TCP4].address;
    const clients = [];
    for (let i = 0; i < 40; i++) {
      const client = net.connect(port, '127.0.0.1');
      clients.push(client);
      client.end('hello');
      client.resume();
    }
    await until(() => rig.on.closes.length + on.closes.length === 40, 'a connection is missing');
    expect(claimed).toHaveLength(on.opens.length);
    expect(on.opens.length).toBeGreaterThan(0);
    expect(rig.on.opens.length).toBeGreaterThan(0);
    const senders = Array.from({ length: 40 }, () => dgram.createSocket('udp4'));
    for (const sender of senders) sender.send('x', rig.listeners[UDP4].address.port, '127.0.0.1');
    await until(() => rig.on.datagrams.length + on.datagrams.length === 40, 'a datagram is missing');
    expect(on.datagrams.length).toBeGreaterThan(0);
    expect(rig.on.datagrams.length).toBeGreaterThan(0);
    for (const sender of senders) sender.close();
    for (const client of clients) client.destroy();
    other.stop();
  });

  it('opens nothing on a second shard where sockets cannot be shared, and drops what that one sends', async () => {
    const before = openDescriptors().length;
    const rig = await start('core', { shard: 1 });
    expect(openDescriptors().length).toBe(before);
    rig.sendDatagram(UDP4, endpoint('127.0.0.1', 9), 'x');
    await rig.turned();
    expect(rig.counters.snapshot().sendDropped).toBe(1);
  });

  it('closes a connection for which there is no record', async () => {
    const rig = await start('core', { claimStream: () => -1 });
    const client = net.connect(rig.listeners[TCP4].address.port, '127.0.0.1');
    const reader = new Reader(client);
    await until(() => reader.ended || reader.error !== '', 'not closed');
    expect(rig.on.opens).toEqual([]);
    client.destroy();
  });

  it('ends a stream whose write stands still for 30 s', async () => {
    const rig = await start('core');
    const { client, slot } = await rig.connect();
    client.pause();
    while (rig.on.backlogs.length === 0) {
      rig.send(slot, Buffer.alloc(32 * 1024));
      await rig.turned();
    }
    rig.skew += 29_000;
    await rig.turned();
    expect(rig.on.closes).toEqual([]);
    rig.skew += 2_000;
    await rig.turned();
    expect(rig.on.closes).toEqual([{ slot, cause: Cause.TIMEOUT }]);
    client.destroy();
  });

  it('sends nothing to port 0, which Node would throw for', async () => {
    const rig = await start('core');
    rig.sendDatagram(UDP4, endpoint('127.0.0.1', 0), 'x');
    await rig.turned();
    expect(rig.counters.snapshot().sendDropped).toBe(1);
  });

  describe('with a doorbell', () => {
    it('turns whenever it is rung at rest, and waits once at a time', async () => {
      const bell = new Doorbell(new Int32Array(new SharedArrayBuffer(64)), 0);
      let pending = 0;
      let most = 0;
      const rig = await start('core', {
        bellWait: () => {
          const rung = bell.waitAsync(60_000);
          if (rung === true) return true;
          most = Math.max(most, ++pending);
          return rung.finally(() => pending--);
        },
      });
      let resting = false;
      rig.on.canRest = () => {
        bell.prepareSleep();
        resting = true;
        return true;
      };
      rig.on.onTurn = () => {
        bell.awake();
        resting = false;
      };
      rig.net.wake();
      // A lost one would be made up for by the longest wait, a second: too slow for so many.
      for (let i = 0; i < 200; i++) {
        // Every third time another event comes between a rest and the ring.
        if (i % 3 === 0) await rig.turned();
        for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
        await until(() => resting, 'it does not rest');
        const { turns } = rig.on;
        expect(bell.ring()).toBe(true);
        await until(() => rig.on.turns > turns, 'the bell is not heard');
        await until(() => resting, 'it does not rest');
      }
      expect(most).toBe(1);
    });

    it('turns again if the bell was rung before the wait began', async () => {
      const bell = new Doorbell(new Int32Array(new SharedArrayBuffer(64)), 0);
      const rig = await start('core', { bellWait: () => bell.waitAsync(60_000) });
      let early = 0;
      rig.on.canRest = () => {
        bell.prepareSleep();
        if (early++ < 50) bell.ring();
        return true;
      };
      rig.net.wake();
      await until(() => early > 50, 'the ring is lost');
    });
  });

  it('keeps a process with no other handle alive while it runs, and lets it end when stopped', async () => {
    const { spawn } = await import('node:child_process');
    const script = `
      import { CoreNet } from ${JSON.stringify(new URL('../../src/net/core.ts', import.meta.url).href)};
      const core = new CoreNet({ listeners: [], now: () => performance.now(), shard: 0, accept: true, reusePort: false });
      let turns = 0;
      core.start({ turn: () => { if (++turns === 4) core.stop(); return performance.now() + 20; }, rest: () => true });
      process.on('exit', () => console.log(turns));`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script]);
    let printed = '';
    child.stdout.on('data', (data) => {
      printed += data;
    });
    const [code] = await once(child, 'close');
    expect([code, printed.trim()]).toEqual([0, '4']);
  });
});
