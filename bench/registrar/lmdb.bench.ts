/** Bindings in LMDB, durability `process`: a commit reaches the page cache. In the system's temporary folder. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LmdbBackend } from '../../src/registrar/lmdb.ts';
import type { Suite } from '../suite.ts';
import { locationCases } from './location.ts';

export default function prepare(): Suite {
  const stores = [1000, 100_000].map((count) => {
    const dir = mkdtempSync(join(tmpdir(), 'holdfast-bench-'));
    const backend = new LmdbBackend({ dir, durability: 'process', mapSize: 2 ** 30 });
    return { dir, backend, cases: locationCases(backend, count) };
  });
  return {
    cases: stores.flatMap(({ cases }) => cases),
    async close() {
      for (const { dir, backend } of stores) {
        await backend.close();
        rmSync(dir, { recursive: true, force: true });
      }
    },
  };
}
