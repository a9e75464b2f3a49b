import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Cause, causeWord, causeWords } from '../../src/flow/cause.ts';
import { deadlineCause, type FlowLife, flowDeadline, type LifeLimits } from '../../src/flow/deadline.ts';

const limits: LifeLimits = { grace: 20, idle: 3600, upgrade: 10, stage: 32 };
const fresh: FlowLife = {
  upgrading: false,
  exempt: false,
  flowTimer: 0,
  registeredUntil: 0,
  hasDialog: false,
  opened: 1000,
  lastByte: 1000,
};
const deadline = (life: Partial<FlowLife>, l = limits) => flowDeadline({ ...fresh, ...life }, l);
const cause = (life: Partial<FlowLife>) => deadlineCause({ ...fresh, ...life });

describe('a flow is dead', () => {
  it('after Flow-Timer and grace of silence, not at Flow-Timer [EP-5.4-08]', () => {
    const at = deadline({ flowTimer: 10, lastByte: 5000 });
    expect(at).toBeGreaterThan(5000 + 100);
    expect(at).toBe(5000 + 1 + 300);
    expect(cause({ flowTimer: 10 })).toBe(Cause.EXPIRED);
  });

  it('later than Flow-Timer even without grace, with a time that was rounded down [EP-5.4-08]', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 86_400 }),
        fc.double({ min: 0, max: 1e8, noNaN: true }),
        (timer, heard) => {
          const at = deadline({ flowTimer: timer, lastByte: Math.floor(heard) }, { ...limits, grace: 0 });
          expect(at).toBeGreaterThan(heard + timer * 10);
        },
      ),
    );
  });

  it('never while octets of any kind come within Flow-Timer [EP-5.4-09]', () => {
    let at = deadline({ flowTimer: 10, lastByte: 1000 });
    for (let heard = 1080; heard < 10_000; heard += 80) {
      expect(at).toBeGreaterThan(heard);
      at = deadline({ flowTimer: 10, lastByte: heard });
    }
  });

  it('by Flow-Timer although its registration runs longer, or ran out [EP-5.4-08]', () => {
    expect(deadline({ flowTimer: 120, registeredUntil: 90_000 })).toBe(1000 + 1 + 1400);
    expect(deadline({ flowTimer: 120, registeredUntil: 1 })).toBe(1000 + 1 + 1400);
    expect(deadline({ flowTimer: 120, hasDialog: true })).toBe(1000 + 1 + 1400);
  });

  it('after its registration and grace where it promised no keep-alive, however silent or loud it is', () => {
    expect(deadline({ registeredUntil: 37_000 })).toBe(37_200);
    expect(deadline({ registeredUntil: 37_000, lastByte: 37_199 })).toBe(37_200);
    expect(cause({ registeredUntil: 37_000 })).toBe(Cause.REGISTRATION_EXPIRED);
  });

  it('after the idle limit where it has a dialog but no registration', () => {
    expect(deadline({ hasDialog: true, lastByte: 2000 })).toBe(2000 + 1 + 36_000);
    expect(cause({ hasDialog: true })).toBe(Cause.IDLE);
  });

  it('not amid a call because the registration ran out', () => {
    expect(deadline({ registeredUntil: 3000, hasDialog: true, lastByte: 3100 })).toBe(3100 + 1 + 36_000);
    expect(deadline({ registeredUntil: 90_000, hasDialog: true, lastByte: 3100 })).toBe(90_200);
  });

  it('after its stage where it has proved nothing, whatever it sends', () => {
    expect(deadline({})).toBe(1000 + 320);
    expect(deadline({ lastByte: 1300 })).toBe(1000 + 320);
    expect(cause({})).toBe(Cause.STAGE_DEADLINE);
  });

  it('soon, and whoever it is, where it has not become the WebSocket that it was opened for', () => {
    expect(deadline({ upgrading: true, lastByte: 1090 })).toBe(1000 + 100);
    expect(deadline({ upgrading: true, exempt: true })).toBe(1000 + 100);
    expect(cause({ upgrading: true, exempt: true })).toBe(Cause.STAGE_DEADLINE);
  });

  it('never by a deadline if it leads to the upstream or a trusted peer', () => {
    expect(deadline({ exempt: true, flowTimer: 10, registeredUntil: 5, hasDialog: true })).toBe(Infinity);
    expect(cause({ exempt: true, flowTimer: 10 })).toBe(Cause.NONE);
  });
});

describe('the close causes', () => {
  it('are numbered without a gap, since the record and an upgraded process read them by number', () => {
    expect(Object.values(Cause)).toEqual(Object.values(Cause).map((_, i) => i));
    expect(causeWords).toHaveLength(Object.keys(Cause).length);
  });

  it('keep the numbers and words they were published with', () => {
    expect(causeWords).toEqual([
      'none',
      'peer-closed',
      'reset',
      'expired',
      'registration-expired',
      'stage-deadline',
      'idle',
      'icmp',
      'timeout',
      'write-queue',
      'too-large',
      'malformed',
      'shard-lost',
      'table-full',
      'shutdown',
      'replaced',
      'upstream-lost',
      'suspect',
      'budget',
      'tls',
      'websocket',
      'io',
      'admin',
      'handed-over',
      'connect-failed',
      'no-pong',
      'stun-failed',
      'mapped-address-changed',
    ]);
  });

  it('have a word for a number of a newer process', () => {
    expect(causeWord(Cause.SHARD_LOST)).toBe('shard-lost');
    expect(causeWord(200)).toBe('cause-200');
  });
});
