/**
 * The fields of a transaction record: 32 words, two cache lines. The first is the machine's, the second,
 * sixteen words, its user's. This file alone knows the offsets. All zero but for the generation, which is 1, is a record
 * that was never used.
 *
 * Times are doubles, in milliseconds of the shard's clock; Infinity when the timer does not run.
 */
import { KINDS, STATE_MASK } from './machine.ts';

export const RECORD_WORDS = 32;
export const RECORD_TIMES = 16;
/** What the user may write of its own: `word(id, 0)` to `word(id, 15)`. */
export const USER_WORDS = 16;

/** as doubles */
export const SEND_AT = 0;
export const END_AT = 1;
export const ALARM_AT = 2;

/** as words */
export const LIFE = 6; // state | kind << 3 | reliable << 5 | retransmissions << 8 | method << 16
export const GENERATION = 7;
export const KEY_LO = 8;
export const KEY_HI = 9;
const KEPT_OFFSET = 10;
const KEPT_LENGTH = 11;
const PEER = 12;
/** neighbours in the queue of completed non-INVITE server transactions, as id + 1 */
export const OLDER = 14;
export const YOUNGER = 15;
const USER = 16;

export const KIND_SHIFT = 3;
export const RELIABLE_SHIFT = 5;
export const SENT_SHIFT = 8;
export const SENT_MASK = 0xff << SENT_SHIFT;
export const METHOD_SHIFT = 16;

export class TransactionRecords {
  /** records that there are; a table that grows raises it */
  capacity = 0;
  protected words = new Int32Array(0);
  protected times = new Float64Array(0);

  constructor(capacity: number) {
    this.extend(capacity);
  }

  /** More records, never used, behind those that there are. */
  protected extend(capacity: number): void {
    const buffer = new ArrayBuffer(capacity * RECORD_WORDS * 4);
    const words = new Int32Array(buffer);
    words.set(this.words);
    for (let id = this.capacity; id < capacity; id++) words[id * RECORD_WORDS + GENERATION] = 1;
    this.capacity = capacity;
    this.words = words;
    this.times = new Float64Array(buffer);
  }

  /** Of the life that the record has now; of one that has ended, of the next. Never 0. */
  generation(id: number): number {
    return this.words[id * RECORD_WORDS + GENERATION];
  }

  state(id: number): number {
    return this.words[id * RECORD_WORDS + LIFE] & STATE_MASK;
  }

  kind(id: number): number {
    return (this.words[id * RECORD_WORDS + LIFE] >>> KIND_SHIFT) & (KINDS - 1);
  }

  /** 1 for all transports but UDP. */
  reliable(id: number): number {
    return (this.words[id * RECORD_WORDS + LIFE] >>> RELIABLE_SHIFT) & 1;
  }

  /** As in wire/names.ts. */
  method(id: number): number {
    return this.words[id * RECORD_WORDS + LIFE] >>> METHOD_SHIFT;
  }

  /** How often this state has retransmitted. */
  retransmissions(id: number): number {
    return (this.words[id * RECORD_WORDS + LIFE] & SENT_MASK) >>> SENT_SHIFT;
  }

  keyLo(id: number): number {
    return this.words[id * RECORD_WORDS + KEY_LO];
  }

  keyHi(id: number): number {
    return this.words[id * RECORD_WORDS + KEY_HI];
  }

  /** Where the caller keeps the last response or the sent request; the memory is the caller's. */
  keptOffset(id: number): number {
    return this.words[id * RECORD_WORDS + KEPT_OFFSET];
  }

  /** 0 when nothing is kept. */
  keptLength(id: number): number {
    return this.words[id * RECORD_WORDS + KEPT_LENGTH];
  }

  setKept(id: number, offset: number, length: number): void {
    this.words[id * RECORD_WORDS + KEPT_OFFSET] = offset;
    this.words[id * RECORD_WORDS + KEPT_LENGTH] = length;
  }

  /** What it belongs to, such as a response context; 0 at first. */
  peer(id: number): number {
    return this.words[id * RECORD_WORDS + PEER];
  }

  setPeer(id: number, peer: number): void {
    this.words[id * RECORD_WORDS + PEER] = peer;
  }

  /** One of the sixteen words of the user; 0 at first. */
  word(id: number, n: number): number {
    return this.words[id * RECORD_WORDS + USER + n];
  }

  setWord(id: number, n: number, value: number): void {
    this.words[id * RECORD_WORDS + USER + n] = value;
  }

  /** When the user's alarm is due; Infinity when it is not set. */
  alarmAt(id: number): number {
    return this.times[id * RECORD_TIMES + ALARM_AT];
  }
}
