/** What became of the lines of an imported file: counted, and told at the end. The first wrong lines by number. */
import type { EndLine } from './format.ts';
import type { Page, Put } from './place.ts';
import { number } from './progress.ts';

const LINES_TOLD = 20;

export class Census {
  readonly #say: (line: string) => void;
  aors = 0;
  malformed = 0;
  #bindings = 0;
  #put = 0;
  #expired = 0;
  #ended = 0;
  #present = 0;

  constructor(say: (line: string) => void) {
    this.#say = say;
  }

  wrong(line: number, why: string): void {
    if (++this.malformed <= LINES_TOLD) this.#say(`line ${line}: ${why}`);
  }

  /** One address-of-record: bindings in all, of them not expired, of them reachable. */
  read(all: number, live: number, reachable: number): void {
    this.aors++;
    this.#bindings += all;
    this.#expired += all - live;
    this.#ended += live - reachable;
  }

  restored(page: Page, { put, closed }: Put): void {
    this.#put += put;
    this.#ended += closed;
    this.#present += page.reduce((sum, [, list]) => sum + list.length, 0) - put - closed;
  }

  /** What the file promised and did not have. */
  missing(end: EndLine | undefined): string | undefined {
    if (!end) return 'the file has no end: it was cut off, or its export was interrupted';
    if (this.malformed > 0 || (end.aors === this.aors && end.bindings === this.#bindings)) return undefined;
    return `the file should have ${number(end.bindings)} bindings of ${number(end.aors)} addresses-of-record, and has ${number(this.#bindings)} of ${number(this.aors)}`;
  }

  summary(place: string, seconds: number): string {
    const skipped = [
      [this.#expired, 'expired'],
      [this.#present, 'already there'],
      [this.#ended, 'whose flow has ended'],
    ] as const;
    const told = skipped.filter(([count]) => count > 0).map(([count, why]) => `${number(count)} ${why}`);
    if (this.malformed > 0) told.push(`${number(this.malformed)} malformed lines`);
    return `imported ${number(this.#put)} bindings of ${number(this.aors)} addresses-of-record into ${place} in ${seconds.toFixed(1)} s; skipped: ${told.join(', ') || 'nothing'}`;
  }
}
