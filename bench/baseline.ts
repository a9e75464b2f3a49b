/**
 * `baseline.json`: what each case cost on some machine, with what the calibration work cost beside it.
 * Figures of two machines are compared in units of that work only.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { arch, cpus, platform } from 'node:os';
import { fileURLToPath } from 'node:url';

const FILE = fileURLToPath(new URL('./baseline.json', import.meta.url));

export interface Figure {
  /** nanoseconds an operation */
  ns: number;
  /** nanoseconds of the calibration work at that time */
  calibration: number;
}

export interface Baseline {
  machine: { cpu: string; cpus: number; platform: string; node: string; date: string };
  /** by "suite case" */
  cases: Record<string, Figure>;
}

export function machine(): Baseline['machine'] {
  const list = cpus();
  return {
    cpu: list[0]?.model.trim() || 'unknown',
    cpus: list.length,
    platform: `${platform()} ${arch()}`,
    node: process.version,
    date: new Date().toISOString().slice(0, 10),
  };
}

export function readBaseline(): Baseline | undefined {
  try {
    return JSON.parse(readFileSync(FILE, 'utf8')) as Baseline;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Cases that were not measured now keep their figures, so a filtered run renews what it measured. */
export function saveBaseline(cases: Record<string, Figure>): void {
  const merged = { ...readBaseline()?.cases, ...cases };
  const sorted = Object.fromEntries(Object.entries(merged).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync(FILE, `${JSON.stringify({ machine: machine(), cases: sorted }, undefined, 2)}\n`);
}

/** How many times as much as `before` this costs, the speed of the machine set aside. */
export function ratio(now: Figure, before: Figure): number {
  return now.ns / now.calibration / (before.ns / before.calibration);
}
