/** Registrar and authoritative proxy of one process, with a store that answers at once or when it is told to. */
import { describe, expect, it } from 'vitest';
import { Gruus } from '../../src/registrar/gruu.ts';
import { Location } from '../../src/registrar/location.ts';
import { MemoryBackend } from '../../src/registrar/memory.ts';
import type { LocationStore, StoreOp, StoreResult } from '../../src/registrar/store.ts';
import type { LocalHome } from '../../src/shard/home.ts';
import { REGISTERED } from '../../src/shared/flow-record.ts';
import { OPEN } from '../../src/shared/flow-table.ts';
import {
  answer,
  CLIENT,
  CORE,
  endpoint,
  headers,
  OWN_ROUTE,
  Rig,
  type RigOptions,
  request,
  type Sent,
  startLine,
  status,
} from '../proxy/rig.ts';

const INSTANCE = '"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>"';
const BOB = '203.0.113.20:6000';

class FakeStore implements LocationStore {
  readonly location = new Location(new MemoryBackend());
  readonly waiting: (() => void)[] = [];
  readonly ops: StoreOp[] = [];
  later = false;
  fails: StoreResult['status'] | undefined;

  #ask(op: StoreOp, done: (result: StoreResult) => void): void {
    this.ops.push(op);
    const run = () =>
      done(
        this.fails
          ? { status: this.fails, bindings: [], count: 0 }
          : this.location.batch(() => this.location.handle(op)),
      );
    if (this.later) this.waiting.push(run);
    else run();
  }

  update(op: Parameters<LocationStore['update']>[0], done: (result: StoreResult) => void): void {
    this.#ask(op, done);
  }

  lookup(aor: string, now: number, done: (result: StoreResult) => void): void {
    this.#ask({ kind: 'lookup', aor, now }, done);
  }

  list(after: string | undefined, limit: number, done: (result: StoreResult) => void): void {
    this.#ask(after === undefined ? { kind: 'list', limit } : { kind: 'list', after, limit }, done);
  }

  remove(aor: string, key: string, ifOrder?: number): void {
    this.#ask(
      ifOrder === undefined ? { kind: 'remove', aor, key } : { kind: 'remove', aor, key, ifOrder },
      () => {},
    );
  }

  flowClosed(flow: string): void {
    this.#ask({ kind: 'flow-closed', flow }, () => {});
  }
}

class Site extends Rig {
  readonly store = new FakeStore();
  readonly gruus = new Gruus(new Uint8Array(32));
  readonly local: LocalHome;
  readonly seen: [slot: number, expires: number, outbound: boolean][] = [];

  constructor(options: RigOptions = {}) {
    super({ domains: ['example.com'], upstream: false, ...options });
    const home = this.serve(this.store, this.gruus, (...seen) => this.seen.push(seen));
    this.local = home;
    this.flows.ended = (slot, generation) => home.flowEnded(slot, generation);
  }

  /** What leaves when the store has answered all it was asked. */
  settle(): Sent[] {
    const before = this.sent.length;
    for (const run of this.store.waiting.splice(0)) run();
    return this.sent.slice(before);
  }
}

let cseq = 1;
const register = (parts: Parameters<typeof request>[0] = {}) =>
  request({
    method: 'REGISTER',
    uri: 'sip:example.com',
    to: '<sip:bob@example.com>',
    via: 'SIP/2.0/UDP 203.0.113.20:6000;branch=z9hG4bKreg',
    contact: `<sip:bob@10.0.0.2:6000>;reg-id=1;+sip.instance=${INSTANCE}`,
    lines: ['Supported: path, outbound'],
    ...parts,
  }).replace('CSeq: 1', `CSeq: ${cseq++}`);

describe.each([
  ['at once', false],
  ['later', true],
])('with a store that answers %s', (_, later) => {
  const site = (options: RigOptions = {}) => {
    const s = new Site(options);
    s.store.later = later;
    return s;
  };
  const ask = (s: Site, text: string, from = {}) => {
    const first = s.take(text, from);
    // the next message overwrites what the exchange held
    if (later)
      s.take('SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP other;branch=z9hG4bKx\r\n\r\n', { from: '192.0.2.77:7' });
    return [...first, ...s.settle()];
  };
  const registered = (s: Site, from: object = { from: BOB }, parts = {}) => {
    const [sent] = ask(s, register(parts), from);
    expect(status(sent)).toBe(200);
    return sent;
  };

  it('a REGISTER is answered with its bindings, and its flow is confirmed', () => {
    const s = site();
    const sent = registered(s);
    const slot = s.flows.find(0, endpoint(BOB), endpoint('192.0.2.1:5060'));
    expect(sent).toMatchObject({ way: 'datagram', to: BOB });
    expect(headers(sent, 'Contact')[0]).toMatch(/^<sip:bob@10\.0\.0\.2:6000>;reg-id=1;.*;expires=3600$/);
    expect([headers(sent, 'Require'), headers(sent, 'Flow-Timer')]).toEqual([['outbound'], ['120']]);
    expect([s.table.state(slot), s.table.has(slot, REGISTERED), s.table.flowTimer(slot)]).toEqual([
      OPEN,
      true,
      120,
    ]);
    expect(s.seen).toEqual([[slot, 3600, true]]);
  });

  it('a request to it goes down its flow, with its Contact as Request-URI and no Route', () => {
    const s = site();
    const stream = s.stream(BOB);
    registered(s, { stream });
    const [got] = ask(s, request({ method: 'MESSAGE', uri: 'sip:BOB@example.com'.replace('BOB', 'bob') }), {
      from: CLIENT,
    });
    expect(got).toMatchObject({ way: 'flow', to: s.name(stream) });
    expect(startLine(got)).toBe('MESSAGE sip:bob@10.0.0.2:6000 SIP/2.0');
    expect(headers(got, 'Route')).toEqual([]);
    const [back] = ask(s, answer(got), { stream });
    expect(back).toMatchObject({ way: 'datagram', to: CLIENT });
  });

  it('a call between two clients is recorded for both flows, the callee’s on top [EP-5.3.1-01 EP-5.3.2-02]', () => {
    const s = site();
    const bob = s.stream(BOB);
    const alice = s.stream(CLIENT);
    registered(s, { stream: bob });
    const [got] = ask(s, request({ via: 'SIP/2.0/TCP 10.0.0.1;branch=z9hG4bK1' }), { stream: alice });
    expect(headers(got, 'Record-Route')).toEqual(
      [bob, alice].map((slot) => `<sip:${s.token(slot)}@${OWN_ROUTE};transport=tcp;lr>`),
    );
    // and back by the route set that the callee has from it
    const lines = headers(got, 'Record-Route').map((value) => `Route: ${value}`);
    const [bye] = ask(
      s,
      request({
        method: 'BYE',
        to: '<sip:alice@example.com>;tag=1',
        uri: 'sip:alice@10.0.0.1',
        lines,
        via: 'SIP/2.0/TCP 10.0.0.2;branch=z9hG4bK2',
      }),
      { stream: bob },
    );
    expect(bye).toMatchObject({ way: 'flow', to: s.name(alice) });
  });

  it('a flow that has ended takes its bindings with it: 480', () => {
    const s = site();
    const stream = s.stream(BOB);
    registered(s, { stream });
    s.flows.end(stream, s.table.generation(stream), 1);
    s.settle();
    expect(s.store.location.count).toBe(0);
    expect(status(ask(s, request({ method: 'MESSAGE' }), { from: CLIENT })[0])).toBe(480);
  });

  it('a binding whose flow is gone is removed when it is met, and the next one is tried', () => {
    const s = site();
    const gone = s.stream('203.0.113.30:1');
    const alive = s.stream(BOB);
    registered(s, { stream: alive }, { callId: 'one' });
    s.at(1);
    registered(
      s,
      { stream: gone },
      { callId: 'two', contact: `<sip:bob@10.0.0.3>;reg-id=2;+sip.instance=${INSTANCE}` },
    );
    s.flows.ended = () => {}; // the store does not hear of it
    s.flows.end(gone, s.table.generation(gone), 1);
    const [got] = ask(s, request({ method: 'MESSAGE' }), { from: CLIENT });
    expect(got).toMatchObject({ way: 'flow', to: s.name(alive) });
    s.settle();
    expect(s.store.location.count).toBe(1);
  });

  it('a request by a strict router is aimed once, at the Contact', () => {
    const s = site();
    const bob = s.stream(BOB);
    const alice = s.stream(CLIENT);
    registered(s, { stream: bob });
    const text = request({
      method: 'MESSAGE',
      uri: `sip:${s.token(alice)}@${OWN_ROUTE};transport=tcp;lr`,
      lines: ['Route: <sip:bob@example.com>'],
      via: 'SIP/2.0/TCP 10.0.0.1;branch=z9hG4bK1',
    });
    const [got] = ask(s, text, { stream: alice });
    expect(startLine(got)).toBe('MESSAGE sip:bob@10.0.0.2:6000 SIP/2.0');
    expect(headers(got, 'Route')).toEqual([]);
  });

  it('an unknown user, a request to the domain alone, and another domain', () => {
    const s = site();
    expect(status(ask(s, request({ method: 'MESSAGE', uri: 'sip:nobody@example.com' }))[0])).toBe(480);
    expect(status(ask(s, request({ method: 'MESSAGE', uri: 'sip:example.com' }))[0])).toBe(404);
    expect(status(ask(s, register({ to: '<sip:bob@example.org>' }))[0])).toBe(404);
    expect(status(ask(s, register({ to: '<sip:example.com>' }))[0])).toBe(404);
    expect(status(ask(s, register({ to: '"x' }))[0])).toBe(400);
  });

  it('a store that cannot answer is 503 or 500, and no flow is confirmed', () => {
    const s = site();
    s.store.fails = 'busy';
    expect(status(ask(s, register(), { from: BOB })[0])).toBe(503);
    expect(status(ask(s, request({ method: 'MESSAGE' }))[0])).toBe(503);
    s.store.fails = 'error';
    expect(status(ask(s, register(), { from: BOB })[0])).toBe(500);
    expect(s.seen).toEqual([]);
  });

  it('a registration taken back leaves none, and is no registration for the log', () => {
    const s = site();
    registered(s);
    const sent = registered(
      s,
      { from: BOB },
      { contact: `<sip:bob@10.0.0.2:6000>;reg-id=1;+sip.instance=${INSTANCE};expires=0` },
    );
    expect(headers(sent, 'Contact')).toEqual([]);
    expect(s.seen).toHaveLength(1);
    expect(status(ask(s, request({ method: 'MESSAGE' }))[0])).toBe(480);
  });
});

describe('while the store thinks', () => {
  it('a REGISTER whose flow ends meanwhile confirms nothing', () => {
    const s = new Site();
    s.store.later = true;
    const stream = s.stream(BOB);
    s.take(register(), { stream });
    s.flows.end(stream, s.table.generation(stream), 1);
    expect(s.settle()).toEqual([]);
    expect(s.seen).toEqual([]);
  });

  it('many requests wait, each with its own bytes and source', () => {
    const s = new Site();
    s.take(register(), { from: BOB });
    s.store.later = true;
    for (let i = 0; i < 50; i++)
      s.take(
        request({
          method: 'MESSAGE',
          callId: `c${i}`,
          via: `SIP/2.0/UDP 203.0.113.7:${1000 + i};branch=z9hG4bK${i}`,
        }),
        { from: `203.0.113.7:${1000 + i}` },
      );
    const got = s.settle();
    expect(got.map((g) => headers(g, 'Call-ID')[0])).toEqual(Array.from({ length: 50 }, (_, i) => `c${i}`));
    for (const [i, g] of got.entries())
      expect(s.one(answer(g), { from: BOB }).to).toBe(`203.0.113.7:${1000 + i}`);
  });
});

it('a registration without any flow record free is 503 [EP-5.1-05]', () => {
  const s = new Site({ maxFlows: 16 });
  for (let i = 0; i < 16; i++) s.stream(`203.0.113.9:${i + 1}`);
  expect(status(s.one(register(), { from: BOB }))).toBe(503);
});

it('a binding made through a trusted edge is reached by its Path', () => {
  const s = new Site();
  const via = 'SIP/2.0/UDP edge2;branch=z9hG4bK1, SIP/2.0/UDP 10.0.0.2;branch=z9hG4bK2';
  const lines = ['Supported: path, outbound', 'Path: <sip:tok@198.51.100.50:5060;lr;ob>'];
  expect(status(s.one(register({ via, lines }), { from: '198.51.100.50:5060', trusted: true }))).toBe(200);
  const got = s.one(request({ method: 'MESSAGE', lines: ['Route: <sip:edge.example.com;lr>'] }), {
    from: CLIENT,
  });
  expect(got).toMatchObject({ way: 'datagram', to: '198.51.100.50:5060' });
  expect(startLine(got)).toBe('MESSAGE sip:bob@10.0.0.2:6000 SIP/2.0');
  expect(headers(got, 'Route')).toEqual(['<sip:tok@198.51.100.50:5060;lr;ob>']);
});

describe('a device behind a trusted edge, by its GRUU', () => {
  const EDGE = '198.51.100.50:5060';
  const HOP = `<sip:tok@${EDGE};lr;ob>`;
  const STRANGER = { from: '203.0.113.200:5060' };
  const bound = (options: RigOptions = {}) => {
    const s = new Site(options);
    const via = 'SIP/2.0/UDP edge2;branch=z9hG4bK1, SIP/2.0/UDP 10.0.0.2;branch=z9hG4bK2';
    const lines = ['Supported: path, outbound, gruu', `Path: ${HOP}`];
    const ok = s.one(register({ via, lines }), { from: EDGE, trusted: true });
    const gruu = /pub-gruu="([^"]*)"/.exec(headers(ok, 'Contact')[0])?.[1] as string;
    return { s, gruu };
  };
  const bye = (uri: string, ...routes: string[]) =>
    request({
      method: 'BYE',
      uri,
      to: '<sip:bob@example.com>;tag=1',
      lines: routes.map((r) => `Route: ${r}`),
    });

  it('is reached from anywhere along a Route that its Path leads to as well [5627-6.1-05]', () => {
    const { s, gruu } = bound();
    for (const hop of [HOP, `<sip:another-flow@${EDGE};lr>`, '<sip:198.51.100.50;lr>']) {
      const got = s.one(bye(gruu, `<sip:${OWN_ROUTE};lr>`, hop), STRANGER);
      expect(got).toMatchObject({ way: 'datagram', to: EDGE });
      expect(startLine(got)).toBe('BYE sip:bob@10.0.0.2:6000 SIP/2.0');
      expect(headers(got, 'Route')).toEqual([hop]);
    }
  });

  it('is no way to any other host [5627-6.1-05]', () => {
    const { s, gruu } = bound();
    for (const hop of [
      '<sip:203.0.113.99;lr>',
      '<sip:tok@198.51.100.50:5999;lr>',
      '<sip:tok@198.51.100.51;lr>',
    ])
      expect(status(s.one(bye(gruu, `<sip:${OWN_ROUTE};lr>`, hop), STRANGER))).toBe(403);
    const invented = s.one(bye('sip:bob@example.com;gr=1', `<sip:${OWN_ROUTE};lr>`, HOP), STRANGER);
    expect(status(invented)).toBe(404);
  });

  it('has its Contact at the end of Route where the next hop is a strict router', () => {
    const { s, gruu } = bound();
    const got = s.one(bye(gruu, `<sip:${OWN_ROUTE};lr>`, `<sip:${EDGE}>`), STRANGER);
    expect(startLine(got)).toBe(`BYE sip:${EDGE} SIP/2.0`);
    expect(headers(got, 'Route')).toEqual(['<sip:bob@10.0.0.2:6000>']);
  });

  it('is called by the upstream: this proxy records itself, without a flow [5627-6.2-02]', () => {
    const { s, gruu } = bound({ upstream: CORE });
    const upstream = { from: CORE, trusted: true, fromUpstream: true };
    for (const uri of [gruu, 'sip:bob@example.com']) {
      const got = s.one(request({ method: 'INVITE', uri, contact: '<sip:core@198.51.100.9>' }), upstream);
      expect(headers(got, 'Record-Route')).toEqual([`<sip:${OWN_ROUTE};lr>`]);
      expect(headers(got, 'Route')).toEqual([HOP]);
    }
  });
});

it('a GRUU in the Contact of somebody else than its user is told from his own', () => {
  const s = new Site();
  const uses = (contact: string, who: string) => {
    s.take(request({ method: 'INVITE', uri: 'sip:nobody@example.com', contact: `<${contact}>` }));
    return s.local.usesForeignGruu(who);
  };
  const [bob, eve] = ['sip:bob@example.com', 'sip:eve@example.com'];
  for (const gruu of [s.gruus.public(bob, 'urn:x:1'), s.gruus.temporary(bob, 'urn:x:1', 1) as string]) {
    expect([uses(gruu, bob), uses(gruu, eve)]).toEqual([false, true]);
  }
  for (const contact of ['sip:bob@10.0.0.2', 'sip:bob@example.com;gr=1', 'sip:bob@elsewhere.example;gr=1'])
    expect(uses(contact, eve)).toBe(false);
});
