/**
 * Whose connections may tell of another client (PROXY headers), and what such a client's flow is worth. Three
 * addresses never mix: the socket's, which is the balancer's and decides only whether it may tell; the client's,
 * which is all that SIP, trust and log know from then on; and our advertised one, which neither touches.
 *
 * A client whom the balancer does not know is nobody whom we believe for an address, although the socket's stands for
 * his (for a certificate of his own he may be); a connection of the balancer's own (LOCAL) is the balancer's.
 */
import { ACCEPTED, FIRST_MESSAGE } from '../flow/deadline.ts';
import type { Flows } from '../flow/flows.ts';
import { Endpoint } from '../net/endpoint.ts';
import { CERTIFIED, EXEMPT, PROXIED } from '../shared/flow-record.ts';
import type { Trust } from './trust.ts';

export class Balancers {
  readonly #flows: Flows;
  readonly #trust: Trust;
  readonly #identities: (slot: number) => readonly string[] | undefined;
  readonly #address = new Endpoint();

  /** `identities`: the domains of the certificate that a peer has shown */
  constructor(flows: Flows, trust: Trust, identities: (slot: number) => readonly string[] | undefined) {
    this.#flows = flows;
    this.#trust = trust;
    this.#identities = identities;
  }

  /** A stream has opened; until a header comes it is its peer's own. Where a handshake comes first it may have come. */
  opened(slot: number): void {
    const { table } = this.#flows;
    if (this.#trust.domain(this.#identities(slot))) table.raise(slot, EXEMPT | CERTIFIED);
    if (table.messagesIn(slot) > 0) return;
    if (this.#trust.network(this.#flows.remoteOf(slot, this.#address))) table.raise(slot, EXEMPT);
  }

  /** May this peer send a header? From its signature on the flow is judged as a stranger's, and has its deadlines. */
  mayTell(slot: number, ds: number): boolean {
    const flows = this.#flows;
    if (!this.#trust.network(flows.remoteOf(slot, this.#address))) return false;
    if (flows.stage(slot) === ACCEPTED) flows.enter(slot, FIRST_MESSAGE, ds);
    flows.setExempt(slot, false);
    return true;
  }

  told(slot: number, local: boolean): void {
    const flows = this.#flows;
    const known = flows.table.has(slot, PROXIED) && this.#trust.network(flows.clientOf(slot, this.#address));
    flows.setExempt(slot, local || known);
  }
}
