/**
 * Named counters, one row of float64 for each participant. Only that participant writes its row, with plain stores;
 * anybody sums the rows. Counts are exact to 2^53.
 *
 * A read cannot be torn: on the 64-bit platforms that Node 26 runs on, an aligned float64 is stored and loaded by one
 * instruction (two int32 words would need a carry protocol, BigInt64 a BigInt for each read). A sum over rows is not one
 * moment's picture: each row is read at its own. A replaced shard goes on counting in the same row.
 */
export const Counter = {
  messagesIn: 0,
  messagesOut: 1,
  datagramsIn: 2,
  datagramsOut: 3,
  pings: 4,
  pongs: 5,
  stunRequests: 6,
  stunErrors: 7,
  junk: 8,
  malformed: 9,
  tooLarge: 10,
  forwardedRequests: 11,
  forwardedResponses: 12,
  strayResponses: 13,
  badBranch: 14,
  tokenTampered: 15,
  flowFailed: 16,
  tableFull: 17,
  indexFull: 18,
  ringFull: 19,
  slabFull: 20,
  fdExhausted: 21,
  sendDropped: 22,
  writeQueueOverflow: 23,
  icmpErrors: 24,
  flowsOpened: 25,
  flowsClosed: 26,
  flowsExpired: 27,
  flowsReclaimed: 28,
  flowsConfirmed: 29,
  flowsAdopted: 30,
  registrations: 31,
  bytesIn: 32,
  bytesOut: 33,
  overloadRefused: 34,
  maxForwardsReached: 35,
  loopsDetected: 36,
  authChallenges: 37,
  authFailures: 38,
  retransmissionsIn: 39,
  retransmissionsOut: 40,
  transactionTimeouts: 41,
  ackDropped: 42,
  stageDeadlines: 43,
  wakeUps: 44,
  targetFailovers: 45,
  responsesLost: 46,
  eventsDelivered: 47,
  eventsDropped: 48,
  webhookFailures: 49,
  proxyRefused: 50,
  webSocketsOpened: 51,
  webSocketsRefused: 52,
  tlsHandshakes: 53,
  tlsResumed: 54,
  tlsFailures: 55,
  tlsTimeouts: 56,
  tlsRefused: 57,
} as const;

export type CounterName = keyof typeof Counter;
export type CounterId = (typeof Counter)[CounterName];

/** Names by id, in the order of the ids. */
export const COUNTER_NAMES = Object.keys(Counter) as CounterName[];

/** A row is a whole number of cache lines, so that two writers never share one. */
const ROW = (COUNTER_NAMES.length + 7) & ~7;

export interface CountersDescriptor {
  readonly buffer: SharedArrayBuffer;
  readonly participants: number;
}

export class Counters {
  readonly #all: Float64Array;
  readonly #row: Float64Array;
  readonly #participants: number;

  static allocate(participants: number): CountersDescriptor {
    return { buffer: new SharedArrayBuffer(participants * ROW * 8), participants };
  }

  /** `self` is the row that this thread, and no other, counts in. */
  constructor(descriptor: CountersDescriptor, self: number) {
    this.#all = new Float64Array(descriptor.buffer);
    this.#row = this.#all.subarray(self * ROW, (self + 1) * ROW);
    this.#participants = descriptor.participants;
  }

  inc(id: CounterId): void {
    this.#row[id]++;
  }

  add(id: CounterId, n: number): void {
    this.#row[id] += n;
  }

  /** One participant's count. */
  of(participant: number, id: CounterId): number {
    return this.#all[participant * ROW + id];
  }

  sum(id: CounterId): number {
    let total = 0;
    for (let i = 0; i < this.#participants; i++) total += this.#all[i * ROW + id];
    return total;
  }

  snapshot(): Record<CounterName, number> {
    const sums = {} as Record<CounterName, number>;
    for (const name of COUNTER_NAMES) sums[name] = this.sum(Counter[name]);
    return sums;
  }
}
