/** The environment as configuration: defaults, and one line for the first wrong value. */
import { describe, expect, it } from 'vitest';
import { coreListenerOf, isRegistrar } from '../../src/config/config.ts';
import { ConfigError } from '../../src/config/error.ts';
import { load, loadConfig } from '../../src/config/load.ts';

const EDGE = { HOLDFAST_UPSTREAM: 'sip:core.example.com' };
type Env = Record<string, string | undefined>;

function fault(env: Env): string {
  try {
    load(env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    expect(error.code).toBe('HOLDFAST_CONFIG');
    return error.message;
  }
  return '';
}

describe('without any variable', () => {
  it('is a registrar on loopback with everything on its default', () => {
    const { config, warnings } = load({ PATH: '/bin', HOME: '/' });
    expect(warnings).toEqual([]);
    expect(config).toMatchObject({
      coreListener: 0,
      domains: ['localhost', '127.0.0.1'],
      upstreams: [],
      dns: undefined,
      probe: 0,
      trusted: [],
      store: { kind: 'lmdb', dir: 'data/location' },
      storeSync: 'process',
      dataDir: './data',
      keys: undefined,
      node: 1,
      flowTimer: 120,
      flowGrace: 20,
      idle: 3600,
      path: 'always',
      pathInner: false,
      rport: 'asked',
      maxFlows: 65_536,
      io: 'auto',
      minExpires: 60,
      maxExpires: 7200,
      logLevel: 'info',
    });
    expect(config.workers).toBeGreaterThanOrEqual(1);
    expect(
      config.listen.map((l) => [l.scheme, l.transport, l.host, l.port, l.advertisedHost, l.advertisedPort]),
    ).toEqual([
      ['udp', 1, '127.0.0.1', 5060, '127.0.0.1', 5060],
      ['tcp', 2, '127.0.0.1', 5060, '127.0.0.1', 5060],
      ['ws', 4, '127.0.0.1', 8080, '127.0.0.1', 8080],
    ]);
    expect(isRegistrar(config)).toBe(true);
  });

  it('an empty or blank variable counts as none', () => {
    const blank = Object.fromEntries(
      ['WORKERS', 'LISTEN', 'UPSTREAM', 'TRUSTED', 'STORE', 'IO', 'KEYS', 'NODE'].map((n) => [
        `HOLDFAST_${n}`,
        '  ',
      ]),
    );
    expect(loadConfig(blank)).toEqual(loadConfig({}));
  });
});

describe('a wrong value ends the start with its name, its value and what is allowed', () => {
  const whole = (name: string, min: number, max: number): [string, string[], RegExp] => [
    name,
    ['x', '-1', '1.5', '1e3', '0x10', ' 1 2', `${min - 1}`, `${max + 1}`, '99999999999'].filter(
      (v) => v !== '0' || min > 0,
    ),
    new RegExp(`a whole number from ${min} to ${max}$`),
  ];
  const cases: [name: string, values: string[], allowed: RegExp][] = [
    whole('WORKERS', 1, 64),
    whole('NODE', 0, 65_535),
    whole('FLOW_TIMER', 1, 86_400),
    whole('FLOW_GRACE', 1, 3_600),
    whole('IDLE_S', 60, 604_800),
    whole('MAX_FLOWS', 16, 4_194_304),
    whole('MIN_EXPIRES', 1, 3_600),
    whole('MAX_EXPIRES', 60, 604_800),
    ['STORE_SYNC', ['disk', 'Power'], /process or power/],
    ['PATH', ['never'], /always or strict/],
    ['PATH_INNER', ['yes', '1'], /on or off/],
    ['RPORT', ['never'], /asked or always/],
    ['IO', ['uring'], /auto or ffi or core/],
    ['LOG', ['loud'], /fatal or error or warn or info or debug or trace or silent/],
    ['STORE', ['redis:localhost', 'lmdb:', 'memory', '/tmp'], /memory: or lmdb:DIRECTORY/],
    ['AUTH', ['file:', 'yes', 'ftp://x/'], /file:PATH/],
    ['AUTH_CALLS', ['yes', 'true'], /on or off/],
    ['T1_MS', ['9', '5001', 'x'], /10 to 5000/],
    ['T2_MS', ['499', '60001'], /T1_MS, 500|10 to 60000/],
    ['OUTBOUND_ONLY', ['1'], /on or off/],
    ['ADMIN', ['127.0.0.1:8060'], /off/],
    [
      'UPSTREAM',
      [
        'core',
        'sips:core;transport=udp',
        'http://core',
        'sip:',
        'sip:core:0',
        'sip:core:65536',
        'sip:core:x',
        'sip:core;transport=ws',
        'sip:core;transport=tcp2',
        'sip:core;transport=',
        'sip:[:::]',
        'sip:user@core',
        'sip:core,',
        'sip:core,tel:1',
      ],
      /a SIP URI/,
    ],
    ['DNS', ['ns.example.com:53', '192.0.2.53', '192.0.2.53:0', '192.0.2.53:65536', '::1:53'], /HOST:PORT/],
    whole('PROBE_S', 0, 3_600),
    [
      'TRUSTED',
      [
        'core',
        '10.0.0.0/33',
        '10.0.0.0/',
        '10.0.0.0/x',
        '10.0.0.0/8/8',
        '10.0.0.0/-1',
        '2001:db8::/129',
        '10.0.0.0/8,',
        '/8',
      ],
      /networks as ADDRESS/,
    ],
    ['DOMAINS', ['a_b', '-a', 'a b', 'sip:example.com'], /host names or addresses/],
    [
      'LISTEN',
      [
        'udp',
        'udp:5060',
        'udp:host:5060',
        'udp:127.0.0.1',
        'udp:127.0.0.1:65536',
        'udp:127.0.0.1:x',
        'udp:::1:5060',
        'http:127.0.0.1:80',
        'ws:example.com:80',
        'sctp:127.0.0.1:1',
        'udp:127.0.0.1:5060,',
        'udp:127.0.0.1:5060/',
        'udp:127.0.0.1:5060/a b',
        'udp:127.0.0.1:5060/a:0',
        'udp:127.0.0.1:5060/a:65536',
        'udp:127.0.0.1:5060/a:x',
        'udp:127.0.0.1:5060/[::',
        'udp:127.0.0.1:5060/0.0.0.0',
        'udp:127.0.0.1:5060/[::1]',
        'udp:[::1]:5060/::2',
        'udp:[::1]:5060/192.0.2.1',
        'udp:127.0.0.1:5060/1.2.3.400',
        'udp:127.0.0.1:5060/-a',
      ],
      /udp:HOST:PORT/,
    ],
    [
      'LISTEN',
      ['udp:0.0.0.0:5060', 'udp:[::]:5060', 'tcp:127.0.0.1:5060,udp:0.0.0.0:5060'],
      /a wildcard address only with HOLDFAST_ADVERTISE/,
    ],
    [
      'LISTEN',
      [
        'udp:127.0.0.1:5060,udp:127.0.0.1:5060',
        'tcp:127.0.0.1:80,ws:127.0.0.1:80,udp:127.0.0.1:80',
        'udp:[::1]:5060,tcp:[::1]:5060,udp:[0::1]:5060',
      ],
      /each address once/,
    ],
    [
      'ADVERTISE',
      ['0.0.0.0', '[::]', '::', '2001:db8::1', 'edge:5060', '192.0.2.1:5060', 'a b', '[192.0.2.1]', '-'],
      /without a port/,
    ],
    [
      'CORE_LISTEN',
      ['udp:127.0.0.1:5061', '0', 'UDP:127.0.0.1:5060', 'ws:127.0.0.1:8080'],
      /one of the listeners of HOLDFAST_LISTEN/,
    ],
    ['FORWARDING', ['x', 'Stateless'], /stateless/],
    [
      'WS_ORIGINS',
      ['example.com', 'https://', 'https://example.com/', 'https://a,', 'https://a b', 'null'],
      /origins as SCHEME/,
    ],
  ];

  it.each(
    cases.flatMap(([name, values, allowed]) =>
      values.map((value): [string, string, RegExp] => [name, value, allowed]),
    ),
  )('HOLDFAST_%s=%s', (name, value, allowed) => {
    const message = fault({
      ...(name !== 'DOMAINS' && name !== 'AUTH' ? EDGE : {}),
      [`HOLDFAST_${name}`]: value,
    });
    expect(message).toMatch(allowed);
    expect(message.startsWith(`HOLDFAST_${name}=${value.trim()}: allowed is `)).toBe(true);
    expect(message).not.toContain('\n');
  });

  it('also where two variables do not fit each other', () => {
    expect(fault({ HOLDFAST_MIN_EXPIRES: '3600', HOLDFAST_MAX_EXPIRES: '60' })).toMatch(
      /^HOLDFAST_MIN_EXPIRES=3600: allowed is no more than HOLDFAST_MAX_EXPIRES, 60$/,
    );
    expect(fault({ HOLDFAST_DOMAINS: '' })).toMatch(/^HOLDFAST_DOMAINS=: allowed is at least one domain/);
    expect(fault({ ...EDGE, HOLDFAST_UPSTREAM: 'sip:[2001:db8::9]' })).toMatch(
      /^HOLDFAST_LISTEN=.*the upstream's transport and address family/,
    );
    expect(
      fault({ HOLDFAST_UPSTREAM: 'sip:core;transport=tcp', HOLDFAST_LISTEN: 'udp:127.0.0.1:5060' }),
    ).toMatch(/^HOLDFAST_LISTEN=/);
  });
});

describe('a registrar without authentication', () => {
  it.each([
    'udp:192.0.2.1:5060',
    'udp:127.0.0.1:5060,tcp:192.0.2.1:5060',
    'udp:[2001:db8::1]:5060',
    'udp:0.0.0.0:5060/edge.example.com',
  ])('is refused on %s', (listen) => {
    expect(fault({ HOLDFAST_LISTEN: listen })).toMatch(
      /^HOLDFAST_AUTH=none: allowed is file:PATH or .*, and none only where all listeners of a registrar are on loopback/,
    );
    expect(fault({ ...EDGE, HOLDFAST_LISTEN: listen, HOLDFAST_DOMAINS: 'example.com' })).toMatch(
      /^HOLDFAST_AUTH=none/,
    );
  });

  it('runs on loopback, and an edge without one runs anywhere', () => {
    expect(fault({ HOLDFAST_LISTEN: 'udp:127.0.0.2:5060,tcp:[::1]:5060' })).toBe('');
    expect(fault({ ...EDGE, HOLDFAST_LISTEN: 'udp:192.0.2.1:5060' })).toBe('');
  });
});

describe('a variable that is set', () => {
  it('with an unknown name warns, and does not stop the start', () => {
    const { warnings } = load({
      HOLDFAST_UPSTRAEM: 'sip:x',
      HOLDFAST_: '',
      holdfast_x: '',
      HOLDFAST_LISTEN: undefined,
    });
    expect(warnings).toEqual([
      'HOLDFAST_UPSTRAEM is not a variable that Holdfast knows',
      'HOLDFAST_ is not a variable that Holdfast knows',
    ]);
  });

  it('with a shared store and no key for GRUUs warns: other registrars would not know them', () => {
    const redis = { HOLDFAST_STORE: 'redis://h' };
    expect(load(redis).warnings).toEqual([expect.stringMatching(/^HOLDFAST_GRUU_KEY is not set/) as unknown]);
    expect(load({ ...redis, HOLDFAST_GRUU_KEY: 'x' }).warnings).toEqual([]);
    expect(load({ ...redis, ...EDGE }).warnings).toEqual([]);
  });

  it('gives listeners their addresses, own and advertised', () => {
    const listen = (text: string, advertise?: string) =>
      loadConfig({ ...EDGE, HOLDFAST_LISTEN: text, HOLDFAST_ADVERTISE: advertise }).listen.map(
        (l) => `${l.scheme} ${l.host} ${l.port} ${l.advertisedHost}:${l.advertisedPort}`,
      );
    expect(
      listen(
        'udp:192.0.2.1:5060, tcp:[2001:DB8:0::1]:5062,udp:192.0.2.2:5060/edge.example.com,tcp:0.0.0.0:7/203.0.113.1:8',
      ),
    ).toEqual([
      'udp 192.0.2.1 5060 192.0.2.1:5060',
      'tcp 2001:db8::1 5062 [2001:db8::1]:5062',
      'udp 192.0.2.2 5060 edge.example.com:5060',
      'tcp 0.0.0.0 7 203.0.113.1:8',
    ]);
    expect(listen('udp:0.0.0.0:5060,udp:[::1]:5060,tcp:127.0.0.1:1/own', 'edge.example.com')).toEqual([
      'udp 0.0.0.0 5060 edge.example.com:5060',
      'udp ::1 5060 edge.example.com:5060',
      'tcp 127.0.0.1 1 own:1',
    ]);
    // an address is for the listeners of its family
    expect(listen('udp:0.0.0.0:5060,udp:[2001:db8::1]:5060', '203.0.113.1')).toEqual([
      'udp 0.0.0.0 5060 203.0.113.1:5060',
      'udp 2001:db8::1 5060 [2001:db8::1]:5060',
    ]);
    expect(
      fault({
        ...EDGE,
        HOLDFAST_LISTEN: 'udp:[::]:5060,udp:127.0.0.1:5060',
        HOLDFAST_ADVERTISE: '203.0.113.1',
      }),
    ).toMatch(/wildcard/);
  });

  it('lists whose pages may open a WebSocket', () => {
    const origins = (text?: string) => loadConfig({ HOLDFAST_WS_ORIGINS: text }).webOrigins;
    expect(origins()).toEqual(['*']);
    expect(origins('*')).toEqual(['*']);
    expect(origins('https://a.example, http://[::1]:3000')).toEqual([
      'https://a.example',
      'http://[::1]:3000',
    ]);
  });

  it('faces no upstream by a WebSocket listener, whose connections clients open', () => {
    const ws = 'ws:127.0.0.1:8080';
    expect(fault({ ...EDGE, HOLDFAST_LISTEN: ws })).toMatch(
      /at least one listener of the upstream's transport/,
    );
    expect(loadConfig({ ...EDGE, HOLDFAST_LISTEN: `${ws},udp:127.0.0.1:5060` }).coreListener).toBe(1);
    expect(loadConfig({ HOLDFAST_LISTEN: `${ws},tcp:127.0.0.1:5060` }).coreListener).toBe(1);
    expect(loadConfig({ HOLDFAST_LISTEN: ws }).coreListener).toBe(0);
  });

  it('names the upstream, and with it the listener that faces it', () => {
    const of = (upstream: string, listen?: string, core?: string) => {
      const config = loadConfig({
        HOLDFAST_UPSTREAM: upstream,
        HOLDFAST_LISTEN: listen,
        HOLDFAST_CORE_LISTEN: core,
      });
      expect(isRegistrar(config)).toBe(false);
      return { ...config.upstreams[0], core: config.coreListener, path: config.pathListener };
    };
    expect(of('sip:core.example.com')).toEqual({
      uri: 'sip:core.example.com',
      secured: false,
      host: 'core.example.com',
      port: 0,
      transport: 0,
      named: false,
      core: 0,
    });
    expect(of('sip:core.example.com:5060')).toMatchObject({ port: 5060, transport: 1, named: false });
    expect(of('sip:192.0.2.9')).toMatchObject({ port: 0, transport: 1, named: false });
    expect(of('sip:core.example.com;transport=udp')).toMatchObject({ transport: 1, named: true });
    expect(of('sip:core.example.com', 'tcp:127.0.0.1:5060')).toMatchObject({ transport: 0, core: 0 });
    expect(of('SIP:192.0.2.9:5080;lr;Transport=TCP')).toMatchObject({
      host: '192.0.2.9',
      port: 5080,
      transport: 2,
      core: 1,
    });
    const two = 'udp:127.0.0.1:5060,udp:[::1]:5060,udp:127.0.0.1:5062/edge';
    expect(of('sip:[::2]', two)).toMatchObject({ host: '[::2]', core: 1, path: undefined });
    expect(of('sip:127.0.0.9', two, 'udp:127.0.0.1:5062')).toMatchObject({ core: 2, path: 2 });
    expect(of('sip:127.0.0.9', two, 'udp:127.0.0.1:5062/edge')).toMatchObject({ core: 2 });
    expect(of('sip:127.0.0.9', two, 'udp:[::1]:5060')).toMatchObject({ core: 1 });
  });

  it('may be reached over TLS, by transport or by scheme', () => {
    const of = (upstream: string) => {
      const { upstreams, coreListener } = loadConfig({
        HOLDFAST_UPSTREAM: upstream,
        HOLDFAST_LISTEN: 'udp:127.0.0.1:5060,tls:127.0.0.1:5061',
        HOLDFAST_TLS_CERT: 'a.pem',
        HOLDFAST_TLS_KEY: 'a.key',
      });
      return { ...upstreams[0], core: coreListener };
    };
    expect(of('sip:core.test;transport=TLS')).toMatchObject({ secured: false, transport: 3, core: 1 });
    expect(of('sips:core.test')).toMatchObject({ secured: true, transport: 0, core: 1 });
    expect(of('sips:core.test;transport=tcp')).toMatchObject({ secured: true, transport: 3, core: 1 });
    expect(of('sips:core.test:5071')).toMatchObject({ secured: true, transport: 3, port: 5071, core: 1 });
    expect(of('SIPS:192.0.2.9')).toMatchObject({ secured: true, transport: 3, core: 1 });
    expect(() => loadConfig({ HOLDFAST_UPSTREAM: 'sips:core.test' })).toThrow(/HOLDFAST_LISTEN/);
  });

  it('may name several upstreams, in order, and the name server to ask about them', () => {
    const { upstreams, dns, probe, coreListener, pathListener } = loadConfig({
      HOLDFAST_UPSTREAM: 'sip:192.0.2.9;transport=tcp, sip:core.example.com,sip:backup.example.com:5070',
      HOLDFAST_DNS: '[2001:db8::53]:5353',
      HOLDFAST_PROBE_S: '20',
    });
    expect(upstreams.map(({ host, port, transport }) => [host, port, transport])).toEqual([
      ['192.0.2.9', 0, 2],
      ['core.example.com', 0, 0],
      ['backup.example.com', 5070, 1],
    ]);
    expect(coreListener).toBe(1);
    expect(pathListener).toBeUndefined();
    expect({ dns, probe }).toEqual({ dns: '[2001:db8::53]:5353', probe: 20 });
    expect(
      fault({
        HOLDFAST_UPSTREAM: 'sip:core:5060,sip:core;transport=tcp',
        HOLDFAST_LISTEN: 'udp:127.0.0.1:5060',
      }),
    ).toMatch(/^HOLDFAST_LISTEN=.*the upstream's transport/);
  });

  it('makes an edge of a registrar: domains are set only by name', () => {
    expect(loadConfig(EDGE).domains).toEqual([]);
    expect(loadConfig({ ...EDGE, HOLDFAST_DOMAINS: ' Example.COM, [::1] ,10.0.0.1' }).domains).toEqual([
      'example.com',
      '[::1]',
      '10.0.0.1',
    ]);
  });

  it('makes a listener for each port towards the core, dealt out to the shards', () => {
    const load = (ports: string, more: Record<string, string> = {}) =>
      loadConfig({
        ...EDGE,
        HOLDFAST_LISTEN: 'udp:127.0.0.1:5060/edge.example:5062',
        HOLDFAST_WORKERS: '2',
        HOLDFAST_CORE_PORTS: ports,
        ...more,
      });
    const config = load('6000-6002');
    expect(config.listen.map(({ port, shard }) => [port, shard])).toEqual([
      [5060, 0],
      [6000, 1],
      [6001, 2],
    ]);
    expect(config.listen[2]).toMatchObject({ advertisedHost: 'edge.example', advertisedPort: 6001 });
    expect([1, 2].map((shard) => coreListenerOf(config, shard))).toEqual([1, 2]);
    expect(() => load('6000')).toThrow(/^HOLDFAST_CORE_PORTS=6000: allowed is UDP ports as FIRST-LAST/);
    expect(() => load('6000-6000')).toThrow(/a port for each of 2 workers/);
    expect(() => load('5059-5061')).toThrow(/no listener of HOLDFAST_LISTEN/);
    expect(() =>
      load('6000-6001', {
        HOLDFAST_LISTEN: 'tcp:127.0.0.1:5060',
        HOLDFAST_UPSTREAM: 'sip:127.0.0.9;transport=tcp',
      }),
    ).toThrow(/not a udp one/);
  });

  it('takes trusted domains only where certificates are asked for', () => {
    const trusted = (client: string, value = 'Edge1.example, edge2.example') =>
      loadConfig({ HOLDFAST_TLS_CLIENT: client, HOLDFAST_TRUSTED_DOMAINS: value }).trustedDomains;
    expect(trusted('optional')).toEqual(['edge1.example', 'edge2.example']);
    expect(() => trusted('none')).toThrow(/^HOLDFAST_TRUSTED_DOMAINS=.*HOLDFAST_TLS_CLIENT is none/);
    expect(() => trusted('required', '*.example')).toThrow(/^HOLDFAST_TRUSTED_DOMAINS=.*host names/);
  });

  it('lists trusted networks as bits of one address layout', () => {
    expect(
      loadConfig({ HOLDFAST_TRUSTED: '10.0.0.0/8, 192.0.2.1,2001:db8::/32,[::1],0.0.0.0/0' }).trusted,
    ).toEqual([
      { host: '10.0.0.0', bits: 104 },
      { host: '192.0.2.1', bits: 128 },
      { host: '2001:db8::', bits: 32 },
      { host: '::1', bits: 128 },
      { host: '0.0.0.0', bits: 96 },
    ]);
  });

  it('is taken as it says', () => {
    expect(
      loadConfig({
        ...EDGE,
        HOLDFAST_WORKERS: ' 3 ',
        HOLDFAST_STORE: 'lmdb:/var/x',
        HOLDFAST_STORE_SYNC: 'power',
        HOLDFAST_DATA: '/d',
        HOLDFAST_KEYS: '1:abc',
        HOLDFAST_GRUU_KEY: 'abc',
        HOLDFAST_NODE: '0',
        HOLDFAST_FLOW_TIMER: '1',
        HOLDFAST_FLOW_GRACE: '3600',
        HOLDFAST_IDLE_S: '60',
        HOLDFAST_PATH: 'strict',
        HOLDFAST_PATH_INNER: 'on',
        HOLDFAST_RPORT: 'always',
        HOLDFAST_MAX_FLOWS: '16',
        HOLDFAST_IO: 'core',
        HOLDFAST_LOG: 'silent',
      }),
    ).toMatchObject({
      workers: 3,
      store: { kind: 'lmdb', dir: '/var/x' },
      storeSync: 'power',
      dataDir: '/d',
      keys: '1:abc',
      gruuKey: 'abc',
      node: 0,
      flowTimer: 1,
      flowGrace: 3600,
      idle: 60,
      path: 'strict',
      pathInner: true,
      rport: 'always',
      maxFlows: 16,
      io: 'core',
      logLevel: 'silent',
    });
    expect(loadConfig({ HOLDFAST_STORE: 'memory:' }).store).toEqual({ kind: 'memory' });
    expect(loadConfig({ HOLDFAST_DATA: '/d' }).store).toEqual({ kind: 'lmdb', dir: '/d/location' });
    expect(loadConfig({ HOLDFAST_STORE: 'redis://:pw@h' }).store).toMatchObject({
      kind: 'redis',
      target: { password: 'pw', name: 'redis://h:6379/0' },
    });
  });

  it('does not show the password of a store that it refuses', () => {
    const load = () => loadConfig({ HOLDFAST_STORE: 'redis://user:s3c@ret@h' });
    expect(load).toThrow(/^HOLDFAST_STORE=redis:\/\/\.\.\.@h: allowed/);
  });

  describe('of webhooks', () => {
    const webhook = (env: Record<string, string>) =>
      loadConfig({ HOLDFAST_EVENTS_URL: 'https://h/x?y=1', ...env }).webhook;

    it('is a URL, what may be seen there, and what is wanted', () => {
      expect(loadConfig({}).webhook).toBeUndefined();
      expect(webhook({})).toEqual({
        url: 'https://h/x?y=1',
        types: ['register', 'refresh', 'unregister', 'expire', 'flow-lost'],
      });
      expect(
        webhook({
          HOLDFAST_EVENTS: 'flow-lost, expire',
          HOLDFAST_EVENTS_TOKEN: 'abc.def',
          HOLDFAST_EVENTS_SECRET: 'any text',
        }),
      ).toEqual({
        url: 'https://h/x?y=1',
        types: ['expire', 'flow-lost'],
        authorization: 'Bearer abc.def',
        secret: 'any text',
      });
      expect(webhook({ HOLDFAST_EVENTS_URL: 'http://us%40er:p%3Ass@h:81' })).toMatchObject({
        url: 'http://h:81/',
        authorization: `Basic ${Buffer.from('us@er:p:ss').toString('base64')}`,
      });
    });

    it.each([
      [{ HOLDFAST_EVENTS_URL: 'ftp://user:s3cret@h/' }, /^HOLDFAST_EVENTS_URL=ftp:\/\/\.\.\.@h\/: allowed/],
      [{ HOLDFAST_EVENTS_URL: 'https://user:%zzs3cret@h/' }, /^HOLDFAST_EVENTS_URL=/],
      [{ HOLDFAST_EVENTS_URL: 'https://h/#s3cret' }, /^HOLDFAST_EVENTS_URL=/],
      [{ HOLDFAST_EVENTS_URL: 'https://:s3cret@h/', HOLDFAST_EVENTS_TOKEN: 't' }, /not both/],
      [{ HOLDFAST_EVENTS_URL: 'https:///x' }, /^HOLDFAST_EVENTS_URL=/],
      [{ HOLDFAST_EVENTS_TOKEN: 's3cret with blanks' }, /^HOLDFAST_EVENTS_TOKEN=\.\.\.: allowed/],
      [{ HOLDFAST_EVENTS_URL: 'https://u:p@h/', HOLDFAST_EVENTS_TOKEN: 's3cret' }, /not both/],
      [{ HOLDFAST_EVENTS_URL: '', HOLDFAST_EVENTS_TOKEN: 's3cret' }, /^HOLDFAST_EVENTS_URL=/],
      [{ HOLDFAST_EVENTS: 'register,lost' }, /^HOLDFAST_EVENTS=register,lost: allowed is register, refresh/],
    ])('is refused by name and without its secret: %j', (env, message) => {
      const fault = () => loadConfig({ HOLDFAST_EVENTS_URL: 'https://h/', ...env });
      expect(fault).toThrow(message);
      expect(fault).not.toThrow(/s3cret/);
    });

    it('is warned about where there are no domains', () => {
      const { warnings } = load({ ...EDGE, HOLDFAST_EVENTS_URL: 'https://h/' });
      expect(warnings).toEqual([expect.stringMatching(/^HOLDFAST_EVENTS_URL: there is no location store/)]);
    });
  });
});

describe('TLS', () => {
  const env = { HOLDFAST_LISTEN: 'tls:127.0.0.1:5061' };

  it('has pairs of files, the first for clients that name no server', () => {
    const { tls, listen } = loadConfig({
      ...env,
      HOLDFAST_TLS_CERT: 'a.pem, b.pem',
      HOLDFAST_TLS_KEY: 'a.key,b.key',
      HOLDFAST_TLS_CA: 'ca.pem',
      HOLDFAST_TLS_CLIENT: 'required',
    });
    expect(listen[0]).toMatchObject({ scheme: 'tls', transport: 3 });
    const [certs, keys] = [
      ['a.pem', 'b.pem'],
      ['a.key', 'b.key'],
    ];
    expect(tls).toEqual({ certs, keys, ca: 'ca.pem', client: 'required' });
  });

  it('is not asked about without a listener for it', () => {
    expect(loadConfig({ HOLDFAST_TLS_CERT: 'a.pem' }).tls).toBeUndefined();
  });

  it.each([
    [{}, 'TLS_CERT'],
    [{ HOLDFAST_TLS_CERT: 'a.pem,' }, 'TLS_CERT'],
    [{ HOLDFAST_TLS_CERT: 'a.pem' }, 'TLS_KEY'],
    [{ HOLDFAST_TLS_CERT: 'a.pem,b.pem', HOLDFAST_TLS_KEY: 'a.key' }, 'TLS_KEY'],
    [{ HOLDFAST_TLS_CERT: 'a.pem', HOLDFAST_TLS_KEY: 'a.key', HOLDFAST_TLS_CLIENT: 'optional' }, 'TLS_CA'],
    [{ HOLDFAST_TLS_CERT: 'a.pem', HOLDFAST_TLS_KEY: 'a.key', HOLDFAST_TLS_CLIENT: 'yes' }, 'TLS_CLIENT'],
  ])('%j: %s is wrong', (settings, name) => {
    expect(() => loadConfig({ ...env, ...settings })).toThrow(new RegExp(`^HOLDFAST_${name}=`));
  });
});
