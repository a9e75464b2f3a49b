/** What the examination says of edges that are wrong in one thing, and of one that is not. */
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, it } from 'vitest';
import { check } from '../../src/check/command.ts';
import { numericOnly } from '../../src/ua/locating.ts';
import { freePort, freshHost } from '../harness/ports.ts';
import { unique } from '../harness/sip.ts';
import { type Manners, SmallEdge } from './small-edge.ts';

interface Report {
  passed: number;
  failed: number;
  results: { rule: string; result: string; seen: string }[];
}

let edge: SmallEdge | undefined;
afterEach(async () => {
  await edge?.close();
  edge = undefined;
});

async function run(
  words: string[],
  interrupt = new AbortController().signal,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const printed = Promise.all([text(stdout), text(stderr)]);
  const code = await check(words, { stdout, stderr, locate: numericOnly, interrupt });
  stdout.end();
  stderr.end();
  const [out, err] = await printed;
  return { code, stdout: out, stderr: err };
}

/** The exit code and the report. */
async function examined(words: string[]): Promise<{ code: number; report: Report }> {
  const { code, stdout } = await run(words);
  return { code, report: JSON.parse(stdout) as Report };
}

const AOR = ['--aor', 'sip:dora@example.test', '--json'];

/** Rules that such an edge can pass: it has no dialogs, and does not see the end of a flow. */
const ABLE = [
  ...['RG-6-18', 'RG-6-17', 'EP-5.1-08', 'EP-5.4-06', '6223-4.4-01', '3581-4-01', 'RG-6-28', 'RG-6-16'],
  ...['RG-6-26', 'RG-6-13', 'RG-6-08', 'RG-6-09', 'RG-6-19', 'GR-10-01', 'RG-6-11', 'RG-6-30', 'RG-6-32'],
  ...['EP-5.4-02', 'EP-5.4-04', 'EP-5.4-03a', 'EP-5.4-03b', '3261-7.5-01'],
  ...['ST-8-04', 'ST-5389-06', 'ST-5389-05', '5389-7.3.2'],
  ...['EP-5.3.1-03', 'AP-7-01', 'AP-7-03'],
].join(',');

describe.each(['udp', 'tcp'] as const)('a well-mannered edge over %s', (transport) => {
  it('passes, and no binding stays behind', async () => {
    edge = await SmallEdge.open(transport);
    const { code, report } = await examined([edge.uri, ...AOR, '--rules', ABLE]);
    expect(report.results.filter(({ result }) => result === 'fail')).toEqual([]);
    expect(report.passed).toBe(transport === 'udp' ? 24 : 25);
    expect(code).toBe(0);
    expect(edge.bound).toBe(0);
  });
});

const oldest: Manners['reached'] = (newestFirst) => newestFirst.slice(-1);

type Case = [wrong: string, 'udp' | 'tcp', Partial<Manners>, rule: string, seen: RegExp, seconds?: string];

/** Patience where what is seen is that nothing comes. The others wait for it only on a machine that stands still. */
const SHORT = '0.5';
const LONG = '5';

const CASES: Case[] = [
  ['answers no ping', 'tcp', { pongs: 0 }, 'EP-5.4-02', /^0 pongs in 0.5 s$/, SHORT],
  ['answers a ping by a ping', 'tcp', { pongs: 2 }, 'EP-5.4-02', /^2 pongs$/],
  ['answers each CRLF', 'tcp', { crlfs: 1 }, '3261-7.5-01', /^1 pong$/],
  ['answers two pings once', 'tcp', { crlfs: 4 }, 'EP-5.4-04', /^1 pong in/, SHORT],
  ['has no Flow-Timer', 'tcp', { flowTimer: [] }, 'EP-5.4-06', /^no Flow-Timer/],
  ['has a Flow-Timer with a unit', 'tcp', { flowTimer: ['120 s'] }, 'EP-5.4-06', /^Flow-Timer: 120 s$/],
  ['has two Flow-Timers', 'tcp', { flowTimer: ['120', '60'] }, 'EP-5.4-06', /^2 Flow-Timer/],
  ['has Flow-Timer 0', 'tcp', { flowTimer: ['0'] }, 'EP-5.4-06', /^Flow-Timer: 0$/],
  ['has another keep than Flow-Timer', 'tcp', { keep: '30' }, '6223-4.4-01', /^keep=30, Flow-Timer: 120$/],
  ['answers without outbound', 'tcp', { outbound: false }, 'RG-6-18', /^200 OK without outbound/],
  ['has a Path without ob', 'udp', { path: '<sip:TOKEN@edge.test;lr>' }, 'EP-5.1-08', /^no ob/],
  ['has a Path without a token', 'udp', { path: '<sip:edge.test;lr;ob>' }, 'EP-5.1-08', /^no token/],
  ['has one Path for all', 'udp', {}, 'EP-5.1-06', /^both have </],
  ['leaves rport empty', 'udp', { rport: false }, '3581-4-01', /^rport has no value$/],
  ['has one binding a device', 'udp', { key: (i) => i }, 'RG-6-28', /^reg-id 2 at [\d.:]+$/],
  ['keys by Contact', 'udp', { key: (_i, _r, uri) => uri }, 'RG-6-16', /^reg-id 1 at .*, reg-id 1 at/],
  ['compares letter case', 'udp', { key: (i, r) => `${i} ${r}` }, 'RG-6-26', /^reg-id 1 at .*, reg-id 1 at/],
  ['takes reg-id 0', 'udp', { regIdZero: true }, 'GR-10-01', /^reg-id 0 is answered with Require/],
  ['takes an old CSeq', 'udp', { lowCseq: true }, 'RG-6-30', /^200 OK, and bound is/],
  ['has no STUN', 'udp', { mapped: () => undefined }, 'ST-8-04', /^no answer in 0.5 s$/, SHORT],
  ['maps another port', 'udp', { mapped: () => 9 }, 'ST-8-04', /:9, but SIP came from/],
  [
    'does not mind unknown attributes',
    'udp',
    { unknownRequired: 'ignored' },
    'ST-5389-06',
    /no error response/,
  ],
  ['answers indications', 'udp', { indications: 'answered' }, '5389-7.3.2', /^answered with type 0x0101$/],
  ['reaches every flow', 'tcp', { reached: (all) => all }, 'AP-7-01', /^at another flow too$/],
  [
    'reaches the first flow',
    'tcp',
    { key: () => unique('k'), reached: oldest },
    'RG-6-22',
    /^at the old flow$/,
  ],
  ['does not see a flow end', 'tcp', {}, 'AP-7-02', /^no answer to MESSAGE in 0.5 s$/, SHORT],
  ['tries on after 486', 'tcp', { reached: (all) => all, insists: true }, 'AP-7-03', /^486 from 2 flows$/],
  ['reaches nobody', 'tcp', { reached: () => [] }, 'EP-5.3.1-03', /^at none: the caller is answered 480/],
];

describe('an edge that is wrong in one thing fails by the rule about it', () => {
  it.each(CASES)('%s', async (_wrong, transport, manners, rule, seen, seconds = LONG) => {
    edge = await SmallEdge.open(transport, manners);
    const { code, report } = await examined([edge.uri, ...AOR, '--rules', rule, '--timeout', seconds]);
    expect(report.results).toMatchObject([{ rule, result: 'fail' }]);
    expect(report.results[0].seen).toMatch(seen);
    expect(code).toBe(1);
  });
});

describe('an edge that falls silent', () => {
  it('fails by that rule alone; the next is examined', async () => {
    edge = await SmallEdge.open('tcp', { silentTo: (message) => /reg-id=0/.test(`${message}`) });
    const rules = 'RG-6-19,GR-10-01,RG-6-11,EP-5.4-02';
    const { report } = await examined([edge.uri, ...AOR, '--rules', rules, '--timeout', '2']);
    expect(report.results.map(({ rule, result }) => [rule, result])).toEqual([
      ['RG-6-19', 'pass'],
      ['GR-10-01', 'fail'],
      ['RG-6-11', 'pass'],
      ['EP-5.4-02', 'pass'],
    ]);
    expect(report.results[1].seen).toBe('no answer to REGISTER in 2 s');
  });

  it('is examined no further where a registration is what a rule begins with', async () => {
    edge = await SmallEdge.open('tcp', { outbound: false });
    const { report } = await examined([edge.uri, ...AOR, '--rules', 'RG-6-28,AP-7-01']);
    expect(report.results.map(({ result, seen }) => [result, seen])).toEqual([
      ['not applicable', 'no registration with outbound'],
      ['not applicable', 'no registration with outbound'],
    ]);
  });
});

describe('an edge that is not there', () => {
  it.each([
    ['udp', /is not reached: no answer to REGISTER: the flow was closed \(icmp\)|no answer/],
    ['tcp', /is not reached: no connection: refused/],
    ['tls', /is not reached: no connection: refused/],
  ])('over %s: is said to be not reached', async (transport, says) => {
    const host = freshHost();
    const uri = `sip:${host}:${await freePort(host)};transport=${transport}`;
    const { code, stdout, stderr } = await run([uri, ...AOR, '--timeout', '3']);
    expect(stderr).toMatch(says);
    expect([code, stdout]).toEqual([1, '']);
  });

  it.each(['udp', 'tcp'] as const)(
    'over %s: and says nothing, an interrupt ends the wait',
    async (transport) => {
      const interrupt = new AbortController();
      const silentTo = () => {
        interrupt.abort();
        return true;
      };
      edge = await SmallEdge.open(transport, { silentTo });
      const ended = await run([edge.uri, ...AOR, '--timeout', '600'], interrupt.signal);
      expect(ended).toEqual({ code: 130, stdout: '', stderr: '' });
    },
  );

  it('has a name that leads nowhere', async () => {
    const { code, stderr } = await run(['sip:edge.invalid;transport=tcp', ...AOR]);
    expect([code, stderr]).toEqual([1, 'sip:edge.invalid;transport=tcp is not reached: no-answer\n']);
  });
});

describe('wrong usage ends with code 2 and says what is right', () => {
  const edgeUri = 'sip:127.0.0.1:9';
  const aor = ['--aor', 'sip:dora@example.test'];
  it.each([
    [[], 'one edge and one AOR are needed'],
    [[edgeUri], 'one edge and one AOR are needed'],
    [['http://x', ...aor], '"http://x" is no SIP URI'],
    [[edgeUri, 'sip:b', ...aor], 'one edge and one AOR are needed'],
    [[edgeUri, '--aor', 'dora'], 'aor is "dora"'],
    [[edgeUri, ...aor, '--timeout', 'soon'], '--timeout soon'],
    [[edgeUri, ...aor, '--password-file', '/nonexistent/file'], 'ENOENT'],
    [[edgeUri, ...aor, '--rules', 'RG-0'], 'no rule RG-0; there are RG-6-18, '],
    [[edgeUri, ...aor, '--fast'], "Unknown option '--fast'"],
  ])('%j', async (words, says) => {
    const { code, stderr } = await run(words);
    expect(stderr).toContain(says);
    expect(stderr).toContain('usage: holdfast check EDGE-URI --aor SIP-URI');
    expect(code).toBe(2);
  });
});
