/**
 * The request that opens a WebSocket (RFC 6455 4, RFC 7118 4.1), as text, and its answer, for both sides. A server's
 * answer is 101, or a short refusal after which the connection ends. Whoever may not come in for another reason than
 * its form is for the `Admit` of the caller to say, which sees Origin and Cookie (RFC 7118 7). A client takes a 101
 * that proves to have read the request, and may ask again after a 401; all else is no.
 *
 * Strict, since what passes for an upgrade here and not at a proxy in front of us is how requests are smuggled:
 * CRLF alone ends a line, no line is folded, no header that decides occurs twice, there is no body.
 * The path is not looked at: operators put proxies in front, and clients name any.
 *
 * Happens once a connection and works on strings; a head costs some microseconds.
 */
import { hash } from 'node:crypto';
import { CHARS, TOKEN } from './chars.ts';

/** Why someone is not let in; 0: he is. */
export type Admit = (origin: string | undefined, cookie: string | undefined) => 0 | 401 | 403;

export interface UpgradeAnswer {
  /** 101: the WebSocket is open behind it */
  status: number;
  text: string;
}

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const REQUEST_LINE =
  /^([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\/[!-~]*|\*|[a-z][a-z0-9+.-]*:[!-~]+|[!-~]+:\d+) HTTP\/(\d\.\d)$/i;
const HEADER = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*$/;
/** 16 octets in base64 */
const KEY = /^[A-Za-z0-9+/]{22}==$/;

const REASONS: Record<number, string> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  405: 'Method Not Allowed',
  426: 'Upgrade Required',
  431: 'Request Header Fields Too Large',
};
const EXTRA: Record<number, string> = {
  401: 'WWW-Authenticate: Basic realm="sip"\r\n',
  405: 'Allow: GET\r\n',
  426: 'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n',
};

/** Behind the empty line that ends the head, or -1. `from`: what stands before it was searched already. */
export function upgradeEnd(buf: Uint8Array, start: number, from: number, end: number): number {
  for (let p = Math.max(start + 3, from); p < end; p++)
    if (buf[p] === 10 && buf[p - 1] === 13 && buf[p - 2] === 10 && buf[p - 3] === 13) return p + 1;
  return -1;
}

/** No request begins like this: there is nothing to wait for. */
export const isNoRequest = (buf: Uint8Array, start: number): boolean => (CHARS[buf[start]] & TOKEN) === 0;

/** The answer to a whole head, its empty line included. */
export function answerUpgrade(head: string, admit: Admit): UpgradeAnswer {
  const [first, ...lines] = head.slice(0, -4).split('\r\n');
  const [, method, , version] = REQUEST_LINE.exec(first) ?? [];
  if (method === undefined || !version.startsWith('1.')) return refuseUpgrade(400);
  const headers = headersOf(lines);
  const isHead = method === 'HEAD'; // its answer has no body
  if (!headers) return refuseUpgrade(400, isHead);
  const { one, list, has } = readersOf(headers);

  // RFC 9110 7.8: HTTP/1.0 has no Upgrade
  if (version === '1.0' || !has('upgrade', 'websocket') || !has('connection', 'upgrade'))
    return refuseUpgrade(426, isHead);
  if (method !== 'GET') return refuseUpgrade(405, isHead);
  if (headers.has('transfer-encoding') || (headers.has('content-length') && one('content-length') !== '0'))
    return refuseUpgrade(400);
  if (!one('host') || (headers.has('origin') && one('origin') === undefined)) return refuseUpgrade(400);
  if (one('sec-websocket-version') !== '13') return refuseUpgrade(426);
  const key = one('sec-websocket-key');
  if (key === undefined || !KEY.test(key)) return refuseUpgrade(400);
  // 7118 4.1. A browser wants the very name back that it has offered, so letter case counts.
  if (!list('sec-websocket-protocol').includes('sip')) return refuseUpgrade(400);
  const refused = admit(one('origin'), headers.get('cookie')?.join('; '));
  if (refused !== 0) return refuseUpgrade(refused);
  return { status: 101, text: accepted(proofOf(key)) };
}

const proofOf = (key: string): string => hash('sha1', key + GUID, 'base64');

const accepted = (proof: string): string =>
  `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${proof}\r\nSec-WebSocket-Protocol: sip\r\n\r\n`;

export function refuseUpgrade(status: number, isHead = false): UpgradeAnswer {
  const said = `${status} ${REASONS[status]}`;
  const body = `${said}: SIP over WebSocket is spoken here (RFC 7118)\n`;
  const connection = status === 426 ? 'Upgrade, close' : 'close';
  const text = `HTTP/1.1 ${said}\r\n${EXTRA[status] ?? ''}Connection: ${connection}\r\nContent-Type: text/plain\r\nContent-Length: ${body.length}\r\n\r\n${isHead ? '' : body}`;
  return { status, text };
}

export interface UpgradeRequest {
  /** with its port, unless that is the scheme's */
  host: string;
  path: string;
  /** 16 octets that nobody can foresee, in base64 */
  key: string;
  /** what else it says, each as `isOwnHeader` has it */
  more?: readonly (readonly [name: string, value: string])[];
}

const TAKEN =
  /^(host|upgrade|connection|content-length|transfer-encoding|expect|te|trailer|sec-websocket-.*)$/i;

/** May a client add this header to its request? */
export const isOwnHeader = (name: string, value: string): boolean =>
  HEADER.exec(`${name}:${value}`)?.[1] === name && !TAKEN.test(name);

/** The client's request (6455 4.1). */
export function upgradeRequest({ host, path, key, more = [] }: UpgradeRequest): string {
  const others = more.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  return `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ${key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n${others}\r\n`;
}

/** Does this whole head open the WebSocket that was asked for with `key`? */
export function opensWebSocket(head: string, key: string): boolean {
  const [first, ...lines] = head.slice(0, -4).split('\r\n');
  const headers = headersOf(lines);
  if (!/^HTTP\/1\.1 101(?: |$)/.test(first) || !headers) return false;
  const { one, has } = readersOf(headers);
  return (
    has('upgrade', 'websocket') &&
    has('connection', 'upgrade') &&
    one('sec-websocket-accept') === proofOf(key) &&
    one('sec-websocket-protocol') === 'sip' && // 7118 4.1
    !headers.has('sec-websocket-extensions') // none was offered
  );
}

/** What a server's 401 asks for. */
export interface Demand {
  /** values of WWW-Authenticate, in order; one may hold several challenges */
  challenges: readonly string[];
  /** octets of its body, behind which the connection takes another request; -1: it takes none */
  body: number;
}

/** Undefined: this whole head is no 401. */
export function demandOf(head: string): Demand | undefined {
  const [first, ...lines] = head.slice(0, -4).split('\r\n');
  const headers = headersOf(lines);
  const [, minor] = /^HTTP\/1\.(\d) 401(?: |$)/.exec(first) ?? [];
  if (minor === undefined || !headers) return undefined;
  const { one, has } = readersOf(headers);
  const length = one('content-length') ?? '';
  // chunks, and what is longer than five digits say, are not worth their reading
  const stays =
    minor === '1' &&
    !has('connection', 'close') &&
    !headers.has('transfer-encoding') &&
    /^\d{1,5}$/.test(length);
  return { challenges: headers.get('www-authenticate') ?? [], body: stays ? Number(length) : -1 };
}

type Headers = ReadonlyMap<string, readonly string[]>;

function readersOf(headers: Headers) {
  const list = (name: string): string[] =>
    (headers.get(name) ?? [])
      .join(',')
      .split(',')
      .map((item) => item.trim());
  return {
    /** the value of a header that stands there once */
    one: (name: string): string | undefined => {
      const values = headers.get(name);
      return values?.length === 1 ? values[0] : undefined;
    },
    list,
    has: (name: string, token: string): boolean => list(name).some((item) => item.toLowerCase() === token),
  };
}

function headersOf(lines: readonly string[]): Headers | undefined {
  const headers = new Map<string, string[]>();
  for (const line of lines) {
    const [, name, value] = HEADER.exec(line) ?? [];
    if (name === undefined) return undefined;
    const values = headers.get(name.toLowerCase());
    if (values) values.push(value);
    else headers.set(name.toLowerCase(), [value]);
  }
  return headers;
}

/**
 * Who may come in by his Origin: the ones listed, or all where the list has `*`. Who sends none is no browser,
 * and could have named any: he is let in (RFC 6455 10.2 is about pages of other sites).
 */
export function admitOrigins(origins: readonly string[]): Admit {
  if (origins.includes('*')) return () => 0;
  const allowed = new Set(origins.map((origin) => origin.toLowerCase()));
  return (origin) => (origin === undefined || allowed.has(origin.toLowerCase()) ? 0 : 403);
}
