/**
 * Where the phone talks to a person. At a terminal: lines scroll by above a block of status that is drawn over itself,
 * and below it is what is being typed. Elsewhere: lines alone, and lines of standard input. A line that is typed, or
 * comes, is told to `onLine`; ^C to `onInterrupt`, for a terminal in raw mode makes no signal of it.
 */
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

export type Input = Readable & { isTTY?: boolean };
export type Output = Writable & { isTTY?: boolean; columns?: number };

const PROMPT = '> ';

export class Screen {
  readonly #output: Output;
  readonly #reader: Interface;
  /** there is a block */
  readonly isLive: boolean;
  /** lines of the block that stands on the screen */
  #drawn = 0;
  #block: readonly string[] = [];
  #closed = false;

  constructor(
    input: Input,
    output: Output,
    { onLine, onInterrupt }: { onLine: (line: string) => void; onInterrupt: () => void },
  ) {
    this.#output = output;
    this.isLive = Boolean(input.isTTY && output.isTTY);
    this.#reader = createInterface({
      input,
      ...(this.isLive ? { output } : {}),
      terminal: this.isLive,
      prompt: PROMPT,
    });
    this.#reader.on('line', (line) => {
      if (this.#drawn > 0) {
        // readline has left the line that was typed: that one stays, the block above it does not
        const rows = Math.floor((PROMPT.length + line.length) / (output.columns || 80)) + 1;
        output.write(`\r\u001b[${this.#drawn + rows}A\u001b[J${PROMPT}${line}\n`);
        this.#drawn = 0;
      }
      this.#draw();
      onLine(line);
    });
    this.#reader.on('SIGINT', onInterrupt);
    this.#reader.on('error', () => {}); // a terminal that is gone takes no mode; `close` follows
    this.#reader.on('close', () => {
      if (this.isLive && !this.#closed) onInterrupt(); // ^D
    });
  }

  /** One that stays; the block below it is replaced, if there is another. */
  say(line: string, block = this.#block): void {
    this.#block = block;
    this.#erase();
    this.#output.write(`${line}\n`);
    this.#draw();
  }

  /** The block, from now on. Nothing where there is no terminal. */
  show(block: readonly string[]): void {
    this.#block = block;
    this.#erase();
    this.#draw();
  }

  close(): void {
    this.#erase();
    this.#closed = true;
    this.#reader.close();
  }

  #erase(): void {
    if (!this.isLive || this.#drawn === 0) return;
    const up = this.#drawn + this.#reader.getCursorPos().rows;
    this.#output.write(`\r\u001b[${up}A\u001b[J`);
    this.#drawn = 0;
  }

  #draw(): void {
    if (!this.isLive || this.#closed || this.#block.length === 0) return;
    if (this.#drawn > 0) this.#erase();
    // a line that wraps would be two; some terminals say that they have 0 columns
    const width = (this.#output.columns || 80) - 1;
    this.#output.write(this.#block.map((line) => `${line.slice(0, width)}\n`).join(''));
    this.#drawn = this.#block.length;
    this.#reader.prompt(true);
  }
}
