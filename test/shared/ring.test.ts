import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_WORDS, Ring } from '../../src/shared/ring.ts';

const SIZE = 256;

/** A ring whose positions stand at `start`, and both of its ends. */
function ends(start = 0) {
  const buffer = new SharedArrayBuffer(64 + Ring.bytes(SIZE));
  const control = new Int32Array(buffer, 64);
  control[0] = start;
  control[16] = start;
  return { producer: new Ring(buffer, 64, SIZE), consumer: new Ring(buffer, 64, SIZE) };
}

const NO_WORDS = new Int32Array(MAX_WORDS);

describe('ring', () => {
  it('gives back what was written, in order and in one piece, across every wrap', () => {
    const message = fc.record({
      type: fc.nat(0xffff),
      words: fc.array(fc.integer(), { maxLength: MAX_WORDS }),
      bytes: fc.uint8Array({ maxLength: SIZE / 2 - 40 }),
    });
    const step = fc.oneof(
      { weight: 3, arbitrary: message },
      { weight: 2, arbitrary: fc.constant('read' as const) },
    );
    // positions near 2^31 and 2^32 too
    const start = fc.constantFrom(0, 0x7fffff80, -128);
    fc.assert(
      fc.property(start, fc.array(step, { maxLength: 80 }), (at, steps) => {
        const { producer, consumer } = ends(at);
        const waiting: { type: number; words: number[]; bytes: Uint8Array }[] = [];
        let refused = 0;
        const readOne = () => {
          const next = waiting.shift();
          expect(consumer.peek()).toBe(next !== undefined);
          expect(consumer.isEmpty()).toBe(next === undefined);
          if (next === undefined) return;
          expect(consumer.type).toBe(next.type);
          expect(Array.from({ length: consumer.wordCount }, (_, i) => consumer.word(i))).toEqual(next.words);
          const from = consumer.payloadOffset;
          const bytes = consumer.memory.slice(from, from + consumer.payloadLength);
          expect(Buffer.compare(bytes, next.bytes)).toBe(0);
          consumer.advance();
        };
        for (const next of steps) {
          if (next === 'read') {
            readOne();
            continue;
          }
          const source = new Uint8Array(next.bytes.length + 3);
          source.set(next.bytes, 3);
          const words = Int32Array.from(next.words);
          if (producer.write(next.type, words, words.length, source, 3, next.bytes.length))
            waiting.push(next);
          else {
            refused++;
            expect(waiting.length, 'an empty ring refused a message').toBeGreaterThan(0);
          }
        }
        expect(producer.refused).toBe(refused);
        while (waiting.length > 0) readOne();
        readOne();
      }),
      { numRuns: 300 },
    );
  });

  it('refuses and counts what can never fit', () => {
    const { producer, consumer } = ends();
    expect(producer.write(1, NO_WORDS, 0, new Uint8Array(SIZE), 0, producer.maxPayload + 1)).toBe(false);
    expect(producer.write(1, new Int32Array(9), MAX_WORDS + 1, new Uint8Array(0), 0, 0)).toBe(false);
    expect([producer.refused, consumer.peek()]).toEqual([2, false]);
  });

  it('takes the longest message at every position', () => {
    for (let skipped = 0; skipped < SIZE; skipped += 4) {
      const { producer, consumer } = ends(skipped);
      expect(producer.write(1, NO_WORDS, MAX_WORDS, new Uint8Array(SIZE), 0, producer.maxPayload)).toBe(true);
      expect(consumer.peek()).toBe(true);
      expect(consumer.payloadOffset + consumer.payloadLength).toBeLessThanOrEqual(SIZE);
    }
  });

  it('keeps what it holds for a consumer that attaches later, and drops it on demand', () => {
    const buffer = new SharedArrayBuffer(Ring.bytes(SIZE));
    const producer = new Ring(buffer, 0, SIZE);
    producer.write(5, NO_WORDS, 0, new Uint8Array(4), 0, 4);
    expect(new Ring(buffer, 0, SIZE).peek()).toBe(true);
    expect(new Ring(buffer, 0, SIZE).discard()).toBe(12);
    expect(new Ring(buffer, 0, SIZE).peek()).toBe(false);
    for (let i = 0; i < 21; i++) expect(producer.write(i, NO_WORDS, 0, new Uint8Array(4), 0, 4)).toBe(true);
    expect(producer.write(0, NO_WORDS, 0, new Uint8Array(4), 0, 4)).toBe(false);
  });

  it('is only made with a size that its positions can wrap over', () => {
    expect(() => new Ring(new SharedArrayBuffer(4096), 0, 1000)).toThrow(RangeError);
  });
});
