/** Option tags (Supported, Require, Proxy-Require): is a tag among the values of a header, in any of its rows? */
import { CHARS, equalsNoCase, LWS } from './chars.ts';
import type { Message } from './lexer.ts';

export function hasTag(m: Message, header: number, tag: Uint8Array): boolean {
  const buf = m.buf;
  for (let row = m.first[header]; row >= 0; row = m.next(row)) {
    const end = m.valueEnd[row];
    let p = m.valueStart[row];
    while (p < end) {
      while (p < end && (CHARS[buf[p]] & LWS || buf[p] === 44)) p++;
      const at = p;
      while (p < end && buf[p] !== 44 && !(CHARS[buf[p]] & LWS)) p++;
      if (equalsNoCase(buf, at, p, tag)) return true;
    }
  }
  return false;
}

/** Calls for every tag with its range: for the rare answers that list what was not understood. */
export function eachTag(m: Message, header: number, visit: (start: number, end: number) => void): void {
  const buf = m.buf;
  for (let row = m.first[header]; row >= 0; row = m.next(row)) {
    const end = m.valueEnd[row];
    let p = m.valueStart[row];
    while (p < end) {
      while (p < end && (CHARS[buf[p]] & LWS || buf[p] === 44)) p++;
      const at = p;
      while (p < end && buf[p] !== 44 && !(CHARS[buf[p]] & LWS)) p++;
      if (p > at) visit(at, p);
    }
  }
}
