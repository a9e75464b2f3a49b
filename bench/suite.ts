/**
 * What a bench file is: it exports by default a function that prepares its state and gives the cases,
 * or the reason why they cannot run here. A case is called some thousand times in a row; it must leave
 * its state as it found it.
 */
export interface Case {
  name: string;
  /** one sample: `ops` operations (1 if absent) */
  run: () => unknown;
  ops?: number;
}

export interface Suite {
  cases: Case[];
  /** what is to be said beside the table, by the fastest rounds of the cases: nanoseconds an operation, by name */
  notes?: (fastest: ReadonlyMap<string, number>) => string[];
  close?: () => void | Promise<void>;
}

/** A string says why the suite is skipped on this machine. */
export type Prepare = () => Suite | string | Promise<Suite | string>;

/** What a child process reports of one case: nanoseconds an operation, one figure a round. */
export interface Measured {
  name: string;
  rounds: number[];
  /** nanoseconds of the calibration work, one figure a round */
  calibration: number[];
}

export interface Report {
  skipped?: string;
  notes?: string[];
  measured: Measured[];
}
