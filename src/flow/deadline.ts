/**
 * When a flow counts as dead, as a function of what is known about it. Times are deciseconds of one
 * monotonic clock, as the flow record keeps them; results are such times, or Infinity.
 *
 * The rule, first match wins:
 *   0. A WebSocket connection that has not become one: the time for its HTTP request, whoever it is.
 *   1. Flows to the upstream and to trusted peers have no deadline.
 *   2. A 2xx with Flow-Timer (or a `keep` value, 6223) went down it: the client has promised to be
 *      heard within that time, so the last octet of any kind plus Flow-Timer plus grace.
 *   3. A 2xx to a REGISTER was seen on it: the largest expiry granted, plus grace.
 *   4. A dialog was set up over it: the last octet plus the idle limit.
 *   5. It has proved nothing yet: PROOF_S from the opening, whatever is sent.
 * A dialog may only lengthen rule 3: a call must not be cut because the phone let go of its binding.
 *
 * Beside rules 2 to 5 a stream is at times in a stage, something that its peer has begun and must end; the
 * earlier of the two deadlines counts. Octets that do not end a stage do not lengthen it, keep-alives neither.
 *
 * The shard schedules the result on its wheel and asks again when it fires: traffic only stores a
 * time. Pure; no state.
 */
import { Cause } from './cause.ts';

/** A stream that has shown no accepted REGISTER and no dialog by then is closed. Seconds. */
export const PROOF_S = 120;

/** From the connection to the whole HTTP request of a WebSocket: round trips of a slow network, nothing that a person does. */
export const UPGRADE_S = 10;

/** Nothing is awaited. */
export const NO_STAGE = 0;
/** Accepted: the first octet is. */
export const ACCEPTED = 1;
/** The first octet came: the first whole message is, with a PROXY header in front of it or not. */
export const FIRST_MESSAGE = 2;
/** A message was begun: its end is. */
export const MESSAGE = 3;

/** What ends the flow, and after how many seconds, by stage. */
export const STAGES: readonly { seconds: number; cause: Cause }[] = [
  { seconds: Infinity, cause: Cause.NONE },
  // RFC 5626 clients register as soon as they have connected; a TCP retransmission or two fit in
  { seconds: 30, cause: Cause.NO_OCTET },
  // more than a user who types his password needs, and than a slow link for a message of the largest size
  { seconds: 60, cause: Cause.NO_MESSAGE },
  { seconds: 60, cause: Cause.UNFINISHED },
];

/** Read from the flow's record; one object, filled again for each flow. */
export interface FlowLife {
  /** its HTTP request for a WebSocket has not been answered */
  upgrading: boolean;
  /** to the upstream or a trusted peer */
  exempt: boolean;
  /** seconds promised by Flow-Timer or keep; 0: none */
  flowTimer: number;
  /** deciseconds: the largest expiry granted, as a point in time; 0: no REGISTER accepted */
  registeredUntil: number;
  /** a dialog-forming request was answered by 2xx over it */
  hasDialog: boolean;
  /** deciseconds */
  opened: number;
  /** deciseconds: the last octet or datagram of any kind from the peer (EP-5.4-09) */
  lastByte: number;
  /** of a stream: one of STAGES */
  stage: number;
  /** deciseconds: since when it is in that stage */
  since: number;
}

/** Seconds. */
export interface LifeLimits {
  /** HOLDFAST_FLOW_GRACE */
  grace: number;
  /** HOLDFAST_IDLE_S */
  idle: number;
}

export function flowDeadline(flow: FlowLife, limits: LifeLimits): number {
  if (flow.upgrading) return flow.opened + UPGRADE_S * 10;
  if (flow.exempt) return Infinity;
  return Math.min(lifeDeadline(flow, limits), flow.since + STAGES[flow.stage].seconds * 10);
}

function lifeDeadline(flow: FlowLife, limits: LifeLimits): number {
  // 5626 §5.4: the server waits longer than Flow-Timer. The stored time is rounded down, hence one more.
  if (flow.flowTimer > 0) return flow.lastByte + 1 + (flow.flowTimer + limits.grace) * 10;
  const idle = flow.hasDialog ? flow.lastByte + 1 + limits.idle * 10 : 0;
  if (flow.registeredUntil > 0) return Math.max(flow.registeredUntil + limits.grace * 10, idle);
  return flow.hasDialog ? idle : flow.opened + PROOF_S * 10;
}

/** The cause with which a flow ends that reached its deadline. */
export function deadlineCause(flow: FlowLife, limits: LifeLimits): Cause {
  if (flow.upgrading) return Cause.NO_MESSAGE;
  if (flow.exempt) return Cause.NONE;
  const { seconds, cause } = STAGES[flow.stage];
  if (flow.since + seconds * 10 <= lifeDeadline(flow, limits)) return cause;
  if (flow.flowTimer > 0) return Cause.EXPIRED;
  if (flow.registeredUntil > 0) return Cause.REGISTRATION_EXPIRED;
  return flow.hasDialog ? Cause.IDLE : Cause.STAGE_DEADLINE;
}
