/** The Path of each flow, as the registrar got it: text in one slab, 256 octets a flow, touched where it is used. */
import type { Address } from '../../src/native/sockaddr.ts';
import { ipv4 } from './datagrams.ts';

const ROOM = 256;
const HOST_PORT = /sips?:(?:[^@>;]*@)?(\d+\.\d+\.\d+\.\d+)(?::(\d+))?/;

export class Paths {
  readonly #texts: Buffer;
  readonly #lengths: Uint16Array;
  #edge: Address | undefined;

  constructor(flows: number) {
    this.#texts = Buffer.alloc(flows * ROOM);
    this.#lengths = new Uint16Array(flows);
  }

  /** Keeps the value at `[start, end)` for a flow, and says where the edge in it listens. */
  keep(memory: Buffer, start: number, end: number, flow: number): Address {
    if (end - start > ROOM) throw new Error(`a Path of ${end - start} octets`);
    memory.copy(this.#texts, flow * ROOM, start, end);
    this.#lengths[flow] = end - start;
    this.#edge ??= edgeOf(memory.toString('latin1', start, end));
    return this.#edge;
  }

  /** Writes it at `at` and returns where it ends. */
  write(memory: Buffer, at: number, flow: number): number {
    const from = flow * ROOM;
    this.#texts.copy(memory, at, from, from + this.#lengths[flow]);
    return at + this.#lengths[flow];
  }
}

function edgeOf(value: string): Address {
  const match = HOST_PORT.exec(value);
  if (!match) throw new Error(`no IPv4 address in the Path ${value}`);
  return ipv4(match[1], Number(match[2] ?? 5060));
}
