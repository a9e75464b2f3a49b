/** WebSocket flows of a shard, with a network that only writes down what it is told. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { Arena } from '../../src/net/arena.ts';
import type { Net } from '../../src/net/net.ts';
import { FramedNet } from '../../src/shard/framed.ts';
import { WebSockets } from '../../src/shard/websockets.ts';
import { Cause } from '../../src/shared/cause.ts';
import { UPGRADING } from '../../src/shared/flow-record.ts';
import { latin1 } from '../../src/wire/chars.ts';
import { endpoint, Rig } from '../proxy/rig.ts';
import { upgrade } from '../ws/rig.ts';

class FakeNet {
  readonly name = 'ffi';
  readonly ready = Promise.resolve();
  readonly arena: Arena;
  readonly written: [start: number, end: number][] = [];
  readonly closed: [slot: number, cause: number, drain: boolean][] = [];
  flushes = 0;

  constructor(arena: Arena) {
    this.arena = arena;
    arena.flush = () => {
      this.flushes++;
      arena.emptied();
    };
  }

  sendStream(_slot: number, start: number, end: number): boolean {
    this.written.push([start, end]);
    return true;
  }

  close(slot: number, cause: number, drain: boolean): void {
    this.closed.push([slot, cause, drain]);
  }

  isOpen(): boolean {
    return true;
  }

  /** The last that was sent. */
  get last(): Buffer {
    const [start, end] = this.written.at(-1) ?? [0, 0];
    return Buffer.from(this.arena.mem.subarray(start, end));
  }
}

let rig: Rig;
let net: FakeNet;
let webSockets: WebSockets;
let framed: FramedNet;
let slot: number;

beforeEach(() => {
  rig = new Rig({ maxFlows: 32 });
  net = new FakeNet(rig.arena);
  const { flows, counters } = rig;
  webSockets = new WebSockets({ net: net as unknown as Net, flows, counters, admit: () => 0 });
  framed = new FramedNet(net as unknown as Net, flows.table, webSockets);
  slot = flow(4);
});

/** A connection of this transport that has just been accepted. */
function flow(transport: number): number {
  const { table } = rig.flows;
  const at = table.claim(1);
  const remote = endpoint('192.0.2.7:40000');
  table.setKind(at, transport, 4);
  table.setRemote(at, remote.a0, remote.a1, remote.a2, remote.a3, remote.port);
  rig.flows.openStream(at, 10);
  if (transport >= 4) webSockets.begin(at);
  return at;
}

/** What a client sends; returns how much of it is used up. */
function bytes(text: string): number {
  const { arena } = rig;
  arena.mem.set(Buffer.from(text, 'latin1'), arena.stream);
  return webSockets.bytes(slot, arena.stream, arena.stream + text.length, 20);
}

/** Puts the octets into the out region, as a message that was composed there. */
function composed(octets: Buffer): [start: number, end: number] {
  const { arena } = rig;
  const at = arena.reserve();
  arena.mem.set(octets, at);
  arena.outAt = at + octets.length;
  return [at, arena.outAt];
}

const MESSAGE = Buffer.from('MESSAGE sip:a SIP/2.0\r\nContent-Length: 0\r\n\r\n');

describe('a flow', () => {
  it.each([4, 5])(
    'of transport %d is no WebSocket before its request, and is one from then on',
    (transport) => {
      slot = flow(transport);
      const request = upgrade('a');
      expect(framed.sendStream(slot, ...composed(MESSAGE))).toBe(false);
      expect(bytes(request.slice(0, 50))).toBe(0);
      expect(rig.flows.table.has(slot, UPGRADING)).toBe(true);
      expect(bytes(request)).toBe(request.length);
      expect(rig.flows.table.has(slot, UPGRADING)).toBe(false);
      expect(net.last.toString()).toMatch(/^HTTP\/1\.1 101 /);
      expect(framed.sendStream(slot, ...composed(MESSAGE))).toBe(true);
      expect(net.last).toEqual(Buffer.concat([Buffer.from([0x81, MESSAGE.length]), MESSAGE]));
    },
  );

  it('that is taken over goes on as what it was', () => {
    const fresh = flow(4);
    bytes(upgrade('a'));
    const { flows, counters } = rig;
    const next = new WebSockets({ net: net as unknown as Net, flows, counters, admit: () => 0 });
    for (const at of [slot, fresh]) {
      next.begin(at);
      rig.flows.openStream(at, 30);
    }
    expect(next.send(slot, ...composed(MESSAGE))).toBe(true);
    expect(next.send(fresh, ...composed(MESSAGE))).toBe(false);
    expect(rig.flows.table.has(slot, UPGRADING)).toBe(false);
    expect(rig.flows.table.has(fresh, UPGRADING)).toBe(true);
  });

  it('of TCP leaves by the network as it is', () => {
    const tcp = flow(2);
    const [start, end] = composed(MESSAGE);
    expect(framed.sendStream(tcp, start, end)).toBe(true);
    expect(net.written.at(-1)).toEqual([start, end]);
    framed.close(tcp, Cause.EXPIRED, false);
    expect(net.closed).toEqual([[tcp, Cause.EXPIRED, false]]);
  });
});

describe('a message that is sent', () => {
  beforeEach(() => {
    bytes(upgrade('a'));
  });

  it('stays where it was composed: transactions keep it from there', () => {
    const [start, end] = composed(MESSAGE);
    framed.sendStream(slot, start, end);
    expect(latin1(rig.arena.mem, start, end)).toBe(MESSAGE.toString());
    expect(net.written.at(-1)?.[0]).toBeGreaterThanOrEqual(end);
  });

  it('gets its frame also where the out region ends with it', () => {
    const { arena } = rig;
    const large = Buffer.alloc(200 * 1024, 'x');
    const start = arena.outLimit - large.length;
    arena.mem.set(large, start);
    arena.outAt = arena.outLimit;
    net.flushes = 0;
    framed.sendStream(slot, start, arena.outLimit);
    expect(net.flushes).toBe(1);
    expect(net.last.length).toBe(large.length + 10);
    expect(net.last.subarray(10).equals(large)).toBe(true);
  });

  it('comes back without its frame where the connection did not take it', () => {
    const start = rig.arena.outAt;
    const other = Buffer.from('SIP/2.0 200 grün\r\n\r\n');
    const tell: string[] = [];
    // in one range, as the network keeps what waits; a Pong stands between
    const parts: Buffer[] = [];
    for (const octets of [MESSAGE, other]) {
      framed.sendStream(slot, ...composed(octets));
      parts.push(net.last, Buffer.from([0x8a, 1, 0x70]));
    }
    const [from, to] = composed(Buffer.concat(parts));
    webSockets.unsent(slot, from, to, (at, a, b) => tell.push(`${at} ${latin1(rig.arena.mem, a, b)}`));
    expect(tell).toEqual([`${slot} ${MESSAGE}`, `${slot} ${other.toString('latin1')}`]);
    expect(start).toBeGreaterThan(0);
    // half a frame, and what is none
    for (const octets of [net.last.subarray(0, 9), Buffer.from('HTTP/1.1 101 x\r\n\r\n')]) {
      tell.length = 0;
      webSockets.unsent(slot, ...composed(octets), () => tell.push('x'));
      expect(tell).toEqual([]);
    }
  });
});

describe('whoever closes', () => {
  it.each([
    [Cause.EXPIRED, 1000],
    [Cause.IDLE, 1000],
    [Cause.REGISTRATION_EXPIRED, 1000],
    [Cause.STAGE_DEADLINE, 1008],
    [Cause.TOO_LARGE, 1009],
    [Cause.MALFORMED, 1002],
    [Cause.SHUTDOWN, 1012],
  ])('with cause %d sends a Close frame with %d first, once', (cause, code) => {
    bytes(upgrade('a'));
    framed.close(slot, cause, false);
    expect(net.last).toEqual(Buffer.from([0x88, 2, code >> 8, code & 255]));
    expect(net.closed).toEqual([[slot, cause, true]]);
    const sent = net.written.length;
    framed.close(slot, cause, false);
    expect(net.written.length).toBe(sent);
  });

  it('what is no WebSocket yet just closes it', () => {
    bytes('GET / HTTP/1.1\r\n');
    framed.close(slot, Cause.STAGE_DEADLINE, false);
    expect(net.written).toEqual([]);
    expect(net.closed).toEqual([[slot, Cause.STAGE_DEADLINE, false]]);
  });
});
