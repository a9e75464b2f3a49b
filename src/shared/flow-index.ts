/**
 * UDP addresses -> flow slot: (listener, remote address and port, local address), shared by all threads.
 * Buckets of one cache line, open addressing over at most four of them. Word 0 of a bucket says that entries have
 * overflowed into the next one (sticky); each other word is one entry: slot + 1 (24 bits), a TENTATIVE bit, and 7 bits
 * of the hash. The key itself is compared in the flow record, so an entry is put in or taken out by one
 * compare-and-swap, a writer that dies can leave no half of one, no reader ever waits, and an entry whose flow
 * has ended misleads nobody. It only takes up room, until `sweepStale`.
 *
 * Two threads may make a flow for one address at once. An entry is therefore put in TENTATIVE, the chain is looked
 * through again, and only then is it committed; of two inserters the later one must see the other, and either yields
 * to its committed entry or throws out its tentative one. So at most one of them keeps the address.
 *
 * The hash is HalfSipHash-1-3 under a secret key, since clients choose their ports. At most a quarter of the entries
 * are in use when the table is full, so an overflow is about one bucket in a million.
 */
import { type Address, KEY_WORDS } from './flow-record.ts';
import { type FlowTable, generationOf, isLiveLife } from './flow-table.ts';

const BUCKET_WORDS = 16;
const MAX_HOPS = 4;
/** The first bucket's place holds the two words of the hash key. */
const HEADER_WORDS = BUCKET_WORDS;
const SLOT_MASK = 0xffffff;
const TENTATIVE = 1 << 24;
const FINGERPRINT_SHIFT = 25;
const MAX_TRIES = 64;
/** Third word of an IPv4 address as `Endpoint` holds it. */
const V4_MAPPED = 0xffff;

export interface FlowIndexDescriptor {
  readonly buffer: SharedArrayBuffer;
  readonly buckets: number;
}

export class FlowIndex {
  readonly #table: FlowTable;
  readonly #words: Int32Array;
  readonly #mask: number;
  readonly #seed0: number;
  readonly #seed1: number;
  readonly #key = new Int32Array(KEY_WORDS);
  /** The generation of the flow that the last successful look-up found. */
  generation = 0;
  // What the last scan found: word offsets, -1 for none.
  #mine = -1;
  #empty = -1;
  #rival = -1;

  /** The two words of the seed must be random and secret. */
  static allocate(maxFlows: number, seed0: number, seed1: number): FlowIndexDescriptor {
    let buckets = MAX_HOPS;
    while (buckets * (BUCKET_WORDS - 1) < maxFlows * 4) buckets *= 2;
    const buffer = new SharedArrayBuffer((HEADER_WORDS + buckets * BUCKET_WORDS) * 4);
    new Int32Array(buffer).set([seed0 | 0, seed1 | 0]);
    return { buffer, buckets };
  }

  constructor(descriptor: FlowIndexDescriptor, table: FlowTable) {
    this.#table = table;
    this.#words = new Int32Array(descriptor.buffer);
    this.#mask = descriptor.buckets - 1;
    this.#seed0 = this.#words[0];
    this.#seed1 = this.#words[1];
  }

  /**
   * The slot of the live flow for these addresses, or -1. `generation` then names its life. The local address must be
   * what the record has: the one that the datagram came to.
   */
  lookup(
    listener: number,
    a0: number,
    a1: number,
    a2: number,
    a3: number,
    port: number,
    l0: number,
    l1: number,
    l2: number,
    l3: number,
  ): number {
    const key = this.#key;
    key[0] = (listener << 16) | port;
    key[1] = a0;
    key[2] = a1;
    key[3] = a2;
    key[4] = a3;
    key[5] = l0;
    key[6] = l1;
    key[7] = l2;
    key[8] = l3;
    const hash = this.#hashKey();
    const words = this.#words;
    for (let hop = 0; hop < MAX_HOPS; hop++) {
      const base = this.#bucket(hash, hop);
      // Plain loads: a word cannot tear, and one that is a moment old is a look-up made a moment earlier.
      for (let at = base + 1; at < base + BUCKET_WORDS; at++) {
        const entry = words[at];
        if (entry !== 0 && (entry ^ hash) >>> FINGERPRINT_SHIFT === 0) {
          const slot = (entry & SLOT_MASK) - 1;
          if (this.#holdsKey(slot)) return slot;
        }
      }
      if (words[base] === 0) return -1;
    }
    return -1;
  }

  /** The same with addresses as the layers above hold them. The port of `local` does not matter: the listener says it. */
  find(listener: number, remote: Address, local: Address): number {
    const { a0, a1, a2, a3, port } = remote;
    return this.lookup(listener, a0, a1, a2, a3, port, local.a0, local.a1, local.a2, local.a3);
  }

  /**
   * Enters a published flow under the addresses in its record. Returns its own slot, or the slot of the live flow
   * that has the address already (the caller then releases its own), or -1 if there is no room. May be repeated.
   */
  insert(slot: number): number {
    this.#table.readKey(slot, this.#key);
    const hash = this.#hashKey();
    const mark = hash & (-1 << FINGERPRINT_SHIFT);
    const words = this.#words;
    const entry = mark | (slot + 1);
    let placed = false;
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      this.#scan(hash, slot, true);
      const mine = this.#mine;
      const rival = this.#rival;
      if (rival >= 0) {
        const theirs = Atomics.load(words, rival);
        if ((theirs & TENTATIVE) === 0) {
          const winner = (theirs & SLOT_MASK) - 1;
          if (winner < 0 || !this.#holdsKey(winner)) continue;
          if (placed && mine >= 0) Atomics.compareExchange(words, mine, entry | TENTATIVE, 0);
          return winner;
        }
        if (mine >= 0) {
          Atomics.compareExchange(words, rival, theirs, 0);
          continue;
        }
      }
      if (mine < 0) {
        if (this.#empty < 0) return -1;
        Atomics.compareExchange(words, this.#empty, 0, entry | TENTATIVE);
        placed = true;
      } else {
        const before = Atomics.compareExchange(words, mine, entry | TENTATIVE, entry);
        if (before === entry || before === (entry | TENTATIVE)) return slot;
      }
    }
    this.remove(slot);
    return -1;
  }

  /** Takes a flow's entry out. By the holder of a CLOSING slot, or of a CLAIMED one that still has its old addresses. */
  remove(slot: number): boolean {
    this.#table.readKey(slot, this.#key);
    const hash = this.#hashKey();
    for (;;) {
      this.#scan(hash, slot, false);
      if (this.#mine < 0) return false;
      const entry = Atomics.load(this.#words, this.#mine);
      if ((entry & SLOT_MASK) !== slot + 1) continue;
      if (Atomics.compareExchange(this.#words, this.#mine, entry, 0) === entry) return true;
    }
  }

  /** FlowTable.reclaimProvisional, with the old flow's entry taken out and the record cleared. */
  reclaim(owner: number): number {
    const slot = this.#table.reclaimProvisional(owner);
    if (slot < 0) return -1;
    this.remove(slot);
    this.#table.clear(slot);
    return slot;
  }

  /**
   * Takes out entries whose flow has ended or has other addresses now, in `count` buckets from bucket `from`, and
   * returns how many. For the supervisor after a shard's death. A flow that comes to life meanwhile keeps its entry.
   */
  sweepStale(from = 0, count = this.#mask + 1): number {
    const words = this.#words;
    let removed = 0;
    for (let bucket = from; bucket < from + count && bucket <= this.#mask; bucket++) {
      const base = HEADER_WORDS + bucket * BUCKET_WORDS;
      for (let at = base + 1; at < base + BUCKET_WORDS; at++) {
        const entry = words[at];
        if (entry === 0 || this.#belongs(entry, bucket)) continue;
        if (Atomics.compareExchange(words, at, entry, 0) !== entry) continue;
        if (this.#belongs(entry, bucket)) this.insert((entry & SLOT_MASK) - 1);
        else removed++;
      }
    }
    return removed;
  }

  /** Entries in use, for the operator and for tests: reads the whole index. */
  entries(): number {
    const words = this.#words;
    let n = 0;
    for (let at = HEADER_WORDS; at < words.length; at++) {
      if (at % BUCKET_WORDS !== 0 && words[at] !== 0) n++;
    }
    return n;
  }

  /** Whether this is a live flow with the key; if so, `generation` is its. */
  #holdsKey(slot: number): boolean {
    const table = this.#table;
    const life = table.life(slot);
    if (!isLiveLife(life) || !table.keyEquals(slot, this.#key) || table.life(slot) !== life) return false;
    this.generation = generationOf(life);
    return true;
  }

  #belongs(entry: number, bucket: number): boolean {
    const slot = (entry & SLOT_MASK) - 1;
    const life = this.#table.life(slot);
    if (!isLiveLife(life)) return false;
    this.#table.readKey(slot, this.#key);
    if (this.#table.life(slot) !== life) return false;
    const hash = this.#hashKey();
    return (
      (entry ^ hash) >>> FINGERPRINT_SHIFT === 0 && ((bucket - (hash & this.#mask)) & this.#mask) < MAX_HOPS
    );
  }

  /** Looks through the chain for this slot's entry, another live flow's with the key, and the first empty word. */
  #scan(hash: number, slot: number, room: boolean): void {
    const words = this.#words;
    this.#mine = -1;
    this.#empty = -1;
    this.#rival = -1;
    for (let hop = 0; hop < MAX_HOPS; hop++) {
      const base = this.#bucket(hash, hop);
      for (let at = base + 1; at < base + BUCKET_WORDS; at++) {
        const entry = Atomics.load(words, at);
        if (entry === 0) {
          if (this.#empty < 0) this.#empty = at;
        } else if ((entry ^ hash) >>> FINGERPRINT_SHIFT === 0) {
          const other = (entry & SLOT_MASK) - 1;
          if (other === slot) this.#mine = at;
          else if (this.#holdsKey(other) && (this.#rival < 0 || (entry & TENTATIVE) === 0)) this.#rival = at;
        }
      }
      if (Atomics.load(words, base) === 0) {
        if (!room || this.#empty >= 0) return;
        Atomics.store(words, base, 1);
      }
    }
  }

  #bucket(hash: number, hop: number): number {
    return HEADER_WORDS + ((hash + hop) & this.#mask) * BUCKET_WORDS;
  }

  /**
   * HalfSipHash-1-3 over the nine words of the key, or over the three of them that differ between IPv4 flows. The bucket
   * is in its low bits, the fingerprint in its high ones.
   */
  #hashKey(): number {
    const key = this.#key;
    const v4 = key[3] === V4_MAPPED && key[7] === V4_MAPPED && (key[1] | key[2] | key[5] | key[6]) === 0;
    const step = v4 ? 4 : 1;
    const end = KEY_WORDS - 1 + step;
    let v0 = this.#seed0;
    let v1 = this.#seed1;
    let v2 = this.#seed0 ^ 0x6c796765;
    let v3 = this.#seed1 ^ 0x74656462;
    // the words of the key, their length, three rounds to finish
    for (let i = 0; i <= end + 3 * step; i += step) {
      const word = i < end ? key[i] : i === end ? (v4 ? 3 << 26 : KEY_WORDS << 26) : 0;
      if (i === end + step) v2 ^= 0xff;
      v3 ^= word;
      v0 = (v0 + v1) | 0;
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
      v0 = (v0 << 16) | (v0 >>> 16);
      v2 = (v2 + v3) | 0;
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
      v2 = (v2 << 16) | (v2 >>> 16);
      v0 ^= word;
    }
    return v1 ^ v3;
  }
}
