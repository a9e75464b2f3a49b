/** A thread of nonce-table.test.ts: spends every count of every serial, and tells how often it was the first. */
import { parentPort, workerData } from 'node:worker_threads';
import { FRESH, NonceTable, type NonceTableDescriptor, SPENT } from '../../src/shared/nonce-table.ts';

export interface SpendTask {
  table: NonceTableDescriptor;
  /** threads that wait for each other before they begin */
  gate: SharedArrayBuffer;
  threads: number;
  serials: number;
  counts: number;
  /** per serial and count: how many threads were told FRESH */
  firsts: SharedArrayBuffer;
}

if (parentPort && workerData?.table) {
  const { table: descriptor, gate, threads, serials, counts, firsts } = workerData as SpendTask;
  const table = new NonceTable(descriptor);
  const meeting = new Int32Array(gate);
  const books = new Int32Array(firsts);
  let known = 0;
  Atomics.add(meeting, 0, 1);
  Atomics.notify(meeting, 0);
  for (let here = Atomics.load(meeting, 0); here < threads; here = Atomics.load(meeting, 0))
    Atomics.wait(meeting, 0, here);
  for (let serial = 0; serial < serials; serial++) {
    for (let nc = 1; nc <= counts; nc++) {
      const verdict = table.spend(serial, nc);
      if (verdict === FRESH) Atomics.add(books, serial * counts + nc - 1, 1);
      if (verdict === FRESH || verdict === SPENT) known++;
    }
  }
  parentPort.postMessage(known);
}
