/** One request in several places: RFC 3261 sections 16.6 to 16.10, RFC 5393, RFC 8760 section 2.5. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { type Arrival, isFinal, isRequest } from '../harness/inbox.ts';
import { aorOf, Call, type Place, reply, type Site, startSite } from '../harness/places.ts';
import { STORES } from '../harness/registrar.ts';
import { type Header, unique } from '../harness/sip.ts';

let site: Site;
let caller: Agent;

beforeAll(async () => {
  site = await startSite('memory');
  caller = await site.caller();
});
afterAll(() => site?.close());

/** An AOR with so many devices, one flow each, alternately over UDP and TCP. */
async function devices(count: number, qs: string[] = []): Promise<{ aor: string; places: Place[] }> {
  const user = unique('u');
  const places: Place[] = [];
  for (let i = 0; i < count; i++)
    places.push((await site.device(user, [i % 2 === 0 ? 'UDP' : 'TCP'], qs[i]))[0]);
  return { aor: aorOf(user), places };
}

const arrivals = (call: Call, places: Place[]): Promise<Arrival[]> =>
  Promise.all(places.map((place) => call.at(place)));

/** CANCEL comes to the place; it answers it and what it ends. */
async function cancelled(call: Call, place: Place, invite: Arrival): Promise<void> {
  reply(place, await place.agent.next(isRequest('CANCEL', call.callId)), 200);
  reply(place, invite, 487);
  await place.agent.next(isRequest('ACK', call.callId));
}

describe.each(STORES)('with the %s store', (store) => {
  it('all devices of one q are called at once, each on a branch of its own [AP-7-12 3261-16.6-06]', async () => {
    const other = await startSite(store);
    try {
      const user = unique('u');
      const places = [...(await other.device(user, ['UDP'])), ...(await other.device(user, ['TCP']))];
      const call = new Call(await other.caller(), aorOf(user));
      const got = await arrivals(call, places);
      expect(new Set(got.map((g) => g.message.via[0].branch)).size).toBe(2);
      expect(new Set(got.map((g) => g.message.uri)).size).toBe(2);
      reply(places[0], got[0], 486);
      reply(places[1], got[1], 200);
      expect(await call.status()).toBe(200);
    } finally {
      await other.close();
    }
  });
});

describe('several devices', () => {
  it('of different q are called one group after the other, highest first [3261-16.7-02]', async () => {
    const { aor, places } = await devices(4, ['0.2', '0.9', '0.9', '0.5']);
    const call = new Call(caller, aor);
    const [b, c] = await arrivals(call, [places[1], places[2]]);
    await call.notAt(places[0]);
    await call.notAt(places[3]);
    reply(places[1], b, 486);
    await call.notAt(places[3]);
    reply(places[2], c, 480);
    const d = await call.at(places[3]);
    await call.notAt(places[0]);
    reply(places[3], d, 404);
    reply(places[0], await call.at(places[0]), 200);
    expect(await call.status()).toBe(200);
  });

  it('that ring are all heard, a 100 is not [3261-16.7-01]', async () => {
    const { aor, places } = await devices(2);
    const call = new Call(caller, aor);
    const got = await arrivals(call, places);
    places[0].agent.reply(got[0], 100, 'Trying', [['X-Place', 'first']]);
    places[0].agent.reply(got[0], 180, 'Ringing', [['X-Place', 'first']]);
    expect((await call.provisional(180)).message.header('X-Place')).toBe('first');
    places[1].agent.reply(got[1], 183, 'Session Progress', [['X-Place', 'second']]);
    expect((await call.provisional(183)).message.header('X-Place')).toBe('second');
    reply(places[0], got[0], 200);
    expect(await call.status()).toBe(200);
    expect(call.rest().map((m) => m.header('X-Place'))).not.toContain('first');
  });

  it('one that answers ends the others: CANCEL to those that ring [3261-16.7-02 3261-16.10-01]', async () => {
    const { aor, places } = await devices(3);
    const call = new Call(caller, aor);
    const got = await arrivals(call, places);
    reply(places[1], got[1], 180);
    reply(places[2], got[2], 180);
    reply(places[0], got[0], 200);
    expect(await call.status()).toBe(200);
    await cancelled(call, places[1], got[1]);
    await cancelled(call, places[2], got[2]);
    expect(call.rest().filter((m) => m.status >= 300)).toEqual([]);
  });

  it('two that answer at once: both 2xx go to the caller, and its ACKs to both [6026-7.2-01 6026-7.1-01]', async () => {
    const { aor, places } = await devices(2);
    const call = new Call(caller, aor);
    const got = await arrivals(call, places);
    reply(places[0], got[0], 200);
    const first = await call.final();
    reply(places[1], got[1], 200);
    const second = await call.final();
    expect([first.status, second.status]).toEqual([200, 200]);
    expect(first.header('To')).not.toBe(second.header('To'));
    // and again, when a phone has not had its ACK
    reply(places[0], got[0], 200);
    expect(await call.status()).toBe(200);
    reply(places[1], got[1], 202);
    expect(await call.status()).toBe(202);
  });

  it('one that declines for all ends the others, and the caller gets its 6xx [3261-16.7-02]', async () => {
    const { aor, places } = await devices(3, ['0.9', '0.9', '0.5']);
    const call = new Call(caller, aor);
    const [a, b] = await arrivals(call, places.slice(0, 2));
    reply(places[0], a, 180);
    reply(places[1], b, 603);
    await cancelled(call, places[0], a);
    expect(await call.status()).toBe(603);
    await call.notAt(places[2]);
  });

  it('a 2xx after a 6xx still goes to the caller [3261-16.7-01]', async () => {
    const { aor, places } = await devices(2);
    const call = new Call(caller, aor);
    const [a, b] = await arrivals(call, places);
    reply(places[1], b, 600);
    reply(places[0], a, 200);
    expect(await call.status()).toBe(200);
    expect(call.rest().filter((m) => m.status >= 300)).toEqual([]);
  });

  it('are all cancelled with the call, and no group is begun after that [3261-16.10-01]', async () => {
    const { aor, places } = await devices(3, ['0.9', '0.9', '0.5']);
    const call = new Call(caller, aor);
    const got = await arrivals(call, places.slice(0, 2));
    reply(places[0], got[0], 180);
    await call.provisional(180);
    await call.cancel();
    reply(places[1], got[1], 180);
    await cancelled(call, places[0], got[0]);
    await cancelled(call, places[1], got[1]);
    expect(await call.status()).toBe(487);
    await call.notAt(places[2]);
  });

  it('a phone that answers in spite of the CANCEL is connected [3261-16.7-01]', async () => {
    const { aor, places } = await devices(1);
    const call = new Call(caller, aor);
    const [got] = await arrivals(call, places);
    reply(places[0], got, 180);
    await call.provisional(180);
    await call.cancel();
    reply(places[0], await places[0].agent.next(isRequest('CANCEL', call.callId)), 200);
    reply(places[0], got, 200);
    expect(await call.status()).toBe(200);
  });

  it('get a MESSAGE each; the first 2xx is the answer, the second is not passed on [3261-16.7-01]', async () => {
    const { aor, places } = await devices(2);
    const call = new Call(caller, aor, 'MESSAGE');
    const got = await arrivals(call, places);
    reply(places[1], got[1], 200);
    expect(await call.status()).toBe(200);
    reply(places[0], got[0], 202);
    await caller.probe();
    expect(call.rest()).toEqual([]);
  });
});

describe('the best response', () => {
  const MATRIX: [number[], number][] = [
    [[486, 404], 486],
    [[404, 486], 404],
    [[486, 302], 302],
    [[302, 486], 302],
    [[500, 486], 486],
    [[503, 480], 480],
    [[503, 503], 500],
    [[503, 500], 500],
    [[486, 603], 603],
    [[302, 600], 600],
    [[486, 401], 401],
    [[404, 407], 407],
    [[480, 415], 415],
    [[486, 420], 420],
    [[404, 484], 484],
    [[401, 302], 302],
    [[430, 486], 486],
    [[430, 430], 480],
    [[408, 486], 486],
    [[408, 503], 500],
    [[480, 486, 600], 600],
    [[500, 404, 302], 302],
  ];
  it.each(MATRIX)('of %j is %i [3261-16.7-02 3261-16.7-03 AP-7-11]', async (statuses, best) => {
    const { aor, places } = await devices(statuses.length);
    const call = new Call(caller, aor);
    const got = await arrivals(call, places);
    // one after the other, so that their order is that of the table
    for (const [i, place] of places.entries()) {
      reply(place, got[i], statuses[i]);
      await place.agent.next(isRequest('ACK', call.callId));
    }
    expect(await call.status()).toBe(best);
  });

  it("is the place's own, with its headers and body, without our Via [3261-16.7-05]", async () => {
    const { aor, places } = await devices(2);
    const call = new Call(caller, aor);
    const [a, b] = await arrivals(call, places);
    places[0].agent.reply(a, 404, 'No such one', [['Warning', '399 x "y"']], 'because');
    reply(places[1], b, 503);
    const final = await call.final();
    expect(final.startLine).toBe('SIP/2.0 404 No such one');
    expect(final.header('Warning')).toBe('399 x "y"');
    expect(final.body.toString()).toBe('because');
    expect(final.via).toHaveLength(1);
    expect(final.via[0].host).toBe(caller.host);
  });

  it("of two challenges has both, each place's own in their order [3261-16.7-04 8760-2.5-01]", async () => {
    const { aor, places } = await devices(3);
    const call = new Call(caller, aor);
    const got = await arrivals(call, places);
    const digest = (realm: string, algorithm: string) =>
      `Digest realm="${realm}", nonce="n", algorithm=${algorithm}`;
    const first: Header[] = [
      ['WWW-Authenticate', digest('a', 'SHA-256')],
      ['WWW-Authenticate', digest('a', 'MD5')],
    ];
    const second: Header[] = [
      ['Proxy-Authenticate', digest('b', 'SHA-512-256')],
      ['Proxy-Authenticate', digest('b', 'SHA-256')],
    ];
    for (const [i, [status, headers]] of (
      [
        [401, first],
        [407, second],
        [486, []],
      ] as const
    ).entries()) {
      reply(places[i], got[i], status, [...headers]);
      await places[i].agent.next(isRequest('ACK', call.callId));
    }
    const final = await call.final();
    expect(final.status).toBe(401);
    expect(final.fields('WWW-Authenticate')).toEqual(first.map(([, v]) => v));
    expect(final.fields('Proxy-Authenticate')).toEqual(second.map(([, v]) => v));
  });

  it('of two 401 of one realm has the challenges of both [3261-16.7-04]', async () => {
    const { aor, places } = await devices(2);
    const call = new Call(caller, aor, 'MESSAGE');
    const got = await arrivals(call, places);
    for (const [i, place] of places.entries())
      reply(place, got[i], 401, [['WWW-Authenticate', `Digest realm="r", nonce="${i}"`]]);
    const final = await call.final();
    expect(final.fields('WWW-Authenticate').sort()).toEqual([
      'Digest realm="r", nonce="0"',
      'Digest realm="r", nonce="1"',
    ]);
  });
});

describe('Max-Breadth', () => {
  const breadth = (got: Arrival) => Number(got.message.header('Max-Breadth'));

  it('that is absent is set to 60 and shared among the places [5393-5.3-01]', async () => {
    const one = await devices(1);
    let call = new Call(caller, one.aor);
    const [got] = await arrivals(call, one.places);
    expect(breadth(got)).toBe(60);
    reply(one.places[0], got, 486);
    await call.status();

    const three = await devices(3);
    call = new Call(caller, three.aor);
    const all = await arrivals(call, three.places);
    for (const g of all) expect(breadth(g)).toBeGreaterThanOrEqual(1);
    expect(all.reduce((sum, g) => sum + breadth(g), 0)).toBeLessThanOrEqual(60);
    for (const [i, g] of all.entries()) reply(three.places[i], g, 486);
    expect(await call.status()).toBe(486);
  });

  it('above 60 is cut to 60, and for one place it is not lowered on the way [5393-5.3-01]', async () => {
    const { aor, places } = await devices(1);
    for (const [sent, seen] of [
      ['1000', 60],
      ['7', 7],
      ['1', 1],
    ] as const) {
      const call = new Call(caller, aor, 'MESSAGE', [['Max-Breadth', sent]]);
      const got = await call.at(places[0]);
      expect(got.message.fields('Max-Breadth')).toEqual([String(seen)]);
      reply(places[0], got, 200);
      await call.status();
    }
  });

  it('1 makes two devices of one q ring one after the other [5393-5.3-01]', async () => {
    const { aor, places } = await devices(2);
    const call = new Call(caller, aor, 'INVITE', [['Max-Breadth', '1']]);
    const waiting = places.map((place) => call.at(place).then((got) => ({ place, got })));
    const one = await Promise.race(waiting);
    const other = places.find((place) => place !== one.place) as Place;
    expect(breadth(one.got)).toBe(1);
    await other.agent.probe();
    await other.agent.probe();
    let second = false;
    const at = waiting[places.indexOf(other)].then((got) => {
      second = true;
      return got;
    });
    await caller.probe();
    expect(second).toBe(false);
    reply(one.place, one.got, 486);
    const two = await at;
    expect(breadth(two.got)).toBe(1);
    reply(two.place, two.got, 200);
    expect(await call.status()).toBe(200);
  });

  it('0 is answered with 440 [5393-5.3-01]', async () => {
    const { aor, places } = await devices(1);
    const call = new Call(caller, aor, 'MESSAGE', [['Max-Breadth', '0']]);
    expect(await call.status()).toBe(440);
    await call.notAt(places[0]);
  });
});

describe('a loop', () => {
  /** A place that is a proxy: what comes to it goes to another AOR, and the answers back. Counts the requests. */
  function forwards(place: Place, aor: string): { count: number } {
    const seen = { count: 0 };
    const { agent } = place;
    const requests = async () => {
      for (;;) {
        const got = await agent.next(isRequest(), 60_000);
        seen.count++;
        const text = got.message.toString();
        const rest = text.slice(text.indexOf('\r\n') + 2);
        const maxForwards = `Max-Forwards: ${got.message.maxForwards - 1}`;
        const message = `MESSAGE ${aor} SIP/2.0\r\nVia: ${agent.via()}\r\n${rest.replace(/Max-Forwards: \d+/, maxForwards)}`;
        agent.send(Buffer.from(message, 'latin1'));
        const answer = (await agent.next(isFinal(), 60_000)).message.toString();
        got.answer(Buffer.from(answer.replace(/\r\nVia: [^\r]*/, ''), 'latin1'));
      }
    };
    requests().catch(() => {}); // until its socket is closed
    return seen;
  }

  it('of two AORs that point at each other, and both at themselves, ends with 482 and no storm [5393-4.1-01 5393-4.2-01]', async () => {
    const [a, b] = [unique('a'), unique('b')];
    const seen = [];
    for (const user of [a, b])
      for (const to of [a, b])
        seen.push(forwards((await site.device(user, [to === a ? 'UDP' : 'TCP']))[0], aorOf(to)));
    expect(await new Call(caller, aorOf(a), 'MESSAGE').status()).toBe(482);
    expect(seen.map(({ count }) => count)).toEqual([1, 1, 1, 1]);
  });

  it('is no spiral: an AOR that points at another one reaches the phone of that [5393-4.2-01]', async () => {
    const [a, b] = [unique('a'), unique('b')];
    forwards((await site.device(a, ['UDP']))[0], aorOf(b));
    const [phone] = await site.device(b, ['UDP']);
    const call = new Call(caller, aorOf(a), 'MESSAGE');
    const got = await call.at(phone);
    expect(got.message.via).toHaveLength(4);
    reply(phone, got, 200);
    expect(await call.status()).toBe(200);
  });

  it('is not seen in a Via that another proxy wrote [5393-4.2-01]', async () => {
    const { aor, places } = await devices(1);
    const strange: Header[] = [
      ['Via', 'SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'],
    ];
    const call = new Call(caller, aor, 'MESSAGE', strange);
    reply(places[0], await call.at(places[0]), 200);
    expect(await call.status()).toBe(200);
  });
});
