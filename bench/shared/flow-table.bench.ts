/** Records: what every message asks of its flow, and a life from claim to release. */
import { FlowTable, OPEN } from '../../src/shared/flow-table.ts';
import type { Suite } from '../suite.ts';

const MANY = 200_000;

export default function prepare(): Suite {
  const table = new FlowTable(FlowTable.allocate(MANY));
  for (let i = 0; i < MANY - 1000; i++) table.publish(table.claim(1), OPEN);
  let slot = 0;
  let ds = 0;
  return {
    cases: [
      {
        name: 'isLive and setLastByte, 200,000 flows',
        ops: 64,
        run() {
          ds++;
          for (let i = 0; i < 64; i++) {
            slot = (slot + 7919) % (MANY - 1000);
            if (table.isLive(slot, 1)) table.setLastByte(slot, ds);
          }
        },
      },
      {
        name: 'claim, publish, release',
        ops: 16,
        run() {
          for (let i = 0; i < 16; i++) {
            const claimed = table.claim(1);
            table.publish(claimed, OPEN);
            table.release(claimed, table.generation(claimed), 1);
          }
        },
      },
    ],
  };
}
