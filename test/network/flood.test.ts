/** Datagrams from everywhere: none of them may cost a flow record. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { stun } from '../harness/stun.ts';
import { Core, openMany, registerOn, requestText, type Wire } from './crowd.ts';
import { pause, type State, Watched } from './watched.ts';

const SOURCES = 10_000;
const EACH = 10; // datagrams a source
const AT_A_TIME = 100;
const PHONES = 50;

let server: Watched;
let core: Core;
let phones: Wire[];

beforeAll(async () => {
  core = await Core.open();
  server = await Watched.start({
    settings: { UPSTREAM: `sip:${core.host}:${core.port}`, MAX_FLOWS: '256' },
  });
  phones = [
    ...(await openMany('UDP', PHONES, server.address)),
    ...(await openMany('TCP', PHONES, server.address)),
  ];
  await Promise.all(phones.map((phone, i) => registerOn(phone, i)));
});
afterAll(async () => {
  for (const phone of phones) phone.close();
  core.close();
  await server.stop();
});

const random = (below: number) => Math.floor(Math.random() * below);
const octets = (length: number) => Buffer.from(Array.from({ length }, () => random(256)));

/** What comes to an open UDP port, in turn. */
function datagram(n: number, at: string): Buffer {
  const via = `Via: SIP/2.0/UDP ${at};rport;branch=z9hG4bKflood${n}\r\n`;
  const rest = `Max-Forwards: 70\r\nFrom: <sip:f@x>;tag=1\r\nTo: <sip:t@x>\r\nCall-ID: ${n}\r\n`;
  switch (n % 10) {
    case 0:
    case 1:
      return stun();
    case 2:
      return octets(1 + random(1_200));
    case 3:
      return Buffer.from('\r\n\r\n');
    case 4:
      return Buffer.from(`SIP/2.0 200 OK\r\n${via}${rest}CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n`);
    case 5:
      return Buffer.concat([Buffer.from('REGISTER sip:x SIP/2.0\r\n'), octets(200)]);
    case 6:
      return Buffer.from(`MESSAGE sip:u1@x SIP/2.0\r\n${via}${rest}CSeq: 1 MESSAGE\r\n\r\nhello`);
    case 7:
      return Buffer.from(
        `BYE sip:u1@x SIP/2.0\r\n${via}Route: <sip:AAAAAAAAAAAAAAAAAAAA@${server.address.host}:${server.address.port};lr>\r\n${rest}CSeq: 1 BYE\r\n\r\n`,
      );
    default:
      return Buffer.from(
        `OPTIONS sip:x SIP/2.0\r\n${via}${rest}CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n`,
      );
  }
}

async function oneSource(first: number): Promise<void> {
  const socket = createSocket('udp4');
  const host = `127.${1 + random(254)}.${random(256)}.${1 + random(254)}`;
  socket.on('error', () => {});
  socket.bind({ address: host, port: 0, exclusive: true });
  await once(socket, 'listening');
  socket.connect(server.address.port, server.address.host);
  await once(socket, 'connect');
  const at = `${host}:${socket.address().port}`;
  const sent: Promise<void>[] = [];
  for (let i = 0; i < EACH; i++)
    sent.push(new Promise((resolve) => socket.send(datagram(first + i, at), () => resolve())));
  await Promise.all(sent);
  socket.close();
}

const handled = ({ counters }: State) => counters.datagramsIn;

it('100,000 datagrams from 10,000 random addresses leave no flow record, and registered phones are as before', async () => {
  const before = await server.state();
  expect(before.used).toBe(PHONES * 2);
  const flows = await server.flows();
  let sent = 0;
  for (let source = 0; source < SOURCES; source += AT_A_TIME) {
    await Promise.all(Array.from({ length: AT_A_TIME }, (_, k) => oneSource((source + k) * EACH)));
    sent += AT_A_TIME * EACH;
    // a full socket buffer would lose datagrams, and the test with them
    for (let i = 0; i < 100 && handled(await server.state()) - handled(before) < sent - 2_000; i++)
      await pause(2);
  }
  const after = await server.stateBecomes((s) => handled(s) - handled(before) > sent * 0.95);
  expect(after.used).toBe(PHONES * 2);
  expect(after.counters.flowsOpened).toBe(before.counters.flowsOpened);
  expect(after.counters.stunRequests - before.counters.stunRequests).toBeGreaterThan(sent / 10);
  expect(after.counters.junk - before.counters.junk).toBeGreaterThan(sent / 10);
  const name = (f: (typeof flows)[number]) => `${f.slot}.${f.generation}.${f.owner}.${f.peer}`;
  expect((await server.flows()).map(name)).toEqual(flows.map(name));
  for (const [i, phone] of phones.entries()) {
    const called = phone.next((text) => text.startsWith('MESSAGE '));
    const source = phones[(i + 1) % phones.length];
    source.send(requestText(source, i, i, core.path[i]));
    await called;
  }
}, 60_000);
