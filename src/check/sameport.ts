/**
 * TCP from a local port that can be used twice: the first connection ends with a reset, which leaves no TIME_WAIT, so
 * that a second one has the same four numbers at once. As another client behind the same NAT may have them one day.
 *
 * The port is ours to choose and not of the kernel's range: one that the kernel gave may be shared with connections to
 * elsewhere, and can then not be asked for.
 */
import net from 'node:net';
import { type Dial, overStream } from '../ua/connection.ts';
import { TCP } from '../wire/via.ts';

const FIRST_PORT = 20_000;
const PORTS = 10_000;

export const somePort = (): number => FIRST_PORT + Math.floor(Math.random() * PORTS);

export interface Resettable {
  dial: Dial;
  reset(): void;
  /** The port could not be had: a fault of this machine and not of the edge. */
  readonly taken: boolean;
}

/** of bind, and of connect where a connection with the same four numbers is left */
const TAKEN = new Set(['EADDRINUSE', 'EADDRNOTAVAIL']);

export function resettable(localPort: number): Resettable {
  let socket: net.Socket | undefined;
  let taken = false;
  return {
    dial: ({ address }, handler) => {
      const opened = net.connect({ host: address.host, port: address.port, localPort, noDelay: true });
      socket = opened;
      opened.once('error', ({ code }: NodeJS.ErrnoException) => {
        taken = TAKEN.has(code ?? '');
      });
      const connection = overStream(TCP, opened, handler);
      opened.once('connect', () => connection.opened(opened.localAddress ?? '', opened.localPort ?? 0));
      return connection;
    },
    reset: () => {
      socket?.resetAndDestroy();
    },
    get taken() {
      return taken;
    },
  };
}
