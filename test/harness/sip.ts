/**
 * SIP as a tester reads and writes it: whole messages, strings, arrays. It shares no code with the
 * server under test, so that a mistake in the server's grammar cannot hide in its own test.
 *
 * It keeps header order, names and values as they came (the tests compare them), splits comma lists
 * only when asked, and writes exactly what it is given: a test can send any wrong message.
 */
export type Header = readonly [name: string, value: string];

const COMPACT: Record<string, string> = {
  v: 'via',
  f: 'from',
  t: 'to',
  i: 'call-id',
  m: 'contact',
  l: 'content-length',
  c: 'content-type',
  k: 'supported',
  s: 'subject',
  e: 'content-encoding',
};

const longName = (name: string) => COMPACT[name.toLowerCase()] ?? name.toLowerCase();

export class SipMessage {
  readonly startLine: string;
  readonly headers: Header[];
  readonly body: Buffer;
  readonly raw: Buffer;

  constructor(startLine: string, headers: Header[], body: Buffer, raw: Buffer) {
    this.startLine = startLine;
    this.headers = headers;
    this.body = body;
    this.raw = raw;
  }

  get isRequest(): boolean {
    return !this.startLine.startsWith('SIP/2.0 ');
  }

  get method(): string {
    return this.isRequest ? this.startLine.split(' ')[0] : '';
  }

  get uri(): string {
    return this.isRequest ? this.startLine.split(' ')[1] : '';
  }

  /** 0 for a request. */
  get status(): number {
    return this.isRequest ? 0 : Number(this.startLine.split(' ')[1]);
  }

  get reason(): string {
    return this.startLine.split(' ').slice(2).join(' ');
  }

  /** The first header field of that name (long or compact form), whole. */
  header(name: string): string | undefined {
    return this.headers.find(([n]) => longName(n) === longName(name))?.[1];
  }

  /** All values of that name: repeated fields and comma lists taken apart, in order. */
  all(name: string): string[] {
    return this.headers.filter(([n]) => longName(n) === longName(name)).flatMap(([, v]) => splitList(v));
  }

  /** Whole header fields of that name, comma lists left together. */
  fields(name: string): string[] {
    return this.headers.filter(([n]) => longName(n) === longName(name)).map(([, v]) => v);
  }

  get callId(): string {
    return this.header('Call-ID') ?? '';
  }

  get cseq(): { number: number; method: string } {
    const [number, method] = (this.header('CSeq') ?? '').split(/\s+/);
    return { number: Number(number), method };
  }

  get via(): Via[] {
    return this.all('Via').map(parseVia);
  }

  get maxForwards(): number {
    return Number(this.header('Max-Forwards') ?? Number.NaN);
  }

  toString(): string {
    return this.raw.toString('latin1');
  }
}

export interface Via {
  transport: string;
  host: string;
  port: number | undefined;
  params: Map<string, string | undefined>;
  branch: string;
}

export function parseVia(value: string): Via {
  const match = /^SIP\s*\/\s*2\.0\s*\/\s*(\S+)\s+(\[[^\]]*\]|[^:;\s]+)\s*(?::\s*(\d+))?\s*(.*)$/s.exec(
    value.trim(),
  );
  if (!match) throw new Error(`not a Via value: ${value}`);
  const params = parseParams(match[4]);
  return {
    transport: match[1],
    host: match[2],
    port: match[3] === undefined ? undefined : Number(match[3]),
    params,
    branch: params.get('branch') ?? '',
  };
}

/** ";a;b=c" as a map with lower-case names; quoted values are left in their quotes. */
export function parseParams(text: string): Map<string, string | undefined> {
  const params = new Map<string, string | undefined>();
  for (const part of splitOutside(text, ';')) {
    const at = part.indexOf('=');
    const name = (at < 0 ? part : part.slice(0, at)).trim().toLowerCase();
    if (name) params.set(name, at < 0 ? undefined : part.slice(at + 1).trim());
  }
  return params;
}

export interface NameAddr {
  uri: string;
  user: string;
  host: string;
  port: number | undefined;
  scheme: string;
  uriParams: Map<string, string | undefined>;
  params: Map<string, string | undefined>;
}

/** `"Name" <sip:user@host:port;p>;q` or an addr-spec (whose parameters then belong to the header). */
export function parseNameAddr(value: string): NameAddr {
  const bracket = /^[^<]*<([^>]*)>(.*)$/s.exec(value.trim());
  const uri = bracket ? bracket[1] : value.trim().split(';')[0];
  const params = parseParams(bracket ? bracket[2] : value.trim().slice(uri.length));
  const parts = /^(sips?):(?:([^@]*)@)?(\[[^\]]*\]|[^:;?]+)(?::(\d+))?([^?]*)/i.exec(uri);
  if (!parts) return { uri, user: '', host: '', port: undefined, scheme: '', uriParams: new Map(), params };
  return {
    uri,
    scheme: parts[1].toLowerCase(),
    user: parts[2] ?? '',
    host: parts[3],
    port: parts[4] === undefined ? undefined : Number(parts[4]),
    uriParams: parseParams(parts[5]),
    params,
  };
}

function splitOutside(text: string, separator: string): string[] {
  const parts: string[] = [];
  let start = 0;
  let quoted = false;
  let angle = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (quoted) {
      if (c === '\\') i++;
      else if (c === '"') quoted = false;
    } else if (c === '"') quoted = true;
    else if (c === '<') angle++;
    else if (c === '>') angle--;
    else if (c === separator && angle === 0) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

export const splitList = (value: string) =>
  splitOutside(value, ',')
    .map((v) => v.trim())
    .filter((v) => v !== '');

/** Parses one whole message; undefined if the bytes are no SIP message with a complete header. */
export function parseMessage(raw: Buffer): SipMessage | undefined {
  const end = raw.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const lines = raw
    .subarray(0, end)
    .toString('latin1')
    .replace(/\r\n[ \t]+/g, ' ')
    .split('\r\n');
  const startLine = lines.shift() as string;
  if (!/^SIP\/2\.0 \d{3} |^\S+ \S+ SIP\/2\.0$/.test(startLine)) return undefined;
  const headers: Header[] = [];
  for (const line of lines) {
    const at = line.indexOf(':');
    if (at < 0) return undefined;
    headers.push([line.slice(0, at).trim(), line.slice(at + 1).trim()]);
  }
  return new SipMessage(startLine, headers, raw.subarray(end + 4), raw);
}

/** Puts a message together as given; Content-Length is added unless one (or null) is given. */
export function compose(
  startLine: string,
  headers: (Header | null | undefined)[],
  body: string | Buffer = '',
): Buffer {
  const bytes = typeof body === 'string' ? Buffer.from(body, 'utf8') : body;
  const list = headers.filter((h): h is Header => h !== null && h !== undefined);
  if (!list.some(([n]) => longName(n) === 'content-length'))
    list.push(['Content-Length', String(bytes.length)]);
  const head = list
    .filter(([, v]) => v !== OMIT)
    .map(([n, v]) => `${n}: ${v}\r\n`)
    .join('');
  return Buffer.concat([Buffer.from(`${startLine}\r\n${head}\r\n`, 'utf8'), bytes]);
}

/** As a header's value: leave that header out, also where it would be added. */
export const OMIT = '\u0000omit';

let serial = 0;
const run = `${process.pid.toString(36)}${Date.now().toString(36).slice(-5)}`;

/** A text that occurs once in this test run: for Call-IDs, tags, branches, user names. */
export const unique = (prefix: string): string => `${prefix}${run}${(serial++).toString(36)}`;

export const newBranch = (): string => unique('z9hG4bK-t-');

/** The response a UAS would send: Via, From, To (with a tag), Call-ID, CSeq and Record-Route copied. */
export function response(
  request: SipMessage,
  status: number,
  reason: string,
  headers: Header[] = [],
  body: string | Buffer = '',
): Buffer {
  const copied: Header[] = request.fields('Via').map((v): Header => ['Via', v]);
  if (status > 100 && /^(INVITE|SUBSCRIBE|REFER|NOTIFY)$/.test(request.method))
    for (const value of request.fields('Record-Route')) copied.push(['Record-Route', value]);
  const to = request.header('To') ?? '';
  const tagged = status > 100 && !/;\s*tag=/i.test(to) ? `${to};tag=${unique('uas')}` : to;
  return compose(
    `SIP/2.0 ${status} ${reason}`,
    [
      ...copied,
      ['From', request.header('From') ?? ''],
      ['To', tagged],
      ['Call-ID', request.callId],
      ['CSeq', request.header('CSeq') ?? ''],
      ...headers,
    ],
    body,
  );
}

export interface RequestOptions {
  /** top Via; needed */
  via: string;
  /** further Via values below it */
  moreVia?: string[];
  from?: string;
  to?: string;
  callId?: string;
  cseq?: number;
  maxForwards?: number | string;
  route?: string[];
  contact?: string;
  headers?: Header[];
  body?: string | Buffer;
}

/** A complete request; any header can be replaced, or left out with OMIT. */
export function request(method: string, uri: string, options: RequestOptions): Buffer {
  return compose(
    `${method} ${uri} SIP/2.0`,
    [
      ['Via', options.via],
      ...(options.moreVia ?? []).map((v): Header => ['Via', v]),
      ['Max-Forwards', String(options.maxForwards ?? 70)],
      ...(options.route ?? []).map((v): Header => ['Route', v]),
      ['From', options.from ?? `<sip:tester@example.test>;tag=${unique('f')}`],
      ['To', options.to ?? `<${uri}>`],
      ['Call-ID', options.callId ?? unique('call-')],
      ['CSeq', `${options.cseq ?? 1} ${method}`],
      options.contact === undefined ? null : ['Contact', options.contact],
      ...(options.headers ?? []),
    ],
    options.body,
  );
}
