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
 *   5. It has proved nothing yet: its stage's deadline, counted from the opening, whatever is sent.
 * A dialog may only lengthen rule 3: a call must not be cut because the phone let go of its binding.
 *
 * The shard schedules the result on its wheel and asks again when it fires: traffic only stores a
 * time. Pure; no state.
 */
import { Cause } from './cause.ts';

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
}

/** Seconds. */
export interface LifeLimits {
  /** HOLDFAST_FLOW_GRACE */
  grace: number;
  /** HOLDFAST_IDLE_S */
  idle: number;
  /** for the HTTP request of a WebSocket */
  upgrade: number;
  /** of the stage in which the flow is: first octet, first message, first accepted REGISTER */
  stage: number;
}

export function flowDeadline(flow: FlowLife, limits: LifeLimits): number {
  if (flow.upgrading) return flow.opened + limits.upgrade * 10;
  if (flow.exempt) return Infinity;
  // 5626 §5.4: the server waits longer than Flow-Timer. The stored time is rounded down, hence one more.
  if (flow.flowTimer > 0) return flow.lastByte + 1 + (flow.flowTimer + limits.grace) * 10;
  const idle = flow.hasDialog ? flow.lastByte + 1 + limits.idle * 10 : 0;
  if (flow.registeredUntil > 0) return Math.max(flow.registeredUntil + limits.grace * 10, idle);
  return flow.hasDialog ? idle : flow.opened + limits.stage * 10;
}

/** The cause with which a flow ends that reached its deadline. */
export function deadlineCause(flow: FlowLife): Cause {
  if (flow.upgrading) return Cause.STAGE_DEADLINE;
  if (flow.exempt) return Cause.NONE;
  if (flow.flowTimer > 0) return Cause.EXPIRED;
  if (flow.registeredUntil > 0) return Cause.REGISTRATION_EXPIRED;
  return flow.hasDialog ? Cause.IDLE : Cause.STAGE_DEADLINE;
}
