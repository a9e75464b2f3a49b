/** The configuration with which bench:peer measures Kamailio: it does the work, over each transport, without an error. */
import { describe, expect, it } from 'vitest';
import { CELLS, loadOf, nameOf, QUICK } from '../../bench/load/cells.ts';
import { kamailio, missing } from '../../bench/load/kamailio.ts';
import { measure } from '../../bench/load/measure.ts';
import { selfTest } from '../../src/native/available.ts';

const never = new AbortController().signal;
const FLOWS = 40;

/** Each kind of work over each transport; with transactions, or the core on TCP, one kind of it. */
const some = CELLS.filter(
  ({ mode, core, forwarding }) => mode === 'downstream' || (core === 'udp' && forwarding === 'stateless'),
);

describe.skipIf(!selfTest().ok || missing('udp'))('Kamailio under the load of bench:peer', () => {
  for (const cell of some)
    it.skipIf(missing(cell.transport))(nameOf(cell), async () => {
      const pace = { ...QUICK, duration: 0.2 };
      const load = { ...loadOf(cell, pace, true), flows: FLOWS, warmup: 0, window: 8 };
      const result = await measure(load, await kamailio(load, false), never);
      expect(result.errors).toBe(0);
      expect(result.transactions).toBeGreaterThan(0);
      expect(result.cpu?.usPerTransaction).toBeGreaterThan(0);
      expect(result.tally.answered).toBe(result.tally.begun);
    });
});
