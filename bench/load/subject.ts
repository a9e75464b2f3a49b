/** A server under load: how it is made ready, and what is known of it while it runs. */
import { execFileSync } from 'node:child_process';
import { cpus } from 'node:os';
import { find } from '../../test/interop/program.ts';
import type { Address } from './options.ts';

/** Its addresses are chosen, and it does not run yet. */
export interface Subject {
  readonly name: string;
  /** the listener that the flows go to */
  readonly address: Address;
  /** PEM of the authority of its certificate, where it has one */
  readonly ca: string | undefined;
  /** where the core is to listen; port 0: anywhere */
  readonly core: Address;
  /** Resolves when it answers. */
  start(core: Address): Promise<Started>;
}

export interface Started {
  /** undefined: not known, so neither CPU nor memory is */
  readonly pid: number | undefined;
  stop(): Promise<void>;
}

/** With two cores or more, and the program that does it. */
export const canPin = (): boolean => cpus().length > 1 && find('taskset') !== undefined;

/** All threads of a process, and those that they start, to one core. */
export function pin(pid: number, core: number): void {
  execFileSync('taskset', ['-a', '-c', '-p', String(core), String(pid)], { stdio: 'ignore' });
}

/** This process to the last core: a server that is pinned has the first. */
export function pinGenerator(): void {
  pin(process.pid, cpus().length - 1);
}
