/** `holdfast check` as it is run, against this server: an edge with a core and passwords behind it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Authority } from '../harness/certificates.ts';
import { Command, run } from '../harness/command.ts';
import { userLine } from '../harness/digest.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { boundByPassword, DOMAIN } from '../harness/registrar.ts';

const PASSWORD = 'tin-whistle-42';

const folder = mkdtempSync(join(tmpdir(), 'holdfast-check-'));
const passwordFile = join(folder, 'password');
const authority = new Authority();
let core: Holdfast;
let edge: Holdfast;
let tlsPort: number;

beforeAll(async () => {
  writeFileSync(passwordFile, `${PASSWORD}\nanother line\n`);
  const users = join(folder, 'users');
  writeFileSync(
    users,
    ['dora', 'milo', 'timo'].map((user) => `${userLine(user, DOMAIN, PASSWORD)}\n`).join(''),
  );
  const host = freshHost();
  const port = await freePort(host);
  tlsPort = await freePort(host);
  const { cert, key } = authority.issue([`IP:${host}`]);
  const common = { WORKERS: '2', FLOW_ANSWER_S: '1', MAX_FLOWS: '256' };
  core = await Holdfast.start({
    settings: {
      ...common,
      DOMAINS: DOMAIN,
      STORE: 'memory:',
      TRUSTED: `${host}/32,127.0.0.1/32`,
      AUTH: `file:${users}`,
    },
  });
  edge = await Holdfast.start({
    host,
    port,
    settings: {
      ...common,
      UPSTREAM: `sip:${core.host}:${core.port};transport=udp`,
      LISTEN: `udp:${host}:${port},tcp:${host}:${port},tls:${host}:${tlsPort}`,
      TLS_CERT: cert,
      TLS_KEY: key,
    },
  });
});
afterAll(async () => {
  await Promise.all([edge, core].map((server) => server?.stop()));
  authority.remove();
  rmSync(folder, { recursive: true, force: true });
});

interface Report {
  passed: number;
  failed: number;
  results: { rule: string; rfc: string; result: string; seen: string }[];
}

/** Not to be seen over this transport, or without --slow. */
const UNSEEN = {
  udp: ['EP-5.4-02', 'EP-5.4-04', 'EP-5.4-03a', 'EP-5.4-03b', '3261-7.5-01', 'EP-5.4-08', 'EP-3.4-01'],
  tcp: ['EP-5.4-08', 'ST-8-04', 'ST-5389-06', 'ST-5389-05', '5389-7.3.2'],
  tls: ['EP-5.4-08', 'ST-8-04', 'ST-5389-06', 'ST-5389-05', '5389-7.3.2', 'EP-3.4-01'],
};

describe.each(['udp', 'tcp', 'tls'] as const)('an edge with a core, over %s', (transport) => {
  it('passes every rule that can be seen, and is left without a binding', async () => {
    const user = { udp: 'dora', tcp: 'milo', tls: 'timo' }[transport];
    const port = transport === 'tls' ? tlsPort : edge.port;
    const { code, stdout, stderr } = await run([
      'check',
      `sip:${edge.host}:${port};transport=${transport}`,
      ...['--aor', `sip:${user}@${DOMAIN}`, '--password-file', passwordFile, '--json'],
      ...(transport === 'tls' ? ['--ca', authority.ca] : []),
    ]);
    const { results } = JSON.parse(stdout || `{"results":"${stderr}"}`) as Report;
    expect(results.filter(({ result }) => result === 'fail')).toEqual([]);
    expect(results.filter(({ result }) => result !== 'pass').map(({ rule }) => rule)).toEqual(
      UNSEEN[transport],
    );
    expect(code).toBe(0);
    const observer = await core.udp();
    expect(await boundByPassword(observer, `sip:${user}@${DOMAIN}`, PASSWORD)).toEqual([]);
    await observer.close();
  });
});

describe('without the right password', () => {
  it.each([
    ['none', [], 'it wants a password (--password-file)'],
    ['another', ['--password-file', join(folder, 'users')], 'it does not take the password'],
  ])('%s: says so', async (_which, more, seen) => {
    const { code, stdout } = await run([
      ...['check', `sip:${edge.host}:${edge.port};transport=tcp`, '--aor', `sip:dora@${DOMAIN}`],
      ...['--rules', 'RG-6-18', ...more],
    ]);
    expect(stdout).toContain(seen);
    expect(code).toBe(1);
  });
});

describe('a certificate of an authority that is not ours', () => {
  it('is a reason for an edge not to be reached', async () => {
    const uri = `sip:${edge.host}:${tlsPort};transport=tls`;
    const { code, stderr } = await run(['check', uri, '--aor', `sip:dora@${DOMAIN}`]);
    const says = 'no connection: refused, or its certificate is not accepted';
    expect([code, stderr]).toEqual([1, `${uri} is not reached: ${says}\n`]);
  });
});

describe('an interrupt', () => {
  it('ends it with the rule at work, of which nothing is said, and whose bindings are taken away', async () => {
    const words = [`sip:${edge.host}:${edge.port};transport=tcp`, '--aor', `sip:timo@${DOMAIN}`];
    words.push('--password-file', passwordFile);
    // the rule under way is silent for two minutes
    const command = new Command(['check', ...words, '--rules', 'RG-6-18,EP-5.4-08,AP-7-01', '--slow']);
    await command.printed(/^RG-6-18 /m);
    command.kill('SIGINT');
    const { code, stdout } = await command.ended;
    expect(stdout).not.toMatch(/EP-5.4-08|AP-7-01/);
    expect(stdout).toMatch(/\n1 passed, 0 failed, 0 not applicable\n$/);
    expect(code).toBe(130);
    const observer = await core.udp();
    expect(await boundByPassword(observer, `sip:timo@${DOMAIN}`, PASSWORD)).toEqual([]);
    await observer.close();
  });
});
