import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { sipIdentities, speaksFor } from '../../src/net/sipidentity.ts';
import { Authority } from '../harness/certificates.ts';

const authority = new Authority();
afterAll(() => authority.remove());

const certificate = (names: string[], cn = 'cn.test') =>
  new X509Certificate(readFileSync(authority.issue(names, { cn }).cert));

describe('the SIP domains of a certificate [5922-7-01]', () => {
  it.each([
    [['URI:sip:a.test'], ['a.test']],
    [['URI:SIP:A.Test'], ['a.test']],
    [
      ['URI:sip:a.test', 'URI:sip:b.test', 'DNS:c.test'],
      ['a.test', 'b.test'],
    ],
    [
      ['URI:sip:a.test:5061', 'URI:sip:b.test;transport=tls'],
      ['a.test', 'b.test'],
    ],
    [['URI:sip:user@a.test', 'DNS:c.test'], ['c.test']],
    [['URI:sips:a.test', 'URI:https://a.test/', 'DNS:c.test'], ['c.test']],
    [
      ['DNS:C.test', 'DNS:*.d.test'],
      ['c.test', '*.d.test'],
    ],
    [['IP:192.0.2.1', 'email:a@b.test'], []],
    [['URI:sip:user@a.test'], []],
  ])('%j are %j', (names, domains) => {
    expect(sipIdentities(certificate(names))).toEqual(domains);
  });

  it('are in the CN only where there is no subjectAltName', () => {
    expect(sipIdentities(certificate([], 'CN.test'))).toEqual(['cn.test']);
    expect(sipIdentities(certificate([], 'A person'))).toEqual([]);
    expect(sipIdentities(certificate(['IP:192.0.2.1'], 'cn.test'))).toEqual([]);
  });

  it('are compared as whole names', () => {
    const domain = certificate(['DNS:example.test', 'DNS:*.wild.test', 'DNS:.dot.test']);
    expect(speaksFor(domain, 'EXAMPLE.test')).toBe(true);
    for (const other of ['a.example.test', 'test', 'a.wild.test', 'a.dot.test', 'dot.test', 'xexample.test'])
      expect(speaksFor(domain, other)).toBe(false);
  });

  it('do not hinder a server that is known by its address', () => {
    const addressed = certificate(['IP:192.0.2.1', 'IP:2001:db8::1']);
    expect(speaksFor(addressed, '192.0.2.1')).toBe(true);
    expect(speaksFor(addressed, '[2001:db8::1]')).toBe(true);
    expect(speaksFor(addressed, '192.0.2.2')).toBe(false);
    expect(speaksFor(certificate(['DNS:a.test']), '192.0.2.1')).toBe(false);
  });

  it('are taken apart even where a name has a comma in it', () => {
    const subjectAltName = 'URI:"sip:a.test;x=1, DNS:evil.test", DNS:c.test';
    expect(sipIdentities({ subjectAltName, subject: '' })).toEqual(['a.test']);
  });
});
