import { afterEach, describe, expect, it } from 'vitest';
import type { StoreStatus } from '../../src/registrar/store.ts';
import { hasRedis, RedisServer, type Registrar, registrar, until } from './redis-server.ts';
import { DORA, flowContact, update } from './requests.ts';

/** What an address-of-record was told last, and how often which answer came. */
class Load {
  readonly acknowledged = new Map<string, number>();
  readonly statuses = new Map<StoreStatus, number>();
  readonly #at: Registrar;
  #stopped = false;
  #running: Promise<unknown> = Promise.resolve();

  constructor(at: Registrar) {
    this.#at = at;
  }

  /** `abreast` devices register, each again as soon as it has its answer; a refused one after a moment. */
  start(abreast: number): void {
    const device = async (d: number): Promise<void> => {
      for (let n = 1; !this.#stopped; n++) {
        const aor = `sip:u${d}.${n % 20}@h`;
        const { status, bindings } = await this.#at.store.handle(
          update({ aor, now: Date.now(), callId: aor, cseq: n, flow: `${d}.1.7.d` }),
        );
        this.statuses.set(status, (this.statuses.get(status) ?? 0) + 1);
        if (status === 'ok') this.acknowledged.set(aor, bindings[0].cseq);
        else await new Promise((resolve) => setTimeout(resolve, 5));
      }
    };
    this.#running = Promise.all(Array.from({ length: abreast }, (_, d) => device(d)));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  count = (status: StoreStatus): number => this.statuses.get(status) ?? 0;

  /** Until `more` further answers of that status. */
  async has(status: StoreStatus, more: number): Promise<void> {
    const enough = this.count(status) + more;
    await until(() => this.count(status) >= enough);
  }

  /** Acknowledged registrations that the store does not have. */
  async missing(): Promise<string[]> {
    const missing: string[] = [];
    for (const [aor, cseq] of this.acknowledged) {
      const { bindings } = await this.#at.store.handle({ kind: 'lookup', aor, now: Date.now() });
      // A later one that was not acknowledged may have been done.
      if (bindings.length !== 1 || bindings[0].cseq < cseq) missing.push(aor);
    }
    return missing;
  }
}

describe.skipIf(!hasRedis)('a Redis that goes away', () => {
  let server: RedisServer;
  let a: Registrar;
  const setUp = async (options: string[] = [], deadline = 2_000) => {
    server = await RedisServer.start(...options);
    a = await registrar(server.url, { deadline });
  };
  afterEach(async () => {
    await a?.close();
    await server?.dispose();
  });
  const lookup = (aor = DORA) => a.store.handle({ kind: 'lookup', aor, now: Date.now() });
  const register = (changes = {}) => a.store.handle(update({ now: Date.now(), ...changes }));

  it('for seconds, under load: busy meanwhile, then service again, and no acknowledged binding is lost', async () => {
    await setUp(['--appendonly', 'yes', '--appendfsync', 'always']);
    const load = new Load(a);
    load.start(20);
    await load.has('ok', 500);
    await server.end();
    await load.has('busy', 2_000);
    const meanwhile = load.count('ok');
    await load.has('busy', 200);
    expect(load.count('ok')).toBe(meanwhile);
    await server.start();
    await load.has('ok', 500);
    await load.stop();
    expect(await load.missing()).toEqual([]);
    expect([...load.statuses.keys()].sort()).toEqual(['busy', 'ok']);
    expect(a.states.filter((state) => state === 'up')).toHaveLength(2);
  });

  // With everysec the answer may go out before the write while a flush is slow: a test could not rely on it.
  it('by kill -9 with appendfsync always: it loses nothing', async () => {
    await setUp(['--appendonly', 'yes', '--appendfsync', 'always']);
    const load = new Load(a);
    load.start(20);
    await load.has('ok', 1_000);
    await server.end('SIGKILL');
    await load.has('busy', 50);
    await load.stop();
    await server.start();
    await until(() => a.link.up);
    expect(load.acknowledged.size).toBeGreaterThan(100);
    expect(await load.missing()).toEqual([]);
  });

  it('by kill -9 without a file: all is lost, and registering goes on', async () => {
    await setUp();
    await register();
    await server.end('SIGKILL');
    await until(() => !a.link.up);
    await server.start();
    await until(() => a.link.up);
    expect((await lookup()).bindings).toEqual([]);
    expect((await register({ cseq: 2 })).status).toBe('ok');
  });

  it('without a word: its silence ends at the deadline, and so does waiting for it', async () => {
    await setUp([], 200);
    await register();
    server.signal('SIGSTOP');
    expect((await register({ cseq: 2 })).status).toBe('busy');
    expect(a.link.up).toBe(false);
    expect((await lookup()).status).toBe('busy');
    server.signal('SIGCONT');
    await until(() => a.link.up);
    expect((await register({ cseq: 3 })).status).toBe('ok');
  });

  it('learns of flows that closed and of bindings to remove meanwhile, when it is back', async () => {
    await setUp(['--appendonly', 'yes']);
    await register({ flow: '1.1.7.s' });
    await register({ flow: '2.1.7.s', contacts: [flowContact(2)], callId: 'b' });
    await register({ contacts: [flowContact(3)], callId: 'c' });
    const third = (await lookup()).bindings.find(({ regId }) => regId === 3);
    await server.end();
    await until(() => !a.link.up);
    expect((await a.store.handle({ kind: 'flow-closed', flow: '1.1.7.s' })).status).toBe('busy');
    await a.store.handle({ kind: 'remove', aor: DORA, key: third?.key ?? '', ifOrder: third?.order ?? 0 });
    expect(a.store.waiting).toBe(2);
    await server.start();
    await until(() => a.store.waiting === 0);
    expect((await lookup()).bindings.map(({ regId }) => regId)).toEqual([2]);
    expect((await register({ flow: '1.1.7.s', cseq: 2 })).status).toBe('flow-closed');
  });

  it('drops the oldest news when it is away for too long, and counts that', async () => {
    await setUp();
    await server.end();
    await until(() => !a.link.up);
    for (let i = 0; i < 65_540; i++) await a.store.handle({ kind: 'flow-closed', flow: `${i}.1.7.s` });
    expect([a.store.waiting, a.store.dropped]).toEqual([65_536, 4]);
  });

  it('is not there yet at the start: busy, and service when it comes', async () => {
    await setUp();
    await server.end();
    const b = await registrar(server.url);
    expect(b.states).toEqual([expect.stringMatching(/^down: .*ECONNREFUSED/)]);
    expect((await b.store.handle(update())).status).toBe('busy');
    await server.start();
    await until(() => b.link.up);
    expect((await b.store.handle(update())).status).toBe('ok');
    await b.close();
  });

  it('wants a password: refused with a reason that does not show it, until it is right', async () => {
    await setUp(['--requirepass', 's3cret']);
    const wrong = await registrar(`redis://:wr0ng@127.0.0.1:${server.port}`);
    expect([...a.states, ...wrong.states].join()).toMatch(/NOAUTH.*WRONGPASS/);
    expect([...a.states, ...wrong.states].join()).not.toMatch(/wr0ng/);
    expect((await wrong.store.handle(update())).status).toBe('busy');
    await wrong.close();
    const right = await registrar(`redis://:s3cret@127.0.0.1:${server.port}/5`);
    expect((await right.store.handle(update())).status).toBe('ok');
    await right.close();
  });

  it('has become a replica: its connection is given up, as a name may lead to another server now', async () => {
    await setUp();
    await register();
    server.command('REPLICAOF', '127.0.0.1', '1');
    expect((await register({ cseq: 2 })).status).toBe('busy');
    expect(a.states.at(-1)).toBe('down: it is a replica');
    server.command('REPLICAOF', 'NO', 'ONE');
    await until(() => a.link.up);
    expect((await register({ cseq: 3 })).status).toBe('ok');
  });

  it('is full: busy, and what is stored stays readable', async () => {
    await setUp();
    await register();
    server.command('CONFIG', 'SET', 'maxmemory', '1');
    expect((await register({ cseq: 2 })).status).toBe('busy');
    expect((await lookup()).bindings).toHaveLength(1);
  });
});
