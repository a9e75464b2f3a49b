/**
 * A message that has come, as a program reads it: start line, headers by name, body. Made once from the lexer's table
 * and independent of the buffer it was read from. Names are long and in lower case, whatever form they came in; values
 * are as they stand, one char an octet (UTF-8 is decoded in `text` only).
 */
import { latin1 } from '../wire/chars.ts';
import type { Message } from '../wire/lexer.ts';
import {
  headerParam,
  parseDeltaSeconds,
  parseNameAddr,
  parseOptionTags,
  splitList,
} from '../wire/nameaddr.ts';
import { headerName } from '../wire/names.ts';
import type { Dialog } from './dialog.ts';

/** Those that the server has no use for, so that its table lacks them (IANA's SIP parameters). */
const COMPACT: Readonly<Record<string, string>> = {
  a: 'accept-contact',
  b: 'referred-by',
  d: 'request-disposition',
  e: 'content-encoding',
  j: 'reject-contact',
  n: 'identity-info',
  r: 'refer-to',
  s: 'subject',
  u: 'allow-events',
  x: 'session-expires',
  y: 'identity',
};

export class Incoming {
  /** '' in a response */
  readonly method: string;
  /** Request-URI; '' in a response */
  readonly uri: string;
  /** 0 in a request */
  readonly status: number;
  readonly reason: string;
  readonly cseq: number;
  /** of CSeq: also in a response */
  readonly cseqMethod: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Buffer;
  /** of a 2xx: what its request has formed */
  dialog: Dialog | undefined;

  constructor(m: Message) {
    const { buf } = m;
    this.method = m.isRequest ? latin1(buf, m.methodStart, m.methodEnd) : '';
    this.uri = m.isRequest ? latin1(buf, m.uriStart, m.uriEnd) : '';
    this.status = m.isRequest ? 0 : m.status;
    this.reason = m.isRequest ? '' : reasonOf(m);
    this.cseq = m.cseqNumber;
    this.cseqMethod = latin1(buf, m.cseqMethodStart, m.cseqMethodEnd);
    const headers: [string, string][] = [];
    for (let row = 0; row < m.count; row++) {
      const written = latin1(buf, m.lineStart[row], m.nameEnd[row]).toLowerCase();
      const name = headerName(m.ids[row]) || COMPACT[written] || written;
      headers.push([name, latin1(buf, m.valueStart[row], m.valueEnd[row])]);
    }
    this.headers = headers;
    this.body = Buffer.from(buf.subarray(m.bodyStart, m.end));
  }

  get isRequest(): boolean {
    return this.status === 0;
  }

  /** The first header of that name, in any letter case, long form. */
  header(name: string): string | undefined {
    const wanted = name.toLowerCase();
    return this.headers.find(([known]) => known === wanted)?.[1];
  }

  /** Of all headers of that name, in order; a comma list undivided. */
  fields(name: string): string[] {
    const wanted = name.toLowerCase();
    return this.headers.filter(([known]) => known === wanted).map(([, value]) => value);
  }

  /** The members of all lists of that name, in order. */
  list(name: string): string[] {
    return this.fields(name).flatMap((value) => splitList(value) ?? []);
  }

  hasTag(name: 'supported' | 'require', tag: string): boolean {
    return parseOptionTags(this.fields(name)).includes(tag);
  }

  /** A header of digits alone, such as Expires or Flow-Timer (GR-10-02); undefined if it is absent or malformed. */
  seconds(name: string): number | undefined {
    return parseDeltaSeconds(this.header(name) ?? '');
  }

  get callId(): string {
    return this.header('call-id') ?? '';
  }

  get fromTag(): string {
    return tagOf(this.header('from'));
  }

  get toTag(): string {
    return tagOf(this.header('to'));
  }

  /** The body as UTF-8. */
  get text(): string {
    return this.body.toString('utf8');
  }
}

function tagOf(value: string | undefined): string {
  const address = parseNameAddr(value ?? '');
  return (address && headerParam(address.params, 'tag')) ?? '';
}

function reasonOf(m: Message): string {
  let end = m.start + 12; // "SIP/2.0 200 "
  while (end < m.bodyStart && m.buf[end] !== 13) end++;
  return Buffer.from(m.buf.subarray(Math.min(m.start + 12, end), end)).toString('utf8');
}
