/**
 * `holdfast bindings export|import [--store STORE] [FILE]`: registrations from a store into a file (format.ts),
 * or from a file into a store. Without FILE, or with `-`, standard output and input. The store, the node's
 * number and its keys are those that the server would have from the same environment.
 *
 * An import adds: what is there stays, so it may be repeated after a failure. It leaves out what has expired and
 * what can no longer be reached (survivors.ts). A wrong line is told with its number and passed over.
 * An exported file is whole under its name or not there; a part is FILE.part.
 *
 * Memory does not grow with the store. Exit codes: 0 all of it; 1 something failed, or lines were wrong; 2 wrong
 * usage or configuration, nothing was done; 130 interrupted, with what was done until then, or, without a word, nobody
 * reads standard output any more.
 */
import { createReadStream, createWriteStream, renameSync } from 'node:fs';
import { addAbortSignal, Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setImmediate } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { StoreConfig } from '../config/config.ts';
import { ConfigError } from '../config/error.ts';
import { loadStore, type StoreSetting } from '../config/load.ts';
import { KeyFault } from '../flow/keyring.ts';
import { Census } from './census.ts';
import { type EndLine, formatAor, formatEnd, formatHeader, parseHeader, parseLine } from './format.ts';
import { type Line, lines } from './lines.ts';
import { nameOf, openSink, openSource, PAGE, type Page, type Sink } from './place.ts';
import { number, Progress } from './progress.ts';
import { keysOf, Survivors } from './survivors.ts';

const USAGE =
  'usage: holdfast bindings export|import [--store lmdb:DIRECTORY|redis[s]://...] [FILE] (- or none: standard output, input)';

export interface Surroundings {
  env: Record<string, string | undefined>;
  stdin: Readable;
  stdout: Writable;
  stderr: Writable & { isTTY?: boolean; columns?: number };
  /** aborted by SIGINT, SIGTERM, SIGHUP and an error of `stdout` */
  interrupt: AbortSignal;
}

/** Longer lines are none of ours: an AOR has some dozens of bindings of a few hundred octets. */
const LONGEST_LINE = 1 << 20;

type Persistent = Exclude<StoreConfig, { kind: 'memory' }>;

interface Task extends StoreSetting {
  store: Persistent;
  direction: 'export' | 'import';
  /** undefined: a standard stream */
  file: string | undefined;
}

class Usage extends Error {}

/** The exit code. */
export async function bindings(words: string[], around: Surroundings): Promise<number> {
  try {
    const task = taskOf(words, around.env);
    return await (task.direction === 'export' ? exportAll(task, around) : importAll(task, around));
  } catch (error) {
    around.stderr.write(`${(error as Error).message}\n`);
    return error instanceof Usage || error instanceof ConfigError || error instanceof KeyFault ? 2 : 1;
  }
}

function taskOf(words: string[], env: Surroundings['env']): Task {
  let given: { values: { store?: string }; positionals: string[] };
  try {
    given = parseArgs({ args: words, allowPositionals: true, options: { store: { type: 'string' } } });
  } catch (error) {
    throw new Usage(`${(error as Error).message}\n${USAGE}`);
  }
  const [direction, file, ...more] = given.positionals;
  if ((direction !== 'export' && direction !== 'import') || more.length > 0 || given.values.store === '')
    throw new Usage(USAGE);
  const { store, ...rest } = settings(env, given.values.store);
  if (store.kind === 'memory')
    throw new Usage('memory: there is nothing to move, its bindings live and end with their server');
  return { ...rest, store, direction, file: file === '-' ? undefined : file };
}

function settings(env: Surroundings['env'], store: string | undefined): StoreSetting {
  try {
    return loadStore(env, store);
  } catch (error) {
    // named as it was given
    if (store === undefined || !(error instanceof ConfigError)) throw error;
    throw new Usage(error.message.replace(/^HOLDFAST_STORE=/, '--store '));
  }
}

// ---- export

async function exportAll({ store, node, file }: Task, around: Surroundings): Promise<number> {
  const progress = new Progress(around.stderr, () => performance.now());
  const source = await openSource(store, node);
  const count = { aors: 0, bindings: 0 };
  let isWhole = false;

  async function* text(): AsyncGenerator<string> {
    progress.total = await source.size();
    const time = new Date().toISOString();
    yield formatHeader({ time, node, from: nameOf(store), aors: progress.total });
    for await (const page of source.pages(Date.now)) {
      // neither the store nor a reader who is quick lets a signal in
      await setImmediate();
      if (around.interrupt.aborted) return;
      let chunk = '';
      for (const [aor, list] of page) {
        if (list.length === 0) continue;
        chunk += formatAor(aor, list);
        count.aors++;
        count.bindings += list.length;
      }
      if (chunk !== '') yield chunk;
      progress.show(count.aors);
    }
    yield formatEnd(count.aors, count.bindings);
    isWhole = true;
  }

  const summary = () =>
    `${number(count.bindings)} bindings of ${number(count.aors)} addresses-of-record from ${nameOf(store)} in ${progress.seconds.toFixed(1)} s`;
  try {
    const part = file === undefined ? undefined : `${file}.part`;
    // tokens, and who is where: for its owner
    const out = part === undefined ? around.stdout : createWriteStream(part, { mode: 0o600, flush: true });
    await pipeline(Readable.from(text()), out);
    if (!isWhole) {
      progress.say(`interrupted: exported ${summary()}${part === undefined ? '' : `; they are in ${part}`}`);
      return 130;
    }
    if (part !== undefined && file !== undefined) renameSync(part, file);
    progress.say(`exported ${summary()}`);
    return 0;
  } catch (error) {
    // whoever read it has seen enough
    if (file === undefined && (error as NodeJS.ErrnoException).code === 'EPIPE') return 130;
    progress.say(`failed: ${(error as Error).message}\nexported ${summary()}`);
    return 1;
  } finally {
    await source.close();
  }
}

// ---- import

async function importAll(task: Task, around: Surroundings): Promise<number> {
  const { store, node, file } = task;
  const progress = new Progress(around.stderr, () => performance.now());
  const keyring = keysOf(task.keys, task.dataDir);
  const input = file === undefined ? around.stdin : createReadStream(file);
  addAbortSignal(around.interrupt, input);
  const numbered = lines(input, LONGEST_LINE);
  const census = new Census((line) => progress.say(line));
  let sink: Sink | undefined;
  let end: EndLine | undefined;
  let failure: string | undefined;
  try {
    const first = await numbered.next();
    const header = first.done ? 'the file is empty' : parseHeader(first.value.text ?? '');
    if (typeof header === 'string') throw new Error(header);
    if (header.aors !== undefined) progress.total = header.aors;
    sink = await openSink(store, node);
    const atWork = sink.atWork.bind(sink);
    const survivors = new Survivors({ node, keyring, atWork });
    end = await restoreAll(numbered, sink, survivors, census, progress);
  } catch (error) {
    failure = around.interrupt.aborted ? 'interrupted' : `failed: ${(error as Error).message}`;
  }
  try {
    await sink?.close();
  } catch (error) {
    failure ??= `failed: ${(error as Error).message}`;
  }
  if (failure === undefined) failure = census.missing(end);
  if (failure !== undefined) progress.say(failure);
  if (sink) progress.say(census.summary(nameOf(store), progress.seconds));
  if (around.interrupt.aborted) return 130;
  return failure !== undefined || census.malformed > 0 ? 1 : 0;
}

/** Page by page; the end of the file as it says itself, if it has come. */
async function restoreAll(
  numbered: AsyncGenerator<Line>,
  sink: Sink,
  survivors: Survivors,
  census: Census,
  progress: Progress,
): Promise<EndLine | undefined> {
  let page: Page = [];
  const flush = async (): Promise<void> => {
    if (page.length > 0) census.restored(page, await sink.restore(page, Date.now()));
    page = [];
    progress.show(census.aors);
  };
  for await (const { number: at, text } of numbered) {
    const line = text === undefined ? 'too long' : parseLine(text);
    if (typeof line === 'string') census.wrong(at, line);
    else if (line.kind === 'end') {
      await flush();
      return line;
    } else {
      const now = Date.now();
      const live = line.bindings.filter((binding) => binding.expiresAt > now);
      const reachable = [];
      for (const binding of live) if (await survivors.has(binding)) reachable.push(binding);
      census.read(line.bindings.length, live.length, reachable.length);
      // what registered last was given the highest order, and will be again
      if (reachable.length > 0) page.push([line.aor, reachable.sort((a, b) => a.order - b.order)]);
      if (page.length >= PAGE) await flush();
    }
  }
  await flush();
  return undefined;
}
