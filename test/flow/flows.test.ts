/** The life of flows on a clock that stands still until it is moved. */
import { describe, expect, it } from 'vitest';
import { ACCEPTED, FIRST_MESSAGE, MESSAGE, NO_STAGE, PROOF_S, STAGES } from '../../src/flow/deadline.ts';
import { Flows, FORGED, GONE, LIVE, PROVISIONAL_S } from '../../src/flow/flows.ts';
import { Keyring } from '../../src/flow/keyring.ts';
import { Endpoint } from '../../src/net/endpoint.ts';
import type { Listener } from '../../src/net/net.ts';
import { Cause } from '../../src/shared/cause.ts';
import { Clock } from '../../src/shared/clock.ts';
import { Counter, type CounterName, Counters } from '../../src/shared/counters.ts';
import { FlowIndex, type FlowIndexDescriptor } from '../../src/shared/flow-index.ts';
import { ADOPTED, DIALOG, EXEMPT, OUTBOUND_DIALED } from '../../src/shared/flow-record.ts';
import { FlowTable, type FlowTableDescriptor, OPEN, PROVISIONAL } from '../../src/shared/flow-table.ts';

const UDP = 1;
const TCP = 2;
const FLOW_TIMER = 120;
const GRACE = 20;
const IDLE = 600;
const LIFE = 1_700_000_000;
const keyring = new Keyring({ current: { id: 7, octets: new Uint8Array(32).fill(1) } });

const at = (text: string): Endpoint => {
  const colon = text.lastIndexOf(':');
  return Endpoint.parse(text.slice(0, colon), Number(text.slice(colon + 1)))!;
};
const LOCAL = at('192.0.2.1:5060');
const LOCAL6 = at('[2001:db8::1]:5060');

interface Shared {
  time: SharedArrayBuffer;
  table: FlowTableDescriptor;
  index: FlowIndexDescriptor;
  counters: ReturnType<typeof Counters.allocate>;
}

interface Options {
  maxFlows?: number;
  incarnation?: number;
  node?: number;
  listeners?: Endpoint[];
  ring?: Keyring;
}

const share = (maxFlows = 64): Shared => ({
  time: new SharedArrayBuffer(8),
  table: FlowTable.allocate(maxFlows),
  index: FlowIndex.allocate(maxFlows, 3, 4),
  counters: Counters.allocate(4),
});

/** One shard's view, over memory that others may share. */
class View {
  readonly table: FlowTable;
  readonly flows: Flows;
  readonly counters: Counters;
  readonly index: FlowIndex;
  readonly ended: [slot: number, generation: number, cause: number][] = [];
  readonly closing: [slot: number, cause: number][] = [];
  readonly #time: Float64Array;

  constructor(
    shared: Shared,
    self = 1,
    { incarnation = LIFE, node = 1, listeners, ring = keyring }: Options = {},
  ) {
    this.#time = new Float64Array(shared.time);
    this.table = new FlowTable(shared.table);
    this.counters = new Counters(shared.counters, self);
    this.index = new FlowIndex(shared.index, this.table);
    const addresses = listeners ?? [LOCAL, LOCAL6];
    this.flows = new Flows({
      self,
      table: this.table,
      index: this.index,
      counters: this.counters,
      clock: new Clock(Clock.start(shared.time)),
      listeners: addresses.map(
        (address, id): Listener => ({ id, transport: UDP, address, wildcard: address.isWildcard, shard: 0 }),
      ),
      keyring: ring,
      node,
      incarnation,
      flowTimer: FLOW_TIMER,
      grace: GRACE,
      idle: IDLE,
    });
    this.flows.ended = (slot, generation, cause) => this.ended.push([slot, generation, cause]);
    this.flows.closeStream = (slot, cause) => this.closing.push([slot, cause]);
  }

  get ds(): number {
    return this.flows.now();
  }

  /** Goes to this second, tick by tick of the wheel's recheck, as a shard's turns do. */
  to(seconds: number): this {
    const target = Math.round(seconds * 1000);
    for (let now = this.#time[0]; now < target; ) {
      now = Math.min(now + 5_000, target);
      this.#time[0] = now;
      this.flows.advance(now);
    }
    return this;
  }

  /** Only the clock: nothing runs. */
  clockTo(seconds: number): this {
    this.#time[0] = seconds * 1000;
    return this;
  }

  make(remote: string, local = LOCAL, listener = 0): number {
    return this.flows.findOrMake(listener, at(remote), local, this.ds);
  }

  find(remote: string, local = LOCAL, listener = 0): number {
    return this.flows.find(listener, at(remote), local);
  }

  stream(remote = '203.0.113.7:4711', flags = 0): number {
    const slot = this.table.claim(1);
    const to = at(remote);
    this.table.setKind(slot, TCP, to.family);
    this.table.setRemote(slot, to.a0, to.a1, to.a2, to.a3, to.port);
    if (flags) this.table.raise(slot, flags);
    this.flows.openStream(slot, this.ds);
    return slot;
  }

  token(slot: number): string {
    this.flows.ensureToken(slot);
    const offset = this.table.tokenOffset(slot);
    return Buffer.from(this.table.tokens.subarray(offset, offset + this.table.tokenLength(slot))).toString();
  }

  resolve(token: string): number {
    const buf = Buffer.from(`<${token}>`, 'latin1');
    return this.flows.resolve(buf, 1, 1 + token.length, this.ds);
  }

  registered(slot: number, expires: number, flowTimer = 0): boolean {
    return this.flows.registered(slot, this.table.generation(slot), expires, flowTimer, this.ds);
  }

  count(name: CounterName): number {
    return this.counters.sum(Counter[name]);
  }

  isLive(slot: number, generation = this.table.generation(slot)): boolean {
    return this.table.isLive(slot, generation);
  }
}

const fresh = (options: Options = {}) => new View(share(options.maxFlows), 1, options);

describe('a UDP flow that is made for a token', () => {
  it('is provisional, found by its addresses and by its token [EP-5.2-05]', () => {
    const v = fresh();
    const slot = v.make('203.0.113.7:4711');
    expect(v.table.state(slot)).toBe(PROVISIONAL);
    expect(v.find('203.0.113.7:4711')).toBe(slot);
    expect(v.make('203.0.113.7:4711')).toBe(slot);
    expect(v.resolve(v.token(slot))).toBe(LIVE);
    expect([v.flows.slot, v.flows.generation]).toEqual([slot, v.table.generation(slot)]);
    expect(`${v.flows.remoteOf(slot, new Endpoint())} ${v.flows.localOf(slot, new Endpoint())}`).toBe(
      '203.0.113.7:4711 192.0.2.1:5060',
    );
  });

  it('is another one for another port, another local address, another listener', () => {
    const v = fresh();
    const slots = [
      v.make('203.0.113.7:4711'),
      v.make('203.0.113.7:4712'),
      v.make('203.0.113.8:4711'),
      v.make('203.0.113.7:4711', at('192.0.2.2:5060')),
      v.make('203.0.113.7:4711', LOCAL, 3),
      v.make('[2001:db8::7]:4711', LOCAL6, 1),
    ];
    expect(new Set(slots).size).toBe(slots.length);
    expect(new Set(slots.map((s) => v.token(s))).size).toBe(slots.length);
    expect(`${v.flows.remoteOf(slots[5], new Endpoint())}`).toBe('[2001:db8::7]:4711');
  });

  it('ends after its provisional life when no 2xx confirms it, and its token gives GONE', () => {
    const v = fresh();
    const slot = v.make('203.0.113.7:4711');
    const token = v.token(slot);
    v.to(PROVISIONAL_S - 0.1);
    expect(v.resolve(token)).toBe(LIVE);
    v.clockTo(PROVISIONAL_S);
    expect(v.resolve(token)).toBe(GONE); // exact in use, whenever the wheel comes by
    v.to(PROVISIONAL_S + 0.2);
    expect(v.find('203.0.113.7:4711')).toBe(-1);
    expect(v.resolve(token)).toBe(GONE);
    expect([v.count('flowsClosed'), v.ended]).toEqual([1, []]);
  });

  it('does not live longer by what comes from it', () => {
    const v = fresh();
    const slot = v.make('203.0.113.7:4711');
    for (let s = 1; s <= PROVISIONAL_S; s++) {
      v.to(s);
      if (s < PROVISIONAL_S) v.flows.keepAlive(slot, v.ds);
    }
    expect(v.to(PROVISIONAL_S + 1).find('203.0.113.7:4711')).toBe(-1);
  });

  it('between the same addresses as an earlier one has another token [EP-3.4-01]', () => {
    const v = fresh({ maxFlows: 16 });
    const tokens = new Set<string>();
    for (let i = 0; i < 40; i++) {
      const slot = v.make('203.0.113.7:4711');
      tokens.add(v.token(slot));
      v.flows.end(slot, v.table.generation(slot), Cause.ICMP);
      for (const token of tokens) expect(v.resolve(token)).toBe(GONE);
    }
    expect(tokens.size).toBe(40);
    expect(v.index.entries()).toBe(0);
  });

  it('is given up when another shard entered the same addresses first', () => {
    const shared = share();
    const a = new View(shared, 1);
    const b = new View(shared, 2);
    const slot = a.make('203.0.113.7:4711');
    expect(b.make('203.0.113.7:4711')).toBe(slot);
    expect(a.table.used()).toBe(1);
  });
});

describe('a full table', () => {
  it('reuses the oldest provisional flow, and its token is then GONE [EP-5.1-05]', () => {
    const v = fresh({ maxFlows: 16 });
    const tokens = Array.from({ length: 16 }, (_, i) =>
      v.token(v.to(i * 0.1).make(`203.0.113.7:${1000 + i}`)),
    );
    for (const [i, token] of tokens.entries()) {
      const slot = v.make(`203.0.113.8:${1000 + i}`);
      expect(slot).toBeGreaterThanOrEqual(0);
      expect(v.resolve(token)).toBe(GONE);
      expect(v.find(`203.0.113.7:${1000 + i}`)).toBe(-1);
      if (i < 15) expect(v.resolve(tokens[i + 1])).toBe(LIVE);
    }
    expect(v.count('flowsReclaimed')).toBe(16);
  });

  it('never reuses a confirmed one: no record, no token [EP-5.1-05]', () => {
    const v = fresh({ maxFlows: 16 });
    const slots = Array.from({ length: 16 }, (_, i) => v.make(`203.0.113.7:${1000 + i}`));
    for (const slot of slots) v.registered(slot, 3600);
    expect(v.make('203.0.113.8:1')).toBe(-1);
    expect(v.count('tableFull')).toBe(1);
    for (const slot of slots) expect(v.isLive(slot)).toBe(true);
    expect(v.resolve(v.token(slots[0]))).toBe(LIVE);
    v.flows.end(slots[3], v.table.generation(slots[3]), Cause.ICMP);
    expect(v.make('203.0.113.8:1')).toBe(slots[3]);
  });

  it('takes a provisional one of another shard, whose timer then does it no harm', () => {
    const shared = share(16);
    const a = new View(shared, 1);
    const b = new View(shared, 2);
    for (let i = 0; i < 16; i++) a.make(`203.0.113.7:${1000 + i}`);
    b.clockTo(20);
    const slot = b.make('203.0.113.8:1');
    expect(a.table.owner(slot)).toBe(2);
    a.to(PROVISIONAL_S + 1);
    expect(b.isLive(slot)).toBe(true);
    expect(a.count('flowsClosed')).toBe(15);
    a.to(20 + PROVISIONAL_S + 10); // its time is over, but that is for its owner to say
    expect(b.isLive(slot)).toBe(true);
    b.to(20 + PROVISIONAL_S + 15);
    expect(b.isLive(slot)).toBe(false);
  });
});

describe('the deadline of a UDP flow', () => {
  it('after a 2xx with Flow-Timer is that silence and the grace, and any octet starts it anew [EP-5.4-08]', () => {
    const v = fresh();
    const slot = v.make('203.0.113.7:4711');
    const token = v.token(slot);
    expect(v.registered(slot, 3600, FLOW_TIMER)).toBe(true);
    expect(v.table.state(slot)).toBe(OPEN);
    v.to(FLOW_TIMER);
    expect(v.resolve(token)).toBe(LIVE);
    v.flows.touch(slot, v.ds);
    v.to(FLOW_TIMER * 2 + GRACE - 1);
    expect(v.resolve(token)).toBe(LIVE);
    v.flows.keepAlive(slot, v.ds);
    const from = FLOW_TIMER * 2 + GRACE - 1;
    v.to(from + FLOW_TIMER + GRACE);
    expect(v.resolve(token)).toBe(LIVE);
    v.clockTo(from + FLOW_TIMER + GRACE + 0.1);
    expect(v.resolve(token)).toBe(GONE);
    v.to(from + FLOW_TIMER + GRACE + 31);
    expect(v.ended).toEqual([[slot, v.table.generation(slot), Cause.EXPIRED]]);
    expect(v.count('flowsExpired')).toBe(1);
  });

  it('without Flow-Timer is the end of the longest registration and the grace', () => {
    const v = fresh();
    const slot = v.make('203.0.113.7:4711');
    const token = v.token(slot);
    v.registered(slot, 300);
    v.to(10);
    v.registered(slot, 100); // another address-of-record, for a shorter time
    v.to(300 + GRACE - 0.1);
    expect(v.resolve(token)).toBe(LIVE);
    v.to(300 + GRACE + 0.2);
    expect(v.resolve(token)).toBe(GONE);
    expect(v.ended.map((e) => e[2])).toEqual([Cause.REGISTRATION_EXPIRED]);
  });

  it('does not come nearer when a phone takes back one of its addresses-of-record', () => {
    const v = fresh();
    const plain = v.make('203.0.113.7:1');
    v.registered(plain, 600);
    const timed = v.make('203.0.113.7:2');
    v.registered(timed, 600, FLOW_TIMER);
    expect(v.registered(plain, 0)).toBe(false);
    expect(v.registered(timed, 0)).toBe(false);
    v.to(FLOW_TIMER + GRACE - 1);
    expect(v.isLive(plain) && v.isLive(timed)).toBe(true);
    v.to(FLOW_TIMER + GRACE + 31);
    expect(v.isLive(plain)).toBe(true);
    expect(v.ended.map((e) => e[2])).toEqual([Cause.EXPIRED]);
    v.to(600 + GRACE + 1);
    expect(v.ended.map((e) => e[2])).toEqual([Cause.EXPIRED, Cause.REGISTRATION_EXPIRED]);
  });

  it('of a flow whose first 2xx leaves no binding is the grace', () => {
    const v = fresh();
    const slot = v.make('203.0.113.7:4711');
    v.registered(slot, 0);
    v.to(GRACE - 1);
    expect(v.isLive(slot)).toBe(true);
    v.to(GRACE + 31);
    expect(v.ended.map((e) => e[2])).toEqual([Cause.REGISTRATION_EXPIRED]);
  });

  it('of a flow with a dialog is the idle limit after its last octet', () => {
    const v = fresh();
    const slot = v.make('203.0.113.7:4711');
    v.flows.hasDialog(slot, v.table.generation(slot));
    expect(v.table.state(slot)).toBe(OPEN);
    v.to(400);
    v.flows.touch(slot, v.ds);
    v.to(400 + IDLE - 1);
    expect(v.isLive(slot)).toBe(true);
    v.to(400 + IDLE + 31);
    expect(v.ended.map((e) => e[2])).toEqual([Cause.IDLE]);
  });

  it('that another shard shortened is seen by the owner within half a minute', () => {
    const shared = share();
    const owner = new View(shared, 1);
    const other = new View(shared, 2);
    const slot = owner.make('203.0.113.7:4711');
    other.registered(slot, 86_400);
    owner.to(60);
    other.registered(slot, 86_400, 10);
    expect(other.resolve(owner.token(slot))).toBe(GONE);
    owner.to(95);
    expect(owner.ended.map((e) => e[2])).toEqual([Cause.EXPIRED]);
  });

  it('is never reached by a flow to the core', () => {
    const v = fresh();
    const slot = v.stream('198.51.100.9:5060', EXEMPT);
    v.to(100_000);
    expect([v.isLive(slot), v.closing]).toEqual([true, []]);
  });

  it('a stale name changes nothing', () => {
    const v = fresh();
    const slot = v.make('203.0.113.7:4711');
    const generation = v.table.generation(slot);
    v.flows.end(slot, generation, Cause.ICMP);
    expect(v.flows.registered(slot, generation, 3600, 60, v.ds)).toBe(false);
    v.flows.end(slot, generation, Cause.ICMP);
    v.flows.hasDialog(slot, generation);
    expect(v.count('flowsClosed')).toBe(1);
    expect(v.flows.registered(-1, 1, 1, 1, 1)).toBe(false);
  });
});

describe('a stream', () => {
  it('that proves nothing is closed after its stage, whatever it sends', () => {
    const v = fresh();
    const slot = v.stream();
    v.flows.enter(slot, NO_STAGE, v.ds);
    for (let s = 10; s <= PROOF_S + 31; s += 10) {
      v.to(s);
      if (v.isLive(slot)) v.flows.keepAlive(slot, v.ds);
    }
    expect(v.closing).toEqual([[slot, Cause.STAGE_DEADLINE]]);
    expect(v.count('stageDeadlines')).toBe(1);
    v.flows.end(slot, v.table.generation(slot), Cause.STAGE_DEADLINE); // as its net reports it
    expect(v.ended.map((e) => e[2])).toEqual([Cause.STAGE_DEADLINE]);
    expect(v.table.used()).toBe(0);
  });

  it('on which nothing comes is closed sooner, and so is one that makes no end with its first message', () => {
    const v = fresh();
    const silent = v.stream('203.0.113.7:1');
    const slow = v.stream('203.0.113.7:2');
    const { seconds } = STAGES[FIRST_MESSAGE];
    v.to(20);
    v.flows.touch(slow, v.ds);
    v.flows.enter(slow, FIRST_MESSAGE, v.ds);
    for (let s = 21; s <= seconds + 21; s++) {
      v.to(s);
      v.flows.keepAlive(slow, v.ds);
      expect(v.closing.length).toBe(s >= seconds + 20 ? 2 : s >= STAGES[ACCEPTED].seconds ? 1 : 0);
    }
    expect(v.closing).toEqual([
      [silent, Cause.NO_OCTET],
      [slow, Cause.NO_MESSAGE],
    ]);
  });

  it('that is registered is closed amid a message without an end', () => {
    const v = fresh();
    const slot = v.stream();
    v.flows.enter(slot, NO_STAGE, v.ds);
    v.flows.registered(slot, v.table.generation(slot), 3600, 120, v.ds);
    v.to(100);
    v.flows.touch(slot, v.ds);
    v.flows.enter(slot, MESSAGE, v.ds);
    for (let s = 110; s <= 170; s += 10) {
      v.to(s);
      v.flows.touch(slot, v.ds);
    }
    expect(v.closing).toEqual([[slot, Cause.UNFINISHED]]);
  });

  it('that we dialled may be silent until it has to prove something', () => {
    const v = fresh();
    const slot = v.stream('203.0.113.7:1', OUTBOUND_DIALED);
    v.to(PROOF_S - 1);
    expect(v.closing).toEqual([]);
    v.to(PROOF_S + 31);
    expect(v.closing).toEqual([[slot, Cause.STAGE_DEADLINE]]);
  });

  it('that is found not to be believed has its deadline from then on, and none while it is', () => {
    const v = fresh();
    const slot = v.stream('203.0.113.7:1', EXEMPT);
    v.to(1_000);
    expect(v.closing).toEqual([]);
    v.flows.setExempt(slot, false);
    v.to(1_001);
    expect(v.closing).toEqual([[slot, Cause.NO_OCTET]]);
    v.flows.setExempt(slot, true);
    v.to(2_000);
    expect(v.closing).toHaveLength(1);
  });

  it('of a balancer belongs to the client that it tells of, of whatever family', () => {
    const v = fresh();
    const slot = v.stream('203.0.113.7:1');
    const client = new Endpoint();
    expect(`${v.flows.clientOf(slot, client)}`).toBe('203.0.113.7:1');
    for (const text of ['[2001:db8::9]:4711', '192.0.2.9:4712']) {
      const { a0, a1, a2, a3, port } = at(text);
      v.table.setClient(slot, a0, a1, a2, a3, port);
      expect(`${v.flows.clientOf(slot, client)}`).toBe(text);
    }
    expect(`${v.flows.remoteOf(slot, client)}`).toBe('203.0.113.7:1');
  });

  it('with a registration lives by it, and is closed by its network first', () => {
    const v = fresh();
    const slot = v.stream();
    v.flows.enter(slot, NO_STAGE, v.ds);
    expect(v.registered(slot, 600, 60)).toBe(true);
    expect(v.registered(slot, 600, 60)).toBe(false);
    v.to(60 + GRACE + 31);
    expect(v.closing).toEqual([[slot, Cause.EXPIRED]]);
    expect(v.isLive(slot)).toBe(true);
  });

  it('has a token that no other stream has, and that ends with it [EP-3.4-01]', () => {
    const v = fresh();
    const first = v.stream();
    const token = v.token(first);
    expect(v.resolve(token)).toBe(LIVE);
    v.flows.end(first, v.table.generation(first), Cause.PEER_CLOSED);
    const again = v.stream();
    expect(v.token(again)).not.toBe(token);
    expect(v.resolve(token)).toBe(GONE);
    expect(v.resolve(v.token(again))).toBe(LIVE);
  });
});

describe('a token', () => {
  it('that was changed anywhere is FORGED', () => {
    const v = fresh();
    for (const slot of [v.make('203.0.113.7:4711'), v.make('[2001:db8::7]:1', LOCAL6, 1), v.stream()]) {
      const token = v.token(slot);
      for (let i = 0; i < token.length; i++) {
        const other = token[i] === 'A' ? 'B' : 'A';
        expect([i, v.resolve(token.slice(0, i) + other + token.slice(i + 1))]).toEqual([i, FORGED]);
      }
      for (const text of ['', 'alice', token.slice(1), `${token}A`, '!'.repeat(token.length)])
        expect(v.resolve(text)).toBe(FORGED);
      expect(v.flows.slot).toBe(-1);
      expect(v.resolve(token)).toBe(LIVE);
    }
  });

  it('of another node of the cluster is GONE, also where a flow here has the same name', () => {
    const here = fresh();
    const there = fresh({ node: 2 });
    const mine = here.stream();
    const theirs = there.stream();
    expect([mine, here.table.generation(mine)]).toEqual([theirs, there.table.generation(theirs)]);
    expect(here.resolve(there.token(theirs))).toBe(GONE);
    const udp = there.make('203.0.113.7:4711');
    here.make('203.0.113.7:4711');
    expect(here.resolve(there.token(udp))).toBe(GONE);
  });

  it('made with the key before names the live flow still', () => {
    const shared = share();
    const old = new View(shared);
    const slot = old.make('203.0.113.7:4711');
    const token = old.token(slot);
    const rotated = new View(shared, 2, { ring: keyring.rotate() });
    expect(rotated.resolve(token)).toBe(LIVE);
    const twice = new View(shared, 3, { ring: keyring.rotate().rotate() });
    // the kept text is the proof: no key is needed while the flow lives
    expect(twice.resolve(token)).toBe(LIVE);
    old.flows.end(slot, old.table.generation(slot), Cause.ICMP);
    expect(rotated.resolve(token)).toBe(GONE);
    expect(twice.resolve(token)).toBe(FORGED);
  });
});

describe('after a restart, a UDP token of the life before', () => {
  const WINDOW = FLOW_TIMER + GRACE;
  const NEXT = { incarnation: LIFE + 100 };

  function tokenOf(remote = '203.0.113.7:4711', local = LOCAL, listener = 0): string {
    const v = fresh();
    return v.token(v.make(remote, local, listener));
  }

  it('makes a provisional flow for its addresses within the window', () => {
    const v = fresh(NEXT).to(WINDOW);
    expect(v.resolve(tokenOf())).toBe(LIVE);
    const { slot } = v.flows;
    expect([v.table.state(slot), v.table.has(slot, ADOPTED), v.count('flowsAdopted')]).toEqual([
      PROVISIONAL,
      true,
      1,
    ]);
    expect(v.find('203.0.113.7:4711')).toBe(slot);
    expect(`${v.flows.remoteOf(slot, new Endpoint())}`).toBe('203.0.113.7:4711');
    expect(v.resolve(tokenOf())).toBe(LIVE);
    expect([v.flows.slot, v.count('flowsAdopted')]).toEqual([slot, 1]);
  });

  it('and IPv6 the same', () => {
    const v = fresh(NEXT);
    expect(v.resolve(tokenOf('[2001:db8::7]:9', LOCAL6, 1))).toBe(LIVE);
    expect(`${v.flows.remoteOf(v.flows.slot, new Endpoint())}`).toBe('[2001:db8::7]:9');
  });

  it('makes none after the window', () => {
    const v = fresh(NEXT).to(WINDOW + 0.1);
    expect(v.resolve(tokenOf())).toBe(GONE);
    expect(v.table.used()).toBe(0);
  });

  it('is confirmed by any datagram from there, and then lives by what is heard', () => {
    const v = fresh(NEXT).to(10);
    v.resolve(tokenOf());
    const { slot } = v.flows;
    v.to(20);
    v.flows.touch(slot, v.ds);
    expect([v.table.state(slot), v.table.has(slot, ADOPTED), v.table.has(slot, DIALOG)]).toEqual([
      OPEN,
      false,
      true,
    ]);
    v.to(WINDOW + 100);
    expect(v.resolve(tokenOf())).toBe(LIVE);
    v.to(20 + IDLE + 31);
    expect(v.ended.map((e) => e[2])).toEqual([Cause.IDLE]);
    expect(v.resolve(tokenOf())).toBe(GONE);
  });

  it('ends with its provisional life when nothing comes from there', () => {
    const v = fresh(NEXT).to(WINDOW - 1);
    expect(v.resolve(tokenOf())).toBe(LIVE);
    v.to(WINDOW + PROVISIONAL_S + 1);
    expect(v.resolve(tokenOf())).toBe(GONE);
  });

  it('later is good for a flow that was heard within the window and lives', () => {
    const v = fresh(NEXT).to(WINDOW);
    const slot = v.make('203.0.113.7:4711');
    v.registered(slot, 3600);
    v.to(WINDOW + 1000);
    expect(v.resolve(tokenOf())).toBe(LIVE);
    expect(v.flows.slot).toBe(slot);
    v.flows.end(slot, v.table.generation(slot), Cause.ICMP);
    expect(v.resolve(tokenOf())).toBe(GONE);
  });

  it('later is not good for a flow of those addresses that is new: it may be another client', () => {
    const v = fresh(NEXT).to(WINDOW + 0.1);
    const slot = v.make('203.0.113.7:4711');
    v.registered(slot, 3600);
    expect(v.resolve(tokenOf())).toBe(GONE);
    expect(v.resolve(v.token(slot))).toBe(LIVE);
  });

  it('is GONE where its local address is no listener any more', () => {
    const token = tokenOf();
    for (const listeners of [[at('192.0.2.2:5060')], [at('192.0.2.1:5062')], [LOCAL6], [at('[::]:5060')]]) {
      expect(fresh({ ...NEXT, listeners }).resolve(token)).toBe(GONE);
    }
    expect(fresh({ ...NEXT, listeners: [at('0.0.0.0:5060')] }).resolve(token)).toBe(LIVE);
  });

  it('is taken up on the listener that has the address now', () => {
    const v = fresh({ ...NEXT, listeners: [at('192.0.2.9:5060'), LOCAL] });
    expect(v.resolve(tokenOf())).toBe(LIVE);
    expect(v.table.listener(v.flows.slot)).toBe(1);
  });

  it('of a life that has not been is GONE, and one that was changed is FORGED', () => {
    const v = fresh({ incarnation: LIFE - 1 });
    const token = tokenOf();
    expect(v.resolve(token)).toBe(GONE);
    expect(
      fresh(NEXT).resolve(`${token.slice(0, 20)}${token[20] === 'A' ? 'B' : 'A'}${token.slice(21)}`),
    ).toBe(FORGED);
  });

  it('is GONE when no record is free [EP-5.1-05]', () => {
    const v = fresh({ ...NEXT, maxFlows: 16 });
    for (let i = 0; i < 16; i++) v.registered(v.make(`203.0.113.8:${1 + i}`), 3600);
    expect(v.resolve(tokenOf())).toBe(GONE);
  });

  it('of a stream is GONE always', () => {
    const before = fresh();
    const token = before.token(before.stream());
    const v = fresh(NEXT);
    v.stream();
    expect(v.resolve(token)).toBe(GONE);
  });
});

describe('the successor of a dead shard', () => {
  it('takes up every flow of its number, timers and all, and no other', () => {
    const shared = share();
    const dead = new View(shared, 1);
    const other = new View(shared, 2);
    const udp = dead.make('203.0.113.7:1');
    const provisional = dead.make('203.0.113.7:2');
    const stream = dead.stream();
    const foreign = other.make('203.0.113.7:3');
    dead.registered(udp, 100);
    const heir = new View(shared, 1);
    const streams: [number, number][] = [];
    expect(heir.flows.inherit((slot, generation) => streams.push([slot, generation]))).toBe(3);
    expect(streams).toEqual([[stream, heir.table.generation(stream)]]);
    heir.to(PROVISIONAL_S + 1);
    expect([heir.isLive(provisional), heir.isLive(udp), heir.isLive(foreign)]).toEqual([false, true, true]);
    heir.to(PROOF_S + GRACE + 31);
    expect(heir.ended.map((e) => e[0])).toEqual([udp]);
    expect(heir.closing.map((e) => e[0])).toEqual([stream]);
  });
});

it('the next timer is known, and there is none without flows', () => {
  const v = fresh();
  expect(v.flows.advance(0)).toBe(Number.POSITIVE_INFINITY);
  v.make('203.0.113.7:1');
  const next = v.flows.advance(0);
  expect(next).toBeGreaterThan(0);
  expect(next).toBeLessThanOrEqual(PROVISIONAL_S * 1000 + 100);
});
