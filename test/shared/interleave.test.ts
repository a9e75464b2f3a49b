/**
 * One thread's call runs whole between every two steps of another's, one place after the other: the interleavings that
 * real threads reach once in a million times.
 */
import { describe, expect, it } from 'vitest';
import { FlowIndex } from '../../src/shared/flow-index.ts';
import { FlowTable, FREE, OPEN, PROVISIONAL } from '../../src/shared/flow-table.ts';
import { atStep, atSteps, dies } from './steps.ts';

class Side {
  readonly flows: FlowTable;
  readonly entries: FlowIndex;
  readonly owner: number;

  constructor(
    table: ReturnType<typeof FlowTable.allocate>,
    index: ReturnType<typeof FlowIndex.allocate>,
    owner: number,
  ) {
    this.flows = new FlowTable(table);
    this.entries = new FlowIndex(index, this.flows);
    this.owner = owner;
  }

  record(key: number, state: 2 | 3 = OPEN): number {
    const slot = this.flows.claim(this.owner);
    if (slot < 0) return -1;
    this.flows.setRemote(slot, 0, 0, 0xffff, key, 5060);
    this.flows.publish(slot, state);
    return slot;
  }

  /** As the layer above does it: the slot that has the address in the end. */
  make(key: number, state: 2 | 3 = OPEN): number {
    const slot = this.record(key, state);
    if (slot < 0) return -1;
    const winner = this.entries.insert(slot);
    if (winner !== slot) this.flows.release(slot, this.flows.generation(slot), 1);
    return winner;
  }

  end(slot: number): void {
    const generation = this.flows.generation(slot);
    if (!this.flows.close(slot, generation)) return;
    this.entries.remove(slot);
    this.flows.release(slot, generation, 1);
  }

  find(key: number): number {
    return this.entries.lookup(0, 0, 0, 0xffff, key, 5060, 0, 0, 0, 0);
  }
}

interface Scene {
  /** the call that is looked into */
  act: () => void;
  /** what runs between two of its steps */
  between: () => void;
  check: (step: string) => void;
}

/** Plays a scene with the interruption at step 0, 1, 2, ... until the act is over before it comes. */
function everywhere(capacity: number, scene: (a: Side, b: Side) => Scene): void {
  let step = 0;
  for (; ; step++) {
    const table = FlowTable.allocate(capacity);
    const index = FlowIndex.allocate(capacity, 8, 9);
    const { act, between, check } = scene(new Side(table, index, 1), new Side(table, index, 2));
    if (atStep(step, between, act) <= step) break;
    check(`step ${step}`);
  }
  expect(step).toBeGreaterThan(1);
}

describe('between any two steps', () => {
  it('two flows for one address become one, and both makers know which', () => {
    everywhere(40, (a, b) => {
      let [first, second] = [-1, -1];
      return {
        act: () => {
          first = a.make(7);
        },
        between: () => {
          second = b.make(7);
        },
        check: (step) => {
          const after = [first, b.find(7), a.flows.used(), a.entries.entries()];
          expect(after, step).toEqual([second, second, 1, 1]);
        },
      };
    });
  });

  it('a flow that ends leaves its address to the next one', () => {
    everywhere(40, (a, b) => {
      const old = b.make(7);
      let fresh = -1;
      return {
        act: () => {
          fresh = a.make(7);
        },
        between: () => b.end(old),
        check: (step) => {
          // the new one, or the old one if that was seen while it lasted
          expect(b.find(7), step).toBe(a.flows.state(fresh) === OPEN ? fresh : -1);
          expect(a.flows.used(), step).toBe(a.entries.entries());
        },
      };
    });
  });

  it('two claims get two slots', () => {
    everywhere(2, (a, b) => {
      let [first, second] = [-1, -1];
      return {
        act: () => {
          first = a.flows.claim(1);
        },
        between: () => {
          second = b.flows.claim(2);
        },
        check: (step) => {
          expect([first, second].sort(), step).toEqual([0, 1]);
          expect([a.flows.used(), a.flows.owned(1), a.flows.owned(2)], step).toEqual([2, 1, 1]);
        },
      };
    });
  });

  it('a slot that comes free while the last one is taken can be had', () => {
    everywhere(32, (a, b) => {
      const slots = Array.from({ length: 31 }, () => b.record(1));
      let claimed = -1;
      return {
        act: () => {
          claimed = a.flows.claim(1);
        },
        between: () => b.end(slots[3]),
        check: (step) => {
          expect([claimed, b.flows.claim(2)].includes(-1), step).toBe(false);
          expect([b.flows.used(), b.flows.claim(2)], step).toEqual([32, -1]);
        },
      };
    });
  });

  it('a life is released once, and its slot may be another at once', () => {
    everywhere(1, (a, b) => {
      const slot = a.record(1);
      let [first, second, next] = [false, false, -1];
      return {
        act: () => {
          first = a.flows.close(slot, 1) && a.flows.release(slot, 1, 1);
        },
        between: () => {
          second = b.flows.close(slot, 1) && b.flows.release(slot, 1, 1);
          next = b.record(2);
        },
        check: (step) => {
          expect(first !== second, step).toBe(true);
          expect(b.flows.isLive(slot, 2), step).toBe(next === slot);
        },
      };
    });
  });

  it('a provisional flow is confirmed or taken over, never both', () => {
    everywhere(3, (a, b) => {
      const slot = b.make(7, PROVISIONAL);
      let taken = -1;
      let confirmed = false;
      return {
        act: () => {
          taken = a.entries.reclaim(1);
        },
        between: () => {
          confirmed = b.flows.confirm(slot, 1);
        },
        check: (step) => {
          const after = [taken, a.flows.isLive(slot, 1), b.find(7)];
          expect(after, step).toEqual(confirmed ? [-1, true, slot] : [slot, false, -1]);
        },
      };
    });
  });

  it('a look-up names no other life than the one whose address it compared', () => {
    everywhere(1, (a, b) => {
      // an entry for 8 that is left over, in front of a flow of 7
      const slot = b.make(8);
      b.flows.release(slot, 1, 1);
      b.make(7);
      let found = -1;
      return {
        act: () => {
          found = a.find(8);
        },
        between: () => {
          b.end(slot);
          b.make(8);
        },
        check: (step) => {
          if (found >= 0) expect(a.entries.generation, step).toBe(3);
          expect(a.find(8), step).toBe(slot);
        },
      };
    });
  });

  it('a sweep of the index keeps the entry of a flow that comes to life under it', () => {
    everywhere(1, (a, b) => {
      const slot = b.make(7);
      b.flows.release(slot, 1, 1); // its entry stays
      return {
        act: () => a.entries.sweepStale(),
        between: () => expect(b.make(7)).toBe(slot),
        check: (step) => expect([b.find(7), b.entries.entries()], step).toEqual([slot, 1]),
      };
    });
  });

  it('a sweep of the table meets a shard at work and counts every slot', () => {
    everywhere(40, (a, b) => {
      const kept = b.make(7);
      const slots = [8, 9].map((key) => b.make(key));
      const dead = a.record(1);
      return {
        act: () => a.flows.sweep(1, (slot, _state, generation) => a.flows.release(slot, generation, 1)),
        between: () => {
          for (const slot of slots) b.end(slot);
          b.make(10);
          b.make(11);
        },
        check: (step) => {
          expect([a.flows.used(), a.flows.isLive(dead, 1), b.find(7)], step).toEqual([3, false, kept]);
          let left = 0;
          while (b.flows.claim(2) >= 0) left++;
          expect(left, step).toBe(37);
        },
      };
    });
  });

  it('a sweep is right about a slot that a third one left behind and that is taken and given back under it', () => {
    let pairs = 0;
    let places = 1;
    for (let first = 0; first < places; first++) {
      for (let second = first + 1; ; second++) {
        const table = FlowTable.allocate(1);
        const [main, living, dead] = [1, 2, 3].map(() => new FlowTable(table));
        // it died when it had freed its slot and had not yet said so
        const left = dead.claim(3);
        for (let n = 0; dead.state(left) !== FREE; n++) dies(n, () => dead.abandon(left, 1));
        expect(dead.used()).toBe(1);
        let slot = -1;
        const take = () => {
          slot = living.claim(2);
        };
        const give = () => {
          if (slot >= 0) living.abandon(slot, 1);
        };
        places = atSteps([first, second], [take, give], () => main.sweep(3, () => {}));
        if (places <= second) break;
        if (slot >= 0) pairs++;
        expect(main.used(), `places ${first} and ${second}`).toBe(0);
      }
    }
    expect(pairs).toBeGreaterThan(5);
  });
});
