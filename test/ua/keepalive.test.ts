/** When keep-alives are sent, what answers them, and when a flow has failed: RFC 5626 4.4, RFC 6223. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Endpoint } from '../../src/net/endpoint.ts';
import { BATTERY, type Bounds, boundsUpTo, DATAGRAM, KeepAlive, MAINS } from '../../src/ua/keepalive.ts';

let state = 7;
const random = () => {
  state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
  return state / 0x80000000;
};
const stream = (defaults: Bounds = MAINS) => new KeepAlive({ stun: false, random, defaults });
const datagram = () => new KeepAlive({ stun: true, random, defaults: DATAGRAM });
const at = (port: number) => new Endpoint().setV4(0x7f000001, port);

/** The gaps between keep-alives, each answered at once. */
function gaps(keepAlive: KeepAlive, from: number, count: number): number[] {
  const list: number[] = [];
  let last = from;
  while (list.length < count) {
    const now = keepAlive.nextDue();
    const action = keepAlive.advance(now, false);
    if (action === 'ping') keepAlive.pong();
    else if (action === 'stun') keepAlive.answered(at(5060), now);
    else continue;
    list.push((now - last) / 1000);
    last = now;
  }
  return list;
}

function spread(list: number[], least: number, most: number): void {
  expect(Math.min(...list)).toBeGreaterThanOrEqual(least);
  expect(Math.max(...list)).toBeLessThanOrEqual(most);
  const fifth = (most - least) / 5;
  expect(Math.min(...list)).toBeLessThan(least + fifth);
  expect(Math.max(...list)).toBeGreaterThan(most - fifth);
}

describe('on a stream', () => {
  it('pings come 95 to 120 s apart, each drawn anew [UA-4.4.1-09 UA-4.4.1-10]', () => {
    const keepAlive = stream();
    keepAlive.agree(0, { expect: true });
    const list = gaps(keepAlive, 0, 60);
    spread(list, 95, 120);
    expect(new Set(list).size).toBeGreaterThan(50);
  });

  it('on battery 672 to 840 s apart, and with an upper bound of the user from 80 percent of it on [UA-4.4.1-09 UA-4.4.1-10]', () => {
    const battery = stream(BATTERY);
    battery.agree(0, { expect: true });
    spread(gaps(battery, 0, 60), 672, 840);
    const own = stream(boundsUpTo(50));
    own.agree(0, { expect: true });
    spread(gaps(own, 0, 60), 40, 50);
  });

  it('Flow-Timer sets 80 to 100 percent of itself, and never more [UA-4.4-06 UA-4.4-07]', () => {
    const keepAlive = stream();
    keepAlive.agree(0, { expect: true, seconds: 100 });
    spread(gaps(keepAlive, 0, 80), 80, 100);
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100_000 }),
        fc.double({ min: 0, max: 0.9999999, noNaN: true }),
        (seconds, chance) => {
          const drawn = new KeepAlive({ stun: false, random: () => chance, defaults: MAINS });
          drawn.agree(0, { expect: true, seconds });
          expect(drawn.nextDue()).toBeGreaterThanOrEqual(800 * seconds);
          expect(drawn.nextDue()).toBeLessThan(1000 * seconds);
        },
      ),
    );
  });

  it('the latest 2xx decides: one without Flow-Timer brings the defaults back [UA-4.4-08]', () => {
    const keepAlive = stream();
    keepAlive.agree(0, { expect: true, seconds: 10 });
    let now = 0;
    for (const gap of gaps(keepAlive, 0, 5)) now += gap * 1000;
    keepAlive.agree(now, { expect: true });
    const [first, ...rest] = gaps(keepAlive, now, 40);
    expect(first).toBeLessThanOrEqual(10); // the interval that ran already
    spread(rest, 95, 120);
  });

  it('no pong within 10 s of the ping is the end, and not a moment before [UA-4.4.1-06 UA-3.5-01]', () => {
    const keepAlive = stream();
    keepAlive.agree(0, { expect: true, seconds: 60 });
    const pinged = keepAlive.nextDue();
    expect(keepAlive.advance(pinged, false)).toBe('ping');
    expect(keepAlive.nextDue()).toBe(pinged + 10_000);
    expect(keepAlive.advance(pinged + 9_999, false)).toBeUndefined();
    expect(keepAlive.advance(pinged + 10_000, false)).toBe('no-pong');
    expect(keepAlive.nextDue()).toBe(Infinity);
  });

  it('while a message comes in, that is decided behind it [UA-4.4.1-07]', () => {
    const pinged = (keepAlive: KeepAlive) => {
      keepAlive.agree(0, { expect: true, seconds: 60 });
      const now = keepAlive.nextDue();
      keepAlive.advance(now, false);
      expect(keepAlive.advance(now + 10_000, true)).toBeUndefined();
      return now + 10_000;
    };
    const late = stream();
    const end = pinged(late);
    expect(late.pong()).toBe(true);
    expect(late.advance(end + 1, false)).toBeUndefined();
    const silent = stream();
    expect(silent.advance(pinged(silent) + 1, false)).toBe('no-pong');
  });

  it('without a sign that the next hop answers, pings go out and no pong is waited for [UA-4.4-02]', () => {
    const keepAlive = stream();
    keepAlive.agree(0, { expect: false });
    expect(keepAlive.expects).toBe(false);
    for (let n = 0; n < 5; n++) {
      expect(keepAlive.advance(keepAlive.nextDue(), false)).toBe('ping');
      expect(keepAlive.pong()).toBe(false);
    }
  });

  it('short intervals do not put off the end: the first unanswered ping counts', () => {
    const keepAlive = stream();
    keepAlive.agree(0, { expect: true, seconds: 3 });
    const first = keepAlive.nextDue();
    let action = keepAlive.advance(first, false);
    while (action !== 'no-pong') {
      const now = keepAlive.nextDue();
      expect(now).toBeLessThanOrEqual(first + 10_000);
      action = keepAlive.advance(now, false);
    }
  });

  it('never is STUN [UA-4.4.2-02]', () => {
    const keepAlive = stream();
    keepAlive.agree(0, { expect: true });
    for (let n = 0; n < 20; n++) {
      expect(keepAlive.advance(keepAlive.nextDue(), false)).toBe('ping');
      keepAlive.pong();
    }
  });
});

describe('on datagrams', () => {
  it('STUN requests start 24 to 29 s apart [UA-4.4.2-04]', () => {
    const keepAlive = datagram();
    keepAlive.agree(0, { expect: true });
    spread(gaps(keepAlive, 0, 60), 24, 29);
  });

  it('none is sent without an explicit sign, and a refresh that takes it away ends them [UA-4.4-01 ST-8-07]', () => {
    const keepAlive = datagram();
    keepAlive.agree(0, { expect: false });
    expect(keepAlive.nextDue()).toBe(Infinity);
    keepAlive.agree(0, { expect: true });
    expect(keepAlive.nextDue()).toBeLessThan(29_000);
    keepAlive.agree(0, { expect: false });
    expect(keepAlive.nextDue()).toBe(Infinity);
  });

  it('no answer to seven requests is the end of the flow [UA-4.4.2-06]', () => {
    const keepAlive = datagram();
    keepAlive.agree(0, { expect: true });
    const start = keepAlive.nextDue();
    const seen: [number, string][] = [];
    for (let last = ''; last !== 'no-stun-answer'; ) {
      const now = keepAlive.nextDue();
      last = keepAlive.advance(now, false) ?? '';
      if (last) seen.push([now - start, last]);
    }
    expect(seen.map(([ms]) => ms)).toEqual([0, 500, 1500, 3500, 7500, 15500, 31500, 39500]);
    expect(seen.map(([, what]) => what)).toEqual(['stun', ...Array(6).fill('stun-again'), 'no-stun-answer']);
  });

  it('another mapped address, or an error, is the end of the flow [UA-4.4.2-05 UA-4.4.2-07 ST-8-12]', () => {
    const keepAlive = datagram();
    keepAlive.agree(0, { expect: true });
    const ask = () => keepAlive.advance(keepAlive.nextDue(), false);
    ask();
    expect(keepAlive.answered(at(4000), 1)).toBeUndefined();
    ask();
    expect(keepAlive.answered(at(4000), 2)).toBeUndefined();
    ask();
    expect(keepAlive.answered(at(4001), 3)).toBe('mapped-address-changed');
    const refused = datagram();
    refused.agree(0, { expect: true });
    refused.advance(refused.nextDue(), false);
    expect(refused.answered('error', 1)).toBe('stun-error');
  });

  it('never is CRLF [UA-4.4.1-02]', () => {
    const keepAlive = datagram();
    keepAlive.agree(0, { expect: true });
    for (let n = 0; n < 20; n++) {
      expect(keepAlive.advance(keepAlive.nextDue(), false)).toBe('stun');
      keepAlive.answered(at(1), keepAlive.nextDue());
    }
  });
});
