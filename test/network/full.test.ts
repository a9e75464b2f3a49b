/** No flow record is free, or no descriptor: who comes new is refused with a code, who is there stays. */
import { connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { freshHost } from '../harness/ports.ts';
import {
  Core,
  numberOf,
  openMany,
  registerOn,
  registerText,
  requestText,
  TcpWire,
  UdpWire,
  type Wire,
} from './crowd.ts';
import { IO, pause, Watched } from './watched.ts';

const RECORDS = 16;

let server: Watched;
let core: Core | undefined;
const open: Wire[] = [];

afterEach(async () => {
  for (const wire of open.splice(0)) wire.close();
  core?.close();
  core = undefined;
  await server?.stop();
});

const keep = <W extends Wire>(wire: W): W => {
  open.push(wire);
  return wire;
};

const registrar = (settings: Record<string, string> = {}) =>
  Watched.start({
    settings: { DOMAINS: 'example.test', STORE: 'memory:', MAX_FLOWS: String(RECORDS), ...settings },
  });

/** Connects and sees whether a ping is answered; false: the connection was closed. */
async function isServed(): Promise<boolean> {
  const { host, port } = server.address;
  const socket = connect({ host, port, localAddress: freshHost() });
  socket.on('error', () => {});
  const gone = new Promise<boolean>((resolve) => socket.once('close', () => resolve(false)));
  socket.write('\r\n\r\n');
  const pong = new Promise<boolean>((resolve) => socket.once('data', () => resolve(true)));
  const served = await Promise.race([gone, pong]);
  socket.resetAndDestroy();
  return served;
}

/** Asks again until it is: what was closed may take a moment to be free. */
async function becomesServed(): Promise<boolean> {
  for (let i = 0; i < 200; i++) {
    if (await isServed()) return true;
    await pause(20);
  }
  return false;
}

async function call(caller: Wire, phone: Wire, i: number): Promise<void> {
  const got = phone.next((text) => text.startsWith('MESSAGE '));
  caller.send(requestText(caller, i, i, undefined));
  await got;
}

describe('a flow table full of registered flows', () => {
  it('a REGISTER over UDP is answered 503 with Retry-After, a connection is closed; the flows there go on, and room made is used', async () => {
    server = await registrar();
    const phones = [
      ...(await openMany('TCP', RECORDS / 2, server.address)),
      ...(await openMany('UDP', RECORDS / 2, server.address)),
    ].map(keep);
    await Promise.all(phones.map((phone, i) => registerOn(phone, i)));
    expect((await server.state()).used).toBe(RECORDS);

    const late = keep(await UdpWire.open(server.address));
    const refused = late.next();
    late.send(registerText(late, 99));
    const answer = await refused;
    expect(answer).toMatch(/^SIP\/2\.0 503 /);
    expect(answer).toMatch(/\r\nRetry-After: \d+\r\n/);
    expect(await isServed()).toBe(false);
    const { counters, used } = await server.state();
    expect(used).toBe(RECORDS);
    expect(counters.tableFull).toBeGreaterThanOrEqual(2);

    for (const [i, phone] of phones.entries()) await call(late, phone, i);
    await Promise.all(phones.map((phone, i) => registerOn(phone, i))); // a refresh needs no record

    phones[0].close();
    await server.stateBecomes((s) => s.used === RECORDS - 1);
    await registerOn(late, 99);
    await call(phones[9], late, 99);
  });
});

describe('a flow table full of flows that nobody has confirmed', () => {
  it('the oldest makes room for the newest; registered ones do not [EP-5.1-05]', async () => {
    core = await Core.open();
    server = await Watched.start({
      settings: { UPSTREAM: `sip:${core.host}:${core.port}`, MAX_FLOWS: String(RECORDS) },
    });
    const registered = (await openMany('UDP', 4, server.address)).map(keep);
    await Promise.all(registered.map((phone, i) => registerOn(phone, i)));
    // a subscription that the core does not answer: a token is made, nothing confirms it
    const strangers = (await openMany('UDP', RECORDS * 3, server.address)).map(keep);
    let forwarded = 0;
    core.onText = () => forwarded++;
    for (const [k, stranger] of strangers.entries())
      stranger.send(
        requestText(stranger, 1_000 + k, k, undefined, 'SUBSCRIBE').replace(
          'Content-Length',
          `Event: x\r\nContact: <sip:s@192.0.2.1;ob>\r\nContent-Length`,
        ),
      );
    await server.stateBecomes(() => forwarded === strangers.length);
    const { counters, used } = await server.state(); // what it told before may be older than the last message
    expect(used).toBe(RECORDS);
    expect(counters.flowsReclaimed).toBe(strangers.length + registered.length - RECORDS);
    const source = keep(await UdpWire.open(server.address));
    for (const [i, phone] of registered.entries()) {
      const got = phone.next((text) => text.startsWith('MESSAGE '));
      source.send(requestText(source, i, i, core.path[i]));
      expect(numberOf(await got)).toBe(i);
    }
  });
});

describe.skipIf(IO === 'core')('no descriptor left (ffi only)', () => {
  it('connections are reset and counted, those there go on, and new ones are taken after some have gone', async () => {
    const LIMIT = 90;
    const core = await registrarWithDescriptors(LIMIT);
    const phones: TcpWire[] = [];
    for (let open = server.descriptors(); phones.length < LIMIT && (await isServed()); ) {
      expect(await server.descriptorsBecome(open)).toBe(open); // the one that asked is closed there too
      const phone = keep(await TcpWire.open(server.address));
      await registerOn(phone, phones.length);
      phones.push(phone);
      await server.stateBecomes((s) => s.used === phones.length);
      open = server.descriptors();
    }
    expect(phones.length).toBeGreaterThan(4);
    await server.state(); // main is through with the last refusal
    const full = server.descriptors();
    for (let i = 0; i < 10; i++) expect(await isServed()).toBe(false);
    const { counters } = await server.state();
    expect(counters.fdExhausted).toBe(11); // one a refused connection
    expect(server.output.join('').match(/"event":"no-descriptors"/g)).toHaveLength(1);

    for (const [i, phone] of phones.entries()) await call(core, phone, i);
    for (const phone of phones.splice(0, 3)) phone.close();
    expect(await server.descriptorsBecome(full - 3)).toBe(full - 3);
    expect(await becomesServed()).toBe(true);
    expect(await server.descriptorsBecome(full - 3)).toBe(full - 3);
    const again = keep(await TcpWire.open(server.address));
    await registerOn(again, 0);
    await call(core, again, 0);
    expect(server.alive).toBe(true);
  });
});

async function registrarWithDescriptors(descriptors: number): Promise<UdpWire> {
  server = await Watched.start({
    settings: { DOMAINS: 'example.test', STORE: 'memory:', MAX_FLOWS: '1024' },
    descriptors,
  });
  return keep(await UdpWire.open(server.address));
}
