/**
 * Addresses and ports for tests that run side by side. Each test process takes its own /24 of
 * 127.0.0.0/8 (from its pid) and hands out one host per server or agent, so two files never meet on
 * an address; a port is given out only after UDP and TCP were both bound on it. Ports stay below the
 * kernel's ephemeral range, where an outgoing connection could take them in between.
 *
 * It does not reserve the port: between this check and the server's own bind there is a gap, which
 * only a wildcard listener of a foreign program could use.
 */
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';

const FIRST_PORT = 10_000;
const LAST_PORT = 29_999;

let hosts = 0;
let cursor = FIRST_PORT + ((process.pid * 61) % (LAST_PORT - FIRST_PORT));

/** A loopback host nobody else in this test run uses: 127.a.b.c with a.b from the pid. */
export function freshHost(): string {
  hosts = (hosts % 250) + 1;
  return `127.${1 + ((process.pid >> 8) % 250)}.${process.pid % 256}.${hosts}`;
}

/** A port on `host` that is free for UDP and for TCP. */
export async function freePort(host: string): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    cursor = cursor >= LAST_PORT ? FIRST_PORT : cursor + 1;
    if ((await bindsTcp(host, cursor)) && (await bindsUdp(host, cursor))) return cursor;
  }
  throw new Error(`no free port on ${host}`);
}

function bindsTcp(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

function bindsUdp(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
    socket.once('error', () => resolve(false));
    socket.bind({ address: host, port, exclusive: true }, () => socket.close(() => resolve(true)));
  });
}
