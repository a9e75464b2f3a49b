/** What a person sees of a transfer: a bar at a terminal, a line now and then elsewhere. */
import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { Progress } from '../../src/transfer/progress.ts';

/** Where it is shown, and when. */
function shown(terminal: { isTTY?: boolean; columns?: number } = {}) {
  let text = '';
  const clock = { ms: 5_000 };
  const out = new Writable({
    write(chunk, _, done) {
      text += chunk;
      done();
    },
  });
  const progress = new Progress(Object.assign(out, terminal), () => clock.ms);
  const at = (ms: number, done: number): string => {
    text = '';
    clock.ms = 5_000 + ms;
    progress.show(done);
    return text;
  };
  const said = (line: string): string => {
    text = '';
    progress.say(line);
    return text;
  };
  return { progress, at, said };
}

describe('to a file or a pipe', () => {
  it('it writes a line every ten seconds, with count, rate and what is left', () => {
    const { progress, at } = shown();
    progress.total = 40_000;
    expect(at(9_999, 100)).toBe('');
    expect(at(10_000, 10_000)).toBe('10,000 of 40,000 addresses-of-record, 1,000/s, 30 s left\n');
    expect(at(19_999, 20_000)).toBe('');
    expect(at(200_000, 20_000)).toBe('20,000 of 40,000 addresses-of-record, 100/s, 4 min left\n');
  });

  it('it says what it knows where no total is known, or more comes than was counted', () => {
    const { progress, at } = shown();
    expect(at(10_000, 500)).toBe('500 addresses-of-record, 50/s\n');
    progress.total = 400;
    expect(at(20_000, 500)).toBe('500 of 400 addresses-of-record, 25/s, 0 s left\n');
    expect(at(30_000, 0)).toBe('0 of 400 addresses-of-record, 0/s\n');
  });
});

describe('at a terminal', () => {
  it('it draws over itself five times a second, within the line', () => {
    const { progress, at } = shown({ isTTY: true, columns: 40 });
    progress.total = 400;
    expect(at(199, 1)).toBe('');
    expect(at(1_000, 100)).toBe('\r\u001b[K[######                  ] 100 of 400 a');
    expect(shown({ isTTY: true, columns: 0 }).at(1_000, 7)).toBe('\r\u001b[K7 addresses-of-record, 7/s');
  });

  it('a line that is to stay takes the place of the bar, once', () => {
    const { at, said } = shown({ isTTY: true });
    expect(said('first')).toBe('first\n');
    at(1_000, 1);
    expect(said('line 2: too long')).toBe('\r\u001b[Kline 2: too long\n');
    expect(said('last')).toBe('last\n');
  });
});
