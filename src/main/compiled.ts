/**
 * Code as Node has compiled it, kept in the data directory from one clean end to the next start. Most of a start is making
 * JavaScript of TypeScript and functions of that, once in each thread; with it a start, and what replaces a lost shard,
 * takes half the processor time. Whoever can write there can make the server run what he likes, as with
 * the keys beside it: the directory is the owner's alone.
 *
 * NODE_COMPILE_CACHE names another place, NODE_DISABLE_COMPILE_CACHE=1 does without; a directory that cannot be
 * written is no error.
 */
import { mkdirSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';
import process from 'node:process';

/** Call it before what is to be kept is imported; threads that start later take part. */
export function keepCompiled(dataDir: string): void {
  const { env } = process;
  if (env.NODE_COMPILE_CACHE || env.NODE_DISABLE_COMPILE_CACHE) return;
  const directory = join(dataDir, 'compiled');
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch {
    return;
  }
  enableCompileCache(directory);
  env.NODE_COMPILE_CACHE = directory; // a thread looks there
}
