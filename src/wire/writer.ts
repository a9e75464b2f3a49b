/**
 * Appends octets to a region of a buffer. Running out of room sets `overflow` and drops the rest: the
 * caller looks once, at the end, instead of at every append. Short runs are copied by a loop, longer
 * ones inside one buffer by `copyWithin` (about 40 ns whatever the length up to 600 octets).
 */
const LOOP_LIMIT = 32;
const SET_LIMIT = 16;

export class Writer {
  readonly buf: Uint8Array;
  at = 0;
  limit = 0;
  overflow = false;

  constructor(buf: Uint8Array) {
    this.buf = buf;
  }

  open(at: number, limit: number): void {
    this.at = at;
    this.limit = limit;
    this.overflow = false;
  }

  /** Is there room for so many more? If not, the writer has overflowed. */
  fits(length: number): boolean {
    if (this.at + length <= this.limit) return true;
    this.overflow = true;
    return false;
  }

  byte(value: number): void {
    if (this.fits(1)) this.buf[this.at++] = value;
  }

  /** All octets of an array. `set` of a whole one takes 18 ns whatever its length; of a part it would need a view. */
  bytes(source: Uint8Array): void {
    const { length } = source;
    if (length <= SET_LIMIT) this.range(source, 0, length);
    else if (this.fits(length)) {
      this.buf.set(source, this.at);
      this.at += length;
    }
  }

  range(source: Uint8Array, start: number, end: number): void {
    const length = end - start;
    if (length <= 0 || !this.fits(length)) return;
    const buf = this.buf;
    let w = this.at;
    if (length > LOOP_LIMIT && source === buf) buf.copyWithin(w, start, end);
    else for (let i = start; i < end; i++) buf[w++] = source[i];
    this.at += length;
  }

  /** ASCII text, for rare answers. */
  text(source: string): void {
    if (!this.fits(source.length)) return;
    for (let i = 0; i < source.length; i++) this.buf[this.at++] = source.charCodeAt(i);
  }

  /** UTF-8 text. */
  utf8(source: string): void {
    const bytes = Buffer.from(source, 'utf8');
    this.range(bytes, 0, bytes.length);
  }

  decimal(value: number): void {
    let digits = 1;
    for (let v = value; v >= 10; v = (v / 10) | 0) digits++;
    if (!this.fits(digits)) return;
    let v = value;
    for (let i = this.at + digits - 1; i >= this.at; i--) {
      const q = (v / 10) | 0;
      this.buf[i] = 48 + v - q * 10;
      v = q;
    }
    this.at += digits;
  }

  crlf(): void {
    this.byte(13);
    this.byte(10);
  }
}
