/**
 * The user agent and the server of this project: two edges, and a core that is registrar and authoritative proxy,
 * with passwords; real processes and real time. What the other ua tests show of each side, this shows of both together.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { UserAgent } from '../../src/ua/agent.ts';
import type { Dial } from '../../src/ua/connection.ts';
import type { UserAgentOptions } from '../../src/ua/options.ts';
import type { IncomingRequest } from '../../src/ua/request.ts';
import { dialWebSocket } from '../../src/ua/websocket.ts';
import { WS, WSS } from '../../src/wire/via.ts';
import { type Certificates, makeCertificates } from '../harness/certificates.ts';
import { userLine } from '../harness/digest.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { Desk } from '../harness/phone.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { DOMAIN } from '../harness/registrar.ts';
import { parseNameAddr, unique } from '../harness/sip.ts';

const PASSWORD = 'tin-whistle-42';
const PEOPLE = ['dora', 'milo'];

const TRANSPORTS = ['udp', 'tcp', 'ws', 'wss'] as const;
type Transport = (typeof TRANSPORTS)[number];

const folder = mkdtempSync(join(tmpdir(), 'holdfast-ua-users-'));
let core: Holdfast;
let edges: Holdfast[];
let certificates: Certificates;
/** ports of the edges for WebSockets */
const web: { ws: number; wss: number }[] = [];
const desk = new Desk();

beforeAll(async () => {
  const users = join(folder, 'users');
  writeFileSync(users, PEOPLE.map((user) => `${userLine(user, DOMAIN, PASSWORD)}\n`).join(''));
  const hosts = [freshHost(), freshHost()];
  const common = { WORKERS: '1', FLOW_ANSWER_S: '1', MAX_FLOWS: '256' };
  const trusted = [...hosts, '127.0.0.1'].map((host) => `${host}/32`).join(',');
  core = await Holdfast.start({
    settings: { ...common, DOMAINS: DOMAIN, STORE: 'memory:', TRUSTED: trusted, AUTH: `file:${users}` },
  });
  const upstream = `sip:${core.host}:${core.port};transport=udp`;
  certificates = makeCertificates(hosts.map((host) => `IP:${host}`));
  edges = [];
  for (const host of hosts) {
    const [port, ws, wss] = [await freePort(host), await freePort(host), await freePort(host)];
    web.push({ ws, wss });
    const LISTEN = `udp:${host}:${port},tcp:${host}:${port},ws:${host}:${ws},wss:${host}:${wss}`;
    const tls = { TLS_CERT: certificates.cert, TLS_KEY: certificates.key };
    edges.push(
      await Holdfast.start({ host, port, settings: { ...common, ...tls, LISTEN, UPSTREAM: upstream } }),
    );
  }
});
afterAll(async () => {
  await Promise.all([...edges, core].map((server) => server?.stop()));
  certificates?.remove();
  rmSync(folder, { recursive: true, force: true });
});
afterEach(() => desk.close());

const proxies = (transport: Transport): string[] =>
  edges.map(({ host, port }, i) => {
    const at = transport === 'ws' || transport === 'wss' ? web[i][transport] : port;
    return `sip:${host}:${at};transport=${transport}`;
  });

/** A phone of this user through both edges, registered over both. */
async function phoneOf(
  user: string,
  transport: Transport,
  options: Partial<UserAgentOptions> = {},
): Promise<UserAgent> {
  const phone = new UserAgent({
    aor: `sip:${user}@${DOMAIN}`,
    password: PASSWORD,
    proxies: proxies(transport),
    dataDir: desk.dataDir(),
    tls: { ca: certificates.trusted },
    ...options,
  });
  desk.keep({ close: () => phone.stop() });
  const both = new Promise<void>((resolve) => {
    phone.on('flow', () => {
      if (phone.flows.length === 2) resolve();
    });
  });
  await phone.start();
  await both;
  return phone;
}

/** Answers every request 200, and keeps what came. */
function answering(phone: UserAgent): IncomingRequest[] {
  const came: IncomingRequest[] = [];
  void (async () => {
    for await (const request of phone.requests()) {
      came.push(request);
      request.respond(200, 'OK', { headers: [['X-Seen', `${came.length}`]] });
    }
  })();
  return came;
}

describe.each(TRANSPORTS)('over %s', (transport) => {
  it('registers by its password over both edges, with outbound and a GRUU, and is called by MESSAGE [UA-4.2.1-01]', async () => {
    const dora = await phoneOf('dora', transport);
    const milo = await phoneOf('milo', transport);
    expect(dora.flows.map(({ regId, outbound }) => [regId, outbound])).toEqual([
      [1, true],
      [2, true],
    ]);
    expect(dora.flows[0].publicGruu).toMatch(/^sip:dora@example\.test;gr=/);
    const came = answering(dora);
    const answer = await milo.request('MESSAGE', `sip:dora@${DOMAIN}`, { body: 'grüße' });
    expect([answer.status, answer.header('x-seen')]).toEqual([200, '1']);
    expect(came.map(({ method, text }) => [method, text])).toEqual([['MESSAGE', 'grüße']]);
    const gruu = await milo.request('OPTIONS', dora.flows[0].publicGruu as string);
    expect(gruu.status).toBe(200);
  });

  it('holds a call through both edges: INVITE, ACK, a re-INVITE, INFO of either side, BYE [UA-4.3-07 5627-4.4-01]', async () => {
    const dora = await phoneOf('dora', transport);
    const milo = await phoneOf('milo', transport);
    const accepted = (async () => {
      for await (const request of dora.requests()) {
        if (request.method !== 'INVITE') request.respond(200);
        else if (request.call) await request.accept({ body: 'second answer' });
        else {
          request.respond(180);
          const call = await request.accept({ body: 'answer' });
          expect(request.text).toBe('offer');
          expect((await call.request('INFO', { body: 'from dora' })).status).toBe(200);
        }
      }
    })();
    const infos: string[] = [];
    void (async () => {
      for await (const request of milo.requests()) {
        infos.push(request.text);
        request.respond(200);
      }
    })();
    const rang: number[] = [];
    const call = await milo.invite(`sip:dora@${DOMAIN}`, {
      body: 'offer',
      provisional: ({ status }) => rang.push(status),
    });
    expect(call.message.text).toBe('answer');
    expect(rang).toContain(180);
    const again = await call.request('INVITE', { body: 'second offer' });
    expect([again.status, again.text]).toEqual([200, 'second answer']);
    expect((await call.request('INFO', { body: 'from milo' })).status).toBe(200);
    expect((await call.bye()).status).toBe(200);
    expect(await call.ended).toBe('local');
    expect(infos).toEqual(['from dora']);
    await dora.stop();
    await accepted;
  });

  it('takes its bindings away when it stops', async () => {
    const dora = await phoneOf('dora', transport);
    const milo = await phoneOf('milo', transport);
    answering(dora);
    expect((await milo.request('MESSAGE', `sip:dora@${DOMAIN}`)).status).toBe(200);
    await dora.stop();
    expect((await milo.request('MESSAGE', `sip:dora@${DOMAIN}`)).status).toBe(480);
  });
});

describe.each(['ws', 'wss'] as const)('a flow over %s', (transport) => {
  it('has its keep-alives answered by the edge, in the time that Flow-Timer says [7118-6-02]', async () => {
    let pongs = 0;
    const code = transport === 'ws' ? WS : WSS;
    const dial = dialWebSocket(transport === 'wss', { tls: { ca: certificates.trusted } });
    const counting: Dial = (target, handler, options) =>
      dial(
        target,
        {
          ...handler,
          pong: () => {
            pongs++;
            handler.pong();
          },
        },
        options,
      );
    const [proxy] = proxies(transport);
    const phone = desk.phone([proxy], {
      aor: `sip:dora@${DOMAIN}`,
      password: PASSWORD,
      dials: { [code]: counting },
    });
    phone.start();
    expect(await phone.event('registered')).toMatchObject({ outbound: true });
    for (const wanted of [1, 2]) {
      await phone.advance(95.7);
      expect(pongs).toBe(wanted - 1);
      await phone.advance(0.4); // the edge says 120 s: 96 to 120
      while (pongs < wanted) await delay(5);
    }
    await phone.advance(10);
    expect(phone.events).toEqual([]);
    await phone.agent.stop(); // the tests below count bindings
  });
});

describe('over IPv6', () => {
  it('phones on ws and wss reach each other', async ({ skip }) => {
    const ws = await freePort('::1').catch(() => 0);
    if (ws === 0) return skip('this machine has no ::1');
    const wss = await freePort('::1');
    const host = freshHost();
    const port = await freePort(host);
    const own = makeCertificates(['IP:::1']);
    desk.keep({ close: async () => own.remove() });
    const LISTEN = `udp:${host}:${port},tcp:${host}:${port},ws:[::1]:${ws},wss:[::1]:${wss}`;
    const tls = { TLS_CERT: own.cert, TLS_KEY: own.key };
    const settings = { WORKERS: '1', MAX_FLOWS: '256', DOMAINS: DOMAIN, STORE: 'memory:', LISTEN, ...tls };
    const server = await Holdfast.start({ host, port, settings });
    desk.keep({ close: () => server.stop() });
    const [dora, milo] = [`sip:[::1]:${ws};transport=ws`, `sip:[::1]:${wss};transport=wss`].map(
      (proxy, i) =>
        new UserAgent({
          aor: `sip:${PEOPLE[i]}@${DOMAIN}`,
          proxies: [proxy],
          dataDir: desk.dataDir(),
          tls: { ca: own.trusted },
        }),
    );
    desk.keep({ close: () => Promise.all([dora.stop(), milo.stop()]) });
    await Promise.all([dora.start(), milo.start()]);
    expect([dora, milo].map(({ flows }) => flows[0].outbound)).toEqual([true, true]);
    const came = answering(dora);
    const sent = await milo.request('MESSAGE', `sip:dora@${DOMAIN}`, { body: 'over six' });
    expect([sent.status, came[0]?.text]).toEqual([200, 'over six']);
  });
});

describe('a device that starts again', () => {
  it('replaces its bindings and does not add to them, also when it said no goodbye [UA-3.2-01 UA-4.1-02 UA-4.2.1-10]', async () => {
    const dataDir = desk.dataDir();
    const bindings = async (phone: UserAgent) => {
      const answer = await phone.request('REGISTER', `sip:${DOMAIN}`);
      return answer.list('contact').map(parseNameAddr);
    };
    const before = await phoneOf('dora', 'udp', { dataDir });
    const first = await bindings(before);
    await before.stop({ remove: false });
    const now = await phoneOf('dora', 'udp', { dataDir });
    expect(now.instance).toBe(before.instance);
    const second = await bindings(now);
    expect(second.map(({ params }) => params.get('reg-id')).sort()).toEqual(['1', '2']);
    for (const { uri } of first) expect(second.map((contact) => contact.uri)).not.toContain(uri);
  });
});

describe.each(['tcp', 'ws'] as const)('an edge that dies, over %s', (transport) => {
  it('costs one flow and no reachability, and the flow is back when it is [UA-4.4-05]', async () => {
    const dora = await phoneOf('dora', transport, { backoff: { someUp: 0.1, allDown: 0.1, most: 0.2 } });
    const milo = await phoneOf('milo', transport, { proxies: proxies(transport).reverse() });
    const came = answering(dora);
    const back = new Promise<void>((resolve) => {
      dora.on('flow', () => {
        if (lost && dora.flows.length === 2) resolve();
      });
    });
    let lost = false;
    dora.on('flow', ({ state, regId }) => {
      if (state === 'lost' && regId === 1) lost = true;
    });
    await edges[0].kill('SIGKILL');
    while (!lost) await delay(10);
    expect(dora.flows.map(({ regId }) => regId)).toEqual([2]);
    const id = unique('m');
    expect((await milo.request('MESSAGE', `sip:dora@${DOMAIN}`, { body: id })).status).toBe(200);
    expect(came.map(({ text }) => text)).toEqual([id]);
    await edges[0].launch();
    await back;
    expect(dora.flows.map(({ regId }) => regId)).toEqual([1, 2]);
  });
});

describe('wrong passwords', () => {
  it('are no reason to fall silent: the flow is refused, told, and tried again later', async () => {
    const phone = new UserAgent({
      aor: `sip:dora@${DOMAIN}`,
      password: 'no',
      proxies: [`sip:${edges[1].host}:${edges[1].port}`],
      dataDir: desk.dataDir(),
    });
    desk.keep({ close: () => phone.stop() });
    const told = new Promise((resolve) => phone.once('flow', resolve));
    phone.start().catch(() => {});
    expect(await told).toMatchObject({ state: 'failed', cause: { status: 401 } });
  });
});
