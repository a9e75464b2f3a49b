/** The user agent of this project with proxies of another's: Kamailio as edge, registrar and authoritative proxy. */
import { setImmediate } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { PATIENCE_MS } from '../harness/inbox.ts';
import { Desk, type Phone } from '../harness/phone.ts';
import { unique } from '../harness/sip.ts';
import { Kamailio } from './kamailio.ts';
import { find } from './program.ts';

describe.skipIf(!find('kamailio')).each(['udp', 'tcp', 'ws'])(
  'through a Kamailio edge over %s',
  (transport) => {
    let core: Kamailio;
    let edge: Kamailio;
    const desk = new Desk();
    beforeAll(async () => {
      core = await Kamailio.core();
      edge = await Kamailio.edge(core, { webSockets: transport === 'ws' });
    });
    afterEach(() => desk.close());
    afterAll(async () => {
      await edge?.stop();
      await core?.stop();
    });

    async function phoneOf(user: string): Promise<Phone> {
      const phone = desk.phone([`sip:${edge.host}:${edge.port};transport=${transport}`], {
        aor: `sip:${user}@${core.host}`,
      });
      phone.start();
      expect(await phone.event('registered')).toMatchObject({ outbound: true });
      return phone;
    }

    it('registers with outbound, is called, calls, and hangs up [UA-4.2.1-15 UA-4.3-07]', async () => {
      const [dora, milo] = [unique('dora'), unique('milo')];
      const callee = await phoneOf(dora);
      const caller = await phoneOf(milo);
      const requests = callee.agent.requests();
      const uri = `sip:${dora}@${core.host}`;
      const message = caller.agent.request('MESSAGE', uri, { body: 'hello' });
      const { value: got } = await requests.next();
      expect(got?.text).toBe('hello');
      got?.respond(200);
      expect((await message).status).toBe(200);

      const calling = caller.agent.invite(uri, { body: 'offer' });
      const { value: invite } = await requests.next();
      const accepted = invite?.accept({ body: 'answer' });
      const call = await calling;
      expect(call.message.text).toBe('answer');
      const other = await accepted;
      const info = other?.request('INFO');
      expect((await info)?.status).toBe(480); // nobody iterates there
      expect((await call.bye()).status).toBe(200);
      expect(await other?.ended).toBe('remote');
    });

    it(
      'has its keep-alives answered, and finds the dead edge out [UA-4.4-05 UA-4.5-02]',
      async () => {
        const phone = await phoneOf(unique('dora'));
        // a flow whose keep-alive was answered is replaced at once: that is how an answer shows
        await phone.advance(transport === 'udp' ? 24.1 : 95.1);
        for (const until = Date.now() + 300; Date.now() < until; ) await setImmediate();
        await edge.kill();
        if (transport === 'udp') await phone.advance(70);
        const lost = await phone.event('lost');
        expect(lost).toMatchObject({ retryIn: 0 });
        await phone.advance(0.02);
        // over UDP the REGISTER meets a closed port
        expect(await phone.event('failed')).toMatchObject({ retryIn: 30_000 });
      },
      2 * PATIENCE_MS,
    );
  },
);
