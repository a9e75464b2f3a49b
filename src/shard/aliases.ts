/**
 * Connections that a peer opened and lets us use the other way (RFC 5923): he says `alias` in the topmost Via of a
 * request over TLS, and we then have no need to open one to the address that he advertises there.
 *
 * Only a peer who is trusted for his certificate (`HOLDFAST_TRUSTED_DOMAINS`) makes an alias; from anybody else the word
 * means nothing. A row is used for a request only if the resolved address is the row's and the host that was resolved
 * is in the certificate: so a peer cannot draw to himself what is for another host at his address, and what his Via says
 * of the port can only draw what is for himself.
 *
 * One table a shard, of the connections that it owns, with one row a connection; another shard opens one of its own.
 * Behind a balancer the address is the client's own, which the balancer tells.
 */
import type { Flows } from '../flow/flows.ts';
import { Endpoint } from '../net/endpoint.ts';
import type { Exchange } from '../proxy/exchange.ts';
import { CERTIFIED } from '../shared/flow-record.ts';
import { VIA } from '../wire/names.ts';
import { Via } from '../wire/via.ts';

const DEFAULT_PORT = 5061;

interface Row {
  generation: number;
  address: Endpoint;
  /** under which it is found: one for each domain of the certificate */
  keys: string[];
}

export interface AliasesParts {
  flows: Flows;
  exchange: Exchange;
  /** the domains of the certificate that a peer has shown */
  identities: (slot: number) => readonly string[] | undefined;
}

export class Aliases {
  readonly #p: AliasesParts;
  readonly #rows = new Map<number, Row>();
  readonly #slots = new Map<string, number>();
  readonly #via = new Via();

  constructor(parts: AliasesParts) {
    this.#p = parts;
  }

  /** The request in hand has come over a stream: does it make an alias of that? (8.2) */
  request(): void {
    const { flows, exchange } = this.#p;
    const { message, source } = exchange;
    const { slot, generation, transport } = source;
    if (!flows.table.has(slot, CERTIFIED)) return;
    const row = message.first[VIA];
    const via = this.#via;
    if (row < 0 || !via.parse(message.buf, message.valueStart[row], message.valueEnd[row]) || !via.alias)
      return;
    const port = via.port || DEFAULT_PORT;
    const known = this.#rows.get(slot);
    if (known?.generation === generation && known.address.port === port) return;
    const identities = this.#p.identities(slot);
    if (!identities) return;
    this.ended(slot);
    const address = flows.clientOf(slot, new Endpoint());
    address.port = port;
    const keys = identities.map((name) => keyOf(transport, address, name));
    for (const key of keys) this.#slots.set(key, slot);
    this.#rows.set(slot, { generation, address, keys });
  }

  /** The connection to use for a request to `host`, resolved to this address; -1: none. */
  find(to: Endpoint, transport: number, host: string): number {
    if (this.#rows.size === 0) return -1;
    const slot = this.#slots.get(keyOf(transport, to, host.toLowerCase())) ?? -1;
    const row = this.#rows.get(slot);
    return row && this.#p.flows.table.isLive(slot, row.generation) ? slot : -1;
  }

  has(slot: number): boolean {
    return this.#rows.has(slot);
  }

  /** The connection has ended: the address that it stood for, if it did. */
  ended(slot: number): Endpoint | undefined {
    const row = this.#rows.get(slot);
    if (!row) return undefined;
    this.#rows.delete(slot);
    for (const key of row.keys) if (this.#slots.get(key) === slot) this.#slots.delete(key);
    return row.address;
  }
}

const keyOf = (transport: number, address: Endpoint, host: string): string =>
  `${transport} ${address} ${host}`;
