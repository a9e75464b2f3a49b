/**
 * `npm run bench:agents -- [--agents 10000] [--processes 3] [--transport tcp|udp] [--base S] [--json FILE]`: user agents
 * of the library, two flows each, against two edges and a core behind them, all of it processes on loopback.
 *
 * They register; for a while they are only kept alive; one edge is killed, every agent of a sample has to be reached
 * over its other flow, and the edge comes back. Printed are rates, memory and histograms. Checked is RFC 5626 4.4 and
 * 4.5: when keep-alives go out, and when each agent may try again (history.ts has the rules, verdict.ts the judgement).
 *
 * --base: base-time in seconds where another flow is up. RFC 5626 has 90, which makes 90 to 180 s of waiting.
 * --flow-timer, --outage, --sample: what the edges say in Flow-Timer; seconds until the edge starts again (default:
 * a little more than every agent needs to see that it is gone); agents that get a MESSAGE.
 * --upstream: udp or tcp between edges and core. (Over UDP with HOLDFAST_IO=core nothing tells the core that an edge is
 * gone: a MESSAGE in the outage may then wait for twice HOLDFAST_FLOW_ANSWER_S.)
 * --late: seconds that a timer may be late. The processes share the machine, and what it is busy with makes them late.
 *
 * Exit code 0 if all holds, else 1 with a line for each thing that does not.
 */
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { UserAgent } from '../../src/user-agent.ts';
import { Holdfast } from '../../test/harness/holdfast.ts';
import { freshHost } from '../../test/harness/ports.ts';
import type { Share } from './agents-entry.ts';
import { histogram, quantile } from './figures.ts';
import { cpuOf, Fleet, monotonic, processesFor, pssOf } from './fleet.ts';
import type { History } from './history.ts';
import { judgeHold, judgeOthers, judgeRecovery } from './verdict.ts';

const DOMAIN = 'example.test';
/** RFC 5626 4.5: max-time */
const MOST_S = 1800;
const ABREAST = 32;
const PROGRESS_MS = 5_000;
/** Ten thousand flows that end at once keep a machine busy for seconds. */
const PATIENCE_MS = 20_000;
/** An agent starts anew every so often within this; a machine that is slower than that is no place to measure. */
const REGISTRATIONS_PER_S = 50;
/** of log lines */
const ERROR = 50;
const CALLER = '127.99.0.1';

const { values: given } = parseArgs({
  options: {
    agents: { type: 'string', default: '10000' },
    processes: { type: 'string', default: '3' },
    transport: { type: 'string', default: 'tcp' },
    upstream: { type: 'string', default: 'udp' },
    base: { type: 'string', default: '30' },
    'flow-timer': { type: 'string', default: '20' },
    outage: { type: 'string' },
    sample: { type: 'string', default: '300' },
    late: { type: 'string', default: '1' },
    json: { type: 'string' },
  },
});

function number(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (!(value >= least && value <= most)) {
    console.error(`--${name} ${text}: ${least} to ${most}`);
    process.exit(2);
  }
  return value;
}

function oneOf(name: string, text: string): 'tcp' | 'udp' {
  if (text === 'tcp' || text === 'udp') return text;
  console.error(`--${name} ${text}: tcp or udp`);
  process.exit(2);
}

const agents = number('agents', given.agents, 1, 100_000);
const processes = processesFor(2 * agents, number('processes', given.processes, 1, 64));
const base = number('base', given.base, 0.1, MOST_S);
const flowTimer = number('flow-timer', given['flow-timer'], 1, 3600);
const late = number('late', given.late, 0, 60) * 1000;
const sample = number('sample', given.sample, 1, 100_000);
const transport = oneOf('transport', given.transport);
const upstream = oneOf('upstream', given.upstream);
/** A stream tells its end; over UDP the next keep-alive does. */
const seen = transport === 'tcp' ? 1 : flowTimer + 1;
const outage =
  given.outage === undefined ? Math.max(0.6 * base, seen) : number('outage', given.outage, 0, 3600);

const failed: string[] = [];
const figures: Record<string, unknown> = {};
const say = (line: string): void => console.log(line);
const count = (n: number): string => Math.round(n).toLocaleString('en');
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
const megabytes = (kb: number): string => (kb / 1024).toFixed(0);
const show = (lines: string[]): void => {
  for (const line of lines) say(`    ${line}`);
};

/** Waits until it holds, with a line of progress now and then. False: not in that time. */
async function until(done: () => boolean, withinMs: number, progress: () => string): Promise<boolean> {
  const began = monotonic();
  let told = began;
  for (;;) {
    if (done()) return true;
    const now = monotonic();
    if (now - began > withinMs) return false;
    if (now - told >= PROGRESS_MS) {
      told = now;
      say(`  ${seconds(now - began)}  ${progress()}`);
    }
    await Promise.race([fleet.broken, delay(100)]);
  }
}

let interrupted = (): void => process.exit(130);
process.once('SIGINT', () => interrupted());

const common = { WORKERS: '1', LOG: 'warn', FLOW_TIMER: `${flowTimer}`, MAX_FLOWS: `${agents + 4096}` };
const hosts = [freshHost(), freshHost()];
const core = await Holdfast.start({
  settings: {
    ...common,
    DOMAINS: DOMAIN,
    STORE: 'memory:',
    TRUSTED: hosts.map((host) => `${host}/32`).join(','),
  },
});
const behind = `sip:${core.host}:${core.port};transport=${upstream}`;
const edges = await Promise.all(
  hosts.map((host) => Holdfast.start({ host, settings: { ...common, UPSTREAM: behind } })),
);
const servers = { core, 'edge 1': edges[0], 'edge 2': edges[1] };
const proxies = edges.map(({ host, port }) => ({ host, port }));
const shares = Array.from({ length: processes }, (_, i): Share => {
  const first = Math.floor((agents * i) / processes);
  const end = Math.floor((agents * (i + 1)) / processes);
  return { first, count: end - first, domain: DOMAIN, proxies, transport, base, abreast: ABREAST };
});
const fleet = new Fleet(shares);

const serverMemory = (): number[] => Object.values(servers).map(({ pid }) => pssOf(pid));
const loadMemory = (): number => fleet.pids.reduce((sum, pid) => sum + pssOf(pid), 0);
const serverTime = (): number[] => Object.values(servers).map(({ pid }) => cpuOf(pid));
const loadTime = (): number => fleet.pids.reduce((sum, pid) => sum + cpuOf(pid), 0);

async function registration(): Promise<void> {
  say('registration');
  const before = { servers: serverMemory(), load: loadMemory(), times: serverTime(), time: loadTime() };
  const began = monotonic();
  fleet.start();
  const flows = 2 * agents;
  const up = () => fleet.counts.up[0] + fleet.counts.up[1];
  const whole = await until(
    () => up() === flows,
    10_000 + (flows / REGISTRATIONS_PER_S) * 1000,
    () => `${count(up())} of ${count(flows)} flows registered`,
  );
  const took = monotonic() - began;
  if (!whole) failed.push(`${flows - up()} of ${flows} flows did not register in ${seconds(took)}`);
  const rate = up() / (took / 1000);
  const times = serverTime().map((time, i) => ((time - before.times[i]) / flows) * 1e6);
  const time = ((loadTime() - before.time) / flows) * 1e6;
  const memory = serverMemory();
  const perAgent = (loadMemory() - before.load) / agents;
  say(`  ${count(up())} registrations in ${seconds(took)}: ${count(rate)}/s`);
  const names = Object.keys(servers);
  say(
    `  CPU us a registration: load ${count(time)}, ${names.map((name, i) => `${name} ${count(times[i])}`).join(', ')}`,
  );
  for (const [i, name] of names.entries())
    say(`  memory of ${name}: ${megabytes(before.servers[i])} MB before, ${megabytes(memory[i])} MB after`);
  say(`  memory of an agent with its two flows, in a load process: ${perAgent.toFixed(0)} KB`);
  figures.registration = {
    registrations: up(),
    seconds: took / 1000,
    perSecond: rate,
    cpuUs: { load: time, ...Object.fromEntries(names.map((name, i) => [name, times[i]])) },
    serverKb: Object.fromEntries(names.map((name, i) => [name, [before.servers[i], memory[i]]])),
    agentKb: perAgent,
  };
}

async function hold(): Promise<void> {
  const least = monotonic() + flowTimer * 1000 + 1000;
  say(`hold, Flow-Timer ${flowTimer} s`);
  await until(
    () => monotonic() > least && fleet.counts.proven === 2 * agents,
    flowTimer * 1000 + late + PATIENCE_MS,
    () => `${count(fleet.counts.pings)} keep-alives sent, ${count(fleet.counts.pongs)} answered`,
  );
  const histories = await fleet.histories();
  const verdict = judgeHold(histories.flat(), monotonic(), { flowTimer, late });
  const { pings, answered, tripMedian, tripP99, busiestSecond, times, intervals } = verdict.figures;
  say(`  ${count(pings)} keep-alives sent, ${count(answered)} answered`);
  say(`  answer after ${tripMedian.toFixed(1)} ms (median), ${tripP99.toFixed(1)} ms (99 %)`);
  say(`  at most ${count(busiestSecond)} in one second; by the time from the first:`);
  show(histogram(times));
  say('  by the time since the registration or the keep-alive before:');
  show(histogram(intervals.map((interval) => interval * 1000)));
  failed.push(...verdict.failed);
  figures.hold = { pings, answered, tripMedianMs: tripMedian, tripP99Ms: tripP99, busiestSecond };
}

/** A MESSAGE to each agent of the sample, through the edge that runs and the core. */
async function reach(caller: UserAgent, when: string): Promise<void> {
  const numbers = Array.from({ length: Math.min(sample, agents) }, (_, i) =>
    Math.floor((i * agents) / Math.min(sample, agents)),
  );
  const took: number[] = [];
  const missed = new Map<string, number>();
  const queue = numbers.values();
  const one = async (): Promise<void> => {
    for (const n of queue) {
      const began = monotonic();
      const outcome = await caller.request('MESSAGE', `sip:agent${n}@${DOMAIN}`, { body: `${n}` }).then(
        (answer) => (answer.header('x-agent') === `agent${n}` ? '200' : `${answer.status}`),
        (error: { code: string }) => error.code,
      );
      if (outcome === '200') took.push(monotonic() - began);
      else missed.set(outcome, (missed.get(outcome) ?? 0) + 1);
    }
  };
  await Promise.race([fleet.broken, Promise.all(Array.from({ length: ABREAST }, one))]);
  const times = `${quantile(took, 0.5).toFixed(0)} ms (median), ${quantile(took, 0.99).toFixed(0)} ms (99 %)`;
  say(`  ${took.length} of ${numbers.length} agents reached by a MESSAGE ${when}, in ${times}`);
  for (const [outcome, times] of missed) failed.push(`${times} MESSAGEs ${when} ended with ${outcome}`);
  figures[`reached ${when}`] = {
    agents: numbers.length,
    reached: took.length,
    medianMs: quantile(took, 0.5),
    p99Ms: quantile(took, 0.99),
  };
}

/** Kills the first edge, and starts it again after the outage. */
async function outageOf(caller: UserAgent): Promise<number> {
  say(`an edge is killed, for ${outage.toFixed(1)} s`);
  const killedAt = monotonic();
  await edges[0].kill('SIGKILL');
  const gone = await until(
    () => fleet.counts.up[0] === 0,
    seen * 1000 + late + PATIENCE_MS,
    () => `${count(fleet.counts.up[0])} flows over it are not given up yet`,
  );
  if (gone) say(`  its ${count(agents)} flows were given up within ${seconds(monotonic() - killedAt)}`);
  else failed.push(`${fleet.counts.up[0]} flows over the killed edge were not given up in time`);
  await reach(caller, 'in the outage');
  await Promise.race([fleet.broken, delay(Math.max(0, outage * 1000 - (monotonic() - killedAt)))]);
  await edges[0].launch();
  say(`  it runs again ${seconds(monotonic() - killedAt)} after`);
  return killedAt;
}

async function recovery(killedAt: number): Promise<void> {
  const down = (monotonic() - killedAt) / 1000;
  let latest = seen + 2 * base;
  // an attempt that falls into the outage fails, and W doubles
  for (let w = 2 * base; w / 2 < down; w *= 2) latest += Math.min(MOST_S, 2 * w);
  await until(
    () => fleet.counts.up[0] === agents,
    (latest - down) * 1000 + late + PATIENCE_MS,
    () => `${count(fleet.counts.up[0])} of ${count(agents)} flows are back`,
  );
  const histories = await fleet.histories();
  const over = (edge: number): History[] => histories.map((flows) => flows[edge]);
  const { figures: got, failed: broken } = judgeRecovery(over(0), killedAt, { base, most: MOST_S, late });
  say(`recovery: base time ${base} s, so waits of ${base} to ${2 * base} s after one failure`);
  say(`  ${count(got.flows)} flows are back, ${seconds(got.first)} to ${seconds(got.last)} after the kill,`);
  const { atOnceMedian, atOnceMost, failures } = got;
  say(
    `  after an attempt at once (${atOnceMedian.toFixed(0)} ms after the loss, ${atOnceMost.toFixed(0)} ms at most) and ${count(failures)} that failed in all;`,
  );
  say('  registrations by the time from the kill:');
  show(histogram(got.times));
  say(`  at most ${count(got.busiestSecond)} in one second, an even spread has ${count(got.evenRate)}`);
  failed.push(...broken, ...judgeOthers(over(1), killedAt));
  const { times: _, ...plain } = got;
  figures.recovery = plain;
}

async function run(): Promise<void> {
  await fleet.ready();
  say(
    `${count(agents)} agents, ${count(2 * agents)} flows over ${transport}, ${processes} load processes; two edges and a core (${cpus()[0]?.model.trim()}, ${cpus().length} CPUs)`,
  );
  await registration();
  if (failed.length > 0) return;
  const caller = new UserAgent({
    aor: `sip:caller@${DOMAIN}`,
    instanceId: 'urn:uuid:11111111-1111-4111-8111-111111111111',
    proxies: [`sip:${proxies[1].host}:${proxies[1].port};transport=tcp`],
    localAddress: CALLER,
  });
  try {
    await caller.start();
    await hold();
    await reach(caller, 'before');
    const killedAt = await outageOf(caller);
    await recovery(killedAt);
    await reach(caller, 'after');
    figures.serverKbAtTheEnd = Object.fromEntries(
      Object.entries(servers).map(([name, { pid }]) => {
        say(`  memory of ${name}: ${megabytes(pssOf(pid))} MB`);
        return [name, pssOf(pid)];
      }),
    );
  } finally {
    await caller.stop({ remove: false });
  }
}

/** What the servers had to say at level `warn` and above, by event. */
function logs(): void {
  for (const [name, { logs }] of Object.entries(servers)) {
    const events = new Map<string, number>();
    for (const { event, msg } of logs) {
      const what = `${event ?? msg}`;
      events.set(what, (events.get(what) ?? 0) + 1);
    }
    for (const [what, times] of events) say(`  log of ${name}: ${what}, ${count(times)} times`);
    const errors = logs.filter(({ level }) => (level as number) >= ERROR);
    if (errors.length > 0)
      failed.push(`${name} logged ${errors.length} errors: ${JSON.stringify(errors[0])}`);
  }
}

interrupted = () => fleet.breakOff(new Error('interrupted'));
const began = monotonic();
try {
  await run();
  logs();
} catch (error) {
  failed.push(`the run broke off: ${(error as Error).message}`);
} finally {
  await fleet.end();
  await Promise.all([...edges, core].map((server) => server.stop()));
}
for (const line of failed) say(`FAILED: ${line}`);
say(
  `${failed.length === 0 ? 'all of it holds' : `${failed.length} failed`}, ${seconds(monotonic() - began)}`,
);
if (given.json !== undefined) {
  const options = { agents, processes, transport, upstream, base, flowTimer, outage, late };
  writeFileSync(given.json, `${JSON.stringify({ options, ...figures, failed }, undefined, 2)}\n`);
}
process.exitCode = failed.length === 0 ? 0 : 1;
