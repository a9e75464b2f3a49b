/** What a peer said, on its way through a report of `holdfast check`. */
import { describe, expect, it } from 'vitest';
import { json, line } from '../../src/check/report.ts';
import type { Finding } from '../../src/check/rule.ts';
import { RULES } from '../../src/check/rules.ts';

describe('the report of a check', () => {
  it.each([
    ['line', line],
    ['JSON', (finding: Finding) => json('sip:edge.test', 'sip:dora@example.test', [finding])],
  ])('has no control characters of the peer, nor what turns text around: %s', (_form, report) => {
    const [rule] = RULES;
    const text = report({ rule, verdict: 'fail', seen: '500 a\u009b2Jb\u202ec\u001bd' });
    expect(text).toContain('500 a 2Jb c d');
    expect(text.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  });
});
