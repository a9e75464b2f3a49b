/** Phones over TLS: registering, being called, keep-alives, and what a record boundary must not change. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TcpAgent, UdpAgent } from '../harness/agent.ts';
import { isCrlf, isFinal, isRequest } from '../harness/inbox.ts';
import { freshHost } from '../harness/ports.ts';
import { boundBecomes, call, register, statusOf } from '../harness/registrar.ts';
import { type Header, unique } from '../harness/sip.ts';
import { only, pause, SClient, SecuredServer, serves, VERSIONS } from './rig.ts';

let site: SecuredServer;
let caller: UdpAgent;

beforeAll(async () => {
  site = await SecuredServer.start();
  caller = await site.caller();
});
afterAll(() => site?.close());

describe.each(VERSIONS)('a phone over %s', (version) => {
  it('registers by its flow and is called on it [UA-4.3-03 SE-12-03]', async () => {
    const phone = await site.phone(only(version));
    expect((phone.socket as TLSSocket).getProtocol()).toBe(version);
    const { answer, aor } = await serves(phone, caller);
    expect(answer.fields('Contact')[0]).toContain('transport=tls');
    const line = await site.logged('registration', (l) => l.aor === aor);
    expect(line).toMatchObject({ transport: 'tls', peer: phone.hostPort });
  });

  it('gets the answer to its ping inside the channel, also if a record ends in the middle of it [UA-4.4.1-05 UA-4.4.1-01]', async () => {
    const phone = await site.phone(only(version));
    await phone.probe();
    for (const octet of '\r\n\r\n') phone.send(Buffer.from(octet)); // a record each
    await phone.next(isCrlf);
    expect(phone.octets.map((chunk) => chunk.toString()).join('')).toBe('\r\n\r\n');
  });

  it('may cut a message into any records, and put several into one', async () => {
    const phone = await site.phone(only(version));
    const messages = [1, 2, 3].map((i) => phone.compose('OPTIONS', self(), { callId: `${version}-${i}` }));
    const octets = Buffer.concat([...messages, Buffer.from('\r\n\r\n')]);
    for (const size of [1, 7, 100, octets.length]) {
      for (let at = 0; at < octets.length; at += size) phone.send(octets.subarray(at, at + size));
      for (const i of [1, 2, 3])
        expect((await phone.next(isFinal(`${version}-${i}`))).message.status).toBe(200);
      await phone.next(isCrlf);
    }
  });

  it('may send many records in one segment: all are read, also those that a turn has no time for', async () => {
    const raw = connect({ ...site.address, localAddress: freshHost() });
    await once(raw, 'connect');
    let held: Buffer[] | undefined;
    const carrier = new Duplex({
      read: () => {},
      write: (chunk: Buffer, _encoding, done) => {
        if (held) held.push(chunk);
        else raw.write(chunk);
        done();
      },
    });
    raw.on('data', (chunk: Buffer) => carrier.push(chunk));
    const phone = connectTls({ socket: carrier, ...site.options(only(version)) });
    await once(phone, 'secureConnect');
    held = [];
    for (let i = 0; i < 40; i++) {
      phone.write(i % 2 ? '\n' : '\r');
      while (held.length <= i) await pause(1);
    }
    let pongs = '';
    const all = new Promise<void>((resolve) =>
      phone.on('data', (chunk: Buffer) => {
        pongs += chunk.toString();
        if (pongs.length >= 20) resolve();
      }),
    );
    raw.write(Buffer.concat(held));
    await all;
    expect(pongs).toBe('\r\n'.repeat(10));
    raw.destroy();
  });

  it('sends and gets messages of many records whole', async () => {
    const phone = await site.phone(only(version));
    const other = await site.phone(only(version));
    const { aor } = await register(phone);
    const body = Buffer.from(Array.from({ length: 200_000 }, (_, i) => 97 + (i % 26)));
    const message = other.compose('MESSAGE', aor, { body, callId: `large-${version}` });
    other.send(message);
    const got = await phone.next(isRequest('MESSAGE', `large-${version}`));
    expect(got.message.body.equals(body)).toBe(true);
    phone.reply(got, 200, 'OK', [], body);
    const answer = await other.next(isFinal(`large-${version}`));
    expect(answer.message.body.equals(body)).toBe(true);
  });

  it('that does not read gets all of it later, in order', async () => {
    const phone = await site.phone(only(version));
    const { aor } = await register(phone);
    const body = 'y'.repeat(30_000);
    phone.socket.pause();
    const ids = Array.from({ length: 8 }, () => call(caller, aor, 'MESSAGE', { body }));
    await pause(100);
    phone.socket.resume();
    for (const id of ids) {
      const got = await phone.next(isRequest('MESSAGE', id));
      expect(got.message.body.toString()).toBe(body);
      phone.reply(got, 200, 'OK');
      await caller.next(isFinal(id));
    }
  });

  it('that closes with close_notify, or without, leaves no binding behind', async () => {
    for (const end of ['close', 'cut'] as const) {
      const phone = await site.phone(only(version));
      const { aor } = await register(phone);
      if (end === 'close') phone.socket.end();
      else below(phone).end(); // FIN without close_notify
      await phone.closed;
      expect(await site.server.causeOf(phone.hostPort)).toBe('peer-closed');
      await boundBecomes(caller, aor, (contacts) => contacts.length === 0);
    }
  });

  it('that resets its connection ends as reset', async () => {
    const phone = await site.phone(only(version));
    await register(phone);
    const { hostPort } = phone;
    below(phone).resetAndDestroy();
    expect(await site.server.causeOf(hostPort)).toBe('reset');
  });
});

describe('a tls listener', () => {
  it('refuses TLS 1.1', async () => {
    const client = new SClient(site.address, '-tls1_1', '-cipher', 'DEFAULT@SECLEVEL=0');
    expect(await client.ended).not.toBe(0);
    expect(client.output).toMatch(/alert protocol version|unsupported protocol|no protocols available/);
  });

  it('refuses renegotiation', async () => {
    const client = new SClient(site.address, '-tls1_2');
    await client.says(/Verify return code/);
    client.write('R\n');
    await client.says(/no renegotiation|renegotiat/i);
    await client.ended;
    expect(client.output).toMatch(/no renegotiation/i);
  });

  it('takes no early data', async () => {
    const file = site.authority.file('session');
    const client = new SClient(site.address, '-tls1_3', '-sess_out', file);
    for (let i = 0; i < 400 && !existsSync(file); i++) await pause(20);
    await client.close();
    expect(site.authority.openssl('sess_id', '-in', file, '-noout', '-text').toString()).toContain(
      'Max Early Data: 0',
    );
  });

  it.each([
    ['SIP in the clear', 'OPTIONS sip:x SIP/2.0\r\n\r\n'],
    ['a web browser', 'GET / HTTP/1.1\r\n\r\n'],
    ['pings', '\r\n\r\n'.repeat(10)],
    ['zeros', '\0'.repeat(100)],
    ['a hello that is cut to pieces of nonsense', '\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00'],
  ])('closes a connection that begins with %s, and serves the next', async (_what, text) => {
    const failures = await site.count('tlsFailures');
    const socket = connect({ ...site.address, localAddress: freshHost() });
    await once(socket, 'connect');
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => {});
    socket.write(text, 'latin1');
    socket.resume();
    await closed;
    await site.server.stateBecomes((s) => s.counters.tlsFailures === failures + 1);
    await (await site.phone()).probe();
  });

  it('says why a handshake failed, and from where', async () => {
    const socket = connect({ ...site.address, localAddress: freshHost() });
    await once(socket, 'connect');
    const peer = `${socket.localAddress}:${socket.localPort}`;
    socket.on('error', () => {});
    socket.end('GET / HTTP/1.1\r\n\r\n');
    const line = await site.logged('tls-failure', (l) => l.peer === peer);
    expect(line.reason).toMatch(/http request|wrong version number/);
  });

  it('gives records and descriptors of connections back that never were flows', async () => {
    const before = await site.server.state();
    const descriptors = site.server.descriptors();
    const sockets = [];
    for (let i = 0; i < 50; i++) {
      const socket = connect({ ...site.address, localAddress: freshHost() });
      socket.on('error', () => {});
      await once(socket, 'connect');
      if (i % 2) socket.write('junk');
      sockets.push(socket);
    }
    for (const socket of sockets) socket.destroy();
    await site.server.stateBecomes((s) => s.used === before.used);
    expect(await site.server.descriptorsBecome(descriptors)).toBe(descriptors);
  });
});

describe('a call to a sips address', () => {
  const sipsOf = (aor: string) => aor.replace(/^sip:/, 'sips:');

  it('reaches who has registered a sips Contact over TLS', async () => {
    const phone = await site.phone();
    const contactUri = phone.uri('u').replace(/^sip:/, 'sips:').replace(';transport=tls', '');
    const { aor, answer } = await register(phone, { contactUri });
    expect(answer.status).toBe(200);
    const callId = call(caller, sipsOf(aor));
    const got = await phone.next(isRequest('MESSAGE', callId));
    expect(got.message.uri).toMatch(/^sips:/);
    phone.reply(got, 200, 'OK');
    expect((await caller.next(isFinal(callId))).message.status).toBe(200);
  });

  it('leaves sips in the route set, and the dialog goes on over it [3261-16.6-03]', async () => {
    const [phone, other] = [await site.phone(), await site.phone()];
    const sipsUri = (agent: TcpAgent) =>
      agent.uri('u').replace(/^sip:/, 'sips:').replace(';transport=tls', '');
    const { aor } = await register(phone, { contactUri: sipsUri(phone) });
    const callId = unique('dialog-');
    const contact = `<${sipsUri(other)};ob>`;
    other.send(other.compose('INVITE', sipsOf(aor), { callId, contact }));
    const invite = await phone.next(isRequest('INVITE', callId));
    const routes = invite.message.all('Record-Route');
    expect(routes.length).toBeGreaterThan(0);
    for (const route of routes) expect(route).toMatch(/^<sips:/);
    const copied = routes.map((route): Header => ['Record-Route', route]);
    phone.reply(invite, 200, 'OK', [...copied, ['Contact', `<${sipsUri(phone)}>`]]);
    const ok = await other.next(isFinal(callId));
    expect(ok.message.status).toBe(200);
    const to = ok.message.fields('To')[0];
    other.send(other.compose('BYE', sipsUri(phone), { callId, cseq: 2, to, route: routes.toReversed() }));
    phone.reply(await phone.next(isRequest('BYE', callId)), 200, 'OK');
    expect((await other.next(isFinal(callId))).message.status).toBe(200);
  });

  it('reaches nobody who has not, nor a flow in the clear', async () => {
    const phone = await site.phone();
    const { aor } = await register(phone);
    expect(await statusOf(caller, sipsOf(aor))).toBe(480);
    const plain = await site.caller();
    const other = await register(plain, { contactUri: plain.uri('u').replace(/^sip:/, 'sips:') });
    expect(await statusOf(caller, sipsOf(other.aor))).toBe(480);
    expect(plain.arrivals).toEqual([]);
    expect(phone.arrivals).toEqual([]);
  });
});

/** The TCP socket that carries the TLS one. */
const below = (phone: TcpAgent): Socket => (phone.socket as unknown as { _parent: Socket })._parent;

const self = () => `sip:${site.address.host}:${site.address.port};transport=tls`;
