/**
 * A stream of octets as numbered lines, one at a time: the reader's pace is the stream's. A line that is too
 * long is skipped to its end and told as `text` undefined, so that no file fills the memory.
 */
import { StringDecoder } from 'node:string_decoder';

export interface Line {
  /** from 1 */
  number: number;
  text: string | undefined;
}

export async function* lines(stream: AsyncIterable<Buffer>, longest: number): AsyncGenerator<Line> {
  const decoder = new StringDecoder('utf8');
  let number = 0;
  let rest = '';
  let isTooLong = false;
  for await (const chunk of stream) {
    const parts = decoder.write(chunk).split('\n');
    for (const [i, part] of parts.entries()) {
      if (isTooLong || rest.length + part.length > longest) {
        isTooLong = true;
        rest = '';
      } else rest += part;
      if (i === parts.length - 1) break;
      yield { number: ++number, text: isTooLong ? undefined : rest };
      rest = '';
      isTooLong = false;
    }
  }
  if (isTooLong) yield { number: ++number, text: undefined };
  else if (rest !== '') yield { number: ++number, text: rest };
}
