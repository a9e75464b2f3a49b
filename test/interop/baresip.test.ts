/** Two baresip clients register with outbound and call each other: every role in one process. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Holdfast } from '../harness/holdfast.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { Baresip } from './baresip.ts';
import { find } from './program.ts';

describe.skipIf(!find('baresip')).each(['udp', 'tcp'] as const)(
  'two baresip clients over %s',
  (transport) => {
    let server: Holdfast;
    let anna: Baresip;
    let ben: Baresip;

    beforeAll(async () => {
      const host = freshHost();
      const port = await freePort(host);
      server = await Holdfast.start({ host, port, settings: { DOMAINS: host } });
      const proxy = `sip:${host}:${port};transport=${transport}`;
      anna = await Baresip.start({ user: 'anna', domain: host, proxy });
      ben = await Baresip.start({ user: 'ben', domain: host, proxy });
    });
    afterAll(async () => {
      await anna?.stop();
      await ben?.stop();
      await server?.stop();
    });

    async function call(caller: Baresip, callee: Baresip): Promise<void> {
      caller.command('dial', callee.aor);
      await callee.event('CALL_ESTABLISHED');
      await caller.event('CALL_ESTABLISHED');
    }

    it('register with reg-id and are told that outbound is in use [RG-6-18 RG-6-16 GR-11.4-01]', async () => {
      await anna.registered();
      await ben.registered();
      for (const phone of [anna, ben]) {
        expect(phone.trace).toMatch(/Contact:.*reg-id=1/);
        expect(phone.trace).toMatch(/Require: outbound/);
      }
    });

    it('are told Flow-Timer [RG-6-25]', () => {
      expect(anna.trace).toMatch(/Flow-Timer: \d+/);
    });

    it('call each other, and the caller hangs up [AP-7-06 EP-5.3.2-02]', async () => {
      await call(anna, ben);
      anna.command('hangup');
      await ben.event('CALL_CLOSED');
    });

    it('call each other the other way round, and the callee hangs up [AP-7-06 EP-5.3.2-04]', async () => {
      await call(ben, anna);
      anna.command('hangup');
      await ben.event('CALL_CLOSED');
    });
  },
);
