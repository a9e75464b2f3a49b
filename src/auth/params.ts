/**
 * The grammar that credentials and challenges share (RFC 3261 25.1, RFC 7616 3.3): a scheme, white space, and
 * `name=value` separated by commas, a value being a token or a quoted-string.
 *
 * Strict: a name twice, an empty member, a string left open, a control character or anything after the last value
 * makes the whole malformed, so that no two readers of one header can see two meanings in it. Input is one char an
 * octet; a folded line counts as one blank. Bounded: 4 KiB and 32 parameters, more than any client sends. Reads
 * each octet once and never throws.
 */
import { CHARS, TOKEN } from '../wire/chars.ts';

export const MAX_VALUE = 4096;
export const MAX_PARAMS = 32;

export interface AuthParam {
  /** escapes of a quoted-string resolved */
  value: string;
  quoted: boolean;
}

export interface AuthValue {
  /** lower case */
  scheme: string;
  /** by name in lower case; undefined where the scheme is not Digest: it may have another grammar */
  params: Map<string, AuthParam> | undefined;
}

const DQUOTE = 34;
const BACKSLASH = 92;
const COMMA = 44;
const EQUALS = 61;
const SP = 32;
const TAB = 9;

/** Undefined if it is malformed or too large. */
export function parseAuthValue(value: string): AuthValue | undefined {
  if (value.length > MAX_VALUE) return undefined;
  const text = value.includes('\r') ? value.replace(/\r\n[ \t]+/g, ' ') : value;
  let at = tokenEnd(text, 0);
  if (at === 0) return undefined;
  const scheme = text.slice(0, at).toLowerCase();
  if (scheme !== 'digest') return { scheme, params: undefined };
  const params = new Map<string, AuthParam>();
  let from = skip(text, at);
  if (from === at) return undefined;
  for (;;) {
    at = tokenEnd(text, from);
    if (at === from) return undefined;
    const name = text.slice(from, at).toLowerCase();
    at = skip(text, at);
    if (text.charCodeAt(at) !== EQUALS) return undefined;
    from = skip(text, at + 1);
    const quoted = text.charCodeAt(from) === DQUOTE;
    at = quoted ? stringEnd(text, from) : tokenEnd(text, from);
    if (at <= from || params.has(name) || params.size === MAX_PARAMS) return undefined;
    params.set(name, {
      value: quoted ? unescaped(text.slice(from + 1, at - 1)) : text.slice(from, at),
      quoted,
    });
    at = skip(text, at);
    if (at === text.length) return { scheme, params };
    if (text.charCodeAt(at) !== COMMA) return undefined;
    from = skip(text, at + 1);
  }
}

/**
 * The challenges of one WWW-Authenticate of HTTP, which may hold several (RFC 7235 4.1; in SIP it is one a header), each
 * as `parseAuthValue` takes it. One begins with each member of the list that is no `name=value`.
 */
export function challengesOf(value: string): string[] {
  const challenges: string[] = [];
  for (let at = 0, end = 0; at < value.length; at = end + 1) {
    end = memberEnd(value, at);
    const member = value.slice(at, end).trim();
    if (member === '') continue;
    const isParam = member.charCodeAt(skip(member, tokenEnd(member, 0))) === EQUALS;
    if (challenges.length === 0 || !isParam) challenges.push(member);
    else challenges.push(`${challenges.pop()}, ${member}`);
  }
  return challenges;
}

/** A quoted-string of any text. */
export function quote(text: string): string {
  return `"${text.replace(/["\\]/g, '\\$&')}"`;
}

function skip(text: string, at: number): number {
  let i = at;
  while (text.charCodeAt(i) === SP || text.charCodeAt(i) === TAB) i++;
  return i;
}

function tokenEnd(text: string, at: number): number {
  let i = at;
  while (CHARS[text.charCodeAt(i)] & TOKEN) i++;
  return i;
}

/** The comma that ends a member of a list, or the end of the text. */
function memberEnd(text: string, at: number): number {
  for (let i = at; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === COMMA) return i;
    if (c !== DQUOTE) continue;
    const behind = stringEnd(text, i);
    if (behind < 0) return text.length;
    i = behind - 1;
  }
  return text.length;
}

/** The index after the closing quote of the string that opens at `at`; -1 if it has none, or holds a control. */
function stringEnd(text: string, at: number): number {
  for (let i = at + 1; i < text.length; i++) {
    let c = text.charCodeAt(i);
    if (c === DQUOTE) return i + 1;
    if (c === BACKSLASH) c = text.charCodeAt(++i);
    if (!((c >= SP && c !== 127) || c === TAB)) return -1;
  }
  return -1;
}

function unescaped(text: string): string {
  return text.includes('\\') ? text.replace(/\\(.)/gs, '$1') : text;
}
