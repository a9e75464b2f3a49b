/**
 * A lossy path for datagrams between a program and the server: the program talks to `back`, the server
 * to `front`, and each datagram passes to the other side or is lost. What is lost is decided by a seeded
 * generator, one draw a datagram, so that a seed and an order of arrival give the same losses; the order
 * itself is the network's.
 *
 * With the port of the program at its front, it is what a NAT without port translation is: responses
 * find it by `received` alone.
 */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { Address } from '../harness/agent.ts';
import { freePort, freshHost } from '../harness/ports.ts';

export interface Count {
  passed: number;
  lost: number;
}

/** Mulberry32: 32 bits of state, uniform in [0, 1). */
export function seeded(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

export class Relay {
  readonly front: Address;
  readonly back: Address;
  readonly toServer: Count = { passed: 0, lost: 0 };
  readonly toProgram: Count = { passed: 0, lost: 0 };
  readonly #frontSocket: Socket;
  readonly #backSocket: Socket;
  readonly #server: Address;
  readonly #loss: number;
  readonly #random: () => number;

  private constructor(
    sockets: [front: Socket, back: Socket],
    program: Address,
    server: Address,
    loss: number,
    seed: number,
  ) {
    [this.#frontSocket, this.#backSocket] = sockets;
    [this.front, this.back] = sockets.map((socket) => {
      const { address, port } = socket.address();
      return { host: address, port };
    });
    this.#server = server;
    this.#loss = loss;
    this.#random = seeded(seed);
    this.#backSocket.on('message', (bytes) => this.#pass(bytes, this.#frontSocket, server, this.toServer));
    this.#frontSocket.on('message', (bytes) => this.#pass(bytes, this.#backSocket, program, this.toProgram));
    // an ICMP error of an earlier send: the datagram is lost, as on any path
    for (const socket of sockets) socket.on('error', () => {});
  }

  /** `loss`: 0 to 1, in each direction. */
  static async open(options: {
    program: Address;
    server: Address;
    loss: number;
    seed: number;
  }): Promise<Relay> {
    const { program, server, loss, seed } = options;
    const host = freshHost();
    const front = await bound(host, program.port);
    const back = await bound(freshHost(), await freePort(host));
    return new Relay([front, back], program, server, loss, seed);
  }

  #pass(bytes: Buffer, from: Socket, to: Address, count: Count): void {
    if (this.#random() < this.#loss) count.lost++;
    else {
      count.passed++;
      from.send(bytes, to.port, to.host);
    }
  }

  /** From the front to the server, and lost in no case; resolves with what comes next from there. */
  async ask(bytes: Buffer): Promise<Buffer> {
    this.#frontSocket.send(bytes, this.#server.port, this.#server.host);
    const [answer] = (await once(this.#frontSocket, 'message')) as [Buffer];
    return answer;
  }

  /** Share of all datagrams that was lost. */
  get lost(): number {
    const lost = this.toServer.lost + this.toProgram.lost;
    return lost / (lost + this.toServer.passed + this.toProgram.passed);
  }

  async close(): Promise<void> {
    for (const socket of [this.#frontSocket, this.#backSocket])
      await new Promise<void>((resolve) => socket.close(() => resolve()));
  }
}

async function bound(host: string, port: number): Promise<Socket> {
  const socket = createSocket({ type: 'udp4', recvBufferSize: 1 << 20, sendBufferSize: 1 << 20 });
  socket.bind({ address: host, port, exclusive: true });
  await once(socket, 'listening');
  return socket;
}
