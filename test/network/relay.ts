/**
 * A relay of octets between one client and an edge, both ways, until it is told to swallow them: the NAT
 * or firewall that forgets a flow without a word. As a process of its own (relay-process.ts) it can be
 * stopped: then the edge's peer accepts what the kernel has room for and reads nothing.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import type { Address } from '../harness/agent.ts';
import { freePort, freshHost } from '../harness/ports.ts';

export type Transport = 'UDP' | 'TCP';

export class Relay {
  swallows = false;
  readonly address: Address;
  readonly close: () => Promise<void>;

  private constructor(address: Address, close: () => Promise<void>) {
    this.address = address;
    this.close = close;
  }

  static open(transport: Transport, to: Address): Promise<Relay> {
    return transport === 'UDP' ? Relay.#udp(to) : Relay.#tcp(to);
  }

  static async #udp(to: Address): Promise<Relay> {
    const near = createSocket('udp4');
    const far = createSocket('udp4');
    for (const socket of [near, far]) {
      socket.on('error', () => {});
      socket.bind({ address: freshHost(), port: 0 });
      await once(socket, 'listening');
    }
    const { address: host, port } = near.address();
    const relay = new Relay({ host, port }, async () => {
      near.close();
      far.close();
    });
    let client: Address | undefined;
    near.on('message', (bytes, from) => {
      client = { host: from.address, port: from.port };
      if (!relay.swallows) far.send(bytes, to.port, to.host);
    });
    far.on('message', (bytes) => {
      if (client && !relay.swallows) near.send(bytes, client.port, client.host);
    });
    return relay;
  }

  static async #tcp(to: Address): Promise<Relay> {
    const sockets: Socket[] = [];
    const host = freshHost();
    const port = await freePort(host);
    const server = createServer();
    const relay = new Relay({ host, port }, async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    const pipe = (from: Socket, into: Socket) => {
      sockets.push(from);
      from.on('data', (chunk) => {
        if (!relay.swallows) into.write(chunk);
      });
      from.on('error', () => {});
    };
    server.on('connection', (near) => {
      const far = connect({ host: to.host, port: to.port, localAddress: freshHost() });
      pipe(near, far);
      pipe(far, near);
    });
    server.listen({ host, port });
    await once(server, 'listening');
    return relay;
  }
}
