/**
 * A shard dies of an exception while thousands of flows are registered: its replacement takes up the
 * quiet ones, the others end with a cause, and nothing leaks.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  Core,
  isStatus,
  numberOf,
  openMany,
  optionsText,
  registerOn,
  registerText,
  requestText,
  TcpWire,
  UdpWire,
  type Wire,
} from './crowd.ts';
import { IO, pause, Watched } from './watched.ts';

const PHONES = 1_000; // of each transport
const AT_A_TIME = 200;
const VICTIM = 0;

let server: Watched;
let caller: UdpWire;
const phones: Wire[] = [];

async function inGroups<T>(list: T[], each: (item: T, i: number) => Promise<unknown>): Promise<void> {
  for (let i = 0; i < list.length; i += AT_A_TIME)
    await Promise.all(list.slice(i, i + AT_A_TIME).map((item, k) => each(item, i + k)));
}

/** Phone i is called by its AOR, and gets it on its flow. */
async function call(i: number): Promise<void> {
  const got = phones[i].next((text) => text.startsWith('MESSAGE '));
  caller.send(requestText(caller, i, i, undefined));
  await got;
}

const isPong = (text: string) => text === '\r\n';
const tcpPhones = () => phones.filter((phone) => phone instanceof TcpWire);

/** A connection of the shard that is to die. */
async function onVictim(): Promise<number> {
  const flows = await server.flows();
  const i = phones.findIndex(
    (phone) =>
      phone.transport === 'TCP' &&
      flows.some((f) => f.owner === VICTIM + 1 && f.transport === 2 && f.peer === phone.hostPort),
  );
  expect(i).toBeGreaterThanOrEqual(0);
  return i;
}

describe.skipIf(IO === 'core')('a shard that dies of an exception (ffi only)', () => {
  beforeAll(async () => {
    server = await Watched.start({ settings: { DOMAINS: 'example.test', STORE: 'memory:' } });
    caller = await UdpWire.open(server.address);
    phones.push(...(await openMany('TCP', PHONES, server.address)));
    phones.push(...(await openMany('UDP', PHONES, server.address)));
    await inGroups(phones, registerOn);
  }, 60_000);

  afterAll(async () => {
    for (const phone of phones) phone.close();
    caller?.close();
    await server?.stop();
  });

  it.each([1, 2, 3])(
    'for the %d. time: quiet flows of both transports answer again, one in mid-message is closed and its binding retires, no descriptor is lost',
    async (death) => {
      const before = await server.state();
      const descriptors = server.descriptors();
      const cut = await onVictim();
      const half = phones[cut] as TcpWire;
      const registration = registerText(half, cut);
      half.send(registration.slice(0, registration.length / 2));
      const flagged = await flagsOf(half);
      expect(flagged & 1).toBe(1); // the server has the first half

      const replaced = server.failShard(VICTIM);
      // main goes on: it answers, and accepts
      expect((await server.state()).used).toBeGreaterThan(0);
      const fresh = await newcomer();
      // a ping may come before, while and after the shard dies: each is answered
      await inGroups(tcpPhones(), async (phone) => {
        if (phone === half) return;
        const pong = phone.next(isPong);
        phone.send('\r\n\r\n');
        await pong;
      });
      await replaced; // a request in the hands of the dying shard would be lost
      const quiet = phones.map((_, i) => i).filter((i) => i !== cut);
      await inGroups(quiet, call);

      await half.gone;
      const gone = caller.next(isStatus(480));
      caller.send(requestText(caller, cut, cut, undefined));
      await gone;

      // the place of the lost one is taken by the new connection; then all is as it was
      phones[cut] = fresh;
      await registerOn(fresh, cut);
      await call(cut);
      const after = await server.state();
      expect(after.used).toBe(before.used);
      expect(await server.descriptorsBecome(descriptors)).toBe(descriptors);
      expect(server.alive).toBe(true);
      expect(server.output.join('').match(/"event":"shard-replaced"/g)).toHaveLength(death);
    },
    60_000,
  );
});

describe.skipIf(IO === 'core')('an edge whose shard dies (ffi only)', () => {
  it('goes on with the connections to its core: none is lost, none is doubled', async () => {
    const core = await Core.open();
    const edge = await Watched.start({
      settings: { UPSTREAM: `sip:${core.host}:${core.port};transport=tcp` },
    });
    const phones = await openMany('TCP', 20, edge.address);
    try {
      await Promise.all(phones.map((phone, i) => registerOn(phone, i)));
      expect(core.connections).toHaveLength(2);
      const descriptors = edge.descriptors();
      for (let death = 1; death <= 3; death++) {
        await edge.failShard(VICTIM);
        // over both shards to the core, and back down the flows
        for (const [i, phone] of phones.entries()) {
          await registerOn(phone, i);
          const got = phone.next((text) => text.startsWith('MESSAGE '));
          const source = core.connections[i % core.connections.length];
          source.send(requestText(source, i, i, core.path[i]));
          await got;
        }
        expect(core.connections).toHaveLength(2);
        expect(await edge.descriptorsBecome(descriptors)).toBe(descriptors);
      }
    } finally {
      for (const phone of phones) phone.close();
      core.close();
      await edge.stop();
    }
  }, 60_000);

  it('under traffic, three times: requests may be lost with it, flows between messages are not', async () => {
    const core = await Core.open();
    const edge = await Watched.start({ settings: { UPSTREAM: `sip:${core.host}:${core.port}` } });
    const phones = [
      ...(await openMany('TCP', 100, edge.address)),
      ...(await openMany('UDP', 100, edge.address)),
    ];
    const source = await UdpWire.open(edge.address);
    let n = 0;
    try {
      await Promise.all(phones.map((phone, i) => registerOn(phone, i)));
      const descriptors = edge.descriptors();
      for (let death = 1; death <= 3; death++) {
        let replaced: Promise<void> | undefined;
        for (let round = 0; round < 60; round++) {
          for (let i = 0; i < phones.length; i += 2) source.send(requestText(source, n++, i, core.path[i]));
          for (const phone of phones) phone.send(optionsText(phone, `storm-${n++}`));
          if (round === 20) replaced = edge.failShard(VICTIM);
          await pause(1);
        }
        await replaced;
        // a connection of the dead shard that was in mid-message is closed, any other answers
        for (const [i, phone] of phones.entries()) {
          if (!(phone instanceof TcpWire) || (await isServed(phone))) continue;
          phones[i] = await TcpWire.open(edge.address);
          await registerOn(phones[i], i);
        }
        const mark = ++n + 1_000_000;
        const got = phones.map((phone) => phone.next((text) => numberOf(text) === mark));
        for (const [i] of phones.entries()) source.send(requestText(source, mark, i, core.path[i]));
        await Promise.all(got);
        await edge.stateBecomes((s) => s.used === phones.length);
      }
      expect(await edge.descriptorsBecome(descriptors)).toBe(descriptors);
    } finally {
      for (const phone of phones) phone.close();
      source.close();
      core.close();
      await edge.stop();
    }
  }, 60_000);
});

/** Answers a ping; false: is closed. */
async function isServed(wire: TcpWire): Promise<boolean> {
  const pong = wire.next(isPong).then(() => true);
  pong.catch(() => {}); // after the end nobody waits for it
  wire.send('\r\n\r\n');
  return await Promise.race([pong, wire.gone.then(() => false)]);
}

/** A connection that is served. One that was on its way to the shard when it died is closed: then the next. */
async function newcomer(): Promise<TcpWire> {
  for (;;) {
    const wire = await TcpWire.open(server.address);
    if (await isServed(wire)) return wire;
  }
}

async function flagsOf(wire: Wire): Promise<number> {
  for (let i = 0; i < 100; i++) {
    const flags =
      (await server.flows()).find((f) => f.transport === 2 && f.peer === wire.hostPort)?.flags ?? 0;
    if (flags & 1) return flags;
  }
  return 0;
}
