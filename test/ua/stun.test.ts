/** A STUN Binding transaction of the client: its times, its estimate, and what it reads (RFC 5389, RFC 5626 8). */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Endpoint } from '../../src/net/endpoint.ts';
import { RoundTrip, StunTransaction } from '../../src/ua/stun.ts';
import { bindingRequest, readBinding, readBindingError } from '../../src/wire/binding.ts';
import { answerStun } from '../../src/wire/stun.ts';
import { parseStun } from '../harness/stun.ts';

/** The times at which it sends, and when it fails; `slack` late each time. */
function series(trip: RoundTrip, slack = 0): { sent: number[]; failed: number } {
  const transaction = new StunTransaction(trip, 0);
  const sent = [0];
  for (;;) {
    const now = transaction.dueAt + slack;
    if (transaction.advance(now - slack - 1) !== undefined) throw new Error('early');
    if (transaction.advance(now) === 'failed') return { sent, failed: now };
    sent.push(now);
  }
}

describe('a Binding transaction', () => {
  it('sends seven requests and fails 16 RTO after the last [UA-4.4.2-06 ST-5389-14 ST-8-11]', () => {
    expect(series(new RoundTrip())).toEqual({
      sent: [0, 500, 1500, 3500, 7500, 15500, 31500],
      failed: 39500,
    });
  });

  it('does not drift with a timer that is late', () => {
    const { sent, failed } = series(new RoundTrip(), 9);
    expect(sent.at(-1)).toBe(31509);
    expect(failed).toBe(39509);
  });

  it('starts from the RTO that was learned, for ten minutes [ST-5389-14]', () => {
    const trip = new RoundTrip();
    new StunTransaction(trip, 0).answered(267);
    expect(trip.rto(1_000)).toBe(801); // 267 and four times half of it, in whole milliseconds
    expect(series(trip).sent.slice(0, 3)).toEqual([0, 801, 2403]);
    expect(trip.rto(600_267)).toBe(801);
    expect(trip.rto(600_268)).toBe(500);
  });

  it('learns nothing from a request that was repeated (Karn) [ST-5389-14]', () => {
    const trip = new RoundTrip();
    const transaction = new StunTransaction(trip, 0);
    transaction.advance(500);
    transaction.answered(700);
    expect(trip.rto(701)).toBe(500);
  });

  it('never waits less than at first, nor more than a minute', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 1e6 }), { minLength: 1 }), (samples) => {
        const trip = new RoundTrip();
        for (const sample of samples) trip.sample(sample, 0);
        expect(trip.rto(0)).toBeGreaterThanOrEqual(500);
        expect(trip.rto(0)).toBeLessThanOrEqual(60_000);
      }),
    );
  });
});

describe('a Binding answer', () => {
  const id = Buffer.from('0102030405060708090a0b0c', 'hex');
  const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');

  it('answers a request without attributes, and tells the address that it came from [ST-8-03]', () => {
    expect(parseStun(bindingRequest(id))).toMatchObject({ type: 1, length: 0, id, attributes: [] });
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), fc.integer({ min: 1, max: 65535 }), (host, port) => {
        const from = Endpoint.parse(host, port);
        if (!from) return;
        const out = Buffer.alloc(128);
        const length = answerStun(bindingRequest(id), 0, 20, from, out, 0);
        const mapped = readBinding(out.subarray(0, length), id);
        expect(mapped instanceof Endpoint && mapped.equals(from)).toBe(true);
      }),
    );
  });

  it('of error, or without an address, is an error; with another id, cookie or length it is none [UA-4.4.2-05]', () => {
    expect(readBinding(hex('01110000 2112a442 0102030405060708090a0b0c'), id)).toBe('error');
    expect(readBinding(hex('01010000 2112a442 0102030405060708090a0b0c'), id)).toBe('error');
    expect(readBinding(hex('01010000 2112a442 0102030405060708090a0b0d'), id)).toBeUndefined();
    expect(readBinding(hex('01010000 2112a443 0102030405060708090a0b0c'), id)).toBeUndefined();
    expect(readBinding(hex('01010004 2112a442 0102030405060708090a0b0c'), id)).toBeUndefined();
    expect(readBinding(hex('00010000 2112a442 0102030405060708090a0b0c'), id)).toBeUndefined();
  });

  it('of error says which, and what was not understood', () => {
    const of420 = '0009 0004 00000414 000a 0004 7f01 7f02';
    expect(readBindingError(hex(`01110010 2112a442 0102030405060708090a0b0c ${of420}`), id)).toEqual({
      code: 420,
      unknown: [0x7f01, 0x7f02],
    });
    const odd = '0009 0007 00000400 626164 00 000a 0002 7f01 0000';
    expect(readBindingError(hex(`01110014 2112a442 0102030405060708090a0b0c ${odd}`), id)).toEqual({
      code: 400,
      unknown: [0x7f01],
    });
    // an attribute that says more than there is, and a success
    expect(readBindingError(hex('01110008 2112a442 0102030405060708090a0b0c 000a 0006 7f01 0000'), id)).toBe(
      undefined,
    );
    expect(readBindingError(hex('01010000 2112a442 0102030405060708090a0b0c'), id)).toBeUndefined();
  });

  it('never makes it throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (rest) => {
        const bytes = Buffer.concat([hex('01010000 2112a442'), id, rest]);
        bytes.writeUInt16BE(rest.length, 2);
        readBinding(bytes, id);
        bytes[1] = 0x11;
        readBindingError(bytes, id);
      }),
    );
  });
});
