/**
 * Where OpenSSL keeps the connection of a secured stream (SSL*), by slot of its flow record: the owner works
 * with it, a replacement of the owner's shard takes it over, and main frees it where that cannot be. 0 is
 * none. One thread at a time writes a slot: its owner, and main after the owner's death.
 */
export interface SslTableDescriptor {
  readonly buffer: SharedArrayBuffer;
}

export class SslTable {
  readonly #pointers: BigUint64Array;

  static allocate(maxFlows: number): SslTableDescriptor {
    return { buffer: new SharedArrayBuffer(maxFlows * BigUint64Array.BYTES_PER_ELEMENT) };
  }

  constructor({ buffer }: SslTableDescriptor) {
    this.#pointers = new BigUint64Array(buffer);
  }

  get(slot: number): bigint {
    return this.#pointers[slot];
  }

  set(slot: number, pointer: bigint): void {
    this.#pointers[slot] = pointer;
  }
}
