/**
 * Header values as text: lists of name-addr / addr-spec with parameters (Contact, Path, Route,
 * Record-Route, From, To), lists of option tags, delta-seconds, q values.
 *
 * Commas, semicolons and brackets inside quoted strings, and commas inside angle brackets, do not
 * separate. Folded lines count as one blank; any other CR, LF or NUL makes the value malformed, so that
 * nothing parsed here can start a new header where it is written again. A URI is returned as text and is
 * not checked (wire/uri.ts does that); in an addr-spec without brackets everything from the first ";"
 * on is a header parameter (RFC 3261 20.10). Nothing throws: malformed is undefined.
 */
export type HeaderParam = [name: string, value: string | undefined];

export interface NameAddr {
  /** unquoted, escapes resolved */
  display?: string;
  /** what stands between the brackets, or the addr-spec */
  uri: string;
  /** in order; names as written, values as written with their quotes */
  params: HeaderParam[];
}

const FOLD = /\r\n[ \t]+/g;
const TOKEN = /^[a-zA-Z0-9\-.!%*_+`'~]+$/;
/** token, host (IPv6 reference included) or quoted-string; phones also send ":" and "/" unquoted */
const PARAM_VALUE = /^(?:"(?:[^"\\]|\\.)*"|[a-zA-Z0-9\-.!%*_+`'~[\]:/@&$<>?#=]+)$/s;
const DISPLAY_TOKENS = /^[a-zA-Z0-9\-.!%*_+`'~ \t\u0080-\uffff]*$/;

function unfold(value: string): string | undefined {
  const line = value.includes('\r') ? value.replace(FOLD, ' ') : value;
  return /[\r\n\0]/.test(line) ? undefined : line;
}

/** Splits at `separator` outside quoted strings and angle brackets. Undefined if one is left open. */
function split(text: string, separator: string): string[] | undefined {
  const parts: string[] = [];
  let from = 0;
  let quoted = false;
  let bracketed = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (quoted) {
      if (char === '\\') i++;
      else if (char === '"') quoted = false;
    } else if (bracketed) {
      if (char === '>') bracketed = false;
    } else if (char === '"') quoted = true;
    else if (char === '<') bracketed = true;
    else if (char === separator) {
      parts.push(text.slice(from, i).trim());
      from = i + 1;
    }
  }
  if (quoted || bracketed) return undefined;
  parts.push(text.slice(from).trim());
  return parts;
}

/**
 * The members of a comma-separated header value, trimmed. Empty members are dropped, as in
 * "a,,b" and "a,": Accept-like lists allow them and phones send them elsewhere.
 */
export function splitList(value: string): string[] | undefined {
  const line = unfold(value);
  if (line === undefined) return undefined;
  return split(line, ',')?.filter((member) => member !== '');
}

/** One member of the list. */
export function parseNameAddr(text: string): NameAddr | undefined {
  const line = unfold(text)?.trim();
  if (!line) return undefined;
  const open = bracketAt(line);
  if (open < 0) return parseAddrSpec(line);
  const close = line.indexOf('>', open);
  if (close < 0) return undefined;
  const uri = line.slice(open + 1, close);
  if (uri === '' || /[\s"<]/.test(uri)) return undefined;
  const display = parseDisplay(line.slice(0, open).trim());
  const params = parseParams(line.slice(close + 1).trim());
  if (display === undefined || !params) return undefined;
  return display === '' ? { uri, params } : { display, uri, params };
}

/**
 * The "<" that opens a name-addr: not one inside the quoted display name, nor one in a parameter
 * value after the first ";" of an addr-spec (`sip:a@b;+sip.instance="<urn:...>"`).
 */
function bracketAt(text: string): number {
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (quoted) {
      if (char === '\\') i++;
      else if (char === '"') quoted = false;
    } else if (char === '"') quoted = true;
    else if (char === '<') return i;
    else if (char === ';') return -1;
  }
  return -1;
}

function parseAddrSpec(text: string): NameAddr | undefined {
  const semicolon = text.indexOf(';');
  const uri = (semicolon < 0 ? text : text.slice(0, semicolon)).trim();
  if (uri === '' || /[\s"<>,?]/.test(uri)) return undefined; // "," and "?" need brackets (20.10)
  const params = parseParams(semicolon < 0 ? '' : text.slice(semicolon));
  return params && { uri, params };
}

function parseDisplay(text: string): string | undefined {
  if (!text.startsWith('"')) return DISPLAY_TOKENS.test(text) ? text : undefined;
  if (!/^"(?:[^"\\]|\\.)*"$/s.test(text)) return undefined;
  return text.slice(1, -1).replace(/\\(.)/gs, '$1');
}

function parseParams(text: string): HeaderParam[] | undefined {
  const params: HeaderParam[] = [];
  if (text === '') return params;
  if (!text.startsWith(';')) return undefined;
  const parts = split(text.slice(1), ';');
  if (!parts) return undefined;
  for (const part of parts) {
    if (part === '') continue;
    const equals = part.indexOf('=');
    const name = (equals < 0 ? part : part.slice(0, equals)).trim();
    const value = equals < 0 ? undefined : part.slice(equals + 1).trim();
    if (!TOKEN.test(name) || (value !== undefined && !PARAM_VALUE.test(value))) return undefined;
    params.push([name, value]);
  }
  return params;
}

/** A whole header value. Undefined if a member is malformed or there is none. */
export function parseNameAddrList(value: string): NameAddr[] | undefined {
  const members = splitList(value);
  if (!members || members.length === 0) return undefined;
  const list: NameAddr[] = [];
  for (const member of members) {
    const parsed = parseNameAddr(member);
    if (!parsed) return undefined;
    list.push(parsed);
  }
  return list;
}

/** Always with brackets, so that URI parameters stay URI parameters. */
export function formatNameAddr(address: NameAddr): string {
  const display = address.display === undefined ? '' : `"${address.display.replace(/["\\]/g, '\\$&')}" `;
  return `${display}<${address.uri}>${formatParams(address.params)}`;
}

export function formatParams(params: readonly HeaderParam[]): string {
  let text = '';
  for (const [name, value] of params) text += value === undefined ? `;${name}` : `;${name}=${value}`;
  return text;
}

/** The first parameter of that name (lower case): its raw value, '' if it has none. */
export function headerParam(params: readonly HeaderParam[], name: string): string | undefined {
  for (const [key, value] of params) if (key.toLowerCase() === name) return value ?? '';
  return undefined;
}

/** "\"a\\\"b\"" -> "a\"b"; undefined if the text is not one quoted string. */
export function unquote(text: string): string | undefined {
  return text.startsWith('"') ? parseDisplay(text) : undefined;
}

/** Supported, Require, Unsupported: tags in lower case (they are tokens, 7.3.1). What is no token is skipped. */
export function parseOptionTags(values: readonly string[]): string[] {
  const tags: string[] = [];
  for (const value of values) {
    for (const tag of splitList(value) ?? []) if (TOKEN.test(tag)) tags.push(tag.toLowerCase());
  }
  return tags;
}

export const MAX_DELTA_SECONDS = 2 ** 32 - 1;

/** Digits only; larger than 2^32-1 counts as 2^32-1 (RFC 3261 20.19). Undefined if malformed. */
export function parseDeltaSeconds(text: string): number | undefined {
  const digits = text.trim();
  return /^\d+$/.test(digits) ? Math.min(Number(digits), MAX_DELTA_SECONDS) : undefined;
}

/** "0", "0.7", "1.000" in thousandths. Undefined if malformed. */
export function parseQ(text: string): number | undefined {
  const digits = text.trim();
  if (!/^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/.test(digits)) return undefined;
  return Math.round(Number(digits) * 1000);
}
