/** What happens to bindings, as it leaves a whole server: by webhooks from a process, and to a program that starts one. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type BindingEvent, BindingEvents, loadConfig, start } from '../../src/index.ts';
import { UdpAgent } from '../harness/agent.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { DOMAIN, Registrar, register } from '../harness/registrar.ts';
import { unique } from '../harness/sip.ts';
import { hasRedis, RedisServer, until } from '../registrar/redis-server.ts';

/** An endpoint that keeps what it gets; it refuses the first request. */
class Endpoint {
  readonly events: BindingEvent[] = [];
  readonly authorizations = new Set<string | undefined>();
  refused = 0;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    server.on('request', (request, response) => {
      let body = '';
      request.setEncoding('utf8').on('data', (text: string) => {
        body += text;
      });
      request.on('end', () => {
        this.authorizations.add(request.headers.authorization);
        if (this.refused++ === 0) response.writeHead(503, { 'retry-after': '0' }).end();
        else {
          this.events.push(...(JSON.parse(body).events as BindingEvent[]));
          response.end();
        }
      });
    });
  }

  static async open(): Promise<Endpoint> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new Endpoint(server);
  }

  get url(): string {
    return `http://u:s3cret@127.0.0.1:${(this.#server.address() as AddressInfo).port}/events`;
  }

  /** Of one AOR, when there are so many. */
  async of(aor: string, count: number): Promise<BindingEvent[]> {
    const found = () => this.events.filter((event) => event.aor === aor);
    await until(() => found().length >= count);
    return found();
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

const INSTANCE = 'urn:uuid:0f8fad5b-d9cb-469f-a165-70867728950e';

const kinds = ['memory', 'lmdb', ...(hasRedis ? ['redis'] : [])];

describe.each(kinds)('a registrar with webhooks (%s)', (kind) => {
  let redis: RedisServer | undefined;
  let endpoint: Endpoint;
  let site: Registrar;

  beforeAll(async () => {
    endpoint = await Endpoint.open();
    if (kind === 'redis') redis = await RedisServer.start();
    const store = redis ? { STORE: redis.url } : {};
    site = await Registrar.start(kind === 'memory' ? 'memory' : 'lmdb', {
      clocked: kind !== 'redis', // that counts by its own clock
      settings: {
        ...store,
        EVENTS_URL: endpoint.url,
        NODE: '9',
        FLOW_TIMER: '86400',
        MIN_EXPIRES: '1',
        WORKERS: '2',
      },
    });
  });
  afterAll(async () => {
    await site?.close();
    await redis?.dispose();
    endpoint?.close();
  });

  it('tells of a registration, its refresh, a new flow, and the end that the client asked for', async () => {
    const [first, second] = [await site.connection(), await site.connection()];
    const user = unique('u');
    const callId = unique('r');
    const outbound = { user, callId, instance: INSTANCE, regId: 1 };
    const { aor } = await register(first, { ...outbound, cseq: 1, expires: 600 });
    await register(first, { ...outbound, cseq: 2, expires: 900 });
    await register(second, { ...outbound, cseq: 3, expires: 900 });
    await register(second, { ...outbound, cseq: 4, expires: 0 });
    const events = await endpoint.of(aor, 4);
    expect(events.map(({ type, regId, expires, node }) => ({ type, regId, expires, node }))).toEqual([
      { type: 'register', regId: 1, expires: 600, node: 9 },
      { type: 'refresh', regId: 1, expires: 900, node: 9 },
      { type: 'refresh', regId: 1, expires: 900, node: 9 },
      { type: 'unregister', regId: 1, expires: 0, node: 9 },
    ]);
    expect(events.map((event) => event.type === 'refresh' && event.flowChanged)).toEqual([
      false,
      false,
      true,
      false,
    ]);
    expect(events.every(({ instance }) => instance === INSTANCE)).toBe(true);
    expect(new Set(events.map(({ id }) => id)).size).toBe(4);
  });

  it('tells why a flow was lost when a connection closes', async () => {
    const client = await site.connection();
    const { aor } = await register(client, { user: unique('u') });
    await client.close();
    const [, lost] = await endpoint.of(aor, 2);
    expect(lost).toMatchObject({ type: 'flow-lost', cause: 'peer-closed', expires: 0 });
  });

  it('tells when the time of a binding is over', async () => {
    const client = await site.client('UDP');
    const { aor } = await register(client, { user: unique('u'), expires: kind === 'redis' ? 1 : 3_600 });
    if (kind !== 'redis') await site.server.advance(3_600_000);
    const [begun, ended] = await endpoint.of(aor, 2);
    expect(ended).toMatchObject({ type: 'expire', order: begun.order });
    expect(ended.at - begun.at).toBeGreaterThanOrEqual(kind === 'redis' ? 1_000 : 3_600_000);
  });

  it('sends its credentials, and writes them nowhere', async () => {
    const basic = `Basic ${Buffer.from('u:s3cret').toString('base64')}`;
    expect([...endpoint.authorizations]).toEqual([basic]);
    expect(endpoint.refused).toBeGreaterThan(1);
    await site.server.logged((line) => line.event === 'webhook-back');
    const written = JSON.stringify([site.server.logs, site.server.output]);
    expect(written).toContain('webhook-away');
    expect(written).not.toMatch(/s3cret|dTpzM2NyZXQ/);
  });
});

describe.skipIf(!hasRedis)('an edge that is given the shared store', () => {
  it('tells of the flows that end there, since it is the one who retires their bindings', async () => {
    const [endpoint, redis] = [await Endpoint.open(), await RedisServer.start()];
    onTestFinished(async () => {
      endpoint.close();
      await redis.dispose();
    });
    const host = freshHost();
    const shared = { STORE: redis.url, EVENTS_URL: endpoint.url };
    const registrar = await Registrar.start('memory', {
      settings: { ...shared, NODE: '1', TRUSTED: `${host}/32` },
    });
    onTestFinished(() => registrar.close());
    const { address } = registrar.server;
    const upstream = `sip:${address.host}:${address.port};transport=udp`;
    const edge = await Holdfast.start({ host, settings: { ...shared, NODE: '11', UPSTREAM: upstream } });
    onTestFinished(() => edge.stop());
    const phone = await edge.tcp();
    const { aor } = await register(phone);
    await phone.close();
    // two processes post each for itself: a subscriber goes by the order, and by what is an end
    const events = (await endpoint.of(aor, 2)).sort((a, b) => a.node - b.node);
    expect(events).toMatchObject([
      { type: 'register', node: 1 },
      { type: 'flow-lost', node: 11, cause: 'peer-closed', order: events[0].order },
    ]);
  });
});

describe('a registrar that stops', () => {
  it('delivers what it has to tell first', async () => {
    const endpoint = await Endpoint.open();
    endpoint.refused = 1;
    onTestFinished(() => endpoint.close());
    const server = await Holdfast.start({
      settings: { STORE: 'memory:', DOMAINS: DOMAIN, EVENTS_URL: endpoint.url },
    });
    onTestFinished(() => server.stop());
    const client = await server.tcp();
    const { aor } = await register(client, { user: unique('u') });
    await until(() => server.output.some((line) => line.startsWith('Holdfast is up'))); // then it minds signals
    expect(await server.kill('SIGTERM', 20_000)).toEqual({ code: 0, signal: null });
    expect(endpoint.events.filter((event) => event.aor === aor)[0]).toMatchObject({ type: 'register' });
    await client.close();
  });
});

describe('a program that starts a registrar', () => {
  it('gets events typed, each listener all of its own, although one of them throws', async () => {
    const [host, data] = [freshHost(), mkdtempSync(join(tmpdir(), 'holdfast-events-'))];
    const port = await freePort(host);
    const events = new BindingEvents();
    const all: string[] = [];
    const causes: (string | undefined)[] = [];
    events.on('register', () => {
      throw new Error('a subscriber of bad manners');
    });
    events.on('event', ({ type, aor }) => all.push(`${type} ${aor}`));
    events.on('flow-lost', ({ cause }) => causes.push(cause));
    events.once('refresh', ({ flowChanged }) => all.push(`${flowChanged}`));
    const config = loadConfig({
      HOLDFAST_LISTEN: `udp:${host}:${port}`,
      HOLDFAST_DOMAINS: DOMAIN,
      HOLDFAST_STORE: 'memory:',
      HOLDFAST_DATA: data,
      HOLDFAST_WORKERS: '1',
      HOLDFAST_MAX_FLOWS: '64',
      HOLDFAST_LOG: 'silent',
      ...(process.env.HOLDFAST_IO && { HOLDFAST_IO: process.env.HOLDFAST_IO }),
    });
    const node = await start(config, { events });
    const client = await UdpAgent.open({ host, peer: { host, port } });
    const registration = {
      instance: INSTANCE,
      user: 'dora',
      callId: unique('r'),
      contactUri: client.uri('dora'),
    };
    for (const cseq of [1, 2, 3]) await register(client, { ...registration, cseq });
    await register(client, { ...registration, cseq: 4, expires: 0 });
    await client.close();
    await node.stop();
    const aor = `sip:dora@${DOMAIN}`;
    expect(all).toEqual([
      `register ${aor}`,
      'false',
      `refresh ${aor}`,
      `refresh ${aor}`,
      `unregister ${aor}`,
    ]);
    expect(causes).toEqual([]);
    rmSync(data, { recursive: true, force: true });
  });
});
