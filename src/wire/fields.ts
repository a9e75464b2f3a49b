/** Header values of a lexed message as text, one char an octet: for what happens once a transaction, not once a message. */
import { latin1 } from './chars.ts';
import type { Message } from './lexer.ts';
import { parseNameAddr } from './nameaddr.ts';
import { parseSipUri, type SipUri } from './uri.ts';

/** Of all headers with this id, in order; each as it stands, a comma list undivided. */
export function allValues(m: Message, header: number): string[] {
  const list: string[] = [];
  for (let row = m.first[header]; row >= 0; row = m.next(row))
    list.push(latin1(m.buf, m.valueStart[row], m.valueEnd[row]));
  return list;
}

/** Of the first header with this id. */
export function firstValue(m: Message, header: number): string | undefined {
  const row = m.first[header];
  return row < 0 ? undefined : latin1(m.buf, m.valueStart[row], m.valueEnd[row]);
}

/** The SIP URI in a From or To; undefined for another scheme or none. */
export function sipUriOf(m: Message, header: number): SipUri | undefined {
  const address = parseNameAddr(firstValue(m, header) ?? '');
  return address && parseSipUri(address.uri);
}
