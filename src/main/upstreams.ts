/**
 * The upstreams of the configuration as one list of targets, resolved ahead (main/locator.ts). They are kept in their order
 * of preference: the targets of a later one have lower priority than all of an earlier one.
 *
 * The start waits for the names, but no longer than START_WAIT_MS: a node without name servers serves its keep-alives and
 * its own domains, answers 503 for the upstream, and says so in the log. What is resolved later reaches the shards by
 * `changed`.
 */
import type { UpstreamConfig } from '../config/config.ts';
import type { Way } from '../net/locate.ts';
import { encodeTargets, type Location, MAX_TARGETS, type Target } from '../net/targets.ts';
import type { Logger } from '../observe/log.ts';
import { isSecured } from '../shared/flow-record.ts';
import { WS } from '../wire/via.ts';
import type { Locator } from './locator.ts';

const START_WAIT_MS = 5_000;

export class Upstreams {
  readonly #configured: readonly UpstreamConfig[];
  readonly #locations: (Location | undefined)[];
  readonly #changed: (octets: Uint8Array) => void;
  readonly #log: Logger;
  readonly #first = Promise.withResolvers<void>();

  /** `changed` is called with every new list. */
  constructor(
    configured: readonly UpstreamConfig[],
    locator: Locator,
    log: Logger,
    changed: (octets: Uint8Array) => void,
  ) {
    this.#configured = configured;
    this.#locations = configured.map(() => undefined);
    this.#log = log;
    this.#changed = changed;
    if (configured.length === 0) this.#first.resolve();
    for (const [i, { secured, host, port, transport }] of configured.entries())
      locator.keep({ scheme: secured ? 'sips' : 'sip', host, port, transport }, (location) =>
        this.#resolved(i, location),
      );
  }

  /** Until all names have been answered for, or the wait is over. */
  async start(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, START_WAIT_MS);
    });
    await Promise.race([this.#first.promise, late]);
    clearTimeout(timer);
    for (const [i, location] of this.#locations.entries())
      if (!location)
        this.#log.warn({ event: 'upstream-unresolved', uri: this.#configured[i].uri, reason: 'no-answer' });
  }

  /** The list as it is now. */
  get octets(): Uint8Array {
    return encodeTargets(joined(this.#locations, this.#configured));
  }

  #resolved(i: number, location: Location): void {
    this.#locations[i] = location;
    this.#changed(this.octets);
    const { uri } = this.#configured[i];
    const targets = location.targets.map(({ address }) => address.toString());
    if (targets.length > 0) this.#log.info({ event: 'upstream-resolved', uri, targets });
    else this.#log.warn({ event: 'upstream-unresolved', uri, reason: location.failure });
    if (this.#locations.every((known) => known !== undefined)) this.#first.resolve();
  }
}

/** One list of several, with priorities counted anew over all. */
export function joined(
  locations: readonly (Location | undefined)[],
  configured: readonly Pick<UpstreamConfig, 'named' | 'host'>[],
): Location {
  const targets: Target[] = [];
  let next = 0;
  for (const [i, location] of locations.entries()) {
    let last = -1;
    for (const target of location?.targets ?? []) {
      if (last >= 0 && target.priority !== last) next++;
      last = target.priority;
      const known = targets.some((t) => t.transport === target.transport && t.address.equals(target.address));
      if (known) continue;
      const { named, host } = configured[i];
      targets.push({
        ...target,
        priority: next,
        ...(named && { named: true }),
        ...(isSecured(target.transport) && { domain: host.toLowerCase() }),
      });
    }
    if (last >= 0) next++;
  }
  const failure = targets.length > 0 ? '' : (locations.find((l) => l?.failure)?.failure ?? 'no-answer');
  return { targets: targets.slice(0, MAX_TARGETS), failure, ttl: 0 };
}

/** The transports and families of the listeners, the core-facing one first. */
export function waysOf(listen: readonly { transport: number; host: string }[], core: number): Way[] {
  const ways: { transport: number; families: (4 | 6)[] }[] = [];
  for (const { transport, host } of [listen[core], ...listen]) {
    if (transport >= WS) continue; // its connections are opened by clients alone
    const family = host.includes(':') ? 6 : 4;
    const way = ways.find((w) => w.transport === transport);
    if (!way) ways.push({ transport, families: [family] });
    else if (!way.families.includes(family)) way.families.push(family);
  }
  return ways;
}
