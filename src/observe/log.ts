/**
 * JSON lines on standard output, one event a line, by pino. Every thread writes its own lines,
 * at once: a line is whole or not there (lines.ts). What traffic can cause is sampled, so that a storm of
 * registrations does not become a storm of log lines: at most LINES_PER_SECOND of one event a second
 * and thread, and then one line that says how many were left out.
 */
import pino, { type Logger } from 'pino';
import { Lines } from './lines.ts';

const LINES_PER_SECOND = 50;

export type { Logger };

export function openLog(level: string, thread: string): Logger {
  return pino({ level, base: { thread } }, Lines.toStandardOutput());
}

export class Sampled {
  readonly #log: Logger;
  readonly #event: string;
  #second = -1;
  #lines = 0;

  constructor(log: Logger, event: string) {
    this.#log = log;
    this.#event = event;
  }

  /** Ask before the fields are made. `now` in ms. */
  wants(now: number): boolean {
    const second = Math.floor(now / 1000);
    if (second !== this.#second) {
      const left = this.#lines - LINES_PER_SECOND;
      if (left > 0) this.#log.info({ event: this.#event, leftOut: left });
      this.#second = second;
      this.#lines = 0;
    }
    return ++this.#lines <= LINES_PER_SECOND && this.#log.isLevelEnabled('info');
  }

  write(fields: Record<string, unknown>): void {
    this.#log.info({ event: this.#event, ...fields });
  }
}
