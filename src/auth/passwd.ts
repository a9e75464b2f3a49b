/**
 * `holdfast passwd FILE USER@REALM [ALGORITHMS]`: reads a password from standard input, one line, and puts the user's
 * HA1s, of all algorithms or of these, into a credential file (lines.ts). Other users, comments and the order of lines stay; `aors` of
 * the user stay too. The file is whole at any moment, has mode 0600, and is on disk when this returns.
 *
 * At a terminal the password is asked for and not shown. The password itself is stored nowhere. Two at once: one of
 * them is lost. A file that is broken is not touched.
 */
import { chownSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import process from 'node:process';
import type { Readable, Writable } from 'node:stream';
import { readIfThere, writeDurable } from '../flow/durable.ts';
import { canonicalHost, parseSipUri } from '../wire/uri.ts';
import { ALGORITHMS, type Algorithm, ha1Of } from './digest.ts';
import { type Entry, formatLine, parseLine, parseUsers } from './lines.ts';

/** Longer lines are no passwords. */
const MAX_PASSWORD = 1024;

export interface PasswdResult {
  user: string;
  realm: string;
  /** false: the user was there and has a new password */
  added: boolean;
}

/** What the person who called it did wrong. */
export class PasswdError extends Error {}

/** A comma list of digest algorithms. */
export function algorithmList(text: string): Algorithm[] {
  const wanted = text.split(',').map((name) => name.trim().toUpperCase());
  if (wanted.some((name) => !ALGORITHMS.includes(name as Algorithm)))
    throw new PasswdError(`"${text}" is no list of ${ALGORITHMS.join(', ')}`);
  return ALGORITHMS.filter((name) => wanted.includes(name));
}

type Terminal = Readable & { isTTY?: boolean; setRawMode?(on: boolean): void };

/** `prompt`: where a terminal is asked, standard error as a rule. */
export async function passwd(
  file: string,
  address: string,
  input: Terminal,
  prompt: Writable,
  algorithms: readonly Algorithm[] = ALGORITHMS,
): Promise<PasswdResult> {
  const at = address.lastIndexOf('@');
  // RFC 7616 4: names and passwords are hashed in form C
  const user = address.slice(0, Math.max(at, 0)).normalize('NFC');
  const host = parseSipUri(`sip:x@${address.slice(at + 1)}`);
  if (user === '' || user.includes(':') || !host || host.port !== undefined || host.params.length > 0)
    throw new PasswdError(`"${address}" is not USER@REALM: a name without ":", and a domain`);
  const realm = canonicalHost(host.host);

  const path = followed(file);
  const text = readIfThere(dirname(path), basename(path)) ?? '';
  parseUsers(text); // a fault names the line
  const password = await (input.isTTY
    ? typed(input, prompt, `Password for ${user}@${realm}: `)
    : piped(input));
  if (password === '') throw new PasswdError('the password is empty');

  const ha1s = new Map(algorithms.map((a) => [a, ha1Of(a, user, realm, password.normalize('NFC'))] as const));
  const { content, added } = replaced(text, { user, realm, ha1s, aors: [] });
  const owner = statSync(path, { throwIfNoEntry: false });
  writeDurable(dirname(path), basename(path), content, 0o600);
  // root adds users to a file that the service reads: it stays the service's
  if (owner && process.getuid?.() === 0) chownSync(path, owner.uid, owner.gid);
  return { user, realm, added };
}

/** Where a symbolic link leads, so that the link stays one. */
function followed(file: string): string {
  try {
    return realpathSync(file);
  } catch {
    return resolve(file);
  }
}

function replaced(text: string, entry: Entry): { content: string; added: boolean } {
  const lines: string[] = [];
  let place = -1;
  for (const line of text.split('\n')) {
    const other = parseLine(line);
    if (typeof other !== 'object' || other.user !== entry.user || other.realm !== entry.realm)
      lines.push(line);
    else {
      entry.aors.push(...other.aors);
      if (place < 0) place = lines.push('') - 1;
    }
  }
  const added = place < 0;
  if (added) {
    while (lines.at(-1)?.trim() === '') lines.pop();
    place = lines.push('') - 1;
    lines.push('');
  }
  lines[place] = formatLine(entry);
  return { content: lines.join('\n'), added };
}

async function piped(input: Readable): Promise<string> {
  let text = '';
  input.setEncoding('utf8');
  for await (const chunk of input) {
    text += chunk;
    if (text.includes('\n') || text.length > MAX_PASSWORD) break;
  }
  const line = text.split('\n', 1)[0].replace(/\r$/, '');
  if (line.length > MAX_PASSWORD)
    throw new PasswdError(`the password has more than ${MAX_PASSWORD} characters`);
  return line;
}

/** A line from a terminal, not shown. */
async function typed(input: Terminal, prompt: Writable, question: string): Promise<string> {
  prompt.write(question);
  input.setRawMode?.(true);
  input.setEncoding('utf8');
  let line = '';
  try {
    for await (const chunk of input) {
      for (const char of chunk as string) {
        if (char === '\r' || char === '\n') return line;
        if (char === '\u0003' || char === '\u0004') throw new PasswdError('given up');
        if (char === '\u007f' || char === '\b') line = [...line].slice(0, -1).join('');
        else line += char;
      }
      if (line.length > MAX_PASSWORD)
        throw new PasswdError(`the password has more than ${MAX_PASSWORD} characters`);
    }
    return line;
  } finally {
    input.setRawMode?.(false);
    prompt.write('\n');
  }
}
