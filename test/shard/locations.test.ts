/** Names that requests bring, as a shard asks about them: parked meanwhile, within bounds, answered once. */
import { describe, expect, it } from 'vitest';
import type { Destination, Location } from '../../src/net/targets.ts';
import { Parking } from '../../src/proxy/parked.ts';
import { Locations } from '../../src/shard/locations.ts';
import { UDP } from '../../src/wire/via.ts';
import { endpoint, Rig, request } from '../proxy/rig.ts';

const to = (host: string): Destination => ({ scheme: 'sip', host, port: 0, transport: 0 });
const located = (ttl = 10_000): Location => ({
  targets: [{ transport: UDP, host: 'a.test', address: endpoint('192.0.2.9:5060'), priority: 0, weight: 1 }],
  failure: '',
  ttl,
});

function site() {
  const rig = new Rig();
  const asked: [number, string][] = [];
  const site = { rig, asked, now: 0, takes: true, wanted: true, handled: [] as string[] };
  const locations = new Locations({
    parking: new Parking(rig.exchange, rig.counters),
    now: () => site.now,
    isWanted: () => site.wanted,
    ask: (id, { host }) => {
      if (site.takes) asked.push([id, host]);
      return site.takes;
    },
  });
  const callId = (id: string) => rig.take(request({ callId: id, method: 'MESSAGE' }));
  const wait = (id: string, ...hosts: string[]) => {
    callId(id);
    return locations.wait(hosts.map(to), () => {
      const { message: m } = rig.exchange;
      site.handled.push(
        /Call-ID: (\S+)/.exec(Buffer.from(m.buf.subarray(m.start, m.end)).toString())?.[1] ?? '',
      );
    });
  };
  return Object.assign(site, { locations, wait });
}

describe('a request whose next hop is a name', () => {
  it('waits for the answer with others that ask the same, which is asked once', () => {
    const s = site();
    expect([s.wait('one', 'a.test'), s.wait('two', 'a.test')]).toEqual([true, true]);
    expect(s.asked.map(([, host]) => host)).toEqual(['a.test']);
    expect(s.locations.find(to('a.test'))).toBeUndefined();
    s.locations.answered(s.asked[0][0], located());
    expect(s.handled).toEqual(['one', 'two']);
    expect(s.locations.find(to('a.test'))?.targets).toHaveLength(1);
  });

  it('waits for all of several names', () => {
    const s = site();
    s.wait('one', 'a.test', 'b.test');
    s.locations.answered(s.asked[1][0], located());
    expect(s.handled).toEqual([]);
    s.locations.answered(s.asked[0][0], located());
    expect(s.handled).toEqual(['one']);
  });

  it('waits no longer than five seconds', () => {
    const s = site();
    s.wait('one', 'a.test');
    expect(s.locations.turn(4_999)).toBe(5_000);
    expect(s.handled).toEqual([]);
    s.now = 5_000;
    expect(s.locations.turn(5_000)).toBe(Infinity);
    expect(s.handled).toEqual(['one']);
    expect(s.locations.find(to('a.test'))?.failure).toBe('no-answer');
    s.locations.answered(s.asked[0][0], located()); // too late
    expect(s.handled).toEqual(['one']);
  });

  it('is not handled any more when its transaction has ended meanwhile', () => {
    const s = site();
    s.wait('one', 'a.test');
    s.wanted = false;
    s.locations.answered(s.asked[0][0], located());
    expect(s.handled).toEqual([]);
  });

  it('cannot wait where main takes no question, nor beside 256 others', () => {
    const s = site();
    s.takes = false;
    expect(s.wait('one', 'a.test')).toBe(false);
    s.takes = true;
    for (let i = 0; i < 256; i++) expect(s.wait(`n${i}`, 'a.test')).toBe(true);
    expect(s.wait('last', 'a.test')).toBe(false);
    s.locations.answered(s.asked[0][0], located());
    expect(s.wait('again', 'b.test')).toBe(true);
  });

  it('waits once: what it then still does not know is not found', () => {
    const s = site();
    let again: boolean | undefined;
    s.rig.take(request({ method: 'MESSAGE' }));
    s.locations.wait([to('a.test')], () => {
      again = s.locations.wait([to('b.test')], () => {});
    });
    s.locations.answered(s.asked[0][0], located());
    expect(again).toBe(false);
  });
});

describe('an answer', () => {
  it('is kept for its TTL, a second at least and five minutes at most', () => {
    for (const [ttl, kept] of [
      [0, 1_000],
      [20_000, 20_000],
      [Infinity, 300_000],
    ]) {
      const s = site();
      s.wait('one', 'a.test');
      s.locations.answered(s.asked[0][0], located(ttl));
      s.now = kept - 1;
      expect(s.locations.find(to('a.test'))).toBeDefined();
      s.now = kept;
      expect(s.locations.find(to('a.test'))).toBeUndefined();
    }
  });

  it('for a name under .invalid is known', () => {
    expect(site().locations.find(to('df7jal23ls0d.invalid'))).toMatchObject({
      targets: [],
      failure: 'no-such-name',
    });
  });
});
