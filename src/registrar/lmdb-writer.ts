/**
 * The one writer of an LMDB store: a server, or an import. A file beside the store says which process it is.
 *
 * A second process is refused, whatever the first one is doing; one that died (kill -9 included) holds
 * nothing. A process is told from a later one with its number by its start time and the boot. The file is
 * looked at and written within a write transaction, and LMDB lets one process at a time into those: so of two
 * that come at once one is refused. Readers are not concerned.
 *
 * It sees processes of its own PID namespace. Two containers that share a directory are not told apart from
 * dead ones; where there is no /proc, a process that happens to have the number counts as alive.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';

export class StoreInUse extends Error {
  override name = 'StoreInUse';
  readonly pid: number;

  constructor(dir: string, pid: number) {
    super(`the location store in ${dir} is in use by process ${pid}`);
    this.pid = pid;
  }
}

/** a kernel's task flag, since ever */
const PF_EXITING = 4;

const fileIn = (dir: string) => join(dir, 'location.writer');

/** Throws StoreInUse if another process has it. Only a look: it may change a moment later. */
export function assertUnused(dir: string, bootId: string): void {
  const [pid, started, boot] = read(dir);
  const isOther = pid !== undefined && `${process.pid}` !== pid;
  if (isOther && (boot ?? '') === bootId && startOf(Number(pid)) === started)
    throw new StoreInUse(dir, Number(pid));
}

/** Takes it or throws StoreInUse. Within a write transaction of the store. */
export function takeStore(dir: string, bootId: string): void {
  assertUnused(dir, bootId);
  writeFileSync(fileIn(dir), `${process.pid} ${startOf(process.pid)} ${bootId}\n`);
}

export function leaveStore(dir: string): void {
  if (read(dir)[0] === `${process.pid}`) rmSync(fileIn(dir), { force: true });
}

function read(dir: string): string[] {
  try {
    return readFileSync(fileIn(dir), 'latin1').trim().split(' ');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** Clock ticks from boot to the start of a process; undefined if it is not alive, '?' where nobody says. */
function startOf(pid: number): string | undefined {
  if (process.platform !== 'linux') return isThere(pid) ? '?' : undefined;
  try {
    // proc(5): the name in brackets may hold anything, so count from its end
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // killed, and still being taken down or not yet waited for by its parent: it runs no code any more
    const isEnding = (Number(fields[6]) & PF_EXITING) !== 0 || fields[0] === 'Z' || fields[0] === 'X';
    return isEnding ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
