/**
 * The rules in the order in which they are looked at, and the walk through them: one after the other, each with a trial
 * and a deadline of its own. A rule that hangs, or breaks, fails and keeps no other from its turn.
 */
import { TCP, UDP, WS } from '../wire/via.ts';
import { BINDINGS } from './bindings.ts';
import { DIALOGS } from './dialogs.ts';
import { KEEP_ALIVES } from './keepalive.ts';
import { REACHING } from './reaching.ts';
import { REGISTERING } from './registering.ts';
import { Failed, type Finding, NotApplicable, type Rule } from './rule.ts';
import { STUN } from './stun.ts';
import { type Subject, Trial } from './trial.ts';

export const RULES: readonly Rule[] = [
  ...REGISTERING,
  ...BINDINGS,
  ...KEEP_ALIVES,
  ...STUN,
  ...REACHING,
  ...DIALOGS,
];

/** A rule has some three answers to wait for, and one that misses the last of them should still say which. */
const PATIENCES = 4;
/** Flow-Timer as a rule is minutes. */
const SLOW_MS = 30 * 60_000;

const WHERE = {
  datagrams: 'over UDP only',
  tcp: 'over TCP only',
  streams: 'over TCP and TLS only',
  connections: 'not over UDP',
};

function isSeenOver({ over }: Rule, transport: number): boolean {
  if (over === undefined) return true;
  if (over === 'datagrams') return transport === UDP;
  if (over === 'tcp') return transport === TCP;
  return transport !== UDP && (over === 'connections' || transport < WS);
}

/** Why it is not even tried. */
function reasonAgainst(rule: Rule, subject: Subject, slow: boolean): string | undefined {
  if (rule.over !== undefined && !isSeenOver(rule, subject.target.transport)) return WHERE[rule.over];
  return rule.slow && !slow ? 'takes as long as Flow-Timer: with --slow' : undefined;
}

/** `interrupt` ends it: nothing is said of the rule at work, whose bindings are taken away. */
export async function* examine(
  subject: Subject,
  rules: readonly Rule[],
  slow: boolean,
  interrupt: AbortSignal,
): AsyncGenerator<Finding> {
  for (const rule of rules) {
    if (interrupt.aborted) return;
    const against = reasonAgainst(rule, subject, slow);
    const finding: Finding | undefined =
      against === undefined
        ? await look(rule, subject, interrupt)
        : { rule, verdict: 'not applicable', seen: against };
    if (finding) yield finding;
  }
}

/** Undefined: interrupted before it was done. */
async function look(rule: Rule, subject: Subject, interrupt: AbortSignal): Promise<Finding | undefined> {
  const ms = PATIENCES * subject.patience + (rule.slow ? SLOW_MS : 0);
  const stop = new AbortController();
  const trial = new Trial(subject, stop.signal);
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Failed(`not done in ${ms / 1000} s`)), ms);
  const interrupted = () => late.reject(new Failed('interrupted'));
  interrupt.addEventListener('abort', interrupted, { once: true });
  try {
    return { rule, verdict: 'pass', seen: await Promise.race([rule.examine(trial), late.promise]) };
  } catch (error) {
    if (interrupt.aborted) return undefined;
    const { message } = error as Error;
    if (error instanceof NotApplicable) return { rule, verdict: 'not applicable', seen: message };
    return { rule, verdict: 'fail', seen: error instanceof Failed ? message : `the check broke: ${message}` };
  } finally {
    clearTimeout(timer);
    interrupt.removeEventListener('abort', interrupted);
    stop.abort();
    await trial.end();
  }
}
