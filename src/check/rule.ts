/**
 * What a rule of the examination is: one entry of a table, with the sentence of the RFC that it stands for and a
 * function that looks. The function returns what it saw, and that is a pass; everything else it throws: `Failed` with
 * what was seen instead, `NotApplicable` with why there was nothing to see.
 *
 * A rule is asked over a trial of its own (trial.ts), so none can see what another left behind.
 */
import type { Trial } from './trial.ts';

/** How the RFC words it (RFC 2119). `rule`: a statement without a keyword that peers rely on. */
export type Level = 'MUST' | 'SHOULD' | 'MAY' | 'rule';

export interface Rule {
  /** of docs/conformance.md where that has a row for it */
  id: string;
  /** RFC and section */
  rfc: string;
  level: Level;
  title: string;
  /** where it can be seen: on UDP, on TCP, on TCP and TLS, on all connections; default everywhere */
  over?: 'datagrams' | 'tcp' | 'streams' | 'connections';
  /** takes minutes */
  slow?: true;
  examine: (trial: Trial) => Promise<string>;
}

export class Failed extends Error {}
export class NotApplicable extends Error {}

export type Verdict = 'pass' | 'fail' | 'not applicable';

export interface Finding {
  rule: Rule;
  verdict: Verdict;
  seen: string;
}

/** Its rest is not looked at when this does not hold. */
export function expect(holds: boolean, seen: string): asserts holds {
  if (!holds) throw new Failed(seen);
}
