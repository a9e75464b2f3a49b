/**
 * Locating a SIP server (RFC 3263 section 4, RFC 7118 5.5): from what a URI says to the list of addresses to try,
 * in order. Pure: names are asked of a function, chance is an argument.
 *
 * The way: a numeric host is itself. A port means A/AAAA. A transport means its SRV, neither means NAPTR and then SRV,
 * or SRV for each transport of ours; where no SRV exists, A/AAAA with the transport's default port. One transport is
 * chosen: the list fails over between servers, not between transports. `sips` never leaves TLS.
 *
 * Bounded whatever the zone says: questions in all, CNAMEs in a chain, servers and addresses used. It does not cache
 * and knows no time; `ttl` is the shortest of all answers that the result rests on, absent ones too.
 */
import {
  TRANSPORT_TCP as TCP,
  TRANSPORT_TLS as TLS,
  TRANSPORT_UDP as UDP,
  TRANSPORT_WS as WS,
  TRANSPORT_WSS as WSS,
} from '../shared/flow-record.ts';
import { Endpoint } from './endpoint.ts';
import { orderSrv, type SrvRecord } from './srv.ts';
import { type Destination, type LocateFailure, type Location, MAX_TARGETS, type Target } from './targets.ts';

/** Questions for one destination. A NAPTR, five SRV and both address types of eight servers are 22. */
export const MAX_QUESTIONS = 32;
/** RFC 1034 wants no chains at all; real ones have two or three links. */
export const MAX_CNAMES = 8;
/** Servers of an SRV answer that are looked up; those drawn behind them are left out. */
export const MAX_SERVERS = 8;
/** Addresses taken of one server, so that one name cannot fill the list. */
export const MAX_ADDRESSES = 8;
/** NAPTR records whose SRV is asked for. */
export const MAX_SERVICES = 5;

export type RecordType = 'A' | 'AAAA' | 'SRV' | 'NAPTR';

export interface NaptrRecord {
  type: 'NAPTR';
  name: string;
  order: number;
  preference: number;
  flags: string;
  services: string;
  regexp: string;
  replacement: string;
}

export type DnsRecord =
  | { type: 'A' | 'AAAA' | 'CNAME'; name: string; data: string }
  | SrvRecord
  | NaptrRecord;

/** Records of the answer section; names lower case, without the last dot. `ttl` in milliseconds, from now. */
export interface Answer {
  status: 'found' | 'absent' | 'failed';
  records: readonly DnsRecord[];
  ttl: number;
}

/** Never rejects: what goes wrong is `failed`. */
export type Query = (name: string, type: RecordType) => Promise<Answer>;

/** A transport that we can send with, and the address families of its listeners, preferred one first. */
export interface Way {
  transport: number;
  families: readonly (4 | 6)[];
}

export interface Means {
  query: Query;
  /** preferred first: it decides where the server leaves the choice to us */
  ways: readonly Way[];
  /** in [0, 1) */
  random: () => number;
}

const SERVICES: Record<string, number> = {
  'sip+d2u': UDP,
  'sip+d2t': TCP,
  'sips+d2t': TLS,
  'sip+d2w': WS, // 7118 §5.5
  'sips+d2w': WSS,
};
const SRV_PREFIX = ['', '_sip._udp.', '_sip._tcp.', '_sips._tcp.', '_sip._ws.', '_sips._ws.'];
const DEFAULT_PORT = [0, 5060, 5060, 5061, 80, 443];
const SECURED = [0, 0, TLS, TLS, WSS, WSS];

export function locate(destination: Destination, means: Means): Promise<Location> {
  return new Search(destination, means).run();
}

/** RFC 3263 4.1 where DNS has no say: the transport, or 0 where none of ours fits. */
function fixedTransport({ scheme, transport }: Destination, ways: readonly Way[]): number {
  const has = (code: number) => ways.some((way) => way.transport === code);
  const wanted = scheme === 'sips' ? SECURED[transport || TCP] : transport;
  // UDP is what the RFC names; a node without a UDP listener may use TCP ("another transport MAY be used").
  if (wanted === 0 && scheme === 'sip') return has(UDP) ? UDP : has(TCP) ? TCP : 0;
  return has(wanted) ? wanted : 0;
}

class Search {
  readonly #destination: Destination;
  readonly #means: Means;
  readonly #host: string;
  #questions = 0;
  #failed = false;
  #ttl = Infinity;

  constructor(destination: Destination, means: Means) {
    this.#destination = destination;
    this.#means = means;
    this.#host = canonical(destination.host);
  }

  async run(): Promise<Location> {
    const destination = this.#destination;
    const fixed = fixedTransport(destination, this.#means.ways);
    const numeric = Endpoint.parse(this.#host, destination.port || DEFAULT_PORT[fixed]);
    if (fixed === 0 && (numeric || destination.transport !== 0 || destination.port !== 0))
      return this.#none('no-transport');
    if (numeric) {
      if (!this.#families(fixed).includes(numeric.family as 4 | 6)) return this.#none('no-transport');
      const { host } = numeric;
      return this.#found([{ transport: fixed, host, address: numeric, priority: 0, weight: 1 }]);
    }
    if (destination.port !== 0) return this.#byAddress(fixed, destination.port);
    if (destination.transport !== 0) return this.#byService([fixed], fixed);
    return this.#byNaptr(fixed);
  }

  /** 4.1: the server's preference among what both can do; then SRV for each of ours. */
  async #byNaptr(fixed: number): Promise<Location> {
    // Some name servers know no NAPTR and fail on the question: then it counts as none.
    const services = this.#applicable(await this.#records<NaptrRecord>(this.#host, 'NAPTR', true));
    if (services.length === 0) {
      const transports = this.#means.ways.map((way) => way.transport).filter((t) => this.#serves(t));
      return this.#byService(transports, fixed);
    }
    let refused = false;
    for (const { transport, replacement } of services) {
      const servers = await this.#records<SrvRecord>(replacement, 'SRV');
      if (isRefusal(servers)) refused = true;
      else if (servers.length > 0) return this.#byServers(transport, servers);
      if (this.#failed) return this.#none('no-answer'); // going on could leave TLS because of a lost packet
    }
    if (refused) return this.#none('no-service');
    return this.#byAddress(services[0].transport, DEFAULT_PORT[services[0].transport]);
  }

  #applicable(records: NaptrRecord[]): { transport: number; replacement: string }[] {
    const { ways } = this.#means;
    const rank = (transport: number) => ways.findIndex((way) => way.transport === transport);
    return records
      .filter((r) => r.flags.toLowerCase() === 's' && r.regexp === '')
      .map((r) => ({ ...r, transport: SERVICES[r.services.toLowerCase()] ?? 0 }))
      .filter(({ transport }) => rank(transport) >= 0)
      .filter(({ transport }) => this.#destination.scheme !== 'sips' || isSecure(transport)) // MUST of 4.1
      .sort(
        (a, b) => a.order - b.order || a.preference - b.preference || rank(a.transport) - rank(b.transport),
      )
      .slice(0, MAX_SERVICES);
  }

  /** 4.1: without NAPTR, "_sip" for sip and "_sips" for sips. */
  #serves(transport: number): boolean {
    return isSecure(transport) === (this.#destination.scheme === 'sips');
  }

  /** 4.2 by SRV: the first of these transports that has records; without any, A/AAAA with `fixed`. */
  async #byService(transports: number[], fixed: number): Promise<Location> {
    const answers = await Promise.all(
      transports.map((t) => this.#records<SrvRecord>(`${SRV_PREFIX[t]}${this.#host}`, 'SRV')),
    );
    const chosen = answers.findIndex((servers) => servers.length > 0 && !isRefusal(servers));
    if (chosen >= 0) return this.#byServers(transports[chosen], answers[chosen]);
    if (answers.some(isRefusal)) return this.#none('no-service');
    if (this.#failed) return this.#none('no-answer'); // "no SRV records" is an answer, silence is none
    if (fixed === 0) return this.#none('no-transport');
    return this.#byAddress(fixed, DEFAULT_PORT[fixed]);
  }

  async #byServers(transport: number, records: readonly SrvRecord[]): Promise<Location> {
    const servers = orderSrv(records, this.#means.random).slice(0, MAX_SERVERS);
    const found = await Promise.all(
      servers.map((s) => this.#addresses(transport, s.target, s.port, s.priority, s.weight)),
    );
    return this.#found(found.flat());
  }

  async #byAddress(transport: number, port: number): Promise<Location> {
    return this.#found(await this.#addresses(transport, this.#host, port, 0, 1));
  }

  /** All families of ours (7984 §3.1), in our order; the weight goes to the first family that has addresses. */
  async #addresses(transport: number, name: string, port: number, priority: number, weight: number) {
    const lists = await Promise.all(
      this.#families(transport).map((family) => this.#family(family, canonical(name), port)),
    );
    const preferred = lists.find((list) => list.length > 0)?.slice(0, MAX_ADDRESSES) ?? [];
    const all = lists.flat().slice(0, MAX_ADDRESSES);
    return all.map((address, i): Target => {
      const share = i < preferred.length ? weight / preferred.length : 0;
      return { transport, host: canonical(name), address, priority, weight: share };
    });
  }

  async #family(family: 4 | 6, name: string, port: number): Promise<Endpoint[]> {
    const records = await this.#records<{ data: string }>(name, family === 4 ? 'A' : 'AAAA');
    return records
      .map(({ data }) => Endpoint.parse(data, port))
      .filter((address) => address !== undefined && address.family === family && !address.isWildcard)
      .map((address) => address as Endpoint);
  }

  /** The records of a name, through aliases; empty when there are none, or no answer (`#failed`). */
  async #records<T>(name: string, type: RecordType, forgive = false): Promise<T[]> {
    const seen = new Set<string>();
    let at = canonical(name);
    for (;;) {
      if (++this.#questions > MAX_QUESTIONS) return [];
      const { status, records, ttl } = await this.#means.query(at, type);
      if (status === 'failed') this.#failed ||= !forgive;
      this.#ttl = Math.min(this.#ttl, ttl);
      if (status !== 'found') return [];
      const asked = at;
      for (;;) {
        const own = records.filter((r) => r.type === type && r.name === at);
        if (own.length > 0) return own as T[];
        const alias = records.find((r) => r.type === 'CNAME' && r.name === at);
        if (alias?.type !== 'CNAME') break;
        seen.add(at);
        at = canonical(alias.data);
        if (seen.size > MAX_CNAMES || seen.has(at)) return [];
      }
      if (at === asked) return []; // else the chain leaves this answer, and its end is a question of its own
    }
  }

  #families(transport: number): readonly (4 | 6)[] {
    return this.#means.ways.find((way) => way.transport === transport)?.families ?? [];
  }

  #found(found: Target[]): Location {
    const targets = found
      .filter((t, i) => found.findIndex((o) => o.address.equals(t.address)) === i)
      .slice(0, MAX_TARGETS);
    if (targets.length === 0) return this.#none(this.#failed ? 'no-answer' : 'no-such-name');
    return { targets, failure: '', ttl: this.#ttl };
  }

  #none(failure: LocateFailure): Location {
    return { targets: [], failure, ttl: this.#ttl };
  }
}

const isSecure = (transport: number): boolean => transport === TLS || transport === WSS;

/** RFC 2782: one record with the target "." says that the service is not there. */
const isRefusal = (records: readonly SrvRecord[]): boolean =>
  records.length > 0 && records.every((r) => canonical(r.target) === '');

export function canonical(name: string): string {
  const text = name.toLowerCase();
  return text.endsWith('.') ? text.slice(0, -1) : text;
}
