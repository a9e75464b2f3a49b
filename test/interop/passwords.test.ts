/**
 * Real clients with passwords: each registers and calls, by the best digest that it can. linphone knows SHA-256;
 * baresip 1.0 and SIPp know MD5 alone, and fail where anything else is offered.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { userLine } from '../harness/digest.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { Baresip } from './baresip.ts';
import { Linphone } from './linphone.ts';
import { find } from './program.ts';
import { Sipp } from './sipp.ts';

const PASSWORDS = { anna: 'tin-whistle-42', lin: 'sesame', kim: 'open' };
const missing = ['baresip', 'linphonec', 'sipp'].filter((program) => !find(program));

describe.skipIf(missing.length > 0).each(['udp', 'tcp'] as const)('with passwords over %s', (transport) => {
  let server: Holdfast;
  let folder: string;
  let anna: Baresip;
  let lin: Linphone;

  beforeAll(async () => {
    const host = freshHost();
    const port = await freePort(host);
    folder = mkdtempSync(join(tmpdir(), 'holdfast-passwords-'));
    const users = join(folder, 'users');
    const lines = Object.entries(PASSWORDS).map(([user, password]) =>
      userLine(user, host, password, user !== 'lin' ? ['MD5'] : undefined),
    );
    writeFileSync(users, `${lines.join('\n')}\n`, { mode: 0o600 });
    server = await Holdfast.start({ host, port, settings: { DOMAINS: host, AUTH: `file:${users}` } });
    const proxy = `sip:${host}:${port};transport=${transport}`;
    anna = await Baresip.start({ user: 'anna', domain: host, proxy, password: PASSWORDS.anna });
    lin = await Linphone.start({ user: 'lin', domain: host, proxy, password: PASSWORDS.lin });
  });
  afterAll(async () => {
    await anna?.stop();
    await lin?.stop();
    await server?.stop();
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  it('baresip registers by MD5 [3261-22-01 8760-2.4-01]', async () => {
    await anna.registered();
    expect(anna.trace).toMatch(/^Authorization: Digest.*response="[0-9a-f]{32}"/m);
  });

  // its scenario is one for datagrams
  if (transport === 'udp')
    it('SIPp registers and calls by MD5, fifty times [3261-22-01]', async () => {
      const host = freshHost();
      const at = { host, port: await freePort(host) };
      const sipp = await Sipp.start({
        scenario: 'sipp-password.xml',
        at,
        to: server.address,
        calls: 50,
        rate: 50,
        seconds: 20,
      });
      expect(await sipp.ended, sipp.story).toBe(0);
      await sipp.stop();
    });

  it('linphone registers by SHA-256 [3261-22-01 8760-2.4-01 8760-2.6-02]', async () => {
    await lin.registered();
    expect(lin.log).toMatch(/^Authorization: .*algorithm=SHA-256.*response="[0-9a-f]{64}"/m);
  });

  it('linphone calls baresip, whom it must tell who it is', async () => {
    lin.command(`call ${anna.aor}`);
    await anna.event('CALL_ESTABLISHED');
    await lin.prints(/ connected/);
    expect(lin.log).toMatch(/^Proxy-Authorization: .*algorithm=SHA-256/m);
    anna.command('hangup');
    await lin.prints(/ ended/);
  });

  it('baresip calls linphone, and linphone hangs up', async () => {
    anna.command('dial', lin.aor);
    await anna.event('CALL_ESTABLISHED');
    expect(anna.trace).toMatch(/^Proxy-Authorization: Digest.*response="[0-9a-f]{32}"/m);
    lin.command('terminate');
    await anna.event('CALL_CLOSED');
  });
});
