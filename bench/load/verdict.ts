/**
 * What a run of bench:agents has shown: figures, and a line for each rule that did not hold. Pure, so that a test can
 * show with made-up times that each rule can fail.
 */
import { busiestSecond, quantile, uneven } from './figures.ts';
import { type History, keepAlivesOf, type Rules, recoveryOf } from './history.ts';

export interface HoldFigures {
  pings: number;
  answered: number;
  /** ms from ping to pong */
  tripMedian: number;
  tripP99: number;
  busiestSecond: number;
  /** of the pings, from the first of them */
  times: number[];
  /** seconds from the registration or the last ping to a ping */
  intervals: number[];
}

export interface RecoveryFigures {
  flows: number;
  /** ms from the kill to the first and last registration anew */
  first: number;
  last: number;
  /** attempts that failed, over all flows */
  failures: number;
  /** ms from the loss of a flow to the attempt that needs no wait */
  atOnceMedian: number;
  atOnceMost: number;
  busiestSecond: number;
  /** registrations in a second that an even spread over the window of 4.5 has */
  evenRate: number;
  /** ms from the kill */
  times: number[];
}

export interface Verdict<Figures> {
  figures: Figures;
  failed: string[];
}

/** A busy second may have this much more than its share, chance beside it. */
const HERD = 1.5;
const DEVIATIONS = 6;

const worst = (ms: readonly number[]): string => `${ms.reduce((a, b) => Math.max(a, b)).toFixed(0)} ms`;

/** Of flows that were to stay up, as far as they were written down at `until`. */
export function judgeHold(
  flows: readonly History[],
  until: number,
  { flowTimer, late }: { flowTimer: number; late: number },
): Verdict<HoldFigures> {
  const failed: string[] = [];
  const all = flows.map((history) => keepAlivesOf(history, flowTimer, late));
  const pingTimes = flows
    .flatMap((history) => history.filter(({ what }) => what === 'ping'))
    .map(({ at }) => at);
  const begin = pingTimes.reduce((a, b) => Math.min(a, b), Infinity);
  const shares = all.flatMap(({ intervals }) => intervals);
  const trips = all.flatMap(({ trips }) => trips);
  const early = all.flatMap(({ early }) => early);
  const tardy = all.flatMap(({ late }) => late);
  const lost = flows.filter((history) => history.some(({ what }) => what === 'lost' || what === 'failed'));
  if (lost.length > 0) failed.push(`${lost.length} flows were lost while both edges ran`);
  const silent = all.filter(({ pings }) => pings === 0).length;
  if (silent > 0) failed.push(`${silent} flows sent no keep-alive`);
  const open = flows.filter((history) => {
    const ping = history.findLast(({ what }) => what === 'ping');
    const pong = history.findLast(({ what }) => what === 'pong');
    return ping && ping.at > (pong?.at ?? Number.NEGATIVE_INFINITY) && ping.at < until - late;
  });
  if (open.length > 0) failed.push(`${open.length} flows had no answer to a keep-alive`);
  if (early.length > 0)
    failed.push(`${early.length} keep-alives before 80 % of Flow-Timer, the worst by ${worst(early)}`);
  if (tardy.length > 0)
    failed.push(`${tardy.length} keep-alives after Flow-Timer, the worst by ${worst(tardy)}`);
  const spread = uneven(
    shares.map((share) => (share - 0.8) / 0.2),
    200 * flowTimer,
  );
  if (spread !== undefined)
    failed.push(`intervals of keep-alives are not spread over 80 to 100 %: ${spread}`);
  return {
    failed,
    figures: {
      pings: pingTimes.length,
      answered: trips.length,
      tripMedian: quantile(trips, 0.5),
      tripP99: quantile(trips, 0.99),
      busiestSecond: busiestSecond(pingTimes),
      times: pingTimes.map((at) => at - begin),
      intervals: shares.map((share) => share * flowTimer),
    },
  };
}

/** `flows`: those over the edge that was killed at that time. */
export function judgeRecovery(
  flows: readonly History[],
  killedAt: number,
  rules: Rules,
): Verdict<RecoveryFigures> {
  const failed: string[] = [];
  const all = flows.map((history) => recoveryOf(history, killedAt, rules));
  const unaware = all.filter(({ lostAt }) => lostAt === undefined).length;
  if (unaware > 0) failed.push(`${unaware} flows over the killed edge were never given up`);
  const away = all.filter(({ lostAt, backAt }) => lostAt !== undefined && backAt === undefined).length;
  if (away > 0) failed.push(`${away} flows did not come back`);
  const outOfTurn = all.reduce((sum, one) => sum + one.outOfTurn, 0);
  if (outOfTurn > 0) failed.push(`${outOfTurn} attempts that nothing called for`);
  const early = all.flatMap(({ early }) => early);
  if (early.length > 0)
    failed.push(`${early.length} attempts before half of W, the worst by ${worst(early)}`);
  const tardy = all.flatMap(({ late }) => late);
  if (tardy.length > 0) failed.push(`${tardy.length} attempts after W, the worst by ${worst(tardy)}`);
  const spread = uneven(
    all.flatMap(({ places }) => places),
    1000 * rules.base,
  );
  if (spread !== undefined) failed.push(`waits are not spread over 50 to 100 % of W: ${spread}`);
  const atOnce = all.flatMap(({ atOnce }) => atOnce);
  const times = all.flatMap(({ backAt }) => (backAt === undefined ? [] : [backAt - killedAt]));
  const busiest = busiestSecond(times);
  // after one failure W is twice the base, and half of that is what the waits are spread over
  const evenRate = flows.length / Math.min(rules.base, rules.most / 2);
  const limit = HERD * evenRate + DEVIATIONS * Math.sqrt(evenRate);
  if (busiest > limit)
    failed.push(`${busiest} registrations in one second, an even spread has ${evenRate.toFixed(0)}`);
  return {
    failed,
    figures: {
      flows: times.length,
      first: times.reduce((a, b) => Math.min(a, b), Infinity),
      last: times.reduce((a, b) => Math.max(a, b), 0),
      atOnceMedian: quantile(atOnce, 0.5),
      atOnceMost: quantile(atOnce, 1),
      failures: all.reduce((sum, { failures }) => sum + failures, 0),
      busiestSecond: busiest,
      evenRate,
      times,
    },
  };
}

/** Of flows that the killed edge was no part of. */
export function judgeOthers(flows: readonly History[], killedAt: number): string[] {
  const lost = flows.filter((history) =>
    history.some(({ what, at }) => at >= killedAt && (what === 'lost' || what === 'failed')),
  );
  return lost.length > 0 ? [`${lost.length} flows over the other edge were lost`] : [];
}
