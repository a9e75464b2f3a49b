/**
 * Who may call (RFC 3261 22.3), on the wire: users of the domain prove who they are, others reach them unasked, and
 * nobody leaves the domain by us but its users.
 */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { challenges, ha1, parameter, proof, userLine } from '../harness/digest.ts';
import type { HoldfastOptions } from '../harness/holdfast.ts';
import { isFinal, isRequest, isResponse } from '../harness/inbox.ts';
import { freshHost } from '../harness/ports.ts';
import { call, DOMAIN, Registrar, register, statusOf } from '../harness/registrar.ts';
import { type RequestOptions, type SipMessage, unique } from '../harness/sip.ts';

const PASSWORDS: Record<string, string> = {
  dora: 'tin-whistle-42',
  milo: 'other',
  zoe: 'third',
  gina: 'fourth',
};
const aorOf = (user: string) => `sip:${user}@${DOMAIN}`;
const STRANGER = { from: '<sip:eve@elsewhere.test>;tag=e' };
const DORA = { from: `<${aorOf('dora')}>;tag=d` };

const users = join(mkdtempSync(join(tmpdir(), 'holdfast-calls-')), 'users');
writeFileSync(
  users,
  Object.entries(PASSWORDS)
    .map(([user, password]) => `${userLine(user, DOMAIN, password)}\n`)
    .join(''),
);

const start = ({ settings, ...options }: HoldfastOptions = {}) =>
  Registrar.start('memory', { ...options, settings: { AUTH: `file:${users}`, ...settings } });

/** A phone of this user that is registered, by his password. */
async function phoneOf(site: Registrar, user: string, transport: 'UDP' | 'TCP' = 'UDP'): Promise<Agent> {
  const phone = await site.client(transport);
  const asked = await register(phone, { user });
  expect(asked.answer.status).toBe(401);
  const headers: [string, string][] = [
    ['Authorization', proof(asked.answer, { user, password: PASSWORDS[user] })],
  ];
  expect((await register(phone, { user, cseq: 2, headers })).answer.status).toBe(200);
  return phone;
}

/** Calls, is challenged, and calls again by the password of `user`. The Call-ID of the second one. */
async function callAs(
  caller: Agent,
  user: string,
  target: string,
  method = 'MESSAGE',
  options: Partial<RequestOptions> = DORA,
): Promise<string> {
  const asked = (await caller.next(isFinal(call(caller, target, method, options)))).message;
  expect(asked.status).toBe(407);
  return call(caller, target, method, { ...options, headers: [credentials(asked, user, target, method)] });
}

const credentials = (asked: SipMessage, user: string, uri: string, method = 'MESSAGE'): [string, string] => [
  'Proxy-Authorization',
  proof(asked, { user, password: PASSWORDS[user], method, uri }),
];

describe.each(['stateful', 'stateless'])('%s, a call', (forwarding) => {
  let site: Registrar;
  let caller: Agent;
  beforeAll(async () => {
    site = await start({ settings: { FORWARDING: forwarding, WORKERS: '2' } });
    caller = await site.client();
  });
  afterAll(() => site?.close());

  it('in the name of a user is challenged, and goes on with his password, which it leaves here [3261-22-01 SE-12-03]', async () => {
    const phone = await phoneOf(site, 'milo');
    const asked = (await caller.next(isFinal(call(caller, aorOf('milo'), 'INVITE', DORA)))).message;
    expect(asked.status).toBe(407);
    expect(asked.all('WWW-Authenticate')).toEqual([]);
    expect(challenges(asked).map((value) => parameter(value, 'realm'))).toEqual(Array(3).fill(DOMAIN));
    const headers = [credentials(asked, 'dora', aorOf('milo'), 'INVITE')];
    const callId = call(caller, aorOf('milo'), 'INVITE', { ...DORA, headers });
    const got = await phone.next(isRequest('INVITE', callId));
    expect(got.message.all('Proxy-Authorization')).toEqual([]);
    phone.reply(got, 486, 'Busy Here');
    await caller.next(isResponse(486, callId));
    expect(phone.arrivals.filter(isRequest('INVITE')).length).toBe(0);
  });

  it('keeps the credentials that are for another realm', async () => {
    const phone = await phoneOf(site, 'milo');
    const other = 'Digest username="x", realm="elsewhere.test", nonce="n", uri="sip:a", response="00"';
    const headers: [string, string][] = [['Proxy-Authorization', other]];
    const callId = call(caller, aorOf('milo'), 'MESSAGE', { ...STRANGER, headers });
    const got = await phone.next(isRequest('MESSAGE', callId));
    expect(got.message.fields('Proxy-Authorization')).toEqual([other]);
    phone.reply(got, 200, 'OK');
    await caller.next(isResponse(200, callId));
  });

  it('from elsewhere comes in unasked', async () => {
    const phone = await phoneOf(site, 'zoe', 'TCP');
    const callId = call(caller, aorOf('zoe'), 'MESSAGE', STRANGER);
    phone.reply(await phone.next(isRequest('MESSAGE', callId)), 200, 'OK');
    await caller.next(isResponse(200, callId));
  });

  it('in the name of another user is 403, whatever the password', async () => {
    const callId = await callAs(caller, 'milo', aorOf('zoe'));
    expect((await caller.next(isFinal(callId))).message.status).toBe(403);
  });

  it('with the GRUU of another user for a Contact is 403: it would turn traffic to him [5627-6.2-01]', async () => {
    const phone = await site.client();
    const asked = await register(phone, { user: 'gina' });
    const supported = 'path, outbound, gruu';
    const authorization = proof(asked.answer, { user: 'gina', password: PASSWORDS.gina });
    const headers: [string, string][] = [['Authorization', authorization]];
    const { answer } = await register(phone, { user: 'gina', cseq: 2, supported, headers });
    const gruu = /pub-gruu="([^"]+)"/.exec(answer.all('Contact')[0])?.[1] as string;
    for (const [user, status] of [
      ['gina', 404],
      ['milo', 403],
    ] as const) {
      const options = { from: `<${aorOf(user)}>;tag=x`, contact: `<${gruu}>` };
      const callId = await callAs(caller, user, aorOf('nobody'), 'INVITE', options);
      expect((await caller.next(isFinal(callId))).message.status).toBe(status);
    }
  });

  it('to a GRUU is asked for like any other', async () => {
    const target = `${aorOf('milo')};gr=0`;
    expect(await statusOf(caller, target, 'MESSAGE', DORA)).toBe(407);
    expect(await statusOf(caller, target, 'MESSAGE', STRANGER)).toBe(404);
  });

  it('by a wrong password is challenged again', async () => {
    const asked = (await caller.next(isFinal(call(caller, aorOf('zoe'), 'MESSAGE', DORA)))).message;
    const wrong = proof(asked, { user: 'dora', password: 'guess', method: 'MESSAGE', uri: aorOf('zoe') });
    const headers: [string, string][] = [['Proxy-Authorization', wrong]];
    expect(await statusOf(caller, aorOf('zoe'), 'MESSAGE', { ...DORA, headers })).toBe(407);
  });

  it('by credentials that were seen on the way is challenged, on whichever shard [7616-x-01]', async () => {
    const asked = (await caller.next(isFinal(call(caller, aorOf('nil'), 'MESSAGE', DORA)))).message;
    const headers = [credentials(asked, 'dora', aorOf('nil'))];
    expect(await statusOf(caller, aorOf('nil'), 'MESSAGE', { ...DORA, headers })).toBe(404);
    for (let i = 0; i < 4; i++) {
      const thief = await site.client('TCP');
      const again = (await thief.next(isFinal(call(thief, aorOf('nil'), 'MESSAGE', { ...DORA, headers }))))
        .message;
      expect(again.status).toBe(407);
      expect(challenges(again)[0]).toMatch(/stale=true/);
    }
  });

  it('to a user whom nobody knows is 404, to one who is not there 480 [3261-16.5-01]', async () => {
    expect(await statusOf(caller, aorOf('nobody'), 'MESSAGE', STRANGER)).toBe(404);
    expect(await statusOf(caller, aorOf('dora'), 'MESSAGE', STRANGER)).toBe(480);
  });

  it('to a foreign host leaves for a user of ours alone, and to its Request-URI alone [3261-16.5-01]', async () => {
    const foreign = await site.neighbour();
    const target = foreign.uri('bob');
    expect(await statusOf(caller, target, 'MESSAGE', STRANGER)).toBe(407);
    const callId = await callAs(caller, 'dora', target);
    const got = await foreign.next(isRequest('MESSAGE', callId));
    expect(got.message.uri).toBe(target);
    expect(got.message.all('Proxy-Authorization')).toEqual([]);
    foreign.reply(got, 200, 'OK');
    await caller.next(isResponse(200, callId));
    expect(foreign.arrivals).toEqual([]);
  });

  it('does not choose its way by a Route, password or not', async () => {
    const foreign = await site.neighbour();
    const route = [`<sip:${foreign.hostPort};lr>`];
    const callId = await callAs(caller, 'dora', aorOf('zoe'), 'MESSAGE', { ...DORA, route });
    expect((await caller.next(isFinal(callId))).message.status).toBe(403);
    expect(foreign.arrivals).toEqual([]);
  });

  it('once it stands is not asked again: BYE goes by the token [3261-22-02]', async () => {
    const phone = await phoneOf(site, 'milo', 'TCP');
    const dora = await phoneOf(site, 'dora', 'TCP');
    const options = { ...DORA, contact: `<${dora.uri('dora')};ob>` };
    const callId = await callAs(dora, 'dora', aorOf('milo'), 'INVITE', options);
    const got = await phone.next(isRequest('INVITE', callId));
    phone.reply(got, 200, 'OK', [['Contact', `<${phone.uri('milo')};ob>`]]);
    const { message: ok } = await dora.next(isResponse(200, callId));
    const inDialog = {
      ...DORA,
      to: ok.header('To') as string,
      route: ok.all('Record-Route').reverse(),
      callId,
    };
    dora.send(dora.compose('ACK', phone.uri('milo'), inDialog));
    await phone.next(isRequest('ACK', callId));
    dora.send(dora.compose('BYE', phone.uri('milo'), { ...inDialog, cseq: 3 }));
    phone.reply(await phone.next(isRequest('BYE', callId)), 200, 'OK');
    await dora.next(isResponse(200, callId));
  });
});

describe('a peer that the operator trusts', () => {
  it('calls as anybody by itself; what it passes on for others is asked', async () => {
    const gateway = freshHost();
    const site = await start({ settings: { TRUSTED: `${gateway}/32` } });
    try {
      const phone = await phoneOf(site, 'milo');
      const peer = site.keep(await site.server.udp({ host: gateway }));
      const callId = call(peer, aorOf('milo'), 'MESSAGE', DORA);
      phone.reply(await phone.next(isRequest('MESSAGE', callId)), 200, 'OK');
      await peer.next(isResponse(200, callId));
      const moreVia = ['SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKphone'];
      expect(await statusOf(peer, aorOf('milo'), 'MESSAGE', { ...DORA, moreVia })).toBe(407);
    } finally {
      await site.close();
    }
  });
});

describe('HOLDFAST_AUTH_CALLS=off', () => {
  it('asks on REGISTER alone', async () => {
    const site = await start({ settings: { AUTH_CALLS: 'off' } });
    try {
      const phone = await phoneOf(site, 'milo');
      const caller = await site.client();
      const callId = call(caller, aorOf('milo'), 'MESSAGE', DORA);
      phone.reply(await phone.next(isRequest('MESSAGE', callId)), 200, 'OK');
      await caller.next(isResponse(200, callId));
    } finally {
      await site.close();
    }
  });
});

describe('while a credential service is asked', () => {
  it('CANCEL ends the call: it never rings [3261-22-02]', async () => {
    const held: (() => void)[] = [];
    let holds = false;
    const service = createServer((request, response) => {
      let asked = '';
      request.setEncoding('utf8').on('data', (text: string) => {
        asked += text;
      });
      request.on('end', () => {
        const { user, algorithm } = JSON.parse(asked);
        const answer = () =>
          response.end(JSON.stringify({ ha1: ha1(algorithm, user, DOMAIN, PASSWORDS[user]) }));
        response.setHeader('content-type', 'application/json');
        if (holds) held.push(answer);
        else answer();
      });
    });
    await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve));
    const { port } = service.address() as AddressInfo;
    const site = await start({ settings: { AUTH: `http://127.0.0.1:${port}/ha1` } });
    try {
      const phone = await phoneOf(site, 'milo');
      const caller = await site.client();
      const target = aorOf('milo');
      const asked = (await caller.next(isFinal(call(caller, target, 'INVITE', DORA)))).message;
      holds = true;
      const branch = `z9hG4bK${unique('b')}`;
      const callId = unique('call-');
      const options = { ...DORA, callId, cseq: 2, via: caller.via(branch) };
      const headers = [credentials(asked, 'dora', target, 'INVITE')];
      caller.send(
        caller.compose('INVITE', target, { ...options, headers, contact: `<${caller.uri('dora')}>` }),
      );
      while (held.length === 0) await new Promise((r) => setTimeout(r, 5));
      caller.send(caller.compose('CANCEL', target, options));
      await caller.next(isResponse(200, callId));
      for (const answer of held) answer();
      const end = await caller.next(isFinal(callId));
      expect([end.message.status, end.message.header('CSeq')]).toEqual([487, '2 INVITE']);
      await phone.probe();
      expect(phone.arrivals.filter(isRequest('INVITE'))).toEqual([]);
    } finally {
      await site.close();
      service.close();
    }
  });
});
