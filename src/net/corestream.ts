/**
 * One stream of a shard on the core backend: where it stands in its life, what of it waits in either direction, and
 * the chain of what this turn has for it. What is done with it is corestreams.ts's, its output coreoutput.ts's.
 */
import type { Socket } from 'node:net';
import { Cause } from '../shared/cause.ts';
import type { Slab } from '../shared/slab.ts';
import { Kept, SENTINEL } from './kept.ts';
import type { Chain } from './segments.ts';
import { OPEN } from './streamstate.ts';

export class CoreStream implements Chain {
  readonly slot: number;
  readonly generation: number;
  readonly socket: Socket;
  readonly in: Kept;
  readonly out: Kept;
  /** the callback of every write */
  readonly written: () => void;
  state = OPEN;
  cause: number = Cause.NONE;
  /** segments of this turn's output */
  first = -1;
  last = -1;
  /** bytes that the socket has and the kernel has not taken entirely, and since when */
  inFlight = 0;
  since = 0;
  lingerUntil = 0;
  /** of a secured connection that we open: whom it must reach */
  host: string | undefined;
  identities: readonly string[] | undefined;
  peerEnded = false;
  /** a PROXY header may be in front of what comes; so many octets of it were taken for a keep-alive */
  fresh = false;
  seen = 0;

  constructor(slot: number, generation: number, socket: Socket, slabs: Slab, written: () => void) {
    this.slot = slot;
    this.generation = generation;
    this.socket = socket;
    this.in = new Kept(slabs, SENTINEL);
    this.out = new Kept(slabs, 0);
    this.written = written;
  }

  get waiting(): number {
    return this.inFlight + this.out.length;
  }
}
