/**
 * The incarnation: a number that no two lives of this node share. It is part of every flow token,
 * since without it slot 0, generation 1 of the next life would be another client under the same
 * token (5626 §3.4, EP-3.4-01).
 *
 * It is the unix time in seconds, or one more than the last one where the clock went backwards or
 * the restart came within the second. It is on disk before it is returned, so that no token can
 * outlive the knowledge of it. An unreadable file costs that guarantee only if the clock went
 * backwards too: the caller is told, and should log it.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { readIfThere, writeDurable } from './durable.ts';

const FILE = 'incarnation';
/** The token has 32 bits for it: enough until the year 2106. */
const LARGEST = 0xffff_ffff;

export interface Incarnation {
  /** 1 to 2^32 - 1 */
  value: number;
  /** that of the life before, 0 if this is the first one in this data directory */
  previous: number;
  /** the file was there but held no number; `value` rests on the clock and the file's time alone */
  wasCorrupt: boolean;
}

/** `previous` is 0 where there was none. Undefined if the 32 bits are used up. */
export function nextIncarnation(previous: number, nowMs: number): number | undefined {
  const next = Math.max(Math.floor(nowMs / 1000), previous + 1, 1);
  return next <= LARGEST ? next : undefined;
}

/** Once at start, before a listener opens. Throws what the file system throws. */
export function takeIncarnation(dataDirectory: string, nowMs: number): Incarnation {
  const text = readIfThere(dataDirectory, FILE);
  const stored = text === undefined ? 0 : parse(text);
  const wasCorrupt = stored === undefined;
  // The time of a file that cannot be read is that of the life that wrote it.
  const previous = stored ?? Math.floor(statSync(join(dataDirectory, FILE)).mtimeMs / 1000);
  const value = nextIncarnation(previous, nowMs);
  if (value === undefined) {
    throw new RangeError(`${join(dataDirectory, FILE)}: ${previous} leaves no larger number of 32 bits`);
  }
  writeDurable(dataDirectory, FILE, `${value}\n`);
  return { value, previous: stored ?? 0, wasCorrupt };
}

function parse(text: string): number | undefined {
  const digits = /^(\d{1,10})\n?$/.exec(text)?.[1];
  if (digits === undefined) return undefined;
  const value = Number(digits);
  return value >= 1 && value <= LARGEST ? value : undefined;
}
