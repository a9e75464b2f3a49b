/**
 * The four transaction machines of RFC 3261 section 17, with the Accepted states of RFC 6026 and the
 * silence of RFC 4320, as one pure function: (kind, state, event, reliable) -> next state and what to
 * do. No clock, no memory, no I/O; when timers start is in timers.ts, who holds the state in table.ts.
 *
 * The result is one integer: the next state in the low three bits, actions above. It comes out of a
 * table of 1024 words, filled from the rows below, which follow the arrows of the RFC's figures. A pair
 * of state and event without an arrow changes nothing and is absorbed; nothing happens to a TERMINATED
 * transaction. Where a linger time is 0 over a reliable transport (D, I, J, K), the state is not entered.
 */

export const INVITE_CLIENT = 0;
export const CLIENT = 1;
export const INVITE_SERVER = 2;
export const SERVER = 3;
export const KINDS = 4;

export const TERMINATED = 0;
/** of an INVITE client; the same place in the life of the others is called Trying */
export const CALLING = 1;
export const TRYING = 1;
export const PROCEEDING = 2;
export const COMPLETED = 3;
export const ACCEPTED = 4;
export const CONFIRMED = 5;
export const STATE_MASK = 7;

/** The transaction user hands over the request (clients). */
export const ON_START = 0;
/** A response of the network came: 1xx, 2xx, 300-699. */
export const ON_PROVISIONAL = 1;
export const ON_SUCCESS = 2;
export const ON_FAILURE = 3;
/** The user has sent CANCEL for this INVITE client: its final response is due within 64 T1 (RFC 3261 9.1). */
export const ON_CANCELLED = 4;
/** A request came that opens or matches a server transaction, or the ACK to an INVITE's response. */
export const ON_REQUEST = 5;
export const ON_ACK = 6;
/** The user answers: 1xx, 2xx, 300-699 (servers). */
export const ON_TU_PROVISIONAL = 7;
export const ON_TU_SUCCESS = 8;
export const ON_TU_FAILURE = 9;
/** Timers A, E, G. */
export const ON_RETRANSMIT = 10;
/** Timers B, F, H, and the limits of a cancelled INVITE and of a non-INVITE that nobody answers. */
export const ON_TIMEOUT = 11;
/** Timers D, I, J, K, L, M. */
export const ON_LINGER_END = 12;
/** Nothing was sent so far and a 100 is due: after 200 ms for an INVITE, after 3.5 s for others (RFC 4320 4.1). */
export const ON_HUNDRED = 13;
export const ON_TRANSPORT_ERROR = 14;
const EVENTS = 16;

/** Send the message at hand: the request at the start, the response that the user gives. */
export const SEND = 1 << 3;
/** Keep the message that this step sent in the place of what was kept before: it may have to be sent again. */
export const KEEP = 1 << 4;
/** Send again what is kept. A server that has kept nothing has nothing to send. */
export const RESEND = 1 << 5;
/** What is kept will not be needed again, though the transaction goes on. */
export const FORGET = 1 << 6;
/** Compose the ACK to this response from the kept INVITE (17.1.1.3) and send it where the INVITE went. */
export const SEND_ACK = 1 << 7;
/** The message goes on to the transaction user. */
export const PASS = 1 << 8;
/** The message ends here. */
export const ABSORB = 1 << 9;
/** Compose a 100, then give it to the transaction as ON_TU_PROVISIONAL. */
export const COMPOSE_100 = 1 << 10;
/** Tell the user: no answer, or no ACK, in time. To a non-INVITE it must not answer 408 (RFC 4320 4.2). */
export const TIMED_OUT = 1 << 11;
/** Tell the user: it could not be sent. Without END the transaction goes on (RFC 6026 7.1). */
export const FAILED = 1 << 12;
/** The transaction is over: free what it kept, after the other actions. */
export const END = 1 << 13;
/** Not of a machine: the time came that the user set (`Transactions.setAlarm`). */
export const ALARM = 1 << 14;

type Row = readonly [state: number, event: number, next: number, actions: number];

/** Figure 5 of RFC 6026. 2xx after a failure: not in the figure, but a proxy must pass every 2xx (16.7 step 5). */
const INVITE_CLIENT_ROWS: readonly Row[] = [
  [TERMINATED, ON_START, CALLING, SEND | KEEP],
  [CALLING, ON_RETRANSMIT, CALLING, RESEND],
  [CALLING, ON_TIMEOUT, TERMINATED, TIMED_OUT],
  [CALLING, ON_TRANSPORT_ERROR, TERMINATED, FAILED],
  [CALLING, ON_PROVISIONAL, PROCEEDING, PASS],
  [CALLING, ON_SUCCESS, ACCEPTED, PASS | FORGET],
  [CALLING, ON_FAILURE, COMPLETED, SEND_ACK | KEEP | PASS],
  [CALLING, ON_CANCELLED, CALLING, 0],
  [PROCEEDING, ON_PROVISIONAL, PROCEEDING, PASS],
  [PROCEEDING, ON_SUCCESS, ACCEPTED, PASS | FORGET],
  [PROCEEDING, ON_FAILURE, COMPLETED, SEND_ACK | KEEP | PASS],
  // no arrow: nothing is sent in this state, and the response may still come another way (18.2.2)
  [PROCEEDING, ON_TRANSPORT_ERROR, PROCEEDING, FAILED],
  // this timer runs after a CANCEL only (9.1)
  [PROCEEDING, ON_CANCELLED, PROCEEDING, 0],
  [PROCEEDING, ON_TIMEOUT, TERMINATED, TIMED_OUT],
  [COMPLETED, ON_FAILURE, COMPLETED, RESEND],
  [COMPLETED, ON_SUCCESS, COMPLETED, PASS],
  [COMPLETED, ON_TRANSPORT_ERROR, TERMINATED, FAILED],
  [COMPLETED, ON_LINGER_END, TERMINATED, 0],
  [ACCEPTED, ON_SUCCESS, ACCEPTED, PASS],
  [ACCEPTED, ON_LINGER_END, TERMINATED, 0],
];

/** Figure 6 of RFC 3261. */
const CLIENT_ROWS: readonly Row[] = [
  [TERMINATED, ON_START, TRYING, SEND | KEEP],
  [TRYING, ON_RETRANSMIT, TRYING, RESEND],
  [TRYING, ON_TIMEOUT, TERMINATED, TIMED_OUT],
  [TRYING, ON_TRANSPORT_ERROR, TERMINATED, FAILED],
  [TRYING, ON_PROVISIONAL, PROCEEDING, PASS],
  [TRYING, ON_SUCCESS, COMPLETED, PASS | FORGET],
  [TRYING, ON_FAILURE, COMPLETED, PASS | FORGET],
  [PROCEEDING, ON_RETRANSMIT, PROCEEDING, RESEND],
  [PROCEEDING, ON_TIMEOUT, TERMINATED, TIMED_OUT],
  [PROCEEDING, ON_TRANSPORT_ERROR, TERMINATED, FAILED],
  [PROCEEDING, ON_PROVISIONAL, PROCEEDING, PASS],
  [PROCEEDING, ON_SUCCESS, COMPLETED, PASS | FORGET],
  [PROCEEDING, ON_FAILURE, COMPLETED, PASS | FORGET],
  [COMPLETED, ON_LINGER_END, TERMINATED, 0],
];

/**
 * Figure 7 of RFC 6026. A 2xx from above after a failure was sent: not in the figure; it goes out once,
 * since a proxy must forward it (16.7 step 5), and what is kept stays the failure.
 */
const INVITE_SERVER_ROWS: readonly Row[] = [
  [TERMINATED, ON_REQUEST, PROCEEDING, PASS],
  [PROCEEDING, ON_REQUEST, PROCEEDING, RESEND],
  [PROCEEDING, ON_HUNDRED, PROCEEDING, COMPOSE_100],
  [PROCEEDING, ON_TU_PROVISIONAL, PROCEEDING, SEND | KEEP],
  [PROCEEDING, ON_TU_SUCCESS, ACCEPTED, SEND | FORGET],
  [PROCEEDING, ON_TU_FAILURE, COMPLETED, SEND | KEEP],
  [PROCEEDING, ON_TRANSPORT_ERROR, PROCEEDING, FAILED],
  [COMPLETED, ON_REQUEST, COMPLETED, RESEND],
  [COMPLETED, ON_RETRANSMIT, COMPLETED, RESEND],
  [COMPLETED, ON_ACK, CONFIRMED, ABSORB | FORGET],
  [COMPLETED, ON_TIMEOUT, TERMINATED, TIMED_OUT],
  [COMPLETED, ON_TRANSPORT_ERROR, COMPLETED, FAILED],
  [COMPLETED, ON_TU_SUCCESS, COMPLETED, SEND],
  [ACCEPTED, ON_TU_SUCCESS, ACCEPTED, SEND],
  [ACCEPTED, ON_ACK, ACCEPTED, PASS],
  [ACCEPTED, ON_TRANSPORT_ERROR, ACCEPTED, FAILED],
  [ACCEPTED, ON_LINGER_END, TERMINATED, 0],
  [CONFIRMED, ON_TU_SUCCESS, CONFIRMED, SEND],
  [CONFIRMED, ON_LINGER_END, TERMINATED, 0],
];

/**
 * Figure 8 of RFC 3261, with transport errors as in RFC 6026 8.8: the state stays. A transaction that its
 * user leaves without a final response ends when its client has given up (RFC 4320 4.2).
 */
const SERVER_ROWS: readonly Row[] = [
  [TERMINATED, ON_REQUEST, TRYING, PASS],
  [TRYING, ON_HUNDRED, TRYING, COMPOSE_100],
  [TRYING, ON_TU_PROVISIONAL, PROCEEDING, SEND | KEEP],
  [TRYING, ON_TU_SUCCESS, COMPLETED, SEND | KEEP],
  [TRYING, ON_TU_FAILURE, COMPLETED, SEND | KEEP],
  [TRYING, ON_TRANSPORT_ERROR, TRYING, FAILED],
  [TRYING, ON_TIMEOUT, TERMINATED, TIMED_OUT],
  [PROCEEDING, ON_REQUEST, PROCEEDING, RESEND],
  [PROCEEDING, ON_TU_PROVISIONAL, PROCEEDING, SEND | KEEP],
  [PROCEEDING, ON_TU_SUCCESS, COMPLETED, SEND | KEEP],
  [PROCEEDING, ON_TU_FAILURE, COMPLETED, SEND | KEEP],
  [PROCEEDING, ON_TRANSPORT_ERROR, PROCEEDING, FAILED],
  [PROCEEDING, ON_TIMEOUT, TERMINATED, TIMED_OUT],
  [COMPLETED, ON_REQUEST, COMPLETED, RESEND],
  [COMPLETED, ON_TRANSPORT_ERROR, COMPLETED, FAILED],
  [COMPLETED, ON_LINGER_END, TERMINATED, 0],
];

/** The state whose linger time is 0 over a reliable transport: Timers D, K, I, J, by kind. */
const SKIPPED = [COMPLETED, COMPLETED, CONFIRMED, COMPLETED];

const place = (kind: number, state: number, event: number, reliable: number): number =>
  (((((kind << 3) | state) << 4) | event) << 1) | reliable;

const TABLE = new Uint16Array(KINDS * 8 * EVENTS * 2);

const ROWS = [INVITE_CLIENT_ROWS, CLIENT_ROWS, INVITE_SERVER_ROWS, SERVER_ROWS];
for (let kind = 0; kind < KINDS; kind++) {
  for (let state = TRYING; state <= CONFIRMED; state++)
    for (let i = 0; i < EVENTS * 2; i++) TABLE[place(kind, state, 0, 0) + i] = state | ABSORB;
  for (const [state, event, next, actions] of ROWS[kind]) {
    const ended = next === TERMINATED ? END : 0;
    TABLE[place(kind, state, event, 0)] = next | actions | ended;
    if (event === ON_RETRANSMIT) continue; // a reliable transport repeats nothing
    if (next === SKIPPED[kind] && next !== state)
      TABLE[place(kind, state, event, 1)] = TERMINATED | END | (actions & ~(KEEP | FORGET));
    else TABLE[place(kind, state, event, 1)] = next | actions | ended;
  }
}
// the request of a reliable non-INVITE client is never sent again, and no ACK or CANCEL is made from it
TABLE[place(CLIENT, TERMINATED, ON_START, 1)] &= ~KEEP;

/** The next state and the actions, in one integer. `reliable` is 1 for all transports but UDP. */
export function step(kind: number, state: number, event: number, reliable: number): number {
  return TABLE[place(kind, state, event, reliable)];
}

/** Which event a timer of the state's end stands for. */
export function endEvent(kind: number, state: number): number {
  if (state < COMPLETED || (kind === INVITE_SERVER && state === COMPLETED)) return ON_TIMEOUT;
  return ON_LINGER_END;
}

/** Which event a timer of sending stands for: until a server has answered, its 100 is due, not a retransmission. */
export function sendEvent(kind: number, state: number): number {
  return kind >= INVITE_SERVER && state < COMPLETED ? ON_HUNDRED : ON_RETRANSMIT;
}

/** The event of a response of this status that came for a client transaction. */
export function onResponse(status: number): number {
  return status < 200 ? ON_PROVISIONAL : status < 300 ? ON_SUCCESS : ON_FAILURE;
}

/** The event of a response of this status that the user gives to a server transaction. */
export function onAnswer(status: number): number {
  return status < 200 ? ON_TU_PROVISIONAL : status < 300 ? ON_TU_SUCCESS : ON_TU_FAILURE;
}
