/**
 * A phone in a browser over a WebSocket, and phones over UDP and TLS, with passwords: every role in one process. What the
 * browser says it says by JsSIP, which registers with +sip.instance and reg-id.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { UdpAgent } from '../harness/agent.ts';
import { type Certificates, makeCertificates } from '../harness/certificates.ts';
import { userLine } from '../harness/digest.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { isFinal, isRequest } from '../harness/inbox.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { call } from '../harness/registrar.ts';
import { Baresip } from './baresip.ts';
import { BrowserPhone } from './jssip.ts';
import { find } from './program.ts';
import { Sipp } from './sipp.ts';

const missing = ['chromium', 'baresip', 'sipp'].filter((program) => !find(program));

describe.skipIf(missing.length > 0).each(['ws', 'wss'] as const)('JsSIP in Chromium over %s', (scheme) => {
  let server: Holdfast;
  let certificates: Certificates;
  let kim: BrowserPhone;
  let anna: Baresip;
  let agent: UdpAgent;
  let host: string;
  let folder: string;

  beforeAll(async () => {
    host = freshHost();
    certificates = makeCertificates([`IP:${host}`]);
    const port = await freePort(host);
    folder = mkdtempSync(join(tmpdir(), 'holdfast-browser-'));
    const users = join(folder, 'users');
    // MD5 is all that these two know
    const lines = ['kim', 'anna'].map((user) => userLine(user, host, `of-${user}`, ['MD5']));
    writeFileSync(users, `${lines.join('\n')}\n`, { mode: 0o600 });
    const [tls, web] = [port + 1, port + 2];
    const listen = `udp:${host}:${port},tcp:${host}:${port},tls:${host}:${tls},${scheme}:${host}:${web}`;
    const settings = {
      LISTEN: listen,
      DOMAINS: host,
      AUTH: `file:${users}`,
      TLS_CERT: certificates.cert,
      TLS_KEY: certificates.key,
    };
    server = await Holdfast.start({ host, port, settings });
    kim = await BrowserPhone.open({
      url: `${scheme}://${host}:${web}`,
      aor: `sip:kim@${host}`,
      password: 'of-kim',
    });
    const proxy = `sip:${host}:${tls};transport=tls`;
    anna = await Baresip.start({ user: 'anna', domain: host, proxy, media: 'web', password: 'of-anna' });
    agent = await server.udp();
  });
  afterAll(async () => {
    await anna?.stop();
    await kim?.close();
    await agent?.close();
    await server?.stop();
    certificates?.remove();
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  it('registers a flow of its own, and is told Flow-Timer [RG-6-18 RG-6-25]', async () => {
    await kim.registered();
    expect(await kim.state('contact')).toMatch(/reg-id=1;\+sip\.instance="<urn:uuid:/);
    expect(await kim.state('require')).toBe('outbound');
    expect(await kim.state('flowTimer')).toMatch(/^\d+$/);
  });

  it('is called by SIPp over UDP, which hangs up [EP-5.3.1-01 EP-5.3.2-01]', async () => {
    const at = { host: freshHost(), port: 0 };
    at.port = await freePort(at.host);
    const sipp = await Sipp.start({
      scenario: 'sipp-browser.xml',
      at,
      to: server.address,
      calls: 1,
      seconds: 20,
    });
    expect(await sipp.ended, sipp.story).toBe(0);
    await sipp.stop();
    expect(await kim.state('calls[0].confirmed')).toBe(true);
    expect(await kim.state('calls[0].ended')).toBe('remote');
  });

  it('is called by baresip over TLS, and hangs up', async () => {
    await anna.registered();
    anna.command('dial', `sip:kim@${host}`);
    await anna.event('CALL_ESTABLISHED');
    await kim.browser.becomes('state.calls[1].confirmed');
    await kim.browser.evaluate('state.session.terminate()');
    await anna.event('CALL_CLOSED');
  });

  it('calls baresip over TLS, which hangs up', async () => {
    const options = '{ mediaConstraints: { audio: true, video: false }, pcConfig: { iceServers: [] } }';
    await kim.browser.evaluate(`void ua.call('${anna.aor}', ${options})`);
    await anna.event('CALL_ESTABLISHED');
    await kim.browser.becomes('state.calls[2].confirmed');
    anna.command('hangup');
    await kim.browser.becomes("state.calls[2].ended === 'remote'");
  });

  it('gets a message from UDP, and sends one there', async () => {
    const callId = call(agent, `sip:kim@${host}`, 'MESSAGE', { body: 'hello' });
    expect((await agent.next(isFinal(callId))).message.status).toBe(200);
    expect(await kim.state('messages')).toEqual(['hello']);
    await kim.browser.evaluate(`void ua.sendMessage('${agent.uri('bob')}', 'and back')`);
    const got = await agent.next(isRequest('MESSAGE'));
    expect(got.message.body.toString()).toBe('and back');
    agent.reply(got, 200, 'OK');
  });
});
