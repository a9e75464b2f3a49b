/**
 * Thousands of connections that send nothing, an octet a second, or read nothing of what they asked for: each is
 * closed with its cause, while phones register and are called; nothing is left of them.
 *
 * CROWD=full runs it with 10,000 silent ones, 1,000 slow ones and 1,000 that do not read. Twice: what is allocated once
 * may stay, what a second crowd takes must come from what the first has given back.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ACCEPTED, FIRST_MESSAGE, STAGES } from '../../src/flow/deadline.ts';
import { freshHost } from '../harness/ports.ts';
import {
  answerText,
  isStatus,
  numberOf,
  openMany,
  optionsText,
  registerOn,
  registerText,
  requestText,
  UdpWire,
  type Wire,
} from './crowd.ts';
import { pause, Watched } from './watched.ts';

const FULL = process.env.CROWD === 'full';
const SILENT = FULL ? 10_000 : 2_000;
const SLOW = FULL ? 1_000 : 200;
const DEAF = FULL ? 1_000 : 60;
const PHONES = 10;
/** ports of one address are few */
const EACH_HOST = 1_000;
const AT_A_TIME = 100;
/** deaf ones that are being filled at one time: each holds a megabyte or two of the kernel's as well */
const FILLING = FULL ? 200 : DEAF;
const OCTET_S = STAGES[ACCEPTED].seconds;
const FIRST_S = STAGES[FIRST_MESSAGE].seconds;
/** What the arenas of two shards have for output and unfinished messages; once touched it stays. */
const ARENAS_MIB = 2 * 64;

let server: Watched;
let caller: Wire;
let phones: Wire[];
let calls = 0;

beforeAll(async () => {
  server = await Watched.start({
    settings: { DOMAINS: 'example.test', STORE: 'memory:', MAX_FLOWS: '16384', LOG: 'error' },
    clocked: true,
    lean: true,
  });
  phones = [
    ...(await openMany('TCP', PHONES / 2, server.address)),
    ...(await openMany('UDP', PHONES / 2, server.address)),
  ];
  caller = await UdpWire.open(server.address);
  await refreshed();
});
afterAll(async () => {
  for (const wire of [...(phones ?? []), caller]) wire?.close();
  await server?.stop();
});

const refreshed = () => Promise.all(phones.map((phone, i) => registerOn(phone, i)));

/** Others: a phone is called, and another registers again, by a message in two pieces where that can be. */
async function othersGoOn(): Promise<void> {
  const n = ++calls;
  const i = n % PHONES;
  const got = phones[i].next((text) => text.startsWith('MESSAGE ') && numberOf(text) === n);
  const answered = caller.next((text) => text.startsWith('SIP/2.0 200 ') && numberOf(text) === n);
  caller.send(requestText(caller, n, i, undefined));
  phones[i].send(answerText(await got));
  await answered;
  const next = (i + 1) % PHONES;
  if (phones[next].transport === 'UDP') await registerOn(phones[next], next);
  else {
    const text = registerText(phones[next], next);
    const ok = phones[next].next(isStatus(200));
    phones[next].send(text.slice(0, 300));
    await pause(20);
    phones[next].send(text.slice(300));
    await ok;
  }
}

/** A socket, and its address, which it forgets when it is closed. */
interface Peer {
  socket: Socket;
  name: string;
}

async function crowd(count: number, reads: boolean): Promise<Peer[]> {
  const all: Peer[] = [];
  const { host, port } = server.address;
  let localAddress = freshHost();
  while (all.length < count) {
    if (all.length % EACH_HOST === 0) localAddress = freshHost();
    const some = Array.from({ length: Math.min(AT_A_TIME, count - all.length) }, () => {
      const socket = connect({ host, port, localAddress });
      socket.on('error', () => {}); // a reset is an end like any other
      if (reads) socket.resume();
      return socket;
    });
    await Promise.all(some.map((socket) => once(socket, 'connect')));
    for (const socket of some) all.push({ socket, name: `${socket.localAddress}:${socket.localPort}` });
  }
  return all;
}

/** Asks until the server has had enough of it; reads nothing. Answers are as long as the questions. */
async function fill({ socket, name }: Peer): Promise<void> {
  const { host, port } = server.address;
  // an answer that it did not take is tried at the port of its Via: nobody listens there
  const wire = { transport: 'TCP', hostPort: name.replace(/:.*/, ':9') } as Wire;
  const question = optionsText(wire, 'deaf', `sip:${host}:${port}`)
    .replace('<sip:t@', `"${'f'.repeat(14_000)}" <sip:t@`)
    .replace('To: ', `To: "${'t'.repeat(14_000)}" `);
  const gone = new Promise<boolean>((resolve) => socket.once('close', () => resolve(true)));
  for (;;) {
    const written = new Promise<boolean>((resolve) => socket.write(question, 'latin1', () => resolve(false)));
    if (socket.destroyed || (await Promise.race([gone, written]))) return;
  }
}

async function wave(): Promise<void> {
  const before = await server.state();
  const silent = await crowd(SILENT, true);
  const slow = await crowd(SLOW, true);
  for (const { socket } of slow) socket.write('R');
  const deaf = await crowd(DEAF, false);
  await othersGoOn();

  const queue = [...deaf];
  const filling = Array.from({ length: FILLING }, async () => {
    for (let peer = queue.pop(); peer; peer = queue.pop()) await fill(peer);
  });
  let filled = false;
  const all = Promise.all(filling).then(() => {
    filled = true;
  });
  while (!filled) await othersGoOn();
  await all;
  const { counters } = await server.stateBecomes((s) => s.used <= before.used + SILENT + SLOW);
  // a connection back to port 9 may be given more than it can keep while it is refused
  expect(counters.writeQueueOverflow - before.counters.writeQueueOverflow).toBeGreaterThanOrEqual(DEAF);

  for (let s = 1; s < OCTET_S; s++) {
    await server.advance(1);
    if (s % 10 === 0) await othersGoOn();
  }
  expect((await server.state()).used).toBe(before.used + SILENT + SLOW);
  await server.advance(1);
  await server.stateBecomes((s) => s.used === before.used + SLOW);
  const word = 'EGISTER sip:example.test SIP/2.0\r\nVia: SIP/2.0/TCP a';
  for (let s = OCTET_S; s < FIRST_S; s++) {
    for (const { socket } of slow) socket.write(word[s - OCTET_S]);
    await server.advance(1);
    if (s % 10 === 0) await othersGoOn();
  }
  const after = await server.stateBecomes((s) => s.used === before.used);
  const { stageDeadlines } = after.counters;
  expect(stageDeadlines - before.counters.stageDeadlines).toBe(SILENT + SLOW);
  await othersGoOn();

  const causes = await server.causes();
  const wordsOf = (peers: Peer[]) => new Set(peers.map(({ name }) => causes.get(name)));
  expect(wordsOf(silent)).toEqual(new Set(['no-octet']));
  expect(wordsOf(slow)).toEqual(new Set(['no-message']));
  expect(wordsOf(deaf)).toEqual(new Set(['write-queue']));
  for (const { socket } of [...silent, ...slow, ...deaf]) socket.destroy();
}

describe(`${SILENT} silent connections, ${SLOW} slow ones and ${DEAF} that do not read`, () => {
  it('are closed with a cause each, others are served, and what they took is given back', async () => {
    const descriptors = server.descriptors();
    const start = await server.memory();
    await wave();
    expect(await server.descriptorsBecome(descriptors)).toBe(descriptors);
    const first = await server.memory(20);
    expect(first).toBeLessThan(start + ARENAS_MIB + 64);
    await refreshed();
    await wave();
    expect(await server.descriptorsBecome(descriptors)).toBe(descriptors);
    expect(await server.memory(20)).toBeLessThan(first * 1.1 + 16);
  }, 300_000);
});
