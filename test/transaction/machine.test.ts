/** Every arrow of the four figures, written again as text: state, event, next state, actions. */
import { describe, expect, it } from 'vitest';
import * as machine from '../../src/transaction/machine.ts';
import {
  CLIENT,
  END,
  INVITE_CLIENT,
  INVITE_SERVER,
  KEEP,
  SERVER,
  STATE_MASK,
  step,
  TERMINATED,
} from '../../src/transaction/machine.ts';

const STATES = ['Terminated', 'Trying', 'Proceeding', 'Completed', 'Accepted', 'Confirmed'];

const EVENTS: Record<string, number[]> = {
  'request from TU': [machine.ON_START],
  '1xx': [machine.ON_PROVISIONAL],
  '2xx': [machine.ON_SUCCESS],
  '300-699': [machine.ON_FAILURE],
  '200-699': [machine.ON_SUCCESS, machine.ON_FAILURE],
  'CANCEL sent': [machine.ON_CANCELLED],
  request: [machine.ON_REQUEST],
  ACK: [machine.ON_ACK],
  '1xx from TU': [machine.ON_TU_PROVISIONAL],
  '2xx from TU': [machine.ON_TU_SUCCESS],
  '300-699 from TU': [machine.ON_TU_FAILURE],
  '200-699 from TU': [machine.ON_TU_SUCCESS, machine.ON_TU_FAILURE],
  'timer to send': [machine.ON_RETRANSMIT],
  timeout: [machine.ON_TIMEOUT],
  'linger end': [machine.ON_LINGER_END],
  '100 due': [machine.ON_HUNDRED],
  'transport error': [machine.ON_TRANSPORT_ERROR],
};
const ALL_EVENTS = Object.values(EVENTS)
  .filter((codes) => codes.length === 1)
  .flat();

const ACTIONS: Record<string, number> = {
  '-': 0,
  send: machine.SEND,
  keep: machine.KEEP,
  'send again': machine.RESEND,
  forget: machine.FORGET,
  'send ACK': machine.SEND_ACK,
  'to TU': machine.PASS,
  absorb: machine.ABSORB,
  'compose 100': machine.COMPOSE_100,
  'tell timeout': machine.TIMED_OUT,
  'tell failure': machine.FAILED,
  end: machine.END,
};

interface Arrow {
  from: number;
  events: number[];
  to: number;
  actions: number;
  text: string;
}

/** `state | event | next state | action, action` */
function arrows(figure: string): Arrow[] {
  return figure
    .trim()
    .split('\n')
    .map((line) => {
      const [from, event, to, actions] = line.split('|').map((cell) => cell.trim());
      const bits = actions
        .split(',')
        .map((name) => ACTIONS[name.trim()])
        .reduce((all, bit) => all | bit);
      const states = [from, to].map((name) => STATES.indexOf(name === 'Calling' ? 'Trying' : name));
      return {
        from: states[0],
        events: EVENTS[event],
        to: states[1],
        actions: bits,
        text: line.trim().replace(/\s*\|\s*/g, ' | '),
      };
    });
}

const FIGURES = [
  {
    kind: INVITE_CLIENT,
    name: 'an INVITE client (RFC 6026 figure 5)',
    ids: '3261-17-01 6026-7.2-01',
    unreliable: `
      Terminated | request from TU | Calling    | send, keep
      Calling    | timer to send   | Calling    | send again
      Calling    | timeout         | Terminated | tell timeout, end
      Calling    | transport error | Terminated | tell failure, end
      Calling    | 1xx             | Proceeding | to TU
      Calling    | 2xx             | Accepted   | to TU, forget
      Calling    | 300-699         | Completed  | send ACK, keep, to TU
      Proceeding | 1xx             | Proceeding | to TU
      Proceeding | 2xx             | Accepted   | to TU, forget
      Proceeding | 300-699         | Completed  | send ACK, keep, to TU
      Proceeding | transport error | Proceeding | tell failure
      Calling    | CANCEL sent     | Calling    | -
      Proceeding | CANCEL sent     | Proceeding | -
      Proceeding | timeout         | Terminated | tell timeout, end
      Completed  | 300-699         | Completed  | send again
      Completed  | 2xx             | Completed  | to TU
      Completed  | linger end      | Terminated | end
      Completed  | transport error | Terminated | tell failure, end
      Accepted   | 2xx             | Accepted   | to TU
      Accepted   | linger end      | Terminated | end`,
    reliable: `
      Terminated | request from TU | Calling    | send, keep
      Calling    | timer to send   | Calling    | absorb
      Calling    | 2xx             | Accepted   | to TU, forget
      Calling    | 300-699         | Terminated | send ACK, to TU, end
      Proceeding | 300-699         | Terminated | send ACK, to TU, end`,
  },
  {
    kind: CLIENT,
    name: 'a non-INVITE client (RFC 3261 figure 6)',
    ids: '3261-17-02',
    unreliable: `
      Terminated | request from TU | Trying     | send, keep
      Trying     | timer to send   | Trying     | send again
      Trying     | timeout         | Terminated | tell timeout, end
      Trying     | transport error | Terminated | tell failure, end
      Trying     | 1xx             | Proceeding | to TU
      Trying     | 200-699         | Completed  | to TU, forget
      Proceeding | timer to send   | Proceeding | send again
      Proceeding | timeout         | Terminated | tell timeout, end
      Proceeding | transport error | Terminated | tell failure, end
      Proceeding | 1xx             | Proceeding | to TU
      Proceeding | 200-699         | Completed  | to TU, forget
      Completed  | 200-699         | Completed  | absorb
      Completed  | 1xx             | Completed  | absorb
      Completed  | linger end      | Terminated | end`,
    reliable: `
      Terminated | request from TU | Trying     | send
      Trying     | timer to send   | Trying     | absorb
      Trying     | 200-699         | Terminated | to TU, end
      Proceeding | timer to send   | Proceeding | absorb
      Proceeding | 200-699         | Terminated | to TU, end`,
  },
  {
    kind: INVITE_SERVER,
    name: 'an INVITE server (RFC 6026 figure 7)',
    ids: '3261-17-03 6026-7.1-01',
    unreliable: `
      Terminated | request         | Proceeding | to TU
      Proceeding | 100 due         | Proceeding | compose 100
      Proceeding | request         | Proceeding | send again
      Proceeding | 1xx from TU     | Proceeding | send, keep
      Proceeding | transport error | Proceeding | tell failure
      Proceeding | 2xx from TU     | Accepted   | send, forget
      Proceeding | 300-699 from TU | Completed  | send, keep
      Completed  | request         | Completed  | send again
      Completed  | timer to send   | Completed  | send again
      Completed  | ACK             | Confirmed  | absorb, forget
      Completed  | timeout         | Terminated | tell timeout, end
      Completed  | transport error | Completed  | tell failure
      Completed  | 2xx from TU     | Completed  | send
      Completed  | 300-699 from TU | Completed  | absorb
      Completed  | 1xx from TU     | Completed  | absorb
      Accepted   | request         | Accepted   | absorb
      Accepted   | 2xx from TU     | Accepted   | send
      Accepted   | ACK             | Accepted   | to TU
      Accepted   | transport error | Accepted   | tell failure
      Accepted   | linger end      | Terminated | end
      Confirmed  | ACK             | Confirmed  | absorb
      Confirmed  | request         | Confirmed  | absorb
      Confirmed  | 2xx from TU     | Confirmed  | send
      Confirmed  | linger end      | Terminated | end`,
    reliable: `
      Proceeding | 300-699 from TU | Completed  | send, keep
      Completed  | timer to send   | Completed  | absorb
      Completed  | ACK             | Terminated | absorb, end`,
  },
  {
    kind: SERVER,
    name: 'a non-INVITE server (RFC 3261 figure 8, RFC 6026 8.8)',
    ids: '3261-17-04',
    unreliable: `
      Terminated | request         | Trying     | to TU
      Trying     | request         | Trying     | absorb
      Trying     | 100 due         | Trying     | compose 100
      Trying     | 1xx from TU     | Proceeding | send, keep
      Trying     | 200-699 from TU | Completed  | send, keep
      Trying     | transport error | Trying     | tell failure
      Trying     | timeout         | Terminated | tell timeout, end
      Proceeding | request         | Proceeding | send again
      Proceeding | 100 due         | Proceeding | absorb
      Proceeding | 1xx from TU     | Proceeding | send, keep
      Proceeding | 200-699 from TU | Completed  | send, keep
      Proceeding | transport error | Proceeding | tell failure
      Proceeding | timeout         | Terminated | tell timeout, end
      Completed  | request         | Completed  | send again
      Completed  | 200-699 from TU | Completed  | absorb
      Completed  | 1xx from TU     | Completed  | absorb
      Completed  | transport error | Completed  | tell failure
      Completed  | linger end      | Terminated | end`,
    reliable: `
      Trying     | 200-699 from TU | Terminated | send, end
      Proceeding | 200-699 from TU | Terminated | send, end`,
  },
];

for (const { kind, name, ids, unreliable, reliable } of FIGURES) {
  const overUdp = arrows(unreliable);
  const overTcp = arrows(reliable);
  const drawn = (list: Arrow[], state: number, event: number) =>
    list.some((a) => a.from === state && a.events.includes(event));

  describe(name, () => {
    for (const { from, events, to, actions, text } of overUdp)
      it(`takes over UDP: ${text} [${ids}]`, () => {
        for (const event of events) expect(step(kind, from, event, 0)).toBe(to | actions);
      });

    for (const { from, events, to, actions, text } of overTcp)
      it(`takes over TCP: ${text} [${ids}]`, () => {
        for (const event of events) expect(step(kind, from, event, 1)).toBe(to | actions);
      });

    it('takes every other step over TCP as over UDP', () => {
      const same = overUdp.flatMap((a) => a.events.map((event) => ({ ...a, event })));
      const rest = same.filter(({ from, event }) => !drawn(overTcp, from, event));
      for (const { from, event, to, actions } of rest) expect(step(kind, from, event, 1)).toBe(to | actions);
      expect(rest.length).toBeGreaterThan(5);
    });

    it('absorbs what has no arrow, and nothing brings an ended transaction back', () => {
      for (const reliable of [0, 1])
        for (let state = TERMINATED; state < STATES.length; state++)
          for (const event of ALL_EVENTS) {
            if (drawn(overUdp, state, event)) continue;
            const expected = state === TERMINATED ? 0 : state | machine.ABSORB;
            expect(step(kind, state, event, reliable)).toBe(expected);
          }
    });
  });
}

describe('all machines', () => {
  it('say END exactly when they reach Terminated, and never keep anything then', () => {
    for (let kind = 0; kind < machine.KINDS; kind++)
      for (let state = 1; state < STATES.length; state++)
        for (const event of ALL_EVENTS)
          for (const reliable of [0, 1]) {
            const result = step(kind, state, event, reliable);
            const ended = (result & STATE_MASK) === TERMINATED;
            expect((result & END) !== 0).toBe(ended);
            if (ended) expect(result & KEEP).toBe(0);
          }
  });

  it('class a status as provisional, success or failure', () => {
    expect([100, 199, 200, 299, 300, 408, 699].map(machine.onResponse)).toEqual([
      machine.ON_PROVISIONAL,
      machine.ON_PROVISIONAL,
      machine.ON_SUCCESS,
      machine.ON_SUCCESS,
      machine.ON_FAILURE,
      machine.ON_FAILURE,
      machine.ON_FAILURE,
    ]);
    expect([100, 183, 200, 486].map(machine.onAnswer)).toEqual([
      machine.ON_TU_PROVISIONAL,
      machine.ON_TU_PROVISIONAL,
      machine.ON_TU_SUCCESS,
      machine.ON_TU_FAILURE,
    ]);
  });
});
