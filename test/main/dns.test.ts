import { createSocket } from 'node:dgram';
import { encode, type Packet } from 'dns-packet';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { nameServers, RESOLVER_LIMITS, Resolver, type ResolverLimits } from '../../src/main/dns.ts';
import { HostsFile } from '../../src/main/hostsfile.ts';
import type { NameServer } from '../../src/main/nameserver.ts';
import type { Answer, DnsRecord } from '../../src/net/locate.ts';
import { DnsStub } from '../harness/dns.ts';

/** Long enough for loopback under load, and no test waits for it unless a server is silent. */
const PATIENT = 10_000;
/** For tests in which silence is the point: each costs a few of these. */
const SHORT = 60;

let stub: DnsStub;
let now = 0;
const open: { close(): unknown }[] = [];

beforeEach(async () => {
  now = 1_000;
  stub = await DnsStub.open();
  open.push(stub);
});

afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

function resolver(limits: Partial<ResolverLimits> = {}, servers: NameServer[] = [stub.server]): Resolver {
  const made = new Resolver({ servers, now: () => now, limits: { attempt: PATIENT, ...limits } });
  open.push(made);
  return made;
}

const data = ({ records }: Answer) => records.map((r: DnsRecord) => ('data' in r ? r.data : r));

async function secondStub(): Promise<DnsStub> {
  const second = await DnsStub.open();
  open.push(second);
  return second;
}

describe('a question', () => {
  it('brings back addresses, SRV and NAPTR as they stand in the zone', async () => {
    stub
      .add('A', 's.example', '192.0.2.1')
      .add('AAAA', 's.example', '2001:db8::1')
      .srv('_sip._udp.s.example', 10, 20, 5070, 'One.example.')
      .naptr('s.example', 10, 20, 'SIP+D2U', '_sip._udp.s.example');
    const dns = resolver();
    expect(data(await dns.query('s.example', 'A'))).toEqual(['192.0.2.1']);
    expect(data(await dns.query('s.example', 'AAAA'))).toEqual(['2001:db8::1']);
    expect((await dns.query('_sip._udp.s.example', 'SRV')).records).toEqual([
      {
        type: 'SRV',
        name: '_sip._udp.s.example',
        priority: 10,
        weight: 20,
        port: 5070,
        target: 'one.example',
      },
    ]);
    expect((await dns.query('S.Example.', 'NAPTR')).records).toMatchObject([
      {
        type: 'NAPTR',
        order: 10,
        preference: 20,
        services: 'SIP+D2U',
        replacement: '_sip._udp.s.example',
      },
    ]);
  });

  it('goes out once, however many ask it', async () => {
    stub.add('A', 's.example', '192.0.2.1');
    const dns = resolver();
    const answers = await Promise.all(Array.from({ length: 20 }, () => dns.query('s.example', 'A')));
    expect(answers.map(data)).toEqual(Array.from({ length: 20 }, () => ['192.0.2.1']));
    expect(stub.questions).toEqual(['A s.example']);
  });

  it('has an id and a source port that the last one does not foretell', async () => {
    const dns = resolver();
    await Promise.all(Array.from({ length: 24 }, (_, i) => dns.query(`n${i}.example`, 'A')));
    const distinct = (list: number[]) => new Set(list).size;
    expect(distinct(stub.asked.map((a) => a.id))).toBeGreaterThan(20);
    expect(distinct(stub.asked.map((a) => a.sourcePort))).toBe(24);
    const steps = stub.asked.slice(1).map((a, i) => a.id - stub.asked[i].id);
    expect(distinct(steps)).toBeGreaterThan(12);
  });

  it('of a name that cannot stand in DNS is answered without one', async () => {
    const dns = resolver();
    for (const name of ['', '.', 'a..b', 'a b', 'ä.example', `${'x'.repeat(64)}.example`, 'a.'.repeat(130)])
      expect(await dns.query(name, 'A')).toMatchObject({ status: 'absent' });
    expect(stub.asked).toEqual([]);
  });

  it('above the bound of those in work fails at once', async () => {
    stub.script = () => [];
    const dns = resolver({ pending: 2 });
    const waiting = [dns.query('a.example', 'A'), dns.query('b.example', 'A')];
    expect(await dns.query('c.example', 'A')).toMatchObject({ status: 'failed' });
    dns.close();
    expect((await Promise.all(waiting)).map((a) => a.status)).toEqual(['failed', 'failed']);
  });
});

describe('an answer', () => {
  it('that does not fit a datagram comes by TCP', async () => {
    const addresses = Array.from({ length: 30 }, (_, i) => `2001:db8::${(i + 1).toString(16)}`);
    for (const address of addresses) stub.add('AAAA', 'many.example', address);
    expect(data(await resolver().query('many.example', 'AAAA'))).toEqual(addresses);
    expect(stub.asked.map((a) => a.over)).toEqual(['udp', 'tcp']);
  });

  it('that is cut and then not to be had by TCP is a failure', async () => {
    stub.script = ({ over, id, name, type }) =>
      over === 'udp'
        ? [{ type: 'response', id, flags: 1 << 9, questions: [{ name, type: type as 'A' }] }]
        : [Buffer.from('nothing that one could read')];
    expect(await resolver({ rounds: 1 }).query('s.example', 'A')).toMatchObject({ status: 'failed' });
    expect(stub.asked.map((a) => a.over)).toEqual(['udp', 'tcp']);
  });

  it('with another id is passed over, and the true one behind it counts', async () => {
    stub.add('A', 's.example', '192.0.2.1');
    stub.script = (_, ordinary) => [forged({ ...ordinary, id: ((ordinary.id ?? 0) + 1) & 0xffff }), ordinary];
    expect(data(await resolver().query('s.example', 'A'))).toEqual(['192.0.2.1']);
  });

  it('to another question, or to this one in other letters, is passed over', async () => {
    stub.add('A', 's.example', '192.0.2.1');
    const asking = (name: string, type: 'A' | 'AAAA' = 'A'): Packet => ({ questions: [{ name, type }] });
    stub.script = (_, ordinary) => [
      forged({ ...ordinary, ...asking('t.example') }),
      forged({ ...ordinary, ...asking('S.example') }),
      forged({ ...ordinary, ...asking('s.example', 'AAAA') }),
      forged({ ...ordinary, questions: [] }),
      forged({ ...ordinary, type: 'query' }),
      ordinary,
    ];
    expect(data(await resolver().query('s.example', 'A'))).toEqual(['192.0.2.1']);
  });

  it('from another address than the server’s does not arrive', async () => {
    stub.add('A', 's.example', '192.0.2.1');
    const stranger = createSocket('udp4');
    open.push({ close: () => new Promise<void>((resolve) => stranger.close(() => resolve())) });
    await new Promise<void>((resolve) => stranger.bind(0, '127.0.0.1', resolve));
    stub.script = async (asked, ordinary) => {
      const octets = forged(ordinary);
      await new Promise<void>((sent) => stranger.send(octets, asked.sourcePort, '127.0.0.1', () => sent()));
      return [ordinary];
    };
    expect(data(await resolver().query('s.example', 'A'))).toEqual(['192.0.2.1']);
  });

  it('of octets without sense never throws, and the true one behind it counts', async () => {
    stub.add('A', 's.example', '192.0.2.1');
    const rubbish = fc.sample(fc.uint8Array({ maxLength: 200 }), { numRuns: 40, seed: 7 });
    stub.script = ({ id }, ordinary) => [
      ...rubbish.map((octets) => Buffer.from(octets)),
      // with the right id and flags, but broken behind them
      ...rubbish.map((octets) => headed(id, octets)),
      ordinary,
    ];
    expect(data(await resolver().query('s.example', 'A'))).toEqual(['192.0.2.1']);
  });

  it('that was altered anywhere is an answer, none, or another, never a throw', async () => {
    stub
      .srv('_sip._udp.s.example', 1, 2, 5060, 'a.s.example')
      .srv('_sip._udp.s.example', 1, 2, 5061, 'b.s.example');
    const rounds = 120;
    let round = 0;
    stub.script = (_, ordinary) => {
      const octets = encode(ordinary);
      const at = 12 + ((round * 7) % (octets.length - 12));
      octets[at] ^= 1 << (round % 8);
      return [octets, ordinary];
    };
    const dns = resolver({ minTtl: 0, maxTtl: 0, maxNegative: 0 });
    for (round = 0; round < rounds; round++) {
      const { status } = await dns.query('_sip._udp.s.example', 'SRV');
      expect(['found', 'absent']).toContain(status);
    }
    expect(stub.asked.length).toBe(rounds);
  });
});

describe('the servers', () => {
  it('are asked in turn: one that refuses, one that fails, one that nobody runs, and the one that knows', async () => {
    const [refusing, failing, gone] = [await secondStub(), await secondStub(), await secondStub()];
    await gone.close();
    refusing.script = (_, ordinary) => [{ ...ordinary, flags: 5 }];
    failing.script = (_, ordinary) => [{ ...ordinary, flags: 2 }];
    stub.add('A', 's.example', '192.0.2.1');
    const dns = resolver({ rounds: 1 }, [refusing.server, failing.server, gone.server, stub.server]);
    expect(data(await dns.query('s.example', 'A'))).toEqual(['192.0.2.1']);
    // From then on the one that answered is first.
    const before = refusing.asked.length + failing.asked.length;
    stub.add('A', 't.example', '192.0.2.2');
    expect(data(await dns.query('t.example', 'A'))).toEqual(['192.0.2.2']);
    expect(refusing.asked.length + failing.asked.length).toBe(before);
  });

  it('that lose a datagram are asked again', async () => {
    stub.add('A', 's.example', '192.0.2.1');
    stub.script = () => (stub.asked.length === 1 ? [] : undefined);
    expect(data(await resolver({ attempt: SHORT }).query('s.example', 'A'))).toEqual(['192.0.2.1']);
    expect(stub.asked).toHaveLength(2);
    expect(
      stub.asked[0].id === stub.asked[1].id && stub.asked[0].sourcePort === stub.asked[1].sourcePort,
    ).toBe(false);
  });

  it('that are all silent make the question fail after its rounds, and the next one at once', async () => {
    stub.script = () => [];
    const dns = resolver({ attempt: SHORT });
    expect(await dns.query('s.example', 'A')).toMatchObject({ status: 'failed' });
    expect(stub.asked).toHaveLength(RESOLVER_LIMITS.rounds);
    expect(await dns.query('s.example', 'A')).toMatchObject({ status: 'failed' });
    expect(stub.asked).toHaveLength(RESOLVER_LIMITS.rounds);
  });

  it('come from HOLDFAST_DNS, else from the system', () => {
    expect(nameServers('192.0.2.1:5353', [])).toEqual([{ host: '192.0.2.1', port: 5353 }]);
    expect(nameServers('[2001:db8::1]:53', ['192.0.2.9'])).toEqual([{ host: '2001:db8::1', port: 53 }]);
    expect(nameServers(undefined, ['192.0.2.1', '[::1]:5353', '2001:db8::1', 'fe80::1%eth0'])).toEqual([
      { host: '192.0.2.1', port: 53 },
      { host: '::1', port: 5353 },
      { host: '2001:db8::1', port: 53 },
    ]);
    for (const wrong of ['dns.example:53', '192.0.2.1:0', '192.0.2.1:70000', '192.0.2.1:x', ''])
      expect(nameServers(wrong, [])).toBeUndefined();
  });
});

describe('what is kept', () => {
  it('is kept for its TTL and tells what is left of it', async () => {
    stub.add('A', 's.example', '192.0.2.1', 300);
    const dns = resolver();
    expect((await dns.query('s.example', 'A')).ttl).toBe(300_000);
    now += 299_999;
    expect((await dns.query('s.example', 'A')).ttl).toBe(1);
    expect(stub.asked).toHaveLength(1);
    now += 1;
    await dns.query('s.example', 'A');
    expect(stub.asked).toHaveLength(2);
  });

  it('has the shortest TTL of the answer, between a second and an hour', async () => {
    stub.add('A', 'zero.example', '192.0.2.1', 0).add('A', 'week.example', '192.0.2.1', 604_800);
    stub.add('CNAME', 'alias.example', 'week.example', 60);
    const dns = resolver();
    expect((await dns.query('zero.example', 'A')).ttl).toBe(1_000);
    expect((await dns.query('week.example', 'A')).ttl).toBe(3_600_000);
    expect((await dns.query('alias.example', 'A')).ttl).toBe(60_000);
  });

  it('is also that there is none: by the SOA, a minute at most', async () => {
    const dns = resolver();
    expect(await dns.query('a.example', 'A')).toMatchObject({ status: 'absent', ttl: 30_000 });
    stub.negativeTtl = 86_400;
    expect((await dns.query('b.example', 'A')).ttl).toBe(60_000);
    stub.negativeTtl = undefined;
    expect((await dns.query('c.example', 'A')).ttl).toBe(1_000);
    now += 29_999;
    await dns.query('a.example', 'A');
    expect(stub.questions).toEqual(['A a.example', 'A b.example', 'A c.example']);
    now += 1;
    await dns.query('a.example', 'A');
    expect(stub.asked).toHaveLength(4);
  });

  it('is asked again ahead of its end by a refresh', async () => {
    stub.add('A', 's.example', '192.0.2.1', 100);
    const dns = resolver();
    await dns.query('s.example', 'A');
    now += 95_000;
    expect((await dns.query('s.example', 'A', 4_000)).ttl).toBe(5_000);
    expect((await dns.query('s.example', 'A', 10_000)).ttl).toBe(100_000);
    expect(stub.asked).toHaveLength(2);
  });

  it('is given for ten minutes more while no server answers, and then no longer', async () => {
    stub.add('A', 's.example', '192.0.2.1', 100);
    const dns = resolver({ attempt: SHORT, rounds: 1 });
    await dns.query('s.example', 'A');
    stub.script = () => [];
    now += 100_000;
    const stale = await dns.query('s.example', 'A');
    expect(data(stale)).toEqual(['192.0.2.1']);
    expect(stale.ttl).toBe(RESOLVER_LIMITS.recheck);
    expect(stub.asked).toHaveLength(2);
    // It does not wait for the silent server again until the recheck.
    now += RESOLVER_LIMITS.recheck - 1;
    expect(data(await dns.query('s.example', 'A'))).toEqual(['192.0.2.1']);
    expect(stub.asked).toHaveLength(2);
    now = 1_000 + 100_000 + RESOLVER_LIMITS.stale - 1;
    expect(data(await dns.query('s.example', 'A'))).toEqual(['192.0.2.1']);
    expect(stub.asked).toHaveLength(3);
    now += RESOLVER_LIMITS.recheck;
    expect(await dns.query('s.example', 'A')).toMatchObject({ status: 'failed', records: [] });
  });

  it('past its TTL gives way to a server that says it is gone', async () => {
    stub.add('A', 's.example', '192.0.2.1', 100);
    const dns = resolver();
    await dns.query('s.example', 'A');
    stub.remove('A', 's.example');
    now += 100_000;
    expect(await dns.query('s.example', 'A')).toMatchObject({ status: 'absent', records: [] });
  });

  it('is bounded: what was not used for the longest goes first', async () => {
    for (const name of ['a', 'b', 'c']) stub.add('A', `${name}.example`, '192.0.2.1');
    const dns = resolver({ entries: 2 });
    for (const name of ['a', 'b', 'a', 'c', 'a', 'b']) await dns.query(`${name}.example`, 'A');
    expect(stub.questions).toEqual(['A a.example', 'A b.example', 'A c.example', 'A b.example']);
  });
});

describe('the hosts file', () => {
  const hosts = new HostsFile(
    '# comment\n192.0.2.7  core Core.lab # the core\n2001:db8::7 core\n\nnonsense here\n',
  );

  it('answers for its names, and no server hears of them', async () => {
    const dns = new Resolver({ servers: [stub.server], now: () => now, hosts });
    expect(data(await dns.query('core', 'A'))).toEqual(['192.0.2.7']);
    expect(data(await dns.query('core.LAB', 'A'))).toEqual(['192.0.2.7']);
    expect(data(await dns.query('core', 'AAAA'))).toEqual(['2001:db8::7']);
    expect(await dns.query('core.lab', 'AAAA')).toMatchObject({ status: 'absent' });
    expect(await dns.query('core', 'NAPTR')).toMatchObject({ status: 'absent' });
    expect(await dns.query('_sip._udp.core', 'SRV')).toMatchObject({ status: 'absent' });
    expect(data(await dns.query('localhost', 'A'))).toEqual(['127.0.0.1']);
    expect(data(await dns.query('a.localhost', 'AAAA'))).toEqual(['::1']);
    expect(stub.asked).toEqual([]);
    expect(await dns.query('other', 'A')).toMatchObject({ status: 'absent' });
    expect(stub.questions).toEqual(['A other']);
  });
});

/** An answer that must not be believed: it carries another address. */
function forged(packet: Packet): Buffer {
  const [question] = packet.questions ?? [];
  const name = question?.name ?? 's.example';
  return encode({ ...packet, answers: [{ type: 'A', name, ttl: 300, data: '198.51.100.66' }] });
}

function headed(id: number, octets: Uint8Array): Buffer {
  const head = Buffer.from([0, 0, 0x80, 0, 0, 1, 0, 9, 0, 9, 0, 9]);
  head.writeUInt16BE(id);
  return Buffer.concat([head, octets]);
}
