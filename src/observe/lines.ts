/**
 * Where log lines go: to standard output, one `write` a line, and never waiting. If nobody reads the pipe behind it, lines
 * are lost and counted, and the next one that gets through is preceded by how many: a log that nobody reads
 * must not stop the traffic. A line goes out whole or not at all (of one that the pipe took in part the rest goes first).
 *
 * The pipe is opened anew for that: the flag that makes writing not wait is one of the open file, which others may share
 * with us. A terminal or a file takes lines as ever; standard output that cannot be opened again (a socket) is
 * written to as it is.
 */
import { constants, openSync, writeSync } from 'node:fs';

export class Lines {
  readonly #fd: number;
  /** of a line that went out in part */
  #rest: Buffer = Buffer.alloc(0);
  #lost = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  static toStandardOutput(): Lines {
    try {
      return new Lines(
        openSync('/proc/self/fd/1', constants.O_WRONLY | constants.O_APPEND | constants.O_NONBLOCK),
      );
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
