/** `holdfast check` as it is run, against this server as edge and registrar in one; and how it ends otherwise. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../harness/command.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { bound, DOMAIN } from '../harness/registrar.ts';

let both: Holdfast;
beforeAll(async () => {
  both = await Holdfast.start({ settings: { DOMAINS: DOMAIN, STORE: 'memory:', FLOW_TIMER: '1' } });
});
afterAll(() => both?.stop());

describe('edge and registrar in one', () => {
  it('passes too, where the registrar sees the flow itself and needs no Path', async () => {
    const words = [`sip:${both.host}:${both.port};transport=tcp`, '--aor', `sip:dora@${DOMAIN}`];
    const { code, stdout } = await run(['check', ...words]);
    expect(stdout).not.toContain('FAIL');
    expect(stdout).toMatch(/^EP-5.1-08 .* n\/a /m);
    expect(stdout).toMatch(
      /^EP-5.4-02 +5626 5.4, 4.4.1 +MUST +pass +a ping is answered by one CRLF: 1 pong in /m,
    );
    expect(stdout).toMatch(/\n32 passed, 0 failed, 7 not applicable\n$/);
    expect(code).toBe(0);
  });

  it('keeps a flow that is silent for Flow-Timer, with --slow', async () => {
    const words = [`sip:${both.host}:${both.port};transport=tcp`, '--aor', `sip:milo@${DOMAIN}`];
    const { code, stdout } = await run(['check', ...words, '--rules', 'EP-5.4-08', '--slow']);
    expect(stdout).toContain('reached after 1 s of silence');
    expect(code).toBe(0);
  });

  it('leaves a binding of somebody else alone', async () => {
    const client = await both.udp();
    const aor = `sip:other@${DOMAIN}`;
    const contact = '<sip:other@192.0.2.7>';
    const headers: [string, string][] = [['Expires', '600']];
    client.send(
      client.compose('REGISTER', `sip:${DOMAIN}`, {
        to: `<${aor}>`,
        from: `<${aor}>;tag=1`,
        contact,
        headers,
      }),
    );
    await client.next();
    const { code } = await run([
      ...['check', `sip:${both.host}:${both.port};transport=udp`, '--aor', aor],
      ...['--rules', 'RG-6-28,RG-6-32,RG-6-16'],
    ]);
    expect(code).toBe(0);
    expect((await bound(client, aor)).map(({ uri }) => uri)).toEqual(['sip:other@192.0.2.7']);
    await client.close();
  });
});

describe('an edge that is not there', () => {
  it('is said to be not reached, with exit code 1', async () => {
    const host = freshHost();
    const uri = `sip:${host}:${await freePort(host)};transport=tcp`;
    const { code, stdout, stderr } = await run(['check', uri, '--aor', `sip:dora@${DOMAIN}`]);
    expect([code, stdout, stderr]).toEqual([1, '', `${uri} is not reached: no connection: refused\n`]);
  });
});

describe('wrong usage', () => {
  it('ends with code 2', async () => {
    const { code, stderr } = await run(['check']);
    expect(stderr).toContain('usage: holdfast check EDGE-URI --aor SIP-URI');
    expect(code).toBe(2);
  });
});
