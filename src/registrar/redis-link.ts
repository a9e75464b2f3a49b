import { randomInt } from 'node:crypto';
import { createClient, createCluster, ErrorReply, RESP_TYPES } from '@redis/client';
import type { RedisTarget } from '../config/redis-url.ts';
import { ALL_SCRIPTS, type Script } from './redis-script.ts';

/**
 * The connection of a process to Redis: one client for a single server, one for each master of a cluster.
 *
 * Which of the two it is, the server is asked at each connecting. `call` runs a script and answers within
 * the deadline or rejects: with Unavailable where trying again later is the cure (no connection, connection
 * lost, no answer in time, too much under way, a server that is loading, failing over or out of memory),
 * with the server's own error otherwise. Nothing is queued while there is no connection, and nothing is sent
 * twice: after a lost connection nobody here knows whether a call was done.
 *
 * It never gives up: a lost connection is made anew after 50 ms at first, up to 2 s later, with jitter. A
 * server that keeps its connection but answers nothing within the deadline counts as lost too, and so does
 * one that has become a replica: a name may lead elsewhere now.
 */
export class Unavailable extends Error {
  override name = 'Unavailable';
}

export interface RedisLinkOptions {
  target: RedisTarget;
  /** milliseconds from a call to its answer */
  deadline?: number;
  /** calls without an answer; more are refused */
  maxPending?: number;
  /** `why`: what went wrong, without credentials */
  onState?: (up: boolean, why: string) => void;
}

const DEADLINE = 2_000;
const MAX_PENDING = 8_192;
const FIRST_PAUSE = 50;
const LAST_PAUSE = 2_000;
const SCAN_COUNT = 1_000;

type Argument = string | Buffer;
type Reply = unknown;

interface Server {
  send(args: Argument[]): Promise<Reply>;
}

interface Connection {
  /** to the server that has the key */
  send(key: string, args: Argument[]): Promise<Reply>;
  masters(): Promise<Server[]>;
  destroy(): void;
  end: End;
}

/** The end of a connection, which may come before anyone has asked to be told. */
class End {
  #why: string | undefined;
  #told: ((why: string) => void) | undefined;

  readonly come = (error: Error): void => {
    this.#why ??= error.message || error.name;
    this.#told?.(this.#why);
  };

  tell(whom: (why: string) => void): void {
    this.#told = whom;
    if (this.#why !== undefined) whom(this.#why);
  }
}

/** What a server says when another moment or another server is needed. */
const PASSING = /^(LOADING|BUSY|CLUSTERDOWN|TRYAGAIN|MASTERDOWN|READONLY|NOREPLICAS|OOM|MISCONF|MOVED|ASK)\b/;

export class RedisLink {
  readonly #options: RedisLinkOptions;
  readonly #deadline: number;
  readonly #maxPending: number;
  #connection: Connection | undefined;
  #pending = 0;
  #lastAnswer = 0;
  #closed = false;
  #up = false;
  #said: boolean | undefined;
  #opening: Promise<void> = Promise.resolve();
  #pause: { timer: NodeJS.Timeout; end: () => void } | undefined;

  constructor(options: RedisLinkOptions) {
    this.#options = options;
    this.#deadline = options.deadline ?? DEADLINE;
    this.#maxPending = options.maxPending ?? MAX_PENDING;
    this.#opening = this.#open();
  }

  get up(): boolean {
    return this.#up;
  }

  async call(script: Script, keys: string[], args: Argument[] = []): Promise<Reply> {
    const connection = this.#connection;
    if (!connection || !this.#up) throw new Unavailable('no connection');
    if (this.#pending >= this.#maxPending) throw new Unavailable('too many calls under way');
    this.#pending++;
    const rest = [`${keys.length}`, ...keys, ...args];
    try {
      return await this.#within(connection, async () => {
        try {
          return await connection.send(keys[0], ['EVALSHA', script.sha, ...rest]);
        } catch (error) {
          if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error;
          return await connection.send(keys[0], ['EVAL', script.text, ...rest]);
        }
      });
    } finally {
      this.#pending--;
    }
  }

  /** All keys that match, page by page; one that is there all the time comes at least once. */
  async *scan(pattern: string): AsyncGenerator<string[]> {
    const connection = this.#connection;
    if (!connection || !this.#up) throw new Unavailable('no connection');
    for (const server of await connection.masters()) {
      let cursor = '0';
      do {
        const command = ['SCAN', cursor, 'MATCH', pattern, 'COUNT', `${SCAN_COUNT}`];
        const [next, keys] = (await this.#within(connection, () => server.send(command))) as [
          Buffer,
          Buffer[],
        ];
        cursor = next.toString();
        if (keys.length > 0) yield keys.map(String);
      } while (cursor !== '0');
    }
  }

  #within<T>(connection: Connection, work: () => Promise<T>): Promise<T> {
    const asked = performance.now();
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(() => {
        if (this.#lastAnswer < asked) this.#lost(connection, 'no answer');
        reject(new Unavailable('no answer in time'));
      }, this.#deadline);
      work().then(
        (value) => {
          clearTimeout(timer);
          this.#lastAnswer = performance.now();
          resolve(value);
        },
        (error: Error) => {
          clearTimeout(timer);
          reject(this.#judge(connection, error));
        },
      );
    });
  }

  #judge(connection: Connection, error: Error): Error {
    if (!(error instanceof ErrorReply)) return new Unavailable(error.message);
    this.#lastAnswer = performance.now();
    if (error.message.startsWith('READONLY')) this.#lost(connection, 'it is a replica');
    return PASSING.test(error.message) ? new Unavailable(error.message) : error;
  }

  #lost(connection: Connection, why: string): void {
    if (this.#connection !== connection || this.#closed) return;
    this.#connection = undefined;
    this.#say(false, why);
    connection.destroy();
    this.#opening = this.#open();
  }

  #say(up: boolean, why: string): void {
    this.#up = up;
    if (this.#said === up) return;
    this.#said = up;
    this.#options.onState?.(up, why);
  }

  async #open(): Promise<void> {
    for (let attempt = 0; !this.#closed; attempt++) {
      let why = '';
      try {
        const connection = await this.#connect();
        if (this.#closed) {
          connection.destroy();
          return;
        }
        this.#connection = connection;
        this.#say(true, '');
        connection.end.tell((reason) => this.#lost(connection, reason));
        return;
      } catch (error) {
        why = error instanceof Error ? error.message || error.name : String(error);
      }
      this.#say(false, why);
      await this.#rest(attempt);
    }
  }

  #rest(attempt: number): Promise<void> {
    if (this.#closed) return Promise.resolve();
    const longest = Math.min(LAST_PAUSE, FIRST_PAUSE * 2 ** attempt);
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, longest / 2 + randomInt(longest / 2 + 1));
      this.#pause = { timer, end: resolve };
    });
  }

  async #connect(): Promise<Connection> {
    const { target } = this.#options;
    let failure: unknown;
    for (const place of target.places) {
      try {
        const single = await connectServer(target, place, this.#deadline);
        if (!single.isCluster) return single.connection;
        single.connection.destroy();
        return await connectCluster(target, this.#deadline);
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#up = false;
    this.#connection?.destroy();
    this.#connection = undefined;
    clearTimeout(this.#pause?.timer);
    this.#pause?.end();
    await this.#opening;
  }
}

// Octets come as Buffer: a script's value is no text.
const AS_OCTETS = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } };

// Each call has its own deadline here, and cheaper than by an AbortSignal
const NO_TIMEOUT = { timeout: 0 };

function common({ tls, username, password }: RedisTarget, connectTimeout: number) {
  // Reconnecting is ours, so that a name is looked up and a cluster is recognised anew each time.
  const timing = { connectTimeout, reconnectStrategy: false as const };
  return {
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    socket: tls ? { ...timing, tls: true as const } : timing,
    disableOfflineQueue: true,
    disableClientInfo: true,
    RESP: 2 as const,
    commandOptions: NO_TIMEOUT,
  };
}

async function connectServer(
  target: RedisTarget,
  place: RedisTarget['places'][number],
  timeout: number,
): Promise<{ connection: Connection; isCluster: boolean }> {
  const options = common(target, timeout);
  const client = createClient({
    ...options,
    socket: { ...options.socket, host: place.host, port: place.port },
    database: target.db,
  });
  const end = new End();
  client.on('error', end.come);
  const send = (args: Argument[]): Promise<Reply> => client.sendCommand(args, AS_OCTETS);
  try {
    await client.connect();
    const info = String(await send(['INFO', 'cluster']));
    const isCluster = /cluster_enabled:1/.test(info);
    if (!isCluster) await load({ send });
    return {
      isCluster,
      connection: {
        send: (_key, args) => send(args),
        masters: async () => [{ send }],
        destroy: () => client.destroy(),
        end,
      },
    };
  } catch (error) {
    client.destroy();
    throw error;
  }
}

async function connectCluster(target: RedisTarget, timeout: number): Promise<Connection> {
  const { RESP, ...defaults } = common(target, timeout);
  const cluster = createCluster({
    RESP,
    rootNodes: target.places.map(({ host, port }) => ({ socket: { host, port } })),
    defaults,
  });
  // Whichever master goes away: all is looked at anew, since its successor is another server.
  const end = new End();
  cluster.on('error', end.come);
  cluster.on('node-error', end.come);
  const masters = async (): Promise<Server[]> =>
    Promise.all(
      cluster.masters.map(async (master) => {
        const client = await cluster.nodeClient(master);
        return { send: (args: Argument[]) => client.sendCommand(args, AS_OCTETS) };
      }),
    );
  try {
    await cluster.connect();
    for (const server of await masters()) await load(server);
  } catch (error) {
    cluster.destroy();
    throw error;
  }
  return {
    send: (key, args) => cluster.sendCommand(key, false, args, AS_OCTETS),
    masters,
    destroy: () => cluster.destroy(),
    end,
  };
}

/** Before the first call: a script that is not known is sent again, behind calls made after it. */
async function load(server: Server): Promise<void> {
  await Promise.all(ALL_SCRIPTS.map(({ text }) => server.send(['SCRIPT', 'LOAD', text])));
}
