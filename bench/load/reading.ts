/**
 * The generator's own reading of SIP: in one pass over the head of a message what kind it is, which transaction it
 * belongs to, and where it ends. It believes what it reads, and knows no compact or folded headers: both ends of its
 * messages are its own, and between them is the server under test. A message that it cannot place is counted.
 *
 * `answer` makes the 200 to a request by copying those header lines of it that RFC 3261 8.2.6 (and RFC 3327 5.3 for
 * Path) want back.
 */
import { FLOW_AT, TRANSACTION_AT } from './templates.ts';

const CR = 13;
const LF = 10;
const SPACE = 32;
const CALL_ID = Buffer.from('all-ID: ', 'latin1');
const CONTENT_LENGTH = Buffer.from('ontent-Length:', 'latin1');

/** -1 for each octet that is no hexadecimal digit */
const DIGITS = new Int8Array(256).fill(-1);
for (let i = 0; i < 16; i++) {
  DIGITS[i.toString(16).charCodeAt(0)] = i;
  DIGITS[i.toString(16).toUpperCase().charCodeAt(0)] = i;
}

/** Whether the octets at `at` are `word`, in any case of its letters. */
function stands(memory: Buffer, at: number, word: Buffer): boolean {
  for (let i = 0; i < word.length; i++) if ((memory[at + i] | 32) !== (word[i] | 32)) return false;
  return true;
}

function hex(memory: Buffer, at: number): number {
  let n = 0;
  for (let i = 0; i < 8; i++) n = (n << 4) | DIGITS[memory[at + i]];
  return n >>> 0;
}

export class Reading {
  /** 0 for a request */
  status = 0;
  /** first octet of its Call-ID: one of the kinds of templates.ts, else it is none of ours */
  kind = 0;
  flow = 0;
  transaction = 0;
  /** behind the last octet of the message */
  end = 0;

  /** False if `[start, limit)` does not hold a whole message. Octets from `limit` on are not looked at. */
  read(memory: Buffer, start: number, limit: number): boolean {
    this.kind = 0;
    this.status = this.#statusAt(memory, start, limit);
    let body = 0;
    for (let at = start; at < limit; at++) {
      if (memory[at] !== LF) continue;
      const next = memory[at + 1];
      if (next === CR) {
        this.end = at + 3 + body;
        return this.end <= limit;
      }
      if ((next | 32) !== 99) continue; // neither Call-ID nor Content-Length
      if (stands(memory, at + 2, CALL_ID)) this.#identify(memory, at + 2 + CALL_ID.length);
      else if (stands(memory, at + 2, CONTENT_LENGTH)) body = number(memory, at + 2 + CONTENT_LENGTH.length);
    }
    return false;
  }

  #identify(memory: Buffer, at: number): void {
    this.kind = memory[at];
    this.flow = hex(memory, at + FLOW_AT);
    this.transaction = hex(memory, at + TRANSACTION_AT);
  }

  #statusAt(memory: Buffer, start: number, limit: number): number {
    const response = limit - start > 12 && memory[start + 3] === 47 && memory[start + 7] === SPACE;
    return response ? number(memory, start + 8) : 0;
  }
}

function number(memory: Buffer, at: number): number {
  let n = 0;
  while (memory[at] === SPACE) at++;
  for (let digit = memory[at] - 48; digit >= 0 && digit <= 9; digit = memory[++at] - 48) n = n * 10 + digit;
  return n;
}

const OK = Buffer.from('SIP/2.0 200 OK\r\n', 'latin1');
const TAG = Buffer.from(';tag=load\r\n', 'latin1');
const PLAIN_END = Buffer.from('Content-Length: 0\r\n\r\n', 'latin1');
const REGISTERED_END = Buffer.from(
  'Require: outbound\r\nSupported: path, outbound\r\nContent-Length: 0\r\n\r\n',
  'latin1',
);

const header = (name: string) => Buffer.from(`${name}:`, 'latin1');
const VIA = header('Via');
const FROM = header('From');
const TO = header('To');
const CALL = header('Call-ID');
const CSEQ = header('CSeq');
const RECORD_ROUTE = header('Record-Route');
const CONTACT = header('Contact');
const PATH = header('Path');

/** Where `answer` found the value of the last Path; `start` is 0 if there was none. */
export const path = { start: 0, end: 0 };

/** Writes the 200 to the request at `[start, limit)` at `out` and returns where it ends. */
export function answer(
  memory: Buffer,
  start: number,
  limit: number,
  out: number,
  registers: boolean,
): number {
  path.start = 0;
  memory.set(OK, out);
  let to = out + OK.length;
  let at = after(memory, start, limit);
  while (at < limit && memory[at] !== CR) {
    const next = after(memory, at, limit);
    if (isEchoed(memory, at, registers)) {
      memory.copyWithin(to, at, next);
      to += next - at;
      if (registers && stands(memory, at, PATH)) {
        path.start = at + PATH.length + 1;
        path.end = next - 2;
      }
    } else if (stands(memory, at, TO)) {
      memory.copyWithin(to, at, next - 2);
      to += next - 2 - at;
      memory.set(TAG, to);
      to += TAG.length;
    }
    at = next;
  }
  const end = registers ? REGISTERED_END : PLAIN_END;
  memory.set(end, to);
  return to + end.length;
}

function isEchoed(memory: Buffer, at: number, registers: boolean): boolean {
  switch (memory[at] | 32) {
    case 118: // v
      return stands(memory, at, VIA);
    case 102: // f
      return stands(memory, at, FROM);
    case 99: // c
      if (stands(memory, at, CALL) || stands(memory, at, CSEQ)) return true;
      return registers && stands(memory, at, CONTACT);
    case 114: // r
      return !registers && stands(memory, at, RECORD_ROUTE);
    case 112: // p
      return registers && stands(memory, at, PATH);
    default:
      return false;
  }
}

/** The start of the next line. */
function after(memory: Buffer, at: number, limit: number): number {
  while (at < limit && memory[at] !== LF) at++;
  return at + 1;
}
