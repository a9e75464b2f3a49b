/**
 * Loaded with --import before the server, into each of its threads: a shard tells from its turn, over a
 * BroadcastChannel, how many transactions, contexts and kept cells it has. For `timed-entry.ts`.
 */
import { BroadcastChannel, isMainThread, threadId } from 'node:worker_threads';
import { ProxyTransactions } from '../../src/proxy/transactions.ts';

export interface InUse {
  thread: number;
  /** the server's clock at that turn, ms */
  at: number;
  transactions: number;
  contexts: number;
  cells: number;
}

export const CHANNEL = 'holdfast-in-use';
const EVERY_MS = 50;

if (!isMainThread) {
  const channel = new BroadcastChannel(CHANNEL);
  channel.unref();
  const turn = ProxyTransactions.prototype.turn;
  let next = 0;
  ProxyTransactions.prototype.turn = function (this: ProxyTransactions, nowMs: number): number {
    const deadline = turn.call(this, nowMs);
    if (nowMs >= next) {
      next = nowMs + EVERY_MS;
      channel.postMessage({ thread: threadId, at: nowMs, ...this.inUse } satisfies InUse);
    }
    return deadline;
  };
}
