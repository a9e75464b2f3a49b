/**
 * Whether the listeners' addresses are free. Sockets of one SO_REUSEPORT group join whoever is bound
 * already, if that is a group too: a second process on the same port would not fail but take a share of
 * the first one's traffic. So each address is bound once alone, before the group is made.
 */
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import type { ListenerConfig } from '../config/config.ts';
import { UDP } from '../wire/via.ts';

/** Rejects with the first address that is taken or cannot be bound. */
export async function assertVacant(listen: readonly ListenerConfig[]): Promise<void> {
  for (const l of listen) {
    try {
      await (l.transport === UDP ? bindDatagram(l) : bindStream(l));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new Error(`${l.scheme}:${l.host}:${l.port} cannot be bound: ${code}`);
    }
  }
}

function bindDatagram({ host, port }: ListenerConfig): Promise<void> {
  const socket = createSocket({ type: host.includes(':') ? 'udp6' : 'udp4', ipv6Only: host.includes(':') });
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(port, host, () => socket.close(resolve));
  });
}

function bindStream({ host, port }: ListenerConfig): Promise<void> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, ipv6Only: host.includes(':') }, () => server.close(() => resolve()));
  });
}
