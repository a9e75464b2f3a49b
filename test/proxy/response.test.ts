/** The way back: RFC 3261 16.7 and 16.11, Flow-Timer of RFC 5626 5.4, and what a 2xx does to the flows. */
import { describe, expect, it } from 'vitest';
import { DIALOG, REGISTERED } from '../../src/shared/flow-record.ts';
import { OPEN, PROVISIONAL } from '../../src/shared/flow-table.ts';
import { answer, CLIENT, CORE, endpoint, headers, Rig, request, type Sent, startLine } from './rig.ts';

const CORE_SAYS = { from: CORE, fromUpstream: true };
const VIA = 'SIP/2.0/UDP 203.0.113.7:4711;branch=z9hG4bKclient1';
const OUTBOUND = ['Require: outbound'];
const register = (parts: Parameters<typeof request>[0] = {}) =>
  request({
    method: 'REGISTER',
    uri: 'sip:example.com',
    to: '<sip:alice@example.com>',
    contact: '<sip:alice@203.0.113.7:4711>;reg-id=1',
    ...parts,
  });
const slotOf = (rig: Rig, remote = CLIENT) => rig.flows.find(0, endpoint(remote), endpoint('192.0.2.1:5060'));
const ownVia = (sent: Sent) => headers(sent, 'Via')[0];

describe('a response to a forwarded request', () => {
  it('goes to where the request came from, without our Via and else unchanged [3261-16.7-05]', () => {
    const rig = new Rig();
    const got = rig.one(request({ method: 'MESSAGE' }));
    const text = answer(got, 404, { lines: ['X:  a ', 'Subject:\r\n b'], body: 'why\r\n' });
    const sent = rig.one(text, CORE_SAYS);
    expect(sent).toMatchObject({ way: 'datagram', to: CLIENT });
    expect(sent.text).toBe(text.replace(`Via: ${ownVia(got)}\r\n`, ''));
    expect(rig.count('forwardedResponses')).toBe(1);
  });

  it('finds our Via also in a comma list, and leaves the rest of the list [3261-16.7-05]', () => {
    const rig = new Rig();
    const got = rig.one(request({ method: 'MESSAGE' }));
    const own = ownVia(got);
    for (const [joined, left] of [
      [`Via: ${own}, ${VIA}`, `Via: ${VIA}`],
      [`v:${own} ,\r\n ${VIA},SIP/2.0/TCP x`, `v:${VIA},SIP/2.0/TCP x`],
      [`Via : ${own};received=192.0.2.1;rport=5060,${VIA}`, `Via : ${VIA}`],
    ]) {
      const text = answer(got, 200).replace(`Via: ${own}\r\nVia: ${VIA}\r\n`, `${joined}\r\n`);
      const sent = rig.one(text, CORE_SAYS);
      expect(sent.text).toBe(text.replace(joined, left));
      expect(sent.to).toBe(CLIENT);
    }
  });

  it('goes by rport, by the port in Via or by maddr, as an answer of ours would', () => {
    for (const [via, to] of [
      ['SIP/2.0/UDP 10.0.0.1:5099;rport;branch=z9hG4bK1', '203.0.113.7:4711'],
      ['SIP/2.0/UDP 10.0.0.1:5099;branch=z9hG4bK1', '203.0.113.7:5099'],
      ['SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1', '203.0.113.7:5060'],
      ['SIP/2.0/UDP 10.0.0.1:5099;maddr=203.0.113.99;branch=z9hG4bK1', '203.0.113.99:5099'],
    ]) {
      const rig = new Rig();
      expect(rig.one(answer(rig.one(request({ method: 'MESSAGE', via }))), CORE_SAYS)).toMatchObject({
        way: 'datagram',
        to,
      });
      // the same with a flow record for the client's address
      const flow = new Rig();
      flow.take(register());
      expect(flow.one(answer(flow.one(request({ method: 'MESSAGE', via }))), CORE_SAYS).to).toBe(
        to === CLIENT ? flow.name(slotOf(flow)) : to,
      );
    }
    const six = new Rig();
    const got = six.one(
      request({ method: 'MESSAGE', via: 'SIP/2.0/UDP [2001:db8::7];rport;branch=z9hG4bK1' }),
      { from: '[2001:db8::7]:777' },
    );
    expect(six.one(answer(got), CORE_SAYS)).toMatchObject({
      way: 'datagram',
      to: '[2001:db8::7]:777',
      listener: 2,
    });
  });

  it('to a stream gets Content-Length where it has none, and goes down that stream only', () => {
    const rig = new Rig();
    const stream = rig.stream();
    const got = rig.one(request({ method: 'MESSAGE', via: 'SIP/2.0/TCP 10.0.0.1;branch=z9hG4bK1' }), {
      stream,
    });
    const sent = rig.one(answer(got, 200, { body: 'abc' }).replace('Content-Length: 3\r\n', ''), CORE_SAYS);
    expect(sent).toMatchObject({ way: 'flow', to: rig.name(stream) });
    expect(headers(sent, 'Content-Length')).toEqual(['3']);
  });

  it('from a client, over its flow, goes back to the core', () => {
    const rig = new Rig();
    const stream = rig.stream();
    const got = rig.one(
      request({
        method: 'MESSAGE',
        via: 'SIP/2.0/UDP 198.51.100.9:5070;branch=z9hG4bKcore',
        lines: [`Route: <sip:${rig.token(stream)}@edge.example.com:5060;lr>`],
      }),
      CORE_SAYS,
    );
    expect(got).toMatchObject({ way: 'flow', to: rig.name(stream) });
    expect(rig.one(answer(got), { stream })).toMatchObject({ way: 'datagram', to: CORE });
  });
});

describe('a response that we never asked for is dropped and counted', () => {
  const got = () => {
    const rig = new Rig();
    const stream = rig.stream();
    return {
      rig,
      stream,
      sent: rig.one(request({ method: 'MESSAGE', via: 'SIP/2.0/TCP 10.0.0.1;branch=z9hG4bK1' }), { stream }),
    };
  };
  const counts = (rig: Rig) => [rig.count('badBranch'), rig.count('strayResponses'), rig.count('malformed')];

  it('with a branch of somebody else, a changed one, or none', () => {
    const { rig, sent } = got();
    const text = answer(sent);
    const branch = /branch=(z9hG4bK[^\r\n]+)/.exec(ownVia(sent))![1];
    const forged = [
      text.replace(branch, 'z9hG4bKother'),
      text.replace(branch, `${branch.slice(0, 20)}${branch[20] === 'A' ? 'B' : 'A'}${branch.slice(21)}`),
      text.replace(branch, branch.replace('z9hG4bK', 'z9hG4bk')),
      text.replace(`;branch=${branch}`, ''),
      text.replace(`Via: ${ownVia(sent)}\r\n`, ''), // ours is not on top
    ];
    for (const f of forged) expect(rig.take(f, CORE_SAYS)).toEqual([]);
    expect(counts(rig)).toEqual([5, 0, 0]);
  });

  it('of an earlier life of this process', () => {
    const { sent } = got();
    const next = new Rig({ incarnation: 1001 });
    next.stream();
    expect(next.take(answer(sent), CORE_SAYS)).toEqual([]);
    expect(counts(next)).toEqual([1, 0, 0]);
  });

  it('without a Via below ours', () => {
    const { rig, sent } = got();
    const [own, below] = headers(sent, 'Via');
    expect(rig.take(answer(sent).replace(`Via: ${below}\r\n`, ''), CORE_SAYS)).toEqual([]);
    expect(own).not.toBe(below);
    expect(counts(rig)).toEqual([0, 1, 0]);
  });

  it('to a flow that has ended, also where another has its record now', () => {
    const { rig, stream, sent } = got();
    rig.flows.end(stream, rig.table.generation(stream), 1);
    expect(rig.take(answer(sent), CORE_SAYS)).toEqual([]);
    for (let i = 0; i < 64; i++) rig.stream(`203.0.113.9:${i + 1}`);
    expect(rig.take(answer(sent), CORE_SAYS)).toEqual([]);
    expect(counts(rig)).toEqual([0, 2, 0]);
  });

  it('that is malformed', () => {
    const { rig, sent } = got();
    expect(rig.take(answer(sent).replace(/CSeq: [^\r]*\r\n/, ''), CORE_SAYS)).toEqual([]);
    expect(rig.take(answer(sent).replace('SIP/2.0 200', 'SIP/2.0 2000'), CORE_SAYS)).toEqual([]);
    expect(rig.take(answer(sent).replace(ownVia(sent), 'SIP/2.0/UDP'), CORE_SAYS)).toEqual([]);
    expect(counts(rig)).toEqual([0, 0, 3]);
  });
});

describe('Flow-Timer in a 2xx to a REGISTER', () => {
  const timers = (lines: string[], parts: Parameters<typeof request>[0] = {}, code = 200) => {
    const rig = new Rig({ pathInner: true });
    const got = rig.one(register(parts));
    const sent = rig.one(answer(got, code, { lines }), CORE_SAYS);
    const slot = slotOf(rig);
    return {
      rig,
      sent,
      slot,
      values: headers(sent, 'Flow-Timer'),
      granted: slot < 0 ? 0 : rig.table.flowTimer(slot),
    };
  };

  it('is added where the registrar did outbound [EP-5.4-06]', () => {
    const { values, granted } = timers(OUTBOUND);
    expect([values, granted]).toEqual([['120'], 120]);
    expect(timers(['Require: gruu', 'Require: path , Outbound']).values).toEqual(['120']);
  });

  it('is not added where it did not, or refused [EP-5.4-06]', () => {
    expect(timers([]).values).toEqual([]);
    expect(timers(['Supported: outbound']).values).toEqual([]);
    expect(timers(OUTBOUND, {}, 403).values).toEqual([]);
    expect(timers(OUTBOUND, {}, 100).values).toEqual([]);
  });

  it('of somebody further inside is replaced, or removed, and never there twice [EP-5.4-10]', () => {
    expect(timers([...OUTBOUND, 'Flow-Timer: 999', 'X: y', 'flow-timer : 7']).values).toEqual(['120']);
    expect(timers(['Flow-Timer: 999']).values).toEqual([]);
  });

  it('is left to the element that is next to the client [EP-5.4-10]', () => {
    for (const via of [`${VIA}, SIP/2.0/UDP b`, `${VIA}\r\nVia: SIP/2.0/UDP b`]) {
      const { values, granted } = timers([...OUTBOUND, 'Flow-Timer: 999'], { via });
      expect([values, granted]).toEqual([['999'], 0]);
    }
  });

  it('is added also where our Via and the client’s stand in one line', () => {
    const rig = new Rig();
    const got = rig.one(register());
    const own = ownVia(got);
    const text = answer(got, 200, { lines: OUTBOUND }).replace(
      `Via: ${own}\r\nVia: ${VIA}`,
      `Via: ${own},${VIA}`,
    );
    const sent = rig.one(text, CORE_SAYS);
    expect([headers(sent, 'Flow-Timer'), headers(sent, 'Via')]).toEqual([['120'], [VIA]]);
    const inner = new Rig({ pathInner: true });
    const two = inner.one(register({ via: `${VIA}, SIP/2.0/UDP b` }));
    const joined = answer(two, 200, { lines: OUTBOUND }).replace(`\r\nVia: ${VIA}`, `,${VIA}`);
    expect(headers(inner.one(joined, CORE_SAYS), 'Flow-Timer')).toEqual([]);
  });
});

describe('what a 2xx does to the flows', () => {
  const confirmed = (lines: string[]) => {
    const rig = new Rig().at(10);
    const got = rig.one(register());
    const slot = slotOf(rig);
    expect(rig.table.state(slot)).toBe(PROVISIONAL);
    rig.take(answer(got, 200, { lines }), CORE_SAYS);
    expect([rig.table.state(slot), rig.table.has(slot, REGISTERED)]).toEqual([OPEN, true]);
    return rig.table.registrationExpiry(slot) - 100;
  };

  it('to a REGISTER confirms the flow for the largest expiry in it', () => {
    expect(
      confirmed([
        'Contact: <sip:a>;expires=60, "x, y" <sip:b>;q=1; expires = 300 ;z',
        'm: <sip:c>;expires=30',
      ]),
    ).toBe(3000);
    expect(confirmed(['Expires: 500', 'Contact: <sip:a>', 'Contact: <sip:b>;expires=100'])).toBe(5000);
    expect(confirmed(['Contact: <sip:a>'])).toBe(36_000);
    expect(confirmed(['Contact: <sip:a>;expires=99999999'])).toBe(6_048_000);
    expect(confirmed(['Contact: <sip:a>;expires=99999999999'])).toBe(6_048_000);
    expect(confirmed(['Expires: 99999999999999999999', 'Contact: <sip:a>'])).toBe(6_048_000);
    expect(confirmed(['Expires: soon', 'Contact: <sip:a>;expires=x'])).toBe(36_000);
    expect(confirmed(['Contact: <sip:a;expires=9>;x=";expires=8"'])).toBe(36_000);
    expect(confirmed([])).toBe(0);
  });

  it('to a REGISTER is told once, with what it was', () => {
    const rig = new Rig();
    const seen: unknown[] = [];
    rig.responses.registrationSeen = (slot, expires, outbound) => seen.push([slot, expires, outbound]);
    const got = rig.one(register());
    const text = answer(got, 200, { lines: [...OUTBOUND, 'Contact: <sip:a>;expires=60'] });
    rig.take(text, CORE_SAYS);
    rig.take(text, CORE_SAYS);
    expect(seen).toEqual([[slotOf(rig), 60, true]]);
    expect(rig.count('flowsConfirmed')).toBe(1);
  });

  it('or a provisional response to a dialog-forming request keeps the flows of both ends', () => {
    const rig = new Rig();
    const callee = rig.stream('203.0.113.20:1');
    const caller = rig.stream('203.0.113.21:1');
    const got = rig.one(
      request({
        via: 'SIP/2.0/TCP 10.0.0.1;branch=z9hG4bK1',
        lines: [`Route: <sip:${rig.token(callee)}@edge.example.com:5060;lr>`],
      }),
      { stream: caller },
    );
    rig.table.lower(caller, DIALOG); // the token it came with has raised it already
    rig.take(answer(got, 100), { stream: callee });
    expect([caller, callee].map((s) => rig.table.has(s, DIALOG))).toEqual([false, false]);
    rig.take(answer(got, 180), { stream: callee }); // it may ring for longer than a flow is provisional
    expect([caller, callee].map((s) => rig.table.has(s, DIALOG))).toEqual([true, true]);
  });

  it('to any other request does nothing to them, and neither does a failure', () => {
    for (const [method, code] of [
      ['MESSAGE', 200],
      ['REGISTER', 180],
      ['REGISTER', 403],
      ['INVITE', 486],
    ] as const) {
      const rig = new Rig();
      rig.take(register());
      const got = rig.one(request({ method }));
      rig.take(answer(got, code), CORE_SAYS);
      expect(rig.table.state(slotOf(rig))).toBe(PROVISIONAL);
    }
  });
});

describe('a request that could not be delivered', () => {
  /** Gives the rewritten bytes back, as a ring or a failed connection does. */
  function giveBack(rig: Rig, { text }: Sent): Sent[] {
    const before = rig.sent.length;
    const at = rig.arena.slabs.lease(text.length + 1);
    rig.arena.mem.set(Buffer.from(text, 'latin1'), at);
    rig.responses.undelivered(at, at + text.length, 430, 'Flow Failed');
    rig.arena.slabs.giveBack(at);
    return rig.sent.slice(before);
  }

  it('is answered to the one who sent it, from the rewritten bytes', () => {
    const rig = new Rig();
    const stream = rig.stream();
    const got = rig.one(
      request({
        via: 'SIP/2.0/UDP 198.51.100.9:5070;branch=z9hG4bKcore\r\nVia: SIP/2.0/UDP below',
        lines: [`Route: <sip:${rig.token(stream)}@edge.example.com:5060;lr>`],
      }),
      CORE_SAYS,
    );
    const [sent, ...more] = giveBack(rig, got);
    expect(more).toEqual([]);
    expect(startLine(sent)).toBe('SIP/2.0 430 Flow Failed');
    expect(sent).toMatchObject({ way: 'datagram', to: CORE });
    expect(headers(sent, 'Via')).toEqual([
      'SIP/2.0/UDP 198.51.100.9:5070;branch=z9hG4bKcore',
      'SIP/2.0/UDP below',
    ]);
    expect(headers(sent, 'To')[0]).toMatch(/;tag=./);
    for (const name of ['From', 'Call-ID', 'CSeq']) expect(headers(sent, name)).toEqual(headers(got, name));
    expect(headers(sent, 'Content-Length')).toEqual(['0']);
  });

  it('gets no answer when it is an ACK, a response, or not ours', () => {
    const rig = new Rig();
    expect(giveBack(rig, rig.one(request({ method: 'ACK' })))).toEqual([]);
    const got = rig.one(request({ method: 'MESSAGE' }));
    expect(giveBack(rig, rig.one(answer(got), CORE_SAYS))).toEqual([]);
    expect(giveBack(rig, { ...got, text: got.text.replace(/z9hG4bK(.)/, 'z9hG4bK$1x') })).toEqual([]);
    expect(giveBack(rig, { ...got, text: got.text.slice(0, 50) })).toEqual([]);
  });

  it('gets none when the one who sent it is gone', () => {
    const rig = new Rig();
    const stream = rig.stream();
    const got = rig.one(request({ method: 'MESSAGE', via: 'SIP/2.0/TCP 10.0.0.1;branch=z9hG4bK1' }), {
      stream,
    });
    rig.flows.end(stream, rig.table.generation(stream), 1);
    expect(giveBack(rig, got)).toEqual([]);
  });
});
