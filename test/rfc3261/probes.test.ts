/** OPTIONS to the targets of the upstream (HOLDFAST_PROBE_S), on a clock that the test moves. */
import { afterEach, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { isRequest } from '../harness/inbox.ts';
import { Site, served } from '../harness/site.ts';

let site: Site | undefined;
afterEach(() => site?.close());

const isProbe = isRequest('OPTIONS');

describe.each(['stateful', 'stateless'])('a target that is probed, %s', (forwarding) => {
  const start = async () => {
    site = await Site.prepare();
    const [first, second] = [await site.udp(), await site.udp()];
    site.servers('udp', [
      [first, 1],
      [second, 2],
    ]);
    const settings = { WORKERS: '1', PROBE_S: '10', FORWARDING: forwarding };
    const server = await site.start('sip:core.test', { clocked: true, settings });
    const client = await site.client();
    /** Time goes on in steps of a second; these answer what they are asked meanwhile. */
    const pass = async (seconds: number, ...answering: Agent[]) => {
      for (let i = 0; i < seconds; i++) {
        await server.advance(1_000);
        for (const core of answering) {
          for (let round = 0; round < 2; round++) await core.probe(); // after the second all that is due is here
          while (core.arrivals.some(isProbe)) core.reply(await core.next(isProbe), 404, 'Not Found');
          await core.probe();
        }
      }
    };
    return { server, client, first, second, pass };
  };

  it('gets an OPTIONS of ours each interval, and any answer counts', async () => {
    const { server, client, first, second, pass } = await start();
    const { message } = await first.next(isProbe);
    expect(message.all('Max-Forwards')).toEqual(['70']);
    expect(message.via).toHaveLength(1);
    expect(message.all('From')[0]).toMatch(
      new RegExp(`^<sip:holdfast@${server.host}:${server.port}>;tag=\\w+$`),
    );
    expect(message.all('To')[0]).toBe(`<sip:${first.hostPort}>`);
    for (let i = 0; i < 4; i++) {
      await pass(10, first, second);
    }
    await served(client, first);
    expect(server.logs.filter((line) => line.event === 'target-dead')).toEqual([]);
  });

  it('is dead after two that it did not answer, and lives again after two that it did', async () => {
    const { server, client, first, second, pass } = await start();
    await first.next(isProbe);
    await pass(13, second);
    expect(server.logs.filter((line) => line.event === 'target-dead')).toEqual([]);
    await pass(1, second);
    await server.logged((line) => line.event === 'target-dead' && line.address === first.hostPort);
    await served(client, second); // at once: nobody has to wait for the dead one
    await pass(1, first, second);
    await served(client, second);
    await pass(1, first, second);
    await server.logged((line) => line.event === 'target-alive' && line.address === first.hostPort);
    await served(client, first);
  });
});
