/**
 * Two servers on the same work: medians over rounds that were measured in turns, and ratios. The ratio is the median
 * of the rounds' own ratios, since what slows a machine down for a while then meets both sides of one.
 */
import { type Cell, nameOf } from './cells.ts';
import type { Result } from './measure.ts';

export interface Pair {
  ours: Result;
  theirs: Result;
}

export interface Row {
  cell: Cell;
  /** microseconds of CPU a transaction; idle: KiB a flow */
  ours: number;
  theirs: number;
  ratio: number;
  /** least and greatest ratio of a round */
  low: number;
  high: number;
  /** transactions a second */
  oursRate: number;
  theirsRate: number;
  /** greatest share of a core that the generator took */
  generator: number;
  errors: number;
  rounds: number;
}

export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** What a server is charged in this cell. */
const costOf = ({ mode }: Cell, { cpu, memory }: Result): number =>
  (mode === 'idle' ? memory?.perFlow : cpu?.usPerTransaction) ?? Number.NaN;

export function rowOf(cell: Cell, pairs: Pair[]): Row {
  const ours = pairs.map((pair) => pair.ours);
  const theirs = pairs.map((pair) => pair.theirs);
  const ratios = pairs.map((pair) => costOf(cell, pair.ours) / costOf(cell, pair.theirs));
  const all = [...ours, ...theirs];
  return {
    cell,
    ours: median(ours.map((result) => costOf(cell, result))),
    theirs: median(theirs.map((result) => costOf(cell, result))),
    ratio: median(ratios),
    low: Math.min(...ratios),
    high: Math.max(...ratios),
    oursRate: median(ours.map(({ rate }) => rate)),
    theirsRate: median(theirs.map(({ rate }) => rate)),
    generator: Math.max(...all.map(({ generator }) => generator)),
    errors: all.reduce((sum, { errors }) => sum + errors, 0),
    rounds: pairs.length,
  };
}

const HEADS: Array<[Cell['mode'], string]> = [
  ['register', 'REGISTER over an existing flow'],
  ['downstream', 'request down a flow'],
  ['keepalive', 'keep-alive (STUN, CRLF, Ping frame)'],
  ['churn', 'connect, REGISTER, close'],
];

const rate = (n: number): string => n.toLocaleString('en', { maximumFractionDigits: 0 });
const range = ({ low, high, rounds }: Row): string =>
  rounds > 1 ? `${low.toFixed(2)} to ${high.toFixed(2)}` : '';

/** Markdown. */
export function comparison(rows: Row[]): string {
  const lines: string[] = [
    '| CPU us a transaction | flows | core | forwarding | Holdfast | Kamailio | ratio | ratios | Holdfast /s | Kamailio /s | generator | errors |',
    '|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|',
  ];
  for (const [mode, head] of HEADS)
    for (const row of rows.filter(({ cell }) => cell.mode === mode)) {
      const { cell, ours, theirs } = row;
      const figures = [ours.toFixed(1), theirs.toFixed(1), row.ratio.toFixed(2), range(row)];
      const rates = [rate(row.oursRate), rate(row.theirsRate), row.generator.toFixed(2), String(row.errors)];
      lines.push(
        `| ${[head, cell.transport, cell.core, cell.forwarding, ...figures, ...rates].join(' | ')} |`,
      );
    }
  const idle = rows.filter(({ cell }) => cell.mode === 'idle');
  if (idle.length > 0) {
    lines.push('', '| KiB a flow | Holdfast | Kamailio | ratio | ratios |', '|---|---:|---:|---:|---:|');
    for (const row of idle)
      lines.push(
        `| ${[row.cell.transport, row.ours.toFixed(1), row.theirs.toFixed(1), row.ratio.toFixed(2), range(row)].join(' | ')} |`,
      );
  }
  return `${lines.join('\n')}\n`;
}

/** One line while it runs. */
export function remark(cell: Cell, { ours, theirs }: Pair): string {
  const [a, b] = [ours, theirs].map((result) => costOf(cell, result));
  return `${nameOf(cell).padEnd(38)} ${a.toFixed(1)} to ${b.toFixed(1)}, ratio ${(a / b).toFixed(2)}`;
}
