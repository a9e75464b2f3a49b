/**
 * Messages as phones and cores send them, in sizes that occur. Texts are functions of a number, so that
 * a bench can have many clients: what is constant is cached better than what comes from the network.
 */

/** All clients sit behind one NAT and differ in their ports. */
export const CLIENT = '198.51.100.7';
export const clientPort = (n: number): number => 20_000 + n;
export const EDGE = '203.0.113.10';
export const CORE = '203.0.113.30';

const hex = (n: number, digits: number): string =>
  (Math.imul(n + 1, 0x9e3779b1) >>> 0).toString(16).padStart(digits, '0');

const lines = (...list: string[]): string => `${list.join('\r\n')}\r\n\r\n`;

/** A REGISTER of a phone behind a NAT: 694 octets, 13 headers. */
export function register(n = 0, transport = 'UDP'): string {
  const user = `dora${String(n).padStart(3, '0')}`;
  return lines(
    'REGISTER sip:example.net SIP/2.0',
    `Via: SIP/2.0/${transport} 192.168.1.23:5060;rport;branch=z9hG4bKPj${hex(n, 8)}4bd1a7c07e65`,
    'Max-Forwards: 70',
    `From: "Dora" <sip:${user}@example.net>;tag=${hex(n, 8)}2f6c`,
    `To: "Dora" <sip:${user}@example.net>`,
    `Call-ID: ${hex(n, 8)}-6c1e-4f0b-9d1a-3b8e5c7d2a90`,
    'CSeq: 4711 REGISTER',
    'User-Agent: Larkphone/4.2.1 (desk; firmware 20260314.01)',
    'Supported: path, outbound, gruu',
    `Contact: <sip:${user}@192.168.1.23:5060;ob>;reg-id=1;+sip.instance="<urn:uuid:6f1d7c52-3b0e-4a7e-9d57-0c2b${hex(n, 8)}>"`,
    'Expires: 600',
    'Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, NOTIFY, MESSAGE, REFER, UPDATE, INFO, SUBSCRIBE, PUBLISH, PRACK',
    'Allow-Events: presence, message-summary, dialog',
    'Content-Length: 0',
  );
}

/** The registrar's 200 to the n-th REGISTER: `vias` and `path` are what the request had when it came there. */
export function registerOk(n: number, vias: string, path: string): string {
  const user = `dora${String(n).padStart(3, '0')}`;
  return lines(
    'SIP/2.0 200 OK',
    vias,
    `From: "Dora" <sip:${user}@example.net>;tag=${hex(n, 8)}2f6c`,
    `To: "Dora" <sip:${user}@example.net>;tag=hub-${hex(n, 8)}`,
    `Call-ID: ${hex(n, 8)}-6c1e-4f0b-9d1a-3b8e5c7d2a90`,
    'CSeq: 4711 REGISTER',
    `Contact: <sip:${user}@192.168.1.23:5060;ob>;expires=600;reg-id=1;+sip.instance="<urn:uuid:6f1d7c52-3b0e-4a7e-9d57-0c2b${hex(n, 8)}>"`,
    `Path: ${path}`,
    'Supported: path, outbound',
    'Require: outbound',
    'Date: Sat, 14 Mar 2026 09:26:53 GMT',
    'Content-Length: 0',
  );
}

/** A MESSAGE from the core to a client: the edge's Route has the token of its flow. */
export function message(n: number, route: string): string {
  const body = 'The 17:42 from platform 9 leaves 6 minutes late.';
  const user = `dora${String(n).padStart(3, '0')}`;
  return `${lines(
    `MESSAGE sip:${user}@192.168.1.23:5060;ob SIP/2.0`,
    `Via: SIP/2.0/UDP ${CORE}:5060;branch=z9hG4bK${hex(n, 8)}c0ffee`,
    'Max-Forwards: 69',
    `Route: <sip:${route};lr;ob>`,
    `From: <sip:milo@other.example>;tag=${hex(n, 8)}`,
    `To: <sip:${user}@example.net>`,
    `Call-ID: msg-${hex(n, 8)}@other.example`,
    'CSeq: 1 MESSAGE',
    'Content-Type: text/plain',
    `Content-Length: ${body.length}`,
  )}${body}`;
}

/** A client's INVITE with an offer of a softphone: nine codecs, ICE candidates. */
export function invite(n = 0, transport = 'UDP'): string {
  const user = `dora${String(n).padStart(3, '0')}`;
  const sdp = [
    'v=0',
    `o=- 38${hex(n, 8)} 1 IN IP4 192.168.1.23`,
    's=-',
    'c=IN IP4 192.168.1.23',
    't=0 0',
    'm=audio 40124 RTP/AVP 96 9 8 0 97 101',
    'a=rtpmap:96 opus/48000/2',
    'a=fmtp:96 useinbandfec=1',
    'a=rtpmap:9 G722/8000',
    'a=rtpmap:8 PCMA/8000',
    'a=rtpmap:0 PCMU/8000',
    'a=rtpmap:97 iLBC/8000',
    'a=rtpmap:101 telephone-event/8000',
    'a=fmtp:101 0-16',
    'a=ice-ufrag:4bd1a7c0',
    'a=ice-pwd:7e65a1f90c3d2b8e4f6a7c01',
    'a=candidate:1 1 UDP 2130706431 192.168.1.23 40124 typ host',
    'a=candidate:2 1 UDP 1694498815 198.51.100.7 40124 typ srflx raddr 192.168.1.23 rport 40124',
    'a=sendrecv',
    '',
  ].join('\r\n');
  return `${lines(
    'INVITE sip:milo@other.example SIP/2.0',
    `Via: SIP/2.0/${transport} 192.168.1.23:5060;rport;branch=z9hG4bKPj${hex(n, 8)}9f02c6b8d1e3`,
    'Max-Forwards: 70',
    `From: "Dora" <sip:${user}@example.net>;tag=${hex(n, 8)}81d4`,
    'To: <sip:milo@other.example>',
    `Contact: <sip:${user}@192.168.1.23:5060;ob>`,
    `Call-ID: ${hex(n, 8)}-0b7a-4e55-8c2f-5d9e1f3a6b04`,
    'CSeq: 21 INVITE',
    'Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, NOTIFY, MESSAGE, REFER, UPDATE, INFO',
    'Supported: replaces, 100rel, timer, norefersub, outbound, path, gruu',
    'Session-Expires: 1800',
    'Min-SE: 90',
    'User-Agent: Larkphone/4.2.1 (desk; firmware 20260314)',
    'Content-Type: application/sdp',
    `Content-Length: ${sdp.length}`,
  )}${sdp}`;
}

/** A STUN Binding request with FINGERPRINT (test vector: transaction 0102...0c). */
export const STUN_REQUEST = Uint8Array.from(
  Buffer.from('000100082112a4420102030405060708090a0b0c802800045b20f9cc', 'hex'),
);
