/** Next hops that there are not: nobody is asked about a WebSocket client, and none is dialled. */
import { describe, expect, it } from 'vitest';
import type { Destination } from '../../src/net/targets.ts';
import { NextHop } from '../../src/proxy/nexthop.ts';
import { Own } from '../../src/proxy/own.ts';
import { UriView } from '../../src/wire/address.ts';
import { ascii } from '../../src/wire/chars.ts';
import { TCP, UDP, WS } from '../../src/wire/via.ts';

const listener = (transport: number) => ({
  transport,
  host: '192.0.2.1',
  port: 5060,
  advertisedHost: '192.0.2.1',
  advertisedPort: 5060,
});

function ask(uri: string): { reached: boolean; asked: string[] } {
  const hop = new NextHop(new Own([listener(UDP), listener(TCP), listener(WS)], []), 0);
  const asked: string[] = [];
  hop.names = {
    find: ({ host }: Destination) => {
      asked.push(host);
      return undefined;
    },
  };
  const bytes = ascii(uri);
  const view = new UriView();
  view.parse(bytes, 0, bytes.length);
  return { reached: hop.toUri(bytes, view), asked };
}

describe('a URI that leads nowhere', () => {
  it.each([
    'sip:u@df7jal23ls0d.invalid;transport=ws',
    'sip:u@example.test;transport=ws',
    'sip:u@192.0.2.9;transport=ws',
    'sip:u@192.0.2.9;transport=wss',
  ])('%s: no name server is asked, nobody is dialled [7118-5.3-02]', (uri) => {
    expect(ask(uri)).toEqual({ reached: false, asked: [] });
  });

  it('is told from one that may lead somewhere', () => {
    expect(ask('sip:u@example.test')).toEqual({ reached: false, asked: ['example.test'] });
    expect(ask('sip:u@192.0.2.9;transport=tcp')).toEqual({ reached: true, asked: [] });
  });
});
