/**
 * Which certificate a client is shown, and which certificates of clients are believed: on the first handshake
 * and when a session is resumed, on whatever shard that comes to.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TcpAgent } from '../harness/agent.ts';
import { Authority, type Issued } from '../harness/certificates.ts';
import { isCrlf } from '../harness/inbox.ts';
import { freshHost } from '../harness/ports.ts';
import { register } from '../harness/registrar.ts';
import { only, SecuredServer, VERSIONS } from './rig.ts';

const pair = ({ cert, key }: Issued) => ({ cert: readFileSync(cert), key: readFileSync(key) });

/** Connects and pings. The session that it was given, or how it was refused. */
async function visit(
  site: SecuredServer,
  options: ConnectionOptions = {},
): Promise<{ session: Buffer; reused: boolean; subject: string } | { refused: string }> {
  const { peer, localHost: _, ...rest } = site.options(options);
  const socket = connect({ ...peer, ...rest });
  let session: Buffer | undefined;
  const ended = new Promise<{ refused: string }>((resolve) => {
    socket.once('error', (error) => resolve({ refused: error.message }));
    socket.once('close', () => resolve({ refused: 'closed' }));
  });
  const served = new Promise<void>((resolve) => socket.once('data', () => resolve()));
  const ticket = new Promise<void>((resolve) =>
    socket.once('session', (given: Buffer) => {
      session = given;
      resolve();
    }),
  );
  socket.once('secureConnect', () => socket.write('\r\n\r\n'));
  const outcome = await Promise.race([ended, served]);
  if (outcome) return outcome;
  const reused = socket.isSessionReused();
  if (!reused) await ticket; // who resumes may go on with the one that he has
  const subject = socket.getPeerX509Certificate()?.subject ?? '';
  socket.destroy();
  return { session: session ?? Buffer.alloc(0), reused, subject };
}

describe('several certificates', () => {
  let site: SecuredServer;
  beforeAll(async () => {
    site = await SecuredServer.start({
      names: [['DNS:first.test'], ['DNS:second.test', 'URI:sip:other.test'], ['DNS:*.wild.test']],
    });
  });
  afterAll(() => site?.close());

  it.each([
    ['first.test', 'first.test'],
    ['second.test', 'second.test'],
    ['SECOND.test', 'second.test'],
    ['a.wild.test', '*.wild.test'],
    ['a.b.wild.test', 'first.test'],
    ['unknown.test', 'first.test'],
    ['', 'first.test'],
  ])('a client that asks for %j is shown the one of %j', async (servername, shown) => {
    for (const version of VERSIONS) {
      const checkServerIdentity = () => undefined;
      const visited = await visit(site, { servername, checkServerIdentity, ...only(version) });
      expect(visited).toMatchObject({ subject: `CN=DNS:${shown}` });
    }
  });

  it('are told by a hello that comes octet by octet', async () => {
    const raw = (await import('node:net')).connect({ ...site.address, localAddress: freshHost() });
    await once(raw, 'connect');
    const { Duplex } = await import('node:stream');
    const thin = new Duplex({
      read: () => {},
      write: (chunk: Buffer, _encoding, done) => {
        void (async () => {
          for (const octet of chunk) {
            raw.write(Buffer.of(octet));
            await new Promise(setImmediate);
          }
          done();
        })();
      },
    });
    raw.setNoDelay(true);
    raw.on('data', (chunk: Buffer) => thin.push(chunk));
    const socket = connect({ socket: thin, servername: 'second.test', ca: site.authority.trusted });
    await once(socket, 'secureConnect');
    expect(socket.getPeerX509Certificate()?.subject).toBe('CN=DNS:second.test');
    raw.destroy();
  });

  it('each have tickets of their own', async () => {
    for (const servername of ['first.test', 'second.test']) {
      const first = await visit(site, { servername });
      if ('refused' in first) throw new Error(first.refused);
      for (let i = 0; i < 4; i++)
        expect(await visit(site, { servername, session: first.session })).toMatchObject({ reused: true });
      const checkServerIdentity = () => undefined;
      const other = { servername: 'a.wild.test', session: first.session, checkServerIdentity };
      expect(await visit(site, other)).toMatchObject({ reused: false, subject: 'CN=DNS:*.wild.test' });
    }
  });
});

describe.each(VERSIONS)('with %s a listener', (version) => {
  const stranger = new Authority('another authority');
  let untrusted: ConnectionOptions;
  beforeAll(() => {
    untrusted = pair(stranger.issue(['URI:sip:phone.test']));
  });
  afterAll(() => stranger.remove());

  describe.each(['none', 'optional', 'required'] as const)('that asks for certificates: %s', (client) => {
    let site: SecuredServer;
    let trusted: ConnectionOptions;
    let late: ConnectionOptions;
    beforeAll(async () => {
      site = await SecuredServer.start({ settings: { TLS_CLIENT: client, WORKERS: '3' } });
      trusted = pair(site.authority.issue(['URI:sip:Phone.test', 'URI:sips:no.test', 'DNS:dns.test']));
      late = pair(site.authority.issue(['DNS:late.test'], { days: '-1' }));
    });
    afterAll(() => site?.close());

    it('serves a client without one unless it is required', async () => {
      const outcome = await visit(site, only(version));
      expect('refused' in outcome).toBe(client === 'required');
    });

    it('refuses one of another authority, and one that has run out, if it looks at them', async () => {
      for (const certificate of [untrusted, late]) {
        const failures = await site.count('tlsFailures');
        const outcome = await visit(site, { ...certificate, ...only(version) });
        expect('refused' in outcome).toBe(client !== 'none');
        if (client === 'none') continue;
        await site.server.stateBecomes((s) => s.counters.tlsFailures > failures); // earlier ones may count late
      }
      if (client === 'none') return;
      await site.logged('tls-failure', (l) => /local issuer|certificate/i.test(String(l.reason)));
    });

    it('logs the SIP domains of a good one with the registration [5922-7-01]', async () => {
      const phone = await TcpAgent.connectTls(site.options({ ...trusted, ...only(version) }));
      site.keep(phone);
      const { aor, answer } = await register(phone);
      expect(answer.status).toBe(200);
      const line = await site.logged('registration', (l) => l.aor === aor);
      expect(line.certificate).toEqual(client === 'none' ? undefined : ['phone.test']);
    });

    it('resumes a session on every shard, with what it knows of the client', async () => {
      const own = client === 'none' ? {} : trusted;
      const first = await visit(site, { ...own, ...only(version) });
      if ('refused' in first) throw new Error(first.refused);
      for (let i = 0; i < 12; i++) {
        const again = await visit(site, { session: first.session, ...own, ...only(version) });
        expect(again).toMatchObject({ reused: true });
      }
      const phone = await TcpAgent.connectTls(
        site.options({ session: first.session, ...own, ...only(version) }),
      );
      site.keep(phone);
      expect((phone.socket as TLSSocket).isSessionReused()).toBe(true);
      const { aor } = await register(phone);
      const line = await site.logged('registration', (l) => l.aor === aor);
      expect(line.certificate).toEqual(client === 'none' ? undefined : ['phone.test']);
    });

    it('resumes nothing for who was refused', async () => {
      for (const certificate of [{}, untrusted]) {
        const { peer, localHost: _, ...rest } = site.options({ ...certificate, ...only(version) });
        const socket = connect({ ...peer, ...rest });
        const sessions: Buffer[] = [];
        socket.on('session', (session: Buffer) => sessions.push(session));
        socket.on('error', () => {});
        socket.once('secureConnect', () => socket.write('\r\n\r\n'));
        socket.once('data', () => socket.destroy());
        await new Promise((resolve) => socket.once('close', resolve));
        const refused = client === 'required' || (client === 'optional' && 'cert' in certificate);
        if (!refused) continue;
        for (const session of sessions) {
          const again = await visit(site, { session, ...certificate, ...only(version) });
          expect(again).toHaveProperty('refused');
        }
      }
    });

    it('answers pings of many at once', async () => {
      const phones = await Promise.all(
        Array.from({ length: 20 }, () => TcpAgent.connectTls(site.options({ ...trusted, ...only(version) }))),
      );
      for (const phone of phones) phone.send(Buffer.from('\r\n\r\n'));
      await Promise.all(phones.map((phone) => phone.next(isCrlf)));
      await Promise.all(phones.map((phone) => phone.close()));
    });
  });
});
