/** The first octets of a connection, on both backends: a PROXY header is taken off, and nothing else. */
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Cause } from '../../src/shared/cause.ts';
import { PARTIAL_IN, PROXIED, TRANSPORT_TLS } from '../../src/shared/flow-record.ts';
import { block, line } from '../harness/proxy.ts';
import { backends, Reader, Rig, until } from './rig.ts';

const CLIENT = { host: '203.0.113.9', port: 40_000 };
const CLIENT6 = { host: '2001:db8::9', port: 40_001 };
const TO = { host: '192.0.2.1', port: 5060 };
const TO6 = { host: '2001:db8::1', port: 5060 };
const HEADERS: [string, Buffer, typeof CLIENT][] = [
  ['version 1', Buffer.from(line(CLIENT, TO)), CLIENT],
  ['version 1, IPv6', Buffer.from(line(CLIENT6, TO6)), CLIENT6],
  ['version 2', block(CLIENT, TO), CLIENT],
  ['version 2 with TLVs', block(CLIENT6, TO6, Buffer.alloc(500, 4)), CLIENT6],
];

describe.each(backends)('the %s backend', (name) => {
  let rig: Rig;
  beforeEach(async () => {
    rig = await Rig.start(name);
  });
  afterEach(() => rig.stop());

  const written = async (client: { write(b: Buffer, done: () => void): boolean }, bytes: Buffer) => {
    const done = Promise.withResolvers<void>();
    client.write(bytes, done.resolve);
    await done.promise;
  };
  /** Several turns, so that what was written has been read. */
  const settled = async () => {
    for (let i = 0; i < 3; i++) await rig.turned();
  };
  const told = (slot: number) => ({
    words: [0, 1, 2, 3].map((i) => rig.flows.client(slot, i)),
    port: rig.flows.clientPort(slot),
    flag: rig.flows.has(slot, PROXIED),
  });
  const closed = (slot: number) =>
    until(() => rig.on.closes.some((c) => c.slot === slot), 'it is not closed');

  it.each(HEADERS)('takes a header of %s off, whole and before a message', async (_what, header, who) => {
    const { client, slot } = await rig.connect();
    client.write(Buffer.concat([header, Buffer.from('OPTIONS')]));
    await until(() => rig.on.text(slot) === 'OPTIONS', 'the octets behind the header do not come');
    expect(rig.on.introductions).toEqual([{ slot, local: false }]);
    expect(told(slot)).toMatchObject({ port: who.port, flag: true });
    client.destroy();
  });

  it.each(HEADERS)('takes a header of %s off that comes octet by octet', async (_what, header, who) => {
    const { client, slot } = await rig.connect();
    client.setNoDelay(true);
    const ping = header[0] === 13 ? '\r\n\r\n' : '';
    for (const octet of header.subarray(0, 60)) {
      await written(client, Buffer.from([octet]));
      await rig.turned();
    }
    await settled();
    if (header.length > 60) expect(rig.on.introductions).toEqual([]);
    await written(client, header.subarray(60));
    await written(client, Buffer.from('OPTIONS'));
    await until(() => rig.on.text(slot) === `${ping}OPTIONS`, 'the octets behind the header do not come');
    expect(rig.on.introductions).toEqual([{ slot, local: false }]);
    expect(told(slot)).toMatchObject({ port: who.port, flag: true });
    expect(rig.flows.has(slot, PARTIAL_IN)).toBe(false);
    client.destroy();
  });

  it('looks for one header and no more', async () => {
    const { client, slot } = await rig.connect();
    const second = line(CLIENT6, TO6);
    client.write(Buffer.concat([block(CLIENT, TO), Buffer.from(second)]));
    await until(() => rig.on.text(slot) === second, 'the second is not handed up');
    expect(told(slot).port).toBe(CLIENT.port);
    client.destroy();
  });

  it.each(['PRACK sip:a SIP/2.0', 'PROX', 'P', '\r\n\r\nOPTIONS', '\r\n\r\n\r\n\r\n', '\0\x01'])(
    'hands up what is no header, however it is cut: %j',
    async (text) => {
      const whole = await rig.connect();
      whole.client.write(`${text}!`);
      await until(() => rig.on.text(whole.slot) === `${text}!`, 'it does not come');
      const cut = await rig.connect();
      for (const octet of `${text}!`) {
        await written(cut.client, Buffer.from(octet, 'latin1'));
        await rig.turned();
      }
      await until(() => rig.on.text(cut.slot) === `${text}!`, 'it does not come');
      expect(rig.on.introductions).toEqual([]);
      expect(rig.flows.has(cut.slot, PARTIAL_IN | PROXIED)).toBe(false);
      for (const { client } of [whole, cut]) client.destroy();
    },
  );

  it('hands a keep-alive up at once, and still takes the header that follows', async () => {
    const { client, slot } = await rig.connect();
    const header = block(CLIENT, TO);
    await written(client, header.subarray(0, 4));
    await until(() => rig.on.text(slot) === '\r\n\r\n', 'the keep-alive does not come');
    client.write(header.subarray(4));
    await until(() => rig.on.introductions.length === 1, 'the header is not taken');
    expect(told(slot).port).toBe(CLIENT.port);
    client.destroy();
  });

  it.each([1, 2, 3, 5])('hands up nothing of a header whose first %i octets come alone', async (n) => {
    const { client, slot } = await rig.connect();
    const header = block(CLIENT, TO);
    await written(client, header.subarray(0, n));
    await settled();
    client.write(Buffer.concat([header.subarray(n), Buffer.from('OPTIONS')]));
    await until(() => rig.on.text(slot).endsWith('OPTIONS'), 'what follows does not come');
    expect(rig.on.text(slot)).toBe('OPTIONS');
    client.destroy();
  });

  it('keeps it back where no keep-alive can stand: below TLS', async () => {
    const { client, slot } = await rig.connect();
    rig.flows.setKind(slot, TRANSPORT_TLS, 4);
    const header = block(CLIENT, TO);
    await written(client, header.subarray(0, 4));
    await settled();
    expect(rig.on.text(slot)).toBe('');
    client.write(Buffer.concat([header.subarray(4), Buffer.from('\x16\x03\x01')]));
    await until(() => rig.on.text(slot) === '\x16\x03\x01', 'what follows does not come');
    client.destroy();
  });

  it.each(HEADERS)('closes a peer that may not send one (%s) at its signature', async (_what, header) => {
    rig.on.mayBeProxied = false;
    const { client, slot } = await rig.connect();
    const gone = new Reader(client);
    client.write(header.subarray(0, 13));
    await closed(slot);
    expect(rig.on.closes).toEqual([{ slot, cause: Cause.PROXY_UNTRUSTED }]);
    expect(rig.on.text(slot)).toBe('');
    expect(rig.counters.snapshot().proxyRefused).toBe(1);
    await until(() => gone.ended || gone.error !== '', 'the peer does not see it');
    client.destroy();
  });

  it('closes a peer whose header is none, at once or late', async () => {
    const bad = Buffer.from('PROXY TCP4 somebody\r\n');
    for (const at of [bad.length, 8]) {
      const { client, slot } = await rig.connect();
      await written(client, bad.subarray(0, at));
      await settled();
      if (at < bad.length) client.write(bad.subarray(at));
      await closed(slot);
      expect(rig.on.closes.at(-1)).toEqual({ slot, cause: Cause.PROXY_MALFORMED });
      expect(rig.on.text(slot)).toBe('');
      client.destroy();
    }
  });

  it('says of a connection of the balancer itself that it is his', async () => {
    const { client, slot } = await rig.connect();
    client.write(block(CLIENT, TO, undefined, 0x20));
    await until(() => rig.on.introductions.length === 1, 'the header is not taken');
    expect(rig.on.introductions).toEqual([{ slot, local: true }]);
    expect(told(slot).flag).toBe(false);
    client.destroy();
  });

  it('whose header is cut off by FIN or RST ends as any other', async () => {
    for (const reset of [false, true]) {
      const { client, slot } = await rig.connect();
      await written(client, block(CLIENT, TO).subarray(0, 20));
      await until(() => rig.flows.has(slot, PARTIAL_IN), 'the octets are not kept');
      const gone = once(client, 'close');
      if (reset) client.resetAndDestroy();
      else client.resume().end();
      await closed(slot);
      expect(rig.on.closes.at(-1)).toEqual({ slot, cause: reset ? Cause.RESET : Cause.PEER_CLOSED });
      await gone;
    }
    expect(rig.on.introductions).toEqual([]);
  });
});
