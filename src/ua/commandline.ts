/**
 * The words of a command that acts as a user agent (`holdfast ua`, `holdfast check`): wrong ones are told with the
 * usage, and nothing is sent. Secrets come from files, never from words: those stand in the list of processes.
 */
import { readFileSync } from 'node:fs';
import { UserAgentError } from './errors.ts';
import type { UserAgentOptions } from './options.ts';

/** The words are wrong. */
export class Usage extends Error {}

/** What `read` makes of the words. Undefined: they are wrong, and `stderr` has been told why. */
export function taskFrom<T>(
  read: () => T,
  usage: string,
  stderr: { write(text: string): unknown },
): T | undefined {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof Usage || error instanceof UserAgentError)) throw error;
    stderr.write(`${error.message}\n${usage}`);
    return undefined;
  }
}

/** The result, where whatever `read` throws is the fault of the words: of `parseArgs`, or of a file that they name. */
export function fromWords<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new Usage((error as Error).message);
  }
}

/** Options of a user agent by which every command reaches its edge. */
export function accessOf(
  passwordFile: string | undefined,
  ca: string | undefined,
): Pick<UserAgentOptions, 'password' | 'tls'> {
  return {
    ...(passwordFile === undefined ? {} : { password: contentOf(passwordFile).split(/\r?\n/, 1)[0] }),
    ...(ca === undefined ? {} : { tls: { ca: contentOf(ca) } }),
  };
}

const contentOf = (file: string): string => fromWords(() => readFileSync(file, 'utf8'));
