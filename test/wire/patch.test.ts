/** Edits against a model on strings; the writer that both use. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Patch } from '../../src/wire/patch.ts';
import { Writer } from '../../src/wire/writer.ts';

const SOURCE = 16;
const SCRATCH = 4096;
const OUT = 8192;
const SIZE = 16_384;

interface Edit {
  from: number;
  to: number;
  text: string;
}

const source = fc.string({ unit: fc.constantFrom(...'abcdefghij\r\n'), maxLength: 200 });

/** Edits that do not overlap, over a text of this length, in any order. */
const edits = (length: number): fc.Arbitrary<Edit[]> =>
  fc
    .array(fc.tuple(fc.nat(length), fc.string({ unit: fc.constantFrom(...'XYZ'), maxLength: 50 })), {
      maxLength: 24,
    })
    .chain((marks) => {
      const sorted = [...marks].sort((a, b) => a[0] - b[0]);
      const list: Edit[] = [];
      for (let i = 0; i + 1 < sorted.length; i += 2)
        list.push({ from: sorted[i][0], to: sorted[i + 1][0], text: sorted[i][1] });
      return fc.shuffledSubarray(list, { minLength: list.length, maxLength: list.length });
    });

/** What the edits mean: at one offset, in the order in which they were made. */
function model(text: string, list: readonly Edit[]): string {
  const ordered = list.map((edit, i) => ({ ...edit, i })).sort((a, b) => a.from - b.from || a.i - b.i);
  let out = '';
  let at = 0;
  for (const { from, to, text: inserted } of ordered) {
    out += text.slice(at, Math.max(at, from)) + inserted;
    at = Math.max(at, to);
  }
  return out + text.slice(at);
}

function setUp(text: string, scratch = 2048) {
  const mem = new Uint8Array(SIZE).fill(35);
  mem.set(Buffer.from(text, 'latin1'), SOURCE);
  const patch = new Patch(mem, SCRATCH, scratch);
  const out = new Writer(mem);
  out.open(OUT, SIZE);
  patch.begin();
  return { mem, patch, out };
}

function make(patch: Patch, { from, to, text }: Edit): void {
  if (text === '') patch.cut(SOURCE + from, SOURCE + to);
  else if (from === to) patch.insert(SOURCE + from).text(text);
  else patch.replace(SOURCE + from, SOURCE + to).text(text);
}

describe('a patched message', () => {
  it('has all edits and every other octet as it was', () => {
    const cases = source.chain((text) => fc.tuple(fc.constant(text), edits(text.length)));
    fc.assert(
      fc.property(cases, ([text, list]) => {
        const { mem, patch, out } = setUp(text);
        for (const edit of list) make(patch, edit);
        expect(patch.apply(SOURCE, SOURCE + text.length, out)).toBe(true);
        expect(Buffer.from(mem.subarray(OUT, out.at)).toString('latin1')).toBe(model(text, list));
        expect(Buffer.from(mem.subarray(SOURCE, SOURCE + text.length)).toString('latin1')).toBe(text);
      }),
      { numRuns: 1000 },
    );
  });

  it('without edits is the message', () => {
    const { mem, patch, out } = setUp('abc\r\n');
    expect(patch.apply(SOURCE, SOURCE + 5, out)).toBe(true);
    expect(Buffer.from(mem.subarray(OUT, out.at)).toString()).toBe('abc\r\n');
  });

  it('takes texts that are written in several steps, one edit after the other', () => {
    const { mem, patch, out } = setUp('0123456789');
    const w = patch.insert(SOURCE + 4);
    w.text('a');
    w.byte(98);
    patch.cut(SOURCE, SOURCE + 2);
    patch.replace(SOURCE + 9, SOURCE + 10).decimal(42);
    patch.insert(SOURCE + 4).text('c');
    expect(patch.apply(SOURCE, SOURCE + 10, out)).toBe(true);
    expect(Buffer.from(mem.subarray(OUT, out.at)).toString()).toBe('23abc4567842');
  });

  it('lets the later text of one range stand when it is replaced twice', () => {
    const { mem, patch, out } = setUp('0123456789');
    patch.replace(SOURCE + 2, SOURCE + 5).text('first');
    patch.insert(SOURCE + 7).text('x');
    patch.replace(SOURCE + 2, SOURCE + 5).text('second');
    expect(patch.apply(SOURCE, SOURCE + 10, out)).toBe(true);
    expect(Buffer.from(mem.subarray(OUT, out.at)).toString()).toBe('01second56x789');
  });

  it('can be applied to parts of the message, and again', () => {
    const { mem, patch, out } = setUp('0123456789');
    patch.replace(SOURCE + 2, SOURCE + 3).text('x');
    expect(patch.apply(SOURCE, SOURCE + 5, out)).toBe(true);
    expect(patch.apply(SOURCE, SOURCE + 5, out)).toBe(true);
    expect(Buffer.from(mem.subarray(OUT, out.at)).toString()).toBe('01x3401x34');
  });

  it('starts from nothing after begin', () => {
    const { mem, patch, out } = setUp('0123');
    patch.replace(SOURCE, SOURCE + 4).text('gone');
    patch.begin();
    expect(patch.apply(SOURCE, SOURCE + 4, out)).toBe(true);
    expect(Buffer.from(mem.subarray(OUT, out.at)).toString()).toBe('0123');
  });

  it('says that it did not fit: the text, the message, or the number of edits', () => {
    const { patch, out } = setUp('0123');
    patch.insert(SOURCE).text('x'.repeat(2049));
    expect(patch.apply(SOURCE, SOURCE + 4, out)).toBe(false);
    patch.begin();
    out.open(OUT, OUT + 3);
    expect(patch.apply(SOURCE, SOURCE + 4, out)).toBe(false);
    patch.begin();
    out.open(OUT, SIZE);
    for (let i = 0; i < 256; i++) patch.insert(SOURCE + (i & 3)).byte(120);
    expect(patch.apply(SOURCE, SOURCE + 4, out)).toBe(true);
    patch.insert(SOURCE + 1).byte(120);
    out.open(OUT, SIZE);
    expect(patch.apply(SOURCE, SOURCE + 4, out)).toBe(false);
  });
});

describe('the writer', () => {
  const open = (room: number) => {
    const w = new Writer(new Uint8Array(100).fill(35));
    w.open(10, 10 + room);
    return w;
  };
  const written = (w: Writer) => Buffer.from(w.buf.subarray(10, w.at)).toString('latin1');

  it('writes decimals of any size that a header has', () => {
    fc.assert(
      fc.property(fc.nat(2 ** 31 - 1), (n) => {
        const w = open(20);
        w.decimal(n);
        expect(written(w)).toBe(`${n}`);
      }),
    );
    for (const n of [0, 9, 10, 99, 100, 65_535, 2 ** 31 - 1, 2 ** 32 - 1]) {
      const w = open(20);
      w.decimal(n);
      expect(written(w)).toBe(`${n}`);
    }
  });

  it('writes ranges short and long, from its own buffer and from another', () => {
    for (const length of [0, 1, 31, 32, 33, 60]) {
      const own = new Writer(new Uint8Array(300).map((_, i) => i));
      own.open(200, 300);
      own.range(own.buf, 5, 5 + length);
      expect(own.buf.subarray(200, own.at)).toEqual(own.buf.slice(5, 5 + length));
      const other = open(80);
      other.range(own.buf, 5, 5 + length);
      expect(other.buf.subarray(10, other.at)).toEqual(own.buf.slice(5, 5 + length));
    }
  });

  it('never writes past its limit, and says so once', () => {
    type Step = (w: Writer) => void;
    const steps: Step[] = [
      (w) => w.byte(120),
      (w) => w.crlf(),
      (w) => w.text('abcdef'),
      (w) => w.utf8('é€'),
      (w) => w.decimal(12_345),
      (w) => w.bytes(new Uint8Array(40)),
    ];
    fc.assert(
      fc.property(fc.nat(60), fc.array(fc.constantFrom(...steps), { maxLength: 12 }), (room, list) => {
        const w = open(room);
        for (const step of list) step(w);
        expect(w.at).toBeLessThanOrEqual(10 + room);
        expect(w.buf.subarray(10 + room).every((octet) => octet === 35)).toBe(true);
      }),
    );
    const w = open(3);
    w.text('abcd');
    expect([w.overflow, written(w)]).toEqual([true, '']);
  });
});
