import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Resolver } from '../../src/main/dns.ts';
import { Locator } from '../../src/main/locator.ts';
import type { Answer, RecordType } from '../../src/net/locate.ts';
import type { Destination, Location } from '../../src/net/targets.ts';
import { UDP } from '../../src/wire/via.ts';
import { DnsStub } from '../harness/dns.ts';

const CORE: Destination = { scheme: 'sip', host: 'core.example', port: 5070, transport: 0 };
const ways = [{ transport: UDP, families: [4 as const] }];
const shown = ({ targets, failure }: Location) => failure || targets.map((t) => `${t.address}`).join(' ');

/** A resolver that a test answers for, and timers that it runs. */
class Rig {
  answer: Answer = found(100_000, '192.0.2.1');
  asked: { name: string; ahead: number }[] = [];
  timers: { ms: number; run: () => void }[] = [];
  heard: string[] = [];
  readonly resolver = {
    query: (name: string, _type: RecordType, ahead = 0) => {
      this.asked.push({ name, ahead });
      return Promise.resolve(this.answer);
    },
  };
  readonly locator = new Locator({
    resolver: this.resolver,
    ways,
    random: () => 0,
    schedule: (ms, run) => {
      const timer = { ms, run };
      this.timers.push(timer);
      return () => {
        this.timers = this.timers.filter((t) => t !== timer);
      };
    },
  });
  readonly hear = (location: Location) => void this.heard.push(shown(location));

  /** Runs the one timer that is set, and returns for how long it was set. */
  async fire(): Promise<number> {
    const [timer] = this.timers.splice(0);
    timer.run();
    await settled();
    return timer.ms;
  }
}

const found = (ttl: number, ...addresses: string[]): Answer => ({
  status: 'found',
  records: addresses.map((data) => ({ type: 'A', name: 'core.example', data })),
  ttl,
});
const FAILED: Answer = { status: 'failed', records: [], ttl: 1_000 };
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('a kept destination', () => {
  it('is resolved at once and again before its TTL ends, past the cache', async () => {
    const rig = new Rig();
    rig.locator.keep(CORE, rig.hear);
    await settled();
    expect(rig.heard).toEqual(['192.0.2.1:5070']);
    rig.answer = found(100_000, '192.0.2.2');
    expect(await rig.fire()).toBe(90_000);
    expect(rig.heard).toEqual(['192.0.2.1:5070', '192.0.2.2:5070']);
    expect(rig.asked).toEqual([
      { name: 'core.example', ahead: 0 },
      { name: 'core.example', ahead: 10_000 },
    ]);
  });

  it('is not told again when nothing changed', async () => {
    const rig = new Rig();
    rig.locator.keep(CORE, rig.hear);
    await settled();
    await rig.fire();
    await rig.fire();
    expect(rig.asked).toHaveLength(3);
    expect(rig.heard).toHaveLength(1);
  });

  it('keeps its last list while DNS is silent, and asks ever more slowly', async () => {
    const rig = new Rig();
    rig.locator.keep(CORE, rig.hear);
    await settled();
    rig.answer = FAILED;
    await rig.fire();
    const waits: number[] = [];
    for (let i = 0; i < 7; i++) waits.push(await rig.fire());
    expect(waits).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    expect(rig.heard).toEqual(['192.0.2.1:5070']);
    expect(shown(await rig.locator.locate(CORE))).toBe('192.0.2.1:5070');
    rig.answer = found(100_000, '192.0.2.3');
    await rig.fire();
    expect(rig.heard).toEqual(['192.0.2.1:5070', '192.0.2.3:5070']);
    expect(rig.timers.map((t) => t.ms)).toEqual([90_000]);
  });

  it('loses its list when DNS says that there is none', async () => {
    const rig = new Rig();
    rig.locator.keep(CORE, rig.hear);
    await settled();
    rig.answer = { status: 'absent', records: [], ttl: 5_000 };
    await rig.fire();
    expect(rig.heard).toEqual(['192.0.2.1:5070', 'no-such-name']);
  });

  it('tells a failure once if there was never a list, then the list', async () => {
    const rig = new Rig();
    rig.answer = FAILED;
    rig.locator.keep(CORE, rig.hear);
    await settled();
    await rig.fire();
    rig.answer = found(100_000, '192.0.2.1');
    await rig.fire();
    expect(rig.heard).toEqual(['no-answer', '192.0.2.1:5070']);
  });

  it('is refreshed no more than once a second, and a number once an hour', async () => {
    const rig = new Rig();
    rig.answer = found(0, '192.0.2.1');
    rig.locator.keep(CORE, rig.hear);
    await settled();
    expect(rig.timers.map((t) => t.ms)).toEqual([1_000]);
    rig.locator.keep({ ...CORE, host: '192.0.2.9' }, rig.hear);
    await settled();
    expect(rig.timers.map((t) => t.ms)).toEqual([1_000, 3_600_000]);
  });

  it('is shared by its subscribers and forgotten with the last', async () => {
    const rig = new Rig();
    const off = rig.locator.keep(CORE, rig.hear);
    await settled();
    const other = rig.locator.keep({ ...CORE, host: 'CORE.example' }, rig.hear);
    await settled();
    expect(rig.heard).toEqual(['192.0.2.1:5070', '192.0.2.1:5070']);
    expect(rig.asked).toHaveLength(1);
    off();
    expect(rig.timers).toHaveLength(1);
    other();
    expect(rig.timers).toHaveLength(0);
    rig.locator.keep(CORE, rig.hear);
    rig.locator.stop();
    await settled();
    expect([rig.timers.length, rig.heard.length]).toEqual([0, 2]);
  });
});

describe('a destination asked for once', () => {
  it('is located once for all who ask at a time, and not kept', async () => {
    const rig = new Rig();
    const all = await Promise.all([rig.locator.locate(CORE), rig.locator.locate(CORE)]);
    expect(all.map(shown)).toEqual(['192.0.2.1:5070', '192.0.2.1:5070']);
    expect([rig.asked.length, rig.timers.length]).toEqual([1, 0]);
    await rig.locator.locate(CORE);
    expect(rig.asked).toHaveLength(2);
  });

  it('beyond the bound is answered busy at once', async () => {
    const rig = new Rig();
    const asked = Array.from({ length: 70 }, (_, i) =>
      rig.locator.locate({ ...CORE, host: `h${i}.example` }),
    );
    const failures = (await Promise.all(asked)).map((l) => l.failure);
    expect(failures.filter((f) => f === 'busy')).toHaveLength(6);
  });
});

describe('with a name server', () => {
  let stub: DnsStub;
  beforeEach(async () => {
    stub = await DnsStub.open();
  });
  afterEach(() => stub.close());

  it('asks NAPTR, SRV and addresses, and nothing for a number or a kept answer [3263-4.1-01 3263-4.2-01]', async () => {
    stub
      .naptr('core.example', 10, 10, 'SIPS+D2T', '_sips._tcp.core.example')
      .naptr('core.example', 20, 10, 'SIP+D2U', '_sip._udp.core.example')
      .srv('_sip._udp.core.example', 10, 10, 5062, 'one.core.example')
      .srv('_sip._udp.core.example', 20, 10, 5062, 'two.core.example')
      .add('CNAME', 'one.core.example', 'real.example')
      .add('A', 'real.example', '192.0.2.1')
      .add('A', 'two.core.example', '192.0.2.2');
    const resolver = new Resolver({ servers: [stub.server], now: () => 0, limits: { attempt: 10_000 } });
    const locator = new Locator({ resolver, ways, random: Math.random });
    const expected = '192.0.2.1:5062 192.0.2.2:5062';
    expect(shown(await locator.locate({ ...CORE, port: 0 }))).toBe(expected);
    const questions = [
      'NAPTR core.example',
      'SRV _sip._udp.core.example',
      'A one.core.example',
      'A two.core.example',
    ];
    expect(stub.questions).toEqual(questions);
    expect(shown(await locator.locate({ ...CORE, port: 0 }))).toBe(expected);
    expect(shown(await locator.locate({ ...CORE, host: '192.0.2.9' }))).toBe('192.0.2.9:5070');
    expect(stub.questions).toEqual(questions);
  });
});
