/** The upstreams of the configuration as one list. */
import { describe, expect, it } from 'vitest';
import { Locator } from '../../src/main/locator.ts';
import { joined, Upstreams, waysOf } from '../../src/main/upstreams.ts';
import { Endpoint } from '../../src/net/endpoint.ts';
import type { Answer } from '../../src/net/locate.ts';
import { decodeTargets, type Location, type Target } from '../../src/net/targets.ts';
import type { Logger } from '../../src/observe/log.ts';
import { TCP, UDP, WS, WSS } from '../../src/wire/via.ts';

const target = (host: string, priority = 0, transport = UDP): Target => ({
  transport,
  host,
  address: Endpoint.parse(host, 5060)!,
  priority,
  weight: 1,
});
const found = (...targets: Target[]): Location => ({ targets, failure: '', ttl: 1 });
const named = { named: true, host: 'core.test' };
const bare = { named: false, host: 'core.test' };

describe('several upstreams in one list', () => {
  it('keep their order: all of a later one come behind all of an earlier one [3263-4.3-03]', () => {
    const first = found(target('192.0.2.1', 10), target('192.0.2.2', 10), target('192.0.2.3', 40_000));
    const second = found(target('192.0.2.4', 1), target('192.0.2.5', 65_535));
    const { targets } = joined([first, second], [bare, bare]);
    expect(targets.map(({ host, priority }) => [host, priority])).toEqual([
      ['192.0.2.1', 0],
      ['192.0.2.2', 0],
      ['192.0.2.3', 1],
      ['192.0.2.4', 2],
      ['192.0.2.5', 3],
    ]);
  });

  it('have a target once, where it stands first, and know whether its transport was named', () => {
    const both = [found(target('192.0.2.1'), target('192.0.2.1', 0, TCP)), found(target('192.0.2.1', 5))];
    const { targets } = joined(both, [named, bare]);
    expect(targets.map((t) => [t.transport, t.named])).toEqual([
      [UDP, true],
      [TCP, true],
    ]);
    expect(joined([both[1]], [bare]).targets[0].named).toBeUndefined();
  });

  it('are a list without those that are not resolved, and say why when none is', () => {
    const none: Location = { targets: [], failure: 'no-such-name', ttl: 1 };
    expect(joined([undefined, none, found(target('192.0.2.9'))], [bare, bare, bare]).targets).toHaveLength(1);
    expect(joined([undefined, none], [bare, bare])).toMatchObject({ targets: [], failure: 'no-such-name' });
    expect(joined([undefined], [bare]).failure).toBe('no-answer');
  });
});

describe('the ways out', () => {
  it('are the transports and families of the listeners, that of the core-facing one first', () => {
    const listen = [
      { transport: UDP, host: '127.0.0.1' },
      { transport: TCP, host: '::1' },
      { transport: TCP, host: '127.0.0.1' },
    ];
    const web = [...listen, { transport: WS, host: '192.0.2.1' }, { transport: WSS, host: '192.0.2.1' }];
    expect(waysOf(web, 1)).toEqual(waysOf(listen, 1)); // no WebSocket is opened to an upstream
    expect(waysOf(listen, 1)).toEqual([
      { transport: TCP, families: [6, 4] },
      { transport: UDP, families: [4] },
    ]);
  });
});

describe('the start', () => {
  const log = { info: () => {}, warn: () => {} } as unknown as Logger;
  const ways = [{ transport: UDP, families: [4 as const] }];
  const at = (host: string, port = 0) => ({
    uri: `sip:${host}`,
    secured: false,
    host,
    port,
    transport: UDP,
    named: false,
  });

  it('does not wait for numeric upstreams, and has them', async () => {
    const resolver = { query: () => new Promise<Answer>(() => {}) };
    const locator = new Locator({ resolver, ways, random: Math.random, schedule: () => () => {} });
    const upstreams = new Upstreams([at('192.0.2.1'), at('192.0.2.2', 5070)], locator, log, () => {});
    await upstreams.start();
    const list = decodeTargets(upstreams.octets)?.targets.map(({ address }) => `${address}`);
    expect(list).toEqual(['192.0.2.1:5060', '192.0.2.2:5070']);
    locator.stop();
  });

  it('needs no upstream', async () => {
    const locator = new Locator({ resolver: { query: () => new Promise(() => {}) }, ways, random: () => 0 });
    const upstreams = new Upstreams([], locator, log, () => {});
    await upstreams.start();
    expect(decodeTargets(upstreams.octets)?.targets).toEqual([]);
  });
});
