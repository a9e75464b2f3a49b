/**
 * Digest on REGISTER over real sockets: what a phone with and without its password gets (RFC 3261 22,
 * RFC 8760). The phone's answers are computed here by node:crypto, not by the code under test.
 */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import {
  ALGORITHMS,
  type Algorithm,
  challenges,
  ha1,
  parameter,
  proof,
  userLine,
} from '../harness/digest.ts';
import { DOMAIN, Registrar, register, statusOf } from '../harness/registrar.ts';
import { unique } from '../harness/sip.ts';

const line = (user: string, password: string, algorithms?: readonly Algorithm[]) =>
  userLine(user, DOMAIN, password, algorithms);

/** Somebody of elsewhere, who is not asked who he is. */
const STRANGER = { from: '<sip:eve@elsewhere.test>;tag=e' };

let site: Registrar;
let file: string;

beforeAll(async () => {
  file = join(mkdtempSync(join(tmpdir(), 'holdfast-auth-')), 'users');
  writeFileSync(file, `${line('dora', 'tin-whistle-42')}\n${line('milo', 'other')}\n`);
  site = await Registrar.start('memory', { settings: { AUTH: `file:${file}`, WORKERS: '2' } });
});
afterAll(() => site?.close());

const challenge = async (client: Agent, user: string, callId = unique('reg-')) =>
  (await register(client, { user, callId, contactUri: client.uri(user) })).answer;

async function attempt(client: Agent, user: string, authorization: string, cseq = 2) {
  return (await register(client, { user, cseq, headers: [['Authorization', authorization]] })).answer;
}

describe('a phone without credentials', () => {
  it('is challenged, the strongest first, and nothing is bound [3261-22-01 3261-22-03 8760-2.3-01 8760-2.6-01]', async () => {
    const client = await site.client();
    const answer = await challenge(client, 'dora');
    expect(answer.status).toBe(401);
    expect(challenges(answer).map((value) => parameter(value, 'algorithm'))).toEqual(ALGORITHMS);
    for (const value of challenges(answer)) {
      expect(parameter(value, 'realm')).toBe(DOMAIN);
      expect(value).toMatch(/qop="auth"/);
    }
    expect(await statusOf(client, `sip:dora@${DOMAIN}`, 'MESSAGE', STRANGER)).toBe(480);
  });
});

describe('a phone with its password', () => {
  it.each(ALGORITHMS)('is registered by %s, over UDP and TCP [8760-2.6-02]', async (algorithm) => {
    for (const transport of ['UDP', 'TCP'] as const) {
      const client = await site.client(transport);
      const challenged = await challenge(client, 'dora');
      const answer = await attempt(
        client,
        'dora',
        proof(challenged, { user: 'dora', password: 'tin-whistle-42', algorithm }),
      );
      expect(answer.status).toBe(200);
    }
  });

  it('may use a nonce again with a higher count, from any flow', async () => {
    const client = await site.client('TCP');
    const challenged = await challenge(client, 'dora');
    for (let nc = 1; nc <= 3; nc++) {
      const from = nc === 2 ? await site.client('TCP') : client;
      const answer = await attempt(
        from,
        'dora',
        proof(challenged, { user: 'dora', password: 'tin-whistle-42', nc }),
        nc + 1,
      );
      expect(answer.status).toBe(200);
    }
  });
});

describe('somebody else', () => {
  it('with a wrong password, or none of our users, is challenged again and binds nothing', async () => {
    const client = await site.client();
    const challenged = await challenge(client, 'milo');
    for (const [user, password] of [
      ['milo', 'guess'],
      ['nobody', 'guess'],
    ]) {
      const answer = await attempt(client, 'milo', proof(challenged, { user, password }));
      expect(answer.status).toBe(401);
    }
    expect(await statusOf(client, `sip:milo@${DOMAIN}`, 'MESSAGE', STRANGER)).toBe(480);
  });

  it('with an own password cannot bind another user’s address [SE-12-02 3261-10.3-01]', async () => {
    const client = await site.client();
    const challenged = await challenge(client, 'dora');
    const answer = await attempt(client, 'dora', proof(challenged, { user: 'milo', password: 'other' }));
    expect(answer.status).toBe(403);
  });

  it('that replays an Authorization is told stale and binds nothing, on whichever shard [7616-x-01]', async () => {
    const client = await site.client('TCP');
    const challenged = await challenge(client, 'dora');
    const authorization = proof(challenged, { user: 'dora', password: 'tin-whistle-42' });
    expect((await attempt(client, 'dora', authorization)).status).toBe(200);
    for (let i = 0; i < 4; i++) {
      const thief = await site.client('TCP'); // connections go to the shards by turns
      const answer = await attempt(thief, 'dora', authorization);
      expect(answer.status).toBe(401);
      expect(challenges(answer)[0]).toMatch(/stale=true/);
    }
  });

  it('with an invented nonce is challenged without stale', async () => {
    const client = await site.client();
    const challenged = await challenge(client, 'dora');
    const nonce = 'A'.repeat((parameter(challenges(challenged)[0], 'nonce') ?? '').length);
    const answer = await attempt(
      client,
      'dora',
      proof(challenged, { user: 'dora', password: 'tin-whistle-42', nonce }),
    );
    expect(answer.status).toBe(401);
    expect(challenges(answer)[0]).not.toMatch(/stale/i);
  });
});

describe('credentials of a service', () => {
  let service: Server;
  let remote: Registrar;
  let mode: 'good' | 'dead' = 'good';

  beforeAll(async () => {
    service = createServer((request, response) => {
      if (mode === 'dead') {
        response.destroy();
        return;
      }
      let asked = '';
      request.setEncoding('utf8').on('data', (text: string) => {
        asked += text;
      });
      request.on('end', () => {
        const { user, algorithm } = JSON.parse(asked) as { user: string; algorithm: Algorithm };
        response.setHeader('content-type', 'application/json');
        if (user !== 'dora') response.writeHead(404).end();
        else response.end(JSON.stringify({ ha1: ha1(algorithm, 'dora', DOMAIN, 'tin-whistle-42') }));
      });
    });
    await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve));
    const { port } = service.address() as AddressInfo;
    remote = await Registrar.start('memory', { settings: { AUTH: `http://127.0.0.1:${port}/ha1` } });
  });
  afterAll(async () => {
    await remote?.close();
    service?.close();
  });

  it('register a phone; a dead service is 503 with Retry-After, never an open door', async () => {
    const client = await remote.client();
    const challenged = await challenge(client, 'dora');
    const good = await attempt(
      client,
      'dora',
      proof(challenged, { user: 'dora', password: 'tin-whistle-42' }),
    );
    expect(good.status).toBe(200);
    mode = 'dead';
    const other = await remote.client();
    const again = await challenge(other, 'zoe');
    const answer = await attempt(other, 'zoe', proof(again, { user: 'zoe', password: 'x' }));
    expect(answer.status).toBe(503);
    expect(answer.header('Retry-After')).toBeDefined();
    expect(await statusOf(other, `sip:zoe@${DOMAIN}`, 'MESSAGE', STRANGER)).toBe(480);
  });
});
