/**
 * `holdfast check EDGE-URI --aor SIP-URI [options]`: RFC 5626 as a user agent sees it of any edge, rule by rule
 * (rules.ts). It registers the AOR under instances of its own, calls it, and takes its bindings away again; other
 * bindings of the AOR are left alone, and get the calls too.
 *
 * Exit codes: 0 no rule failed; 1 one did, or the edge is not reached; 2 wrong usage, nothing was sent; 130 interrupted.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { parseArgs } from 'node:util';
import { accessOf, fromWords, taskFrom, Usage } from '../ua/commandline.ts';
import type { Locate } from '../ua/locating.ts';
import { checkOptions, type Settings } from '../ua/options.ts';
import { parseSipUri, type SipUri } from '../wire/uri.ts';
import { heading, json, line, summary } from './report.ts';
import { Failed, type Finding, type Rule } from './rule.ts';
import { examine, RULES } from './rules.ts';
import { type Subject, Trial } from './trial.ts';

const USAGE = `usage: holdfast check EDGE-URI --aor SIP-URI [--password-file FILE] [--timeout SECONDS] [--ca FILE]
                      [--rules ID,ID...] [--slow] [--json]
`;

export interface Surroundings {
  stdout: Writable;
  stderr: Writable;
  locate: Locate;
  /** aborted by SIGINT, SIGTERM, SIGHUP, and when nobody reads the output any more */
  interrupt: AbortSignal;
}

/** 4.4.1 gives a pong that long; an answer to REGISTER should not take longer. */
const PATIENCE_S = 10;
const MOST_PATIENCE_S = 600;
/** seconds to bind for: past any Flow-Timer that is in use, and soon over if nobody takes the binding away */
const EXPIRES_S = 600;

interface Task {
  settings: Settings;
  edge: string;
  uri: SipUri;
  patience: number;
  rules: readonly Rule[];
  slow: boolean;
  json: boolean;
}

/** The exit code. */
export async function check(words: string[], around: Surroundings): Promise<number> {
  const task = taskFrom(() => taskOf(words, around.locate), USAGE, around.stderr);
  if (!task) return 2;
  const { edge, settings } = task;
  const { interrupt } = around;
  const subject = await Promise.race([reach(task, interrupt), once(interrupt, 'abort')]);
  if (interrupt.aborted || Array.isArray(subject)) return 130; // nothing is bound yet
  if (typeof subject === 'string') {
    around.stderr.write(`${edge} is not reached: ${subject}\n`);
    return 1;
  }
  const findings: Finding[] = [];
  if (!task.json) around.stdout.write(`${edge}, ${settings.aor}\n${heading()}`);
  for await (const finding of examine(subject, task.rules, task.slow, interrupt)) {
    findings.push(finding);
    if (!task.json) around.stdout.write(line(finding));
  }
  around.stdout.write(task.json ? json(edge, settings.aor, findings) : summary(findings));
  if (interrupt.aborted) return 130;
  return findings.some(({ verdict }) => verdict === 'fail') ? 1 : 0;
}

function taskOf(words: string[], locate: Locate): Task {
  const { values, positionals } = argumentsOf(words);
  const [edge, ...more] = positionals;
  if (edge === undefined || more.length > 0 || values.aor === undefined)
    throw new Usage('one edge and one AOR are needed');
  const uri = parseSipUri(edge);
  if (!uri) throw new Usage(`${JSON.stringify(edge)} is no SIP URI`);
  const seconds = Number(values.timeout ?? PATIENCE_S);
  if (!(seconds >= 0.1 && seconds <= MOST_PATIENCE_S)) throw new Usage(`--timeout ${values.timeout}`);
  const settings = checkOptions({
    aor: values.aor,
    proxies: [edge],
    instanceId: `urn:uuid:${randomUUID()}`,
    locate,
    ...accessOf(values['password-file'], values.ca),
  });
  return {
    settings,
    edge,
    uri,
    patience: seconds * 1000,
    rules: rulesOf(values.rules),
    slow: values.slow ?? false,
    json: values.json ?? false,
  };
}

const argumentsOf = (words: string[]) =>
  fromWords(() =>
    parseArgs({
      args: words,
      allowPositionals: true,
      options: {
        aor: { type: 'string' },
        'password-file': { type: 'string' },
        timeout: { type: 'string' },
        ca: { type: 'string' },
        rules: { type: 'string' },
        slow: { type: 'boolean' },
        json: { type: 'boolean' },
      },
    }),
  );

function rulesOf(list: string | undefined): readonly Rule[] {
  if (list === undefined) return RULES;
  const wanted = list.split(',').map((id) => id.trim());
  const unknown = wanted.filter((id) => !RULES.some((rule) => rule.id === id));
  if (unknown.length > 0)
    throw new Usage(`no rule ${unknown.join(', ')}; there are ${RULES.map(({ id }) => id).join(', ')}`);
  return RULES.filter(({ id }) => wanted.includes(id));
}

/** The first address of the edge from which a REGISTER is answered at all; what went wrong if none does. */
async function reach(
  { settings, edge, uri, patience }: Task,
  interrupt: AbortSignal,
): Promise<Subject | string> {
  const { targets, failure } = await settings.locate(uri, Object.keys(settings.dials).map(Number));
  let wrong: string = failure || 'no address';
  for (const target of targets) {
    if (interrupt.aborted) break;
    const subject: Subject = {
      settings,
      edge,
      domain: uri.host,
      target,
      patience,
      user: `check-${randomBytes(5).toString('hex')}`,
      expires: EXPIRES_S,
    };
    const trial = new Trial(subject, AbortSignal.any([interrupt, AbortSignal.timeout(2 * patience)]));
    try {
      await trial.ask(await trial.flow());
      return subject;
    } catch (error) {
      if (!(error instanceof Failed)) throw error;
      wrong = error.message;
    } finally {
      await trial.end();
    }
  }
  return wrong;
}
