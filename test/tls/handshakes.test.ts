/** Handshakes that do not come to an end, that are too many, and a shard that dies with TLS flows on it. */
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { TcpAgent } from '../harness/agent.ts';
import { Authority } from '../harness/certificates.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { boundBecomes, register } from '../harness/registrar.ts';
import { IO } from '../network/watched.ts';
import { reaches, SClient, SecuredServer, serves } from './rig.ts';

const MAX_HANDSHAKES = 4_096;
/** The first octets of a record of 512, and no more of it. */
const BEGINNING = Buffer.from('1603010200010001fc0303', 'hex');

async function raw(address: { host: string; port: number }): Promise<Socket> {
  const socket = connect({ ...address, localAddress: freshHost() });
  socket.on('error', () => {});
  socket.resume();
  // a reset may come as soon
  await new Promise<void>((resolve) => {
    socket.once('connect', resolve);
    socket.once('close', () => resolve());
  });
  return socket;
}

const closed = (socket: Socket): Promise<unknown> =>
  socket.closed ? Promise.resolve() : new Promise((resolve) => socket.once('close', resolve));

describe('a handshake that is not done in ten seconds', () => {
  it.each([1, 2])('ends, however far it is; flows do not (certificates: %d)', async (certificates) => {
    const authority = new Authority();
    const issued = Array.from({ length: certificates }, () => authority.issue(['DNS:edge.test']));
    const host = freshHost();
    const [port, secured] = [await freePort(host), await freePort(host)];
    const peer = { host, port: secured };
    const server = await Holdfast.start({
      clocked: true,
      host,
      port,
      settings: {
        LISTEN: `udp:${host}:${port},tls:${host}:${secured}`,
        TLS_CERT: issued.map(({ cert }) => cert).join(','),
        TLS_KEY: issued.map(({ key }) => key).join(','),
        DOMAINS: 'example.test',
        STORE: 'memory:',
      },
    });
    try {
      const options = { peer, ca: authority.trusted, servername: 'edge.test', localHost: freshHost() };
      const phone = await TcpAgent.connectTls(options);
      const silent = await raw(peer);
      const slow = await raw(peer);
      slow.write(BEGINNING);
      const ends = [closed(silent), closed(slow)];
      for (let i = 0; i < 4; i++) {
        await phone.probe();
        await server.advance(2_400);
      }
      expect([silent.destroyed, slow.destroyed]).toEqual([false, false]);
      // their time began when their shard saw them, which may have been later
      for (let i = 0; i < 8 && !(silent.destroyed && slow.destroyed); i++) {
        await server.advance(2_400);
        await phone.probe();
      }
      await Promise.all(ends);
      await phone.probe();
      await server.logged((l) => l.event === 'tls-failure' && /in its time/.test(String(l.reason)));
      await phone.close();
    } finally {
      await server.stop();
      authority.remove();
    }
  });
});

describe('a server with TLS', () => {
  let site: SecuredServer;
  afterEach(() => site?.close());

  it('resets who comes when a shard has 4,096 handshakes in progress, and serves its flows', async () => {
    site = await SecuredServer.start({ settings: { WORKERS: '1', MAX_FLOWS: '8192' } });
    const phone = await site.phone();
    const sockets: Socket[] = [];
    while (sockets.length < MAX_HANDSHAKES) {
      const group = Array.from({ length: 256 }, () => raw(site.address));
      sockets.push(...(await Promise.all(group)));
    }
    await site.server.stateBecomes((s) => s.used === MAX_HANDSHAKES + 1);
    const late = await raw(site.address);
    await closed(late);
    expect(await site.count('tlsRefused')).toBe(1);
    await phone.probe();
    sockets[0].destroy();
    await site.server.stateBecomes((s) => s.used === MAX_HANDSHAKES);
    await (await site.phone()).probe();
    for (const socket of sockets) socket.destroy();
  }, 40_000);

  it.skipIf(IO === 'core')(
    'keeps its quiet flows when their shard dies, and closes the one in mid-message (ffi only)',
    async () => {
      site = await SecuredServer.start({ names: [['DNS:edge.test'], ['DNS:other.test']] });
      const caller = await site.caller();
      const phones = await Promise.all(Array.from({ length: 20 }, () => site.phone()));
      const registered = await Promise.all(phones.map((phone) => serves(phone, caller)));
      const waiting = await raw(site.address); // in its handshake
      waiting.write(BEGINNING);
      for (let death = 1; death <= 3; death++) {
        const before = await site.server.state();
        const flows = await site.server.flows();
        const cut = phones.findIndex((phone) =>
          flows.some((f) => f.owner === 1 && f.transport === 3 && f.peer === phone.hostPort),
        );
        const [half] = phones.splice(cut, 1);
        const [{ aor }] = registered.splice(cut, 1);
        half.send(half.compose('OPTIONS', aor).subarray(0, 60));
        for (let i = 0; i < 100; i++) {
          const flow = (await site.server.flows()).find((f) => f.peer === half.hostPort);
          if ((flow?.flags ?? 0) & 1) break;
        }
        await site.server.failShard(0);
        await half.closed;
        expect(await site.server.causeOf(half.hostPort)).toBe('shard-lost');
        await boundBecomes(caller, aor, (contacts) => contacts.length === 0);
        await Promise.all(phones.map((phone) => phone.probe()));
        for (const [i, phone] of phones.entries()) await reaches(caller, phone, registered[i].aor);
        await (await site.phone()).probe();
        expect((await site.server.state()).used).toBeLessThanOrEqual(before.used);
      }
      const fresh = await site.phone();
      await register(fresh);
      waiting.destroy();
    },
    40_000,
  );

  it('says farewell on every connection when it stops [5923-8.3-01]', async () => {
    site = await SecuredServer.start();
    const clients = Array.from({ length: 4 }, (_, i) => {
      return new SClient(site.address, '-msg', i % 2 ? '-tls1_2' : '-tls1_3');
    });
    for (const client of clients) await client.says(/Verify return code/);
    await site.server.kill('SIGTERM');
    for (const client of clients) {
      await client.ended;
      expect(client.output).toMatch(/<<< TLS.*\n?.*Alert.*close_notify/);
      expect(client.output).not.toMatch(/unexpected eof/);
    }
  });
});
