/**
 * Entry of a server whose clock runs as any other does, and can be moved on: so that a test against other
 * programs, which live in real time, need not wait for the last timer. It tells what is in use.
 *
 * It says 'ready' once; { advance: ms } and { ask: true } are answered by the state then.
 */
import { performance } from 'node:perf_hooks';
import { BroadcastChannel } from 'node:worker_threads';
import { loadConfig } from '../../src/config/load.ts';
import { start } from '../../src/main/start.ts';
import { CHANNEL, type InUse } from './in-use.ts';

export interface Use {
  /** flow records that are not free */
  flows: number;
  /** of each shard, as it said last */
  shards: InUse[];
  /** the clock, ms */
  now: number;
  counters: Record<string, number>;
}

const TICK_MS = 4;

const clock = new SharedArrayBuffer(Float64Array.BYTES_PER_ELEMENT);
const now = new Float64Array(clock);
let ahead = 1_000_000;
const tick = (): void => {
  now[0] = performance.now() + ahead;
};
tick();
setInterval(tick, TICK_MS);

const shards = new Map<number, InUse>();
const channel = new BroadcastChannel(CHANNEL);
channel.onmessage = (event: unknown) => {
  const use = (event as { data: InUse }).data;
  shards.set(use.thread, use);
};

const running = await start(loadConfig(process.env), { clock });

process.on('message', ({ advance }: { advance?: number }) => {
  if (advance !== undefined) {
    ahead += advance;
    tick();
    running.poke();
  }
  const use: Use = {
    flows: running.table.used(),
    shards: [...shards.values()],
    now: now[0],
    counters: running.counters.snapshot(),
  };
  process.send?.(use);
});
const stop = () => void running.stop().finally(() => process.exit(0));
process.on('disconnect', stop);
process.on('SIGTERM', stop);
process.send?.('ready');
