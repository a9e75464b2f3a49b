/**
 * The user agent under test on real sockets, with a clock that stands still until it is moved, and chance that the
 * test chooses. The edge is played by the test (UdpAgent, TcpCore): it sees every message and answers as it likes.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { type FlowEvent, UserAgent } from '../../src/ua/agent.ts';
import type { Clock } from '../../src/ua/clock.ts';
import type { UserAgentOptions } from '../../src/ua/options.ts';
import type { Agent } from './agent.ts';
import { TcpCore, UdpAgent } from './agent.ts';
import { type Arrival, isRequest, PATIENCE_MS } from './inbox.ts';
import { freePort, freshHost } from './ports.ts';
import type { Header } from './sip.ts';
import { COOKIE, stun } from './stun.ts';
import { WsEdge, type WsEdgeOptions } from './websocket-edge.ts';

/** Over WebSocket it is one message. */
const PING = Buffer.from('\r\n\r\n');

/** A datagram or a segment to the other side, and its answer. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 6; turns++) await setImmediate();
}

export class StillClock implements Clock {
  private time = 1_000;
  private alarms: { at: number; run: () => void }[] = [];

  now(): number {
    return this.time;
  }

  alarm(at: number, run: () => void): () => void {
    const alarm = { at, run };
    this.alarms.push(alarm);
    return () => {
      this.alarms = this.alarms.filter((a) => a !== alarm);
    };
  }

  /** Moves on, alarm by alarm, with time for the network before, between and after them. */
  async advance(ms: number): Promise<void> {
    const until = this.time + ms;
    await settled();
    for (;;) {
      const [next] = this.alarms.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at);
      if (!next) break;
      this.alarms = this.alarms.filter((a) => a !== next);
      this.time = Math.max(this.time, next.at);
      next.run();
      await settled();
    }
    this.time = until;
    await settled();
  }
}

/** All that a test has opened; closed together, and data directories removed. */
export class Desk {
  private readonly closers: (() => unknown)[] = [];

  async close(): Promise<void> {
    for (const close of this.closers.splice(0).reverse()) await close();
  }

  keep<T extends { close(): Promise<unknown> }>(thing: T): T {
    this.closers.push(() => thing.close().catch(() => {}));
    return thing;
  }

  async tcp(port?: number, host = freshHost()): Promise<TcpCore> {
    return this.keep(await TcpCore.open({ host, port: port ?? (await freePort(host)), name: 'TCP edge' }));
  }

  async udp(port?: number, host = freshHost()): Promise<UdpAgent> {
    return this.keep(await UdpAgent.open({ host, port: port ?? (await freePort(host)), name: 'UDP edge' }));
  }

  async ws(options: Partial<WsEdgeOptions> = {}): Promise<WsEdge> {
    const host = options.host ?? freshHost();
    return this.keep(await WsEdge.open({ ...options, host, port: options.port ?? (await freePort(host)) }));
  }

  dataDir(): string {
    const dir = mkdtempSync(join(tmpdir(), 'holdfast-phone-'));
    this.closers.push(() => rmSync(dir, { recursive: true, force: true }));
    return dir;
  }

  /** Made, and stopped without a word at the end. */
  phone(proxies: readonly (Agent | string)[], options: Partial<UserAgentOptions> = {}): Phone {
    const phone = new Phone(proxies, { dataDir: this.dataDir(), ...options });
    this.closers.push(() => phone.agent.stop({ remove: false }));
    return phone;
  }
}

export const proxyUri = (edge: Agent): string =>
  `sip:${edge.hostPort}${edge.transport === 'UDP' ? '' : `;transport=${edge.transport.toLowerCase()}`}`;

export class Phone {
  readonly agent: UserAgent;
  readonly clock = new StillClock();
  readonly events: FlowEvent[] = [];
  /** what `random` gives */
  chance = 0;

  constructor(proxies: readonly (Agent | string)[], options: Partial<UserAgentOptions>) {
    this.agent = new UserAgent({
      aor: 'sip:dora@example.test',
      proxies: proxies.map((edge) => (typeof edge === 'string' ? edge : proxyUri(edge))),
      clock: this.clock,
      random: () => this.chance,
      ...options,
    });
    this.agent.on('flow', (event) => this.events.push(event));
  }

  start(): void {
    this.agent.start().catch(() => {}); // stopped before it was up: the test shows it elsewhere
  }

  advance(seconds: number): Promise<void> {
    return this.clock.advance(seconds * 1000);
  }

  /** The first event, old or new, that fits; it is taken. */
  async event(state: FlowEvent['state']): Promise<FlowEvent> {
    for (const until = Date.now() + PATIENCE_MS; ; await setImmediate()) {
      const at = this.events.findIndex((event) => event.state === state);
      if (at >= 0) return this.events.splice(at, 1)[0];
      if (Date.now() > until) throw new Error(`no ${state} event; there are ${JSON.stringify(this.events)}`);
    }
  }
}

/** Answers keep-alives from now on: STUN with the address it came from or `mapped`, a ping with a pong. */
export function answering<A extends Agent>(
  edge: A,
  mapped: (from: { host: string; port: number }) => { host: string; port: number } = (from) => from,
): A {
  const deliver = edge.deliver.bind(edge);
  let half = false;
  edge.deliver = (arrival, once) => {
    if (arrival.kind === 'stun' && arrival.stun?.type === 0x0001)
      arrival.answer(bindingAnswer(arrival.stun.id, mapped(arrival.from)));
    else if (arrival.kind === 'crlf') {
      half = !half;
      if (!half) arrival.answer(Buffer.from('\r\n'));
    } else if (arrival.opcode !== undefined && arrival.bytes.equals(PING))
      arrival.answer(Buffer.from('\r\n'));
    else deliver(arrival, once);
  };
  return edge;
}

/** A Binding success (IPv4). */
export function bindingAnswer(id: Buffer, { host, port }: { host: string; port: number }): Buffer {
  const value = Buffer.alloc(8);
  value.writeUInt16BE(1, 0);
  value.writeUInt16BE(port ^ (COOKIE >>> 16), 2);
  const address = host.split('.').reduce((word, octet) => (word << 8) | Number(octet), 0);
  value.writeInt32BE(address ^ COOKIE, 4);
  return stun({ type: 0x0101, id, attributes: [{ type: 0x0020, value }] });
}

export interface AcceptOptions {
  /** default true */
  outbound?: boolean;
  expires?: number;
  headers?: Header[];
  /** instead of what the REGISTER says */
  contact?: string;
  params?: string;
}

/** The edge's 200 to a REGISTER: Contact as it came, with its expiry. */
export function grant(edge: Agent, got: Arrival, options: AcceptOptions = {}): Arrival {
  const { outbound = true, expires = 3600, headers = [], params = '' } = options;
  const contact = options.contact ?? got.message.header('Contact') ?? '';
  edge.reply(got, 200, 'OK', [
    ['Contact', `${contact};expires=${expires}${params}`],
    ...(outbound ? [['Require', 'outbound'] as const] : []),
    ...headers,
  ]);
  return got;
}

/** Waits for the next REGISTER and grants it. */
export async function accept(edge: Agent, options: AcceptOptions = {}): Promise<Arrival> {
  return grant(edge, await edge.next(isRequest('REGISTER')), options);
}

/** Registered over one flow; the REGISTER that did it. */
export async function registered(phone: Phone, edge: Agent, options: AcceptOptions = {}): Promise<Arrival> {
  phone.start();
  const got = await accept(edge, options);
  await phone.event('registered');
  return got;
}
