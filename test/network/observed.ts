/**
 * Entry of a server that can be looked into: the same as the CLI starts, and over the IPC channel what a
 * black box does not show: records in use, counters, which shard owns which flow. It can also be told
 * to let a shard fail.
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
  ask: 'state' | 'flows' | 'ended' | 'fail';
  shard?: number;
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

const running = await start(loadConfig(process.env));
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

process.on('message', ({ id, ask, shard }: Ask) => {
  if (ask === 'fail') running.failShard(shard ?? 0);
  process.send?.({ id, answer: ask === 'flows' ? flows() : ask === 'ended' ? ended() : state() });
});
const stop = () => void running.stop().finally(() => process.exit(0));
process.on('disconnect', stop);
process.on('SIGTERM', stop);
process.on('SIGHUP', () => running.reload());
process.send?.('ready');
