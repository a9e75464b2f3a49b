/**
 * Header names and methods as small integers. The tables are looked up by length, first and last letter,
 * so that an unknown name costs one load and one compare. RFC 3261 7.3.3 gives the compact forms.
 */
import { ascii, equalsNoCase } from './chars.ts';

export const OTHER = 0;
export const VIA = 1;
export const ROUTE = 2;
export const RECORD_ROUTE = 3;
export const PATH = 4;
export const CONTACT = 5;
export const TO = 6;
export const FROM = 7;
export const CALL_ID = 8;
export const CSEQ = 9;
export const MAX_FORWARDS = 10;
export const CONTENT_LENGTH = 11;
export const EXPIRES = 12;
export const SUPPORTED = 13;
export const REQUIRE = 14;
export const PROXY_REQUIRE = 15;
export const FLOW_TIMER = 16;
export const AUTHORIZATION = 17;
export const PROXY_AUTHORIZATION = 18;
export const USER_AGENT = 19;
export const EVENT = 20;
export const CONTENT_TYPE = 21;
export const MAX_BREADTH = 22;
export const HEADER_IDS = 23;

const HEADER_NAMES: Array<[number, string, string?]> = [
  [VIA, 'via', 'v'],
  [ROUTE, 'route'],
  [RECORD_ROUTE, 'record-route'],
  [PATH, 'path'],
  [CONTACT, 'contact', 'm'],
  [TO, 'to', 't'],
  [FROM, 'from', 'f'],
  [CALL_ID, 'call-id', 'i'],
  [CSEQ, 'cseq'],
  [MAX_FORWARDS, 'max-forwards'],
  [CONTENT_LENGTH, 'content-length', 'l'],
  [EXPIRES, 'expires'],
  [SUPPORTED, 'supported', 'k'],
  [REQUIRE, 'require'],
  [PROXY_REQUIRE, 'proxy-require'],
  [FLOW_TIMER, 'flow-timer'],
  [AUTHORIZATION, 'authorization'],
  [PROXY_AUTHORIZATION, 'proxy-authorization'],
  [USER_AGENT, 'user-agent'],
  [EVENT, 'event', 'o'],
  [CONTENT_TYPE, 'content-type', 'c'],
  [MAX_BREADTH, 'max-breadth'],
];

export const M_OTHER = 0;
export const REGISTER = 1;
export const INVITE = 2;
export const ACK = 3;
export const BYE = 4;
export const CANCEL = 5;
export const OPTIONS = 6;
export const MESSAGE = 7;
export const SUBSCRIBE = 8;
export const NOTIFY = 9;
export const REFER = 10;
export const UPDATE = 11;
export const INFO = 12;
export const PRACK = 13;
export const PUBLISH = 14;

const METHODS = [
  '',
  'REGISTER',
  'INVITE',
  'ACK',
  'BYE',
  'CANCEL',
  'OPTIONS',
  'MESSAGE',
  'SUBSCRIBE',
  'NOTIFY',
  'REFER',
  'UPDATE',
  'INFO',
  'PRACK',
  'PUBLISH',
];

const LONGEST = 20;
const slotOf = (length: number, first: number, last: number) =>
  length * 64 + (((first & 31) + 3 * (last & 31)) & 63);

/** slot -> id of the one known name with that length and those letters (checked to be unique below) */
const headerBySlot = new Uint8Array((LONGEST + 1) * 64);
const headerText: Uint8Array[] = [];
const compact = new Uint8Array(128);
for (const [id, name, short] of HEADER_NAMES) {
  const slot = slotOf(name.length, name.charCodeAt(0), name.charCodeAt(name.length - 1));
  if (headerBySlot[slot] !== 0) throw new Error(`header table clash: ${name}`);
  headerBySlot[slot] = id;
  headerText[id] = ascii(name);
  if (short) {
    compact[short.charCodeAt(0)] = id;
    compact[short.toUpperCase().charCodeAt(0)] = id;
  }
}

/** The id of the header name in `buf[start, end)`, any letter case, long or compact; OTHER if unknown. */
export function headerId(buf: Uint8Array, start: number, end: number): number {
  const length = end - start;
  if (length === 1) return buf[start] < 128 ? compact[buf[start]] : OTHER;
  if (length > LONGEST) return OTHER;
  const id = headerBySlot[slotOf(length, buf[start], buf[end - 1])];
  return id !== OTHER && equalsNoCase(buf, start, end, headerText[id]) ? id : OTHER;
}

/** The long name in lower case; '' for OTHER. */
export const headerName = (id: number): string => HEADER_NAMES.find(([known]) => known === id)?.[1] ?? '';

const methodBySlot = new Uint8Array(16 * 64);
const methodText = METHODS.map(ascii);
for (let id = 1; id < METHODS.length; id++) {
  const text = METHODS[id];
  const slot = slotOf(text.length, text.charCodeAt(0), text.charCodeAt(text.length - 1));
  if (methodBySlot[slot] !== 0) throw new Error(`method table clash: ${text}`);
  methodBySlot[slot] = id;
}

/** Methods are case-sensitive (RFC 3261 7.1). */
export function methodId(buf: Uint8Array, start: number, end: number): number {
  const length = end - start;
  if (length >= 16 || length === 0) return M_OTHER;
  const id = methodBySlot[slotOf(length, buf[start], buf[end - 1])];
  if (id === 0) return M_OTHER;
  const text = methodText[id];
  for (let i = 0; i < length; i++) if (buf[start + i] !== text[i]) return M_OTHER;
  return id;
}

export const methodName = (id: number): string => METHODS[id];

/** Requests that can create a dialog (RFC 3261 12.1, 6665, 3515); a To tag means that one exists. */
export function formsDialog(method: number): boolean {
  return method === INVITE || method === SUBSCRIBE || method === REFER;
}
