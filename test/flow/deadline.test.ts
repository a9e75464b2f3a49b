import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Cause, causeWord, causeWords } from '../../src/flow/cause.ts';
import {
  ACCEPTED,
  deadlineCause,
  FIRST_MESSAGE,
  type FlowLife,
  flowDeadline,
  type LifeLimits,
  MESSAGE,
  NO_STAGE,
  PROOF_S,
  STAGES,
} from '../../src/flow/deadline.ts';

const limits: LifeLimits = { grace: 20, idle: 3600 };
const fresh: FlowLife = {
  upgrading: false,
  exempt: false,
  flowTimer: 0,
  registeredUntil: 0,
  hasDialog: false,
  opened: 1000,
  lastByte: 1000,
  stage: NO_STAGE,
  since: 0,
};
const deadline = (life: Partial<FlowLife>, l = limits) => flowDeadline({ ...fresh, ...life }, l);
const cause = (life: Partial<FlowLife>) => deadlineCause({ ...fresh, ...life }, limits);

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
    expect(deadline({})).toBe(1000 + PROOF_S * 10);
    expect(deadline({ lastByte: 1300 })).toBe(1000 + PROOF_S * 10);
    expect(cause({})).toBe(Cause.STAGE_DEADLINE);
  });

  it('soon, and whoever it is, where it has not become the WebSocket that it was opened for', () => {
    expect(deadline({ upgrading: true, lastByte: 1090 })).toBe(1000 + 100);
    expect(deadline({ upgrading: true, exempt: true })).toBe(1000 + 100);
    expect(cause({ upgrading: true, exempt: true })).toBe(Cause.NO_MESSAGE);
  });

  it('never by a deadline if it leads to the upstream or a trusted peer', () => {
    expect(deadline({ exempt: true, flowTimer: 10, registeredUntil: 5, hasDialog: true })).toBe(Infinity);
    expect(cause({ exempt: true, flowTimer: 10 })).toBe(Cause.NONE);
  });
});

describe('a stream is in a stage', () => {
  it.each([
    [ACCEPTED, Cause.NO_OCTET],
    [FIRST_MESSAGE, Cause.NO_MESSAGE],
    [MESSAGE, Cause.UNFINISHED],
  ])('and ends with it (stage %i), though octets come', (stage, word) => {
    const { seconds } = STAGES[stage];
    for (const lastByte of [1000, 1000 + seconds * 10 - 1]) {
      expect(deadline({ stage, since: 1000, lastByte })).toBe(1000 + seconds * 10);
      expect(cause({ stage, since: 1000, lastByte })).toBe(word);
    }
  });

  it('that is shorter than what it has to prove something', () => {
    for (const { seconds } of STAGES.slice(1)) expect(seconds).toBeLessThan(PROOF_S);
  });

  it('and may end before it by what else is known', () => {
    const life = { stage: MESSAGE, since: 1500, flowTimer: 10, lastByte: 1000 };
    expect(deadline(life)).toBe(1000 + 1 + 300);
    expect(cause(life)).toBe(Cause.EXPIRED);
    expect(deadline({ stage: FIRST_MESSAGE, since: 1900 })).toBe(1000 + PROOF_S * 10);
    expect(cause({ stage: FIRST_MESSAGE, since: 1900 })).toBe(Cause.STAGE_DEADLINE);
  });

  it('and a registered one ends with it all the same', () => {
    const life = { stage: MESSAGE, since: 5000, flowTimer: 120, lastByte: 5500, registeredUntil: 90_000 };
    expect(deadline(life)).toBe(5000 + STAGES[MESSAGE].seconds * 10);
    expect(cause(life)).toBe(Cause.UNFINISHED);
  });

  it('but if it is believed it has no deadline', () => {
    expect(deadline({ exempt: true, stage: MESSAGE, since: 1 })).toBe(Infinity);
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
      'proxy-untrusted',
      'proxy-malformed',
      'no-octet',
      'no-message',
      'unfinished',
    ]);
  });

  it('have a word for a number of a newer process', () => {
    expect(causeWord(Cause.SHARD_LOST)).toBe('shard-lost');
    expect(causeWord(200)).toBe('cause-200');
  });
});
