/**
 * How far a transfer is, on standard error: at a terminal a bar that is drawn over itself, elsewhere a line
 * from time to time. Lines that are to stay are written through it, so that they do not end up in the bar.
 */
import type { Writable } from 'node:stream';

type Terminal = Writable & { isTTY?: boolean; columns?: number };

const BAR = 24;
const DRAW_MS = 200;
const SAY_MS = 10_000;

export class Progress {
  readonly #out: Terminal;
  readonly #now: () => number;
  readonly #began: number;
  /** addresses-of-record that are expected; undefined: nobody knows */
  total: number | undefined;
  #next: number;
  #isDrawn = false;

  constructor(out: Terminal, now: () => number) {
    this.#out = out;
    this.#now = now;
    this.#began = now();
    this.#next = this.#began + (out.isTTY ? DRAW_MS : SAY_MS);
  }

  get seconds(): number {
    return (this.#now() - this.#began) / 1000;
  }

  show(done: number): void {
    const now = this.#now();
    if (now < this.#next) return;
    if (!this.#out.isTTY) {
      this.#next = now + SAY_MS;
      this.#out.write(`${this.#text(done)}\n`);
      return;
    }
    this.#next = now + DRAW_MS;
    this.#isDrawn = true;
    // no more than the line has; some terminals say that it has 0
    const width = (this.#out.columns || 80) - 1;
    this.#out.write(`\r\u001b[K${`${this.#bar(done)}${this.#text(done)}`.slice(0, width)}`);
  }

  say(line: string): void {
    if (this.#isDrawn) this.#out.write('\r\u001b[K');
    this.#isDrawn = false;
    this.#out.write(`${line}\n`);
  }

  #bar(done: number): string {
    if (!this.total) return '';
    const full = Math.min(BAR, Math.round((BAR * done) / this.total));
    return `[${'#'.repeat(full)}${' '.repeat(BAR - full)}] `;
  }

  #text(done: number): string {
    const rate = done / Math.max(this.seconds, 0.001);
    const count = `${number(done)}${this.total ? ` of ${number(this.total)}` : ''} addresses-of-record`;
    // a total is what was counted at the beginning: more may have come
    const left = this.total ? Math.max(0, this.total - done) / rate : Number.NaN;
    return `${count}, ${number(Math.round(rate))}/s${Number.isFinite(left) ? `, ${duration(left)} left` : ''}`;
  }
}

export const number = (n: number): string => n.toLocaleString('en');

const duration = (seconds: number): string =>
  seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`;
