/**
 * The log lines of a shard about traffic: a registration, a call, an ended flow, credentials that were not
 * good, a TLS handshake that failed. Each kind is sampled (observe/log.ts), but for the targets of the upstream.
 * Parts that a line tells are read from the exchange in hand.
 */
import type { Flows } from '../flow/flows.ts';
import { Endpoint } from '../net/endpoint.ts';
import type { Target } from '../net/targets.ts';
import { type Logger, Sampled } from '../observe/log.ts';
import type { Exchange } from '../proxy/exchange.ts';
import { causeWord } from '../shared/cause.ts';
import type { Clock } from '../shared/clock.ts';
import { latin1 } from '../wire/chars.ts';
import { parseNameAddr } from '../wire/nameaddr.ts';
import { FROM, TO } from '../wire/names.ts';
import { TRANSPORTS } from '../wire/via.ts';

export class Notes {
  readonly #log: Logger;
  readonly #exchange: Exchange;
  readonly #flows: Flows;
  readonly #clock: Clock;
  readonly #registrations: Sampled;
  readonly #calls: Sampled;
  readonly #refusals: Sampled;
  readonly #ended: Sampled;
  readonly #unproxied: Sampled;
  readonly #unsecured: Sampled;
  readonly #identities: (slot: number) => readonly string[] | undefined;
  readonly #address = new Endpoint();

  /** `identities`: the domains in the certificate that a peer has shown */
  constructor(
    log: Logger,
    clock: Clock,
    exchange: Exchange,
    flows: Flows,
    identities: (slot: number) => readonly string[] | undefined,
  ) {
    this.#log = log;
    this.#identities = identities;
    this.#exchange = exchange;
    this.#flows = flows;
    this.#clock = clock;
    this.#registrations = new Sampled(log, 'registration');
    this.#calls = new Sampled(log, 'call');
    this.#refusals = new Sampled(log, 'auth-failure');
    this.#ended = new Sampled(log, 'flow-ended');
    this.#unproxied = new Sampled(log, 'proxy-refused');
    this.#unsecured = new Sampled(log, 'tls-failure');
  }

  /** A target of the upstream is taken for dead from now on, or for alive again. */
  readonly target = ({ host, address, transport }: Target, alive: boolean): void => {
    this.#log.warn({
      event: alive ? 'target-alive' : 'target-dead',
      host,
      address: address.toString(),
      transport: TRANSPORTS[transport].toLowerCase(),
    });
  };

  /** A flow was confirmed by a registration. */
  readonly registration = (slot: number, expires: number, outbound: boolean): void => {
    if (!this.#registrations.wants(this.#clock.now())) return;
    const generation = this.#flows.table.generation(slot);
    const certificate = this.#identities(slot);
    this.#registrations.write({
      aor: this.#header(TO),
      expires,
      outbound,
      ...this.#flow(slot, generation),
      ...(certificate && { certificate }),
    });
  };

  readonly refused = (why: string, user: string | undefined): void => {
    if (!this.#refusals.wants(this.#clock.now())) return;
    const peer = this.#exchange.source.remote.toString();
    this.#refusals.write({ why, aor: this.#header(TO), peer, ...(user !== undefined && { user }) });
  };

  readonly call = (): void => {
    if (!this.#calls.wants(this.#clock.now())) return;
    const peer = this.#exchange.source.remote.toString();
    this.#calls.write({ from: this.#header(FROM), to: this.#header(TO), peer });
  };

  flowEnded(slot: number, generation: number, cause: number): void {
    if (!this.#ended.wants(this.#clock.now())) return;
    this.#ended.write({ cause: causeWord(cause), ...this.#flow(slot, generation) });
  }

  /** A connection was closed for its PROXY header: `peer` is who sent it. */
  proxyRefused(slot: number, cause: number): void {
    if (!this.#unproxied.wants(this.#clock.now())) return;
    const peer = this.#flows.remoteOf(slot, this.#address).toString();
    this.#unproxied.write({ cause: causeWord(cause), peer });
  }

  /** The handshake of a connection failed, theirs or ours. */
  unsecured(slot: number, reason: string): void {
    if (!this.#unsecured.wants(this.#clock.now())) return;
    const peer = this.#flows.remoteOf(slot, this.#address).toString();
    this.#unsecured.write({ reason, peer });
  }

  #flow(slot: number, generation: number) {
    return {
      flow: `${slot}.${generation}`,
      transport: TRANSPORTS[this.#flows.table.transport(slot)].toLowerCase(),
      peer: this.#flows.clientOf(slot, this.#address).toString(),
    };
  }

  /** The bare URI of a From or To. */
  #header(id: number): string {
    const m = this.#exchange.message;
    const row = m.first[id];
    const text = row < 0 ? '' : latin1(m.buf, m.valueStart[row], m.valueEnd[row]);
    return parseNameAddr(text)?.uri ?? text;
  }
}
