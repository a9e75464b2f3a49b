/**
 * RFC 6223 at an edge: a neighbour that put `keep` into its Via is told in the response how often it
 * should be heard, the same number as in Flow-Timer (section 5); where this element is not asked for it, or
 * is in no route set of the dialog, the value is taken out. Values in Vias below the neighbour's are none
 * of its business and go (section 10).
 */
import type { Message } from '../wire/lexer.ts';
import { VIA } from '../wire/names.ts';
import type { Patch } from '../wire/patch.ts';
import { Via } from '../wire/via.ts';

const via = new Via();

/**
 * Edits the Via values behind our own, which ends at `ownEnd`. `seconds` is what the neighbour may be told,
 * 0 for nothing. True if it asked and was told.
 */
export function tellKeep(m: Message, patch: Patch, ownEnd: number, seconds: number): boolean {
  const { buf } = m;
  let told = false;
  let neighbour = true;
  for (let row = m.first[VIA]; row >= 0; row = m.next(row)) {
    const limit = m.valueEnd[row];
    let p = m.valueStart[row];
    if (ownEnd >= p && ownEnd <= limit) p = ownEnd + 1; // the rest of the row that ours stands in
    for (; p < limit; p = via.end + 1) {
      if (!via.parse(buf, p, limit)) return told;
      if (via.keepAt >= 0) {
        if (neighbour && seconds > 0) {
          const w = patch.replace(via.keepAt, via.keepEnd);
          w.byte(61);
          w.decimal(seconds);
          told = true;
        } else if (via.keepEnd > via.keepAt) patch.cut(via.keepAt, via.keepEnd);
      }
      neighbour = false;
    }
  }
  return told;
}
