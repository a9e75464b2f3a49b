/**
 * How long the place that a request went to may be silent. A flow has the answer time: what counts is any octet
 * from it, and when it has ended nothing more is waited for. A next hop that another can stand in for has twice
 * that, since an edge before us may be waiting for one of its flows, and there a response alone counts. After that,
 * and where no such time is set, an INVITE has Timer C (RFC 3261 16.8).
 *
 * It sets a client transaction's alarm and says what it means when it goes off; who acts on it is transactions.ts.
 */
import type { Flows } from '../flow/flows.ts';
import { SUSPECT } from '../shared/flow-record.ts';
import { CALLING, INVITE_CLIENT } from '../transaction/machine.ts';
import type { Transactions } from '../transaction/table.ts';
import { restartsC } from '../transaction/timers.ts';
import {
  AIM,
  AWAITS_ANSWER,
  DUE,
  FLAGS,
  HEARD,
  HEARD_BACK,
  LISTENER,
  PROBE,
  SLOT,
  SLOT_GENERATION,
  TO_FLOW,
} from './legs.ts';

/** What an alarm means: nothing that the transaction's user has to do with. */
export const GOES_ON = 0;
/** Timer C is over: a provisional response has come, or Timer B would have ended it. */
export const WITHOUT_FINAL = 1;
/** Nothing has come: from what a probe of ours went to, */
export const PROBE_SILENT = 2;
/** from a target of the upstream, */
export const TARGET_SILENT = 3;
/** from a flow, which is now suspect, or from the next hop of one of several places. */
export const PLACE_SILENT = 4;

/** A flow of another shard ends without a word to us: so often is it looked at within the answer time. */
const FLOW_LOOKS = 8;

export interface AnswerTimeParts {
  table: Transactions;
  flows: Flows;
  /** ms */
  now: () => number;
  /** HOLDFAST_FLOW_ANSWER_S, ms */
  answerTime: number;
}

export class AnswerTime {
  readonly #table: Transactions;
  readonly #flows: Flows;
  readonly #now: () => number;
  readonly #time: number;

  constructor(parts: AnswerTimeParts) {
    this.#table = parts.table;
    this.#flows = parts.flows;
    this.#now = parts.now;
    this.#time = parts.answerTime;
  }

  /** A request was written to a flow. */
  ofFlow(client: number, slot: number): void {
    const table = this.#table;
    const now = this.#now();
    table.setWord(client, HEARD, this.#flows.table.messagesIn(slot));
    table.setWord(client, FLAGS, AWAITS_ANSWER);
    table.setWord(client, DUE, now + this.#time);
    table.setAlarm(client, now + this.#time / FLOW_LOOKS);
  }

  /** A request was sent to a next hop; `hasSubstitute`: there is another place that it may go to. */
  ofHop(client: number, hasSubstitute: boolean): void {
    const table = this.#table;
    if (!hasSubstitute) {
      this.timerC(client);
      return;
    }
    table.setWord(client, FLAGS, AWAITS_ANSWER);
    table.setAlarm(client, this.#now() + 2 * this.#time);
  }

  /** A response came: Timer C, where it runs, begins anew with some (16.7 step 2). */
  responded(client: number, status: number): void {
    if (restartsC(status) && !(this.#table.word(client, FLAGS) & AWAITS_ANSWER)) this.timerC(client);
  }

  timerC(client: number): void {
    const table = this.#table;
    if (table.kind(client) === INVITE_CLIENT) table.setAlarm(client, table.timers.endOfC(this.#now()));
  }

  /** The alarm has gone off. `hasContext`: the place is one of several. */
  over(client: number, hasContext: boolean): number {
    const table = this.#table;
    const flags = table.word(client, FLAGS);
    if (!(flags & AWAITS_ANSWER)) return WITHOUT_FINAL;
    if (flags & PROBE) return PROBE_SILENT;
    if (this.#looksAgain(client)) return GOES_ON;
    table.setWord(client, FLAGS, flags & ~AWAITS_ANSWER);
    if (table.word(client, AIM) !== 0 && !hasContext) {
      if (!(flags & HEARD_BACK)) return TARGET_SILENT;
    } else if (table.state(client) === CALLING && !this.#isHeard(client)) {
      this.#suspect(client);
      return PLACE_SILENT;
    }
    this.timerC(client); // its last 1xx may have come just now
    return GOES_ON;
  }

  /** The answer time is not over, and the flow still stands. */
  #looksAgain(client: number): boolean {
    const table = this.#table;
    const now = this.#now();
    const left = (table.word(client, DUE) - now) | 0;
    if (left <= 0 || !(table.word(client, LISTENER) & TO_FLOW) || table.state(client) !== CALLING)
      return false;
    if (!this.#flowStands(client)) return false;
    table.setAlarm(client, now + Math.min(left, this.#time / FLOW_LOOKS));
    return true;
  }

  /** Has anything come from the flow since the request was written to it? From a next hop only a response counts. */
  #isHeard(client: number): boolean {
    const table = this.#table;
    if (!(table.word(client, LISTENER) & TO_FLOW) || !this.#flowStands(client)) return false;
    return this.#flows.table.messagesIn(table.word(client, SLOT)) !== table.word(client, HEARD);
  }

  #suspect(client: number): void {
    const table = this.#table;
    if (table.word(client, LISTENER) & TO_FLOW && this.#flowStands(client))
      this.#flows.table.raise(table.word(client, SLOT), SUSPECT);
  }

  #flowStands(client: number): boolean {
    const table = this.#table;
    return this.#flows.table.isLive(table.word(client, SLOT), table.word(client, SLOT_GENERATION));
  }
}
