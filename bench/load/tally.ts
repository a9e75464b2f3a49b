/** Every transaction's end, counted. */

/** What became of the transactions; `begun` is the sum of `answered` and of all but the last two, and of nothing that was held. */
export interface Tally {
  begun: number;
  answered: number;
  /** a final response that was no 2xx */
  failed: number;
  /** no answer in time */
  lost: number;
  /** the connection was closed, or could not be made; idle: also one that was closed while it was held */
  closed: number;
  /** open loop: no slot was free when its time had come */
  unsent: number;
  /** a message came out of another flow than its own */
  misrouted: number;
  /** an answer to nothing in flight: too late, or a second one */
  stray: number;
}

export const nothing = (): Tally => ({
  begun: 0,
  answered: 0,
  failed: 0,
  lost: 0,
  closed: 0,
  unsent: 0,
  misrouted: 0,
  stray: 0,
});

export const errorsOf = ({ failed, lost, closed, unsent, misrouted }: Tally): number =>
  failed + lost + closed + unsent + misrouted;

/** Transactions that have come to an end, one way or the other. */
export const endedOf = ({ answered, failed, lost, closed, unsent }: Tally): number =>
  answered + failed + lost + closed + unsent;
