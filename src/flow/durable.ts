/**
 * A small file that is either the old one or the new one, whatever dies when: written beside,
 * flushed, renamed over, and the directory flushed too. When `writeDurable` returns, the content
 * survives a power cut (as far as the disk keeps its promises).
 *
 * Blocking calls, a few milliseconds each: for the start and for key rotation only. One writer per
 * directory is assumed; two at once leave one of the two contents, never a mixture.
 */
import {
  closeSync,
  fchmodSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';

export function writeDurable(directory: string, name: string, content: string, mode = 0o600): void {
  const created = mkdirSync(directory, { recursive: true, mode: 0o700 });
  const beside = join(directory, `${name}.new`);
  const fd = openSync(beside, 'w', mode);
  try {
    // a leftover of an earlier life keeps its own mode through open
    fchmodSync(fd, mode);
    writeFileSync(fd, content);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(beside, join(directory, name));
  flushDirectory(directory);
  if (created === undefined) return;
  // each directory that was made is an entry in its parent, up to the first one that was there
  const top = dirname(resolve(created));
  for (let at = resolve(directory); at !== top; ) {
    at = dirname(at);
    flushDirectory(at);
  }
}

/** The file's content, or undefined if there is none. Other failures (no permission) throw. */
export function readIfThere(directory: string, name: string): string | undefined {
  try {
    return readFileSync(join(directory, name), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function flushDirectory(directory: string): void {
  const fd = openSync(directory, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
