import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Endpoint } from '../../src/net/endpoint.ts';
import {
  type Answer,
  type DnsRecord,
  locate,
  MAX_CNAMES,
  MAX_QUESTIONS,
  type RecordType,
  type Way,
} from '../../src/net/locate.ts';
import { orderSrv, type SrvRecord } from '../../src/net/srv.ts';
import {
  type Destination,
  decodeDestination,
  decodeTargets,
  encodeDestination,
  encodeTargets,
  LOCATION_BYTES,
  type Location,
  MAX_TARGETS,
} from '../../src/net/targets.ts';
import { TCP, TLS, TRANSPORTS, UDP, WS, WSS } from '../../src/wire/via.ts';

const V4: Way['families'] = [4];
const ALL: Way[] = [UDP, TCP, TLS, WS, WSS].map((transport) => ({ transport, families: V4 }));
const PLAIN = ALL.filter(({ transport }) => transport === UDP || transport === TCP);

/** A zone in memory, and what was asked of it. */
class Zone {
  readonly records: DnsRecord[] = [];
  readonly asked: string[] = [];
  readonly failing = new Set<string>();
  ttl = 300_000;

  a(name: string, ...addresses: string[]): this {
    for (const data of addresses) this.records.push({ type: data.includes(':') ? 'AAAA' : 'A', name, data });
    return this;
  }

  cname(name: string, data: string): this {
    this.records.push({ type: 'CNAME', name, data });
    return this;
  }

  srv(name: string, priority: number, weight: number, port: number, target: string): this {
    this.records.push({ type: 'SRV', name, priority, weight, port, target });
    return this;
  }

  naptr(name: string, order: number, services: string, replacement: string, flags = 's'): this {
    this.records.push({
      type: 'NAPTR',
      name,
      order,
      preference: 50,
      flags,
      services,
      regexp: '',
      replacement,
    });
    return this;
  }

  readonly query = async (name: string, type: RecordType): Promise<Answer> => {
    this.asked.push(`${type} ${name}`);
    if (this.failing.has(`${type} ${name}`)) return { status: 'failed', records: [], ttl: 1_000 };
    const records = this.records.filter((r) => r.name === name && (r.type === type || r.type === 'CNAME'));
    return { status: records.length > 0 ? 'found' : 'absent', records, ttl: this.ttl };
  };
}

const uri = (text: string): Destination => {
  const [, scheme, host, port, transport] =
    /^(sips?):(\[.*\]|[^:;]+)(?::(\d+))?(?:;transport=(\w+))?$/.exec(text) ?? [];
  return {
    scheme: scheme as 'sip' | 'sips',
    host,
    port: Number(port ?? 0),
    transport: transport === undefined ? 0 : TRANSPORTS.indexOf(transport.toUpperCase()),
  };
};

const ask = (zone: Zone, text: string, ways = ALL, random = () => 0) =>
  locate(uri(text), { query: zone.query, ways, random });

const shown = ({ targets, failure }: Location) =>
  failure || targets.map((t) => `${TRANSPORTS[t.transport]} ${t.address}`).join(', ');

describe('the transport', () => {
  it.each([
    ['sip:192.0.2.1', 'UDP 192.0.2.1:5060'],
    ['sip:192.0.2.1:5070', 'UDP 192.0.2.1:5070'],
    ['sip:192.0.2.1;transport=tcp', 'TCP 192.0.2.1:5060'],
    ['sip:192.0.2.1;transport=tls', 'TLS 192.0.2.1:5061'],
    ['sips:192.0.2.1', 'TLS 192.0.2.1:5061'],
    ['sips:192.0.2.1:5070;transport=tcp', 'TLS 192.0.2.1:5070'],
    ['sip:192.0.2.1;transport=ws', 'WS 192.0.2.1:80'],
    ['sips:192.0.2.1;transport=ws', 'WSS 192.0.2.1:443'],
  ])(
    'of a numeric host is the URI’s or the scheme’s, and no name is asked: %s [3263-4.1-01]',
    async (text, expected) => {
      const zone = new Zone();
      const location = await ask(zone, text);
      expect(shown(location)).toBe(expected);
      expect(location.ttl).toBe(Infinity);
      expect(zone.asked).toEqual([]);
    },
  );

  it.each([
    ['sip:s.example:5060', 'UDP 192.0.2.1:5060'],
    ['sip:s.example:5080;transport=tcp', 'TCP 192.0.2.1:5080'],
    ['sips:s.example:5080', 'TLS 192.0.2.1:5080'],
  ])(
    'beside a port is the URI’s or the scheme’s, and only the address is asked: %s [3263-4.1-01 3263-4.2-01]',
    async (text, expected) => {
      const zone = new Zone().a('s.example', '192.0.2.1').srv('_sip._udp.s.example', 1, 1, 9, 'no.example');
      expect(shown(await ask(zone, text))).toBe(expected);
      expect(zone.asked).toEqual(['A s.example']);
    },
  );

  it('is the server’s choice by NAPTR: the lowest order that we speak [3263-4.1-01]', async () => {
    const zone = new Zone()
      .naptr('example.com', 100, 'SIP+D2U', '_sip._udp.example.com')
      .naptr('example.com', 50, 'SIPS+D2T', '_sips._tcp.example.com')
      .naptr('example.com', 90, 'SIP+D2T', '_sip._tcp.other.example')
      .naptr('example.com', 10, 'SIP+D2S', '_sip._sctp.example.com')
      .naptr('example.com', 11, 'E2U+sip', 'enum.example.com')
      .srv('_sip._tcp.other.example', 0, 1, 5070, 'server1.example.com')
      .srv('_sips._tcp.example.com', 0, 1, 5071, 'server1.example.com')
      .a('server1.example.com', '192.0.2.1');
    expect(shown(await ask(zone, 'sip:example.com', PLAIN))).toBe('TCP 192.0.2.1:5070');
    expect(zone.asked).toEqual(['NAPTR example.com', 'SRV _sip._tcp.other.example', 'A server1.example.com']);
    expect(shown(await ask(zone, 'sip:example.com'))).toBe('TLS 192.0.2.1:5071');
  });

  it('of a sips URI is never one whose NAPTR service is not SIPS [3263-4.1-02]', async () => {
    const zone = new Zone()
      .naptr('example.com', 10, 'SIP+D2T', '_sip._tcp.example.com')
      .naptr('example.com', 20, 'SIP+D2U', '_sip._udp.example.com')
      .naptr('example.com', 25, 'SIP+D2W', '_sip._ws.example.com')
      .naptr('example.com', 30, 'SIPS+D2T', '_sips._tcp.example.com')
      .srv('_sip._tcp.example.com', 0, 1, 5060, 's.example.com')
      .srv('_sips._tcp.example.com', 0, 1, 5061, 's.example.com')
      .a('s.example.com', '192.0.2.1');
    expect(shown(await ask(zone, 'sips:example.com'))).toBe('TLS 192.0.2.1:5061');
    expect(zone.asked.filter((q) => q.startsWith('SRV'))).toEqual(['SRV _sips._tcp.example.com']);
  });

  it('of a sips URI is never one whose SRV is not _sips, where there is no NAPTR [3263-4.1-02]', async () => {
    const zone = new Zone()
      .srv('_sip._tcp.example.com', 0, 1, 5060, 's.example.com')
      .a('example.com', '192.0.2.9');
    expect(shown(await ask(zone, 'sips:example.com'))).toBe('TLS 192.0.2.9:5061');
    expect(zone.asked).toEqual([
      'NAPTR example.com',
      'SRV _sips._tcp.example.com',
      'SRV _sips._ws.example.com',
      'A example.com',
    ]);
  });

  it.each([
    'sips:192.0.2.1;transport=udp',
    'sips:s.example',
    'sip:s.example;transport=tls',
    'sip:[2001:db8::1]',
  ])('that we do not speak gives no target: %s', async (text) => {
    const location = await ask(new Zone().a('s.example', '192.0.2.1'), text, PLAIN);
    expect(location).toMatchObject({ targets: [], failure: 'no-transport' });
  });

  it('without NAPTR is one whose SRV exists, in our order of preference [3263-4.1-01]', async () => {
    const zone = new Zone()
      .srv('_sip._tcp.example.com', 0, 1, 5062, 's.example.com')
      .a('s.example.com', '192.0.2.1')
      .a('example.com', '192.0.2.9');
    expect(shown(await ask(zone, 'sip:example.com', PLAIN))).toBe('TCP 192.0.2.1:5062');
    expect(zone.asked).toEqual([
      'NAPTR example.com',
      'SRV _sip._udp.example.com',
      'SRV _sip._tcp.example.com',
      'A s.example.com',
    ]);
    zone.srv('_sip._udp.example.com', 0, 1, 5063, 's.example.com');
    expect(shown(await ask(zone, 'sip:example.com', PLAIN))).toBe('UDP 192.0.2.1:5063');
  });

  it('without NAPTR and SRV is UDP, for sips TLS, at the default port [3263-4.1-01 3263-4.2-01]', async () => {
    const zone = new Zone().a('example.com', '192.0.2.9');
    expect(shown(await ask(zone, 'sip:example.com'))).toBe('UDP 192.0.2.9:5060');
    expect(shown(await ask(zone, 'sips:example.com'))).toBe('TLS 192.0.2.9:5061');
  });

  it('follows SIP+D2W and SIPS+D2W [7118-5.5-01]', async () => {
    const zone = new Zone()
      .naptr('example.com', 10, 'SIPS+D2W', '_sips._ws.example.com')
      .naptr('example.com', 20, 'SIP+D2W', '_sip._ws.example.com')
      .srv('_sips._ws.example.com', 0, 1, 8443, 's.example.com')
      .srv('_sip._ws.example.com', 0, 1, 8080, 's.example.com')
      .a('s.example.com', '192.0.2.1');
    expect(shown(await ask(zone, 'sip:example.com'))).toBe('WSS 192.0.2.1:8443');
    const noTls = ALL.filter(({ transport }) => transport !== WSS);
    expect(shown(await ask(zone, 'sip:example.com', noTls))).toBe('WS 192.0.2.1:8080');
    expect(shown(await ask(zone, 'sips:example.com'))).toBe('WSS 192.0.2.1:8443');
  });

  it.each([
    ['sip:example.com;transport=ws', '_sip._ws.example.com', 'WS 192.0.2.9:80'],
    ['sips:example.com;transport=ws', '_sips._ws.example.com', 'WSS 192.0.2.9:443'],
  ])(
    'ws without port and SRV has port 80, with sips 443: %s [7118-5.5-01]',
    async (text, service, expected) => {
      const zone = new Zone().a('example.com', '192.0.2.9');
      expect(shown(await ask(zone, text))).toBe(expected);
      expect(zone.asked).toEqual([`SRV ${service}`, 'A example.com']);
    },
  );

  it('of the URI without a port asks its own SRV and no NAPTR [3263-4.2-01]', async () => {
    const zone = new Zone()
      .srv('_sips._tcp.example.com', 0, 1, 5065, 's.example.com')
      .a('s.example.com', '192.0.2.1');
    expect(shown(await ask(zone, 'sip:example.com;transport=tls'))).toBe('TLS 192.0.2.1:5065');
    expect(zone.asked).toEqual(['SRV _sips._tcp.example.com', 'A s.example.com']);
  });

  it('falls to the next service whose SRV exists, and to the address with the first one’s port', async () => {
    const zone = new Zone()
      .naptr('example.com', 10, 'SIP+D2T', '_sip._tcp.example.com')
      .naptr('example.com', 20, 'SIP+D2U', '_sip._udp.example.com')
      .a('example.com', '192.0.2.9');
    expect(shown(await ask(zone, 'sip:example.com'))).toBe('TCP 192.0.2.9:5060');
    zone.srv('_sip._udp.example.com', 0, 1, 5062, 'example.com');
    expect(shown(await ask(zone, 'sip:example.com'))).toBe('UDP 192.0.2.9:5062');
  });

  it('takes no NAPTR with another flag or with a regular expression', async () => {
    const zone = new Zone()
      .naptr('example.com', 10, 'SIP+D2T', 'trap.example.com', 'u')
      .a('example.com', '192.0.2.9');
    expect(shown(await ask(zone, 'sip:example.com'))).toBe('UDP 192.0.2.9:5060');
    expect(zone.asked).not.toContain('SRV trap.example.com');
  });
});

describe('the list', () => {
  it('has all addresses of all servers, in the order to try: priority, then server, then address [3263-4.3-01 3263-4.3-03]', async () => {
    const zone = new Zone()
      .srv('_sip._tcp.example.com', 20, 1, 5060, 'last.example.com')
      .srv('_sip._tcp.example.com', 10, 0, 5060, 'spare.example.com')
      .srv('_sip._tcp.example.com', 10, 5, 5062, 'main.example.com')
      .a('main.example.com', '192.0.2.2', '192.0.2.1')
      .a('spare.example.com', '192.0.2.3')
      .a('last.example.com', '192.0.2.4');
    const location = await ask(zone, 'sip:example.com;transport=tcp', ALL, () => 0.5);
    expect(location.targets.map((t) => [t.host, `${t.address}`, t.priority, t.weight])).toEqual([
      ['main.example.com', '192.0.2.2:5062', 10, 2.5],
      ['main.example.com', '192.0.2.1:5062', 10, 2.5],
      ['spare.example.com', '192.0.2.3:5060', 10, 0],
      ['last.example.com', '192.0.2.4:5060', 20, 1],
    ]);
  });

  it('has the families of our listeners, the preferred one first and with the load', async () => {
    const zone = new Zone().a('s.example', '192.0.2.1', '2001:db8::1', '0.0.0.0', '2001:db8::2');
    const six: Way[] = [{ transport: UDP, families: [6, 4] }];
    const location = await ask(zone, 'sip:s.example:5060', six);
    expect(location.targets.map((t) => [`${t.address}`, t.weight])).toEqual([
      ['[2001:db8::1]:5060', 0.5],
      ['[2001:db8::2]:5060', 0.5],
      ['192.0.2.1:5060', 0],
    ]);
    expect(shown(await ask(zone, 'sip:s.example:5060', PLAIN))).toBe('UDP 192.0.2.1:5060');
    expect(zone.asked.at(-1)).toBe('A s.example');
  });

  it('names a target once, and no more than sixteen', async () => {
    const zone = new Zone();
    for (let i = 0; i < 20; i++) {
      zone.srv('_sip._udp.example.com', i, 1, 5060, `s${i}.example.com`);
      for (let j = 0; j < 12; j++) zone.a(`s${i}.example.com`, `192.0.2.${(i >> 1) * 12 + j}`);
    }
    const { targets } = await ask(zone, 'sip:example.com;transport=udp');
    expect(targets).toHaveLength(MAX_TARGETS);
    expect(new Set(targets.map((t) => `${t.address}`)).size).toBe(MAX_TARGETS);
    expect(zone.asked.length).toBeLessThanOrEqual(MAX_QUESTIONS);
  });

  it('is empty where SRV says that there is no service, though the name has addresses', async () => {
    const zone = new Zone().srv('_sip._udp.example.com', 0, 0, 0, '').a('example.com', '192.0.2.9');
    expect(await ask(zone, 'sip:example.com;transport=udp')).toMatchObject({
      failure: 'no-service',
      targets: [],
    });
  });

  it('passes over a service that SRV says is not there, and is empty when no other is', async () => {
    const zone = new Zone()
      .naptr('example.com', 10, 'SIP+D2T', '_sip._tcp.example.com')
      .naptr('example.com', 20, 'SIP+D2U', '_sip._udp.example.com')
      .srv('_sip._tcp.example.com', 0, 0, 0, '')
      .a('example.com', '192.0.2.9');
    expect((await ask(zone, 'sip:example.com')).failure).toBe('no-service');
    zone.srv('_sip._udp.example.com', 0, 1, 5062, 'example.com');
    expect(shown(await ask(zone, 'sip:example.com'))).toBe('UDP 192.0.2.9:5062');
  });

  it('says whether the name does not exist or DNS does not answer', async () => {
    const zone = new Zone();
    expect((await ask(zone, 'sip:gone.example')).failure).toBe('no-such-name');
    zone.failing.add('A gone.example');
    expect(await ask(zone, 'sip:gone.example')).toMatchObject({ failure: 'no-answer', ttl: 1_000 });
  });

  it('does not take silence for "no SRV", nor leave TLS because of it', async () => {
    const zone = new Zone().a('example.com', '192.0.2.9');
    zone.failing.add('SRV _sip._udp.example.com');
    expect((await ask(zone, 'sip:example.com', PLAIN)).failure).toBe('no-answer');
    zone
      .naptr('example.com', 10, 'SIPS+D2T', '_sips._tcp.example.com')
      .naptr('example.com', 20, 'SIP+D2T', '_sip._tcp.example.com')
      .srv('_sip._tcp.example.com', 0, 1, 5060, 'example.com');
    zone.failing.add('SRV _sips._tcp.example.com');
    expect((await ask(zone, 'sip:example.com')).failure).toBe('no-answer');
  });

  it('comes about though the name server fails on NAPTR', async () => {
    const zone = new Zone().a('example.com', '192.0.2.9');
    zone.failing.add('NAPTR example.com');
    expect(shown(await ask(zone, 'sip:example.com'))).toBe('UDP 192.0.2.9:5060');
  });
});

describe('aliases', () => {
  it('are followed from answer to answer', async () => {
    const zone = new Zone()
      .cname('s.example', 'A.example.')
      .cname('a.example', 'b.example')
      .a('b.example', '192.0.2.1');
    expect(shown(await ask(zone, 'sip:s.example:5060'))).toBe('UDP 192.0.2.1:5060');
    expect(zone.asked).toEqual(['A s.example', 'A a.example', 'A b.example']);
  });

  it('are followed inside one answer without another question', async () => {
    const zone = new Zone().a('b.example', '192.0.2.1');
    const records: DnsRecord[] = [
      { type: 'A', name: 'b.example', data: '192.0.2.1' },
      { type: 'CNAME', name: 's.example', data: 'b.example' },
    ];
    const query = (name: string, type: RecordType) => {
      zone.asked.push(`${type} ${name}`);
      return Promise.resolve({ status: 'found', records, ttl: 1 } as Answer);
    };
    const location = await locate(uri('sip:s.example:5060'), { query, ways: PLAIN, random: () => 0 });
    expect(shown(location)).toBe('UDP 192.0.2.1:5060');
    expect(zone.asked).toHaveLength(1);
  });

  it('in a ring end as no such name', async () => {
    const zone = new Zone().cname('a.example', 'b.example').cname('b.example', 'a.example');
    expect((await ask(zone, 'sip:a.example:5060')).failure).toBe('no-such-name');
    expect(zone.asked).toEqual(['A a.example', 'A b.example']);
    const self = new Zone().cname('a.example', 'a.example');
    expect((await ask(self, 'sip:a.example:5060')).failure).toBe('no-such-name');
  });

  it('in an endless chain end at the bound', async () => {
    const zone = new Zone();
    for (let i = 0; i < 50; i++) zone.cname(`c${i}.example`, `c${i + 1}.example`);
    expect((await ask(zone, 'sip:c0.example:5060')).failure).toBe('no-such-name');
    expect(zone.asked.length).toBe(MAX_CNAMES + 1);
  });
});

describe('SRV order', () => {
  const records = (...list: [priority: number, weight: number, target: string][]): SrvRecord[] =>
    list.map(([priority, weight, target]) => ({
      type: 'SRV',
      name: '_sip._udp.example.com',
      priority,
      weight,
      port: 5060,
      target,
    }));

  it('gives the weights 1 and 3 a quarter and three quarters of 1000 draws [3263-4.3-03]', () => {
    const servers = records([1, 1, 'light'], [1, 3, 'heavy']);
    let heavy = 0;
    for (let i = 0; i < 1000; i++) {
      const order = orderSrv(servers, () => ((i * 617) % 1000) / 1000);
      expect(order).toHaveLength(2);
      if (order[0].target === 'heavy') heavy++;
    }
    expect(heavy).toBe(750);
    heavy = 0;
    for (let i = 0; i < 1000; i++) if (orderSrv(servers, Math.random)[0].target === 'heavy') heavy++;
    expect(heavy).toBeGreaterThan(650); // seven standard deviations
    expect(heavy).toBeLessThan(850);
  });

  it('keeps every record once, priorities ascending, weight 0 behind the weighted', () => {
    const record = fc.record({
      priority: fc.nat(3),
      weight: fc.nat(3),
      port: fc.nat(3),
      target: fc.constantFrom('a', 'b', 'c'),
    });
    fc.assert(
      fc.property(
        fc.array(record),
        fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true })),
        (list, chance) => {
          const full = list.map((r): SrvRecord => ({ ...r, type: 'SRV', name: 'n' }));
          const order = orderSrv(full, () => chance.next().value as number);
          const key = (r: SrvRecord) => `${r.priority} ${r.target} ${r.port}`;
          expect(order.map(key).toSorted()).toEqual(full.map(key).toSorted());
          for (let i = 1; i < order.length; i++) {
            expect(order[i].priority).toBeGreaterThanOrEqual(order[i - 1].priority);
            if (order[i].priority === order[i - 1].priority && order[i - 1].weight === 0)
              expect(order[i].weight).toBe(0);
          }
        },
      ),
    );
  });

  it('is the same list however the answer is rotated [3263-4.3-03]', () => {
    const servers = records([1, 1, 'c'], [0, 0, 'b'], [0, 0, 'a']);
    const names = (list: SrvRecord[]) => orderSrv(list, () => 0.1).map((r) => r.target);
    expect(names(servers)).toEqual(['a', 'b', 'c']);
    expect(names(servers.toReversed())).toEqual(['a', 'b', 'c']);
  });
});

describe('octets of a ring', () => {
  const target = fc
    .record({
      transport: fc.integer({ min: 1, max: 5 }),
      host: fc.stringMatching(/^[a-z0-9.-]{0,253}$/),
      ip: fc.oneof(fc.ipV4(), fc.ipV6()),
      port: fc.integer({ min: 1, max: 65_535 }),
      priority: fc.nat(65_535),
      weight: fc.nat(65_535),
    })
    .map(({ ip, port, ...rest }) => ({ ...rest, address: Endpoint.parse(ip, port) as Endpoint }));

  it('bring a list across as it was, and never need more than the bound', () => {
    fc.assert(
      fc.property(
        fc.array(target, { maxLength: 20 }),
        fc.option(fc.nat(), { nil: Infinity }),
        (targets, ttl) => {
          const location: Location = { targets, failure: targets.length > 0 ? '' : 'no-answer', ttl };
          const octets = encodeTargets(location);
          expect(octets.length).toBeLessThanOrEqual(LOCATION_BYTES);
          expect(decodeTargets(octets)).toEqual({ ...location, targets: targets.slice(0, MAX_TARGETS) });
        },
      ),
    );
  });

  it('bring a destination across as it was', () => {
    for (const text of ['sip:example.com', 'sips:s.example:5080;transport=tcp', 'sip:[2001:db8::1]:5060'])
      expect(decodeDestination(encodeDestination(uri(text)) as Uint8Array)).toEqual(uri(text));
    expect(
      encodeDestination({ scheme: 'sip', host: 'a'.repeat(254), port: 0, transport: 0 }),
    ).toBeUndefined();
  });

  it('that are cut or foreign are undefined, never a throw', () => {
    fc.assert(
      fc.property(fc.array(target, { minLength: 1, maxLength: 3 }), fc.nat(), (targets, cut) => {
        const octets = encodeTargets({ targets, failure: '', ttl: 1 });
        expect(decodeTargets(octets.subarray(0, cut % octets.length))).toBeUndefined();
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (octets) => {
        const location = decodeTargets(octets);
        if (location) expect(location.targets.length).toBe(octets[0]);
        decodeDestination(octets);
      }),
    );
  });
});
