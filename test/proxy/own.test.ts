/** How our listeners are written, and which URIs name them. */
import { describe, expect, it } from 'vitest';
import { Own } from '../../src/proxy/own.ts';
import { UriView } from '../../src/wire/address.ts';
import { ascii, latin1 } from '../../src/wire/chars.ts';
import { TCP, UDP, WS, WSS } from '../../src/wire/via.ts';

const at = (transport: number, port: number, advertisedHost = 'edge.test') => ({
  transport,
  host: '192.0.2.1',
  port,
  advertisedHost,
  advertisedPort: port,
});
const text = (bytes: Uint8Array) => latin1(bytes, 0, bytes.length);

function isSelf(own: Own, uri: string): boolean {
  const bytes = ascii(uri);
  const view = new UriView();
  return view.parse(bytes, 0, bytes.length) && own.isSelf(bytes, view);
}

describe('a listener as it is written', () => {
  it('is ws in a URI, over TLS too, and told apart in Via [7118-5.1-01 7118-5.2-01]', () => {
    const own = new Own([at(UDP, 5060), at(TCP, 5060), at(WS, 80), at(WSS, 443)], []);
    expect(own.listeners.map(({ route }) => text(route))).toEqual([
      '@edge.test:5060;lr',
      '@edge.test:5060;transport=tcp;lr',
      '@edge.test:80;transport=ws;lr',
      '@edge.test:443;transport=ws;lr',
    ]);
    expect(own.listeners.map(({ via }) => text(via))).toEqual([
      'Via: SIP/2.0/UDP edge.test:5060;rport;branch=z9hG4bK',
      'Via: SIP/2.0/TCP edge.test:5060;branch=z9hG4bK',
      'Via: SIP/2.0/WS edge.test:80;branch=z9hG4bK',
      'Via: SIP/2.0/WSS edge.test:443;branch=z9hG4bK',
    ]);
  });
});

describe('a URI without a port', () => {
  const uris = [
    'sip:edge.test',
    'sip:edge.test;transport=tcp',
    'sips:edge.test',
    'sip:edge.test;transport=ws',
    'sip:edge.test;transport=wss',
    'sips:edge.test;transport=ws',
  ];

  it.each<[string, number, boolean[]]>([
    ['5060', 5060, [true, true, false, false, false, false]],
    ['5061', 5061, [false, false, true, false, false, false]],
    ['80', 80, [false, false, false, true, true, false]],
    ['443', 443, [false, false, false, true, true, true]],
    ['8080', 8080, [false, false, false, false, false, false]],
  ])('names a listener on port %s by scheme and transport [7118-5.5-01]', (_port, port, expected) => {
    const own = new Own([at(TCP, port)], []);
    expect(uris.map((uri) => isSelf(own, uri))).toEqual(expected);
    for (const uri of uris) expect(isSelf(own, uri.replace('edge.test', `edge.test:${port}`))).toBe(true);
  });
});
