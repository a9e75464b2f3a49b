/**
 * One load process of bench:agents: some thousands of user agents of the library, each from an address of its own with
 * a flow to each edge, answering every request 200. Started by fleet.ts with its share as JSON in argv, told what to do
 * by process messages (`Order`), and reporting by them (`Word`).
 *
 * What the agents do is written down at their sockets: each attempt, ping and pong as it passes, on the monotonic clock
 * that all processes of a machine have in common. That costs some hundred octets a flow, and is counted as the agent's.
 */
import type { Socket } from 'node:net';
import { connect } from 'node:net';
import { dialUdp } from '../../src/ua/connection.ts';
import { type Clock, type Dial, overStream, UserAgent } from '../../src/user-agent.ts';
import { isStun } from '../../src/wire/stun.ts';
import { TCP, UDP } from '../../src/wire/via.ts';
import { type Counts, noCounts } from './counts.ts';
import { monotonic } from './fleet.ts';
import type { Mark, Step } from './history.ts';

export interface Share {
  /** number of the first agent, and how many */
  first: number;
  count: number;
  domain: string;
  /** of each edge */
  proxies: { host: string; port: number }[];
  transport: 'tcp' | 'udp';
  /** base-time in seconds while another flow is up */
  base: number;
  /** agents that register at the same time */
  abreast: number;
}

export type Order = { order: 'start' | 'histories' | 'end' };

export type Word =
  | { word: 'ready' }
  | { word: 'counts'; counts: Counts }
  | { word: 'histories'; histories: Step[][][] };

const COUNTS_MS = 200;
const ADDRESSES = 250;

const share = JSON.parse(process.argv[2]) as Share;
const counts = noCounts(share.proxies.length);
const sockets = new Set<Socket>();
/** by agent, then by edge */
const histories: Step[][][] = [];

/**
 * The agents' clock, and when one of them looked at it last: what an agent does then is written down under that time, by
 * which it sets its own timers. Whatever takes the processor away in between is so not taken for a timer's error.
 */
let looked = monotonic();
const clock: Clock = {
  now: () => {
    looked = monotonic();
    return looked;
  },
  alarm: (atMs, run) => {
    const timer = setTimeout(run, Math.max(0, Math.ceil(atMs - monotonic())));
    return () => clearTimeout(timer);
  },
};

const tell = (word: Word): void => {
  process.send?.(word);
};

/** 127.100.0.1 and on: no two agents have the same, whatever process they are in. */
const addressOf = (n: number): string =>
  `127.${100 + Math.floor(n / ADDRESSES ** 2)}.${Math.floor(n / ADDRESSES) % ADDRESSES}.${1 + (n % ADDRESSES)}`;

/** TCP as the library dials it, but that the sockets are at hand to be reset: a FIN leaves each port in TIME_WAIT. */
const dialTcp: Dial = ({ address: { host, port } }, handler, { localAddress }) => {
  const socket = connect({ host, port, noDelay: true, ...(localAddress ? { localAddress } : {}) });
  const connection = overStream(TCP, socket, handler);
  sockets.add(socket);
  socket.once('connect', () => connection.opened(socket.localAddress ?? '', socket.localPort ?? 0));
  socket.once('close', () => sockets.delete(socket));
  return connection;
};

const isPing = (bytes: Uint8Array): boolean => isStun(bytes, 0) || bytes.length === 4;

/** The same transport, and what passes is written down. */
const watched =
  (dial: Dial, mark: (edge: number, what: Mark) => void): Dial =>
  (target, handler, options) => {
    const edge = share.proxies.findIndex(
      ({ host, port }) => host === target.address.host && port === target.address.port,
    );
    mark(edge, 'attempt');
    const connection = dial(
      target,
      {
        ...handler,
        pong: () => {
          mark(edge, 'pong');
          handler.pong();
        },
        stun: (bytes) => {
          mark(edge, 'pong');
          handler.stun(bytes);
        },
      },
      options,
    );
    const send = connection.send.bind(connection);
    connection.send = (bytes) => {
      if (isPing(bytes)) mark(edge, 'ping');
      send(bytes);
    };
    return connection;
  };

async function answer(agent: UserAgent, name: string): Promise<void> {
  for await (const request of agent.requests()) {
    counts.requests++;
    request.respond(200, 'OK', { headers: [['X-Agent', name]] });
  }
}

function make(n: number): UserAgent {
  const steps: Step[][] = share.proxies.map(() => []);
  const proven = share.proxies.map(() => false);
  const mark = (edge: number, what: Mark): void => {
    // a pong comes without a look
    steps[edge].push({ what, at: what === 'pong' ? monotonic() : looked });
    if (what === 'ping') counts.pings++;
    else if (what === 'pong') {
      counts.pongs++;
      if (!proven[edge]) counts.proven++;
      proven[edge] = true;
    }
  };
  histories.push(steps);
  const proxies = share.proxies.map(({ host, port }) => `sip:${host}:${port};transport=${share.transport}`);
  const agent = new UserAgent({
    aor: `sip:agent${n}@${share.domain}`,
    instanceId: `urn:uuid:00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`,
    proxies,
    localAddress: addressOf(n),
    backoff: { someUp: share.base, allDown: share.base / 3 },
    clock,
    dials: { [UDP]: watched(dialUdp, mark), [TCP]: watched(dialTcp, mark) },
  });
  const up = proxies.map(() => false);
  agent.on('flow', ({ uri, state }) => {
    const edge = proxies.indexOf(uri);
    if (state === 'deferred') return;
    mark(edge, state);
    if (state !== 'registered') counts[state]++;
    if (up[edge] !== (state === 'registered')) counts.up[edge] += up[edge] ? -1 : 1;
    up[edge] = state === 'registered';
  });
  void answer(agent, `agent${n}`);
  return agent;
}

/** Each of these runs starts an agent, waits for both of its flows, and takes the next. */
async function run(numbers: Iterator<number>): Promise<void> {
  for (let next = numbers.next(); !next.done; next = numbers.next()) {
    const agent = make(next.value);
    await new Promise<void>((done) => {
      const whole = () => {
        if (agent.flows.length < share.proxies.length) return;
        agent.off('flow', whole);
        done();
      };
      agent.on('flow', whole);
      void agent.start();
    });
  }
}

function end(): void {
  for (const socket of sockets) socket.resetAndDestroy();
  process.exit(0);
}

process.on('message', ({ order }: Order) => {
  if (order === 'start') {
    const numbers = Array.from({ length: share.count }, (_, i) => share.first + i).values();
    for (let i = 0; i < share.abreast; i++) void run(numbers);
  } else if (order === 'histories') tell({ word: 'histories', histories });
  else end();
});
process.on('disconnect', end);
setInterval(() => tell({ word: 'counts', counts }), COUNTS_MS);
tell({ word: 'ready' });
