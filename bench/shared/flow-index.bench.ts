/** Finding the flow of a datagram: the index fits a cache, and it does not. */
import type { Case, Suite } from '../suite.ts';
import { Clients } from './clients.ts';

const MANY = 200_000;

function finding(count: number): Case {
  const clients = new Clients(count);
  let n = 0;
  return {
    name: `find one of ${count.toLocaleString('en')}`,
    ops: 64,
    run() {
      for (let i = 0; i < 64; i++) {
        n = (n + 7919) % count;
        if (clients.find(n) < 0) throw new Error('a flow is not found');
      }
    },
  };
}

export default function prepare(): Suite {
  const strangers = new Clients(1000);
  const changing = new Clients(1000, 2000);
  return {
    cases: [
      finding(1000),
      finding(MANY),
      {
        name: 'miss',
        ops: 64,
        run() {
          for (let n = 0; n < 64; n++)
            if (strangers.find(5000 + n) >= 0) throw new Error('a stranger is found');
        },
      },
      {
        name: 'claim, insert, remove, release',
        ops: 16,
        run() {
          for (let n = 0; n < 16; n++) changing.close(changing.open(2000 + n));
        },
      },
    ],
  };
}
