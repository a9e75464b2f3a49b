/** A local port that is not to be had is told apart from an edge that is not there. */
import { createServer, type Server } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { resettable } from '../../src/check/sameport.ts';
import { numericOnly } from '../../src/ua/locating.ts';
import { parseSipUri, type SipUri } from '../../src/wire/uri.ts';
import { TCP } from '../../src/wire/via.ts';
import { freePort, freshHost } from '../harness/ports.ts';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function listening(): Promise<{ host: string; port: number }> {
  const host = freshHost();
  const port = await freePort(host);
  const server = createServer();
  servers.push(server);
  await new Promise<void>((resolve) => server.listen({ host, port }, resolve));
  return { host, port };
}

/** Whether the port was taken, after a connection from it to there has ended. */
async function taken(localPort: number, { host, port }: { host: string; port: number }): Promise<boolean> {
  const { targets } = await numericOnly(parseSipUri(`sip:${host}:${port};transport=tcp`) as SipUri, [TCP]);
  const from = resettable(localPort);
  await new Promise<unknown>((resolve) => {
    const ignored = () => {};
    const connection = from.dial(
      targets[0],
      {
        opened: () => connection.close(),
        message: ignored,
        pong: ignored,
        stun: ignored,
        read: ignored,
        closed: resolve,
      },
      { domain: host },
    );
  });
  return from.taken;
}

it('a port that somebody listens on is taken', async () => {
  const [here, there] = [await listening(), await listening()];
  expect(await taken(here.port, there)).toBe(true);
});

it('a free port is not, where nobody listens at the other end', async () => {
  const host = freshHost();
  expect(await taken(await freePort('0.0.0.0'), { host, port: await freePort(host) })).toBe(false);
});
