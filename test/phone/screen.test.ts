/** What a person sees: the terminal is played by a small emulation of the few things that are asked of it. */
import { PassThrough } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { phone } from '../../src/phone/command.ts';
import { Screen } from '../../src/phone/screen.ts';
import { Status } from '../../src/phone/status.ts';

/** Lines as they stand after cursor up, to a column, and erase below. */
class Terminal extends PassThrough {
  readonly isTTY = true;
  readonly columns = 60;
  readonly rows = 24;
  private lines: string[] = [''];
  private row = 0;
  private column = 0;

  constructor() {
    super();
    this.on('data', (chunk: Buffer) => this.draw(chunk.toString()));
  }

  get screen(): string[] {
    return this.lines.map((line) => line.trimEnd());
  }

  private draw(text: string): void {
    for (const [i, part] of text.split('\u001b[').entries()) {
      const count = i === 0 ? '' : part.slice(0, part.search(/[A-Z]/));
      const command = i === 0 ? '' : part[count.length];
      this.move(command, Number(count || 1));
      for (const char of part.slice(count.length + command.length)) this.put(char);
    }
  }

  private move(command: string, n: number): void {
    if (command === 'A') this.row = Math.max(0, this.row - n);
    else if (command === 'G') this.column = n - 1;
    else if (command === 'J') {
      this.lines[this.row] = this.lines[this.row].slice(0, this.column);
      this.lines.length = this.row + 1;
    }
  }

  private put(char: string): void {
    if (char === '\r') this.column = 0;
    else if (char === '\n') {
      this.row++;
      this.column = 0;
      this.lines[this.row] ??= '';
    } else {
      const line = this.lines[this.row].padEnd(this.column);
      this.lines[this.row] = line.slice(0, this.column) + char + line.slice(this.column + 1);
      this.column++;
    }
  }
}

const keyboard = () =>
  Object.assign(new PassThrough(), { isTTY: true, setRawMode: (): unknown => undefined });

async function live() {
  const output = new Terminal();
  const input = keyboard();
  const typed: string[] = [];
  let interrupts = 0;
  const screen = new Screen(input, output, {
    onLine: (line) => typed.push(line),
    onInterrupt: () => interrupts++,
  });
  return { output, input, typed, screen, interrupts: () => interrupts };
}

describe('at a terminal', () => {
  it('draws the block over itself, below the lines that stay and above what is being typed', async () => {
    const { output, input, screen } = await live();
    screen.say('first');
    screen.show(['one 1', 'two 1']);
    await setImmediate();
    expect(output.screen).toEqual(['first', 'one 1', 'two 1', '>']);
    input.write('half');
    await setImmediate();
    screen.show(['one 2', 'two 2']);
    screen.say('second', ['one 3', `${'x'.repeat(100)}`]);
    await setImmediate();
    expect(output.screen).toEqual(['first', 'second', 'one 3', 'x'.repeat(59), '> half']);
    screen.close();
  });

  it('keeps a line that was typed, and tells it', async () => {
    const { output, input, typed, screen } = await live();
    screen.show(['one']);
    input.write('sip:milo@example.test hi\r');
    await setImmediate();
    screen.say('to sip:milo@example.test: 200 OK');
    await setImmediate();
    expect(typed).toEqual(['sip:milo@example.test hi']);
    expect(output.screen).toEqual([
      '> sip:milo@example.test hi',
      'to sip:milo@example.test: 200 OK',
      'one',
      '>',
    ]);
    screen.close();
  });

  it.each([
    ['^C', '\u0003'],
    ['^D', '\u0004'],
  ])('tells %s', async (_name, key) => {
    const { input, screen, interrupts } = await live();
    input.write(key);
    await setImmediate();
    screen.close(); // which is no second one: that would end the process at once
    expect(interrupts()).toBe(1);
  });
});

describe('a terminal that is gone', () => {
  it('takes no mode any more, and is told as ^D is', async () => {
    const { input, interrupts } = await live();
    input.setRawMode = () => input.emit('error', new Error('setRawMode EIO'));
    input.end();
    input.resume();
    while (interrupts() === 0) await setImmediate();
    expect(interrupts()).toBe(1);
  });
});

describe('the command at a terminal', () => {
  it('makes the signal of ^C that raw mode keeps back, once, and ends by it', async () => {
    const stdin = keyboard();
    const stdout = new Terminal();
    const signal = new AbortController();
    let sent = 0;
    const ended = phone(['--aor', 'sip:dora@example.test', '--proxy', 'sip:edge.test'], {
      stdin,
      stdout,
      stderr: new PassThrough(),
      locate: async () => ({ targets: [], failure: '', ttl: 1 }),
      interrupt: signal.signal,
      sendInterrupt: () => {
        sent++;
        signal.abort();
      },
    });
    stdin.write('\u0003');
    expect(await ended).toBe(0);
    expect(sent).toBe(1);
    expect(stdout.screen).toContain('unregistered');
  });
});

describe('elsewhere', () => {
  it('prints lines alone', async () => {
    const output = new PassThrough();
    const screen = new Screen(new PassThrough(), output, { onLine: () => {}, onInterrupt: () => {} });
    screen.show(['one']);
    screen.say('first');
    screen.close();
    expect(output.read().toString()).toBe('first\n');
  });
});

describe('the state of a flow', () => {
  const uri = 'sip:edge.test';
  const of = (event: object) => ({ uri, regId: 1, ...event }) as never;

  it('counts down to the next attempt, and up from the last keep-alive', () => {
    const status = new Status([uri, 'sip:other.edge.test']);
    expect(status.lines(0)).toEqual(['sip:edge.test        connecting', 'sip:other.edge.test  connecting']);
    const told = status.flow(of({ state: 'failed', cause: 'refused', retryIn: 45_000 }), 0);
    expect(told).toBe('sip:edge.test (reg-id 1): failed: refused, next attempt in 45 s');
    expect(status.lines(15_000)[0]).toBe('sip:edge.test        failed: refused; next attempt in 30 s');
    status.flow(of({ state: 'registered', outbound: true }), 45_000);
    expect(status.keepAlive(of({ state: 'sent' }), 50_000)).toBeUndefined();
    expect(status.lines(52_500)[0]).toBe(
      'sip:edge.test        registered, outbound; keep-alive sent 2.5 s ago',
    );
    expect(status.keepAlive(of({ state: 'answered' }), 52_501)).toMatch(/answered in 2501.0 ms$/);
    expect(status.lines(82_501)[0]).toBe(
      'sip:edge.test        registered, outbound; keep-alive 30 s ago, 2501.0 ms',
    );
    status.flow(of({ state: 'deferred', status: 503, retryIn: 7_000 }), 90_000);
    expect(status.lines(90_000)[0]).toBe(
      'sip:edge.test        registered, refresh answered 503; next attempt in 7.0 s',
    );
    status.flow(of({ state: 'lost', cause: { status: 403 }, retryIn: 0 }), 90_000);
    expect(status.lines(95_000)[0]).toBe('sip:edge.test        lost: answered 403; next attempt in 0.0 s');
  });
});
