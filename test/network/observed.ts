/**
 * Entry of a server that can be looked into: the same as the CLI starts, and over the IPC channel what a
 * black box does not show: records in use, counters, which shard owns which flow. It can also be told
 * to let a shard fail, and, with OBSERVED_CLOCK in its environment, what time it is: then its clock stands still.
 *
 * It says 'ready' once; each message { id, ask } is answered by { id, answer }.
 */
import { loadConfig } from '../../src/config/load.ts';
import { start } from '../../src/main/start.ts';
import { Endpoint } from '../../src/net/endpoint.ts';
import { Cause, causeWord } from '../../src/shared/cause.ts';
import { FREE, OPEN, PROVISIONAL } from '../../src/shared/flow-table.ts';

export interface Ask {
  id: number;
  ask: 'state' | 'flows' | 'ended' | 'fail' | 'advance';
  /** to fail */
  shard?: number;
  /** to advance by */
  ms?: number;
}

export interface State {
  /** flow records that are not free */
  used: number;
  /** of those, by shard */
  owned: number[];
  counters: Record<string, number>;
}

export interface FlowView {
  slot: number;
  generation: number;
  owner: number;
  transport: number;
  /** host:port */
  peer: string;
  provisional: boolean;
  flags: number;
}

/** The last flow of a slot that is free now. */
export interface Ending {
  peer: string;
  cause: string;
}

/** Not zero: a forgotten initialisation must not pass for "now". */
const FIRST_MS = 1_000_000;
const clock = new SharedArrayBuffer(Float64Array.BYTES_PER_ELEMENT);
const now = new Float64Array(clock).fill(FIRST_MS);
const running = await start(loadConfig(process.env), process.env.OBSERVED_CLOCK ? { clock } : {});
const { table, counters, config } = running;

function state(): State {
  return {
    used: table.used(),
    owned: Array.from({ length: config.workers }, (_, i) => table.owned(i + 1)),
    counters: counters.snapshot(),
  };
}

const address = new Endpoint();

function peerOf(slot: number): string {
  table.readRemote(slot, address);
  return address.toString();
}

function flows(): FlowView[] {
  const list: FlowView[] = [];
  for (let slot = 0; slot < table.capacity; slot++) {
    const state = table.state(slot);
    if (state !== OPEN && state !== PROVISIONAL) continue;
    list.push({
      slot,
      generation: table.generation(slot),
      owner: table.owner(slot),
      transport: table.transport(slot),
      peer: peerOf(slot),
      provisional: state === PROVISIONAL,
      flags: table.flags(slot),
    });
  }
  return list;
}

function ended(): Ending[] {
  const list: Ending[] = [];
  for (let slot = 0; slot < table.capacity; slot++)
    if (table.state(slot) === FREE && table.cause(slot) !== Cause.NONE)
      list.push({ peer: peerOf(slot), cause: causeWord(table.cause(slot)) });
  return list;
}

process.on('message', ({ id, ask, shard, ms }: Ask) => {
  if (ask === 'fail') running.failShard(shard ?? 0);
  if (ask === 'advance') {
    now[0] += ms ?? 0;
    running.poke();
  }
  process.send?.({ id, answer: ask === 'flows' ? flows() : ask === 'ended' ? ended() : state() });
});
const stop = () => void running.stop().finally(() => process.exit(0));
process.on('disconnect', stop);
process.on('SIGTERM', stop);
process.on('SIGHUP', () => running.reload());
process.send?.('ready');
