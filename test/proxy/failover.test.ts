/** A request for another target, made from the octets that went to the first one. */
import { describe, expect, it } from 'vitest';
import { Failover } from '../../src/proxy/failover.ts';
import { NextHop } from '../../src/proxy/nexthop.ts';
import { NO_TARGET } from '../../src/proxy/targetset.ts';
import { latin1 } from '../../src/wire/chars.ts';
import { TCP, UDP } from '../../src/wire/via.ts';
import { CORE, endpoint, headers, Rig, request, type Sent } from './rig.ts';

const SECOND = '198.51.100.10:5080';

/** A stateless rig's message is as good as any: what counts is the Via on top. */
function site(transport = UDP, named = true) {
  const rig = new Rig();
  const { upstream, exchange, own, branch, arena } = rig;
  if (!upstream) throw new Error('no upstream');
  const [first, second] = [
    { transport: UDP, host: 'a.test', address: endpoint(CORE), priority: 0, weight: 1 },
    { transport, host: 'b.test', address: endpoint(SECOND), priority: 1, weight: 1, named },
  ];
  upstream.replace({ targets: [first, second], failure: '', ttl: 0 });
  const hop = new NextHop(own, 0);
  const failover = new Failover({ exchange, upstream, hop, own, branch, shard: 3 });
  const open = ({ text }: Pick<Sent, 'text'>) => {
    const at = arena.slabs.lease(text.length + 1);
    arena.mem.set(Buffer.from(text, 'latin1'), at);
    return failover.open(at, text.length);
  };
  const again = () => ({ text: latin1(arena.mem, failover.start, failover.end) }) as Sent;
  return { rig, failover, hop, open, again };
}

const PARTS = { lines: ['Subject: as it is', 'X-Strange:value ;;'], body: 'v=0\r\n' };
const isTopVia = /^Via: .*\r\n/m;

describe('a request for another target', () => {
  it('has a Via of ours with the branch of its transaction, and is otherwise the same octets [3263-4.3-01]', () => {
    const { rig, failover, open, again } = site();
    const sent = rig.one(request(PARTS));
    expect(open(sent)).toBe(true);
    expect(failover.next(1)).toBe(1);
    expect(failover.hop.address.toString()).toBe(SECOND);
    expect(failover.compose(7, 9)).toBe(true);
    const { text } = again();
    expect(text.replace(isTopVia, '')).toBe(sent.text.replace(isTopVia, ''));
    const [via] = headers({ text } as Sent, 'Via');
    const value = /;branch=(\S+)$/.exec(via)?.[1] ?? '';
    const octets = Buffer.from(value, 'latin1');
    expect(rig.branch.read(octets, 0, octets.length)).toBe(true);
    expect(rig.branch).toMatchObject({ transaction: 7, generation: 9, shard: 3 });
  });

  it('keeps the mark by which a loop is seen [3261-16.3-04]', () => {
    const { rig, failover, open, again } = site();
    const sent = rig.one(request(PARTS));
    open(sent);
    failover.next(1);
    failover.compose(7, 9);
    const first = again();
    rig.branch.read(...branchOf(first));
    const { loop } = rig.branch;
    // the same request, as if its routing could not be seen any more
    open({ text: first.text.replace('sip:bob@example.com', 'sip:bob@192.0.2.77') });
    failover.next(1);
    failover.compose(8, 10);
    rig.branch.read(...branchOf(again()));
    expect(rig.branch.loop).toBe(loop);
  });

  it('says in its Via over what it goes, and its length where a stream needs it [3263-4.1-01]', () => {
    const { rig, failover, open, again } = site(TCP);
    const sent = rig.one(request(PARTS).replace(/Content-Length: .*\r\n/, ''));
    expect(headers(sent, 'Content-Length')).toEqual([]);
    open(sent);
    failover.next(1);
    failover.compose(7, 9);
    expect(headers(again(), 'Via')[0]).toMatch(/^SIP\/2\.0\/TCP edge\.example\.com:5060;branch=/);
    expect(headers(again(), 'Content-Length')).toEqual(['5']);
  });

  it('goes over TCP when it is large, and over UDP after all if that is refused [3261-18.1.1-01]', () => {
    const { rig, failover, hop, open } = site(UDP, false);
    open(rig.one(request({ ...PARTS, body: 'x'.repeat(2_000) })));
    expect([failover.next(1), hop.transport, hop.sized]).toEqual([1, TCP, true]);
    expect([failover.unsized(1), hop.transport, hop.sized]).toEqual([1, UDP, false]);
  });

  it('is not made where nothing is left to try, or its octets are not ours', () => {
    const { rig, failover, open } = site();
    expect(open(rig.one(request()))).toBe(true);
    expect(failover.next(3)).toBe(NO_TARGET);
    expect(failover.unsized(9)).toBe(NO_TARGET);
    expect(open({ text: 'nothing of the kind\r\n\r\n' })).toBe(false);
    const two = 'SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/UDP b;branch=z9hG4bK2';
    expect(open({ text: request({ via: two }) })).toBe(false);
  });
});

function branchOf(sent: Sent): [Uint8Array, number, number] {
  const octets = Buffer.from(/;branch=(\S+)$/.exec(headers(sent, 'Via')[0])?.[1] ?? '', 'latin1');
  return [octets, 0, octets.length];
}
