/** RFC 3261 16.4 and RFC 5626 5.3: what an edge does with the Route values and the Request-URI that name it. */
import { describe, expect, it } from 'vitest';
import { CORE, headers, OWN_ROUTE, Rig, request, type Sent, startLine, status, TCP_LISTENER } from './rig.ts';

const CORE_SAYS = { from: CORE, fromUpstream: true };
const route = (...values: string[]) => values.map((v) => `Route: ${v}`);

/** An edge with a client's stream and a client's datagram flow. */
function edge(options = {}) {
  const rig = new Rig(options);
  const stream = rig.stream('203.0.113.7:4711');
  const udp = rig.flows.findOrMake(
    0,
    rig.exchange.source.remote.parse('203.0.113.8', 4712)!,
    rig.exchange.source.local.parse('192.0.2.1', 5060)!,
    rig.ds,
  );
  return { rig, stream, udp, token: rig.token(stream), udpToken: rig.token(udp) };
}
const changed = (token: string) => `${token.slice(0, 20)}${token[20] === 'A' ? 'B' : 'A'}${token.slice(21)}`;
const toCore = (sent: Sent) => expect(sent).toMatchObject({ way: 'datagram', to: CORE });

describe('a Route value of ours', () => {
  it.each([
    '<sip:edge.example.com;lr>',
    '<sip:EDGE.example.com:5060;lr>',
    '<sip:192.0.2.1;lr>',
    '<sip:[2001:db8::1]:5060;lr>',
    '"Edge" <sip:edge.example.com;transport=tcp;lr>;x=y',
    '<sip:edge.example.com>',
  ])('without a token is removed: %s [EP-5.3-01 3261-16.4-02]', (value) => {
    const { rig } = edge();
    const sent = rig.one(request({ lines: route(value) }));
    toCore(sent);
    expect(headers(sent, 'Route')).toEqual([]);
  });

  it('is removed from a comma list, and the rest keeps its place and its text', () => {
    const { rig } = edge();
    const sent = rig.one(
      request({
        lines: route(
          '<sip:edge.example.com;lr> , "x, y" <sip:198.51.100.9:5070;lr> ;z',
          '<sip:b.example.com;lr>',
        ),
      }),
    );
    toCore(sent);
    expect(headers(sent, 'Route')).toEqual([
      '"x, y" <sip:198.51.100.9:5070;lr> ;z',
      '<sip:b.example.com;lr>',
    ]);
  });

  it('behind the first foreign value stays', () => {
    const { rig } = edge();
    const sent = rig.one(request({ lines: route('<sip:198.51.100.9:5070;lr>, <sip:edge.example.com;lr>') }));
    expect(headers(sent, 'Route')).toEqual(['<sip:198.51.100.9:5070;lr>, <sip:edge.example.com;lr>']);
  });

  it.each(['<sip:edge.example.com:5061;lr>', '<sip:edge.example.org;lr>', '<sips:edge.example.com:5062;lr>'])(
    'is not one of another port or host: %s',
    (value) => {
      const { rig } = edge();
      expect(status(rig.one(request({ lines: route(value) })))).toBe(403);
    },
  );

  it('that is malformed is 400', () => {
    for (const value of ['<sip:edge', '<>', 'sip:', '<sip:edge.example.com;lr>,,<sip:b;lr>', '<nonsense>']) {
      const { rig } = edge();
      expect([value, status(rig.one(request({ lines: route(value) })))]).toEqual([value, 400]);
    }
  });

  it('names a flow: the request goes down it, wherever its Request-URI leads [EP-5.3-02 EP-5.3.1-03]', () => {
    const { rig, stream, udp, token, udpToken } = edge();
    for (const [slot, t] of [
      [stream, token],
      [udp, udpToken],
    ] as const) {
      const sent = rig.one(
        request({
          method: 'MESSAGE',
          uri: 'sip:bob@192.0.2.250',
          lines: route(`<sip:${t}@${OWN_ROUTE};lr>`),
        }),
        CORE_SAYS,
      );
      expect(sent).toMatchObject({ way: 'flow', to: rig.name(slot) });
      expect(startLine(sent)).toBe('MESSAGE sip:bob@192.0.2.250 SIP/2.0');
      expect(headers(sent, 'Route')).toEqual([]);
      expect(headers(sent, 'Record-Route')).toEqual([]);
    }
  });

  it('leaves the values below it to the client', () => {
    const { rig, stream, token } = edge();
    const sent = rig.one(
      request({
        method: 'BYE',
        to: '<sip:b@c>;tag=1',
        lines: route(`<sip:${token}@${OWN_ROUTE};lr>`, '<sip:next.example.com;lr>'),
      }),
      CORE_SAYS,
    );
    expect(sent).toMatchObject({ way: 'flow', to: rig.name(stream) });
    expect(headers(sent, 'Route')).toEqual(['<sip:next.example.com;lr>']);
  });

  it('twice, from a double Record-Route, goes with its twin whichever stands on top [3261-16.4-02]', () => {
    const { rig, stream, token } = edge();
    const two = [`<sip:${token}@${OWN_ROUTE};lr>`, `<sip:${token}@${OWN_ROUTE};transport=tcp;lr>`];
    for (const lines of [route(...two), route(...two.reverse()), route(two.join(','))]) {
      const sent = rig.one(request({ method: 'BYE', to: '<sip:b@c>;tag=1', lines }), CORE_SAYS);
      expect(sent).toMatchObject({ way: 'flow', to: rig.name(stream) });
      expect(headers(sent, 'Route')).toEqual([]);
    }
  });

  it('from the flow that it names is outgoing: both values go, and the rest is followed [EP-5.3-02 EP-5.3.2-03]', () => {
    const { rig, stream, token } = edge();
    const lines = route(
      `<sip:${token}@${OWN_ROUTE};transport=tcp;lr>,<sip:${token}@${OWN_ROUTE};lr>`,
      '<sip:198.51.100.9:5070;lr>',
    );
    const sent = rig.one(request({ method: 'BYE', to: '<sip:b@c>;tag=1', lines }), { stream });
    toCore(sent);
    expect(headers(sent, 'Route')).toEqual(['<sip:198.51.100.9:5070;lr>']);
  });

  it('of the caller and then of the callee, both clients of this edge, ends at the callee', () => {
    const { rig, stream, udp, token, udpToken } = edge();
    const lines = route(`<sip:${token}@${OWN_ROUTE};lr>`, `<sip:${udpToken}@${OWN_ROUTE};lr>`);
    const sent = rig.one(request({ method: 'BYE', to: '<sip:b@c>;tag=1', lines }), { stream });
    expect(sent).toMatchObject({ way: 'flow', to: rig.name(udp) });
    expect(headers(sent, 'Route')).toEqual([]);
  });

  it('is followed by the token in percent-escapes, too [EP-5.2-03]', () => {
    const { rig, stream, token } = edge();
    const escaped = [...token].map((c, i) => (i % 3 ? c : `%${c.charCodeAt(0).toString(16)}`)).join('');
    expect(
      rig.one(request({ method: 'MESSAGE', lines: route(`<sip:${escaped}@${OWN_ROUTE};lr>`) }), CORE_SAYS),
    ).toMatchObject({ way: 'flow', to: rig.name(stream) });
  });
});

describe('a token that is no good', () => {
  it('changed in any of its characters is 403, and nothing reaches a client [EP-5.2-01 EP-5.3.1-04]', () => {
    const { rig, token } = edge();
    for (let i = 0; i < token.length; i += 3) {
      const other = `${token.slice(0, i)}${token[i] === 'A' ? 'B' : 'A'}${token.slice(i + 1)}`;
      const sent = rig.one(request({ lines: route(`<sip:${other}@${OWN_ROUTE};lr>`) }), CORE_SAYS);
      expect([i, status(sent), sent.way]).toEqual([i, 403, 'datagram']);
    }
    expect(rig.count('tokenTampered')).toBe(Math.ceil(token.length / 3));
  });

  it('that is no token at all is 403 [EP-5.3.1-08]', () => {
    const { rig } = edge();
    for (const user of ['alice', '%%', 'A'.repeat(38), 'A'.repeat(200)])
      expect(status(rig.one(request({ lines: route(`<sip:${user}@${OWN_ROUTE};lr>`) }), CORE_SAYS))).toBe(
        403,
      );
  });

  it('of a flow that has ended is 430 at once [EP-5.3.1-05]', () => {
    const { rig, stream, token } = edge();
    rig.flows.end(stream, rig.table.generation(stream), 1);
    expect(status(rig.one(request({ lines: route(`<sip:${token}@${OWN_ROUTE};lr>`) }), CORE_SAYS))).toBe(430);
    expect(rig.count('flowFailed')).toBe(1);
  });

  it('of a flow whose time is over is 430 [EP-5.3.1-09]', () => {
    const { rig, udpToken } = edge();
    rig.at(33);
    expect(status(rig.one(request({ lines: route(`<sip:${udpToken}@${OWN_ROUTE};lr>`) }), CORE_SAYS))).toBe(
      430,
    );
  });

  it('in an ACK is dropped without an answer [EP-5.3.1-07]', () => {
    const { rig, stream, token } = edge();
    const ack = (t: string) =>
      request({ method: 'ACK', to: '<sip:b@c>;tag=1', lines: route(`<sip:${t}@${OWN_ROUTE};lr>`) });
    expect(rig.take(ack(changed(token)), CORE_SAYS)).toEqual([]);
    rig.flows.end(stream, rig.table.generation(stream), 1);
    expect(rig.take(ack(token), CORE_SAYS)).toEqual([]);
    expect(rig.count('ackDropped')).toBe(2);
  });

  it('whose flow ends between the look and the write is 430, and a busy one 503', () => {
    const { rig, token } = edge();
    const text = request({ lines: route(`<sip:${token}@${OWN_ROUTE};lr>`) });
    rig.flowOutcome = 1;
    expect(status(rig.one(text, CORE_SAYS))).toBe(430);
    rig.flowOutcome = 2;
    const busy = rig.one(text, CORE_SAYS);
    expect([status(busy), headers(busy, 'Retry-After')]).toEqual([503, ['5']]);
  });
});

describe('a strict router before us [3261-16.4-01]', () => {
  it('has put our Record-Route URI into the Request-URI: the last Route takes its place', () => {
    const { rig, stream, token } = edge();
    const sent = rig.one(
      request({
        method: 'BYE',
        to: '<sip:b@c>;tag=1',
        uri: `sip:${token}@${OWN_ROUTE};lr`,
        lines: route('<sip:next.example.com;lr>,<sip:alice@203.0.113.7:4711;ob>'),
      }),
      CORE_SAYS,
    );
    expect(sent).toMatchObject({ way: 'flow', to: rig.name(stream) });
    expect(startLine(sent)).toBe('BYE sip:alice@203.0.113.7:4711;ob SIP/2.0');
    expect(headers(sent, 'Route')).toEqual(['<sip:next.example.com;lr>']);
  });

  it('also where our other URI of a double Record-Route follows, and nothing else', () => {
    const { rig, stream, token } = edge();
    const lines = route(`<sip:${token}@${OWN_ROUTE};transport=tcp;lr>`, '<sip:alice@203.0.113.7:4711>');
    const sent = rig.one(
      request({ method: 'BYE', to: '<sip:b@c>;tag=1', uri: `sip:${token}@${OWN_ROUTE};lr`, lines }),
      CORE_SAYS,
    );
    expect(sent).toMatchObject({ way: 'flow', to: rig.name(stream) });
    expect(startLine(sent)).toBe('BYE sip:alice@203.0.113.7:4711 SIP/2.0');
    expect(headers(sent, 'Route')).toEqual([]);
  });

  it('from the client itself is outgoing', () => {
    const { rig, stream, token } = edge();
    const lines = route('<sip:bob@198.51.100.30:5080>');
    const sent = rig.one(
      request({
        method: 'BYE',
        to: '<sip:b@c>;tag=1',
        uri: `sip:${token}@${OWN_ROUTE};transport=tcp;lr`,
        lines,
      }),
      { stream },
    );
    expect(sent).toMatchObject({ way: 'datagram', to: '198.51.100.30:5080' });
    expect(startLine(sent)).toBe('BYE sip:bob@198.51.100.30:5080 SIP/2.0');
    expect(headers(sent, 'Route')).toEqual([]);
  });

  it('with a token that was changed is 403 still', () => {
    const { rig, token } = edge();
    expect(
      status(
        rig.one(
          request({ uri: `sip:${changed(token)}@${OWN_ROUTE};lr`, lines: route('<sip:a@b>') }),
          CORE_SAYS,
        ),
      ),
    ).toBe(403);
  });
});

describe('a strict router behind us [3261-16.6-04]', () => {
  it('gets its own URI as the Request-URI, and the Request-URI as the last Route', () => {
    const { rig } = edge();
    const sent = rig.one(
      request({
        uri: 'sip:bob@example.com;x=y',
        lines: route('<sip:edge.example.com;lr>', '<sip:198.51.100.9:5070>', '<sip:b.example.com;lr>'),
      }),
    );
    toCore(sent);
    expect(startLine(sent)).toBe('INVITE sip:198.51.100.9:5070 SIP/2.0');
    expect(headers(sent, 'Route')).toEqual(['<sip:b.example.com;lr>', '<sip:bob@example.com;x=y>']);
  });

  it('the same where it stands alone, in one line with ours, or in front of more in its line', () => {
    for (const [lines, left] of [
      [route('<sip:198.51.100.9:5070>'), []],
      [route('<sip:edge.example.com;lr>,<sip:198.51.100.9:5070>'), []],
      [route('<sip:edge.example.com;lr>,<sip:198.51.100.9:5070>, <sip:b;lr>'), ['<sip:b;lr>']],
      [route('<sip:198.51.100.9:5070>,<sip:b;lr>', '<sip:c;lr>'), ['<sip:b;lr>', '<sip:c;lr>']],
    ] as const) {
      const { rig } = edge();
      const sent = rig.one(request({ lines: [...lines] }));
      expect(startLine(sent)).toBe('INVITE sip:198.51.100.9:5070 SIP/2.0');
      expect(headers(sent, 'Route')).toEqual([...left, '<sip:bob@example.com>']);
    }
  });

  it('on both sides: what was the last Route is the last Route again', () => {
    const { rig, stream, token } = edge();
    const lines = route('<sip:198.51.100.9:5070>', '<sip:bob@example.net>');
    const sent = rig.one(
      request({ method: 'BYE', to: '<sip:b@c>;tag=1', uri: `sip:${token}@${OWN_ROUTE};lr`, lines }),
      { stream },
    );
    toCore(sent);
    expect(startLine(sent)).toBe('BYE sip:198.51.100.9:5070 SIP/2.0');
    expect(headers(sent, 'Route')).toEqual(['<sip:bob@example.net>']);
  });
});

describe('a maddr of ours in the Request-URI [3261-16.4-03]', () => {
  it.each([
    ['sip:bob@example.com;maddr=192.0.2.1', 'sip:bob@example.com'],
    ['sip:bob@example.com:5060;maddr=192.0.2.1;transport=tcp;x=y', 'sip:bob@example.com;x=y'],
    ['sip:bob@example.com;transport=sctp;maddr=edge.example.com', 'sip:bob@example.com'],
    ['sip:bob@example.com;maddr=192.0.2.2', 'sip:bob@example.com;maddr=192.0.2.2'],
    ['sip:bob@example.com:5099;maddr=192.0.2.1', 'sip:bob@example.com:5099;maddr=192.0.2.1'],
  ])('%s goes on as %s', (uri, expected) => {
    const { rig } = edge();
    const sent = rig.one(request({ uri }));
    toCore(sent);
    expect(startLine(sent)).toBe(`INVITE ${expected} SIP/2.0`);
  });

  it('leaves an address that can be reached', () => {
    const rig = new Rig({ upstream: false });
    const sent = rig.one(
      request({ method: 'MESSAGE', uri: 'sip:bob@198.51.100.77:5060;maddr=192.0.2.1;transport=sctp' }),
      { from: '127.0.0.1:9', trusted: true },
    );
    expect(sent).toMatchObject({ way: 'datagram', to: '198.51.100.77:5060' });
    expect(startLine(sent)).toBe('MESSAGE sip:bob@198.51.100.77 SIP/2.0');
  });
});

describe('who may send where (there is no open relay)', () => {
  it('a stranger reaches the upstream, whatever his Request-URI says', () => {
    const { rig } = edge();
    for (const uri of ['sip:bob@192.0.2.250', 'sip:bob@foreign.example.org', 'tel:+491234'])
      toCore(rig.one(request({ uri })));
  });

  it('a stranger reaches the upstream by a Route that names it, by address or by name', () => {
    const { rig } = edge();
    for (const value of [
      '<sip:198.51.100.9:5070;lr>',
      '<sip:core.example.com:5070;lr>',
      '<sip:CORE.example.com:5070;lr>',
    ])
      toCore(rig.one(request({ lines: route(value) })));
  });

  it('a stranger reaches no other host by a Route: 403', () => {
    const { rig } = edge();
    for (const value of [
      '<sip:198.51.100.9;lr>',
      '<sip:198.51.100.10:5070;lr>',
      '<sip:victim.example.org;lr>',
      '<sip:edge.example.com;lr>,<sip:victim.example.org;lr>',
      '<sip:victim.example.org>',
    ])
      expect([value, status(rig.one(request({ lines: route(value) })))]).toEqual([value, 403]);
    expect(rig.sent.every((s) => s.to === '203.0.113.7:4711')).toBe(true);
  });

  it('a token of his own lets a client follow the route of his dialog', () => {
    const { rig, stream, token } = edge();
    const own = `<sip:${token}@${OWN_ROUTE};lr>`;
    expect(rig.one(request({ lines: route(own, '<sip:198.51.100.30;lr>') }), { stream })).toMatchObject({
      way: 'datagram',
      to: '198.51.100.30:5060',
    });
    // within a dialog the Request-URI is the other side's address
    expect(
      rig.one(
        request({
          method: 'BYE',
          uri: 'sip:bob@198.51.100.31:5080',
          to: '<sip:b@c>;tag=1',
          lines: route(own),
        }),
        { stream },
      ),
    ).toMatchObject({ way: 'datagram', to: '198.51.100.31:5080' });
    toCore(rig.one(request({ uri: 'sip:bob@198.51.100.31:5080', lines: route(own) }), { stream }));
  });

  it('a trusted source may follow any Route, the upstream any Request-URI', () => {
    const { rig } = edge();
    expect(
      rig.one(request({ lines: route('<sip:198.51.100.30;lr>') }), { from: '10.0.0.1:5060', trusted: true })
        .to,
    ).toBe('198.51.100.30:5060');
    expect(rig.one(request({ uri: 'sip:bob@198.51.100.31:5080' }), CORE_SAYS).to).toBe('198.51.100.31:5080');
    toCore(rig.one(request({ uri: 'sip:bob@198.51.100.31:5080' }), { from: '10.0.0.1:5060', trusted: true }));
  });

  it('what comes from the upstream never goes back to it for want of a way: 404', () => {
    const { rig } = edge();
    expect(status(rig.one(request({ uri: 'sip:bob@foreign.example.org' }), CORE_SAYS))).toBe(404);
  });

  it('without an upstream a stranger reaches nothing, and loopback anything that is numeric', () => {
    const rig = new Rig({ upstream: false });
    expect(status(rig.one(request({ uri: 'sip:bob@198.51.100.31' })))).toBe(403);
    expect(status(rig.one(request({ lines: route('<sip:198.51.100.31;lr>') })))).toBe(403);
    expect(
      rig.one(request({ uri: 'sip:bob@198.51.100.31', contact: '<sip:a@127.0.0.1:9>' }), {
        from: '127.0.0.1:9',
      }).to,
    ).toBe('198.51.100.31:5060');
    expect(
      status(
        rig.one(request({ uri: 'sip:bob@name.example.org', contact: '<sip:a@127.0.0.1:9>' }), {
          from: '127.0.0.1:9',
        }),
      ),
    ).toBe(502);
  });

  it('a next hop that no listener of ours can reach is 502', () => {
    const rig = new Rig({ upstream: false });
    for (const uri of [
      'sip:bob@198.51.100.31;transport=sctp',
      'sip:bob@198.51.100.31;transport=ws',
      'sips:bob@198.51.100.31',
      'sip:bob@[2001:db8::31];transport=tcp',
    ])
      expect([
        uri,
        status(rig.one(request({ method: 'MESSAGE', uri }), { from: '127.0.0.1:9', trusted: true })),
      ]).toEqual([uri, 502]);
    expect(
      rig.one(request({ method: 'MESSAGE', uri: 'sip:bob@[2001:db8::31]' }), {
        from: '127.0.0.1:9',
        trusted: true,
      }),
    ).toMatchObject({ to: '[2001:db8::31]:5060', listener: 2 });
  });
});

describe('a domain that is served here', () => {
  it('is also this proxy where a Route names it', () => {
    const rig = new Rig({ domains: ['example.com'], upstream: false });
    const seen: string[] = [];
    rig.home = {
      register: () => seen.push('register'),
      request: () => seen.push('request'),
      isFromGruu: () => false,
      usesForeignGruu: () => false,
    };
    rig.take(request({ lines: route('<sip:example.com;lr>') }));
    rig.take(
      request({
        method: 'REGISTER',
        uri: 'sip:example.com',
        lines: route('<sip:example.com:5060;lr>,<sip:edge.example.com;lr>'),
      }),
    );
    expect(seen).toEqual(['request', 'register']);
    expect(status(rig.one(request({ lines: route('<sip:other.example.org;lr>') })))).toBe(403);
  });

  it('takes its own requests and nobody else, by name, default port or a port of ours', () => {
    const rig = new Rig({ domains: ['Example.COM', '127.0.0.1'], upstream: false });
    let seen = 0;
    rig.home = {
      register: () => seen++,
      request: () => seen++,
      isFromGruu: () => false,
      usesForeignGruu: () => false,
    };
    for (const uri of [
      'sip:bob@example.com',
      'sip:bob@EXAMPLE.com:5060',
      'sips:bob@example.com',
      'sip:bob@127.0.0.1:5060',
    ])
      rig.take(request({ uri }));
    expect(seen).toBe(4);
    for (const uri of ['sip:bob@example.com:5099', 'sip:bob@example.org', 'tel:+49'])
      expect(status(rig.one(request({ uri })))).toBe(403);
    expect(seen).toBe(4);
  });
});

it('an OPTIONS to this edge itself is answered, also over a stream', () => {
  const { rig, stream } = edge();
  for (const from of [{}, { stream }]) {
    const sent = rig.one(request({ method: 'OPTIONS', uri: 'sip:edge.example.com' }), from);
    expect(status(sent)).toBe(200);
    expect(headers(sent, 'Allow')).toHaveLength(1);
  }
  toCore(rig.one(request({ method: 'OPTIONS', uri: 'sip:bob@edge.example.com' })));
  expect(rig.table.listener(stream)).toBe(TCP_LISTENER);
});
