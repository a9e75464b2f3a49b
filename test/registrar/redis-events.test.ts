/** The events of registrars that share a Redis: those of the location service, each told by one of them. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { contactKey, flowKey } from '../../src/registrar/binding.ts';
import { type BindingEvent, Journal } from '../../src/registrar/events.ts';
import { Location } from '../../src/registrar/location.ts';
import { MemoryBackend } from '../../src/registrar/memory.ts';
import { bindingKey } from '../../src/registrar/redis.ts';
import { Tenure } from '../../src/registrar/redis-tenure.ts';
import type { StoreOp, UpdateOp } from '../../src/registrar/store.ts';
import { Cause } from '../../src/shared/cause.ts';
import { hasRedis, RedisServer, type Registrar, registrar, until } from './redis-server.ts';
import { asKnown, Replay } from './replay.ts';
import { DORA, EVE, flowContact, START, update } from './requests.ts';

const TOKEN = 'AQEAAWUAAAAAAAABAAAAAQAAAAAAAAAAAAAAAA';
const EDGE_PATH = [`<sip:${TOKEN}@edge.example;lr;ob>`];
const TEN_MINUTES = 600_000;

type Watched = Registrar & { events: BindingEvent[] };

describe.skipIf(!hasRedis)('the events of registrars that share a Redis', () => {
  let server: RedisServer;
  const open: Watched[] = [];
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server.dispose());
  beforeEach(() => {
    server.command('FLUSHALL');
  });
  afterEach(async () => {
    for (const { close } of open.splice(0)) await close();
  });

  async function watched(node: number, clock: 'server' | 'caller' = 'server'): Promise<Watched> {
    const events: BindingEvent[] = [];
    const watch = (more: readonly BindingEvent[]) => events.push(...more);
    const one = { ...(await registrar(server.url, { node, clock, watch })), events };
    open.push(one);
    return one;
  }
  const register = (at: Registrar, changes: Partial<UpdateOp> = {}) =>
    at.store.handle(update({ now: Date.now(), ...changes }));
  const told = (events: readonly BindingEvent[]) =>
    events.map(({ type, aor, node }) => `${node}: ${type} ${aor}`);

  it('are those that the location service tells of the same requests, over 2,000 of them', async () => {
    const a = await watched(1, 'caller');
    let now = START;
    const journal = new Journal(1, () => now);
    const location = new Location(new MemoryBackend(), journal);
    const replay = new Replay();
    let seed = 20_261_124;
    const random = (n: number) => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fffffff;
      return (seed >>> 8) % n;
    };
    const uris = ['sip:d@h.example', 'sip:d@h.example;x=1', 'sip:d@h.example;x=2', 'sip:D@H.example'];
    const comparable = ({ id, order, ...event }: BindingEvent) =>
      JSON.stringify(event, Object.keys(event).sort());
    const seen: Record<string, number> = {};
    const expiredThere: string[] = [];
    const expiredHere: string[] = [];
    let life = 1;
    for (let step = 0; step < 2_000; step++) {
      now += random(8) * 1_000;
      const aor = [DORA, EVE][random(2)];
      const kind = random(12);
      const { bindings } = await a.store.handle({ kind: 'lookup', aor, now }); // tells it the time too
      if (kind === 0) {
        location.sweep(now, 100);
        await a.store.expire(now);
      } else {
        let op: StoreOp;
        if (kind === 1)
          op = { kind: 'flow-closed', flow: flowKey(random(4), life++, 1, false), cause: Cause.RESET };
        else if (kind === 2) {
          const key = bindings[random(4)]?.key ?? 'none';
          op = { kind: 'remove', aor, key };
        } else {
          const regId = random(3);
          const uri = uris[random(4)];
          const expires = random(5) === 0 ? 0 : 30 + random(120);
          const contacts = [
            flowContact(regId, { contact: uri, expires, ...(regId === 0 && { key: contactKey(uri) }) }),
          ];
          const flow = random(3) > 0 ? { flow: flowKey(random(4), life, 1, false) } : {};
          const clear = random(15) === 0;
          op = update({
            now,
            aor,
            callId: `c${random(2)}`,
            clear,
            contacts: clear ? [] : contacts,
            ...flow,
            cseq: random(20) + step,
          });
        }
        const there = (await a.store.handle(op)).status;
        expect(there).toBe(location.handle(op).status);
      }
      const events = a.events.splice(0);
      const expected = journal.take();
      const others = (all: BindingEvent[]) =>
        all
          .filter(({ type }) => type !== 'expire')
          .map(comparable)
          .sort();
      expect(others(events)).toEqual(others(expected));
      // who finds an expired binding first, and when, is not the same; what has expired is
      for (const [list, all] of [
        [expiredThere, events],
        [expiredHere, expected],
      ] as const)
        list.push(
          ...all.filter(({ type }) => type === 'expire').map((event) => comparable({ ...event, at: 0 })),
        );
      if (kind === 0) expect(expiredThere.splice(0).sort()).toEqual(expiredHere.splice(0).sort());
      for (const event of events) {
        replay.apply(event);
        seen[event.type] = (seen[event.type] ?? 0) + 1;
      }
    }
    expect(Object.values(seen).every((n) => n > 50)).toBe(true);
    expect(Object.keys(seen)).toHaveLength(5);
    now += 1_000;
    await a.store.expire(now);
    for (const event of a.events) replay.apply(event);
    const left = [];
    for (const aor of [DORA, EVE])
      left.push([aor, asKnown((await a.store.handle({ kind: 'lookup', aor, now })).bindings)]);
    expect({ [DORA]: {}, [EVE]: {}, ...replay.bindings }).toEqual(Object.fromEntries(left));
  });

  it('are told by the registrar that made the change', async () => {
    const [a, b] = await Promise.all([watched(1), watched(2)]);
    await register(a, { path: EDGE_PATH });
    await register(b, { path: EDGE_PATH, cseq: 2 });
    await register(a, { aor: EVE, flow: '1.1.7.s' });
    await register(b, { aor: EVE, flow: '1.1.7.s', cseq: 2 });
    await b.store.handle({ kind: 'flow-closed', flow: TOKEN, cause: Cause.EXPIRED });
    expect(told(a.events)).toEqual([`1: register ${DORA}`, `1: register ${EVE}`]);
    expect(told(b.events)).toEqual([`2: refresh ${DORA}`, `2: refresh ${EVE}`, `2: flow-lost ${DORA}`]);
    expect(b.events).toMatchObject([{ flowChanged: false }, { flowChanged: true }, { cause: 'expired' }]);
  });

  it('tell an expiry once, whichever registrars look for it at the same time', async () => {
    const all = await Promise.all([1, 2, 3].map((node) => watched(node)));
    const names = Array.from({ length: 40 }, (_, i) => `sip:u${i}@h`);
    for (const [i, aor] of names.entries()) {
      await register(all[i % 2], { aor, contacts: [flowContact(1, { expires: 1 }), flowContact(2)] });
      await register(all[(i + 1) % 2], { aor, cseq: 2, contacts: [flowContact(2)] });
    }
    await all[2].store.follow(Date.now());
    for (const one of all) one.events.length = 0;
    const events = () => all.flatMap((one) => one.events);
    let now = Date.now();
    await until(async () => {
      now += 1_000;
      await Promise.all(all.map(({ store }) => store.expire(now)));
      return events().length >= names.length;
    });
    await Promise.all(all.map(({ store }) => store.expire(now + 10_000)));
    expect(
      events()
        .map(({ type, aor, regId }) => `${type} ${aor} ${regId}`)
        .sort(),
    ).toEqual(names.map((aor) => `expire ${aor} 1`).sort());
  });

  it('tell what expired while its registrar was away, by who comes up within ten minutes', async () => {
    const a = await watched(1);
    await register(a, { contacts: [flowContact(1, { expires: 1 })] });
    await register(a, { contacts: [flowContact(1, { expires: 60 })], aor: EVE });
    await a.close();
    const ttl = Number(server.command('PTTL', bindingKey(DORA)));
    expect(ttl > TEN_MINUTES && ttl <= TEN_MINUTES + 1_000).toBe(true);
    await until(() => Number(server.command('PTTL', bindingKey(DORA))) < TEN_MINUTES);
    const b = await watched(2);
    await b.store.follow(Date.now());
    expect(told(b.events)).toEqual([`2: expire ${DORA}`]);
    expect(server.command('EXISTS', bindingKey(DORA))).toBe('0');
    // and what is still there is followed: the server's time has not come, so it is asked again
    await b.store.expire(Date.now() + 61_000);
    expect(b.events).toHaveLength(1);
  });

  it('tell the flows of an earlier life as lost by the restart', async () => {
    const a = await watched(1);
    await register(a, { flow: '1.1.6.s' });
    const tenure = new Tenure({ ...a, node: 1, incarnation: 7 });
    await tenure.renew();
    await tenure.end();
    expect(a.events.at(-1)).toMatchObject({ type: 'flow-lost', cause: 'restart', regId: 1 });
  });

  it('cost nothing where nobody watches: the hash lives no longer than its bindings', async () => {
    const a = await registrar(server.url);
    await register(a, { contacts: [flowContact(1, { expires: 60 })] });
    expect(Number(server.command('PTTL', bindingKey(DORA)))).toBeLessThanOrEqual(60_000);
    await a.store.follow(Date.now());
    await a.close();
  });
});
