/**
 * A small stub resolver: it asks recursive name servers and keeps what they say for as long as they say (node:dns
 * tells no TTL for SRV and NAPTR). Main alone has one, so all shards share its cache.
 *
 * Guarantees: a question is in work once, however many ask it; every query ends, within ROUNDS of all servers; an
 * answer that has run out is still given for STALE_MS while no server answers (RFC 8767); cache and questions in work
 * are bounded. It does not walk aliases (net/locate.ts does), does not validate DNSSEC, and trusts its name servers:
 * they belong on the same host or network. Names of the hosts file are answered from there and never asked.
 *
 * A kept answer costs a map look-up; a new one a socket and a round trip.
 */
import { randomInt } from 'node:crypto';
import { Endpoint } from '../net/endpoint.ts';
import { type Answer, canonical, type RecordType } from '../net/locate.ts';
import type { HostsFile } from './hostsfile.ts';
import { ask, type Exchange, type NameServer, type Reply } from './nameserver.ts';

export interface ResolverLimits {
  /** ms for one server to answer, in the first round; twice that in the second */
  attempt: number;
  /** times that all servers are asked */
  rounds: number;
  /** ms: an answer is kept for its TTL within these bounds */
  minTtl: number;
  maxTtl: number;
  /** ms: "there is none" is kept no longer */
  maxNegative: number;
  /** ms behind its TTL for which an answer is given while no server answers */
  stale: number;
  /** ms for which an answer past its TTL is given before the servers are asked again; without one it is minTtl */
  recheck: number;
  /** answers kept; the one that was not used for the longest goes first */
  entries: number;
  /** questions in work; one more fails at once */
  pending: number;
}

export const RESOLVER_LIMITS: ResolverLimits = {
  attempt: 1_000,
  rounds: 2,
  minTtl: 1_000,
  maxTtl: 3_600_000,
  maxNegative: 60_000,
  stale: 600_000,
  recheck: 5_000,
  entries: 2_048,
  pending: 256,
};

export interface ResolverParts {
  servers: readonly NameServer[];
  /** ms, monotonic */
  now: () => number;
  hosts?: HostsFile;
  limits?: Partial<ResolverLimits>;
}

interface Entry {
  answer: Answer;
  expires: number;
  /** not before this, after a failure */
  retry: number;
}

const FAILED = 'failed';

export class Resolver {
  /** for the metrics */
  readonly counts = { asked: 0, fromCache: 0, stale: 0, failed: 0, refused: 0 };
  readonly #servers: readonly NameServer[];
  readonly #now: () => number;
  readonly #hosts: HostsFile | undefined;
  readonly #limits: ResolverLimits;
  /** oldest use first */
  readonly #entries = new Map<string, Entry>();
  readonly #pending = new Map<string, Promise<Answer>>();
  readonly #exchanges = new Set<Exchange>();
  /** the server that answered last is asked first */
  #preferred = 0;
  #closed = false;

  constructor({ servers, now, hosts, limits }: ResolverParts) {
    this.#servers = servers;
    this.#now = now;
    this.#hosts = hosts;
    this.#limits = { ...RESOLVER_LIMITS, ...limits };
    this.#preferred = servers.length > 1 ? randomInt(servers.length) : 0;
  }

  /**
   * Never rejects. `ahead`: ms that a kept answer must still have, else it is asked anew; so a refresh before the end
   * of the TTL reaches the server.
   */
  query(name: string, type: RecordType, ahead = 0): Promise<Answer> {
    const question = canonical(name);
    if (!isAskable(question)) return Promise.resolve({ status: 'absent', records: [], ttl: Infinity });
    const local = this.#hosts?.answer(question, type);
    if (local) return Promise.resolve(local);
    const key = `${type} ${question}`;
    const now = this.#now();
    const entry = this.#entries.get(key);
    if (entry) {
      this.#entries.delete(key);
      this.#entries.set(key, entry);
      if (now < entry.expires - ahead || now < entry.retry) {
        this.counts.fromCache++;
        return Promise.resolve(this.#kept(entry, now));
      }
    }
    const running = this.#pending.get(key);
    if (running) return running;
    if (this.#pending.size >= this.#limits.pending || this.#closed) {
      this.counts.refused++;
      return Promise.resolve({ status: FAILED, records: [], ttl: this.#limits.minTtl });
    }
    const answer = this.#resolve(key, question, type).finally(() => this.#pending.delete(key));
    this.#pending.set(key, answer);
    return answer;
  }

  /** Ends all that is in work, as failed. */
  close(): void {
    this.#closed = true;
    for (const exchange of [...this.#exchanges]) exchange.abandon();
  }

  async #resolve(key: string, name: string, type: RecordType): Promise<Answer> {
    const reply = await this.#askServers(name, type);
    const now = this.#now();
    const { minTtl, maxTtl, maxNegative, recheck } = this.#limits;
    if (reply) {
      const most = reply.status === 'found' ? maxTtl : maxNegative;
      const ttl = Math.min(Math.max(reply.ttl * 1000, minTtl), most);
      const { status, records } = reply;
      return this.#keep(key, { answer: { status, records, ttl }, expires: now + ttl, retry: 0 }, now);
    }
    this.counts.failed++;
    const old = this.#entries.get(key);
    if (old && now < this.#usableUntil(old)) return this.#keep(key, { ...old, retry: now + recheck }, now);
    const answer: Answer = { status: FAILED, records: [], ttl: minTtl };
    return this.#keep(key, { answer, expires: now + minTtl, retry: 0 }, now);
  }

  async #askServers(name: string, type: RecordType): Promise<Reply | undefined> {
    const { attempt, rounds } = this.#limits;
    for (let round = 0; round < rounds; round++) {
      const first = this.#preferred;
      for (let i = 0; i < this.#servers.length && !this.#closed; i++) {
        const at = (first + i) % this.#servers.length;
        this.counts.asked++;
        const exchange = ask(this.#servers[at], name, type, attempt * 2 ** round);
        this.#exchanges.add(exchange);
        const reply = await exchange.reply;
        this.#exchanges.delete(exchange);
        if (!reply) continue;
        this.#preferred = at;
        return reply;
      }
    }
    return undefined;
  }

  /** What an entry says now. An answer past its TTL may be believed until the servers are asked again. */
  #kept({ answer, expires, retry }: Entry, now: number): Answer {
    if (now >= expires) this.counts.stale++;
    return { ...answer, ttl: Math.max(expires, retry) - now };
  }

  #keep(key: string, entry: Entry, now: number): Answer {
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    if (this.#entries.size > this.#limits.entries) {
      const [oldest] = this.#entries.keys();
      this.#entries.delete(oldest);
    }
    return this.#kept(entry, now);
  }

  #usableUntil({ answer, expires }: Entry): number {
    return answer.status === 'found' ? expires + this.#limits.stale : expires;
  }
}

/** What may stand in a question: letters, digits, "-" and "_" in labels of 1 to 63, RFC 1035 2.3.4. */
function isAskable(name: string): boolean {
  return name.length <= 253 && /^(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}$/.test(name);
}

/**
 * The servers to ask: the one of HOLDFAST_DNS (`HOST:PORT`, IPv6 in brackets, the port may be missing), else the
 * system's, as `dns.getServers` lists them. Undefined: the setting is none of these.
 */
export function nameServers(
  setting: string | undefined,
  system: readonly string[],
): NameServer[] | undefined {
  if (setting === undefined) return system.map(nameServer).filter((server) => server !== undefined);
  const server = nameServer(setting);
  return server && [server];
}

function nameServer(text: string): NameServer | undefined {
  const bare = Endpoint.parse(text, 53);
  if (bare) return { host: bare.host, port: 53 };
  const [, host, port] = /^(\[.+\]|[^:]+):(\d{1,5})$/.exec(text) ?? [];
  const endpoint = host === undefined ? undefined : Endpoint.parse(host, Number(port));
  if (!endpoint || endpoint.port === 0 || endpoint.port > 65_535) return undefined;
  return { host: endpoint.host, port: endpoint.port };
}
