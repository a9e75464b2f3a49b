/**
 * What somebody tries who wants another user's calls, or the registrar down: each is refused with its code, nothing of
 * it is stored, and the server answers others.
 */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { challenges, parameter, proof, userLine } from '../harness/digest.ts';
import { newInstance, type RegisterOptions } from '../harness/flows.ts';
import { isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { call, DOMAIN, Registrar, register, statusOf } from '../harness/registrar.ts';
import { type SipMessage, unique } from '../harness/sip.ts';

const PASSWORDS: Record<string, string> = { victim: 'tin-whistle-42', mallory: 'own' };
const aorOf = (user: string) => `sip:${user}@${DOMAIN}`;
const STRANGER = { from: '<sip:eve@elsewhere.test>;tag=e' };

let site: Registrar;
let gateway: Agent;
beforeAll(async () => {
  const users = join(mkdtempSync(join(tmpdir(), 'holdfast-attacks-')), 'users');
  const lines = Object.entries(PASSWORDS).map(([user, password]) => userLine(user, DOMAIN, password));
  writeFileSync(users, `${lines.join('\n')}\n`);
  site = await Registrar.start('lmdb', { settings: { AUTH: `file:${users}`, WORKERS: '2' } });
  gateway = await site.client();
});
afterAll(() => site?.close());

const attack = async (client: Agent, user: string, authorization: string, options: RegisterOptions = {}) =>
  (await register(client, { user, cseq: 2, headers: [['Authorization', authorization]], ...options })).answer;

const challenge = async (client: Agent, user: string): Promise<SipMessage> =>
  (await register(client, { user })).answer;

const credentialsOf = async (client: Agent, user: string, nonceFor = user): Promise<string> =>
  proof(await challenge(client, nonceFor), { user, password: PASSWORDS[user] });

async function registerAs(user: string, client: Agent, options: RegisterOptions = {}): Promise<SipMessage> {
  return attack(client, user, await credentialsOf(client, user), options);
}

/** Is there anybody to call? 480: no binding of that user. */
const callable = (user: string) => statusOf(gateway, aorOf(user), 'MESSAGE', STRANGER);

async function takeCall(phone: Agent, user: string): Promise<void> {
  const callId = call(gateway, aorOf(user), 'MESSAGE', STRANGER);
  phone.reply(await phone.next(isRequest('MESSAGE', callId)), 200, 'OK');
  await gateway.next(isResponse(200, callId));
}

describe('an attacker', () => {
  it('with an Authorization that he has seen gets a challenge [7616-x-01]', async () => {
    const phone = await site.client();
    const authorization = await credentialsOf(phone, 'victim');
    const thief = await site.client('TCP');
    expect((await attack(phone, 'victim', authorization, { expires: 0 })).status).toBe(200);
    const answer = await attack(thief, 'victim', authorization);
    expect([answer.status, /stale=true/.test(challenges(answer)[0])]).toEqual([401, true]);
    expect(await callable('victim')).toBe(480);
  });

  it('with a nonce that was made for another address gets a challenge, his own password or not', async () => {
    const thief = await site.client();
    const answer = await attack(thief, 'mallory', await credentialsOf(thief, 'mallory', 'victim'));
    expect(answer.status).toBe(401);
    expect(await callable('mallory')).toBe(480);
  });

  it('with his own password gets no binding of another user [SE-12-02 3261-10.3-01]', async () => {
    const thief = await site.client();
    const asked = await challenge(thief, 'victim');
    const answer = await attack(thief, 'victim', proof(asked, { user: 'mallory', password: 'own' }));
    expect(answer.status).toBe(403);
    expect(await callable('victim')).toBe(480);
  });

  it('with the instance-id of another user replaces nothing of his [SE-12-02]', async () => {
    const instance = newInstance();
    const phone = await site.client();
    expect((await registerAs('victim', phone, { instance })).status).toBe(200);
    const thief = await site.client();
    expect((await registerAs('mallory', thief, { instance })).status).toBe(200);
    await takeCall(phone, 'victim');
    await takeCall(thief, 'mallory');
    expect((await registerAs('victim', phone, { instance, expires: 0 })).status).toBe(200);
    expect((await registerAs('mallory', thief, { instance, expires: 0 })).status).toBe(200);
  });

  it('with an Authorization of 10 MB is cut off before it has come in', async () => {
    const client = await site.connection();
    const { bytes, end } = huge(client);
    client.socket.write(bytes);
    client.socket.on('error', () => {});
    const block = Buffer.alloc(1 << 16, 0x61);
    let sent = 0;
    let isOpen = true;
    void client.closed.then(() => {
      isOpen = false;
    });
    while (isOpen && sent < 10_000_000) {
      sent += block.length;
      await new Promise((r) => client.socket.write(block, r));
    }
    if (isOpen) client.socket.write(end);
    await client.closed;
    expect(await callable('victim')).toBe(480);
  });

  it('with an Authorization that fills a datagram gets 513', async () => {
    const client = await site.client();
    const { bytes, end, callId } = huge(client);
    client.send(Buffer.concat([bytes, Buffer.alloc(40_000, 0x61), end]));
    expect((await client.next(isFinal(callId))).message.status).toBe(513);
    expect(await callable('victim')).toBe(480);
  });

  it('with a thousand Contacts gets 403, and none of them is stored', async () => {
    const client = await site.connection();
    const list = Array.from({ length: 1_000 }, (_, i) => `<sip:m@h${i}>`).join(',');
    const answer = await registerAs('mallory', client, { contact: list });
    expect([answer.status, answer.reason]).toEqual([403, 'Too Many Contacts']);
    expect(await callable('mallory')).toBe(480);
  });

  it('with a Path of his own making gets his calls over his own flow alone', async () => {
    const phone = await site.client('TCP');
    const registered = await registerAs('victim', phone);
    expect(registered.status).toBe(200);
    const target = await site.neighbour();
    const thief = await site.client();
    const headers = async (path: string): Promise<[string, string][]> => [
      ['Authorization', await credentialsOf(thief, 'mallory')],
      ['Path', path],
    ];
    for (const path of [
      `<sip:x@${target.hostPort};lr;ob>`,
      `<sip:${'A'.repeat(54)}@${site.server.host};lr;ob>`,
    ]) {
      const forged = await register(thief, { user: 'mallory', cseq: 2, headers: await headers(path) });
      expect(forged.answer.status).toBe(200);
      await takeCall(thief, 'mallory');
    }
    await takeCall(phone, 'victim');
    expect(target.arrivals).toEqual([]);
    for (const many of [
      Array(9).fill('<sip:a;lr>').join(', '),
      `<sip:${'a'.repeat(3_000)}@b;lr>`,
      'nonsense',
    ])
      expect(
        (await register(thief, { user: 'mallory', cseq: 9, headers: await headers(many) })).answer.status,
      ).toBe(400);
  });

  it('learns nothing of who exists from a challenge', async () => {
    const client = await site.client();
    const [known, unknown] = [await challenge(client, 'victim'), await challenge(client, 'nobody')];
    const shape = (message: SipMessage) =>
      challenges(message).map((value) => value.replace(parameter(value, 'nonce') as string, ''));
    expect([unknown.status, shape(unknown)]).toEqual([known.status, shape(known)]);
    const wrong = async (user: string) =>
      (await attack(client, user, proof(await challenge(client, user), { user, password: 'guess' }))).status;
    expect(await wrong('nobody')).toBe(await wrong('victim'));
  });

  it('leaves a server that goes on', async () => {
    const phone = await site.client();
    expect((await registerAs('victim', phone)).status).toBe(200);
    await takeCall(phone, 'victim');
  });
});

/** A REGISTER up to the middle of its Authorization, and its end. */
function huge(client: Agent): { bytes: Buffer; end: Buffer; callId: string } {
  const callId = unique('reg-');
  const whole = client.compose('REGISTER', `sip:${DOMAIN}`, {
    callId,
    from: `<${aorOf('victim')}>;tag=f`,
    to: `<${aorOf('victim')}>`,
    contact: `<${client.uri('victim')}>`,
    headers: [['Authorization', 'Digest username="@"']],
  });
  const at = whole.indexOf('"@"') + 1;
  return { bytes: whole.subarray(0, at), end: whole.subarray(at + 1), callId };
}
