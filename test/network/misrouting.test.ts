/** Many flows on two shards, and requests for them in random order: RFC 5626 section 5.2 under load. */
import { afterEach, describe, expect, it } from 'vitest';
import { Core, numberOf, openMany, phoneOf, registerOn, requestText, UdpWire, type Wire } from './crowd.ts';
import { pause, Watched } from './watched.ts';

const PHONES = 1_000; // of each transport
const REQUESTS = 50_000; // by each kind of core
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

async function begin(transport: 'udp' | 'tcp'): Promise<void> {
  core = await Core.open();
  server = await Watched.start({
    settings: { UPSTREAM: `sip:${core.host}:${core.port};transport=${transport}` },
  });
  const tcp = await openMany('TCP', PHONES, server.address);
  const udp = await openMany('UDP', PHONES, server.address);
  phones = [...tcp, ...udp];
  for (let i = 0; i < phones.length; i += REGISTERING)
    await Promise.all(phones.slice(i, i + REGISTERING).map((phone, k) => registerOn(phone, i + k)));
}

interface Outcome {
  /** requests that came to a phone other than theirs */
  misrouted: number;
  /** that came more than once */
  repeated: number;
  /** the numbers of those that came to no one */
  lost: number[];
}

/** Sends request n by `send(n, phone)`, at most WINDOW ahead of what has arrived. */
async function shower(send: (n: number, phone: number) => void): Promise<Outcome & { target: Uint16Array }> {
  const arrived = new Uint8Array(REQUESTS);
  const target = Uint16Array.from({ length: REQUESTS }, () => Math.floor(Math.random() * phones.length));
  let total = 0;
  let misrouted = 0;
  for (const [i, phone] of phones.entries())
    phone.onText = (text) => {
      const n = numberOf(text);
      if (phoneOf(text) !== i || target[n] !== i) misrouted++;
      arrived[n]++;
      total++;
    };
  let sent = 0;
  let given = 0; // lost datagrams that nobody waits for any more
  while (sent < REQUESTS) {
    while (sent < REQUESTS && sent - total - given < WINDOW) send(sent, target[sent++]);
    const before = total;
    for (let i = 0; i < 200 && total === before; i++) await pause(i < 20 ? 0 : 5);
    if (total === before) given = sent - total;
  }
  for (let i = 0; i < 200 && total < REQUESTS; i++) await pause(5);
  let repeated = 0;
  const lost: number[] = [];
  for (const [n, count] of arrived.entries()) {
    if (count > 1) repeated++;
    else if (count === 0) lost.push(n);
  }
  return { misrouted, repeated, lost, target };
}

describe('requests down 2,000 flows in random order', () => {
  it('from a core on UDP: each comes to its own phone, once [EP-5.2-06]', async () => {
    await begin('udp');
    // several source ports, so that the kernel spreads them over the shards
    const sources = await Promise.all(Array.from({ length: 8 }, () => UdpWire.open(server.address)));
    const { misrouted, repeated, lost, target } = await shower((n, i) => {
      const source = sources[n % sources.length];
      source.send(requestText(source, n, i, core.path[i]));
    });
    for (const source of sources) source.close();
    const { owned, counters } = await server.state();
    expect({ misrouted, repeated }).toEqual({ misrouted: 0, repeated: 0 });
    // a datagram may be lost where a buffer was full; the server itself must not have dropped one
    expect(counters.sendDropped + counters.ringFull + counters.slabFull + counters.flowFailed).toBe(0);
    expect(lost.length).toBeLessThan(REQUESTS / 1_000);
    expect(target.length).toBe(REQUESTS);
    for (const count of owned) expect(count).toBeGreaterThan(PHONES / 4);
  }, 90_000);

  it('from a core on TCP: each comes to its own phone, once, and none is lost on a TCP flow [EP-5.2-06]', async () => {
    await begin('tcp');
    expect(core.connections.length).toBe(2); // one a shard
    const { misrouted, repeated, lost, target } = await shower((n, i) => {
      const source = core.connections[n % core.connections.length];
      source.send(requestText(source, n, i, core.path[i]));
    });
    expect({ misrouted, repeated }).toEqual({ misrouted: 0, repeated: 0 });
    expect(lost.filter((n) => target[n] < PHONES)).toEqual([]);
    expect(lost.length).toBeLessThan(REQUESTS / 1_000);
    const { counters } = await server.state();
    expect(counters.sendDropped + counters.ringFull + counters.slabFull + counters.flowFailed).toBe(0);
  }, 90_000);
});
