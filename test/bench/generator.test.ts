/**
 * That the generator tells a bad server from a good one: an edge of a few lines that refuses, keeps silent, says things
 * twice or to the wrong flow.
 */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket as NetSocket } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Generator } from '../../bench/load/generator.ts';
import { measure } from '../../bench/load/measure.ts';
import { type Load, parse } from '../../bench/load/options.ts';
import { errorsOf } from '../../bench/load/tally.ts';
import { Timeline } from '../../bench/load/timeline.ts';
import { selfTest } from '../../src/native/available.ts';
import { freshHost } from '../harness/ports.ts';

const never = new AbortController().signal;
const COUNT = 12;

/** The head of a request as that of a response. */
const answered = (request: string, status: string): string =>
  request.replace(/^.*\r\n/, `SIP/2.0 ${status}\r\n`).replace(/\r\n\r\n[\s\S]*$/, '\r\n\r\n');

describe.skipIf(!selfTest().ok)('the generator', () => {
  const opened: Array<{ end(): void }> = [];
  afterEach(() => {
    for (const each of opened.splice(0)) each.end();
    vi.restoreAllMocks();
  });

  type Client = { address: string; port: number };
  async function edge(behave: (request: string, from: Client, socket: Socket) => void): Promise<AddressInfo> {
    const socket = createSocket('udp4');
    opened.push({ end: () => socket.close() });
    socket.on('message', (message, from) => behave(message.toString('latin1'), from, socket));
    socket.bind(0, freshHost());
    await once(socket, 'listening');
    return socket.address();
  }

  /** COUNT flows that are to be registered, and what became of that. */
  async function registers({ address, port }: AddressInfo, ...words: string[]) {
    const load = parse(['--flows', String(COUNT), '--timeout', '20', ...words], {}, 1000) as Load;
    const places = { server: { host: address, port }, core: { host: freshHost(), port: 0 }, ca: undefined };
    const generator = new Generator(load, places);
    opened.push(generator);
    let refusal = '';
    await generator.setUp(never).catch((error: Error) => {
      refusal = error.message;
    });
    return { refusal, tally: generator.tally, generator };
  }

  it('counts a final response that is no 2xx as failed', async () => {
    const at = await edge((request, { port, address }, socket) => {
      socket.send(answered(request, '100 Trying'), port, address);
      socket.send(answered(request, '503 Service Unavailable'), port, address);
    });
    const { tally, refusal } = await registers(at);
    expect(tally).toMatchObject({ begun: COUNT, answered: 0, failed: COUNT, lost: 0 });
    expect(refusal).toBe(
      `only 0 of ${COUNT} flows could be registered: ${COUNT} refused, 0 not answered, 0 closed`,
    );
    expect(errorsOf(tally)).toBe(COUNT);
  });

  it('counts what is never answered as lost', async () => {
    const { tally, refusal } = await registers(await edge(() => {}), '--timeout', '0.2');
    expect(tally).toMatchObject({ begun: COUNT, answered: 0, lost: COUNT });
    expect(refusal).toContain(`${COUNT} not answered`);
    expect(errorsOf(tally)).toBe(COUNT);
  });

  it('counts a second response as stray, and the transaction once', async () => {
    let heard = 0;
    const at = await edge((request, { port, address }, socket) => {
      // the last one has no second answer: nobody waits for it
      const times = ++heard < COUNT ? 2 : 1;
      for (let i = 0; i < times; i++) socket.send(answered(request, '200 OK'), port, address);
    });
    const { tally } = await registers(at);
    expect(tally).toMatchObject({
      begun: COUNT,
      answered: COUNT,
      stray: COUNT - 1,
    });
  });

  it('counts an answer that comes down another flow as misrouted, and does not take it', async () => {
    let first: Client | undefined;
    const at = await edge((request, from, socket) => {
      first ??= from;
      socket.send(answered(request, '200 OK'), first.port, first.address);
    });
    const { tally } = await registers(at, '--timeout', '2');
    expect(tally).toMatchObject({ begun: COUNT, answered: 1, misrouted: COUNT - 1 });
    expect(tally.lost).toBe(COUNT - 1);
  });

  it('counts flows that are closed while they are held as closed', async () => {
    const sockets: NetSocket[] = [];
    let heard = 0;
    const server = createServer((socket) => {
      sockets.push(socket);
      socket.on('error', () => {});
      socket.on('data', (request) => {
        socket.write(answered(request.toString('latin1'), '200 OK'), 'latin1');
        if (++heard === COUNT) for (const each of sockets.slice(0, 3)) each.end();
      });
    });
    const address = { host: freshHost(), port: 0 };
    await new Promise<void>((resolve) => server.listen(address, resolve));
    opened.push({ end: () => server.close() });
    address.port = (server.address() as AddressInfo).port;
    const words = ['--mode', 'idle', '--transport', 'tcp', '--flows', String(COUNT), '--duration', '1'];
    const result = await measure(
      parse(words, {}, 1000) as Load,
      {
        name: 'an edge',
        address,
        ca: undefined,
        core: { host: freshHost(), port: 0 },
        start: async () => ({ pid: process.pid, stop: async () => {} }),
      },
      never,
    );
    expect(result).toMatchObject({ transactions: COUNT, alive: COUNT - 3, errors: 3, tally: { closed: 3 } });
  });

  it('charges a stall at the end to all that it delayed, in an open loop', async () => {
    let held: (() => void)[] | undefined;
    const at = await edge((request, { port, address }, socket) => {
      const say = () => socket.send(answered(request, '200 OK'), port, address);
      if (held) held.push(say);
      else say();
    });
    const { generator } = await registers(at, '--rate', '100');
    const timeline = new Timeline(200);
    held = [];
    const phase = { work: 'register', count: 20, seconds: 0.2, rate: 100, timeline } as const;
    await generator.run(phase, never);
    expect(generator.tally.answered).toBe(0);
    const drained = generator.drain(never);
    await vi.waitFor(() => expect(held).toHaveLength(generator.tally.begun), 10_000);
    for (const say of held) say();
    await drained;
    const { begun, answered: good } = generator.tally;
    expect([good, timeline.total().count]).toEqual([begun, begun]);
    // the first one was due at the start
    expect(timeline.total().max).toBeGreaterThanOrEqual(200_000);
    expect(timeline.points().map(({ rate }) => rate)).toEqual([0, 0, 0, 0]);
  });

  it('counts the age of a request from when it was sent, in a process that is hours old', async () => {
    const clock = performance.now.bind(performance);
    vi.spyOn(performance, 'now').mockImplementation(() => clock() + 7_200_000);
    const at = await edge((request, { port, address }, socket) => {
      socket.send(answered(request, '200 OK'), port, address);
    });
    const { tally } = await registers(at);
    expect(tally).toMatchObject({ begun: COUNT, answered: COUNT, lost: 0 });
  });
});
