/**
 * What a keep-alive is on each transport, for tests that must hold on all of them: the wires that a phone may have to
 * an edge, the kinds of ping that a wire knows, and an edge that listens on all of them, with a core of the test's own.
 *
 * On a stream pings and messages are octets in a row. RFC 7118 has it otherwise: in a WebSocket each is a message of
 * its own, in a frame or several, text or binary, and a pong is of the kind of its ping. RFC 6455 has pings below that,
 * Ping frames, which a browser answers but cannot send. Over UDP each is a datagram, and the ping is a STUN request.
 */
import type { Agent } from '../harness/agent.ts';
import { type Edge, startEdge, startEdgeOverTcp } from '../harness/edge.ts';
import type { HoldfastOptions } from '../harness/holdfast.ts';
import { isCrlf } from '../harness/inbox.ts';
import { type AnyTransport, type Family, Listeners } from '../harness/listeners.ts';
import { freshHost } from '../harness/ports.ts';
import { block } from '../harness/proxy.ts';
import { unique } from '../harness/sip.ts';
import { mappedAddress, type StunMessage, stun } from '../harness/stun.ts';
import { BINARY, frame, PING, PONG, TEXT, WsAgent } from '../harness/websocket.ts';

export interface Wire {
  title: string;
  transport: AnyTransport;
  family: Family;
  /** the connection begins with a PROXY header */
  isProxied?: boolean;
}

export const WIRES: readonly Wire[] = [
  { title: 'UDP', transport: 'UDP', family: 'IPv4' },
  { title: 'UDP, IPv6', transport: 'UDP', family: 'IPv6' },
  { title: 'TCP', transport: 'TCP', family: 'IPv4' },
  { title: 'TCP, IPv6', transport: 'TCP', family: 'IPv6' },
  { title: 'TCP behind a balancer', transport: 'TCP', family: 'IPv4', isProxied: true },
  { title: 'TLS', transport: 'TLS', family: 'IPv4' },
  { title: 'TLS, IPv6', transport: 'TLS', family: 'IPv6' },
  { title: 'WS', transport: 'WS', family: 'IPv4' },
  { title: 'WS, IPv6', transport: 'WS', family: 'IPv6' },
  { title: 'WSS', transport: 'WSS', family: 'IPv4' },
];

export const isStream = ({ transport }: Wire): boolean => transport !== 'UDP';
export const isWeb = ({ transport }: Wire): boolean => transport === 'WS' || transport === 'WSS';

// ---- pings

export const CRLF = Buffer.from('\r\n');
export const CRLF_PING = Buffer.from('\r\n\r\n');

export interface Ping {
  /** as they stand on the wire */
  octets: Buffer;
  /** Waits for its pong and takes it. */
  pong(): Promise<void>;
}

export interface PingKind {
  name: string;
  make(client: Agent): Ping;
  /** looks like half a ping, or like a pong, and has no answer */
  unanswered: { octets: Buffer; title: string };
  /** the requirements that an answer shows */
  ids: string;
}

const STUN: PingKind = {
  name: 'a STUN request',
  make(client) {
    const octets = stun();
    return {
      octets,
      async pong() {
        const isAnswer = (answer?: StunMessage) => answer?.id.equals(octets.subarray(8, 20)) === true;
        const { stun: answer } = await client.next((a) => isAnswer(a.stun));
        const seen = mappedAddress(answer as StunMessage);
        if (seen !== client.hostPort) throw new Error(`mapped to ${seen}`);
      },
    };
  },
  unanswered: { octets: CRLF, title: 'a lone CRLF is not answered, and the flow stays' },
  ids: 'EP-5.4-01 ST-8-01 ST-8-04 ST-8-05',
};

const DOUBLE_CRLF: PingKind = {
  name: 'CRLF CRLF',
  make: (client) => ({
    octets: CRLF_PING,
    pong: async () => {
      await client.next(isCrlf);
    },
  }),
  unanswered: {
    octets: CRLF,
    title: 'a lone CRLF is not answered, and the flow stays [EP-5.4-04 3261-7.5-01]',
  },
  ids: 'EP-5.4-02 GR-10-04',
};

const message = (name: string, opcode: number): PingKind => ({
  name: `CRLF CRLF in a ${name} message`,
  make: (client) => ({
    octets: frame(CRLF_PING, { opcode }),
    pong: async () => {
      const { opcode: got } = await client.next(isCrlf);
      if (got !== opcode) throw new Error(`the pong has opcode ${got}`);
    },
  }),
  unanswered: {
    octets: frame(CRLF, { opcode }),
    title: 'a lone CRLF is not answered, and the flow stays [EP-5.4-04]',
  },
  ids: 'EP-5.4-02 7118-6-02 7118-6-03',
});

const PING_FRAME: PingKind = {
  name: 'a Ping frame',
  make(client) {
    const payload = Buffer.from(unique('p'));
    return {
      octets: frame(payload, { opcode: PING }),
      async pong() {
        const got = await (client as WsAgent).nextControl();
        if (got.opcode !== PONG || !got.payload.equals(payload))
          throw new Error(`opcode ${got.opcode} with ${got.payload} for ${payload}`);
      },
    };
  },
  unanswered: {
    octets: frame(CRLF, { opcode: PONG }),
    title: 'a Pong frame is not answered, and the flow stays',
  },
  ids: '7118-6-01',
};

export function kindsOf(wire: Wire): PingKind[] {
  if (isWeb(wire)) return [message('text', TEXT), message('binary', BINARY), PING_FRAME];
  return [isStream(wire) ? DOUBLE_CRLF : STUN];
}

// ---- octets

/** A message of the client's as it stands on the wire. */
export const onWire = (client: Agent, bytes: Buffer): Buffer =>
  client instanceof WsAgent ? frame(bytes) : bytes;

/** A datagram, or octets of a stream as they are. */
export function write(client: Agent, octets: Buffer): void {
  if (client instanceof WsAgent) client.sendRaw(octets);
  else client.send(octets);
}

/** Each piece as a segment of its own (over TLS as a record too), if the network is not too busy. */
export async function writePieces(client: Agent, pieces: readonly Buffer[]): Promise<void> {
  for (const piece of pieces) {
    write(client, piece);
    await new Promise((r) => setTimeout(r, 4));
  }
}

/** Neither a message nor a control frame has come that was not taken. */
export async function nothing(client: Agent): Promise<void> {
  await client.expectNothing();
  if (client instanceof WsAgent && client.control.length > 0)
    throw new Error(`${client.name} got a frame with opcode ${client.control[0].opcode}`);
}

// ---- the edge

const BALANCER = freshHost();
/** whom the balancer names */
export const BEHIND = { host: '203.0.113.9', port: 40_000 };

export class WiredEdge<Core extends Agent> {
  readonly edge: Edge<Core>;
  readonly #listeners: Listeners;
  #neighbour: Agent | undefined;

  constructor(edge: Edge<Core>, listeners: Listeners) {
    this.edge = edge;
    this.#listeners = listeners;
  }

  get core(): Core {
    return this.edge.core;
  }

  /** A client that has connected, and said nothing but what a balancer says for it. */
  async open({ title, transport, family, isProxied }: Wire): Promise<Agent> {
    const host = isProxied ? BALANCER : undefined;
    const client = this.edge.keep(await this.#listeners.phone(transport, family, host, title));
    if (isProxied) client.send(block(BEHIND, BEHIND));
    return client;
  }

  /** What other clients have sent so far has been read: the edge must have one shard. */
  async hasRead(): Promise<void> {
    this.#neighbour ??= await this.open(WIRES[0]);
    for (let i = 0; i < 3; i++) await this.#neighbour.probe();
  }

  async close(): Promise<void> {
    await this.edge.close();
    this.#listeners.close();
  }
}

type Start<Core extends Agent> = (options: HoldfastOptions) => Promise<Edge<Core>>;

const startWired =
  <Core extends Agent>(start: Start<Core>) =>
  async ({ settings, ...options }: HoldfastOptions = {}): Promise<WiredEdge<Core>> => {
    const listeners = await Listeners.make(['IPv4', 'IPv6']);
    const all = { ...listeners.settings, TRUSTED: BALANCER, WORKERS: '1', ...settings };
    return new WiredEdge(
      await start({ ...options, ...listeners.at('UDP', 'IPv4'), settings: all }),
      listeners,
    );
  };

/** One shard, on every wire, with a core of the test's over UDP or TCP. */
export const startWiredEdge = startWired(startEdge);
export const startWiredEdgeOverTcp = startWired(startEdgeOverTcp);
