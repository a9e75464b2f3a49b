/**
 * Whom we believe: networks and domains that the operator names, the latter by the peer's certificate (RFC 5922), and
 * the upstream itself, that is the address and port of any of its targets now. A client on the upstream's own host
 * is not the upstream, and neither is a connection that comes from that host; one that we opened to it is.
 */
import type { Network } from '../config/config.ts';
import { Endpoint } from '../net/endpoint.ts';
import type { Upstream } from '../proxy/upstream.ts';

interface Range {
  address: Endpoint;
  bits: number;
}

export class Trust {
  readonly #ranges: Range[];
  readonly #domains: ReadonlySet<string>;
  readonly #upstream: Pick<Upstream, 'isTarget'> | undefined;

  constructor(
    networks: readonly Network[],
    domains: readonly string[],
    upstream: Pick<Upstream, 'isTarget'> | undefined,
  ) {
    this.#domains = new Set(domains);
    this.#upstream = upstream;
    this.#ranges = networks.map(({ host, bits }) => ({ address: Endpoint.parse(host, 0) as Endpoint, bits }));
  }

  /** A datagram from this address, or a connection that we open to it. */
  isUpstream(address: Endpoint): boolean {
    return this.#upstream?.isTarget(address) === true;
  }

  /** Either: a peer that we open a connection to. */
  peer(address: Endpoint): boolean {
    return this.isUpstream(address) || this.network(address);
  }

  /** A peer whose good certificate is for these domains (net/sipidentity.ts). */
  domain(identities: readonly string[] | undefined): boolean {
    return this.#domains.size > 0 && identities?.some((name) => this.#domains.has(name)) === true;
  }

  network(from: Endpoint): boolean {
    for (const range of this.#ranges) if (contains(range, from)) return true;
    return false;
  }
}

function contains({ address, bits }: Range, e: Endpoint): boolean {
  return (
    address.family === e.family &&
    same(address.a0, e.a0, bits) &&
    same(address.a1, e.a1, bits - 32) &&
    same(address.a2, e.a2, bits - 64) &&
    same(address.a3, e.a3, bits - 96)
  );
}

/** Do the first `bits` of two words agree? */
function same(a: number, b: number, bits: number): boolean {
  if (bits <= 0) return true;
  return bits >= 32 ? a === b : (a ^ b) >>> (32 - bits) === 0;
}
