/** The testers' own reader and writer against vectors that were made elsewhere. */
import { describe, expect, it } from 'vitest';
import { parseMessage, parseNameAddr, parseVia, response, splitList } from './sip.ts';
import { attribute, mappedAddress, parseStun, type StunMessage, stun } from './stun.ts';

const id = Buffer.from('0102030405060708090a0b0c', 'hex');
const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');

describe('STUN as the tester writes and reads it', () => {
  it('has the octets of the vectors', () => {
    expect(stun({ id }).toString('hex')).toBe('000100002112a4420102030405060708090a0b0c');
    expect(stun({ id, fingerprint: 'right' })).toEqual(
      hex('00010008 2112a442 01020304 05060708 090a0b0c 80280004 5b20f9cc'),
    );
    expect(stun({ id, attributes: [{ type: 0x7001, value: hex('deadbeef') }] })).toEqual(
      hex('00010008 2112a442 01020304 05060708 090a0b0c 70010004 deadbeef'),
    );
  });

  it('finds the mapped address in the vectors, both families', () => {
    const four = hex('0101000c 2112a442 01020304 05060708 090a0b0c 00200008 0001bd53 e721c045');
    expect(mappedAddress(parseStun(four) as StunMessage)).toBe('198.51.100.7:40001');
    const six = hex(
      '01010018 2112a442 01020304 05060708 090a0b0c 00200014 0002bd57 0113a9fa fefd0304 05060708 090a0b0b',
    );
    expect(mappedAddress(parseStun(six) as StunMessage)).toBe('[2001:db8:ffff::7]:40005');
  });

  it('takes an error apart, and nothing that does not fill its length', () => {
    const error = hex(
      '01110024 2112a442 01020304 05060708 090a0b0c 00090015 00000414 556e6b6e 6f776e20 41747472 69627574 65000000 000a0002 70010000',
    );
    const message = parseStun(error) as StunMessage;
    expect(attribute(message, 0x000a)).toEqual(hex('7001'));
    expect(parseStun(error.subarray(0, error.length - 4))).toBeUndefined();
  });
});

describe('SIP as the tester reads it', () => {
  it('splits lists outside quotes and brackets only', () => {
    expect(splitList('"a,b" <sip:x@y;p="1,2">;q=1 , <sip:z?H=a,b>,c')).toEqual([
      '"a,b" <sip:x@y;p="1,2">;q=1',
      '<sip:z?H=a,b>',
      'c',
    ]);
  });

  it('reads Via and name-addr with their parameters', () => {
    const via = parseVia('SIP / 2.0 / TCP [2001:db8::1]:5070;rport ;branch=z9hG4bKx;received=1.2.3.4');
    expect([via.transport, via.host, via.port, via.branch]).toEqual([
      'TCP',
      '[2001:db8::1]',
      5070,
      'z9hG4bKx',
    ]);
    expect(via.params.has('rport')).toBe(true);
    const path = parseNameAddr('"A <b>" <sip:tok@h.test:5;lr;ob>;x=1'.replace('"A <b>" ', ''));
    expect([path.user, path.host, path.port, path.uriParams.has('ob'), path.params.get('x')]).toEqual([
      'tok',
      'h.test',
      5,
      true,
      '1',
    ]);
  });

  it('answers with all Via values and one To tag', () => {
    const request = parseMessage(
      Buffer.from(
        'INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=1, SIP/2.0/UDP y;branch=2\r\nv: SIP/2.0/UDP z;branch=3\r\n' +
          'Record-Route: <sip:r;lr>\r\nFrom: <sip:f@g>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\r\n',
      ),
    );
    if (!request) throw new Error('not read');
    const answer = parseMessage(response(request, 180, 'Ringing'));
    expect(answer?.via.map((v) => v.branch)).toEqual(['1', '2', '3']);
    expect(answer?.all('Record-Route')).toEqual(['<sip:r;lr>']);
    expect(answer?.header('To')).toMatch(/^<sip:a@b>;tag=.+$/);
  });
});
