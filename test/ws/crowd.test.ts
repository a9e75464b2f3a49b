/**
 * A thousand clients on one server, and what becomes of them when a shard dies or when they all leave. The
 * server is looked into (network/watched.ts): records, counters, descriptors, memory.
 */

import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Address, UdpAgent } from '../harness/agent.ts';
import { composeRegister } from '../harness/flows.ts';
import { isCrlf, isFinal, isRequest } from '../harness/inbox.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { call, DOMAIN, register } from '../harness/registrar.ts';
import { BINARY, frame, PING, PONG, WsAgent } from '../harness/websocket.ts';
import { IO, Watched } from '../network/watched.ts';
import { Connection, upgrade } from './rig.ts';

const CLIENTS = 1_000;
const AT_ONCE = 100;
const FIRST = 300;
/** What V8 takes once, at the first messages, whatever their number: up to so much (docs/performance.md has 8 to 13 MiB). */
const KIB_ONCE = 8 * 1024;
/** The goal, of the 70 KiB that Kamailio holds for an idle WebSocket. A Node socket alone takes most of it. */
const KIB_A_FLOW = IO === 'core' ? 20 : 0.15 * 70;

interface Place {
  server: Watched;
  web: Address;
  caller: UdpAgent;
}

async function start(settings: Record<string, string> = {}): Promise<Place> {
  const host = freshHost();
  const [port, web] = [await freePort(host), await freePort(host)];
  const server = await Watched.start({
    lean: true,
    settings: {
      LISTEN: `udp:${host}:${port},ws:${host}:${web}`,
      DOMAINS: 'example.test',
      STORE: 'memory:',
      ...settings,
    },
  });
  const caller = await UdpAgent.open({ host: freshHost(), peer: { host, port }, name: 'caller' });
  return { server, web: { host, port: web }, caller };
}

async function inGroups<T, R>(list: readonly T[], each: (item: T, i: number) => Promise<R>): Promise<R[]> {
  const all: R[] = [];
  for (let i = 0; i < list.length; i += AT_ONCE)
    all.push(...(await Promise.all(list.slice(i, i + AT_ONCE).map((item, k) => each(item, i + k)))));
  return all;
}

const open = (web: Address, count: number): Promise<WsAgent[]> =>
  inGroups(Array.from({ length: count }), () => WsAgent.connect({ peer: web, localHost: freshHost() }));

async function reach(caller: UdpAgent, client: WsAgent, aor: string): Promise<void> {
  const callId = call(caller, aor);
  client.reply(await client.next(isRequest('MESSAGE', callId)), 200, 'OK');
  expect((await caller.next(isFinal(callId))).message.status).toBe(200);
}

const register1 = async (client: WsAgent): Promise<string> => {
  const { aor, answer } = await register(client);
  expect(answer.status).toBe(200);
  return aor;
};

describe('a thousand clients', () => {
  let place: Place;
  beforeAll(async () => {
    place = await start();
  });
  afterAll(async () => {
    await place?.caller.close();
    await place?.server.stop();
  });

  it('register, are called, answer Pings, cost little while they are idle, and leave nothing behind', async () => {
    const { server, web, caller } = place;
    for (const client of await open(web, FIRST)) await client.close(); // what is made once is there
    await server.stateBecomes((s) => s.used === 0);
    const descriptors = server.descriptors();
    const memory = await server.memory(5);

    const clients = await open(web, CLIENTS);
    const idle = await server.memory(5);
    expect((idle - memory) * 1024).toBeLessThan(KIB_ONCE + CLIENTS * KIB_A_FLOW);
    const { owned, counters } = await server.state();
    expect(owned.reduce((a, b) => a + b)).toBe(CLIENTS);
    expect(Math.abs(owned[0] - owned[1])).toBeLessThan(IO === 'core' ? CLIENTS / 4 : 2);
    expect(counters.webSocketsOpened).toBe(CLIENTS + FIRST);
    expect((await server.flows()).every((flow) => flow.transport === 4)).toBe(true);

    const aors = await inGroups(clients, register1);
    await inGroups(clients, (client, i) => reach(caller, client, aors[i]));
    await inGroups(clients, async (client, i) => {
      client.sendFrame(Buffer.from(`${i}`), { opcode: PING });
      expect(await client.nextControl()).toEqual({ opcode: PONG, payload: Buffer.from(`${i}`) });
    });
    expect((await server.state()).counters).toMatchObject({ pings: CLIENTS, pongs: CLIENTS });
    // clients call each other, over both shards
    await inGroups(clients.slice(0, 100), async (client, i) => {
      const callId = call(client, aors[CLIENTS - 1 - i]);
      const other = clients[CLIENTS - 1 - i];
      other.reply(await other.next(isRequest('MESSAGE', callId)), 200, 'OK');
      await client.next(isFinal(callId));
    });

    await Promise.all(clients.map((client) => client.close()));
    await server.stateBecomes((s) => s.used <= 1); // the caller's own may be there
    expect(await server.descriptorsBecome(descriptors)).toBe(descriptors);
  }, 90_000);
});

/** The same octets for the same seed. */
function randomOctets(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

describe('octets that are no frames, or frames that are no messages', () => {
  it('end their connection and nothing else', async () => {
    const place = await start();
    const { server, web, caller } = place;
    try {
      const client = await WsAgent.connect({ peer: web, localHost: freshHost() });
      const aor = await register1(client);
      const sip = composeRegister(client, { domain: DOMAIN }).bytes;
      const { used } = await server.state();
      const descriptors = server.descriptors();
      await inGroups(Array.from({ length: 400 }), async (_, i) => {
        const random = randomOctets(i + 1);
        const connection = await wordless(web);
        let octets = Buffer.from(upgrade('a'));
        for (let n = 0; n < 6; n++) {
          const opcode = [0, 1, 1, 2, 2, 8, 9, 10][random(8)];
          const payload = random(2)
            ? sip
            : Buffer.from(Array.from({ length: random(300) }, () => random(256)));
          octets = Buffer.concat([
            octets,
            frame(payload, { opcode, fin: random(4) > 0, mask: random(20) > 0 }),
          ]);
        }
        // a few octets are other ones, the request's among them now and then
        const from = random(3) ? upgrade('a').length : 0;
        for (let n = random(5); n > 0; n--) octets[from + random(octets.length - from)] = random(256);
        for (let at = 0; at < octets.length; ) {
          const length = 1 + random(500);
          connection.write(octets.subarray(at, at + length));
          at += length;
          if (random(3) === 0) await new Promise((r) => setImmediate(r));
        }
        connection.socket.end();
        await connection.ended;
      });
      expect((await server.stateBecomes((s) => s.used <= used)).used).toBeLessThanOrEqual(used);
      expect(await server.descriptorsBecome(descriptors)).toBe(descriptors);
      expect(server.output.join('')).not.toContain('shard-lost');
      await reach(caller, client, aor);
      await client.close();
    } finally {
      await caller.close();
      await server.stop();
    }
  }, 60_000);
});

describe.skipIf(IO === 'core')('a shard that dies (ffi only: core cannot hand sockets over)', () => {
  let place: Place;
  beforeAll(async () => {
    place = await start({ WORKERS: '1' });
  });
  afterAll(async () => {
    await place?.caller.close();
    await place?.server.stop();
  });

  it('leaves quiet WebSockets to its replacement; one with half a frame, or an open message, is closed', async () => {
    const { server, web, caller } = place;
    const clients = await open(web, 100);
    const aors = await inGroups(clients, register1);
    const half = clients[0];
    half.sendRaw(frame(Buffer.from('\r\n\r\n')).subarray(0, 5));
    const inside = clients[1];
    inside.sendRaw(frame(Buffer.alloc(0), { opcode: BINARY, fin: false }));
    const partial = () => server.flows().then((list) => list.filter((flow) => flow.flags & 1).length);
    const silent = await wordless(web);
    const asking = await wordless(web);
    const request = upgrade('a');
    asking.write(request.slice(0, 40));
    while ((await partial()) < 3);

    await server.failShard(0);

    expect(await half.closed).toBe(1006);
    expect(await inside.closed).toBe(1006);
    expect(await asking.ended).toBe('');
    for (const client of [half, inside]) expect(await server.causeOf(client.hostPort)).toBe('shard-lost');
    const quiet = clients.slice(2);
    await inGroups(quiet, async (client, i) => {
      client.sendFrame(Buffer.from('\r\n\r\n'), { opcode: BINARY });
      expect((await client.next(isCrlf)).opcode).toBe(BINARY);
      client.sendFrame(Buffer.from('p'), { opcode: PING });
      await client.nextControl();
      await reach(caller, client, aors[i + 2]);
    });
    // who had not said anything can still become one
    silent.write(request);
    expect((await silent.has(12)).toString()).toMatch(/^HTTP\/1\.1 101/);
    silent.socket.destroy();
    // and the end of the process is told to those who were taken over
    const closed = quiet.map((client) => client.closed);
    await server.kill('SIGTERM');
    expect(await Promise.all(closed)).toEqual(quiet.map(() => 1012));
  }, 60_000);
});

async function wordless(web: Address): Promise<Connection> {
  const socket = connect({ ...web, localAddress: freshHost() });
  await once(socket, 'connect');
  return new Connection(socket);
}
