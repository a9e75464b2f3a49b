/**
 * The server under a load of registrations that loses its process, or its Redis, at any moment. Phones on UDP
 * and on connections register and refresh, each as soon as its last request is answered, which is several
 * times 10,000 a minute (the rate is noted beside the result). Afterwards everything that a 200 promised is
 * looked for, and everything that was sent without an answer may be there once or not at all.
 *
 * A Contact tells the CSeq that it was registered with, so a query shows which REGISTER a binding is from.
 */
import { randomInt } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Agent } from '../harness/agent.ts';
import { composeRegister, newInstance, type RegisterOptions } from '../harness/flows.ts';
import { isFinal } from '../harness/inbox.ts';
import { bound, boundBecomes, type Contact, DOMAIN, Registrar, register } from '../harness/registrar.ts';
import { unique } from '../harness/sip.ts';
import { hasRedis, RedisServer } from './redis-server.ts';

const UDP_PHONES = 12;
const TCP_PHONES = 4;
/** that one phone registers in turn, so that most REGISTERs are refreshes */
const USERS = 12;
const EXPIRES = 3_600;

interface User {
  user: string;
  aor: string;
  callId: string;
  instance: string;
  client: Agent;
  isUdp: boolean;
  /** the CSeq of the last REGISTER that was sent, and of the last one that was answered by 200 */
  sent: number;
  acknowledged: number;
}

class Load {
  readonly users: User[] = [];
  readonly statuses = new Map<number, number>();
  /** 503s that did not say when to come again */
  impolite = 0;
  #clients: Agent[] = [];
  #isStopped = false;
  /** phones do not wait for answers that cannot come */
  readonly #over = Promise.withResolvers<undefined>();
  #watch: { status: number; enough: number; reached: () => void } | undefined;
  #running: Promise<unknown> = Promise.resolve();
  readonly #began = performance.now();

  static async start(registrar: Registrar): Promise<Load> {
    const load = new Load();
    for (let i = 0; i < UDP_PHONES + TCP_PHONES; i++)
      load.#clients.push(await registrar.client(i < UDP_PHONES ? 'UDP' : 'TCP'));
    load.#running = Promise.all(load.#clients.map((client, i) => load.#phone(client, i < UDP_PHONES)));
    return load;
  }

  async #phone(client: Agent, isUdp: boolean): Promise<void> {
    const own: User[] = [];
    for (let n = 0; !this.#isStopped; n++) {
      if (own.length < USERS) {
        const user = unique('u');
        const aor = `sip:${user}@${DOMAIN}`;
        const ids = { user, aor, callId: unique('reg-'), instance: newInstance() };
        own.push({ ...ids, client, isUdp, sent: 0, acknowledged: 0 });
        this.users.push(own[own.length - 1]);
      }
      const one = own[n % USERS];
      one.sent++;
      client.send(composeRegister(client, wish(one, one.sent)).bytes);
      const answer = await Promise.race([
        client.next(isFinal(one.callId)).catch(() => undefined),
        this.#over.promise,
      ]);
      if (!answer) return;
      const { status } = answer.message;
      if (status === 200) one.acknowledged = one.sent;
      if (status === 503 && !/^[1-9]\d*$/.test(answer.message.header('Retry-After') ?? '')) this.impolite++;
      this.#count(status);
      if (status !== 200) await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  #count(status: number): void {
    const count = (this.statuses.get(status) ?? 0) + 1;
    this.statuses.set(status, count);
    if (this.#watch?.status === status && count >= this.#watch.enough) this.#watch.reached();
  }

  /** Resolves within the turn in which that many more of these answers have come. */
  async more(status: number, count: number): Promise<void> {
    const enough = (this.statuses.get(status) ?? 0) + count;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#watch = { status, enough, reached: resolve };
    await promise;
  }

  /** `atOnce`: answers that are under way are not waited for. */
  async stop(atOnce = false): Promise<void> {
    this.#isStopped = true;
    if (atOnce) this.#over.resolve(undefined);
    await this.#running;
  }

  get note(): string {
    const answered = this.statuses.get(200) ?? 0;
    const minutes = (performance.now() - this.#began) / 60_000;
    return `${answered} registrations at ${Math.round(answered / minutes)} a minute`;
  }

  acknowledged(isUdp: boolean): User[] {
    return this.users.filter((one) => one.isUdp === isUdp && one.acknowledged > 0);
  }
}

/** Every third user has no reg-id: his binding is told by its Contact, which then stays the same. */
const isOutbound = ({ instance }: User): boolean => Number.parseInt(instance.at(-1) as string, 16) % 3 > 0;

function wish(one: User, cseq: number): RegisterOptions {
  const { client, user, callId, instance } = one;
  const contactUri = isOutbound(one) ? `${client.uri(user)};cseq=${cseq}` : client.uri(user);
  return { user, callId, instance, regId: isOutbound(one) ? 1 : null, cseq, contactUri, expires: EXPIRES };
}

/** What is wrong with the bindings of a user whose REGISTERs were answered: nothing, or a word for it. */
function fault(one: User, contacts: Contact[]): string | undefined {
  if (contacts.length !== 1) return `${contacts.length} bindings`;
  const [{ uriParams, params }] = contacts;
  const left = Number(params.get('expires'));
  if (!(left > EXPIRES - 300 && left <= EXPIRES)) return `expires in ${left} s`;
  if (!isOutbound(one)) return undefined;
  const { sent, acknowledged } = one;
  const cseq = Number(uriParams.get('cseq'));
  // the one that was under way may have been done
  return cseq === acknowledged || cseq === sent ? undefined : `CSeq ${cseq} after ${acknowledged} of ${sent}`;
}

async function faultsOf(caller: Agent, users: User[]): Promise<string[]> {
  const faults: string[] = [];
  for (const one of users) {
    const why = fault(one, await bound(caller, one.aor));
    if (why !== undefined) faults.push(`${one.aor}: ${why}`);
  }
  return faults;
}

/** The number of a REGISTER that was answered is known: it is not taken a second time from somewhere else. */
async function takenAgain(caller: Agent, users: User[]): Promise<string[]> {
  const taken: string[] = [];
  for (const one of users) {
    const { answer } = await register(caller, wish(one, one.acknowledged));
    if (answer.status !== 500) taken.push(`${one.aor}: ${answer.status}`);
  }
  return taken;
}

describe.each([
  ['LMDB', true],
  ['Redis', hasRedis],
] as const)('kill -9 in the middle of a load, with bindings in %s', (store, isHere) => {
  let redis: RedisServer | undefined;
  let registrar: Registrar;
  beforeAll(async () => {
    if (!isHere) return;
    if (store === 'Redis') redis = await RedisServer.start();
    registrar = await Registrar.start('lmdb', redis ? { settings: { STORE: redis.url } } : {});
  });
  afterAll(async () => {
    await registrar?.close();
    await redis?.dispose();
  });

  it.skipIf(!isHere).each(['once', 'and a second time'])(
    '%s: all that was answered by 200 is there, once, and connections are forgotten [AP-7-07 RG-6-17]',
    async () => {
      const load = await Load.start(registrar);
      await load.more(200, 300 + randomInt(900));
      const killed = registrar.server.kill('SIGKILL');
      await load.stop(true);
      await killed;
      console.info(`${store}: ${load.note}`);
      // the lease of a life that ended without a word runs out by itself; a test does not wait for that
      redis?.command('DEL', 'hf:n:{1}');
      await registrar.server.launch();
      const caller = await registrar.client();

      const udp = load.acknowledged(true);
      expect(udp.length).toBeGreaterThan(UDP_PHONES);
      expect(await faultsOf(caller, udp)).toEqual([]);
      const unanswered = load.users.filter(({ acknowledged }) => acknowledged === 0);
      for (const { aor } of unanswered) expect((await bound(caller, aor)).length).toBeLessThanOrEqual(1);
      const tcp = load.users.filter(({ isUdp }) => !isUdp);
      expect(tcp.length).toBeGreaterThan(0);
      for (const { aor } of tcp) await boundBecomes(caller, aor, (contacts) => contacts.length === 0);
      // last, since a number that was forgotten would be taken
      expect(await takenAgain(caller, udp)).toEqual([]);
      expect([...load.statuses.keys()]).toEqual([200]);
    },
  );
});

describe.skipIf(!hasRedis)('Redis away for a while in the middle of a load', () => {
  let redis: RedisServer;
  let registrar: Registrar;
  afterEach(async () => {
    await registrar?.close();
    await redis?.dispose();
  });

  it('503 with Retry-After meanwhile, service again by itself, and nothing that was answered by 200 is lost', async () => {
    redis = await RedisServer.start('--appendonly', 'yes', '--appendfsync', 'always');
    registrar = await Registrar.start('lmdb', { settings: { STORE: redis.url } });
    const { pid } = registrar.server;
    const load = await Load.start(registrar);
    await load.more(200, 300);
    await redis.end();
    // ten seconds of a real outage; the longest pause between two attempts to connect is 2 s
    for (const until = Date.now() + 10_000; Date.now() < until; ) await load.more(503, 500);
    await redis.start();
    await load.more(200, 300);
    await load.stop();
    expect([...load.statuses.keys()].sort()).toEqual([200, 503]);
    expect(load.impolite).toBe(0);
    const caller = await registrar.client();
    const everyone = [...load.acknowledged(true), ...load.acknowledged(false)];
    expect(everyone.length).toBeGreaterThan(UDP_PHONES + TCP_PHONES);
    expect(await faultsOf(caller, everyone)).toEqual([]);
    expect(registrar.server.pid).toBe(pid);
    const said = registrar.server.logs
      .map(({ event }) => event)
      .filter((event) => `${event}`.startsWith('store-'));
    expect(said.filter((event) => event === 'store-away' || event === 'store-back')).toEqual([
      'store-away',
      'store-back',
    ]);
    expect(registrar.server.logs.filter(({ event }) => event === 'shard-lost')).toEqual([]);
  });
});
