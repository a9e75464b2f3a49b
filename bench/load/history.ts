/**
 * What happened on one flow of one agent, as its load process saw it at the socket and in the agent's events, and
 * whether RFC 5626 allows it: no attempt before its wait is over or long after (4.5, Appendix A), keep-alives within 80
 * to 100 per cent of Flow-Timer (4.4.1). It computes the bounds itself and believes nothing that the agent says of its
 * own timers. Pure; times in ms of one clock, waits in seconds.
 */
export type Mark = 'attempt' | 'registered' | 'lost' | 'failed' | 'ping' | 'pong';

export interface Step {
  what: Mark;
  at: number;
}

export type History = readonly Step[];

export interface Rules {
  /** base-time in seconds where another flow of the agent is up */
  base: number;
  /** max-time in seconds */
  most: number;
  /** ms that a timer may be late: the machine is shared */
  late: number;
}

/** Between two looks of an agent at its clock in one step. */
const STEP_MS = 20;

export interface Recovery {
  /** the first sign that the flow was gone; undefined: it never was */
  lostAt: number | undefined;
  /** when it was registered again */
  backAt: number | undefined;
  failures: number;
  /** ms from a loss that needs no wait to the attempt: what the machine, and not a rule, made of it */
  atOnce: number[];
  /** attempts that nothing called for */
  outOfTurn: number;
  /** where in its window [W/2, W] each wait ended: 0 at its begin, 1 at its end */
  places: number[];
  /** ms beyond the bounds, of each attempt that was there */
  early: number[];
  late: number[];
}

/** Of what came after `from`. The flow has to be registered then. */
export function recoveryOf(history: History, from: number, { base, most, late }: Rules): Recovery {
  const result: Recovery = {
    lostAt: undefined,
    backAt: undefined,
    failures: 0,
    atOnce: [],
    outOfTurn: 0,
    places: [],
    early: [],
    late: [],
  };
  let proven = false;
  /** consecutive failures */
  let inARow = 0;
  /** the flow was lost, or an attempt failed, and this wait began */
  let waiting: { since: number; least: number; most: number } | undefined;
  for (const { what, at } of history) {
    if (at < from) {
      if (what === 'pong') proven = true;
      else if (what === 'registered') proven = false;
      continue;
    }
    if (what === 'pong') {
      proven = true;
      inARow = 0;
    } else if (what === 'registered') result.backAt ??= result.lostAt === undefined ? undefined : at;
    else if (what === 'lost' || what === 'failed') {
      result.lostAt ??= at;
      if (what === 'failed') result.failures++;
      // a flow that had proved itself was a success, and the first attempt is immediate
      if (what === 'failed' || !proven) inARow++;
      const w = inARow === 0 ? 0 : Math.min(most, base * 2 ** inARow) * 1000;
      waiting = { since: at, least: w / 2, most: w };
      proven = false;
    } else if (what === 'attempt') {
      if (!waiting) {
        result.outOfTurn++;
        continue;
      }
      const waited = at - waiting.since;
      if (waiting.most === 0) result.atOnce.push(waited);
      else {
        if (waited < waiting.least - STEP_MS) result.early.push(waiting.least - waited);
        if (waited > waiting.most + late) result.late.push(waited - waiting.most);
        result.places.push((waited - waiting.least) / (waiting.most - waiting.least));
      }
      waiting = undefined;
    }
  }
  return result;
}

export interface KeepAlives {
  pings: number;
  pongs: number;
  /** of intervals in share of Flow-Timer, each from the registration or the ping before */
  intervals: number[];
  /** ms outside of 80 to 100 per cent */
  early: number[];
  late: number[];
  /** ms from a ping to its pong */
  trips: number[];
}

/** Of a flow that stays up; `flowTimer` in seconds. */
export function keepAlivesOf(history: History, flowTimer: number, late: number): KeepAlives {
  const result: KeepAlives = { pings: 0, pongs: 0, intervals: [], early: [], late: [], trips: [] };
  const longest = flowTimer * 1000;
  let since: number | undefined;
  let asked: number | undefined;
  for (const { what, at } of history) {
    if (what === 'registered') since = at;
    else if (what === 'pong') {
      result.pongs++;
      if (asked !== undefined) result.trips.push(at - asked);
      asked = undefined;
    } else if (what === 'ping') {
      // a request that is out already is sent again (STUN), and is no keep-alive of its own
      if (asked !== undefined) continue;
      result.pings++;
      asked = at;
      if (since === undefined) continue;
      const waited = at - since;
      result.intervals.push(waited / longest);
      if (waited < 0.8 * longest - STEP_MS) result.early.push(0.8 * longest - waited);
      if (waited > longest + late) result.late.push(waited - longest);
      since = at;
    }
  }
  return result;
}
