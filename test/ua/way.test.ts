/** A flow without a registration: what it leaves behind. */
import { getEventListeners } from 'node:events';
import { afterEach, describe, expect, it } from 'vitest';
import { Agenda } from '../../src/ua/clock.ts';
import { Exchanges } from '../../src/ua/exchange.ts';
import { checkOptions } from '../../src/ua/options.ts';
import { LooseFlow } from '../../src/ua/way.ts';
import { Desk, proxyUri, StillClock } from '../harness/phone.ts';
import { freePort, freshHost } from '../harness/ports.ts';

const desk = new Desk();
afterEach(() => desk.close());

describe('a flow without a registration', () => {
  it('listens to the end of its agent as long as it lives, and the addresses that failed do not', async () => {
    const host = freshHost();
    const gone = `sip:${host}:${await freePort(host)};transport=tcp`;
    const edge = await desk.tcp();
    const agenda = new Agenda(new StillClock());
    const settings = checkOptions({
      aor: 'sip:dora@example.test',
      proxies: [gone, proxyUri(edge)],
      instanceId: 'urn:uuid:00000000-0000-4000-8000-000000000001',
    });
    const exchanges = new Exchanges({ agenda, timers: {}, onRequest: () => {}, onAck: () => {} });
    const { signal } = new AbortController();
    const over = Promise.withResolvers<LooseFlow>();
    const flow = await LooseFlow.open(settings, agenda, exchanges, over.resolve, signal);
    expect(getEventListeners(signal, 'abort')).toHaveLength(1);
    await expect.poll(() => edge.connections, { timeout: 10_000 }).toHaveLength(1);
    await edge.connections[0].reset();
    expect(await over.promise).toBe(flow);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });
});
