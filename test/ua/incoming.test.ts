/** A message as a program reads it. */
import { describe, expect, it } from 'vitest';
import { Incoming } from '../../src/ua/incoming.ts';
import { Message, OK } from '../../src/wire/lexer.ts';

function read(text: string): Incoming {
  const bytes = Buffer.from(`${text}\0`, 'utf8');
  const m = new Message();
  expect(m.lex(bytes, 0, bytes.length - 1, false)).toBe(OK);
  const incoming = new Incoming(m);
  bytes.fill(0); // it stands by itself
  return incoming;
}

const REST = [
  'v: SIP/2.0/UDP a;branch=z9hG4bK1',
  'f: "A;tag=no" <sip:a@b;tag=neither>;tag=from',
  't: sip:c@d;x=1;tag=to',
  'i: call',
  'CSEQ: 7 REFER',
];

describe('a message that came', () => {
  it('has long names in lower case, whatever they were, and finds them in any letter case', () => {
    const message = read(
      ['REFER sip:c@d SIP/2.0', ...REST, 'r: <sip:e@f>', 'X-Odd : 1', 's: hi', 'l: 0', '', ''].join('\r\n'),
    );
    expect(message.headers.map(([name]) => name)).toEqual(
      'via from to call-id cseq refer-to x-odd subject content-length'.split(' '),
    );
    expect([message.header('Refer-To'), message.header('X-Odd')]).toEqual(['<sip:e@f>', '1']);
    expect([message.method, message.uri, message.status, message.cseq]).toEqual(['REFER', 'sip:c@d', 0, 7]);
    expect([message.fromTag, message.toTag, message.callId]).toEqual(['from', 'to', 'call']);
  });

  it('has lists taken apart and fields left together, folds as they stand', () => {
    const message = read(
      ['REFER sip:c@d SIP/2.0', ...REST, 'Supported: a,\r\n b', 'k: c', '', ''].join('\r\n'),
    );
    expect(message.list('supported')).toEqual(['a', 'b', 'c']);
    expect(message.fields('Supported')).toHaveLength(2);
    expect(message.hasTag('supported', 'b')).toBe(true);
  });

  it('has a reason and a body in UTF-8', () => {
    const message = read(
      ['SIP/2.0 200 Schön', ...REST, 'Expires: 60', 'Flow-Timer: 1x', '', 'grüße'].join('\r\n'),
    );
    expect([message.status, message.reason, message.text]).toEqual([200, 'Schön', 'grüße']);
    expect([message.seconds('expires'), message.seconds('flow-timer'), message.seconds('x')]).toEqual([
      60,
      undefined,
      undefined,
    ]);
    expect([message.method, message.cseqMethod, message.isRequest]).toEqual(['', 'REFER', false]);
  });
});
