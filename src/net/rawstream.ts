/**
 * One raw stream of a shard: where it stands in its life, what of it waits in either direction, and the chain of what
 * this turn has for it. What is done with it is rawstreams.ts's, its output rawoutput.ts's.
 *
 * It owns no buffer until it first has something to keep, and no block of one while it has nothing.
 */
import { Cause } from '../shared/cause.ts';
import type { Kept } from './kept.ts';
import type { Secured } from './securestream.ts';
import type { Chain } from './segments.ts';
import { OPEN } from './streamstate.ts';

export class RawStream implements Chain {
  readonly slot: number;
  readonly generation: number;
  readonly fd: number;
  /** undefined: its octets go as they are */
  secured: Secured | undefined;
  state = OPEN;
  cause: number = Cause.NONE;
  /** the front of an unfinished message */
  in: Kept | undefined;
  /** segments of this turn's output */
  first = -1;
  last = -1;
  /** bytes that the kernel did not take */
  out: Kept | undefined;
  lingerUntil = 0;
  /** a PROXY header may be in front of what comes; so many octets of it were taken for a keep-alive */
  fresh = false;
  seen = 0;

  constructor(slot: number, generation: number, fd: number, secured: Secured | undefined) {
    this.slot = slot;
    this.generation = generation;
    this.fd = fd;
    this.secured = secured;
  }

  /** Octets of an unfinished message. */
  get held(): number {
    return this.in === undefined ? 0 : this.in.length;
  }

  /** Octets that the kernel did not take. */
  get waiting(): number {
    return this.out === undefined ? 0 : this.out.length;
  }
}
