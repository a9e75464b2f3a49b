/** Certificates that change while the server runs, and those that it does not start with. */
import { copyFileSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { connect, type TLSSocket } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import type { TcpAgent } from '../harness/agent.ts';
import { Authority, type Issued } from '../harness/certificates.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { Watched } from '../network/watched.ts';
import { pause, reaches, SecuredServer, serves } from './rig.ts';

const SHARDS = 3;
let site: SecuredServer;
afterEach(() => site?.close());

const start = (settings: Record<string, string> = {}) =>
  SecuredServer.start({ settings: { WORKERS: `${SHARDS}`, ...settings } });

/** Puts these files in the place of the served ones, one after the other. */
async function replace(by: Issued): Promise<void> {
  const [served] = site.certificates;
  for (const what of ['cert', 'key'] as const) {
    copyFileSync(by[what], `${served[what]}.new`);
    renameSync(`${served[what]}.new`, served[what]);
    await pause(20);
  }
}

const hangUp = () => process.kill(site.server.pid, 'SIGHUP');

/** All shards say that they serve this certificate. */
async function servedEverywhere(fingerprint: string): Promise<void> {
  for (let shard = 1; shard <= SHARDS; shard++)
    await site.logged(
      'tls-serving',
      (l) => l.thread === `shard-${shard}` && (l.certificates as string[])[0] === fingerprint,
    );
}

const fingerprintOf = (phone: TcpAgent): string =>
  (phone.socket as TLSSocket).getPeerX509Certificate()?.fingerprint256 ?? '';

const fingerprintIn = ({ cert }: Issued): string =>
  site.authority
    .openssl('x509', '-in', cert, '-noout', '-fingerprint', '-sha256')
    .toString()
    .trim()
    .split('=')[1];

describe('a certificate that is replaced', () => {
  it('under load: new handshakes see the new one on every shard, live flows are untouched, no handshake fails', async () => {
    site = await start();
    const caller = await site.caller();
    const [old] = site.certificates;
    const before = fingerprintIn(old);
    const flows = await Promise.all(Array.from({ length: 12 }, () => site.phone()));
    const registered = await Promise.all(flows.map((phone) => serves(phone, caller)));
    const seen: string[] = [];
    let running = true;
    const load = Array.from({ length: 4 }, async () => {
      while (running) {
        const phone = await site.phone();
        seen.push(fingerprintOf(phone));
        await phone.probe();
        await phone.close();
      }
    });
    const pings = flows.map(async (phone) => {
      while (running) {
        await phone.probe();
        await pause(5);
      }
    });
    for (let i = 0; i < 3; i++) {
      const next = site.authority.issue(['DNS:edge.test']);
      const wanted = fingerprintIn(next);
      await replace(next);
      hangUp();
      await servedEverywhere(wanted);
      const from = seen.length + load.length; // those under way may have begun before
      while (seen.length < from + 20) await pause(5);
      expect(new Set(seen.slice(from))).toEqual(new Set([wanted]));
    }
    running = false;
    await Promise.all([...load, ...pings]);
    expect(seen[0]).toBe(before);
    for (const [i, phone] of flows.entries()) await reaches(caller, phone, registered[i].aor);
    expect((await site.server.state()).counters.tlsFailures).toBe(0);
    expect(flows.every((phone) => !phone.socket.destroyed)).toBe(true);
  }, 40_000);

  it('is taken up without a signal, once both files have stood still', async () => {
    site = await start();
    const next = site.authority.issue(['DNS:edge.test']);
    const wanted = fingerprintIn(next);
    await replace(next);
    await servedEverywhere(wanted);
    expect(fingerprintOf(await site.phone())).toBe(wanted);
    expect(site.logs.some((l) => l.event === 'tls-not-reloaded')).toBe(false);
  }, 20_000);

  it('by one that cannot be used changes nothing but the log', async () => {
    site = await start();
    const [served] = site.certificates;
    const before = fingerprintOf(await site.phone());
    const key = readFileSync(served.key);
    const other = site.authority.issue(['DNS:edge.test']);
    const broken: [Buffer | string, RegExp][] = [
      [readFileSync(other.key), /is not the key of/],
      ['no key', /cannot be used/],
      ['', /cannot be used/],
    ];
    for (const [text, reason] of broken) {
      writeFileSync(served.key, text);
      hangUp();
      await site.logged('tls-not-reloaded', (l) => reason.test(String(l.error)));
      expect(fingerprintOf(await site.phone())).toBe(before);
    }
    writeFileSync(served.key, key);
    hangUp();
    await site.logged('tls-certificates', (l) => l.generation === 2);
    await (await site.phone()).probe();
  });
});

describe('a session from before a reload', () => {
  async function resumes(session: Buffer, more = {}): Promise<boolean> {
    const { peer, localHost: _, ...rest } = site.options({ session, ...more });
    const socket = connect({ ...peer, ...rest });
    return await new Promise((resolve) => {
      socket.once('error', () => resolve(false));
      socket.once('close', () => resolve(false));
      socket.once('secureConnect', () => socket.write('\r\n\r\n'));
      socket.once('data', () => {
        resolve(socket.isSessionReused());
        socket.destroy();
      });
    });
  }

  async function session(more = {}): Promise<Buffer> {
    const { peer, localHost: _, ...rest } = site.options(more);
    const socket = connect({ ...peer, ...rest });
    const given = await new Promise<Buffer>((resolve) => socket.once('session', resolve));
    socket.destroy();
    return given;
  }

  const generation = (n: number) =>
    Promise.all(
      Array.from({ length: SHARDS }, (_, i) =>
        site.logged('tls-serving', (l) => l.generation === n && l.thread === `shard-${i + 1}`),
      ),
    );

  it('is still good', async () => {
    site = await start();
    const ticket = await session();
    hangUp();
    await generation(2);
    for (let i = 0; i < 6; i++) expect(await resumes(ticket)).toBe(true);
  });

  it('is not where clients are believed by another authority since then', async () => {
    const believed = new Authority('second authority');
    site = await start({ TLS_CLIENT: 'required' });
    const { cert, key } = site.authority.issue(['DNS:phone.test']);
    const own = { cert: readFileSync(cert), key: readFileSync(key) };
    const ticket = await session(own);
    expect(await resumes(ticket, own)).toBe(true);
    copyFileSync(believed.ca, site.authority.ca);
    hangUp();
    await generation(2);
    for (let i = 0; i < 6; i++) expect(await resumes(ticket, own)).toBe(false);
    believed.remove();
  });
});

describe('a start with certificates that cannot be used', () => {
  const authority = new Authority();
  const good = authority.issue(['DNS:edge.test']);

  async function refusal(settings: Record<string, string>): Promise<string> {
    const host = freshHost();
    const LISTEN = `tls:${host}:${await freePort(host)}`;
    const started = Watched.start({
      settings: { LISTEN, DOMAINS: 'example.test', STORE: 'memory:', ...settings },
    });
    return await started.then(
      async (server) => {
        await server.stop();
        return 'it started';
      },
      (error: Error) => error.message,
    );
  }

  it.each([
    ['no certificate', {}, /HOLDFAST_TLS_CERT=/],
    ['no key', { TLS_CERT: good.cert }, /HOLDFAST_TLS_KEY=/],
    ['a file that is not there', { TLS_CERT: good.cert, TLS_KEY: '/nowhere' }, /\/nowhere cannot be used/],
    ['a file that is none', { TLS_CERT: good.key, TLS_KEY: good.key }, /cannot be used/],
    ['another key', { TLS_CERT: good.cert, TLS_KEY: authority.issue(['DNS:x']).key }, /is not the key of/],
    [
      'no authority for clients',
      { TLS_CERT: good.cert, TLS_KEY: good.key, TLS_CLIENT: 'optional' },
      /HOLDFAST_TLS_CA=/,
    ],
  ])('%s: says so', async (_what, settings, reason) => {
    expect(await refusal(settings)).toMatch(reason);
  });

  it('an encrypted key: says so, and asks nobody', async () => {
    authority.openssl('ec', '-in', good.key, '-aes128', '-passout', 'pass:secret', '-out', 'locked.key');
    expect(await refusal({ TLS_CERT: good.cert, TLS_KEY: authority.file('locked.key') })).toMatch(
      /locked\.key cannot be used: .*(passphrase|password|interrupted|cancelled)/i,
    );
  });
});
