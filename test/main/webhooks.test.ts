/** Webhooks against a real HTTP server on loopback that fails, is slow, asks for time, or hangs up. */
import { createHmac } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EVENT_TYPES, type WebhookConfig } from '../../src/config/config.ts';
import { signature, type WebhookOptions, Webhooks } from '../../src/main/webhooks.ts';
import type { Logger } from '../../src/observe/log.ts';
import type { BindingEvent } from '../../src/registrar/events.ts';
import { Counters } from '../../src/shared/counters.ts';
import { until } from '../registrar/redis-server.ts';

interface Request {
  headers: IncomingMessage['headers'];
  url: string | undefined;
  body: string;
  events: BindingEvent[];
}
type Act = (response: ServerResponse, request: Request) => void;

const ok: Act = (response) => response.writeHead(204).end();

let server: Server;
let requests: Request[];
/** what the next requests get; then ok */
let acts: Act[];
let lines: Record<string, unknown>[];
let counters: Counters;
let open: Webhooks[];
let url: string;

beforeEach(async () => {
  [requests, acts, lines, open] = [[], [], [], []];
  counters = new Counters(Counters.allocate(1), 0);
  server = createServer((message, response) => {
    let body = '';
    message.setEncoding('utf8').on('data', (text: string) => {
      body += text;
    });
    message.on('end', () => {
      const { headers, url } = message;
      const request = { headers, url, body, events: JSON.parse(body).events as BindingEvent[] };
      requests.push(request);
      (acts.shift() ?? ok)(response, request);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/holdfast?tenant=1`;
});
afterEach(async () => {
  acts = [];
  for (const webhooks of open) await webhooks.close();
  server.closeAllConnections();
  server.close();
});

const line = (fields: Record<string, unknown>) => lines.push(fields);
const log = { info: line, warn: line, error: line } as unknown as Logger;

function webhooks(config: Partial<WebhookConfig> = {}, options: Partial<WebhookOptions> = {}): Webhooks {
  const all = new Webhooks({
    config: { url, types: [...EVENT_TYPES], ...config },
    log,
    counters,
    ...options,
    limits: { gather: 5, firstPause: 10, longestPause: 40, ...options.limits },
  });
  open.push(all);
  return all;
}

let serial = 0;
const event = (aor = 'sip:dora@example.net', changes: Partial<BindingEvent> = {}): BindingEvent =>
  ({
    type: 'register',
    id: `id-${serial++}`,
    at: 1_800_000_000_000,
    aor,
    contact: 'sip:d@192.0.2.1',
    regId: 1,
    instance: 'urn:x:1',
    expires: 600,
    order: 1,
    node: 1,
    ...changes,
  }) as BindingEvent;

/** Events as a receiver has them that knows the ids. */
const distinct = () => [...new Map(requests.flatMap(({ events }) => events).map((e) => [e.id, e])).values()];

describe('webhooks', () => {
  it('post events as JSON, those of one moment together, with token and signature', async () => {
    const { push } = bound(webhooks({ authorization: 'Bearer t0ken', secret: 's3cret' }));
    const sent = [event(), event(), event()];
    push(sent);
    await until(() => requests.length === 1);
    const [{ headers, url: path, body, events }] = requests;
    expect(events).toEqual(sent);
    expect(path).toBe('/holdfast?tenant=1');
    expect(headers).toMatchObject({ 'content-type': 'application/json', authorization: 'Bearer t0ken' });
    expect(headers['idempotency-key']).toMatch(/^"[A-Za-z0-9_-]{27}"$/);
    const [, seconds, mac] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(headers['holdfast-signature'])) ?? [];
    expect(mac).toBe(createHmac('sha256', 's3cret').update(`${seconds}.${body}`).digest('hex'));
    expect(signature('other', body, Number(seconds))).not.toContain(mac);
    await until(() => counters.snapshot().eventsDelivered === 3);
    expect(lines).toEqual([]);
  });

  it('post only the types that are asked for', async () => {
    const { push } = bound(webhooks({ types: ['expire'] }));
    push([event(), event('sip:a@h', { type: 'expire' }), event('sip:a@h', { type: 'unregister' })]);
    await until(() => requests.length === 1);
    expect(requests[0].events.map(({ type }) => type)).toEqual(['expire']);
  });

  it('say once that the endpoint is away, and once that it is back; say nothing secret', async () => {
    const { push } = bound(webhooks({ authorization: 'Bearer t0ken', secret: 's3cret' }));
    acts = [
      (response) => response.writeHead(500).end('oops'),
      (response) => response.socket?.destroy(),
      (response) => response.writeHead(429, { 'retry-after': '0' }).end(),
    ];
    push([event()]);
    await until(() => requests.length === 4);
    await until(() => lines.length === 2);
    expect(lines).toEqual([
      { event: 'webhook-away', url: url.replace(/\?.*/, ''), error: 'status 500' },
      { event: 'webhook-back', url: url.replace(/\?.*/, '') },
    ]);
    expect(new Set(requests.map(({ headers }) => headers['idempotency-key'])).size).toBe(1);
    expect(counters.snapshot()).toMatchObject({ eventsDelivered: 1, webhookFailures: 3, eventsDropped: 0 });
  });

  it('give up a request that is not answered in time, and send it again; a 200 is one though its body does not end', async () => {
    const { push } = bound(webhooks({}, { deadline: 100 }));
    const held: ServerResponse[] = [];
    acts = [(response) => held.push(response), (response) => response.writeHead(200).write('x')];
    push([event()]);
    await until(() => counters.snapshot().eventsDelivered === 1);
    expect(requests).toHaveLength(2);
    expect(lines[0]).toMatchObject({ event: 'webhook-away', error: 'TimeoutError' });
  });

  it('do not follow a redirect, and drop what is refused, with a line', async () => {
    const { push } = bound(webhooks());
    acts = [(response) => response.writeHead(302, { location: '/else' }).end()];
    push([event()]);
    await until(() => counters.snapshot().eventsDropped === 1);
    push([event()]);
    await until(() => counters.snapshot().eventsDelivered === 1);
    expect(requests.map((request) => request.url)).toEqual(['/holdfast?tenant=1', '/holdfast?tenant=1']);
    expect(lines).toEqual([{ event: 'events-dropped', events: 1, why: 'status 302' }]);
  });

  it('keep the order of each address while the endpoint fails at random, and lose nothing', async () => {
    const { all, push } = bound(webhooks({}, { limits: { batchEvents: 7 } }));
    let seed = 7;
    const random = (n: number) => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fffffff;
      return (seed >>> 8) % n;
    };
    const bad: Act[] = [
      (response) => response.writeHead(503).end(),
      (response) => response.socket?.destroy(),
      (response) => setTimeout(() => response.writeHead(200).end(), 15),
      (response) => response.writeHead(408).end(),
    ];
    acts = Array.from({ length: 60 }, () => (random(3) === 0 ? ok : bad[random(bad.length)]));
    const sent: BindingEvent[] = [];
    for (let i = 0; i < 400; i++) {
      const next = event(`sip:u${random(20)}@h`, { order: i });
      sent.push(next);
      push([next]);
      if (i % 50 === 0) await new Promise(setImmediate);
    }
    await until(() => all.waiting === 0);
    expect(distinct()).toHaveLength(400);
    for (const aor of new Set(sent.map((e) => e.aor))) {
      const of = (events: BindingEvent[]) => events.filter((e) => e.aor === aor).map((e) => e.order);
      expect(of(distinct())).toEqual(of(sent));
    }
    expect(counters.snapshot()).toMatchObject({ eventsDelivered: 400, eventsDropped: 0 });
  });

  it('let the addresses of other lanes through while one waits for its answer', async () => {
    const { push } = bound(webhooks());
    let release = () => {};
    acts = [
      (response) => {
        release = () => ok(response, requests[0]);
      },
    ];
    push([event('sip:slow@h')]);
    await until(() => requests.length === 1);
    for (let i = 0; i < 12; i++) push([event(`sip:u${i}@h`)]);
    await until(() => distinct().length > 1);
    push([event('sip:slow@h')]);
    const slow = () => distinct().filter(({ aor }) => aor === 'sip:slow@h');
    expect(slow()).toHaveLength(1);
    expect(counters.snapshot().webhookFailures).toBe(0); // it was not given up meanwhile
    release();
    await until(() => slow().length === 2);
  });

  it('hold a bounded number of events for an endpoint that is away, the newest, and say what was dropped', async () => {
    const { all, push } = bound(webhooks({}, { limits: { queueEvents: 20, batchEvents: 5 } }));
    let away = true;
    const refuse: Act = (response) => response.writeHead(away ? 503 : 200).end();
    acts = new Array<Act>(1_000).fill(refuse);
    const sent = Array.from({ length: 100 }, (_, i) => event('sip:a@h', { order: i }));
    push(sent.slice(0, 5));
    await until(() => requests.length > 0);
    push(sent.slice(5));
    expect(all.waiting).toBe(25);
    expect(counters.snapshot().eventsDropped).toBe(75);
    expect(lines.filter((l) => l.event === 'events-dropped')).toEqual([
      { event: 'events-dropped', events: 1, why: 'queue-full' },
    ]);
    away = false;
    await until(() => all.waiting === 0);
    expect(distinct().map(({ order }) => order)).toEqual([
      0,
      1,
      2,
      3,
      4,
      ...Array.from({ length: 20 }, (_, i) => 80 + i),
    ]);
  });

  it('write one line about what is dropped, and after a while another about the rest', async () => {
    const later: (() => void)[] = [];
    const after = (ms: number, run: () => void) => {
      if (ms === 10_000) later.push(run);
      return () => {};
    };
    const { push } = bound(webhooks({}, { after, limits: { queueEvents: 1 } }));
    push(Array.from({ length: 9 }, () => event('sip:a@h')));
    expect(lines).toEqual([{ event: 'events-dropped', events: 1, why: 'queue-full' }]);
    later[0]();
    expect(lines.slice(1)).toEqual([{ event: 'events-dropped', events: 7, why: 'queue-full' }]);
    expect(later).toHaveLength(1);
    open = [];
  });

  it('send at their close what has been gathered; an endpoint that hangs does not hold it up', async () => {
    const first = bound(webhooks({}, { limits: { gather: 60_000 } }));
    first.push([event(), event('sip:b@h')]);
    await first.all.close();
    expect(distinct()).toHaveLength(2);
    let late: () => void = () => {};
    const second = bound(
      webhooks(
        {},
        {
          limits: { gather: 0 },
          after: (ms, run) => {
            if (ms < 5_000) run();
            else late = run;
            return () => {};
          },
        },
      ),
    );
    acts = [() => {}];
    second.push([event(), event()]);
    await until(() => requests.length >= 3);
    const closing = second.all.close();
    late();
    await closing;
    expect(lines.at(-1)).toEqual({ event: 'events-dropped', events: 2, why: 'stopped' });
    open = [];
  });
});

const bound = (all: Webhooks) => ({ all, push: (events: BindingEvent[]) => all.push(events) });
