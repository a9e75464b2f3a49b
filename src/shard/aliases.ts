/**
 * Connections that a peer opened and lets us use the other way (RFC 5923): he says `alias` in the topmost Via of a
 * request over TLS, and we then have no need to open one to the address that he advertises there.
 *
 * Only a peer who is trusted for his certificate (`HOLDFAST_TRUSTED_DOMAINS`) makes an alias; from anybody else the word
 * means nothing. A row is used for a request only if the resolved address is the row's and the host that was resolved
 * is in the certificate: so a peer cannot draw to himself what is for another host at his address, and what his Via says
 * of the port can only draw what is for himself.
 *
 * One table a shard, of the connections that it owns; another shard opens one of its own. A row whose connection has
 * gone is forgotten when it is looked at, and before the table grows beyond its limit.
 */
import type { Flows } from '../flow/flows.ts';
import { Endpoint } from '../net/endpoint.ts';
import type { Exchange } from '../proxy/exchange.ts';
import { CERTIFIED } from '../shared/flow-record.ts';
import { VIA } from '../wire/names.ts';
import { Via } from '../wire/via.ts';

const DEFAULT_PORT = 5061;
const MOST_ROWS = 1_024;

interface Row {
  slot: number;
  generation: number;
  identities: readonly string[];
}

export interface AliasesParts {
  flows: Flows;
  exchange: Exchange;
  /** the domains of the certificate that a peer has shown */
  identities: (slot: number) => readonly string[] | undefined;
}

export class Aliases {
  readonly #p: AliasesParts;
  /** by transport and address */
  readonly #rows = new Map<string, Row>();
  readonly #via = new Via();
  readonly #address = new Endpoint();

  constructor(parts: AliasesParts) {
    this.#p = parts;
  }

  /** The request in hand has come over a stream: does it make an alias of that? (8.2) */
  request(): void {
    const { flows, exchange } = this.#p;
    const { message, source } = exchange;
    const { slot } = source;
    if (!flows.table.has(slot, CERTIFIED)) return;
    const row = message.first[VIA];
    const via = this.#via;
    if (row < 0 || !via.parse(message.buf, message.valueStart[row], message.valueEnd[row]) || !via.alias)
      return;
    const identities = this.#p.identities(slot);
    if (!identities) return;
    const at = this.#address;
    flows.remoteOf(slot, at);
    at.port = via.port || DEFAULT_PORT;
    if (this.#rows.size >= MOST_ROWS) this.#prune();
    if (this.#rows.size >= MOST_ROWS) return;
    this.#rows.set(keyOf(source.transport, at), { slot, generation: source.generation, identities });
  }

  /** The connection to use for a request to `host`, resolved to this address; -1: none. */
  find(to: Endpoint, transport: number, host: string): number {
    if (this.#rows.size === 0) return -1;
    const key = keyOf(transport, to);
    const row = this.#rows.get(key);
    if (!row) return -1;
    if (!this.#p.flows.table.isLive(row.slot, row.generation)) {
      this.#rows.delete(key);
      return -1;
    }
    return row.identities.includes(host.toLowerCase()) ? row.slot : -1;
  }

  #prune(): void {
    const { table } = this.#p.flows;
    for (const [key, { slot, generation }] of this.#rows)
      if (!table.isLive(slot, generation)) this.#rows.delete(key);
  }
}

const keyOf = (transport: number, address: Endpoint): string => `${transport} ${address.toString()}`;
