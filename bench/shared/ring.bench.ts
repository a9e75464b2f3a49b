/** A ring between two shards, both ends on one thread: the copy and the bookkeeping, not the cache misses. */
import { Ring } from '../../src/shared/ring.ts';
import type { Suite } from '../suite.ts';

const SIZE = 1 << 20;
const COUNT = 64;

export default function prepare(): Suite {
  const buffer = new SharedArrayBuffer(Ring.bytes(SIZE));
  const producer = new Ring(buffer, 0, SIZE);
  const consumer = new Ring(buffer, 0, SIZE);
  const words = new Int32Array(8);
  const bytes = Buffer.from(new SharedArrayBuffer(64 * 1024)).fill(65);
  const passing = (length: number) => ({
    name: `write and read ${length} octets`,
    ops: COUNT,
    run() {
      let sum = 0;
      for (let i = 0; i < COUNT; i++)
        if (!producer.write(1, words, 2, bytes, i * 16, length)) throw new Error('the ring is full');
      while (consumer.peek()) {
        sum += consumer.word(0) + consumer.payloadLength;
        consumer.advance();
      }
      return sum;
    },
  });
  return { cases: [passing(0), passing(700), passing(4000)] };
}
