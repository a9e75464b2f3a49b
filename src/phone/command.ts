/**
 * `holdfast ua --aor SIP-URI --proxy URI ... [options]`: a user agent at a terminal. It registers over a flow to each
 * proxy and shows what becomes of them; MESSAGEs that come are printed and answered 200, a line `sip:WHO TEXT` sends
 * one. There is no media: an INVITE is answered 488. It goes on until it is interrupted, and then takes its bindings
 * away.
 *
 * With --to and --message it sends one MESSAGE instead. Exit codes: 0 done, with a message: it was answered 2xx; 1 it
 * was not, or no proxy took the registration; 2 wrong usage.
 *
 * Without --data its instance-id is new each time: what a crash leaves bound stays so until it expires.
 */
import { randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';
import { printable } from '../observe/printable.ts';
import { UserAgent } from '../ua/agent.ts';
import { accessOf, fromWords, taskFrom, Usage } from '../ua/commandline.ts';
import { UserAgentError } from '../ua/errors.ts';
import type { Incoming } from '../ua/incoming.ts';
import type { Locate } from '../ua/locating.ts';
import type { IncomingRequest } from '../ua/request.ts';
import { parseNameAddr } from '../wire/nameaddr.ts';
import { parseSipUri } from '../wire/uri.ts';
import { type Input, type Output, Screen } from './screen.ts';
import { Status } from './status.ts';

const USAGE = `usage: holdfast ua --aor SIP-URI --proxy URI [--proxy URI]... [--password-file FILE] [--data DIRECTORY]
                   [--ca FILE] [--to SIP-URI --message TEXT]
`;

export interface Surroundings {
  stdin: Input;
  stdout: Output;
  stderr: Output;
  locate: Locate;
  /** aborted by SIGINT, SIGTERM, SIGHUP and an error of `stdout` */
  interrupt: AbortSignal;
  /** SIGINT to ourselves: what a terminal makes of ^C unless it is in raw mode */
  sendInterrupt: () => void;
}

const REDRAW_MS = 1_000;
/** for the proxies to take the bindings away; over UDP room for three repetitions */
const STOP_MS = 4_000;

interface Task {
  agent: UserAgent;
  aor: string;
  proxies: readonly string[];
  /** undefined: until it is interrupted */
  message: { to: string; text: string } | undefined;
}

/** The exit code. */
export async function phone(words: string[], around: Surroundings): Promise<number> {
  const task = taskFrom(() => taskOf(words, around.locate), USAGE, around.stderr);
  if (!task) return 2;
  return task.message ? await sendOne(task, task.message, around) : await stay(task, around);
}

function taskOf(words: string[], locate: Locate): Task {
  const values = optionsOf(words);
  const { aor, proxy = [], data, to, message } = values;
  if (aor === undefined || proxy.length === 0) throw new Usage('an AOR and a proxy are needed');
  if ((to === undefined) !== (message === undefined)) throw new Usage('--to and --message go together');
  if (to !== undefined && !parseSipUri(to)) throw new Usage(`${JSON.stringify(to)} is no SIP URI`);
  const agent = new UserAgent({
    aor,
    proxies: proxy,
    locate,
    ...(data === undefined ? { instanceId: `urn:uuid:${randomUUID()}` } : { dataDir: data }),
    ...accessOf(values['password-file'], values.ca),
  });
  return {
    agent,
    aor,
    proxies: proxy,
    message: to === undefined || message === undefined ? undefined : { to, text: message },
  };
}

const optionsOf = (words: string[]) =>
  fromWords(() =>
    parseArgs({
      args: words,
      options: {
        aor: { type: 'string' },
        proxy: { type: 'string', multiple: true },
        'password-file': { type: 'string' },
        data: { type: 'string' },
        ca: { type: 'string' },
        to: { type: 'string' },
        message: { type: 'string' },
      },
    }),
  ).values;

/** Who waits for a result does not wait 32 s more for a proxy that is silent. */
async function end(agent: UserAgent): Promise<void> {
  const late = setTimeout(() => agent.stop({ remove: false }), STOP_MS);
  await agent.stop();
  clearTimeout(late);
}

const answerText = ({ status, reason }: Incoming): string => printable(`${status} ${reason}`.trim());

async function sendOne(
  { agent, proxies }: Task,
  { to, text }: { to: string; text: string },
  { stdout, stderr, interrupt }: Surroundings,
): Promise<number> {
  // it would go on trying for ever: here one attempt through each proxy is enough
  const given = new AbortController();
  const failed = new Set<string>();
  const status = new Status(proxies);
  agent.on('flow', (event) => {
    if (event.state !== 'failed') return;
    stderr.write(`${status.flow(event, performance.now()).replace(/, next attempt.*/, '')}\n`);
    if (failed.add(event.uri).size === proxies.length) given.abort();
  });
  try {
    await agent.start({ signal: AbortSignal.any([given.signal, interrupt]) });
    const answer = await agent.request('MESSAGE', to, { body: text, signal: interrupt });
    stdout.write(`${to}: ${answerText(answer)}\n`);
    return answer.status < 300 ? 0 : 1;
  } catch (error) {
    if (!(error instanceof UserAgentError)) throw error;
    stderr.write(`${to}: ${error.message}\n`);
    return 1;
  } finally {
    await end(agent);
  }
}

async function stay({ agent, aor, proxies }: Task, around: Surroundings): Promise<number> {
  const status = new Status(proxies);
  const { interrupt } = around;
  let sending: Promise<void> = Promise.resolve();
  const screen = new Screen(around.stdin, around.stdout, {
    // one after the other, so that they arrive in the order in which they were typed
    onLine: (line) => {
      sending = sending.then(() => sendLine(line, agent, screen));
    },
    onInterrupt: around.sendInterrupt,
  });
  const block = () => status.lines(performance.now());
  const redraw = () => screen.show(block());
  agent.on('flow', (event) => {
    screen.say(status.flow(event, performance.now()), block());
  });
  agent.on('keepAlive', (event) => {
    const line = status.keepAlive(event, performance.now());
    if (line !== undefined && !screen.isLive) screen.say(line);
    redraw();
  });
  screen.say(`${aor}, ${agent.instance}`);
  const timer = setInterval(redraw, REDRAW_MS);
  void answer(agent, screen);
  agent.start().catch(() => {}); // it ends with `stop` alone
  if (!interrupt.aborted)
    await new Promise((resolve) => interrupt.addEventListener('abort', resolve, { once: true }));
  clearInterval(timer);
  screen.close();
  await end(agent);
  around.stdout.write('unregistered\n');
  return 0;
}

async function sendLine(line: string, agent: UserAgent, screen: Screen): Promise<void> {
  const [, to, text] = /^\s*(\S+)\s+(.*\S)\s*$/.exec(line) ?? [];
  if (line.trim() === '') return;
  if (to === undefined || text === undefined || !parseSipUri(to)) {
    screen.say('to send a message: sip:WHO TEXT');
    return;
  }
  try {
    screen.say(`to ${to}: ${answerText(await agent.request('MESSAGE', to, { body: text }))}`);
  } catch (error) {
    screen.say(`to ${to}: ${(error as Error).message}`);
  }
}

async function answer(agent: UserAgent, screen: Screen): Promise<void> {
  for await (const request of agent.requests()) {
    const { method } = request;
    const from = printable(parseNameAddr(request.header('from') ?? '')?.uri ?? 'somebody');
    if (method === 'MESSAGE') screen.say(`from ${from}: ${printable(request.text)}`);
    else if (method !== 'OPTIONS') screen.say(`from ${from}: ${printable(method)}, refused`);
    request.respond(statusFor(request));
  }
}

function statusFor({ method }: IncomingRequest): number {
  if (method === 'MESSAGE' || method === 'OPTIONS') return 200;
  return method === 'INVITE' ? 488 : 405;
}
