/**
 * `holdfast check` against Kamailio as edge and as core, and against this edge before a Kamailio core. What fails there
 * is pinned, by rule: a list that grows is a mistake of the check or of a new version, and README.md tells what it says.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../harness/command.ts';
import { Holdfast } from '../harness/holdfast.ts';
import { Kamailio } from './kamailio.ts';
import { find } from './program.ts';

interface Report {
  results: { rule: string; result: 'pass' | 'fail' | 'not applicable'; seen: string }[];
}

/** Of the registrar and the authoritative proxy, whoever is the edge. */
const CORE = ['RG-6-08', 'RG-6-09', 'GR-10-01', 'RG-6-11', 'RG-6-26', 'RG-6-30'];

async function failing(edge: { host: string; port: number }, transport: string, domain: string) {
  const uri = `sip:${edge.host}:${edge.port};transport=${transport}`;
  const { stdout, stderr } = await run(['check', uri, '--aor', `sip:dora@${domain}`, '--json']);
  if (stdout === '') throw new Error(stderr);
  const { results } = JSON.parse(stdout) as Report;
  const seen = new Map(results.map((result) => [result.rule, result.seen]));
  return { rules: results.filter(({ result }) => result === 'fail').map(({ rule }) => rule), seen, results };
}

describe.skipIf(!find('kamailio'))('the examination', () => {
  let core: Kamailio;
  beforeAll(async () => {
    core = await Kamailio.core({ flows: true });
  });
  afterAll(() => core?.stop());

  describe('of a Kamailio edge before a Kamailio core', () => {
    let edge: Kamailio;
    beforeAll(async () => {
      edge = await Kamailio.edge(core);
    });
    afterAll(() => edge?.stop());

    it('over UDP fails by what STUN and the registrar do', async () => {
      const { rules, seen } = await failing(edge, 'udp', core.host);
      expect(rules).toEqual(['EP-5.4-06', ...CORE, 'ST-5389-06', '5389-7.3.2']);
      // its UNKNOWN-ATTRIBUTES says another length than it has
      expect(seen.get('ST-5389-06')).toBe('the answer is no error response that can be read');
      expect(seen.get('5389-7.3.2')).toBe('answered with type 0x0111');
    });

    it('over TCP fails by a flow that is an address pair, and by 430 to the caller', async () => {
      const { rules, seen } = await failing(edge, 'tcp', core.host);
      expect(rules).toEqual(['EP-5.4-06', ...CORE, 'AP-7-11', 'EP-3.4-01']);
      expect(seen.get('EP-3.4-01')).toBe('it came down the new connection');
      expect(seen.get('AP-7-11')).toBe('430 Flow Failed');
    });
  });

  describe('of this edge before a Kamailio core', () => {
    let edge: Holdfast;
    beforeAll(async () => {
      edge = await Holdfast.start({
        settings: { UPSTREAM: `sip:${core.host}:${core.port};transport=udp` },
      });
    });
    afterAll(() => edge?.stop());

    it.each(['udp', 'tcp'])('over %s fails by what the core does alone', async (transport) => {
      const { rules } = await failing(edge, transport, core.host);
      expect(rules).toEqual([...CORE, 'AP-7-11']);
    });
  });
});
