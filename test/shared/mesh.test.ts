import { describe, expect, it } from 'vitest';
import { Mesh } from '../../src/shared/mesh.ts';

describe('mesh', () => {
  it('joins every pair of participants, both ways, and nobody with itself', () => {
    const descriptor = Mesh.allocate(4, 256);
    const nodes = [0, 1, 2, 3].map((self) => new Mesh(descriptor, self));
    for (const from of nodes) {
      for (const to of nodes) {
        from.words[0] = from.self * 10 + to.self;
        expect(from.send(to.self, 1, 1)).toBe(from !== to);
      }
    }
    for (const to of nodes) {
      const got: number[] = [];
      expect(to.isQuiet()).toBe(false);
      expect(to.receive((from, _type, ring) => got.push(from, ring.word(0)), 100)).toBe(3);
      expect(to.isQuiet()).toBe(true);
      expect(got).toEqual(
        [0, 1, 2, 3].filter((from) => from !== to.self).flatMap((from) => [from, from * 10 + to.self]),
      );
    }
  });

  it('takes the senders in turn when the budget is short, so that none waits for a busy one', () => {
    const descriptor = Mesh.allocate(3, 1024);
    const [hub, busy, quiet] = [0, 1, 2].map((self) => new Mesh(descriptor, self));
    for (let i = 0; i < 9; i++) busy.send(0, i, 0);
    for (let i = 0; i < 2; i++) quiet.send(0, i, 0);
    const order: number[] = [];
    while (hub.receive((from) => order.push(from), 2) > 0);
    expect(order).toEqual([1, 2, 1, 2, 1, 1, 1, 1, 1, 1, 1]);
  });

  it('refuses and counts when the ring is full, and goes on when there is room again', () => {
    const descriptor = Mesh.allocate(2, 256);
    const [a, b] = [0, 1].map((self) => new Mesh(descriptor, self));
    const bytes = new Uint8Array(40);
    let sent = 0;
    while (a.send(1, 1, 0, bytes, 0, 40)) sent++;
    expect([sent, a.refused]).toEqual([5, 1]);
    b.receive(() => {}, 1);
    expect(a.send(1, 1, 0, bytes, 0, 40)).toBe(true);
  });

  it('wakes a participant once, and only if it sleeps', () => {
    const descriptor = Mesh.allocate(3, 256);
    const woken: number[] = [];
    const a = new Mesh(descriptor, 0, (participant) => woken.push(participant) > 0);
    const c = new Mesh(descriptor, 2, (participant) => woken.push(participant) > 0);
    const b = new Mesh(descriptor, 1);
    a.send(1, 1, 0);
    expect(woken).toEqual([]);
    b.receive(() => {}, 10);
    b.bell.prepareSleep();
    expect(b.isQuiet()).toBe(true);
    a.send(1, 1, 0);
    c.send(1, 1, 0);
    expect(woken).toEqual([1]);
    b.bell.awake();
    b.bell.prepareSleep();
    b.bell.awake();
    a.send(1, 1, 0);
    expect(woken).toEqual([1]);
  });

  it('does not block a consumer that was rung between its last look and its call', async () => {
    const descriptor = Mesh.allocate(2, 256);
    const [a, b] = [0, 1].map((self) => new Mesh(descriptor, self));
    b.bell.prepareSleep();
    a.send(1, 1, 0);
    expect(b.bell.wait(60_000)).toBe(true);
    b.bell.prepareSleep();
    a.send(1, 1, 0);
    expect(b.bell.waitAsync(60_000)).toBe(true);
    b.bell.prepareSleep();
    const waiting = b.bell.waitAsync(60_000);
    a.send(1, 1, 0);
    expect(await waiting).toBe(true);
    b.bell.prepareSleep();
    expect(b.bell.wait(0)).toBe(false);
    expect(a.send(1, 1, 0)).toBe(true);
  });
});
