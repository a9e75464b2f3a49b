/** What a request looks like that was let through: RFC 3261 16.3 and 16.6, RFC 5626 5.1 and 5.3.2. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
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
  UDP6_LISTENER,
} from './rig.ts';

const CORE_SAYS = { from: CORE, fromUpstream: true };
const register = (parts: Parameters<typeof request>[0] = {}) =>
  request({
    method: 'REGISTER',
    uri: 'sip:example.com',
    to: '<sip:alice@example.com>',
    contact: '<sip:alice@203.0.113.7:4711>;reg-id=1',
    ...parts,
  });
const slotOf = (rig: Rig, remote = CLIENT) => rig.flows.find(0, endpoint(remote), endpoint('192.0.2.1:5060'));

describe('checks in their order [3261-16.3-01]', () => {
  it.each<[string, Parameters<typeof request>[0], number]>([
    ['a URI that is none, before the scheme', { uri: '<sip:bob@example.com>', maxForwards: '0' }, 400],
    ['an empty URI', { uri: 'sip:' }, 400],
    [
      'an unknown scheme, before Max-Forwards',
      { uri: 'nobody:x', maxForwards: '0', lines: ['Proxy-Require: foo'] },
      416,
    ],
    ['Max-Forwards 0, before Proxy-Require', { maxForwards: '0', lines: ['Proxy-Require: foo'] }, 483],
    [
      'Proxy-Require, before a Route that is refused',
      { lines: ['Proxy-Require: foo', 'Route: <sip:victim.example.org;lr>'] },
      420,
    ],
    ['a Route that is refused', { lines: ['Route: <sip:victim.example.org;lr>'] }, 403],
  ])('%s', (_, parts, code) => {
    expect(status(new Rig().one(request(parts)))).toBe(code);
  });

  it('Max-Forwards 1 goes on as 0, 0 does not, OPTIONS is answered [3261-16.3-04]', () => {
    const rig = new Rig();
    expect(headers(rig.one(request({ maxForwards: '1' })), 'Max-Forwards')).toEqual(['0']);
    expect(status(rig.one(request({ maxForwards: '0' })))).toBe(483);
    expect(status(rig.one(request({ method: 'OPTIONS', maxForwards: '0' })))).toBe(200);
    expect(rig.take(request({ method: 'ACK', maxForwards: '0' }))).toEqual([]);
    expect(rig.count('maxForwardsReached')).toBe(3);
  });

  it('Proxy-Require is 420 with every tag in Unsupported; not looked at in CANCEL and ACK [3261-16.3-05]', () => {
    const rig = new Rig();
    const lines = ['Proxy-Require: foo,bar', 'Proxy-Require: baz'];
    const sent = rig.one(request({ lines }));
    expect([status(sent), headers(sent, 'Unsupported')]).toEqual([420, ['foo, bar, baz']]);
    for (const method of ['CANCEL', 'ACK']) expect(status(rig.one(request({ method, lines })))).toBe(0);
  });

  it('an answer of ours has a To tag, that is the same for a retransmission [3261-16.3-03]', () => {
    const rig = new Rig();
    const first = rig.one(request({ uri: 'nobody:x' }));
    const again = rig.one(request({ uri: 'nobody:x' }));
    expect(first.text).toBe(again.text);
    expect(headers(first, 'To')[0]).toMatch(/^<sip:bob@example.com>;tag=[0-9a-f]{8}$/);
    expect(first).toMatchObject({ way: 'datagram', to: '203.0.113.7:4711' });
  });
});

describe('where an answer of ours goes', () => {
  const refused = (via: string, options: RigOptions = {}, from = {}) =>
    new Rig(options).one(request({ uri: 'nobody:x', via }), from);

  it.each([
    ['the port in Via', 'SIP/2.0/UDP 203.0.113.7:5099;branch=z9hG4bK1', '203.0.113.7:5099'],
    ['the default port without one', 'SIP/2.0/UDP 203.0.113.7;branch=z9hG4bK1', '203.0.113.7:5060'],
    [
      'the source address, not the one in Via',
      'SIP/2.0/UDP 10.0.0.1:5099;branch=z9hG4bK1',
      '203.0.113.7:5099',
    ],
    ['the source port with rport', 'SIP/2.0/UDP 10.0.0.1:5099;rport;branch=z9hG4bK1', '203.0.113.7:4711'],
    [
      'the source address of a received that was forged',
      'SIP/2.0/UDP 10.0.0.1:5099;received=192.0.2.250;branch=z9hG4bK1',
      '203.0.113.7:5099',
    ],
    ['maddr', 'SIP/2.0/UDP 203.0.113.7:5099;maddr=203.0.113.99;branch=z9hG4bK1', '203.0.113.99:5099'],
    [
      'the source when maddr is a name',
      'SIP/2.0/UDP 203.0.113.7:5099;maddr=x.example.com;branch=z9hG4bK1',
      '203.0.113.7:5099',
    ],
    [
      'the source when maddr is of another family',
      'SIP/2.0/UDP 203.0.113.7:5099;maddr=[2001:db8::1];branch=z9hG4bK1',
      '203.0.113.7:5099',
    ],
  ])('%s', (_, via, to) => {
    expect(refused(via)).toMatchObject({ way: 'datagram', to });
  });

  it('is the source port for everybody where the operator wants it so', () => {
    expect(refused('SIP/2.0/UDP 10.0.0.1:5099;branch=z9hG4bK1', { forceRport: true }).to).toBe(
      '203.0.113.7:4711',
    );
  });

  it('is the same connection for a stream, whatever Via says', () => {
    const rig = new Rig();
    const stream = rig.stream();
    expect(
      rig.one(request({ uri: 'nobody:x', via: 'SIP/2.0/TCP 10.0.0.1:9;branch=z9hG4bK1' }), { stream }),
    ).toMatchObject({ way: 'flow', to: rig.name(stream) });
  });

  it('is where it came from when its Via cannot be read, and nowhere when it has none', () => {
    const rig = new Rig();
    const sent = rig.one(request({ via: 'SIP/2.0/UDP ;;,' }));
    expect([status(sent), sent.to, headers(sent, 'Via')]).toEqual([400, CLIENT, ['SIP/2.0/UDP ;;,']]);
    expect(rig.take(request({ via: '' }))).toEqual([]);
    expect(rig.take(request({ method: 'ACK', via: 'SIP/2.0/UDP ;;,' }))).toEqual([]);
  });
});

describe('a forwarded request', () => {
  it('is the received one octet for octet but for Via, Max-Forwards and the stamp [3261-16.6-01 3261-16.6-06]', () => {
    const piece = fc.constantFrom(
      'X-A: 1',
      'Subject :  \t a\xe9 ',
      's:',
      'Date: nonsense',
      'X-Fold: a\r\n b\r\n\tc',
      'k: path, timer',
      'Event:x',
      'P-Q: ";"',
      'Accept: a,b,,c',
      'v: SIP/2.0/TCP next.example.com;branch=1, SIP/2.0/UDP 10.9.9.9',
    );
    fc.assert(
      fc.property(
        fc.array(piece, { maxLength: 8 }),
        fc.uint8Array({ maxLength: 60 }),
        fc.constantFrom('FOO', 'MESSAGE', 'BYE', 'UPDATE'),
        (lines, octets, method) => {
          const rig = new Rig();
          const text = request({ method, lines, body: Buffer.from(octets).toString('latin1') });
          const sent = rig.one(text);
          const via =
            /Via: (SIP\/2\.0\/UDP edge\.example\.com:5060;rport;branch=z9hG4bK[A-Za-z0-9_-]+)\r\n/.exec(
              sent.text,
            )!;
          expect(headers(sent, 'Via')[0]).toBe(via[1]);
          const expected = text
            .replace('Via: SIP', `Via: ${via[1]}\r\nVia: SIP`)
            .replace('Max-Forwards: 70', 'Max-Forwards: 69');
          expect(sent.text).toBe(expected);
        },
      ),
      { numRuns: 150 },
    );
  });

  it('gets Max-Forwards 70 where it has none, and rport and received where the client asks', () => {
    const sent = new Rig().one(
      request({ maxForwards: '', via: 'SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bK1' }),
    );
    expect(headers(sent, 'Max-Forwards')).toEqual(['70']);
    expect(headers(sent, 'Via')[1]).toBe(
      'SIP/2.0/UDP 10.0.0.1;rport=4711;received=203.0.113.7;branch=z9hG4bK1',
    );
  });

  it('gets Content-Length on a stream where it has none, and only there [3261-16.6-07]', () => {
    const text = request({ method: 'MESSAGE', body: 'hello' }).replace('Content-Length: 5\r\n', '');
    const stream = new Rig({ upstreamTransport: 2 });
    const sent = stream.one(text);
    expect(sent).toMatchObject({ way: 'connection', to: CORE });
    expect(headers(sent, 'Content-Length')).toEqual(['5']);
    expect(headers(sent, 'Via')[0]).toMatch(/^SIP\/2\.0\/TCP edge\.example\.com:5060;branch=z9hG4bK/);
    expect(headers(new Rig().one(text), 'Content-Length')).toEqual([]);
  });

  it('has one branch for a transaction, with its CANCEL and ACK, and another for another [3261-16.6-06]', () => {
    const rig = new Rig();
    const branch = (parts: Parameters<typeof request>[0]) => headers(rig.one(request(parts)), 'Via')[0];
    const invite = branch({});
    expect(branch({})).toBe(invite);
    expect(branch({ method: 'CANCEL' })).toBe(invite);
    expect(branch({ method: 'ACK' })).toBe(invite);
    expect(branch({ via: 'SIP/2.0/UDP 203.0.113.7:4711;branch=z9hG4bKother' })).not.toBe(invite);
  });

  it('that is large goes over TCP where no transport is named, with a Via that says so', () => {
    const large = request({ method: 'MESSAGE', body: 'x'.repeat(1300) });
    const sent = new Rig({ named: false }).one(large);
    expect(sent).toMatchObject({ way: 'connection', to: CORE });
    expect(headers(sent, 'Via')[0]).toMatch(/^SIP\/2\.0\/TCP /);
    expect(new Rig({ named: true }).one(large).way).toBe('datagram');
    expect(new Rig({ named: false }).one(request({ method: 'MESSAGE' })).way).toBe('datagram');
    const udpOnly = new Rig({
      named: false,
      listen: [
        { transport: 1, host: '192.0.2.1', port: 5060, advertisedHost: '192.0.2.1', advertisedPort: 5060 },
      ],
    });
    expect(udpOnly.one(large)).toMatchObject({ way: 'datagram', to: CORE, listener: 0 });
  });

  it('is 500 when the connection to the core cannot be opened', () => {
    const rig = new Rig({ upstreamTransport: 2 });
    rig.connects = false;
    expect(status(rig.one(request({ method: 'MESSAGE' })))).toBe(500);
    expect(rig.count('forwardedRequests')).toBe(0);
  });

  it('with more Routes or more headers than any request has is refused', () => {
    const rig = new Rig();
    const stream = rig.stream();
    const lines = Array.from({ length: 150 }, (_, i) => `Route: <sip:${'x'.repeat(180)}${i}.example.com;lr>`);
    expect(
      status(rig.one(request({ method: 'MESSAGE', lines, body: 'x'.repeat(10) }), { stream, trusted: true })),
    ).toBe(400); // more Routes than any request has
    expect(status(rig.one(request({ lines: Array(250).fill('X: y') }), { stream }))).toBe(513);
  });
});

describe('Path of a REGISTER', () => {
  const pathOf = (sent: Sent) => headers(sent, 'Path');

  it('names the flow with a token and ob, and stands on top [EP-5.1-03 EP-5.1-08]', () => {
    const rig = new Rig();
    const sent = rig.one(register({ lines: ['Supported: path, outbound'] }));
    const slot = slotOf(rig);
    expect(slot).toBeGreaterThanOrEqual(0);
    expect(pathOf(sent)).toEqual([`<sip:${rig.token(slot)}@${OWN_ROUTE};lr;ob>`]);
    expect(headers(sent, 'Supported')).toEqual(['path, outbound']);
    expect(sent).toMatchObject({ way: 'datagram', to: CORE });
  });

  it('is also there for a client without path and without reg-id, and path is then offered for it [EP-5.1-01 EP-5.1-11]', () => {
    const rig = new Rig();
    const sent = rig.one(register({ contact: '<sip:alice@203.0.113.7:4711>', lines: ['Supported: timer'] }));
    expect(pathOf(sent)).toHaveLength(1);
    expect(headers(sent, 'Supported').sort()).toEqual(['path', 'timer']);
  });

  it('in strict mode is for clients that know it: 421 for others, Require for those [EP-5.1-11]', () => {
    const rig = new Rig({ path: 'strict' });
    const refused = rig.one(register());
    expect([status(refused), headers(refused, 'Require')]).toEqual([421, ['path']]);
    const sent = rig.one(register({ lines: ['k: PATH'] }));
    expect([status(sent), headers(sent, 'Require'), pathOf(sent).length]).toEqual([0, ['path'], 1]);
  });

  it('of an inner hop is added only where the operator wants it, and never with ob [EP-5.1-04 EP-5.1-09]', () => {
    for (const via of [
      'SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/UDP b;branch=z9hG4bK2',
      'SIP/2.0/UDP a;branch=z9hG4bK1\r\nv: SIP/2.0/UDP b;branch=z9hG4bK2',
      'SIP/2.0/UDP a;x="1,2";branch=z9hG4bK1 , SIP/2.0/UDP b',
    ]) {
      expect(pathOf(new Rig().one(register({ via })))).toEqual([]);
      const on = new Rig({ pathInner: true });
      const sent = on.one(register({ via }));
      expect(pathOf(sent)).toEqual([`<sip:${on.token(slotOf(on))}@${OWN_ROUTE};lr>`]);
    }
    const one = new Rig();
    expect(pathOf(one.one(register({ via: 'SIP/2.0/UDP a;x="1,2";branch=z9hG4bK1' })))[0]).toMatch(/;ob>$/);
  });

  it('that a stranger brought along is not believed [EP-5.1-10]', () => {
    for (const via of ['SIP/2.0/UDP a;branch=z9hG4bK1', 'SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/UDP b']) {
      for (const options of [{}, { pathInner: true }]) {
        const sent = new Rig(options).one(
          register({
            via,
            lines: [
              'Path: <sip:forged@edge.example.com;lr;ob>',
              'Supported: path',
              'Path: <sip:two;lr>,<sip:three;lr>',
            ],
          }),
        );
        expect(sent.text).not.toMatch(/forged|two|three/);
      }
    }
  });

  it('that a trusted edge brought along stays, below ours', () => {
    const rig = new Rig({ pathInner: true });
    const sent = rig.one(
      register({ via: 'SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/UDP b', lines: ['Path: <sip:t@inner;lr;ob>'] }),
      { from: '10.0.0.1:5060', trusted: true },
    );
    expect(pathOf(sent)).toEqual([
      expect.stringMatching(/^<sip:[A-Za-z0-9_-]{54}@edge.example.com:5060;lr>$/),
      '<sip:t@inner;lr;ob>',
    ]);
    const off = new Rig().one(
      register({ via: 'SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/UDP b', lines: ['Path: <sip:t@inner;lr;ob>'] }),
      { from: '10.0.0.1:5060', trusted: true },
    );
    expect(pathOf(off)).toEqual(['<sip:t@inner;lr;ob>']);
  });

  it('cannot be made when the flow table is full: a final answer, and nothing at the registrar [EP-5.1-05]', () => {
    const rig = new Rig({ maxFlows: 16 });
    for (let i = 0; i < 16; i++) rig.stream(`203.0.113.9:${i + 1}`);
    const sent = rig.one(register());
    expect([status(sent), headers(sent, 'Retry-After')]).toEqual([503, ['5']]);
  });

  it('over a stream has the token of that connection, and another for another [EP-5.1-06]', () => {
    const rig = new Rig();
    const a = rig.stream('203.0.113.7:1');
    const b = rig.stream('203.0.113.7:2');
    const paths = [a, b, a].map(
      (stream) => pathOf(rig.one(register({ via: 'SIP/2.0/TCP 10.0.0.1;branch=z9hG4bK1' }), { stream }))[0],
    );
    expect(paths[0]).toBe(`<sip:${rig.token(a)}@${OWN_ROUTE};lr;ob>`);
    expect(paths[2]).toBe(paths[0]);
    expect(paths[1]).not.toBe(paths[0]);
  });
});

describe('Record-Route of a request that forms a dialog', () => {
  const recorded = (sent: Sent) => headers(sent, 'Record-Route');
  const contact = (uri: string) => `<${uri}>`;

  it.each<[string, string | false, number]>([
    ['ob in its Contact', contact('sip:alice@203.0.113.7:4711;ob'), 1],
    [
      'its own address in its Contact: it can be reached without us',
      contact('sip:alice@203.0.113.7:4711'),
      0,
    ],
    ['a private address in its Contact, behind a NAT', contact('sip:alice@10.0.0.1:4711'), 1],
    ['another port in its Contact, behind a NAT', contact('sip:alice@203.0.113.7'), 1],
    ['a name in its Contact', contact('sip:alice@phone.example.com:4711'), 1],
    ['a GRUU in its Contact', contact('sip:alice@203.0.113.7:4711;gr=urn:x'), 1],
    ['no Contact', false, 0],
    ['a Contact that cannot be read', '<sip:a', 0],
  ])('of a UDP client with %s [EP-5.3.2-01 EP-5.3.2-02]', (_, c, lines) => {
    const rig = new Rig();
    const sent = rig.one(request({ contact: c }));
    expect(recorded(sent)).toEqual(lines ? [`<sip:${rig.token(slotOf(rig))}@${OWN_ROUTE};lr>`] : []);
  });

  it('of a stream client is there without ob, doubled where the core speaks another transport [EP-5.3.2-02]', () => {
    const rig = new Rig();
    const stream = rig.stream();
    const token = rig.token(stream);
    expect(recorded(rig.one(request(), { stream }))).toEqual([
      `<sip:${token}@${OWN_ROUTE};lr>`,
      `<sip:${token}@${OWN_ROUTE};transport=tcp;lr>`,
    ]);
    const tcp = new Rig({ upstreamTransport: 2 });
    const same = tcp.stream();
    expect(recorded(tcp.one(request(), { stream: same }))).toEqual([
      `<sip:${tcp.token(same)}@${OWN_ROUTE};transport=tcp;lr>`,
    ]);
  });

  it('is doubled between address families', () => {
    const rig = new Rig();
    const sent = rig.one(
      request({ via: 'SIP/2.0/UDP [2001:db8::7];branch=z9hG4bK1', contact: '<sip:a@[2001:db8::7];ob>' }),
      { from: '[2001:db8::7]:5060' },
    );
    expect(recorded(sent).map((v) => v.replace(/sip:[^@]*@/, ''))).toEqual([
      `<${OWN_ROUTE};lr>`,
      '<[2001:db8::1]:5060;lr>',
    ]);
    expect(rig.exchange.source.listener).toBe(UDP6_LISTENER);
  });

  it('stands on top of those that are there', () => {
    const sent = new Rig().one(
      request({ contact: contact('sip:a@10.0.0.1'), lines: ['Record-Route: <sip:b;lr>'] }),
    );
    expect(recorded(sent)).toEqual([expect.stringContaining('edge.example.com'), '<sip:b;lr>']);
  });

  it('is for SUBSCRIBE and REFER too, not for others, and not within a dialog', () => {
    const c = contact('sip:a@10.0.0.1');
    for (const method of ['INVITE', 'SUBSCRIBE', 'REFER'])
      expect([method, recorded(new Rig().one(request({ method, contact: c }))).length]).toEqual([method, 1]);
    for (const method of ['MESSAGE', 'OPTIONS', 'BYE', 'NOTIFY', 'ACK', 'FOO'])
      expect([method, recorded(new Rig().one(request({ method, contact: c }))).length]).toEqual([method, 0]);
    expect(recorded(new Rig().one(request({ contact: c, to: '<sip:b@c>;tag=1' })))).toEqual([]);
  });

  it('of a request down a flow whose Path has ob: the token without ob, so that the dialog stays on it [EP-5.3.1-01]', () => {
    const rig = new Rig();
    const stream = rig.stream();
    const token = rig.token(stream);
    const down = (method: string, ob: string, to = '<sip:b@c>') =>
      recorded(
        rig.one(request({ method, to, lines: [`Route: <sip:${token}@${OWN_ROUTE};lr${ob}>`] }), CORE_SAYS),
      );
    expect(down('INVITE', ';ob')).toEqual([
      `<sip:${token}@${OWN_ROUTE};transport=tcp;lr>`,
      `<sip:${token}@${OWN_ROUTE};lr>`,
    ]);
    expect(down('INVITE', '')).toEqual([]);
    expect(down('MESSAGE', ';ob')).toEqual([]);
    expect(down('INVITE', ';ob', '<sip:b@c>;tag=1')).toEqual([]);
  });

  it('is not made when no token can be made: a final answer [EP-5.1-05]', () => {
    const rig = new Rig({ maxFlows: 16 });
    for (let i = 0; i < 16; i++) rig.stream(`203.0.113.9:${i + 1}`);
    expect(status(rig.one(request({ contact: contact('sip:a@10.0.0.1') })))).toBe(503);
  });
});

it('a datagram makes a flow record only where a token is needed', () => {
  const rig = new Rig();
  rig.take(request({ method: 'OPTIONS' }));
  rig.take(request({ method: 'MESSAGE' }));
  rig.take(request());
  rig.take('SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP x\r\n\r\n');
  rig.take('junk');
  expect(rig.table.used()).toBe(0);
  rig.take(register());
  expect(rig.table.used()).toBe(1);
  expect(startLine(rig.sent.at(-1)!)).toBe('REGISTER sip:example.com SIP/2.0');
});
