/** A result as a person reads it. */
import type { Result } from './measure.ts';

const quantity = (n: number): string => n.toLocaleString('en', { maximumFractionDigits: 0 });
const percent = (share: number): string => `${Math.round(share * 100)} %`;
const mib = (kib: number): string => `${(kib / 1024).toFixed(1)} MiB`;

/** What was done, in a line. */
export function titleOf({ server, load }: Result): string {
  const { mode, transport, core, flows, rate, window } = load;
  const pace = rate > 0 ? `${quantity(rate)}/s` : `${window} in flight`;
  const many = mode === 'churn' && transport === 'udp' ? 'new address pairs' : `${quantity(flows)} flows`;
  return `${server}: ${mode}, ${transport}, core ${core}, ${many}${mode === 'idle' ? '' : `, ${pace}`}`;
}

function latencyRows({ latency }: Result): string[][] {
  const { p50, p90, p99, p999, max } = latency;
  const names = ['p50', 'p90', 'p99', 'p99.9', 'max'];
  return [
    ['latency, us', [p50, p90, p99, p999, max].map((us, i) => `${names[i]} ${quantity(us)}`).join('   ')],
  ];
}

function cpuRows({ cpu, held }: Result): string[][] {
  if (!cpu) return [['CPU', 'not known without --pid']];
  const threads = Object.entries(cpu.threads).filter(([, share]) => share >= 0.005);
  const { user, system } = cpu;
  return [
    ['CPU a transaction', `${cpu.usPerTransaction.toFixed(1)} us`],
    [
      'CPU of the server',
      `${percent(cpu.share)} of a core (user ${user.toFixed(2)} s, system ${system.toFixed(2)} s)`,
    ],
    ['  by thread', threads.map(([name, share]) => `${name} ${percent(share)}`).join('   ')],
    ...(held === undefined ? [] : [['  holding the flows', `${(held * 100).toFixed(2)} % of a core`]]),
  ];
}

function memoryRows({ memory, load, alive }: Result): string[][] {
  if (!memory) return [];
  const each = load.mode === 'churn' ? '' : `, ${memory.perFlow.toFixed(2)} KiB a flow`;
  const steps = [memory.before, memory.flows, memory.after].map(mib).join(', ');
  return [
    ['memory (PSS)', `${steps}: before, with the flows, at the end${each}`],
    ...(load.mode === 'churn' ? [] : [['flows standing', quantity(alive)]]),
  ];
}

export function table(result: Result): string {
  const { load, tally, errors } = result;
  const idle = load.mode === 'idle';
  const wrong = Object.entries(tally).filter(
    ([name, n]) => n > 0 && name !== 'begun' && name !== 'answered' && name !== 'stray',
  );
  const rows = [
    [idle ? 'opened, registered' : 'transactions', quantity(result.transactions)],
    ['rate', `${quantity(result.rate)}/s over ${result.seconds.toFixed(2)} s`],
    [
      'errors',
      errors === 0 ? '0' : `${quantity(errors)}: ${wrong.map(([name, n]) => `${name} ${n}`).join(', ')}`,
    ],
    ...(idle ? [] : latencyRows(result)),
    ...cpuRows(result),
    ...memoryRows(result),
    ['generator', `${percent(result.generator)} of a core${limit(result)}`],
    ['load average before', result.loadBefore.map((n) => n.toFixed(2)).join(' ')],
  ];
  const width = Math.max(...rows.map(([name]) => name.length)) + 2;
  return `${titleOf(result)}\n${rows.map(([name, value]) => `  ${name.padEnd(width)}${value}`).join('\n')}\n`;
}

/** A rate says something about the server only where the server was what could not do more. */
function limit({ generator, load, cpu }: Result): string {
  if (load.rate > 0 || load.mode === 'idle') return '';
  if (generator > 0.9) return ': it was the limit, so the rate is not what the server can do';
  return cpu && cpu.share < 0.8 && load.workers === 1 ? ': the machine was busy with other things' : '';
}
