/** What is printed: a line for each rule as it comes, and the sum; or all of it as one JSON object at the end. */
import { printable } from '../observe/printable.ts';
import type { Finding, Level, Verdict } from './rule.ts';

const WORDS: Record<Verdict, string> = { pass: 'pass', fail: 'FAIL', 'not applicable': 'n/a' };
const COLUMNS = [12, 16, 7, 5] as const;

function row(cells: readonly string[], last: string): string {
  return `${cells.map((cell, i) => cell.padEnd(COLUMNS[i])).join(' ')} ${last}\n`;
}

export const heading = (): string => row(['rule', 'RFC', 'level', ''], 'what was looked at: what was seen');

export const line = ({ rule, verdict, seen }: Finding): string =>
  row([rule.id, rule.rfc, rule.level, WORDS[verdict]], `${rule.title}: ${printable(seen)}`);

export interface Sum {
  passed: number;
  failed: number;
  notApplicable: number;
}

export const sumOf = (findings: readonly Finding[]): Sum => ({
  passed: findings.filter(({ verdict }) => verdict === 'pass').length,
  failed: findings.filter(({ verdict }) => verdict === 'fail').length,
  notApplicable: findings.filter(({ verdict }) => verdict === 'not applicable').length,
});

export function summary(findings: readonly Finding[]): string {
  const { passed, failed, notApplicable } = sumOf(findings);
  const levels: Level[] = ['MUST', 'SHOULD', 'MAY', 'rule'];
  const parts = levels
    .map(
      (level) =>
        [level, findings.filter((f) => f.verdict === 'fail' && f.rule.level === level).length] as const,
    )
    .filter(([, count]) => count > 0)
    .map(([level, count]) => `${count} ${level}`);
  return `${passed} passed, ${failed} failed${parts.length > 0 ? ` (${parts.join(', ')})` : ''}, ${notApplicable} not applicable\n`;
}

export function json(edge: string, aor: string, findings: readonly Finding[]): string {
  const results = findings.map(({ rule: { id, rfc, level, title }, verdict, seen }) => ({
    rule: id,
    rfc,
    level,
    title,
    result: verdict,
    seen: printable(seen), // JSON leaves C1 controls and what turns a line around as they are
  }));
  return `${JSON.stringify({ edge, aor, ...sumOf(findings), results }, undefined, 2)}\n`;
}
