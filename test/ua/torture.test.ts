/**
 * Bad input never kills a user agent: every message of RFC 4475 and RFC 5118, and good ones with octets changed at
 * random, down a registered flow, while a program answers all that it is given. After each the agent answers.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { UdpAgent } from '../harness/agent.ts';
import { type Arrival, isFinal, isRequest } from '../harness/inbox.ts';
import { Desk, type Phone, registered } from '../harness/phone.ts';
import { compose, newBranch, response, unique } from '../harness/sip.ts';

const desk = new Desk();
let edge: UdpAgent;
let phone: Phone;
let to: { host: string; port: number };

beforeAll(async () => {
  edge = await desk.udp();
  phone = desk.phone([edge]);
  to = (await registered(phone, edge)).from;
  void (async () => {
    for await (const request of phone.agent.requests()) {
      if (request.method === 'INVITE') void request.accept().catch(() => {});
      else request.respond(200);
    }
  })();
});
afterAll(() => desk.close());

const options = (callId: string): Buffer =>
  compose('OPTIONS sip:dora@example.test SIP/2.0', [
    ['Via', `SIP/2.0/UDP ${edge.hostPort};branch=${newBranch()}`],
    ['Max-Forwards', '70'],
    ['From', '<sip:bob@example.test>;tag=b'],
    ['To', '<sip:dora@example.test>'],
    ['Call-ID', callId],
    ['CSeq', '1 OPTIONS'],
    ['Contact', '<sip:bob@192.0.2.7>'],
  ]);

/** One at a time: a burst would be cut by the socket's buffer. */
async function sent(bytes: Buffer): Promise<void> {
  edge.send(bytes, to);
  await setImmediate();
}

async function alive(): Promise<void> {
  const callId = unique('alive-');
  edge.send(options(callId), to);
  const { message } = await edge.next(isFinal(callId));
  expect(message.status).toBe(200);
  edge.clear();
}

const TORTURE = fileURLToPath(new URL('../torture', import.meta.url));
const files = ['rfc4475', 'rfc5118'].flatMap((folder) =>
  readdirSync(join(TORTURE, folder))
    .filter((name) => name.endsWith('.dat'))
    .map((name) => join(folder, name)),
);

describe('a user agent', () => {
  it.each(files)('outlives %s', async (file) => {
    edge.send(readFileSync(join(TORTURE, file)), to);
    await alive();
  });

  const damaged = (bytes: Buffer) =>
    fc
      .array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 })
      .map((changes) => {
        const copy = Buffer.from(bytes);
        for (const [at, octet] of changes) copy[at] = octet;
        return copy;
      });

  it('outlives requests with octets changed at random', async () => {
    const property = fc.asyncProperty(damaged(options('fuzz')), async (bytes) => {
      await sent(bytes);
    });
    await fc.assert(property, { numRuns: 400 });
    await alive();
  });

  it('outlives answers with octets changed at random, to a request and to an INVITE', async () => {
    for (const method of ['MESSAGE', 'INVITE']) {
      const asking =
        method === 'INVITE'
          ? phone.agent.invite('sip:bob@example.test').catch(() => {})
          : phone.agent.request(method, 'sip:bob@example.test').catch(() => {});
      const got: Arrival = await edge.next(isRequest(method));
      const good = response(got.message, 200, 'OK', [['Contact', '<sip:bob@192.0.2.7>']]);
      const property = fc.asyncProperty(damaged(good), async (bytes) => {
        await sent(bytes);
      });
      await fc.assert(property, { numRuns: 300 });
      edge.send(response(got.message, 486, 'Busy Here'), to);
      await asking;
      await alive();
    }
  });

  it('outlives challenges and registrations with octets changed at random', async () => {
    const refreshing = phone.advance(3_250);
    const got = await edge.next(isRequest('REGISTER'));
    await refreshing;
    const contact = `${got.message.header('Contact')};expires=60;pub-gruu="sip:a@b;gr=x"`;
    const good = response(got.message, 200, 'OK', [
      ['Contact', contact],
      ['Service-Route', '<sip:a.test;lr>, <sip:b.test;lr>'],
      ['Flow-Timer', '20'],
      ['Require', 'outbound'],
    ]);
    const challenge = response(got.message, 401, 'Unauthorized', [
      ['WWW-Authenticate', 'Digest realm="r", nonce="n", algorithm=SHA-256, qop="auth"'],
    ]);
    for (const bytes of [challenge, good])
      await fc.assert(
        fc.asyncProperty(damaged(bytes), async (octets) => {
          await sent(octets);
        }),
        { numRuns: 200 },
      );
    edge.clear();
  });
});
