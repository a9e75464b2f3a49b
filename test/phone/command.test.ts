/** `holdfast ua` as it is run: processes with a registrar between them. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { UdpAgent } from '../harness/agent.ts';
import { Command, run } from '../harness/command.ts';
import { userLine } from '../harness/digest.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { isRequest } from '../harness/inbox.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { boundByPassword, DOMAIN, statusOf } from '../harness/registrar.ts';

const PASSWORD = 'tin-whistle-42';

const folder = mkdtempSync(join(tmpdir(), 'holdfast-phone-'));
const passwordFile = join(folder, 'password');
let server: Holdfast;
const opened: { close(): Promise<unknown> }[] = [];

beforeAll(async () => {
  const users = join(folder, 'users');
  writeFileSync(users, ['dora', 'milo'].map((user) => `${userLine(user, DOMAIN, PASSWORD)}\n`).join(''));
  writeFileSync(passwordFile, PASSWORD);
  server = await Holdfast.start({
    settings: {
      DOMAINS: DOMAIN,
      STORE: 'memory:',
      FLOW_TIMER: '1',
      AUTH: `file:${users}`,
      TRUSTED: '127.0.0.1/32',
      WORKERS: '1',
    },
  });
});
afterAll(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});
afterEach(async () => {
  for (const thing of opened.splice(0)) await thing.close();
});

const keep = <T extends { close(): Promise<unknown> }>(thing: T): T => {
  opened.push(thing);
  return thing;
};

const proxyOf = ({ host, port }: { host: string; port: number }) => `sip:${host}:${port};transport=tcp`;
const aorOf = (user: string) => `sip:${user}@${DOMAIN}`;
const wordsOf = (user: string, ...more: string[]) => [
  ...['ua', '--aor', aorOf(user), '--password-file', passwordFile, '--proxy', proxyOf(server)],
  ...more,
];

async function phoneOf(user: string, ...more: string[]): Promise<Command> {
  const phone = keep(new Command(wordsOf(user, ...more)));
  await phone.printed(/\(reg-id 1\): registered, outbound/);
  return phone;
}

describe('two at work', () => {
  it('send each other what is typed, one line for an event, and are unregistered by an interrupt', async () => {
    const [dora, milo] = await Promise.all([phoneOf('dora'), phoneOf('milo')]);
    dora.type(`${aorOf('milo')} grüße\n${aorOf('milo')}   noch eins \n`);
    // what comes between is of the keep-alives
    await milo.printed(
      /^from sip:dora@example\.test: grüße\n(?:.*keep-alive.*\n)*from sip:dora@example\.test: noch eins$/m,
    );
    await dora.printed(/(?:^to sip:milo@example\.test: 200 OK\n(?:.*keep-alive.*\n)*){2}/m);
    milo.type('who is it\n');
    await milo.printed(/^to send a message: sip:WHO TEXT$/m);
    await dora.printed(/\(reg-id 1\): keep-alive answered in [\d.]+ ms/);
    const timo = await phoneOf('milo');
    dora.kill('SIGINT');
    milo.kill('SIGTERM');
    // the shell tells that the terminal is gone, and so does the kernel
    for (let twice = 0; twice < 2; twice++) timo.kill('SIGHUP');
    for (const { code, stdout } of [await dora.ended, await milo.ended, await timo.ended]) {
      expect(stdout).toMatch(/unregistered\n$/);
      expect(code).toBe(0);
    }
    const observer = keep(await server.udp());
    for (const user of ['dora', 'milo'])
      expect(await boundByPassword(observer, aorOf(user), PASSWORD)).toEqual([]);
  });

  it('are unregistered too when whoever reads their output goes away', async () => {
    const dora = await phoneOf('dora');
    dora.unread();
    expect(await dora.ended).toMatchObject({ code: 0, stderr: '' }); // the next keep-alive is a line
    const observer = keep(await server.udp());
    expect(await boundByPassword(observer, aorOf('dora'), PASSWORD)).toEqual([]);
  });

  it('print no control characters of a peer, answer OPTIONS, and refuse what they cannot do', async () => {
    const dora = await phoneOf('dora');
    const caller = keep(await server.udp({ host: '127.0.0.1' }));
    expect(await statusOf(caller, aorOf('dora'), 'MESSAGE', { body: 'a\u001b[2Jb\nc' })).toBe(200);
    await dora.printed(/^from sip:tester@example\.test: a \[2Jb c$/m);
    expect(await statusOf(caller, aorOf('dora'), 'OPTIONS')).toBe(200);
    expect(await statusOf(caller, aorOf('dora'), 'INFO')).toBe(405);
    expect(await statusOf(caller, aorOf('dora'), 'SUBSCRIBE')).toBe(405);
    await dora.printed(/^from sip:tester@example\.test: SUBSCRIBE, refused$/m);
  });
});

describe('a proxy that goes', () => {
  it('is told, with the wait for the next attempt', async () => {
    const settings = { DOMAINS: DOMAIN, STORE: 'memory:', WORKERS: '1', FLOW_TIMER: '1' };
    const other = await Holdfast.start({ settings });
    keep({ close: () => other.stop() });
    const phone = keep(
      new Command([
        'ua',
        '--aor',
        aorOf('timo'),
        '--proxy',
        proxyOf(other),
        '--proxy',
        proxyOf(await nowhere()),
      ]),
    );
    await phone.printed(/\(reg-id 1\): registered, outbound/);
    await phone.printed(/\(reg-id 2\): failed: refused, next attempt in \d+ s/);
    // from now on the flow was a success: the next attempt is at once
    await phone.printed(/\(reg-id 1\): keep-alive answered/);
    await other.kill('SIGKILL');
    await phone.printed(/\(reg-id 1\): lost: (closed|reset), next attempt in 0.0 s/);
    await phone.printed(/\(reg-id 1\): failed: refused, next attempt in [3-6]\d s/);
  });
});

async function nowhere(): Promise<{ host: string; port: number }> {
  const host = freshHost();
  return { host, port: await freePort(host) };
}

describe('with --data', () => {
  it('is the same device in the next life, and its binding is replaced', async () => {
    const data = join(folder, 'data');
    const first = await phoneOf('dora', '--data', data);
    await first.close(); // SIGKILL: nothing is unregistered
    const second = await phoneOf('dora', '--data', data);
    const [, instance] = await second.printed(/^sip:dora@example\.test, (urn:uuid:\S+)$/m);
    expect(first.stdout).toContain(instance);
    expect(readFileSync(join(data, 'user-agent.json'), 'utf8')).toContain(instance);
    const observer = keep(await server.udp());
    const contacts = await boundByPassword(observer, aorOf('dora'), PASSWORD);
    expect(contacts.map((contact) => contact.instance)).toEqual([`"<${instance}>"`]);
    second.kill('SIGINT');
    await second.ended;
  });
});

describe('one message', () => {
  it('ends with 0 if it is taken, and leaves no binding behind', async () => {
    const milo = await phoneOf('milo');
    const { code, stdout } = await run(wordsOf('dora', '--to', aorOf('milo'), '--message', 'hello there'));
    expect([code, stdout]).toEqual([0, `${aorOf('milo')}: 200 OK\n`]);
    await milo.printed(/^from sip:dora@example\.test: hello there$/m);
    const observer = keep(await server.udp());
    expect(await boundByPassword(observer, aorOf('dora'), PASSWORD)).toEqual([]);
  });

  it('ends soon after its answer, though another proxy says nothing at all', async () => {
    await phoneOf('milo');
    const host = freshHost();
    const silent = keep(await UdpAgent.open({ host, port: await freePort(host), name: 'silent proxy' }));
    const words = wordsOf(
      'dora',
      '--to',
      aorOf('milo'),
      '--message',
      'hello',
      '--proxy',
      `sip:${host}:${silent.port}`,
    );
    // Timer F of the other's REGISTER is longer than this test may take
    const { code, stdout } = await run(words);
    expect([code, stdout]).toEqual([0, `${aorOf('milo')}: 200 OK\n`]);
    expect(silent.arrivals.filter(isRequest('REGISTER')).length).toBeGreaterThan(0);
  });

  it('ends with 1 if nobody is there', async () => {
    const { code, stdout } = await run(wordsOf('dora', '--to', aorOf('milo'), '--message', 'hello'));
    expect([code, stdout]).toEqual([1, `${aorOf('milo')}: 480 Temporarily Unavailable\n`]);
  });

  it('ends with 1 if no proxy takes the registration, by its answer or not at all', async () => {
    const gone = proxyOf(await nowhere());
    const { code, stderr } = await run([
      ...['ua', '--aor', aorOf('dora'), '--proxy', proxyOf(server), '--proxy', gone],
      ...['--to', aorOf('milo'), '--message', 'hello'],
    ]);
    expect(stderr).toContain(`${gone} (reg-id 2): failed: refused\n`);
    expect(stderr).toContain(`${proxyOf(server)} (reg-id 1): failed: answered 401\n`);
    expect(stderr).toMatch(/sip:milo@example\.test: not registered so far\n$/);
    expect(code).toBe(1);
  });
});

describe('a check', () => {
  const checking = () => {
    const words = [proxyOf(server), '--aor', aorOf('dora'), '--password-file', passwordFile];
    return keep(new Command(['check', ...words, '--slow'])); // one of the rules is silent for Flow-Timer
  };
  const bound = async () => boundByPassword(keep(await server.udp()), aorOf('dora'), PASSWORD);

  it('ends when nobody reads its output, and leaves no binding behind', async () => {
    const check = checking();
    check.unread();
    expect(await check.ended).toMatchObject({ code: 130, stderr: '' });
    expect(await bound()).toEqual([]);
  });

  it.each(['SIGTERM', 'SIGHUP'] as const)('ends by %s as by SIGINT', async (signal) => {
    const check = checking();
    await check.printed(/ pass /);
    check.kill(signal);
    expect(await check.ended).toMatchObject({ code: 130, stderr: '' });
    expect(await bound()).toEqual([]);
  });
});

describe('wrong usage ends with code 2 and says what is right', () => {
  it.each([
    [[], 'an AOR and a proxy are needed'],
    [['--aor', 'sip:a@b', '--proxy', 'http://x'], 'proxies is "http://x"'],
    [['--aor', 'sip:a@b', '--proxy', 'sip:x', '--to', 'sip:c@d'], '--to and --message go together'],
  ])('%j', async (words, says) => {
    const { code, stderr } = await run(['ua', ...words]);
    expect(stderr).toContain(says);
    expect(stderr).toContain('usage: holdfast ua --aor SIP-URI --proxy URI');
    expect(code).toBe(2);
  });
});
