import { describe, expect, it } from 'vitest';
import { Parking } from '../../src/proxy/parked.ts';
import { Rig, request } from './rig.ts';

describe('a parked request', () => {
  it('comes back octet for octet, as often as it is asked for', () => {
    const rig = new Rig();
    const parking = new Parking(rig.exchange, rig.counters);
    const everyOctet = Buffer.from(Array.from({ length: 256 }, (_, i) => i)).toString('latin1');
    const whole = request({ method: 'MESSAGE', body: everyOctet });
    rig.take(whole);
    const parked = parking.park();
    rig.take(request({ callId: 'another' }));
    for (let i = 0; i < 2; i++) {
      const seen: string[] = [];
      parking.resume(parked, () => {
        const { message: m } = rig.exchange;
        seen.push(Buffer.from(m.buf.subarray(m.start, m.end)).toString('latin1'));
      });
      expect(seen).toEqual([whole]);
    }
    expect(rig.arena.slabs.inUse).toBe(0);
  });
});
