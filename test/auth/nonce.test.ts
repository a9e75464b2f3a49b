import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  NONCE_FORGED,
  NONCE_LENGTH,
  NONCE_OK,
  NONCE_REPLAYED,
  NONCE_STALE,
  Nonces,
} from '../../src/auth/nonce.ts';
import { Keyring } from '../../src/flow/keyring.ts';
import { NonceTable } from '../../src/shared/nonce-table.ts';

const keyring = new Keyring({ current: { id: 7, octets: new Uint8Array(32).fill(5) } });
const DORA = 'sip:dora@example.net';
const EVE = 'sip:eve@example.net';
const T = 1_000;

function noncesOf(changes: Partial<ConstructorParameters<typeof Nonces>[0]> = {}): Nonces {
  const table = new NonceTable(NonceTable.allocate(4));
  return new Nonces({ keyring, table, node: 1, incarnation: 1_800_000_000, ...changes });
}

describe('a nonce', () => {
  it('is 36 characters that need no escape, and no two are alike', () => {
    const nonces = noncesOf();
    const made = Array.from({ length: 100 }, () => nonces.issue(DORA, T));
    for (const nonce of made) expect(nonce).toMatch(/^[A-Za-z0-9_-]{36}$/);
    expect(new Set(made).size).toBe(100);
    expect(made[0]).toHaveLength(NONCE_LENGTH);
  });

  it('is good for its life and no longer [7616-x-01]', () => {
    const nonces = noncesOf({ life: 30 });
    const nonce = nonces.issue(DORA, T);
    expect([T, T + 300].map((ds) => nonces.check(nonce, DORA, ds))).toEqual([NONCE_OK, NONCE_OK]);
    expect(nonces.check(nonce, DORA, T + 301)).toBe(NONCE_STALE);
    // another shard's clock may be a little behind, not a lot
    expect([T - 50, T - 51].map((ds) => nonces.check(nonce, DORA, ds))).toEqual([NONCE_OK, NONCE_STALE]);
  });

  it('is good on each shard, and its counts are one [7616-x-01]', () => {
    const descriptor = NonceTable.allocate(4);
    const [here, there] = [
      noncesOf({ table: new NonceTable(descriptor) }),
      noncesOf({ table: new NonceTable(descriptor) }),
    ];
    const nonce = here.issue(DORA, T);
    expect(there.check(nonce, DORA, T)).toBe(NONCE_OK);
    expect(there.spend(there.serial, 1)).toBe(NONCE_OK);
    expect(here.check(nonce, DORA, T)).toBe(NONCE_OK);
    expect([here.spend(here.serial, 1), here.spend(here.serial, 2)]).toEqual([NONCE_REPLAYED, NONCE_OK]);
  });

  it('is stale when its slot went to another, or its counts are too far behind [7616-x-01]', () => {
    const nonces = noncesOf();
    nonces.check(nonces.issue(DORA, T), DORA, T);
    const first = nonces.serial;
    expect([nonces.spend(first, 1), nonces.spend(first, 200), nonces.spend(first, 130)]).toEqual([
      NONCE_OK,
      NONCE_OK,
      NONCE_STALE,
    ]);
    for (let i = 0; i < 4; i++) nonces.check(nonces.issue(EVE, T), EVE, T);
    expect(nonces.spend(nonces.serial, 1)).toBe(NONCE_OK);
    expect(nonces.spend(first, 1)).toBe(NONCE_STALE);
  });

  it('is stale at another node, in another life of the process, and for another identity', () => {
    const nonce = noncesOf().issue(DORA, T);
    expect(noncesOf({ node: 2 }).check(nonce, DORA, T)).toBe(NONCE_STALE);
    expect(noncesOf({ incarnation: 1_800_000_001 }).check(nonce, DORA, T)).toBe(NONCE_STALE);
    expect(noncesOf().check(nonce, EVE, T)).toBe(NONCE_STALE);
    expect(noncesOf().check(nonce, DORA, T)).toBe(NONCE_OK);
  });

  it('is good when the keys have changed once, not when they have changed twice', () => {
    const nonce = noncesOf().issue(DORA, T);
    const once = keyring.rotate();
    expect(noncesOf({ keyring: once }).check(nonce, DORA, T)).toBe(NONCE_OK);
    expect(noncesOf({ keyring: once }).check(nonce, EVE, T)).toBe(NONCE_STALE);
    expect(noncesOf({ keyring: once.rotate() }).check(nonce, DORA, T)).toBe(NONCE_FORGED);
  });

  it('is forged with any character changed, and with other keys under the same id', () => {
    const nonces = noncesOf();
    const nonce = nonces.issue(DORA, T);
    for (let i = 0; i < nonce.length; i++) {
      const other = nonce.slice(0, i) + (nonce[i] === 'A' ? 'B' : 'A') + nonce.slice(i + 1);
      expect(nonces.check(other, DORA, T), `character ${i}`).toBe(NONCE_FORGED);
    }
    const others = new Keyring({ current: { id: 7, octets: new Uint8Array(32).fill(6) } });
    expect(noncesOf({ keyring: others }).check(nonce, DORA, T)).toBe(NONCE_FORGED);
  });

  it('may be any text at all', () => {
    const nonces = noncesOf();
    const nonce = nonces.issue(DORA, T);
    expect(
      ['', nonce.slice(1), `${nonce}A`, `${nonce.slice(1)}=`].map((text) => nonces.check(text, DORA, T)),
    ).toEqual(Array(4).fill(NONCE_FORGED));
    fc.assert(
      fc.property(fc.string({ minLength: 36, maxLength: 36 }), (text) => {
        expect(nonces.check(text, DORA, T)).toBe(NONCE_FORGED);
      }),
    );
  });
});
