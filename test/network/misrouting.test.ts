/** Many flows on two shards, and requests for them in random order: RFC 5626 section 5.2 under load. */
import { afterEach, describe, expect, it } from 'vitest';
import {
  answerText,
  Core,
  isStatus,
  numberOf,
  openMany,
  phoneOf,
  registerOn,
  requestText,
  UdpWire,
  type Wire,
} from './crowd.ts';
import { pause, type State, Watched } from './watched.ts';

const PHONES = 1_000; // of each transport
/** requests by each kind of core */
const REQUESTS = { stateful: 50_000, stateless: 25_000 };
type Forwarding = keyof typeof REQUESTS;
/** requests on their way at a time: what fits into the sockets' buffers */
const WINDOW = 400;
const REGISTERING = 100;

let server: Watched;
let core: Core;
let phones: Wire[] = [];

afterEach(async () => {
  for (const phone of phones) phone.close();
  core?.close();
  await server?.stop();
});

async function begin(transport: 'udp' | 'tcp', forwarding: Forwarding): Promise<void> {
  core = await Core.open();
  server = await Watched.start({
    settings: {
      UPSTREAM: `sip:${core.host}:${core.port};transport=${transport}`,
      FORWARDING: forwarding,
    },
  });
  const tcp = await openMany('TCP', PHONES, server.address);
  const udp = await openMany('UDP', PHONES, server.address);
  phones = [...tcp, ...udp];
  for (let i = 0; i < phones.length; i += REGISTERING)
    await Promise.all(phones.slice(i, i + REGISTERING).map((phone, k) => registerOn(phone, i + k)));
}

const onTcp = (phone: number) => phone < PHONES;

interface Outcome {
  /** requests that came to a phone other than theirs, answers that came for none */
  misrouted: number;
  /** by the transport of the phone: requests that came more than once, or to no one; that got no answer */
  repeated: { tcp: number; udp: number };
  lost: { tcp: number; udp: number };
  unanswered: { tcp: number; udp: number };
}

/** Sends request n by `send`, at most WINDOW ahead of the answers; every phone answers 200. */
async function shower(
  requests: number,
  sources: Wire[],
  send: (n: number, phone: number) => void,
): Promise<Outcome> {
  const arrived = new Uint8Array(requests);
  const answers = new Uint8Array(requests);
  const target = Uint16Array.from({ length: requests }, () => Math.floor(Math.random() * phones.length));
  let total = 0;
  let misrouted = 0;
  for (const [i, phone] of phones.entries())
    phone.onText = (text) => {
      const n = numberOf(text);
      if (phoneOf(text) !== i || target[n] !== i) misrouted++;
      arrived[n]++;
      phone.send(answerText(text));
    };
  const answered = (text: string) => {
    if (!isStatus(200)(text)) return;
    const n = numberOf(text);
    if (!(n < requests)) misrouted++;
    else if (answers[n]++ === 0) total++;
  };
  for (const source of sources) source.onText = answered;
  core.onText = answered;
  let sent = 0;
  let given = 0; // lost datagrams that nobody waits for any more
  while (sent < requests) {
    while (sent < requests && sent - total - given < WINDOW) send(sent, target[sent++]);
    const before = total;
    for (let i = 0; i < 200 && total === before; i++) await pause(i < 20 ? 0 : 5);
    if (total === before) given = sent - total;
  }
  for (let i = 0; i < 300 && total < requests; i++) await pause(5);
  const outcome: Outcome = {
    misrouted,
    repeated: { tcp: 0, udp: 0 },
    lost: { tcp: 0, udp: 0 },
    unanswered: { tcp: 0, udp: 0 },
  };
  for (let n = 0; n < requests; n++) {
    const transport = onTcp(target[n]) ? 'tcp' : 'udp';
    if (arrived[n] > 1) outcome.repeated[transport]++;
    if (arrived[n] === 0) outcome.lost[transport]++;
    if (answers[n] === 0) outcome.unanswered[transport]++;
  }
  return outcome;
}

/** Nothing was dropped by the server itself. */
function expectNoDrops({ counters }: State): void {
  const { sendDropped, ringFull, slabFull, flowFailed } = counters;
  expect({ sendDropped, ringFull, slabFull, flowFailed }).toEqual({
    sendDropped: 0,
    ringFull: 0,
    slabFull: 0,
    flowFailed: 0,
  });
}

describe.each(['stateful', 'stateless'] as const)(
  'requests down 2,000 flows in random order, %s',
  (forwarding) => {
    const requests = REQUESTS[forwarding];
    /** a datagram may be lost where a buffer was full */
    const few = requests / 500;

    it('from a core on UDP: each comes to its own phone, and the answer back to the core [EP-5.2-06]', async () => {
      await begin('udp', forwarding);
      // several source ports, so that the kernel spreads them over the shards
      const sources = await Promise.all(Array.from({ length: 8 }, () => UdpWire.open(server.address)));
      const { misrouted, repeated, lost, unanswered } = await shower(requests, sources, (n, i) => {
        const source = sources[n % sources.length];
        source.send(requestText(source, n, i, core.path[i]));
      });
      for (const source of sources) source.close();
      expect(misrouted).toBe(0);
      expect(repeated.tcp).toBe(0);
      // a stateful proxy sends again over UDP when an answer takes longer than T1
      if (forwarding === 'stateless') expect(repeated.udp).toBe(0);
      expect(lost.tcp + lost.udp).toBeLessThan(few);
      expect(unanswered.tcp + unanswered.udp).toBeLessThan(few);
      const state = await server.state();
      expectNoDrops(state);
      for (const count of state.owned) expect(count).toBeGreaterThan(PHONES / 4);
    }, 90_000);

    it('from a core on TCP: each comes to its own phone, and none is lost on a TCP flow [EP-5.2-06]', async () => {
      await begin('tcp', forwarding);
      expect(core.connections.length).toBe(2); // one a shard
      const { misrouted, repeated, lost, unanswered } = await shower(requests, [], (n, i) => {
        const source = core.connections[n % core.connections.length];
        source.send(requestText(source, n, i, core.path[i]));
      });
      expect(misrouted).toBe(0);
      expect(repeated.tcp).toBe(0);
      if (forwarding === 'stateless') expect(repeated.udp).toBe(0);
      expect(lost.tcp).toBe(0);
      expect(unanswered.tcp).toBe(0);
      expect(lost.udp).toBeLessThan(few);
      expect(unanswered.udp).toBeLessThan(few);
      expectNoDrops(await server.state());
    }, 90_000);
  },
);
