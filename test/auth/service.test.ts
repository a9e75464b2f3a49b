import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { performance } from 'node:perf_hooks';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Breaker } from '../../src/auth/breaker.ts';
import { AnswerCache } from '../../src/auth/cache.ts';
import { ALGORITHMS, ha1Of } from '../../src/auth/digest.ts';
import { ServiceCredentials, type ServiceOptions } from '../../src/auth/service.ts';
import { find, remember } from './sources.ts';

const HA1 = ha1Of('SHA-256', 'dora', 'example.net', 'tin-whistle-42');

interface Asked {
  request: IncomingMessage;
  body: string;
  response: ServerResponse;
}

/** What a service does with a request, and all that it was asked. */
class Service {
  asked: Asked[] = [];
  answer: (asked: Asked) => void = ({ body, response }) => {
    const { user } = JSON.parse(body);
    if (user === 'nobody') response.writeHead(404).end('{"error":"no such user"}');
    else response.end(JSON.stringify({ ha1: HA1 }));
  };
  #server: Server | undefined;
  port = 0;

  async up(): Promise<this> {
    const server = createServer(async (request, response) => {
      let body = '';
      for await (const chunk of request) body += chunk;
      const asked = { request, body, response };
      this.asked.push(asked);
      this.answer(asked);
    });
    this.#server = server;
    server.listen(this.port, '127.0.0.1');
    await once(server, 'listening');
    this.port = (server.address() as AddressInfo).port;
    return this;
  }

  async down(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (!server) return;
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  }
}

async function setup(
  options: Partial<ServiceOptions> = {},
  url = (port: number) => `http://127.0.0.1:${port}/ha1`,
) {
  const service = await new Service().up();
  const memory = remember();
  const clock = { ahead: 0 };
  const credentials = new ServiceCredentials({
    url: url(service.port),
    log: memory.log,
    now: () => performance.now() + clock.ahead,
    ...options,
  });
  onTestFinished(async () => {
    await credentials.close();
    await service.down();
  });
  return { service, credentials, clock, ...memory };
}

const hang = () => {};
const FOUND = { status: 'found', ha1: HA1, aors: [] };

describe('credentials from a service', () => {
  it('are asked for as documented', async () => {
    const { service, credentials } = await setup(
      {},
      (port) => `http://hold:f%40st@127.0.0.1:${port}/v1/ha1?site=7`,
    );
    expect(credentials.algorithms()).toEqual(ALGORITHMS);
    expect(await find(credentials, 'dörä')).toEqual(FOUND);
    const [{ request, body }] = service.asked;
    expect([request.method, request.url]).toEqual(['POST', '/v1/ha1?site=7']);
    expect(request.headers).toMatchObject({
      'content-type': 'application/json',
      authorization: `Basic ${Buffer.from('hold:f@st').toString('base64')}`,
    });
    expect(JSON.parse(body)).toEqual({ user: 'dörä', realm: 'example.net', algorithm: 'SHA-256' });
  });

  it('bring the addresses of the user in canonical form', async () => {
    const { service, credentials } = await setup();
    service.answer = ({ response }) =>
      response.end(JSON.stringify({ ha1: HA1, aors: ['sip:100@EXAMPLE.net;x'] }));
    expect(await find(credentials, 'dora')).toEqual({ ...FOUND, aors: ['sip:100@example.net'] });
  });

  it('are kept for a time, unknown users for a shorter one, and known to the caller at once', async () => {
    const { service, credentials, clock } = await setup({ ttl: 60_000, negativeTtl: 5_000 });
    const counts = async (ahead: number) => {
      clock.ahead = ahead;
      await find(credentials, 'dora');
      await find(credentials, 'nobody');
      return service.asked.length;
    };
    expect(await counts(0)).toBe(2);
    expect(await counts(4_000)).toBe(2);
    expect(await counts(10_000)).toBe(3);
    expect(await counts(70_000)).toBe(5);
    let found: unknown;
    credentials.find('dora', 'example.net', 'SHA-256', (answer) => {
      found = answer;
    });
    expect(found).toEqual(FOUND);
  });

  it('are kept no longer than the service says', async () => {
    const { service, credentials, clock } = await setup();
    service.answer = ({ response }) => response.end(JSON.stringify({ ha1: HA1, ttl: 2 }));
    await find(credentials, 'dora');
    clock.ahead = 1_000;
    await find(credentials, 'dora');
    expect(service.asked).toHaveLength(1);
    clock.ahead = 3_000;
    await find(credentials, 'dora');
    expect(service.asked).toHaveLength(2);
  });

  it('are one request for all who ask for the same at one time, and so many at once and no more', async () => {
    const { service, credentials } = await setup({ concurrency: 2 });
    let open = 0;
    let most = 0;
    service.answer = ({ response }) => {
      most = Math.max(most, ++open);
      setTimeout(() => {
        open--;
        response.end(JSON.stringify({ ha1: HA1 }));
      }, 10);
    };
    const users = Array.from({ length: 30 }, (_, i) => `u${i % 10}`);
    expect(await Promise.all(users.map((user) => find(credentials, user)))).toEqual(Array(30).fill(FOUND));
    expect([service.asked.length, most]).toEqual([10, 2]);
  });

  it('are unavailable at once to whoever finds the queue full', async () => {
    const { service, credentials } = await setup({ concurrency: 1, waiting: 1 });
    service.answer = hang;
    const [first, second] = [find(credentials, 'a'), find(credentials, 'b')];
    expect(await find(credentials, 'c')).toEqual({ status: 'unavailable', retryAfter: 1 });
    await credentials.close();
    expect([await first, await second].map(({ status }) => status)).toEqual(['unavailable', 'unavailable']);
    expect((await find(credentials, 'd')).status).toBe('unavailable');
  });

  it.each([
    ['a status of 500', (r: ServerResponse) => r.writeHead(500).end()],
    ['a redirect', (r: ServerResponse) => r.writeHead(302, { location: '/' }).end()],
    ['401 to ourselves', (r: ServerResponse) => r.writeHead(401).end()],
    ['no JSON', (r: ServerResponse) => r.end('yes')],
    ['null', (r: ServerResponse) => r.end('null')],
    ['nothing', (r: ServerResponse) => r.end()],
    ['no digest', (r: ServerResponse) => r.end('{"ok":true}')],
    ['a password', (r: ServerResponse) => r.end('{"ha1":"tin-whistle-42"}')],
    ['a digest of another algorithm', (r: ServerResponse) => r.end(`{"ha1":"${HA1.slice(32)}"}`)],
    ['aors that are none', (r: ServerResponse) => r.end(`{"ha1":"${HA1}","aors":[7]}`)],
    ['too long', (r: ServerResponse) => r.end(`{"ha1":"${HA1}"}${' '.repeat(100_000)}`)],
    ['half an answer', (r: ServerResponse) => r.write('{"ha1":', () => r.destroy())],
    ['a closed connection', (r: ServerResponse) => r.destroy()],
  ])('are unavailable, not unknown, if the answer is %s', async (_, answer) => {
    const { service, credentials, text } = await setup({ failures: 1 });
    service.answer = ({ response }) => void answer(response);
    expect(await find(credentials, 'dora')).toEqual({ status: 'unavailable', retryAfter: 1 });
    expect(text()).toContain('credential-service-down');
    for (const secret of [HA1.slice(32), 'tin-whistle', 'dora']) expect(text()).not.toContain(secret);
  });

  it('are unavailable when the service hangs, within the deadline also for those who wait their turn', async () => {
    const { service, credentials, clock, lines } = await setup({ deadline: 50, concurrency: 1, failures: 2 });
    service.answer = () => {
      clock.ahead = 60;
    };
    const found = await Promise.all(['a', 'b', 'c'].map((user) => find(credentials, user)));
    expect(found).toEqual(Array(3).fill({ status: 'unavailable', retryAfter: 1 }));
    expect(service.asked).toHaveLength(1);
    expect(lines).toMatchObject([
      { event: 'credential-service-down', reason: 'no turn within the deadline' },
    ]);
  });

  it('are unavailable to all who wait as soon as the service is known to be dead', async () => {
    const { service, credentials } = await setup({ concurrency: 1, failures: 1 });
    service.answer = ({ response }) => response.destroy();
    const found = await Promise.all(['a', 'b', 'c'].map((user) => find(credentials, user)));
    expect(found.map(({ status }) => status)).toEqual(Array(3).fill('unavailable'));
    expect(service.asked).toHaveLength(1);
  });

  it('are not asked for while the service is dead, and are there again when it is back', async () => {
    const { service, credentials, clock, lines } = await setup({
      failures: 3,
      firstPause: 1_000,
      longestPause: 30_000,
      ttl: 10,
    });
    expect(await find(credentials, 'dora')).toEqual(FOUND);
    await service.down();
    clock.ahead += 100;
    for (let i = 0; i < 3; i++) expect((await find(credentials, 'dora')).status).toBe('unavailable');
    // the pause: told at once, without trying
    let found: unknown;
    credentials.find('dora', 'example.net', 'SHA-256', (answer) => {
      found = answer;
    });
    expect(found).toEqual({ status: 'unavailable', retryAfter: 1 });
    // a trial that fails makes it longer
    clock.ahead += 1_000;
    expect(await find(credentials, 'dora')).toEqual({ status: 'unavailable', retryAfter: 2 });
    await service.up();
    expect((await find(credentials, 'dora')).status).toBe('unavailable');
    expect(service.asked).toHaveLength(1);
    clock.ahead += 2_000;
    expect(await find(credentials, 'dora')).toEqual(FOUND);
    expect(await find(credentials, 'eve')).toEqual(FOUND);
    expect(lines.map(({ event }) => event)).toEqual([
      'credential-service-down',
      'credential-service-down',
      'credential-service-back',
    ]);
  });

  it('do not show the password of the service in the log', async () => {
    const { service, credentials, text } = await setup(
      { failures: 1 },
      (port) => `http://hold:fast@127.0.0.1:${port}/ha1?key=geheim`,
    );
    await service.down();
    await find(credentials, 'dora');
    expect(text()).toContain('/ha1');
    expect(text()).not.toMatch(/fast@|hold:|geheim/);
  });
});

describe('the breaker', () => {
  it('opens after so many failures in a row, not after as many with a success between', () => {
    const breaker = new Breaker(3, 100, 350);
    for (let i = 0; i < 10; i++)
      expect([breaker.failed(0), breaker.failed(0), breaker.succeeded()]).toEqual([false, false, false]);
    expect([breaker.failed(0), breaker.failed(0), breaker.failed(0)]).toEqual([false, false, true]);
    expect([breaker.isOpen, breaker.admits(99), breaker.wait(40)]).toEqual([true, false, 60]);
  });

  it('lets one trial through after each pause, doubles the pause up to the longest, and ends it with a success', () => {
    const breaker = new Breaker(1, 100, 350);
    breaker.failed(0);
    let now = 0;
    for (const pause of [100, 200, 350, 350]) {
      now += pause;
      expect([
        breaker.wait(now - pause),
        breaker.admits(now - 1),
        breaker.admits(now),
        breaker.admits(now),
      ]).toEqual([pause, false, true, false]);
      expect(breaker.failed(now)).toBe(true);
    }
    now += 350;
    expect([breaker.admits(now), breaker.succeeded(), breaker.admits(now), breaker.wait(now)]).toEqual([
      true,
      true,
      true,
      0,
    ]);
    breaker.failed(now);
    expect(breaker.wait(now)).toBe(100);
  });

  it('learns nothing new from what was under way when it opened', () => {
    const breaker = new Breaker(1, 100, 350);
    expect([breaker.failed(0), breaker.failed(50)]).toEqual([true, false]);
    expect(breaker.wait(50)).toBe(50);
  });
});

describe('the cache', () => {
  it('keeps so many answers and no more, the oldest goes first', () => {
    const cache = new AnswerCache(2);
    for (const key of ['a', 'b', 'a', 'c']) cache.put(key, { status: 'unknown' }, 10);
    expect([cache.size, cache.get('b', 0), cache.get('a', 9)?.status, cache.get('c', 10)]).toEqual([
      2,
      undefined,
      'unknown',
      undefined,
    ]);
    expect(cache.size).toBe(1);
  });
});
