/**
 * Where log lines go: to standard output, one `write` a line, and never waiting. If nobody reads what is behind it, lines
 * are lost and counted, and the next one that gets through is preceded by how many: a log that nobody reads
 * must not stop the traffic. A line goes out whole or not at all: of one that was taken in part the rest goes first.
 * (Several threads write into one pipe. A line above 4,096 octets that is taken in part may have theirs in its middle.)
 *
 * A pipe or a terminal, which ^S stops, is opened anew for that: the flag that makes writing not wait is one of the open
 * file, which others may share with us. A socket cannot be opened anew. It gets the flag itself, from Node, as soon as
 * anybody looks at `process.stdout`: here that is done before the first line, which has to be the main thread's. Whoever
 * shares it must then expect EAGAIN. A file is written to as it is; it waits for the disk and for nobody else.
 */
import { constants, fstatSync, openSync, writeSync } from 'node:fs';
import { isatty } from 'node:tty';

const ANEW = constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY;

export class Lines {
  readonly #fd: number;
  /** of a line that went out in part */
  #rest: Buffer = Buffer.alloc(0);
  #lost = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** One a thread. */
  static toStandardOutput(): Lines {
    standardOutput ??= Lines.#open();
    return standardOutput;
  }

  static #open(): Lines {
    try {
      const kind = fstatSync(1);
      if (kind.isSocket()) void process.stdout;
      return new Lines(kind.isFIFO() || isatty(1) ? openSync('/proc/self/fd/1', ANEW) : 1);
    } catch {
      return new Lines(1);
    }
  }

  /** A whole line with its end. */
  write(line: string): void {
    if (!this.#put(this.#rest)) {
      this.#lost++;
      return;
    }
    if (this.#lost > 0) {
      const told = { level: 40, time: Date.now(), event: 'log-lines-lost', lost: this.#lost };
      if (this.#put(Buffer.from(`${JSON.stringify(told)}\n`))) this.#lost = 0;
    }
    if (this.#lost > 0 || this.#rest.length > 0 || !this.#put(Buffer.from(line))) this.#lost++;
  }

  /** False: nothing of it went out. */
  #put(octets: Buffer): boolean {
    let at = 0;
    while (at < octets.length) {
      try {
        at += writeSync(this.#fd, octets, at);
      } catch {
        break; // EAGAIN: nobody reads; EPIPE: nobody will
      }
    }
    if (at === 0 && octets.length > 0) return false;
    this.#rest = octets.subarray(at);
    return true;
  }
}

let standardOutput: Lines | undefined;
