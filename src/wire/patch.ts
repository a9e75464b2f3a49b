/**
 * A changed message as slices of the incoming bytes plus inserted text. Edits are collected in any
 * order (`cut`, `insert`, `replace`) while the text to insert is written into a scratch region; then
 * `apply` makes the outgoing bytes in one pass. What no edit touches goes through octet for octet.
 *
 * Edits must not overlap. Two edits at one offset keep the order in which they were made.
 * Source, scratch and destination lie in one buffer, so that slices move by `copyWithin`.
 */
import { Writer } from './writer.ts';

const MAX_EDITS = 256;

export class Patch {
  readonly #mem: Uint8Array;
  readonly #scratch: number;
  readonly #scratchEnd: number;
  /** writes the text of the edit that `insert` or `replace` opened last */
  readonly text: Writer;
  readonly #at = new Int32Array(MAX_EDITS);
  readonly #cut = new Int32Array(MAX_EDITS);
  readonly #textStart = new Int32Array(MAX_EDITS);
  readonly #textEnd = new Int32Array(MAX_EDITS);
  #count = 0;
  /** index of the edit whose text is being written, -1 none */
  #open = -1;
  #overflow = false;

  constructor(mem: Uint8Array, scratch: number, scratchLength: number) {
    this.#mem = mem;
    this.#scratch = scratch;
    this.#scratchEnd = scratch + scratchLength;
    this.text = new Writer(mem);
  }

  begin(): void {
    this.#count = 0;
    this.#open = -1;
    this.#overflow = false;
    this.text.open(this.#scratch, this.#scratchEnd);
  }

  cut(from: number, to: number): void {
    this.#close();
    this.#edit(from, to - from);
  }

  /** Text written from now on goes in before the octet at `at`. */
  insert(at: number): Writer {
    return this.replace(at, at);
  }

  /** Text written from now on stands in place of [from, to). The same range once more: of the earlier text. */
  replace(from: number, to: number): Writer {
    this.#close();
    for (let i = 0; i < this.#count && from < to; i++) {
      if (this.#at[i] !== from || this.#cut[i] !== to - from) continue;
      this.#textStart[i] = this.#textEnd[i] = this.text.at;
      this.#open = i;
      return this.text;
    }
    this.#open = this.#edit(from, to - from);
    return this.text;
  }

  #close(): void {
    if (this.#open >= 0) this.#textEnd[this.#open] = this.text.at;
    this.#open = -1;
  }

  #edit(at: number, cut: number): number {
    let i = this.#count;
    if (i === MAX_EDITS) {
      this.#overflow = true;
      i--;
    } else this.#count++;
    const a = this.#at;
    while (i > 0 && a[i - 1] > at) {
      a[i] = a[i - 1];
      this.#cut[i] = this.#cut[i - 1];
      this.#textStart[i] = this.#textStart[i - 1];
      this.#textEnd[i] = this.#textEnd[i - 1];
      i--;
    }
    a[i] = at;
    this.#cut[i] = cut;
    this.#textStart[i] = this.text.at;
    this.#textEnd[i] = this.text.at;
    return i;
  }

  /** Appends `[start, end)` with all edits to `out`. False if something did not fit; `out` is then unusable. */
  apply(start: number, end: number, out: Writer): boolean {
    this.#close();
    let p = start;
    for (let i = 0; i < this.#count; i++) {
      const at = this.#at[i];
      out.range(this.#mem, p, at);
      out.range(this.#mem, this.#textStart[i], this.#textEnd[i]);
      p = Math.max(p, at + this.#cut[i]); // an insertion at the start of a cut must not bring the cut back
    }
    out.range(this.#mem, p, end);
    return !(out.overflow || this.#overflow || this.text.overflow);
  }
}
