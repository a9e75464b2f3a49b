/**
 * The messages of RFC 4475 and RFC 5118 as datagrams from a client: what the lexer says of each, and
 * what this proxy does with it. What is not a proxy's to judge (SDP, Date, Contact, unbalanced quotes in
 * To) goes through untouched (RFC 3261 16.3: parts not needed are not validated).
 */
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  BAD_CONTENT_LENGTH,
  BAD_CSEQ,
  BAD_START_LINE,
  BAD_VERSION,
  DUPLICATE_HEADER,
  Message,
  MISSING_HEADER,
  OK,
} from '../../src/wire/lexer.ts';
import { Rig, status } from './rig.ts';

const folder = new URL('../torture/', import.meta.url);
const FORWARDED = 0;
const DROPPED = -1;

const RFC4475: Record<string, [verdict: number, outcome: number]> = {
  // 3.1.1: valid
  'wsinv.dat': [OK, 403], // valid, but its Route leads a stranger to another host
  'intmeth.dat': [OK, FORWARDED],
  'esc01.dat': [OK, FORWARDED],
  'escnull.dat': [OK, FORWARDED],
  'esc02.dat': [OK, FORWARDED],
  'lwsdisp.dat': [OK, FORWARDED],
  'longreq.dat': [OK, FORWARDED],
  'dblreq.dat': [OK, FORWARDED],
  'semiuri.dat': [OK, FORWARDED],
  'transports.dat': [OK, FORWARDED],
  'mpart01.dat': [OK, 403], // the same
  // responses to nothing that we sent are dropped whatever their form
  'unreason.dat': [OK, DROPPED],
  'noreason.dat': [OK, DROPPED],
  // 3.1.2: invalid
  'badinv01.dat': [OK, 400],
  'clerr.dat': [BAD_CONTENT_LENGTH, 400],
  'ncl.dat': [BAD_CONTENT_LENGTH, 400],
  'scalar02.dat': [BAD_CSEQ, 400],
  'scalarlg.dat': [BAD_CSEQ, DROPPED],
  'quotbal.dat': [OK, FORWARDED],
  'ltgtruri.dat': [OK, 400],
  'lwsruri.dat': [BAD_START_LINE, 400],
  'lwsstart.dat': [BAD_START_LINE, 400],
  'trws.dat': [BAD_START_LINE, 400],
  'escruri.dat': [OK, 400],
  'baddate.dat': [OK, FORWARDED],
  'regbadct.dat': [OK, FORWARDED],
  'badaspec.dat': [OK, FORWARDED],
  'baddn.dat': [OK, FORWARDED],
  'badvers.dat': [BAD_VERSION, 505],
  'mismatch01.dat': [BAD_CSEQ, 400],
  'mismatch02.dat': [BAD_CSEQ, 400],
  'bigcode.dat': [BAD_START_LINE, DROPPED],
  // 3.2: transaction layer
  'badbranch.dat': [OK, FORWARDED],
  // 3.3: application layer
  'insuf.dat': [MISSING_HEADER, 400],
  'unkscm.dat': [OK, 416],
  'novelsc.dat': [OK, 416],
  'unksm2.dat': [OK, FORWARDED],
  'bext01.dat': [OK, 420],
  'invut.dat': [OK, FORWARDED],
  'regaut01.dat': [OK, FORWARDED],
  'multi01.dat': [DUPLICATE_HEADER, 400],
  'mcl01.dat': [BAD_CONTENT_LENGTH, 400],
  'bcast.dat': [OK, DROPPED],
  'zeromf.dat': [OK, 200],
  'cparam01.dat': [OK, FORWARDED],
  'cparam02.dat': [OK, FORWARDED],
  'regescrt.dat': [OK, FORWARDED],
  'sdp01.dat': [OK, FORWARDED],
  // 3.4: backward compatibility
  'inv2543.dat': [OK, FORWARDED],
};

const RFC5118: Record<string, [verdict: number, outcome: number]> = {
  'ipv6-good.dat': [OK, FORWARDED],
  'ipv6-bad.dat': [OK, 400],
  'port-ambiguous.dat': [OK, FORWARDED],
  'port-unambiguous.dat': [OK, FORWARDED],
  'via-received-param-with-delim.dat': [OK, FORWARDED],
  'via-received-param-no-delim.dat': [OK, FORWARDED],
  'ipv6-in-sdp.dat': [OK, FORWARDED],
  'mult-ip-in-header.dat': [OK, FORWARDED],
  'mult-ip-in-sdp.dat': [OK, FORWARDED],
  'ipv4-mapped-ipv6.dat': [OK, FORWARDED],
  'ipv6-bug-abnf-3-colons.dat': [OK, FORWARDED],
  'ipv6-correct-abnf-2-colons.dat': [OK, FORWARDED],
};

function read(name: string): string {
  const text = readFileSync(new URL(name, folder), 'latin1');
  // The archive of RFC 4475 has this one without its last line end.
  return name.endsWith('/baddn.dat') ? `${text}\r\n` : text;
}

describe.each([
  ['rfc4475', RFC4475],
  ['rfc5118', RFC5118],
])('the torture messages of %s', (rfc, expected) => {
  it('are all here', () => {
    expect(readdirSync(new URL(rfc, folder)).sort()).toEqual(Object.keys(expected).sort());
  });

  it.each(Object.entries(expected))('%s', (name, [verdict, outcome]) => {
    const text = read(`${rfc}/${name}`);
    const buf = Buffer.from(`${text}x`, 'latin1');
    expect(new Message().lex(buf, 0, text.length, true)).toBe(verdict);
    const rig = new Rig();
    const sent = rig.take(text);
    if (outcome === DROPPED) {
      expect(sent).toEqual([]);
      return;
    }
    expect(sent).toHaveLength(1);
    expect(status(sent[0])).toBe(outcome);
    if (outcome === 403) expect(status(new Rig().one(text, { trusted: true }))).toBe(FORWARDED);
    if (outcome === FORWARDED) expect(sent[0]).toMatchObject({ way: 'datagram', to: '198.51.100.9:5070' });
  });

  it.each(Object.entries(expected))('%s over a stream is judged the same', (name, [verdict]) => {
    const text = read(`${rfc}/${name}`);
    const buf = Buffer.from(`${text}x`, 'latin1');
    expect(new Message().lex(buf, 0, text.length, false)).toBe(verdict);
  });
});
