/** The user agent as the package gives it: with the resolver of the server, so that a proxy can have a name. */
import { afterEach, describe, expect, it } from 'vitest';
import { UserAgent } from '../../src/user-agent.ts';
import { accept, Desk } from '../harness/phone.ts';

const desk = new Desk();
afterEach(() => desk.close());

describe('the user agent of the package', () => {
  const agentOf = (...proxies: string[]) => {
    const agent = new UserAgent({ aor: 'sip:dora@example.test', proxies, dataDir: desk.dataDir() });
    desk.keep({ close: () => agent.stop({ remove: false }) });
    return agent;
  };

  it('finds a proxy by its name', async () => {
    const edge = await desk.tcp(undefined, '127.0.0.1');
    const agent = agentOf(`sip:localhost:${edge.port};transport=tcp`);
    const started = agent.start();
    const { message } = await accept(edge);
    expect(message.all('Route')).toEqual([`<sip:localhost:${edge.port};transport=tcp;lr>`]);
    await started;
    expect(agent.flows).toMatchObject([{ regId: 1, outbound: true }]);
  });

  it('tells when there is no such transport, and goes on', async () => {
    const agent = agentOf('sip:localhost;transport=sctp');
    const told = new Promise((resolve) => agent.once('flow', resolve));
    agent.start().catch(() => {});
    expect(await told).toMatchObject({ state: 'failed', cause: 'not-found' });
  });
});
