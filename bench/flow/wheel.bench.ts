/** The timing wheel with 100,000 timers: what a keep-alive, a new flow and a passing tick cost. */
import { Wheel } from '../../src/flow/wheel.ts';
import type { Suite } from '../suite.ts';

const IDS = 100_000;
const TICK = 100;

export default function prepare(): Suite {
  const later = new Wheel(IDS, TICK, 0);
  for (let id = 0; id < IDS; id++) later.schedule(id, 60_000 + id);
  let at = 200_000;
  let next = 0;

  const anew = new Wheel(IDS, TICK, 0);
  let id = 0;

  const turning = new Wheel(IDS, TICK, 0);
  for (let i = 0; i < IDS; i++) turning.schedule(i, 1 + (i % 1200) * TICK);
  let now = 0;
  const again = (fired: number): void => turning.schedule(fired, now + 1200 * TICK);

  return {
    cases: [
      {
        name: 'schedule later (a keep-alive)',
        ops: 64,
        run() {
          at += 1;
          for (let i = 0; i < 64; i++) {
            next = next + 7919 < IDS ? next + 7919 : next + 7919 - IDS;
            later.schedule(next, at);
          }
        },
      },
      {
        name: 'schedule and cancel',
        ops: 64,
        run() {
          for (let i = 0; i < 64; i++) {
            id = id + 7919 < IDS ? id + 7919 : id + 7919 - IDS;
            anew.schedule(id, 32_000);
            anew.cancel(id);
          }
        },
      },
      {
        name: 'fire and schedule anew, 83 in a tick',
        ops: IDS / 1200,
        run() {
          now += TICK;
          turning.advance(now, again);
        },
      },
    ],
  };
}
