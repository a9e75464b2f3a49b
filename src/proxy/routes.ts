/**
 * The Route values of a request as one list, across header rows and comma lists (RFC 3261 20.34), and
 * the edits that take some of them out. A request has few: more than MAX_ROUTES is refused.
 */
import { AddressView } from '../wire/address.ts';
import { CHARS, LWS } from '../wire/chars.ts';
import type { Message } from '../wire/lexer.ts';
import type { Patch } from '../wire/patch.ts';

const MAX_ROUTES = 64;

export class Routes {
  count = 0;
  readonly uriStart = new Int32Array(MAX_ROUTES);
  readonly uriEnd = new Int32Array(MAX_ROUTES);
  readonly #start = new Int32Array(MAX_ROUTES);
  readonly #end = new Int32Array(MAX_ROUTES);
  readonly #row = new Int16Array(MAX_ROUTES);
  readonly #element = new AddressView();

  /** False if a value is malformed or there are too many. */
  parse(m: Message, header: number): boolean {
    this.count = 0;
    const element = this.#element;
    const { buf } = m;
    for (let row = m.first[header]; row >= 0; row = m.next(row)) {
      const limit = m.valueEnd[row];
      let p = m.valueStart[row];
      for (;;) {
        if (!element.parse(buf, p, limit) || this.count === MAX_ROUTES) return false;
        const i = this.count++;
        this.#row[i] = row;
        this.#start[i] = element.start;
        this.#end[i] = element.end;
        this.uriStart[i] = element.uriStart;
        this.uriEnd[i] = element.uriEnd;
        if (element.end >= limit) break;
        p = element.end + 1;
      }
    }
    return true;
  }

  /** The whole element, display name and parameters included. */
  elementStart(i: number): number {
    return this.#start[i];
  }

  elementEnd(i: number): number {
    return this.#end[i];
  }

  /** Takes out all values but those in [from, to). A row of which nothing stays goes as a whole. */
  keep(patch: Patch, m: Message, from: number, to: number): void {
    for (let first = 0; first < this.count; ) {
      const row = this.#row[first];
      let last = first;
      while (last + 1 < this.count && this.#row[last + 1] === row) last++;
      const a = Math.max(first, from);
      const b = Math.min(last, to - 1);
      if (a > b) patch.cut(m.lineStart[row], m.lineEnd[row]);
      else {
        if (a > first) patch.cut(this.#start[first], this.#start[a]);
        if (b < last) {
          let cutFrom = this.#end[b];
          while (CHARS[m.buf[cutFrom - 1]] & LWS) cutFrom--;
          patch.cut(cutFrom, this.#end[last]);
        }
      }
      first = last + 1;
    }
  }

  /** Where a new value is appended behind the last one. */
  get lastEnd(): number {
    return this.#end[this.count - 1];
  }
}
