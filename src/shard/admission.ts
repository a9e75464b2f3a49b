/**
 * Asks who sent the request in the exchange (auth/gate.ts), and goes on with it once he has proved it; if he has not,
 * the request is answered here, counted, and told of where somebody tried in vain. While a credential service is
 * asked the request is parked.
 */
import type { Decision, Gate, Role } from '../auth/gate.ts';
import type { Answers } from '../proxy/answer.ts';
import type { Exchange } from '../proxy/exchange.ts';
import type { Parked, Parking } from '../proxy/parked.ts';
import { Counter, type Counters } from '../shared/counters.ts';
import { latin1 } from '../wire/chars.ts';
import { allValues } from '../wire/fields.ts';
import { AUTHORIZATION, PROXY_AUTHORIZATION } from '../wire/names.ts';

/** Refusals that say somebody tried, and not only that a client must begin. */
const FAILURES: ReadonlySet<string> = new Set(['wrong-response', 'unknown-user', 'forged', 'other-aor']);

export interface AdmissionParts {
  gate: Gate;
  exchange: Exchange;
  parking: Parking;
  answers: Answers;
  counters: Counters;
  /** for the log: credentials that were not good, and whose where that is proved */
  refused: (why: string, user: string | undefined) => void;
  /** makes the shard's loop turn soon */
  wake: () => void;
}

export class Admission {
  readonly #p: AdmissionParts;

  constructor(parts: AdmissionParts) {
    this.#p = parts;
  }

  /**
   * `aor`, canonical: of To for a registrar, of From for a proxy; `host`: its own. `admitted` runs with the request in
   * the exchange, once or never, possibly before the call returns.
   */
  ask(role: Role, aor: string, host: string, admitted: () => void): void {
    const { gate, exchange, parking, wake } = this.#p;
    const { message: m, ds } = exchange;
    const request = {
      role,
      method: latin1(m.buf, m.methodStart, m.methodEnd),
      uri: latin1(m.buf, m.uriStart, m.uriEnd),
      credentials: allValues(m, role === 'proxy' ? PROXY_AUTHORIZATION : AUTHORIZATION),
      aor,
      host,
      ds,
    };
    let parked: Parked | undefined;
    let now: Decision | undefined;
    gate.check(request, (decision) => {
      if (!parked) {
        now = decision;
        return;
      }
      parking.resume(parked, () => this.#decided(decision, admitted));
      wake(); // this is libuv's turn, not the shard's: what was queued waits for a round
    });
    if (now) this.#decided(now, admitted);
    else parked = parking.park();
  }

  #decided(decision: Decision, admitted: () => void): void {
    if (decision.kind === 'accept') {
      admitted();
      return;
    }
    const { answers, counters, refused } = this.#p;
    if (decision.kind === 'challenge') counters.inc(Counter.authChallenges);
    if (FAILURES.has(decision.why)) {
      counters.inc(Counter.authFailures);
      refused(decision.why, decision.user);
    }
    answers.send(decision.status, decision.reason, decision.headers);
  }
}
