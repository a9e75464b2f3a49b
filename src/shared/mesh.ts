/**
 * How threads talk: one ring for each ordered pair of participants and one doorbell for each participant, all in one
 * buffer. By convention participant 0 is main, 1 to N the shards, N + 1 the store thread; the mesh does not care.
 *
 * A ring's messages arrive in order; between two rings there is none. A full ring refuses (`send` is false, the caller
 * has the policy), it never blocks. Memory: participants squared times the ring size.
 */
import { Doorbell } from './doorbell.ts';
import { MAX_WORDS, Ring } from './ring.ts';

const BELL_WORDS = 16; // a cache line each

export interface MeshDescriptor {
  readonly buffer: SharedArrayBuffer;
  readonly participants: number;
  readonly ringBytes: number;
}

/**
 * Called for each message: `ring` shows its words and its payload, valid until the handler returns. It must not throw.
 * Make it once, not for each turn.
 */
export type MessageHandler = (from: number, type: number, ring: Ring) => void;

const NO_BYTES = new Uint8Array(0);

export class Mesh {
  readonly self: number;
  readonly participants: number;
  /** This participant's own bell, to sleep on. */
  readonly bell: Doorbell;
  /** Header words of the next message: fill, then `send`. */
  readonly words = new Int32Array(MAX_WORDS);
  readonly #outbound: (Ring | undefined)[] = [];
  readonly #inbound: (Ring | undefined)[] = [];
  readonly #bells: Doorbell[] = [];
  #next = 0;

  static allocate(participants: number, ringBytes: number): MeshDescriptor {
    const bytes = participants * BELL_WORDS * 4 + participants * participants * Ring.bytes(ringBytes);
    return { buffer: new SharedArrayBuffer(bytes), participants, ringBytes };
  }

  /**
   * `wake` gets a participant out of its blocking call. Without it, or where it says false (that participant has no
   * other way), the word of its bell is notified.
   */
  constructor(descriptor: MeshDescriptor, self: number, wake?: (participant: number) => boolean) {
    const { buffer, participants, ringBytes } = descriptor;
    this.self = self;
    this.participants = participants;
    const bells = new Int32Array(buffer, 0, participants * BELL_WORDS);
    const ring = (from: number, to: number) =>
      new Ring(
        buffer,
        participants * BELL_WORDS * 4 + (from * participants + to) * Ring.bytes(ringBytes),
        ringBytes,
      );
    for (let other = 0; other < participants; other++) {
      const bell: Doorbell = new Doorbell(bells, other * BELL_WORDS, () => {
        if (!wake?.(other)) bell.notify();
      });
      this.#bells.push(bell);
      this.#outbound.push(other === self ? undefined : ring(self, other));
      this.#inbound.push(other === self ? undefined : ring(other, self));
    }
    this.bell = this.#bells[self];
  }

  /** Sends words[0, wordCount) and bytes[start, start + length). False if the ring is full or `to` is this participant. */
  send(
    to: number,
    type: number,
    wordCount: number,
    bytes: Uint8Array = NO_BYTES,
    start = 0,
    length = 0,
  ): boolean {
    const ring = this.#outbound[to];
    if (ring === undefined || !ring.write(type, this.words, wordCount, bytes, start, length)) return false;
    this.#bells[to].ring();
    return true;
  }

  /** Wakes a participant that has no message, because something else that it looks at has changed. */
  nudge(to: number): void {
    this.#bells[to].ring();
  }

  /** Handles up to `budget` messages, one of each ring in turn, and returns how many. */
  receive(handler: MessageHandler, budget: number): number {
    let handled = 0;
    let idle = 0;
    while (handled < budget && idle < this.participants) {
      const from = this.#next;
      this.#next = from + 1 < this.participants ? from + 1 : 0;
      const ring = this.#inbound[from];
      if (ring?.peek()) {
        handler(from, ring.type, ring);
        ring.advance();
        handled++;
        idle = 0;
      } else {
        idle++;
      }
    }
    return handled;
  }

  /** Whether no message waits, as asked between `bell.prepareSleep()` and the blocking call. */
  isQuiet(): boolean {
    for (let from = 0; from < this.participants; from++) {
      const ring = this.#inbound[from];
      if (ring !== undefined && !ring.isEmpty()) return false;
    }
    return true;
  }

  /**
   * Drops what waits for a participant that has died, and returns the bytes. By the thread that starts its replacement,
   * before it does: the message that it died of must not meet the next one.
   */
  static discardFor(descriptor: MeshDescriptor, participant: number): number {
    const dead = new Mesh(descriptor, participant);
    dead.bell.awake();
    let bytes = 0;
    for (const ring of dead.#inbound) bytes += ring?.discard() ?? 0;
    return bytes;
  }

  /** Messages from this participant that found no room. */
  get refused(): number {
    let n = 0;
    for (const ring of this.#outbound) n += ring?.refused ?? 0;
    return n;
  }
}
