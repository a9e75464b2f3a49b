/**
 * The upstream of an edge: the names under which it is configured, and the targets that they come to now (RFC 3263).
 * Main resolves and sends lists; a shard chooses, and learns by what it sends which target lives. Nothing here waits.
 *
 * A request is given to a target by a keyed hash of its Call-ID: so retransmissions, CANCEL and ACK follow their request
 * without any state, and a client that is challenged finds the server that challenged it. Without a list there is no
 * target: requests are answered 503 until one comes.
 *
 * With one target nothing is hashed and no clock is read.
 */
import type { SipHash } from '../flow/siphash.ts';
import { Endpoint } from '../net/endpoint.ts';
import type { Location, Target } from '../net/targets.ts';
import { SIPS, type UriView } from '../wire/address.ts';
import { latin1 } from '../wire/chars.ts';
import type { Message } from '../wire/lexer.ts';
import { CALL_ID } from '../wire/names.ts';
import { defaultPort } from '../wire/via.ts';
import { NO_TARGET, type TargetLimits, TargetSet } from './targetset.ts';

/** What `match` says of a URI that names another host, and of one that names the upstream as a whole. */
export const OTHER_HOST = -2;
export const ANY_TARGET = -1;

export interface UpstreamName {
  /** sips */
  secured?: boolean;
  /** transport code, 0: not decided by the URI */
  transport?: number;
  host: string;
  /** 0: none in the URI */
  port: number;
}

export interface UpstreamParts {
  /** as configured */
  names: readonly UpstreamName[];
  hash: SipHash;
  /** ms */
  now: () => number;
  limits?: Partial<TargetLimits>;
}

export class Upstream {
  readonly targets: TargetSet;
  readonly #names: readonly { host: string; port: number }[];
  readonly #hash: SipHash;
  readonly #now: () => number;
  readonly #address = new Endpoint();
  /** for the log: a target has died, or lives again */
  changed: (target: Target, alive: boolean) => void = () => {};

  constructor({ names, hash, now, limits = {} }: UpstreamParts) {
    this.targets = new TargetSet(limits);
    this.#names = names.map(({ secured, transport = 0, host, port }) => ({
      host: host.toLowerCase(),
      port: port || (secured ? 5061 : defaultPort(transport)),
    }));
    this.#hash = hash;
    this.#now = now;
  }

  replace({ targets }: Location): void {
    this.targets.replace(targets, this.#now());
  }

  /** The slot for this request, `tried` as bits left out; NO_TARGET when there is none. */
  choose(m: Message, tried = 0): number {
    const { targets } = this;
    if (targets.count <= 1) return targets.choose(0, 0, tried);
    const row = m.first[CALL_ID];
    const hash = this.#hash;
    hash.begin();
    if (row >= 0) hash.update(m.buf, m.valueStart[row], m.valueEnd[row]);
    hash.end();
    return targets.choose(hash.lo, this.#now(), tried);
  }

  at(slot: number): Target | undefined {
    return this.targets.at(slot);
  }

  /** Does this address and port belong to it now? */
  isTarget(address: Endpoint): boolean {
    return this.targets.find(address) !== NO_TARGET;
  }

  /** Whom does a Route name: one of the targets (its slot), the upstream by its own name, or another host? */
  match(buf: Uint8Array, uri: UriView): number {
    const host = latin1(buf, uri.hostStart, uri.hostEnd).toLowerCase();
    const port = uri.port || (uri.scheme === SIPS ? 5061 : defaultPort(uri.transport));
    const address = this.#address.parse(host, port);
    if (address) {
      const slot = this.targets.find(address);
      return slot === NO_TARGET ? OTHER_HOST : slot;
    }
    if (this.#names.some((name) => name.host === host && name.port === port)) return ANY_TARGET;
    const slot = this.targets.findHost(host, port);
    return slot === NO_TARGET ? OTHER_HOST : slot;
  }

  /** Something could not be sent to this address, or its connection could not be opened. */
  lost(address: Endpoint, transport: number): void {
    const slot = this.targets.find(address, transport);
    if (slot === NO_TARGET) return;
    const wasDead = this.targets.isDead(slot);
    this.targets.failed(slot, this.#now());
    this.#tell(slot, wasDead);
  }

  /** A response came from this address. */
  answered(address: Endpoint, transport: number): void {
    const slot = this.targets.find(address, transport);
    if (slot === NO_TARGET || !this.targets.isSuspect(slot)) return;
    const wasDead = this.targets.isDead(slot);
    this.targets.succeeded(slot, this.#now());
    this.#tell(slot, wasDead);
  }

  /** The end of a probe of this address. */
  probed(address: Endpoint, transport: number, answered: boolean): void {
    const slot = this.targets.find(address, transport);
    if (slot === NO_TARGET) return;
    const wasDead = this.targets.isDead(slot);
    this.targets.probed(slot, answered, this.#now());
    this.#tell(slot, wasDead);
  }

  #tell(slot: number, wasDead: boolean): void {
    const isDead = this.targets.isDead(slot);
    if (isDead !== wasDead) this.changed(this.targets.at(slot) as Target, wasDead);
  }
}
