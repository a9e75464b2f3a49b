/** Transactions of a shard on a clock that the test moves: counts, times, look-ups, and that no record is lost. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ACCEPTED,
  ALARM,
  CLIENT,
  COMPLETED,
  COMPOSE_100,
  CONFIRMED,
  END,
  FAILED,
  INVITE_CLIENT,
  INVITE_SERVER,
  KINDS,
  ON_ACK,
  ON_CANCELLED,
  ON_FAILURE,
  ON_PROVISIONAL,
  ON_REQUEST,
  ON_SUCCESS,
  ON_TRANSPORT_ERROR,
  ON_TU_FAILURE,
  ON_TU_PROVISIONAL,
  ON_TU_SUCCESS,
  PASS,
  PROCEEDING,
  RESEND,
  SEND,
  SEND_ACK,
  SERVER,
  STATE_MASK,
  TERMINATED,
  TIMED_OUT,
  TRYING,
} from '../../src/transaction/machine.ts';
import { USER_WORDS } from '../../src/transaction/record.ts';
import { Transactions } from '../../src/transaction/table.ts';
import { Timers } from '../../src/transaction/timers.ts';
import { BYE, CANCEL, INVITE, MESSAGE } from '../../src/wire/names.ts';

const START = 1_000_000;

/** A table, its clock, and what it fired. */
class Bench {
  now = START;
  readonly reclaimed: number[] = [];
  readonly fired: { id: number; actions: number; at: number }[] = [];
  readonly table: Transactions;
  onFire: (id: number, actions: number) => void = () => {};

  constructor(capacity = 16, timers = new Timers(), first = capacity) {
    this.table = new Transactions({
      capacity,
      first,
      nowMs: START,
      timers,
      onReclaim: (id) => this.reclaimed.push(id),
    });
  }

  client(method: number, reliable = false): number {
    return this.table.openClient(method, reliable, this.now);
  }

  server(method: number, reliable = false, key = 1): number {
    return this.table.openServer(method, reliable, key, ~key, this.now);
  }

  event(id: number, ...events: number[]): number {
    let actions = 0;
    for (const event of events) actions = this.table.event(id, event, this.now);
    return actions;
  }

  /** A turn without time: what has ended may be used anew. */
  turn(): void {
    this.table.advance(this.now, () => {});
  }

  /** Moves the clock in steps. */
  pass(ms: number, step = 10): void {
    for (const until = this.now + ms; this.now < until; ) {
      this.now = Math.min(this.now + step, until);
      this.table.advance(this.now, (id, actions) => {
        this.fired.push({ id, actions, at: this.now - START });
        this.onFire(id, actions);
      });
    }
  }

  /** When any of these actions was fired, in ms since the start. */
  times(actions: number): number[] {
    return this.fired.filter((f) => f.actions & actions).map((f) => f.at);
  }
}

const INVITE_TIMES = [500, 1500, 3500, 7500, 15_500, 31_500];
const CAPPED_TIMES = [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];

describe('a peer that does not answer', () => {
  it.each([10, 100, 250, 500])(
    'gets an INVITE over UDP seven times in 32 s, with a clock in steps of %i ms [3261-17-01]',
    (step) => {
      const b = new Bench();
      const id = b.client(INVITE);
      b.pass(31_990, step);
      expect(b.table.retransmissions(id)).toBe(6);
      b.pass(40_000, step);
      expect(b.times(RESEND)).toEqual(INVITE_TIMES);
      expect(b.times(TIMED_OUT)).toHaveLength(1);
      expect(b.times(TIMED_OUT & END)[0] ?? b.times(TIMED_OUT)[0]).toBeGreaterThanOrEqual(32_000);
      expect(b.times(TIMED_OUT)[0]).toBeLessThan(32_000 + step);
      expect(b.table.size).toBe(0);
    },
  );

  it('gets a MESSAGE over UDP at T1, doubling up to T2, for 32 s [3261-17-02]', () => {
    const b = new Bench();
    b.client(MESSAGE);
    b.pass(60_000);
    expect(b.times(RESEND)).toEqual(CAPPED_TIMES);
    expect(b.times(TIMED_OUT)).toEqual([32_000]);
  });

  it('gets each of them once over a reliable transport [3261-17-01 3261-17-02]', () => {
    const b = new Bench();
    b.client(INVITE, true);
    b.client(MESSAGE, true);
    b.pass(60_000);
    expect(b.fired.map((f) => [f.at, f.actions & TIMED_OUT])).toEqual([
      [32_000, TIMED_OUT],
      [32_000, TIMED_OUT],
    ]);
  });

  it('does not see the series drift when the clock stands between ticks', () => {
    const b = new Bench();
    b.pass(3);
    b.client(MESSAGE);
    b.pass(33_000, 1);
    const late = b.times(RESEND).map((at, n) => at - 3 - CAPPED_TIMES[n]);
    // each the rest of its tick, not more and more
    expect(late).toEqual(CAPPED_TIMES.map(() => 7));
  });

  it('gets one retransmission after a stall of ours, not all that were missed', () => {
    const b = new Bench();
    b.client(MESSAGE);
    b.pass(9000, 9000);
    expect(b.times(RESEND)).toEqual([9000]);
    b.pass(1000);
    expect(b.times(RESEND)).toEqual([9000, 10_000]);
  });

  it('gets what other timer values say [3261-17-01 3261-17-02]', () => {
    const b = new Bench(16, new Timers({ t1: 100, t2: 300 }));
    b.client(INVITE);
    b.pass(10_000);
    expect(b.times(RESEND)).toEqual([100, 300, 700, 1500, 3100, 6300]);
    expect(b.times(TIMED_OUT)).toEqual([6400]);
    b.client(MESSAGE);
    b.pass(1500);
    expect(
      b
        .times(RESEND)
        .slice(6)
        .map((at) => at - 10_000),
    ).toEqual([100, 300, 600, 900, 1200, 1500]);
  });
});

describe('a peer that answers provisionally', () => {
  it('gets no INVITE again, and has no end but that of the user [3261-17-01]', () => {
    const b = new Bench();
    const id = b.client(INVITE);
    b.pass(700);
    expect(b.event(id, ON_PROVISIONAL)).toBe(PROCEEDING | PASS);
    b.pass(300_000, 1000);
    expect(b.times(RESEND)).toEqual([500]);
    expect(b.table.state(id)).toBe(PROCEEDING);
  });

  it('gets a MESSAGE again after T2 and no sooner, and Timer F goes on [3261-17-02]', () => {
    const b = new Bench();
    const id = b.client(MESSAGE);
    b.pass(600);
    expect(b.event(id, ON_PROVISIONAL, ON_PROVISIONAL)).toBe(PROCEEDING | PASS);
    b.pass(60_000);
    expect(b.times(RESEND)).toEqual([500, 1500, 5500, 9500, 13_500, 17_500, 21_500, 25_500, 29_500]);
    expect(b.times(TIMED_OUT)).toEqual([32_000]);
  });

  it('and lets a cancelled INVITE hang makes it end 64 T1 after the CANCEL', () => {
    const b = new Bench();
    const id = b.client(INVITE);
    b.event(id, ON_PROVISIONAL);
    b.pass(50_000, 1000);
    b.event(id, ON_CANCELLED);
    b.pass(31_990);
    b.event(id, ON_PROVISIONAL);
    expect(b.fired).toEqual([]);
    b.pass(10);
    expect(b.fired).toEqual([{ id, actions: TERMINATED | TIMED_OUT | END, at: 82_000 }]);
  });

  it('rings past Timer C, which 101 to 199 start anew [3261-16.6-08]', () => {
    const b = new Bench();
    const id = b.client(INVITE);
    b.table.setAlarm(id, b.table.timers.endOfC(b.now));
    b.event(id, ON_PROVISIONAL);
    b.pass(100_000, 1000);
    b.table.setAlarm(id, b.table.timers.endOfC(b.now));
    b.pass(200_000, 1000);
    expect(b.fired).toEqual([{ id, actions: PROCEEDING | ALARM, at: 281_000 }]);
    expect(b.table.alarmAt(id)).toBe(Infinity);
  });
});

describe('a client transaction that has its final response', () => {
  it('answers each copy of a failure with the same ACK for 32 s, over UDP [3261-17-01]', () => {
    const b = new Bench();
    const id = b.client(INVITE);
    expect(b.event(id, ON_FAILURE) & (SEND_ACK | PASS)).toBe(SEND_ACK | PASS);
    b.pass(31_990);
    expect(b.event(id, ON_FAILURE)).toBe(COMPLETED | RESEND);
    b.pass(10);
    expect(b.fired).toEqual([{ id, actions: TERMINATED | END, at: 32_000 }]);
    expect(b.event(id, ON_FAILURE)).toBe(0);
  });

  it('passes each 2xx of a fork for 64 T1 and sends nothing itself [6026-7.2-01]', () => {
    const b = new Bench();
    const id = b.client(INVITE, true);
    expect(b.event(id, ON_SUCCESS) & PASS).toBe(PASS);
    b.pass(31_990);
    expect(b.event(id, ON_SUCCESS)).toBe(ACCEPTED | PASS);
    b.pass(10);
    expect(b.fired).toEqual([{ id, actions: TERMINATED | END, at: 32_000 }]);
  });

  it('stays T4 for a MESSAGE over UDP, and not at all over TCP [3261-17-02]', () => {
    const b = new Bench();
    const udp = b.client(MESSAGE);
    b.event(udp, ON_SUCCESS);
    const tcp = b.client(MESSAGE, true);
    expect(b.event(tcp, ON_FAILURE)).toBe(TERMINATED | PASS | END);
    expect(b.table.size).toBe(1);
    b.pass(10_000);
    expect(b.fired).toEqual([{ id: udp, actions: TERMINATED | END, at: 5000 }]);
  });
});

describe('a caller', () => {
  it('whose INVITE nobody answers is due a 100 after 200 ms, once [3261-17-03]', () => {
    const b = new Bench();
    const id = b.server(INVITE);
    b.pass(5000);
    expect(b.fired).toEqual([{ id, actions: PROCEEDING | COMPOSE_100, at: 200 }]);
  });

  it('that has had a provisional response is due no 100 [3261-17-03]', () => {
    const b = new Bench();
    expect(b.event(b.server(INVITE), ON_TU_PROVISIONAL) & SEND).toBe(SEND);
    b.pass(5000);
    expect(b.fired).toEqual([]);
  });

  it('gets a failure over UDP again from T1 up to T2 until its ACK comes, and I is T4 [3261-17-03]', () => {
    const b = new Bench();
    const id = b.server(INVITE);
    b.event(id, ON_TU_FAILURE);
    b.pass(9000);
    expect(b.times(RESEND)).toEqual([500, 1500, 3500, 7500]);
    b.event(id, ON_ACK, ON_ACK);
    expect(b.table.state(id)).toBe(CONFIRMED);
    b.pass(20_000);
    expect(b.times(RESEND)).toHaveLength(4);
    expect(b.times(END)).toEqual([14_000]);
  });

  it('that never sends ACK gets the failure for 64 T1, and the user is told [3261-17-03]', () => {
    const b = new Bench();
    b.event(b.server(INVITE), ON_TU_FAILURE);
    b.pass(60_000);
    expect(b.times(RESEND)).toEqual(CAPPED_TIMES);
    expect(b.times(TIMED_OUT)).toEqual([32_000]);
  });

  it('over TCP gets the failure once, and ends it with ACK or after 64 T1 [3261-17-03]', () => {
    const b = new Bench();
    const acked = b.server(INVITE, true, 1);
    b.server(INVITE, true, 2);
    for (const id of [0, 1]) b.event(id, ON_TU_FAILURE);
    expect(b.event(acked, ON_ACK) & END).toBe(END);
    b.pass(60_000);
    expect(b.fired.map((f) => [f.at, f.actions & (RESEND | TIMED_OUT)])).toEqual([[32_000, TIMED_OUT]]);
  });

  it('whose INVITE was accepted is absorbed for 64 T1, its ACK passed, our 2xx sent again [6026-7.1-01]', () => {
    const b = new Bench();
    const id = b.server(INVITE);
    b.event(id, ON_TU_PROVISIONAL, ON_TU_SUCCESS);
    expect(b.event(id, ON_TRANSPORT_ERROR)).toBe(ACCEPTED | FAILED);
    b.pass(31_990);
    expect(b.event(id, ON_REQUEST) & (PASS | SEND | RESEND)).toBe(0);
    expect(b.event(id, ON_TU_SUCCESS)).toBe(ACCEPTED | SEND);
    expect(b.event(id, ON_ACK)).toBe(ACCEPTED | PASS);
    b.pass(10);
    expect(b.fired).toEqual([{ id, actions: TERMINATED | END, at: 32_000 }]);
  });

  it('of a MESSAGE is due a 100 at 3.5 s if nothing was sent, and never hears a 408 [4320-4.1-01 4320-4.2-01]', () => {
    const b = new Bench();
    b.onFire = (id, actions) => {
      if (actions & COMPOSE_100) b.event(id, ON_TU_PROVISIONAL);
    };
    const id = b.server(MESSAGE);
    b.pass(60_000);
    expect(b.fired).toEqual([
      { id, actions: TRYING | COMPOSE_100, at: 3500 },
      { id, actions: TERMINATED | TIMED_OUT | END, at: 32_000 },
    ]);
  });

  it('that repeats a MESSAGE gets the last response for 64 T1 over UDP [3261-17-04]', () => {
    const b = new Bench();
    const id = b.server(MESSAGE);
    expect(b.event(id, ON_REQUEST) & (RESEND | PASS)).toBe(0);
    b.pass(3000);
    b.event(id, ON_TU_SUCCESS);
    b.pass(31_990);
    expect(b.event(id, ON_REQUEST)).toBe(COMPLETED | RESEND);
    b.pass(10);
    expect(b.times(END)).toEqual([35_000]);
    expect(b.fired).toHaveLength(1);
  });
});

describe('a look-up', () => {
  it('finds a server transaction by both words of its key while it lives [3261-17.2.3-01]', () => {
    const b = new Bench();
    const id = b.server(MESSAGE, true, 5);
    expect(b.table.find(5, ~5)).toBe(id);
    expect(b.table.find(5, 5)).toBe(-1);
    expect(b.table.find(6, ~5)).toBe(-1);
    b.event(id, ON_TU_SUCCESS);
    expect(b.table.find(5, ~5)).toBe(-1);
  });

  it('tells two keys with the same low word apart [3261-17.2.3-01]', () => {
    const { table, now } = new Bench();
    const a = table.openServer(MESSAGE, false, 5, 1, now);
    const c = table.openServer(MESSAGE, false, 5, 2, now);
    expect([table.find(5, 1), table.find(5, 2)]).toEqual([a, c]);
    table.release(a);
    expect([table.find(5, 1), table.find(5, 2)]).toEqual([-1, c]);
  });

  it('of a response needs the name in the branch and the method of CSeq [3261-17.1.3-01]', () => {
    const b = new Bench();
    const id = b.client(MESSAGE);
    const generation = b.table.generation(id);
    expect(b.table.findClient(id, generation, MESSAGE)).toBe(id);
    expect(b.table.findClient(id, generation, BYE)).toBe(-1);
    expect(b.table.findClient(id, generation, CANCEL)).toBe(-1);
    expect(b.table.findClient(id, generation + 1, MESSAGE)).toBe(-1);
    for (const odd of [-1, 16, 1e12, 0.5, Number.NaN]) expect(b.table.findClient(odd, 1, MESSAGE)).toBe(-1);
  });

  it('of a response never gives a server transaction [3261-17.1.3-01]', () => {
    const b = new Bench();
    const id = b.server(MESSAGE);
    expect(b.table.findClient(id, b.table.generation(id), MESSAGE)).toBe(-1);
  });

  it('finds the CANCEL under the branch of its INVITE, also when that has ended [3261-17.1.3-01]', () => {
    const b = new Bench();
    const invite = b.client(INVITE, true);
    const generation = b.table.generation(invite);
    b.event(invite, ON_PROVISIONAL);
    const cancel = b.table.openCancel(invite, b.now);
    expect([b.table.kind(cancel), b.table.method(cancel), b.table.reliable(cancel)]).toEqual([
      CLIENT,
      CANCEL,
      1,
    ]);
    expect(b.table.findClient(invite, generation, INVITE)).toBe(invite);
    expect(b.table.findClient(invite, generation, CANCEL)).toBe(cancel);
    b.event(invite, ON_FAILURE);
    expect(b.table.findClient(invite, generation, INVITE)).toBe(-1);
    expect(b.table.findClient(invite, generation, CANCEL)).toBe(cancel);
    b.event(cancel, ON_SUCCESS);
    expect(b.table.findClient(invite, generation, CANCEL)).toBe(-1);
  });

  it('of a request never gives the CANCEL that we sent [3261-17.2.3-01]', () => {
    const b = new Bench();
    const cancel = b.table.openCancel(b.client(INVITE), b.now);
    expect(b.table.find(b.table.keyLo(cancel), b.table.keyHi(cancel))).toBe(-1);
  });

  it('never finds a later transaction by the name of an earlier one', () => {
    const b = new Bench(2);
    const names = new Set<string>();
    for (let i = 0; i < 50; i++) {
      const id = b.client(MESSAGE, i % 2 === 0);
      const generation = b.table.generation(id);
      expect(b.table.isLive(id, generation)).toBe(true);
      expect(names.has(`${id} ${generation}`)).toBe(false);
      names.add(`${id} ${generation}`);
      b.table.release(id);
      expect(b.table.isLive(id, generation)).toBe(false);
      expect(b.table.isLive(id, b.table.generation(id))).toBe(false);
      if (i % 3 === 0) b.pass(10);
      else b.turn();
    }
  });
});

describe('a record', () => {
  it('has the words of its user, cleared at each opening', () => {
    const b = new Bench(1);
    for (let round = 0; round < 2; round++) {
      const id = b.client(MESSAGE, true);
      const { table } = b;
      expect([table.peer(id), table.keptLength(id), table.retransmissions(id)]).toEqual([0, 0, 0]);
      for (let n = 0; n < USER_WORDS; n++) expect(table.word(id, n)).toBe(0);
      for (let n = 0; n < USER_WORDS; n++) table.setWord(id, n, n - 7);
      table.setKept(id, 4096, 300);
      table.setPeer(id, -5);
      b.event(id, ON_PROVISIONAL);
      for (let n = 0; n < USER_WORDS; n++) expect(table.word(id, n)).toBe(n - 7);
      expect([table.kind(id), table.method(id), table.state(id)]).toEqual([CLIENT, MESSAGE, PROCEEDING]);
      b.event(id, ON_SUCCESS);
      b.turn();
    }
  });

  it('that ended can be read until the next advance, whatever is opened meanwhile', () => {
    const b = new Bench(8);
    const id = b.client(MESSAGE, true);
    b.table.setKept(id, 77, 5);
    expect(b.event(id, ON_SUCCESS) & END).toBe(END);
    for (let i = 0; i < 5; i++) expect(b.client(MESSAGE)).not.toBe(id);
    expect([b.table.keptOffset(id), b.table.keptLength(id)]).toEqual([77, 5]);
  });

  it('does not repeat an alarm, and has none after its end', () => {
    const b = new Bench();
    const id = b.client(INVITE, true);
    b.table.setAlarm(id, b.now + 4000);
    b.pass(5000);
    expect(b.times(ALARM)).toEqual([4000]);
    b.table.setAlarm(id, b.now + 1000);
    b.table.setAlarm(id, Infinity);
    b.table.setAlarm(id, b.now + 1000);
    b.table.release(id);
    b.table.setAlarm(id, b.now + 1000);
    b.pass(5000);
    expect(b.fired).toHaveLength(1);
  });
});

describe('a full table', () => {
  it('reuses the oldest completed non-INVITE server transaction, and says which', () => {
    const b = new Bench(4);
    const invite = b.server(INVITE, false, 1);
    b.event(invite, ON_TU_FAILURE);
    const [first, second] = [b.server(MESSAGE, false, 2), b.server(MESSAGE, false, 3)];
    const open = b.server(MESSAGE, false, 4);
    b.pass(10);
    b.event(second, ON_TU_SUCCESS);
    b.event(first, ON_TU_SUCCESS);
    const generation = b.table.generation(second);
    expect(b.client(MESSAGE)).toBe(second);
    expect(b.reclaimed).toEqual([second]);
    expect(b.table.isLive(second, generation)).toBe(false);
    expect(b.table.find(3, ~3)).toBe(-1);
    expect(b.client(INVITE)).toBe(first);
    expect(b.client(INVITE)).toBe(-1);
    expect([b.table.state(open), b.table.state(invite)]).toEqual([TRYING, COMPLETED]);
    expect(b.reclaimed).toEqual([second, first]);
  });

  it('leaves an ended record as it is until the next advance, since its user may still read it', () => {
    const b = new Bench(2);
    b.server(MESSAGE, false, 1);
    const id = b.client(MESSAGE, true);
    b.table.setKept(id, 4711, 99);
    expect(b.event(id, ON_SUCCESS) & END).toBe(END);
    expect(b.client(MESSAGE)).toBe(-1);
    expect(b.table.keptOffset(id)).toBe(4711);
    b.turn();
    expect(b.client(MESSAGE)).toBe(id);
    expect(b.reclaimed).toEqual([]);
  });
});

describe('a table that grows', () => {
  it('finds by name and key what was opened before, the CANCEL too, and fires its times', () => {
    const b = new Bench(64, new Timers(), 3);
    const invite = b.client(INVITE);
    const generation = b.table.generation(invite);
    b.event(invite, ON_PROVISIONAL);
    const cancel = b.table.openCancel(invite, b.now);
    const server = b.server(MESSAGE, false, 77);
    const more = Array.from({ length: 61 }, (_, i) => b.server(INVITE, false, 100 + i));
    expect(new Set([invite, cancel, server, ...more]).size).toBe(64);
    expect([b.client(MESSAGE), b.table.capacity]).toEqual([-1, 64]);
    expect(b.table.findClient(invite, generation, INVITE)).toBe(invite);
    expect(b.table.findClient(invite, generation, CANCEL)).toBe(cancel);
    expect(b.table.find(77, ~77)).toBe(server);
    more.forEach((id, i) => {
      expect(b.table.find(100 + i, ~(100 + i))).toBe(id);
    });
    b.pass(500);
    expect(b.fired.filter(({ id }) => id === cancel).map(({ actions }) => actions & RESEND)).toEqual([
      RESEND,
    ]);
  });

  it('may grow while it fires', () => {
    const b = new Bench(64, new Timers(), 2);
    const ids = [b.client(MESSAGE), b.client(MESSAGE)];
    b.onFire = () => {
      for (let i = 0; i < 8; i++) b.client(INVITE, true);
    };
    b.pass(510);
    b.onFire = () => {};
    expect(b.fired.map(({ id }) => id).sort()).toEqual(ids);
    expect(b.table.size).toBe(18);
    b.pass(64_000, 500);
    expect([b.table.size, b.table.nextDeadline()]).toEqual([0, Infinity]);
  });
});

describe('any order of events and time', () => {
  const CAPACITY = 6;
  const op = fc.oneof(
    fc.record({
      open: fc.constantFrom(INVITE_CLIENT, CLIENT, INVITE_SERVER, SERVER),
      reliable: fc.boolean(),
    }),
    fc.record({ event: fc.integer({ min: 0, max: 14 }), id: fc.integer({ min: 0, max: CAPACITY - 1 }) }),
    fc.record({ pass: fc.constantFrom(10, 200, 500, 3500, 5000, 32_000) }),
    fc.record({ cancel: fc.integer({ min: 0, max: CAPACITY - 1 }) }),
    fc.record({ alarm: fc.integer({ min: 1, max: 40_000 }), id: fc.integer({ min: 0, max: CAPACITY - 1 }) }),
  );

  it.each([
    [CAPACITY, 'has all its records from the start'],
    [1, 'grows from one record'],
  ])('ends in Terminated for every transaction and gives every record back: %i, a table that %s', (first) => {
    fc.assert(
      fc.property(fc.array(op, { maxLength: 60 }), (ops) => {
        const b = new Bench(CAPACITY, new Timers(), first);
        const { table } = b;
        const live = new Map<number, { generation: number; kind: number; reliable: boolean; key: number }>();
        const ended = (id: number, actions: number): void => {
          expect((actions & STATE_MASK) === TERMINATED).toBe((actions & END) !== 0);
          if (actions & RESEND)
            expect(live.get(id)!.reliable && live.get(id)!.kind < INVITE_SERVER).toBe(false);
          if (actions & END) expect(live.delete(id)).toBe(true);
        };
        let key = 0;
        b.onFire = ended;
        const feed = (id: number, event: number): void => {
          if (live.has(id)) ended(id, b.event(id, event));
          else expect(b.event(id, event)).toBe(0);
        };
        const opened = (id: number, kind: number, reliable: boolean): void => {
          for (const gone of b.reclaimed.splice(0)) live.delete(gone);
          if (id < 0) expect(live.size).toBe(CAPACITY);
          else live.set(id, { generation: table.generation(id), kind, reliable, key });
        };
        for (const o of ops) {
          b.turn();
          if ('open' in o) {
            key++;
            const method = o.open === INVITE_CLIENT || o.open === INVITE_SERVER ? INVITE : MESSAGE;
            const server = o.open >= INVITE_SERVER;
            opened(
              server ? b.server(method, o.reliable, key) : b.client(method, o.reliable),
              o.open,
              o.reliable,
            );
          } else if ('event' in o) feed(o.id, o.event);
          else if ('alarm' in o) table.setAlarm(o.id, b.now + o.alarm);
          else if ('pass' in o) b.pass(o.pass, 500);
          else if (live.get(o.cancel)?.kind === INVITE_CLIENT)
            opened(table.openCancel(o.cancel, b.now), CLIENT, live.get(o.cancel)!.reliable);

          expect(table.size).toBe(live.size);
          for (let kind = 0; kind < KINDS; kind++)
            expect(table.count(kind)).toBe([...live.values()].filter((t) => t.kind === kind).length);
          for (const [id, t] of live) {
            expect(table.isLive(id, t.generation)).toBe(true);
            if (t.kind >= INVITE_SERVER) expect(table.find(t.key, ~t.key)).toBe(id);
          }
        }
        // what every user does in the end: it answers an INVITE, and it cancels one that rings
        for (const [id, t] of live) {
          if (t.kind === INVITE_SERVER) feed(id, ON_TU_FAILURE);
          if (t.kind === INVITE_CLIENT) feed(id, ON_CANCELLED);
        }
        b.pass(64_000, 500);
        expect([table.size, live.size, table.nextDeadline()]).toEqual([0, 0, Infinity]);
        for (let k = 1; k <= key; k++) expect(table.find(k, ~k)).toBe(-1);
        for (let i = 0; i < CAPACITY; i++) expect(b.client(INVITE)).toBeGreaterThanOrEqual(0);
        expect(b.client(INVITE)).toBe(-1);
      }),
      { numRuns: 300 },
    );
  });

  it('never leaves a deadline behind that the next advance would miss', () => {
    const b = new Bench();
    const id = b.client(MESSAGE);
    for (const due of CAPPED_TIMES) {
      for (let next = b.table.nextDeadline(); next < START + due; next = b.table.nextDeadline())
        b.pass(next - b.now, 1e9);
      expect(b.table.nextDeadline()).toBe(START + due);
      b.pass(START + due - b.now, 1e9);
    }
    expect(b.times(RESEND)).toEqual(CAPPED_TIMES);
    expect(b.table.state(id)).toBe(TRYING);
  });
});
