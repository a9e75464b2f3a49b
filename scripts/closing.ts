/** The closing line over the reports of all runs that are there: the last word of continuous integration. */
import { close, type RunName, readResults } from './results.ts';

const RUNS: RunName[] = ['ffi', 'core', 'interop'];
process.exitCode = close(RUNS.flatMap((run) => readResults(run) ?? [])) ? 0 : 1;
