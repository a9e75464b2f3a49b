/** What a flow is worth, by who opened it and whom he says it is for. */
import { beforeEach, describe, expect, it } from 'vitest';
import { ACCEPTED, FIRST_MESSAGE } from '../../src/flow/deadline.ts';
import { Flows } from '../../src/flow/flows.ts';
import { Keyring } from '../../src/flow/keyring.ts';
import { Endpoint } from '../../src/net/endpoint.ts';
import { Balancers } from '../../src/shard/balancers.ts';
import { Trust } from '../../src/shard/trust.ts';
import { Clock } from '../../src/shared/clock.ts';
import { Counters } from '../../src/shared/counters.ts';
import { FlowIndex } from '../../src/shared/flow-index.ts';
import { EXEMPT, TRANSPORT_TCP } from '../../src/shared/flow-record.ts';
import { FlowTable } from '../../src/shared/flow-table.ts';

const BALANCER = '192.0.2.1';
const GATEWAY = '198.51.100.7';
const STRANGER = '203.0.113.9';

let table: FlowTable;
let flows: Flows;
let balancers: Balancers;

beforeEach(() => {
  const time = new SharedArrayBuffer(8);
  new Float64Array(time)[0] = 1_000_000;
  table = new FlowTable(FlowTable.allocate(16));
  flows = new Flows({
    self: 1,
    table,
    index: new FlowIndex(FlowIndex.allocate(16, 1, 2), table),
    counters: new Counters(Counters.allocate(2), 1),
    clock: new Clock(Clock.start(time)),
    listeners: [],
    keyring: new Keyring({ current: { id: 1, octets: new Uint8Array(32) } }),
    node: 1,
    incarnation: 1,
    flowTimer: 120,
    grace: 20,
    idle: 600,
  });
  // bits as config/load.ts gives them: of the mapped form
  const networks = [
    { host: BALANCER, bits: 128 },
    { host: '198.51.100.0', bits: 120 },
  ];
  balancers = new Balancers(flows, new Trust(networks, [], undefined), () => undefined);
});

function claim(host: string): number {
  const slot = table.claim(1);
  const { a0, a1, a2, a3, family, port } = Endpoint.parse(host, 5060) as Endpoint;
  table.setKind(slot, TRANSPORT_TCP, family);
  table.setRemote(slot, a0, a1, a2, a3, port);
  return slot;
}

function open(slot: number): void {
  balancers.opened(slot);
  flows.openStream(slot, flows.now());
}

/** The header as the net takes it: who the client is ('' for nobody), or LOCAL. */
function tell(slot: number, host: string | undefined): boolean {
  if (!balancers.mayTell(slot, flows.now())) return false;
  if (host) {
    const { a0, a1, a2, a3, port } = Endpoint.parse(host, 4711) as Endpoint;
    table.setClient(slot, a0, a1, a2, a3, port);
  }
  table.countIn(slot);
  balancers.told(slot, host === undefined);
  return true;
}

const isTrusted = (slot: number) => table.has(slot, EXEMPT);

describe('a flow without a header', () => {
  it.each([
    [BALANCER, true],
    [GATEWAY, true],
    [STRANGER, false],
  ])('of %s is trusted as that address is: %s', (host, trusted) => {
    const slot = claim(host);
    open(slot);
    expect(isTrusted(slot)).toBe(trusted);
    expect(flows.stage(slot)).toBe(ACCEPTED);
  });
});

describe.each(['after it has opened', 'before it has, where a handshake comes first'])(
  'a header %s',
  (when) => {
    const told = (socket: string, host: string | undefined) => {
      const slot = claim(socket);
      const late = when.startsWith('after');
      if (late) open(slot);
      const may = tell(slot, host);
      if (!late) open(slot);
      return { slot, may };
    };

    it.each([
      ['a stranger', STRANGER, false],
      ['one of a trusted network', GATEWAY, true],
      ['somebody over IPv6', '2001:db8::1', false],
      ['nobody known', '', false],
      ['the balancer itself', undefined, true],
    ])('of a trusted balancer for %s: %s, trusted: %s', (_who, host, trusted) => {
      const { slot, may } = told(BALANCER, host);
      expect(may).toBe(true);
      expect(isTrusted(slot)).toBe(trusted);
    });

    it('of a stranger is not for him to send, and changes nothing', () => {
      const { slot, may } = told(STRANGER, GATEWAY);
      expect(may).toBe(false);
      expect(isTrusted(slot)).toBe(false);
    });
  },
);

describe('a header that has only begun', () => {
  it('takes the trust of the socket away, and the flow waits for its first message', () => {
    const slot = claim(BALANCER);
    open(slot);
    balancers.mayTell(slot, flows.now() + 5);
    expect(isTrusted(slot)).toBe(false);
    expect(flows.stage(slot)).toBe(FIRST_MESSAGE);
    balancers.mayTell(slot, flows.now() + 99); // with every further piece of it
    expect(table.deadline(slot)).toBe(flows.now() + 5 + 600);
  });
});
