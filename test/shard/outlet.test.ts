/** The way out of a shard and the connections that it keeps, with a network that only writes down what it is told. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { Arena } from '../../src/net/arena.ts';
import { Endpoint } from '../../src/net/endpoint.ts';
import type { Listener, Net } from '../../src/net/net.ts';
import { BUSY, ENDED, Exchange, SENT } from '../../src/proxy/exchange.ts';
import { Aliases } from '../../src/shard/aliases.ts';
import { FLOW_WRITE } from '../../src/shard/boot.ts';
import { Connections } from '../../src/shard/connections.ts';
import { ShardOutlet } from '../../src/shard/outlet.ts';
import { Cause } from '../../src/shared/cause.ts';
import { EXEMPT, OUTBOUND_DIALED, TRANSPORT_TCP, TRANSPORT_UDP } from '../../src/shared/flow-record.ts';
import { Mesh } from '../../src/shared/mesh.ts';
import { latin1 } from '../../src/wire/chars.ts';
import { endpoint, Rig, TCP_LISTENER } from '../proxy/rig.ts';

const CORE = '198.51.100.9:5070';
const RING = 4096;

class FakeNet implements Pick<Net, 'sendDatagram' | 'sendStream' | 'dial' | 'arena'> {
  readonly arena: Arena;
  readonly written: string[] = [];
  readonly dialled: [slot: number, to: string][] = [];
  readonly sources: (string | undefined)[] = [];
  dialError = 0;
  accepts = true;

  constructor(arena: Arena) {
    this.arena = arena;
  }

  sendDatagram(
    listener: number,
    to: Endpoint,
    local: Endpoint | undefined,
    start: number,
    end: number,
  ): void {
    this.written.push(`${listener} ${local ?? '-'} > ${to}: ${latin1(this.arena.mem, start, end)}`);
  }

  sendStream(slot: number, start: number, end: number): boolean {
    if (this.accepts) this.written.push(`${slot}: ${latin1(this.arena.mem, start, end)}`);
    return this.accepts;
  }

  dial(slot: number, to: Endpoint, _host?: string, from?: Endpoint): number {
    this.sources.push(from && `${from}`);
    if (this.dialError === 0) this.dialled.push([slot, `${to}`]);
    return this.dialError;
  }
}

let rig: Rig;
let net: FakeNet;
let outlet: ShardOutlet;
let connections: Connections;
let neighbour: Mesh;
let now: number;

const listenerAt = (address: string, transport: number, id: number): Listener => {
  const at = endpoint(address);
  return { id, transport, address: at, wildcard: at.isWildcard, shard: 0 };
};
const LISTENERS = [
  listenerAt('192.0.2.1:5060', TRANSPORT_UDP, 0),
  listenerAt('192.0.2.1:5060', TRANSPORT_TCP, TCP_LISTENER),
];

/** Over these listeners, of which that one faces the core. */
const connectionsOver = (listeners: readonly Listener[], facing: number) =>
  new Connections(
    net as unknown as Net,
    rig.flows,
    1,
    () => now,
    facing,
    listeners,
    (to) => `${to}` === CORE,
    new Aliases({ flows: rig.flows, exchange: new Exchange(rig.arena), identities: () => undefined }),
  );

beforeEach(() => {
  rig = new Rig({ maxFlows: 32 });
  net = new FakeNet(rig.arena);
  const descriptor = Mesh.allocate(3, RING);
  neighbour = new Mesh(descriptor, 2);
  now = 1000;
  outlet = new ShardOutlet(net as unknown as Net, rig.flows, new Mesh(descriptor, 1), rig.counters);
  connections = connectionsOver(LISTENERS, TCP_LISTENER);
  outlet.connections = connections;
});

/** Puts the text into the out region. */
function range(text: string): [start: number, end: number] {
  const at = rig.arena.reserve();
  rig.arena.mem.set(Buffer.from(text), at);
  rig.arena.outAt = at + text.length;
  return [at, at + text.length];
}
const toFlow = (slot: number, text: string, generation = rig.table.generation(slot)) =>
  outlet.toFlow(slot, generation, ...range(text));
const toConnection = (to: string, text: string) => outlet.toConnection(endpoint(to), ...range(text));

describe('a message for a flow', () => {
  it('leaves as a datagram from the flow’s listener and local address, whichever shard owns it', () => {
    const slot = rig.flows.findOrMake(0, endpoint('203.0.113.7:4711'), endpoint('192.0.2.1:5060'), rig.ds);
    for (const owner of [1, 2]) {
      rig.table.setOwner(slot, owner);
      expect(toFlow(slot, 'a')).toBe(SENT);
    }
    expect(net.written).toEqual(Array(2).fill('0 192.0.2.1:5060 > 203.0.113.7:4711: a'));
    expect(rig.table.messagesOut(slot)).toBe(2);
  });

  it('leaves over its stream where that is ours, and has ended when the stream takes nothing', () => {
    const slot = rig.stream();
    expect(toFlow(slot, 'a')).toBe(SENT);
    net.accepts = false;
    expect(toFlow(slot, 'b')).toBe(ENDED);
    expect(net.written).toEqual([`${slot}: a`]);
  });

  it('goes by ring to the shard that owns the stream, with its name; a full ring is BUSY', () => {
    const slot = rig.stream();
    rig.table.setOwner(slot, 2);
    expect(toFlow(slot, 'hello')).toBe(SENT);
    const got: unknown[] = [];
    neighbour.receive((from, type, ring) => {
      got.push([
        from,
        type,
        ring.word(0),
        ring.word(1),
        latin1(ring.memory, ring.payloadOffset, ring.payloadOffset + ring.payloadLength),
      ]);
    }, 10);
    expect(got).toEqual([[1, FLOW_WRITE, slot, rig.table.generation(slot), 'hello']]);
    let outcome = SENT;
    for (let i = 0; i < 20 && outcome === SENT; i++) outcome = toFlow(slot, 'x'.repeat(500));
    expect([outcome, rig.count('ringFull')]).toEqual([BUSY, 1]);
    expect(net.written).toEqual([]);
  });

  it('of a life that is over has ended, whoever has the record now', () => {
    const slot = rig.stream();
    const generation = rig.table.generation(slot);
    rig.flows.end(slot, generation, Cause.PEER_CLOSED);
    expect(toFlow(slot, 'a', generation)).toBe(ENDED);
    for (let i = 0; i < 32; i++) rig.stream(`203.0.113.9:${i + 1}`);
    expect(toFlow(slot, 'a', generation)).toBe(ENDED);
    expect(outlet.toFlow(-1, 0, 0, 0)).toBe(ENDED);
    expect(net.written).toEqual([]);
  });
});

describe('a connection to a next hop', () => {
  it('is opened by the first message and used by those after it', () => {
    expect(toConnection(CORE, 'a')).toBe(true);
    const [[slot, to]] = net.dialled;
    expect([net.dialled.length, to]).toEqual([1, CORE]);
    expect(toConnection(CORE, 'b')).toBe(true);
    expect(rig.table.isLive(slot, rig.table.generation(slot))).toBe(false); // not before it stands
    expect(connections.connected(slot, 0, rig.ds)).toBe(true);
    expect(rig.table.isLive(slot, rig.table.generation(slot))).toBe(true);
    expect(toConnection(CORE, 'c')).toBe(true);
    expect(net.written).toEqual(['a', 'b', 'c'].map((text) => `${slot}: ${text}`));
    expect([
      rig.table.has(slot, EXEMPT),
      rig.table.has(slot, OUTBOUND_DIALED),
      rig.table.listener(slot),
    ]).toEqual([true, true, TCP_LISTENER]);
    expect(`${rig.flows.remoteOf(slot, new Endpoint())}`).toBe(CORE);
  });

  it.each<[string, string | undefined, string[], number]>([
    ['198.51.100.9:5070', '192.0.2.7:0', ['192.0.2.1:5060', '192.0.2.7:5062'], 1],
    ['198.51.100.9:5070', '192.0.2.1:0', ['192.0.2.1:5060', '192.0.2.7:5062'], 0],
    ['127.0.0.1:5070', '192.0.2.1:0', ['192.0.2.1:5060'], 0],
    ['127.0.0.1:5070', '127.0.0.2:0', ['127.0.0.2:5060'], 0],
    ['198.51.100.9:5070', undefined, ['127.0.0.2:5060'], 0],
    ['198.51.100.9:5070', undefined, ['0.0.0.0:5060'], 0],
    ['198.51.100.9:5070', '192.0.2.1:0', ['[2001:db8::1]:5060', '192.0.2.1:5060'], 0],
    ['[2001:db8::9]:5070', '[2001:db8::1]:0', ['192.0.2.1:5060', '[2001:db8::1]:5060'], 0],
    ['[2001:db8::9]:5070', undefined, ['[::1]:5060'], 0],
    ['[2001:db8::9]:5070', undefined, ['[::]:5060'], 0],
    ['[2001:db8::9]:5070', undefined, ['192.0.2.1:5060'], 0],
  ])('to %s leaves from %s, with listeners %j of which %i faces the core', (to, from, addresses, facing) => {
    const listeners = addresses.map((address, id) => listenerAt(address, TRANSPORT_TCP, id));
    outlet.connections = connectionsOver(listeners, facing);
    expect(toConnection(to, 'a')).toBe(true);
    expect(net.sources).toEqual([from]);
  });

  it('to a host that is not trusted has a deadline like any other flow', () => {
    toConnection('198.51.100.10:5060', 'a');
    const [[slot]] = net.dialled;
    connections.connected(slot, 0, rig.ds);
    expect([rig.table.has(slot, EXEMPT), rig.table.has(slot, OUTBOUND_DIALED)]).toEqual([false, true]);
  });

  it('is one for each address and port', () => {
    for (const to of [
      '198.51.100.9:1',
      '198.51.100.9:2',
      '198.51.100.8:1',
      '[2001:db8::9]:1',
      '198.51.100.9:1',
    ])
      expect(toConnection(to, to)).toBe(true);
    expect(net.dialled.map(([, to]) => to)).toEqual([
      '198.51.100.9:1',
      '198.51.100.9:2',
      '198.51.100.8:1',
      '[2001:db8::9]:1',
    ]);
    expect(new Set(net.dialled.map(([slot]) => slot)).size).toBe(4);
  });

  it('that ends is a flow that ends, and the next message opens another', () => {
    toConnection(CORE, 'a');
    const [[slot]] = net.dialled;
    connections.connected(slot, 0, rig.ds);
    expect(connections.closed(slot, Cause.RESET)).toBe(false); // its flow is the shard's to end
    rig.flows.end(slot, rig.table.generation(slot), Cause.RESET);
    expect(toConnection(CORE, 'b')).toBe(true);
    expect(net.dialled).toHaveLength(2);
    expect(rig.table.used()).toBe(1);
  });

  it('that never stands gives its record back, and its host a pause', () => {
    for (let round = 0; round < 100; round++) {
      expect(toConnection(CORE, 'a')).toBe(true);
      const [slot] = net.dialled[round];
      expect(connections.connected(slot, 111, rig.ds)).toBe(false);
      expect(connections.closed(slot, Cause.CONNECT_FAILED)).toBe(true);
      expect([rig.table.used(), rig.table.owned(1)]).toEqual([0, 0]);
      expect(toConnection(CORE, 'b')).toBe(false);
      now += 999;
      expect(toConnection(CORE, 'c')).toBe(false);
      now += 1;
    }
  });

  it('that cannot even be tried gives its record back too', () => {
    net.dialError = 24;
    for (let round = 0; round < 100; round++) {
      expect(toConnection(CORE, 'a')).toBe(false);
      expect(rig.table.used()).toBe(0);
      now += 1000;
    }
    net.dialError = 0;
    expect(toConnection(CORE, 'a')).toBe(true);
  });

  it('cannot be opened when the table is full', () => {
    for (let i = 0; i < 32; i++) rig.stream(`203.0.113.9:${i + 1}`);
    expect(toConnection(CORE, 'a')).toBe(false);
    expect(net.dialled).toEqual([]);
  });

  it('works on after more hosts than are remembered', () => {
    for (let i = 0; i < 1100; i++) {
      const host = `198.51.${i >> 8}.${i & 255}:5060`;
      expect(toConnection(host, 'a')).toBe(true);
      const [slot] = net.dialled.at(-1)!;
      connections.connected(slot, 0, rig.ds);
      connections.closed(slot, Cause.PEER_CLOSED);
      rig.flows.end(slot, rig.table.generation(slot), Cause.PEER_CLOSED);
      if (i < 1090) continue;
      // the same host at once again: it may have been forgotten meanwhile
      expect(toConnection(host, 'b')).toBe(true);
      const [again] = net.dialled.at(-1)!;
      expect(connections.connected(again, 0, rig.ds)).toBe(true);
      expect(connections.closed(again, Cause.PEER_CLOSED)).toBe(false);
      rig.flows.end(again, rig.table.generation(again), Cause.PEER_CLOSED);
    }
    expect(rig.table.used()).toBe(0);
  });

  it('of a predecessor of this shard is used on', () => {
    const slot = rig.stream(CORE);
    connections.inherit(slot, endpoint(CORE));
    expect(toConnection(CORE, 'a')).toBe(true);
    expect([net.dialled, net.written]).toEqual([[], [`${slot}: a`]]);
    expect(connections.closed(slot, Cause.RESET)).toBe(false);
  });

  it('of somebody else is none of ours', () => {
    const slot = rig.stream();
    expect(connections.connected(slot, 0, rig.ds)).toBe(false);
    expect(connections.closed(slot, Cause.RESET)).toBe(false);
  });
});
